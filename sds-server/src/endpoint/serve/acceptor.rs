//! The thread that takes connections from the kernel's line, in which all callers stand together.
//!
//! It does little with each, and has its share of the CPU whatever the runtime is busy with: so the line stays short, and
//! who comes after a crowd does not wait until the crowd was served.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::net::{SocketFlags, accept_with};
use tokio::sync::oneshot;

use super::accept::{Backoff, Logs};

/// The thread; it ends when this is dropped.
pub(super) struct Acceptor {
    stop: Arc<Stop>,
    ended: oneshot::Receiver<()>,
}

struct Stop {
    is_asked: AtomicBool,
    /// Readable once it is.
    bell: OwnedFd,
}

impl Acceptor {
    /// Gives `take` each connection to `listener`, which does not block, and nor do the connections.
    ///
    /// # Errors
    /// No thread can be had, or no file for the bell.
    pub(super) fn start(
        listener: OwnedFd,
        log: Arc<Logs>,
        mut take: impl FnMut(UnixStream) + Send + 'static,
    ) -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let stop = Arc::new(Stop { is_asked: AtomicBool::new(false), bell });
        let (ending, ended) = oneshot::channel();
        let stopped = stop.clone();
        std::thread::Builder::new().name("accept".into()).spawn(move || {
            run(&listener, &stopped, &log, &mut take);
            drop((listener, take));
            let _ = ending.send(());
        })?;
        Ok(Self { stop, ended })
    }

    /// Takes no more. Returns once the thread has let go of all that it had.
    pub(super) async fn stop(mut self) {
        self.stop.ask();
        let _ = (&mut self.ended).await;
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

fn run(listener: &OwnedFd, stop: &Stop, log: &Logs, take: &mut impl FnMut(UnixStream)) {
    let mut backoff = Backoff::default();
    while !stop.is_asked.load(Ordering::Acquire) {
        match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(socket) => {
                backoff = Backoff::default();
                take(UnixStream::from(socket));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => wait(&[listener, &stop.bell], None),
            Err(error) => {
                let error = error.into();
                if let Some(pause) = backoff.after(&error) {
                    log.accept_failed(&error);
                    wait(&[&stop.bell], Some(pause));
                }
            }
        }
    }
}

/// Until there is something to read on one of `files`, or for `pause`, or not quite so long.
fn wait(files: &[&OwnedFd], pause: Option<Duration>) {
    let mut files: Vec<PollFd<'_>> = files.iter().map(|file| PollFd::new(*file, PollFlags::IN)).collect();
    let pause = pause.and_then(|pause| Timespec::try_from(pause).ok());
    let _ = poll(&mut files, pause.as_ref());
}
