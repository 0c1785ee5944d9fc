//! A streamed answer on its way from the worker to its client.
//!
//! What waits for the client lies in one buffer, so that many small items cost no more than their bytes. The worker may send
//! no more than a window ahead ([`RESPONSE_WINDOW_BYTES`]); what the client has taken is confirmed in larger pieces.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use parking_lot::Mutex;
use tidemill_worker_proto::{RESPONSE_WINDOW_BYTES, RunId};

use crate::worker_session::Session;

/// The worker is told what was taken when it has come to so much.
const CONFIRMED_BYTES_MIN: usize = RESPONSE_WINDOW_BYTES / 4;

/// The answer was not completed; its connection is to be broken, so that nobody takes the part for the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the run of the plugin failed before its answer was complete")]
pub struct BrokenAnswer;

#[derive(Default)]
struct Shared {
    waiting: BytesMut,
    /// Received and not confirmed to the worker.
    unconfirmed_bytes: usize,
    end: Option<Result<(), BrokenAnswer>>,
    reader: Option<Waker>,
}

/// Why an answer cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Excess {
    #[error("the plugin's process sends more of its answer than is taken")]
    Window,
    #[error("the answer exceeds the trigger's output limit of {0} bytes")]
    Limit(u64),
}

/// The end of the stream that the worker's messages go into.
pub(crate) struct ResponseSender {
    shared: Arc<Mutex<Shared>>,
    sent_bytes: u64,
}

/// The body of a streamed answer. Dropped before its end, it ends its run.
pub struct ResponseStream {
    shared: Arc<Mutex<Shared>>,
    session: Arc<Session>,
    run: RunId,
}

/// A stream for the answer of a run.
pub(crate) fn response_stream(session: Arc<Session>, run: RunId) -> (ResponseSender, ResponseStream) {
    let shared = Arc::new(Mutex::new(Shared::default()));
    let sender = ResponseSender {
        shared: Arc::clone(&shared),
        sent_bytes: 0,
    };
    let stream = ResponseStream { shared, session, run };
    (sender, stream)
}

impl ResponseSender {
    /// Adds a part of an answer that may have `bytes_max` bytes in all.
    pub(crate) fn push(&mut self, part: &[u8], bytes_max: Option<u64>) -> Result<(), Excess> {
        self.sent_bytes += part.len() as u64;
        if let Some(bytes_max) = bytes_max.filter(|bytes_max| self.sent_bytes > *bytes_max) {
            return Err(Excess::Limit(bytes_max));
        }
        let mut shared = self.shared.lock();
        if shared.unconfirmed_bytes + part.len() > RESPONSE_WINDOW_BYTES {
            return Err(Excess::Window);
        }
        shared.unconfirmed_bytes += part.len();
        shared.waiting.extend_from_slice(part);
        wake(shared.reader.take());
        Ok(())
    }

    /// Ends the stream.
    pub(crate) fn end(self, end: Result<(), BrokenAnswer>) {
        self.end_with(end);
    }

    fn end_with(&self, end: Result<(), BrokenAnswer>) {
        let mut shared = self.shared.lock();
        shared.end.get_or_insert(end);
        wake(shared.reader.take());
    }
}

impl Drop for ResponseSender {
    /// A run that nobody ends is none that succeeded.
    fn drop(&mut self) {
        self.end_with(Err(BrokenAnswer));
    }
}

fn wake(reader: Option<Waker>) {
    if let Some(reader) = reader {
        reader.wake();
    }
}

impl Stream for ResponseStream {
    type Item = Result<Bytes, BrokenAnswer>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut shared = self.shared.lock();
        if shared.waiting.is_empty() {
            match shared.end {
                None => shared.reader = Some(context.waker().clone()),
                Some(Ok(())) => return Poll::Ready(None),
                Some(Err(broken)) => {
                    // Told once: whoever reads to the end comes to one.
                    shared.end = Some(Ok(()));
                    return Poll::Ready(Some(Err(broken)));
                }
            }
            return Poll::Pending;
        }
        let part = shared.waiting.split().freeze();
        let taken = shared.unconfirmed_bytes;
        let confirms = taken >= CONFIRMED_BYTES_MIN;
        if confirms {
            shared.unconfirmed_bytes = 0;
        }
        drop(shared);
        if confirms {
            self.session.confirm_response(self.run, taken);
        }
        Poll::Ready(Some(Ok(part)))
    }
}

impl Drop for ResponseStream {
    fn drop(&mut self) {
        let has_ended = self.shared.lock().end.is_some();
        if !has_ended {
            self.session.abandon(self.run);
        }
    }
}

impl std::fmt::Debug for ResponseStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseStream")
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}
