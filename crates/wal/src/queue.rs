//! What waits to be written: the only state that appending tasks and the log thread share.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::{oneshot, watch};

use crate::frame::RECORD_HEADER_BYTES;
use crate::{Lsn, Record, WalConfig, WalError};

/// The answer to one writer.
pub(crate) type Answer = oneshot::Sender<Result<Lsn, WalError>>;

/// One record on its way, with what belongs to it.
pub(crate) struct Entry<T> {
    pub(crate) record: Record,
    pub(crate) value: T,
    pub(crate) answer: Answer,
}

impl<T> Entry<T> {
    fn bytes(&self) -> usize {
        RECORD_HEADER_BYTES + self.record.payload().len()
    }
}

/// A group in parts, as its users need them; the vectors have the same length and order.
pub(crate) struct Group<T> {
    pub(crate) records: Vec<Record>,
    pub(crate) values: Vec<T>,
    pub(crate) answers: Vec<Answer>,
    pub(crate) bytes: usize,
}

impl<T> Group<T> {
    pub(crate) fn new() -> Self {
        Self {
            records: Vec::new(),
            values: Vec::new(),
            answers: Vec::new(),
            bytes: 0,
        }
    }

    fn push(&mut self, entry: Entry<T>) {
        self.bytes += entry.bytes();
        self.records.push(entry.record);
        self.values.push(entry.value);
        self.answers.push(entry.answer);
    }
}

/// Counters since the log was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WalStats {
    /// Groups made durable.
    pub groups: u64,
    /// Records in them.
    pub records: u64,
    /// Their bytes, framing included.
    pub bytes: u64,
    /// Groups that failed.
    pub failed_groups: u64,
    /// Bytes accepted and neither durable nor failed at this moment.
    pub pending_bytes: u64,
}

/// An append that may not return before there is room.
struct Admission {
    /// Where its record lies in the stream of all bytes ever accepted.
    start: u64,
    end: u64,
    admitted: oneshot::Sender<()>,
}

struct State<T> {
    entries: VecDeque<Entry<T>>,
    queued_bytes: usize,
    /// Bytes ever accepted, and of these the ones whose fate is decided. The difference is pending.
    accepted_bytes: u64,
    decided_bytes: u64,
    admissions: VecDeque<Admission>,
    closing: bool,
    /// Why nothing more is accepted.
    refusal: Option<WalError>,
    stats: WalStats,
}

/// The queue between the appending tasks and the log thread.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    /// Signalled when the log thread may have something to do.
    work: Condvar,
    flush_interval: Duration,
    pending_bytes_max: usize,
    /// The last record that is durable and published.
    committed: watch::Sender<Lsn>,
}

impl<T> Queue<T> {
    pub(crate) fn new(config: &WalConfig, durable: Lsn) -> Self {
        Self {
            state: Mutex::new(State {
                entries: VecDeque::new(),
                queued_bytes: 0,
                accepted_bytes: 0,
                decided_bytes: 0,
                admissions: VecDeque::new(),
                closing: false,
                refusal: None,
                stats: WalStats::default(),
            }),
            work: Condvar::new(),
            flush_interval: config.flush_interval,
            pending_bytes_max: config.pending_bytes_max,
            committed: watch::Sender::new(durable),
        }
    }

    /// Takes a record; its place in the order is decided here. If too much is pending, the receiver resolves when
    /// there is room (or the log has stopped): order and back-pressure need no second queue, because the record
    /// already lies in this one.
    pub(crate) fn push(&self, entry: Entry<T>) -> Result<Option<oneshot::Receiver<()>>, WalError> {
        let mut state = self.state.lock();
        if let Some(refusal) = &state.refusal {
            return Err(refusal.clone());
        }
        let bytes = entry.bytes();
        let start = state.accepted_bytes;
        let end = start + bytes as u64;
        let was_empty = state.entries.is_empty();
        let was_full = state.queued_bytes >= self.pending_bytes_max;
        state.accepted_bytes = end;
        state.queued_bytes += bytes;
        state.entries.push_back(entry);
        let wait = if self.has_room(&state, start, end) {
            None
        } else {
            let (admitted, wait) = oneshot::channel();
            state.admissions.push_back(Admission { start, end, admitted });
            Some(wait)
        };
        // While it waits for its interval the thread only cares for the first record and for a full queue.
        let is_full = state.queued_bytes >= self.pending_bytes_max;
        drop(state);
        if was_empty || (is_full && !was_full) {
            self.work.notify_one();
        }
        Ok(wait)
    }

    /// Fills `group` with what comes next, waiting for it and for the time of the flush; false: there is nothing
    /// more to come.
    pub(crate) fn take_group(&self, group: &mut Group<T>, last_flush: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.entries.is_empty() {
                if state.closing {
                    return false;
                }
                self.work.wait(&mut state);
            } else if let Some(wait) = self.time_to_flush(&state, last_flush) {
                self.work.wait_for(&mut state, wait);
            } else {
                break;
            }
        }
        while let Some(entry) = state.entries.front() {
            if group.bytes > 0 && group.bytes + entry.bytes() > self.pending_bytes_max {
                break;
            }
            let entry = state.entries.pop_front().expect("it was looked at");
            group.push(entry);
        }
        state.queued_bytes -= group.bytes;
        true
    }

    /// Counts a group as decided and admits the appends that now have room.
    pub(crate) fn decide(&self, group_bytes: usize, durable_records: Option<usize>) {
        let mut state = self.state.lock();
        state.decided_bytes += group_bytes as u64;
        match durable_records {
            Some(records) => {
                state.stats.groups += 1;
                state.stats.records += records as u64;
                state.stats.bytes += group_bytes as u64;
            }
            None => state.stats.failed_groups += 1,
        }
        while let Some(admission) = state.admissions.front() {
            if !self.has_room(&state, admission.start, admission.end) {
                break;
            }
            let admission = state.admissions.pop_front().expect("it was looked at");
            // Nobody listens any more if the append was cancelled.
            let _ = admission.admitted.send(());
        }
    }

    /// Nothing more is accepted, for this reason; what waits is still to be taken.
    pub(crate) fn refuse(&self, reason: WalError) {
        let mut state = self.state.lock();
        state.refusal.get_or_insert(reason);
    }

    /// Nothing more is accepted, and the thread ends when what waits is written.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.refusal.get_or_insert(WalError::Closed);
        state.closing = true;
        drop(state);
        self.work.notify_one();
    }

    /// For the end of the thread, whatever its reason: everybody who still waits is let go.
    pub(crate) fn abandon(&self) {
        let mut state = self.state.lock();
        state.refusal.get_or_insert(WalError::Stopped);
        state.admissions.clear();
        let entries = std::mem::take(&mut state.entries);
        drop(state);
        // Outside of the lock, as values may have a `Drop` of their own.
        drop(entries);
    }

    pub(crate) fn durable(&self) -> Lsn {
        *self.committed.borrow()
    }

    pub(crate) fn committed(&self) -> watch::Receiver<Lsn> {
        self.committed.subscribe()
    }

    /// Makes the number readable without waking anybody, so that the writers can be answered first.
    pub(crate) fn set_durable(&self, lsn: Lsn) {
        self.committed.send_if_modified(|durable| {
            *durable = lsn;
            false
        });
    }

    /// Wakes those who wait for commits.
    pub(crate) fn announce_durable(&self) {
        self.committed.send_modify(|_| {});
    }

    pub(crate) fn stats(&self) -> WalStats {
        let state = self.state.lock();
        WalStats {
            pending_bytes: state.accepted_bytes - state.decided_bytes,
            ..state.stats
        }
    }

    /// A record has room if it fits with everything before it, or if nothing is before it.
    fn has_room(&self, state: &State<T>, start: u64, end: u64) -> bool {
        start <= state.decided_bytes || end - state.decided_bytes <= self.pending_bytes_max as u64
    }

    /// How long the flush has to wait; `None`: not at all.
    fn time_to_flush(&self, state: &State<T>, last_flush: Option<Instant>) -> Option<Duration> {
        if state.closing || state.queued_bytes >= self.pending_bytes_max {
            return None;
        }
        let wait = self.flush_interval.saturating_sub(last_flush?.elapsed());
        (!wait.is_zero()).then_some(wait)
    }
}
