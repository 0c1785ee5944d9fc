//! Work that has arrived and is not yet begun, and the executors that sleep for want of it.
//!
//! Executors compete for one interpreter lock, so waking many for quick runs costs more than it gains. At most one woken
//! executor is on its way at a time (the *scout*); having arrived, it wakes the next if work is left. The one that went to
//! sleep last is woken first: its memory is still in the cache.

use std::collections::VecDeque;
use std::thread::{self, Thread};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tidemill_worker_proto::{Load, RunId, Work};

/// Something for an executor to do.
pub(crate) enum Job {
    /// Load (or replace) the plugin.
    Load(Box<Load>),
    /// Call the entry point.
    Run(Box<RunJob>),
}

/// A run to be executed.
pub(crate) struct RunJob {
    pub(crate) run: RunId,
    pub(crate) run_id: String,
    pub(crate) work: Work,
    pub(crate) blob: Bytes,
    /// When its frame was read: files edited before that must be seen by it.
    pub(crate) received: Instant,
}

/// Jobs in order of arrival. Taking and adding never wait for the interpreter lock.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Executors that sleep; the last went to sleep last.
    asleep: Vec<Thread>,
    /// A woken executor has not arrived yet.
    scout_under_way: bool,
}

impl State {
    /// The executor to be woken now, if there is work that nobody is on the way to.
    fn next_scout(&mut self) -> Option<Thread> {
        if self.scout_under_way || self.jobs.is_empty() {
            return None;
        }
        let scout = self.asleep.pop()?;
        self.scout_under_way = true;
        Some(scout)
    }
}

/// Whether an executor comes from its sleep, and so is the scout.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It was woken.
    Woken,
    /// It was at work, or found work before it slept.
    Awake,
}

impl Queue {
    /// Adds jobs; `jobs` is empty afterwards.
    pub(crate) fn push_all(&self, jobs: &mut Vec<Job>) {
        let mut state = self.state.lock();
        state.jobs.extend(jobs.drain(..));
        let scout = state.next_scout();
        drop(state);
        if let Some(scout) = scout {
            scout.unpark();
        }
    }

    /// The next job, if there is one.
    pub(crate) fn try_pop(&self, arrival: Arrival) -> Option<Job> {
        let mut state = self.state.lock();
        if arrival == Arrival::Woken {
            state.scout_under_way = false;
        }
        let job = state.jobs.pop_front();
        let scout = state.next_scout();
        drop(state);
        if let Some(scout) = scout {
            scout.unpark();
        }
        job
    }

    /// Sleeps until there is a job; another executor may take it first.
    pub(crate) fn wait(&self) -> Arrival {
        let own = thread::current();
        let mut state = self.state.lock();
        if !state.jobs.is_empty() {
            return Arrival::Awake;
        }
        state.asleep.push(own.clone());
        // Whoever wakes a thread takes it off the list; parking may also end by itself.
        while state.asleep.iter().any(|thread| thread.id() == own.id()) {
            drop(state);
            thread::park();
            state = self.state.lock();
        }
        Arrival::Woken
    }

    /// Takes out a run that has not begun. Returns whether it was there.
    pub(crate) fn remove_run(&self, run: RunId) -> bool {
        let mut state = self.state.lock();
        let jobs_before = state.jobs.len();
        state
            .jobs
            .retain(|job| !matches!(job, Job::Run(waiting) if waiting.run == run));
        state.jobs.len() < jobs_before
    }
}
