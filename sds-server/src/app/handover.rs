//! One server takes another's place on the same host: the listening sockets change hands, and connections that come
//! meanwhile wait in their backlog.
//!
//! ```text
//! new                                 old (DATA/place.sock)
//!  ├── connects ────────────────────────►
//!  ◄── its listening sockets (SCM_RIGHTS)     it still serves
//!  ├── "take" ──────────────────────────►    it drains, closes the store
//!  ◄── "released" ──────────────────────┤    it waits
//!  │   opens the store, serves
//!  └── "serving" ───────────────────────►    it ends
//! ```
//!
//! Until "take" the old one has given up nothing. If the new one ends before it says "serving", the old one opens the
//! store again and serves as before. The store is only ever open in one of them.

use std::convert::Infallible;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::endpoint::Peer;
use crate::endpoint::sockets::{Maker, Sockets};
use crate::endpoint::uds::{Listener, Others};
use crate::runtime::{Drain, Drainer};

/// The socket at which a server can be asked for its place.
pub(super) const SOCKET: &str = "place.sock";

/// The greeting that the sockets come with: the version of this exchange.
const HELLO: &[u8; 8] = b"place 1\n";
const TAKE: &[u8; 5] = b"take\n";
const RELEASED: &[u8; 9] = b"released\n";
const SERVING: &[u8; 8] = b"serving\n";

/// Three doors, and one to come.
const MOST: usize = 4;
/// For one who asks to say that it takes what it was offered.
const PATIENCE: Duration = Duration::from_secs(10);
/// For a process that cannot be seen to end once it has closed its connection.
const UNKNOWN: Duration = Duration::from_secs(2);
/// For the old one to drain and close its store: its own bound is `limits.drain` and a little.
const RELEASE: Duration = Duration::from_secs(120);

/// What a server offers to its successor.
pub(super) struct Offer {
    pub(super) door: Listener,
    pub(super) sockets: Vec<OwnedFd>,
    pub(super) maker: Maker,
    /// The sockets' files, which a successor goes on using.
    pub(super) files: Vec<Others>,
    pub(super) drainer: Drainer,
    pub(super) taken: TakenCell,
}

/// Where the one that takes our place is found once everything has ended.
pub(super) type TakenCell = Arc<Mutex<Option<Taken>>>;

/// Our place, taken: the successor, and what we would need to serve again.
pub(super) struct Taken {
    successor: UnixStream,
    /// Its process; `None` on kernels before 6.5.
    process: Option<Arc<OwnedFd>>,
    sockets: Vec<OwnedFd>,
    maker: Maker,
}

/// What became of the successor.
pub(super) enum Verdict {
    /// It serves.
    Serves,
    /// It ended before it served: our place is ours again.
    Failed(Sockets),
}

/// The server whose place this one takes.
#[derive(Debug)]
pub(super) struct Predecessor(UnixStream);

impl Offer {
    /// Answers those who ask until one takes our place, or the drain begins otherwise.
    pub(super) async fn run(self, drain: Drain) -> Result<(), Infallible> {
        loop {
            let asked = tokio::select! {
                () = drain.begun() => return Ok(()),
                asked = self.door.accept() => asked,
            };
            let agreed = match asked {
                Ok(stream) => self.agree(stream).await,
                Err(error) => Err(error),
            };
            match agreed {
                Ok((successor, process)) => {
                    tracing::info!("another server takes the place of this one: draining");
                    self.files.iter().for_each(Others::leave);
                    let taken = Taken { successor, process, sockets: self.sockets, maker: self.maker };
                    *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
                    self.drainer.begin();
                    return Ok(());
                }
                Err(error) => {
                    tracing::warn!(%error, "somebody asked for our place and did not take it: serving on")
                }
            }
        }
    }

    async fn agree(&self, mut stream: UnixStream) -> io::Result<(UnixStream, Option<Arc<OwnedFd>>)> {
        let us = rustix::process::geteuid().as_raw();
        // The mode of the socket says the same, but root may have changed that by mistake.
        let peer = Peer::of(&stream)?;
        match peer.uid {
            uid if uid == 0 || uid == us => {}
            uid => return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("user {uid}"))),
        }
        let sockets: Vec<BorrowedFd<'_>> = self.sockets.iter().map(|socket| socket.as_fd()).collect();
        stream.async_io(Interest::WRITABLE, || send(stream.as_fd(), &sockets)).await?;
        let mut word = [0; TAKE.len()];
        timeout(PATIENCE, stream.read_exact(&mut word)).await??;
        if word == *TAKE { Ok((stream, peer.pidfd)) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

impl Taken {
    /// Tells the successor that everything is closed, and waits for what becomes of it.
    pub(super) async fn released(mut self) -> anyhow::Result<Verdict> {
        // It may be gone already; the reading finds out.
        let _ = self.successor.write_all(RELEASED).await;
        let mut word = [0; SERVING.len()];
        // A signal ends the waiting: the handlers of the run before still hold the default back.
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let heard = tokio::select! {
            heard = self.successor.read_exact(&mut word) => heard,
            _ = term.recv() => return Ok(Verdict::Serves),
            _ = int.recv() => return Ok(Verdict::Serves),
        };
        if heard.is_ok() && word == *SERVING {
            return Ok(Verdict::Serves);
        }
        gone(self.process).await;
        Ok(Verdict::Failed(Sockets::check(self.sockets, self.maker)?))
    }
}

impl Predecessor {
    /// Takes the place of the server of the data directory `data`, once it has let go of it. Its sockets must be those
    /// that `fits` accepts, else it is left serving.
    pub(super) async fn of(
        data: &Path,
        fits: impl FnOnce(&mut Sockets) -> anyhow::Result<()>,
    ) -> anyhow::Result<(Self, Sockets)> {
        let path = data.join(SOCKET);
        let stream = UnixStream::connect(&path).await.with_context(|| {
            format!("no server answers at {}: start this one without --takeover", path.display())
        })?;
        let sockets = stream.async_io(Interest::READABLE, || receive(stream.as_fd())).await;
        let sockets = sockets.context("the running server did not hand over its sockets, and goes on")?;
        let mut sockets = Sockets::check(sockets, Maker::Server)?;
        fits(&mut sockets).context("the running server goes on")?;
        let mut predecessor = Self(stream);
        predecessor.0.write_all(TAKE).await.context("the running server went away")?;
        let mut word = [0; RELEASED.len()];
        let heard = timeout(RELEASE, predecessor.0.read_exact(&mut word)).await;
        let heard = heard.context("the running server does not let go of its data: look at its log")?;
        // One that ended instead has let go of it too.
        ensure!(
            heard.is_err() || word == *RELEASED,
            "the running server is of a version that this one does not know"
        );
        Ok((predecessor, sockets))
    }

    /// Tells it that it is not needed any more.
    pub(super) async fn serving(mut self) {
        if let Err(error) = self.0.write_all(SERVING).await {
            tracing::debug!(%error, "the server before this one is gone already");
        }
    }
}

/// Returns once the successor's process has ended, which closes the store after the connection to us.
async fn gone(process: Option<Arc<OwnedFd>>) {
    let Some(process) = process else { return tokio::time::sleep(UNKNOWN).await };
    let timeout = Timespec { tv_sec: RELEASE.as_secs().cast_signed(), tv_nsec: 0 };
    // If it does not end, the store says that it is in use.
    let waiting = tokio::task::spawn_blocking(move || {
        poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout)).map(drop)
    });
    if let Err(error) = waiting.await {
        tracing::warn!(%error, "the end of the server that took the place of this one was not seen");
    }
}

fn send(to: BorrowedFd<'_>, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(to, &[IoSlice::new(HELLO)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(from: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut hello = [0; HELLO.len()];
    let received = recvmsg(from, &mut [IoSliceMut::new(&mut hello)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let sockets = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    let sockets: Vec<OwnedFd> = sockets.flatten().collect();
    if received.bytes == HELLO.len() && hello == *HELLO && !sockets.is_empty() {
        return Ok(sockets);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "it is of a version that hands over otherwise: restart it instead",
    ))
}
