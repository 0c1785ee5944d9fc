//! Flow control of a streamed answer: what has been sent of it and not yet taken by its client.

use parking_lot::{Condvar, Mutex};
use tidemill_worker_proto::RESPONSE_WINDOW_BYTES;

/// See the module's documentation. Every run has one; most never use it.
#[derive(Default)]
pub(crate) struct Window {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    outstanding_bytes: usize,
    is_closed: bool,
}

/// Whether a part may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// Yes, and it is accounted for.
    Taken,
    /// Not before the client has taken some.
    Full,
    /// Never: the run is to end.
    Closed,
}

impl Window {
    /// Takes room for a part of the answer, if there is enough.
    pub(crate) fn try_take(&self, bytes: usize) -> Room {
        self.state.lock().try_take(bytes)
    }

    /// Waits for room and takes it. Not to be called with the interpreter lock held.
    pub(crate) fn take(&self, bytes: usize) -> Room {
        let mut state = self.state.lock();
        loop {
            match state.try_take(bytes) {
                Room::Full => self.changed.wait(&mut state),
                decided => return decided,
            }
        }
    }

    /// The client has taken some.
    pub(crate) fn give_back(&self, bytes: u64) {
        let mut state = self.state.lock();
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        state.outstanding_bytes = state.outstanding_bytes.saturating_sub(bytes);
        self.changed.notify_one();
    }

    /// Nothing more may be sent.
    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_one();
    }
}

impl State {
    fn try_take(&mut self, bytes: usize) -> Room {
        if self.is_closed {
            return Room::Closed;
        }
        if self.outstanding_bytes + bytes > RESPONSE_WINDOW_BYTES {
            return Room::Full;
        }
        self.outstanding_bytes += bytes;
        Room::Taken
    }
}
