//! A connection whose every read comes with its writer: bytes of another process than the one that connected end it.
//!
//! The kernel's credentials of a connection are those of connect(2), and the socket may be handed on since: inherited,
//! or sent to another process (SCM_RIGHTS). With SO_PASSCRED the kernel says of each read who wrote it, and joins no
//! two writers' bytes in one. unix(7). Who only reads on a shared socket is not seen by this.
//!
//! A writer may say another pid than its own only with CAP_SYS_ADMIN over its PID namespace.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::sockopt::set_socket_passcred;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

use super::accept::Logs;
use crate::endpoint::limits::Refused;
use crate::endpoint::peer::Peer;

/// A stream of one process.
#[derive(Debug)]
pub(super) struct Witnessed {
    stream: UnixStream,
    /// Who connected, as our PID namespace has it.
    pid: u32,
    uid: u32,
    log: Arc<Logs>,
}

/// Room for the writer's credentials and for nothing else: descriptors that are sent along find no place, and are
/// not installed.
#[repr(C, align(8))]
struct Ancillary([u8; SPACE]);

// SAFETY: arithmetic alone.
const SPACE: usize = unsafe { libc::CMSG_SPACE(size_of::<libc::ucred>() as u32) } as usize;

impl Witnessed {
    /// Watches over `stream`, to which `peer` connected. What was sent before on a socket whose listener did not ask
    /// for credentials comes without, and is refused.
    ///
    /// # Errors
    /// The kernel does not give credentials, or the runtime has no room for it.
    pub(super) fn new(stream: StdUnixStream, peer: &Peer, log: Arc<Logs>) -> io::Result<Self> {
        set_socket_passcred(&stream, true)?;
        let stream = UnixStream::from_std(stream)?;
        Ok(Self { stream, pid: peer.pid, uid: peer.uid, log })
    }

    fn take(&self, into: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        let (count, writer) = receive(self.stream.as_raw_fd(), into)?;
        // The end of the stream has no writer.
        if count == 0 || writer == Some(self.pid) {
            return Ok(count);
        }
        tracing::debug!(pid = self.pid, writer, "the bytes are another's");
        self.log.refused(Refused::AnotherWriter, format_args!("uid {}", self.uid));
        Err(io::Error::new(io::ErrorKind::PermissionDenied, Refused::AnotherWriter))
    }
}

/// Reads once: how many bytes came, which are initialised then and no others, and the process that wrote them, if the
/// kernel says.
fn receive(socket: RawFd, into: &mut [MaybeUninit<u8>]) -> io::Result<(usize, Option<u32>)> {
    let mut ancillary = Ancillary([0; SPACE]);
    let mut part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: all zeros is a message header without any part.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut ancillary.0).cast();
    message.msg_controllen = SPACE;
    // SAFETY: the header points to one part and to room for ancillary data, both ours, live, and as long as it says.
    let count = unsafe { libc::recvmsg(socket, &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: recvmsg has set the length of what it wrote; the header found lies within it, or is null.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message).as_ref() };
    let is_it = |header: &&libc::cmsghdr| {
        // SAFETY: arithmetic alone.
        let whole = unsafe { libc::CMSG_LEN(size_of::<libc::ucred>() as u32) } as usize;
        (header.cmsg_level, header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_CREDENTIALS)
            && header.cmsg_len >= whole
    };
    let writer = header.filter(is_it).and_then(|header| {
        // SAFETY: of this type and length it holds a ucred, whose place need not be aligned for us.
        let credentials = unsafe { libc::CMSG_DATA(header).cast::<libc::ucred>().read_unaligned() };
        u32::try_from(credentials.pid).ok()
    });
    Ok((count, writer))
}

impl AsyncRead for Witnessed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            // Not cleared first: the HTTP/2 library's buffer is two pages, and most of it is never touched.
            // SAFETY: nothing in it is made uninitialised; the kernel only writes.
            let unfilled = unsafe { into.unfilled_mut() };
            match self.stream.try_io(Interest::READABLE, || self.take(unfilled)) {
                Ok(count) => {
                    // SAFETY: so many bytes were written by the kernel.
                    unsafe { into.assume_init(count) };
                    into.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {} // it was not ready after all
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Witnessed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
