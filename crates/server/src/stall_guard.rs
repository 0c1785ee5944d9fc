//! A connection that gives up on a peer who does not do its part.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Fails with [`io::ErrorKind::TimedOut`] when the first byte does not come in time, or when the peer takes nothing of
/// what is to be written for too long. That a peer who has spoken is silent is for others to judge: it may be waiting
/// for its answer.
pub(crate) struct StallGuard<S> {
    stream: S,
    write_stall_max: Duration,
    /// Runs until the first byte came.
    first_byte: Option<Pin<Box<Sleep>>>,
    /// Runs while nothing can be written.
    write: Option<Pin<Box<Sleep>>>,
}

impl<S> StallGuard<S> {
    /// Guards a new connection.
    pub(crate) fn new(stream: S, first_byte_max: Duration, write_stall_max: Duration) -> Self {
        Self {
            stream,
            write_stall_max,
            first_byte: Some(Box::pin(sleep(first_byte_max))),
            write: None,
        }
    }

    /// Passes on how a write went; one that has been waiting for too long has failed.
    fn watch_write<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.write = None;
            return outcome;
        }
        let max = self.write_stall_max;
        let timer = self.write.get_or_insert_with(|| Box::pin(sleep(max)));
        timer.as_mut().poll(context).map(|()| Err(timed_out()))
    }
}

fn timed_out() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

impl<S: AsyncRead + Unpin> AsyncRead for StallGuard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        if outcome.is_ready() {
            self.first_byte = None;
        }
        match &mut self.first_byte {
            None => outcome,
            Some(timer) => timer.as_mut().poll(context).map(|()| Err(timed_out())),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StallGuard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch_write(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch_write(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.watch_write(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch_write(context, outcome)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const SOON: Duration = Duration::from_millis(20);
    const NEVER: Duration = Duration::from_hours(1);

    #[tokio::test]
    async fn a_peer_who_says_nothing_is_given_up() {
        let (_peer, stream) = duplex(64);
        let mut guarded = StallGuard::new(stream, SOON, NEVER);
        let error = guarded.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_peer_who_has_spoken_may_be_silent() {
        let (mut peer, stream) = duplex(64);
        let mut guarded = StallGuard::new(stream, SOON, NEVER);
        peer.write_u8(1).await.unwrap();
        assert_eq!(guarded.read_u8().await.unwrap(), 1);
        let silence = tokio::time::timeout(SOON * 5, guarded.read_u8()).await;
        assert!(silence.is_err(), "the read goes on waiting");
    }

    #[tokio::test]
    async fn a_peer_who_takes_nothing_is_given_up() {
        let (mut peer, stream) = duplex(64);
        let mut guarded = StallGuard::new(stream, NEVER, SOON);
        guarded.write_all(&[0; 64]).await.unwrap();
        let mut taken = [0; 64];
        peer.read_exact(&mut taken).await.unwrap();
        let error = guarded.write_all(&[0; 65]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
