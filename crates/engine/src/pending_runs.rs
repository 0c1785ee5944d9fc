//! The runs that a worker has been given and has not finished, and how long each may still take.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use foldhash::fast::RandomState;
use tidemill_worker_proto::{DatabaseWrites, Failure, Outcome, ResponseHead, RunId, StateChange};
use tokio::sync::oneshot;

use crate::request_completion::RequestCompletion;

/// How a run ended.
#[derive(Debug)]
pub(crate) enum RunEnd {
    /// The function returned.
    Returned {
        writes: Vec<DatabaseWrites>,
        state: Vec<StateChange>,
        response: Option<ResponseHead>,
        /// The collected lines, then the values of the state, then the body of the answer.
        blob: Bytes,
    },
    /// It did not.
    Failed(Failure),
    /// Its process ended first; the text says how.
    Lost(String),
}

impl RunEnd {
    /// What the worker says of a run, with the blob of the message.
    pub(crate) fn new(outcome: Outcome, blob: Bytes) -> Self {
        match outcome {
            Outcome::Returned {
                writes,
                state,
                response,
            } => Self::Returned {
                writes,
                state,
                response,
                blob,
            },
            Outcome::Failed(failure) => Self::Failed(failure),
        }
    }
}

/// Who is told how a run ended.
pub(crate) enum Completion {
    /// The task of the trigger.
    Run(oneshot::Sender<RunEnd>),
    /// The client of a request trigger.
    Request(RequestCompletion),
}

impl Completion {
    /// The client of a request trigger, if it is one.
    pub(crate) fn request(&mut self) -> Option<&mut RequestCompletion> {
        match self {
            Self::Request(request) => Some(request),
            Self::Run(_) => None,
        }
    }
}

struct PendingRun {
    completion: Completion,
    depth: u16,
    started: Instant,
    cancelled: bool,
}

/// What the deadlines demand.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Overdue {
    /// Runs that have just passed their deadline.
    pub(crate) cancel: Vec<RunId>,
    /// Whether a run was told to end and did not: its process must go.
    pub(crate) kill: bool,
}

/// The runs of one worker process.
#[derive(Default)]
pub(crate) struct PendingRuns {
    runs: HashMap<u64, PendingRun, RandomState>,
    next_run: u64,
}

impl PendingRuns {
    pub(crate) fn len(&self) -> usize {
        self.runs.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Enters a run. What it writes at once has come through `depth` triggers.
    pub(crate) fn insert(&mut self, completion: Completion, depth: u16, now: Instant) -> RunId {
        let run = self.next_run;
        self.next_run += 1;
        self.runs.insert(
            run,
            PendingRun {
                completion,
                depth,
                started: now,
                cancelled: false,
            },
        );
        RunId(run)
    }

    /// Takes a run out; `None` for one that is not there, whatever the worker says.
    pub(crate) fn remove(&mut self, run: RunId) -> Option<Completion> {
        self.runs.remove(&run.0).map(|pending| pending.completion)
    }

    /// The depth of what a run writes; `None` for one that is not there.
    pub(crate) fn depth(&self, run: RunId) -> Option<u16> {
        Some(self.runs.get(&run.0)?.depth)
    }

    /// The completion of a request that is being answered.
    pub(crate) fn request(&mut self, run: RunId) -> Option<&mut RequestCompletion> {
        self.runs.get_mut(&run.0)?.completion.request()
    }

    /// Marks all runs as cancelled. Returns those that were not.
    pub(crate) fn cancel_all(&mut self) -> Vec<RunId> {
        let running = self.runs.iter_mut().filter(|(_, pending)| !pending.cancelled);
        let cancelled = running.map(|(run, pending)| {
            pending.cancelled = true;
            RunId(*run)
        });
        cancelled.collect()
    }

    /// Takes all runs out.
    pub(crate) fn drain(&mut self) -> Vec<Completion> {
        self.runs.drain().map(|(_, pending)| pending.completion).collect()
    }

    /// Finds the runs that have taken longer than `timeout`; waiting clients get their answer here.
    pub(crate) fn overdue(&mut self, now: Instant, timeout: Duration, grace: Duration) -> Overdue {
        let mut overdue = Overdue::default();
        for (run, pending) in &mut self.runs {
            let age = now.saturating_duration_since(pending.started);
            if age >= timeout + grace {
                overdue.kill |= pending.cancelled;
            }
            if age >= timeout && !pending.cancelled {
                pending.cancelled = true;
                overdue.cancel.push(RunId(*run));
                if let Completion::Request(request) = &mut pending.completion {
                    request.time_out(timeout);
                }
            }
        }
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_cancelled_once_and_its_process_killed_after_the_grace() {
        let mut runs = PendingRuns::default();
        let start = Instant::now();
        let seconds = Duration::from_secs;
        let (sender, _receiver) = oneshot::channel();
        let run = runs.insert(Completion::Run(sender), 1, start);
        let mut at = |second| runs.overdue(start + seconds(second), seconds(10), seconds(2));
        assert_eq!(at(9), Overdue::default());
        assert_eq!(
            at(10),
            Overdue {
                cancel: vec![run],
                kill: false
            }
        );
        assert_eq!(at(11), Overdue::default());
        assert_eq!(
            at(12),
            Overdue {
                cancel: vec![],
                kill: true
            }
        );
        assert!(runs.remove(run).is_some());
        assert!(runs.remove(run).is_none());
        assert!(runs.is_empty());
    }

    #[test]
    fn a_late_look_cancels_before_it_kills() {
        let mut runs = PendingRuns::default();
        let start = Instant::now();
        let (sender, _receiver) = oneshot::channel();
        let run = runs.insert(Completion::Run(sender), 1, start);
        let late = start + Duration::from_secs(100);
        let (timeout, grace) = (Duration::from_secs(10), Duration::from_secs(2));
        assert_eq!(
            runs.overdue(late, timeout, grace),
            Overdue {
                cancel: vec![run],
                kill: false
            }
        );
        assert_eq!(
            runs.overdue(late, timeout, grace),
            Overdue {
                cancel: vec![],
                kill: true
            }
        );
    }
}
