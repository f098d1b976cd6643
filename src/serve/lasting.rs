//! A connection's stream that outlives the protocol spoken on it, so that its end loses nothing.
//!
//! A socket that is closed while the peer still sends resets the connection, and a peer whose
//! writes fail may throw away answers that it has but did not read yet (RFC 9112, section 9.6). So
//! the last thing done with a connection is to read and forget until the peer closes its side too.
//! Not here: when a connection ends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long the peer may take to close its side.
const LINGER: Duration = Duration::from_secs(1);

/// A stream that comes back when whoever holds it drops it.
pub(super) struct Lent {
    /// There until it is dropped.
    stream: Option<TcpStream>,
    back: Option<oneshot::Sender<TcpStream>>,
}

/// Where a lent stream comes back.
pub(super) struct Lender(oneshot::Receiver<TcpStream>);

/// Lends a stream to a protocol.
pub(super) fn lend(stream: TcpStream) -> (Lent, Lender) {
    let (back, lender) = oneshot::channel();
    (Lent { stream: Some(stream), back: Some(back) }, Lender(lender))
}

impl Lender {
    /// Ends a stream that was given back: nothing more is said, and what the peer says is read
    /// until it closes, or for [`LINGER`].
    pub(super) async fn close(mut self) {
        let Ok(mut stream) = self.0.try_recv() else { return };
        // Only the first of two says so; either way this side is closed.
        drop(stream.shutdown().await);
        let mut forgotten = [0; 1024];
        let peer_closes = async { while matches!(stream.read(&mut forgotten).await, Ok(1..)) {} };
        drop(timeout(LINGER, peer_closes).await);
    }
}

impl Lent {
    fn with<T>(
        &mut self,
        act: impl FnOnce(Pin<&mut TcpStream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.stream.as_mut().map_or_else(
            || Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            |stream| act(Pin::new(stream)),
        )
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(stream), Some(back)) = (self.stream.take(), self.back.take()) {
            // Nobody waits for it when the connection was cut.
            drop(back.send(stream));
        }
    }
}

impl AsyncRead for Lent {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for Lent {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(context))
    }
}
