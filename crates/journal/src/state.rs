//! What a journal holds in memory. All changes are made under one lock, so every reader sees each row once.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::object::Object;
use crate::recovery::Recovered;
use crate::unflushed::Unflushed;

/// Rows that are being written, or whose write failed: they are written again as they are, under their number.
#[derive(Debug)]
struct InFlight {
    number: u64,
    rows: Unflushed,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// Disjoint, oldest flush first.
    live: Vec<Arc<Object>>,
    /// To be removed from the store, in this order: nothing goes before what it took the place of.
    garbage: VecDeque<Arc<Object>>,
    in_flight: Option<InFlight>,
    waiting: Unflushed,
    last_number: u64,
    appended_rows: u64,
    dropped_rows: u64,
    is_dropping: bool,
}

impl State {
    pub(crate) fn new(recovered: Recovered) -> Self {
        Self {
            live: recovered.live,
            garbage: recovered.superseded.into(),
            last_number: recovered.last_number,
            ..Self::default()
        }
    }

    pub(crate) fn live(&self) -> &[Arc<Object>] {
        &self.live
    }

    pub(crate) fn stored_bytes(&self) -> usize {
        self.live.iter().map(|object| object.name.memory_bytes).sum()
    }

    fn unflushed(&self) -> impl Iterator<Item = &Unflushed> {
        let in_flight = self.in_flight.iter().map(|in_flight| &in_flight.rows);
        in_flight.chain([&self.waiting])
    }

    pub(crate) fn unflushed_bytes(&self) -> usize {
        self.unflushed().map(Unflushed::bytes).sum()
    }

    pub(crate) fn unflushed_rows(&self) -> usize {
        self.unflushed().map(Unflushed::rows).sum()
    }

    /// Whether there are rows whose write has begun, and has not succeeded yet.
    pub(crate) fn has_begun_flush(&self) -> bool {
        self.in_flight.is_some()
    }

    /// So many rows were appended since the opening.
    pub(crate) fn appended_rows(&self) -> u64 {
        self.appended_rows
    }

    pub(crate) fn dropped_rows(&self) -> u64 {
        self.dropped_rows
    }

    /// All objects and all rows in memory, in the order in which they were appended.
    pub(crate) fn snapshot(&self) -> (Vec<Arc<Object>>, Vec<RecordBatch>) {
        let batches = self.unflushed().flat_map(Unflushed::batches);
        (self.live.clone(), batches.cloned().collect())
    }

    /// A number above all before. It follows the clock, so that it is above those of an earlier process too of which
    /// nothing can be seen yet: a request that it left behind in the network.
    pub(crate) fn next_number(&mut self, now_ns: i64) -> u64 {
        self.last_number = u64::try_from(now_ns)
            .unwrap_or(0)
            .max(self.last_number.saturating_add(1));
        self.last_number
    }

    /// Returns whether rows begin to be dropped, for want of memory.
    pub(crate) fn append(&mut self, batch: RecordBatch, unflushed_bytes_max: usize) -> bool {
        self.appended_rows += batch.num_rows() as u64;
        self.waiting.push(batch);
        let in_flight_bytes = self.unflushed_bytes() - self.waiting.bytes();
        let dropped = self
            .waiting
            .drop_to(unflushed_bytes_max.saturating_sub(in_flight_bytes));
        self.dropped_rows += dropped as u64;
        dropped > 0 && !std::mem::replace(&mut self.is_dropping, true)
    }

    pub(crate) fn count_dropped(&mut self, rows: usize) {
        self.dropped_rows += rows as u64;
    }

    /// The rows to be written next, their size and their number; the same as before until it is said how they ended.
    pub(crate) fn begin_flush(
        &mut self,
        now_ns: i64,
        bytes_max: usize,
    ) -> Option<(u64, usize, Vec<RecordBatch>)> {
        if self.in_flight.is_none() {
            if self.waiting.rows() == 0 {
                return None;
            }
            self.in_flight = Some(InFlight {
                number: self.next_number(now_ns),
                rows: self.waiting.take(bytes_max),
            });
        }
        let InFlight { number, rows } = self.in_flight.as_ref()?;
        Some((*number, rows.bytes(), rows.batches().cloned().collect()))
    }

    /// The rows of the flush are in this object.
    pub(crate) fn finish_flush(&mut self, object: Arc<Object>) {
        self.in_flight = None;
        self.is_dropping = false;
        self.push_object(object);
    }

    /// The rows of the flush can never be written.
    pub(crate) fn drop_flush(&mut self) {
        if let Some(in_flight) = self.in_flight.take() {
            self.count_dropped(in_flight.rows.rows());
        }
    }

    /// Adds an object with a number above those of all others.
    pub(crate) fn push_object(&mut self, object: Arc<Object>) {
        debug_assert!(
            self.live
                .last()
                .is_none_or(|last| last.name.flushes.end() < object.name.flushes.start())
        );
        self.live.push(object);
    }

    /// Puts an object in the place of those whose flushes it holds. Their places must come from [`State::live`] after the
    /// lock on rewriting was taken: flushes only add at the end.
    pub(crate) fn replace(&mut self, places: Range<usize>, object: Arc<Object>) {
        self.garbage.extend(self.live.splice(places, [object]));
    }

    /// An object that may be in the store, but holds nothing that counts.
    pub(crate) fn discard(&mut self, object: Arc<Object>) {
        self.garbage.push_back(object);
    }

    /// Lets go of objects whose rows are all too old, and then of the oldest until the rest is small enough. Returns how
    /// many went for their age, and how many for the size.
    pub(crate) fn expire(&mut self, oldest_kept: i64, bytes_max: usize) -> (usize, usize) {
        let is_old = |object: &mut Arc<Object>| *object.name.times.end() < oldest_kept;
        let garbage_before = self.garbage.len();
        self.garbage.extend(self.live.extract_if(.., is_old));
        let old = self.garbage.len() - garbage_before;

        let mut excess = self.stored_bytes().saturating_sub(bytes_max);
        let mut superfluous = 0;
        while excess > 0 {
            excess = excess.saturating_sub(self.live[superfluous].name.memory_bytes);
            superfluous += 1;
        }
        self.garbage.extend(self.live.drain(..superfluous));
        (old, superfluous)
    }

    /// Forgets everything, also what is in the store.
    pub(crate) fn clear(&mut self) {
        self.live.clear();
        self.garbage.clear();
        self.in_flight = None;
        self.waiting = Unflushed::default();
    }

    /// The object to be removed next, unless somebody still reads it.
    pub(crate) fn next_garbage(&self) -> Option<&Object> {
        let next = self.garbage.front()?;
        (Arc::strong_count(next) == 1).then_some(next)
    }

    /// The object to be removed next is gone.
    pub(crate) fn pop_garbage(&mut self) {
        self.garbage.pop_front();
    }
}
