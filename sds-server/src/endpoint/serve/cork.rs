//! What one turn of a connection writes goes out in few large pieces, once the turn is over.
//!
//! The HTTP/2 library writes every DATA frame by itself, and asks for a flush after each. A push to a thousand
//! streams would be a thousand calls of the kernel, which is most of what a push costs.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use zeroize::Zeroize;

/// Bytes held back at most, for each connection whose peer does not read: one piece of a Unix socket's buffer.
const CAPACITY: usize = 32 * 1024;

/// One socket, for the HTTP/2 library as it were the socket itself, and for the connection that ends its turns.
pub(super) struct Cork<T>(Arc<Mutex<Corked<T>>>);

struct Corked<T> {
    io: T,
    /// Has no memory between turns, unless the peer does not read. Private keys go through it: it never grows, and is
    /// wiped.
    held: Vec<u8>,
    /// Of these, so many are written.
    written: usize,
    /// Whether the socket may hold bytes of its own: TLS does, while its own socket takes no more.
    is_unflushed: bool,
    heard: Instant,
}

impl<T> Cork<T> {
    pub(super) fn new(io: T) -> Self {
        Self(Arc::new(Mutex::new(Corked {
            io,
            held: Vec::new(),
            written: 0,
            is_unflushed: false,
            heard: Instant::now(),
        })))
    }

    /// The same socket.
    pub(super) fn share(&self) -> Self {
        Self(self.0.clone())
    }

    /// When the peer last sent anything.
    pub(super) fn heard(&self) -> Instant {
        self.corked().heard
    }

    // Never held for long, nor by two at a time: both sides live in one future.
    fn corked(&self) -> MutexGuard<'_, Corked<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: AsyncWrite + Unpin> Cork<T> {
    /// Ends a turn: writes what is held.
    pub(super) fn poll_release(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut corked = self.corked();
        ready!(corked.poll_release(cx))?;
        corked.held = Vec::new();
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> Corked<T> {
    fn poll_release(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() && !self.is_unflushed {
            return Poll::Ready(Ok(()));
        }
        while let Some(rest) = self.held.get(self.written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        self.wipe();
        self.is_unflushed = true;
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.is_unflushed = false;
        Poll::Ready(Ok(()))
    }
}

impl<T> Corked<T> {
    fn hold(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(CAPACITY - self.held.len());
        self.held.extend_from_slice(bytes.get(..count).unwrap_or_default());
        count
    }

    fn wipe(&mut self) {
        self.held.as_mut_slice().zeroize();
        self.held.clear();
        self.written = 0;
    }
}

impl<T> Drop for Corked<T> {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Cork<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut corked = self.corked();
        if corked.held.len() == CAPACITY {
            ready!(corked.poll_release(cx))?;
        }
        if corked.held.capacity() == 0 {
            corked.held.reserve_exact(CAPACITY);
        }
        Poll::Ready(Ok(slices.iter().map(|slice| corked.hold(slice)).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true // nothing is copied twice
    }

    /// Not yet: the turn goes on.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut corked = self.corked();
        ready!(corked.poll_release(cx))?;
        Pin::new(&mut corked.io).poll_shutdown(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Cork<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut corked = self.corked();
        let before = into.filled().len();
        ready!(Pin::new(&mut corked.io).poll_read(cx, into))?;
        if into.filled().len() > before {
            corked.heard = Instant::now();
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn what_is_written_goes_out_at_the_end_of_the_turn_and_no_more_is_held_than_fits() {
        let (mut peer, ours) = tokio::io::duplex(100);
        let mut cork = Cork::new(ours);
        let turn = cork.share();
        for part in ["one, ", "two, ", "three"] {
            cork.write_all(part.as_bytes()).await.unwrap();
            cork.flush().await.unwrap();
        }
        let mut heard = [0; 15];
        assert!(futures::FutureExt::now_or_never(peer.read(&mut heard)).is_none(), "nothing is out yet");
        poll_fn(|cx| turn.poll_release(cx)).await.unwrap();
        peer.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"one, two, three");
        assert_eq!(turn.corked().held.capacity(), 0, "a silent connection holds no memory");

        let much = vec![7; 3 * CAPACITY];
        assert_eq!(cork.write(&much).await.unwrap(), CAPACITY);
        assert!(futures::FutureExt::now_or_never(cork.write(&much)).is_none(), "a peer that does not read");
        let copy = tokio::spawn(async move {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).await.map(|_| all.len())
        });
        cork.write_all(&much).await.unwrap();
        cork.shutdown().await.unwrap();
        drop((cork, turn));
        assert_eq!(copy.await.unwrap().unwrap(), 4 * CAPACITY);
    }

    /// Takes everything, as TLS does, and passes nothing on before the second flush.
    struct Slow(Vec<u8>, usize);

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.1 += 1;
            if self.1 < 2 { Poll::Pending } else { Poll::Ready(Ok(())) }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_the_socket_itself_holds_is_flushed_until_it_is_out() {
        let mut cork = Cork::new(Slow(Vec::new(), 0));
        cork.write_all(b"a record").await.unwrap();
        let turn = cork.share();
        let release = || futures::FutureExt::now_or_never(poll_fn(|cx| turn.poll_release(cx)));
        assert!(release().is_none(), "taken, and not out");
        assert!(release().is_some(), "the next turn goes on with it, though there is nothing to write");
        assert!(release().is_some());
        assert_eq!(cork.corked().io.1, 2, "and no turn after that");
    }
}
