//! Calls of the plugin into the server, and the threads that wait for their answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex};
use tidemill_worker_proto::{CacheReply, CallId, RunId, StateReply};

/// How a call ended.
pub(crate) enum Answer {
    /// The parts of a query's result, each an Arrow IPC stream, or the text of its error.
    Query(Result<Vec<Bytes>, String>),
    /// Whether a write was committed, or the text of its error.
    Write(Result<(), String>),
    /// The reply to a cache operation and its value.
    Cache(CacheReply, Bytes),
    /// The reply to an operation on the state and its value.
    State(StateReply, Bytes),
    /// The run that called is to end: the thread goes back to raise it.
    Interrupted,
}

/// All calls that wait.
#[derive(Default)]
pub(crate) struct Calls {
    last: AtomicU64,
    waiting: Mutex<HashMap<CallId, Arc<Slot>, RandomState>>,
}

/// A call on its way. Dropped, it is forgotten; an answer that comes later is ignored.
pub(crate) struct Call<'a> {
    pub(crate) id: CallId,
    calls: &'a Calls,
    slot: Arc<Slot>,
}

struct Slot {
    /// Set where the thread that executes the run calls, which an interruption of that run must wake.
    run: Option<RunId>,
    state: Mutex<SlotState>,
    answered: Condvar,
}

#[derive(Default)]
struct SlotState {
    parts: Vec<Bytes>,
    answer: Option<Answer>,
}

impl Calls {
    /// Opens a call. `run` is the run that this very thread executes, if it does.
    pub(crate) fn open(&self, run: Option<RunId>) -> Call<'_> {
        let id = CallId(self.last.fetch_add(1, Ordering::Relaxed));
        let slot = Arc::new(Slot {
            run,
            state: Mutex::default(),
            answered: Condvar::new(),
        });
        self.waiting.lock().insert(id, Arc::clone(&slot));
        Call {
            id,
            calls: self,
            slot,
        }
    }

    /// Keeps a part of a query's result.
    pub(crate) fn add_part(&self, call: CallId, part: Bytes) {
        if let Some(slot) = self.waiting.lock().get(&call) {
            slot.state.lock().parts.push(part);
        }
    }

    /// Ends a query with the parts that came.
    pub(crate) fn finish_query(&self, call: CallId, outcome: Result<(), String>) {
        self.answer(call, |parts| Answer::Query(outcome.map(|()| parts)));
    }

    /// Ends a write.
    pub(crate) fn finish_write(&self, call: CallId, outcome: Result<(), String>) {
        self.answer(call, |_| Answer::Write(outcome));
    }

    /// Ends a cache operation.
    pub(crate) fn finish_cache(&self, call: CallId, reply: CacheReply, value: Bytes) {
        self.answer(call, |_| Answer::Cache(reply, value));
    }

    /// Ends an operation on the state.
    pub(crate) fn finish_state(&self, call: CallId, reply: StateReply, value: Bytes) {
        self.answer(call, |_| Answer::State(reply, value));
    }

    /// Wakes the thread of a run, if it waits for an answer.
    pub(crate) fn interrupt(&self, run: RunId) {
        let slots: Vec<Arc<Slot>> = self
            .waiting
            .lock()
            .values()
            .filter(|slot| slot.run == Some(run))
            .cloned()
            .collect();
        for slot in slots {
            slot.finish(|_| Answer::Interrupted);
        }
    }

    fn answer(&self, call: CallId, make: impl FnOnce(Vec<Bytes>) -> Answer) {
        let slot = self.waiting.lock().get(&call).cloned();
        if let Some(slot) = slot {
            slot.finish(make);
        }
    }
}

impl Slot {
    fn finish(&self, make: impl FnOnce(Vec<Bytes>) -> Answer) {
        let mut state = self.state.lock();
        if state.answer.is_none() {
            let parts = std::mem::take(&mut state.parts);
            state.answer = Some(make(parts));
            self.answered.notify_one();
        }
    }
}

impl Call<'_> {
    /// Waits for the answer. Not to be called with the interpreter lock held.
    pub(crate) fn wait(&self) -> Answer {
        let mut state = self.slot.state.lock();
        loop {
            if let Some(answer) = state.answer.take() {
                return answer;
            }
            self.slot.answered.wait(&mut state);
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.calls.waiting.lock().remove(&self.id);
    }
}
