//! The threads that take connections from the kernel's line, in which all callers stand together.
//!
//! They do little with each, and have their share of the CPU whatever the runtime is busy with: so the line stays short, and
//! who comes after a crowd does not wait until the crowd was served. They are several, so that each uses less than the kernel
//! would give it: such a thread is run at once when it is woken, and one that uses its share up waits for its next slice.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::net::{SocketFlags, accept_with};
use tokio::sync::mpsc;

use super::accept::{Backoff, Logs};

/// How many.
pub(super) const THREADS: usize = 2;

/// The threads; they end when this is dropped.
pub(super) struct Acceptor {
    stop: Arc<Stop>,
    /// Ends when they have.
    ended: mpsc::Receiver<()>,
}

struct Stop {
    is_asked: AtomicBool,
    /// Readable once it is.
    bell: OwnedFd,
}

impl Acceptor {
    /// Gives `take` each connection to `listener`, which does not block, and nor do the connections. Each thread has a `take`
    /// of its own.
    ///
    /// # Errors
    /// No thread can be had, or no file for the bell.
    pub(super) fn start(
        listener: OwnedFd,
        log: &Arc<Logs>,
        take: impl FnMut(UnixStream) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let stop = Arc::new(Stop { is_asked: AtomicBool::new(false), bell });
        let (ending, ended) = mpsc::channel(1);
        let (acceptor, listener) = (Self { stop, ended }, Arc::new(listener));
        for _ in 0..THREADS {
            let events = events(&listener, &acceptor.stop)?;
            let (listener, stop, log) = (listener.clone(), acceptor.stop.clone(), log.clone());
            let (mut take, ending) = (take.clone(), ending.clone());
            std::thread::Builder::new().name("accept".into()).spawn(move || {
                run(&listener, &events, &stop, &log, &mut take);
                drop((listener, events, take));
                drop(ending);
            })?;
        }
        Ok(acceptor)
    }

    /// Takes no more. Returns once the threads have let go of all that they had.
    pub(super) async fn stop(mut self) {
        self.stop.ask();
        let _ = self.ended.recv().await;
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.stop.ask();
    }
}

impl Stop {
    fn ask(&self) {
        self.is_asked.store(true, Ordering::Release);
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes()); // full is loud enough
    }
}

/// Of a connection one thread is told, of the bell all.
fn events(listener: &OwnedFd, stop: &Stop) -> io::Result<OwnedFd> {
    let events = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let (data, one) = (epoll::EventData::new_u64(0), epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE);
    epoll::add(&events, listener, data, one)?;
    epoll::add(&events, &stop.bell, data, epoll::EventFlags::IN)?;
    Ok(events)
}

fn run(listener: &OwnedFd, events: &OwnedFd, stop: &Stop, log: &Logs, take: &mut impl FnMut(UnixStream)) {
    let (mut backoff, mut told) = (Backoff::default(), [MaybeUninit::uninit(); 2]);
    while !stop.is_asked.load(Ordering::Acquire) {
        match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(socket) => {
                backoff = Backoff::default();
                take(UnixStream::from(socket));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                // Or not quite so long.
                let _ = epoll::wait(events, &mut told, None);
            }
            Err(error) => {
                let error = error.into();
                if let Some(pause) = backoff.after(&error) {
                    log.accept_failed(&error);
                    let bell = &mut [PollFd::new(&stop.bell, PollFlags::IN)];
                    let _ = poll(bell, Timespec::try_from(pause).ok().as_ref());
                }
            }
        }
    }
}
