//! What is counted of one trigger, from the start of the server on: by whoever runs it, without a lock that is held while
//! anything waits. It outlives the trigger's processes, and its being stopped and started.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tidemill_catalog::DatabaseId;
use tidemill_ingest::TriggerKey;
use tidemill_metrics::DurationHistogram;

use crate::allowance::Allowance;
use crate::kept_rows::{KeptDatabases, KeptRows};
use crate::plugin_logs::now_ns;
use crate::run_history::{KEPT_FAILURES, KEPT_SUCCESSES, RunRow, RunStatus};
use crate::worker_session::{Session, WorkerState};

/// Something that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A trigger as it runs: one session, or several of a request trigger with several processes.
struct Followed {
    session: Weak<Session>,
    seen: Arc<Mutex<Seen>>,
}

/// What a worker of a trigger was seen doing last, and since when.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) state: WorkerState,
    /// Nanoseconds since the epoch.
    pub(crate) since_ns: i64,
}

/// An error and when it happened, in nanoseconds since the epoch.
#[derive(Debug, Clone)]
pub(crate) struct LastError {
    pub(crate) time_ns: i64,
    pub(crate) text: Arc<str>,
}

/// The counts of one trigger.
pub(crate) struct TriggerStats {
    trigger_name: Arc<str>,
    history: Arc<KeptRows<RunRow>>,
    kept_successes: Mutex<Allowance>,
    kept_failures: Mutex<Allowance>,
    runs: [Count; RunStatus::ALL.len()],
    pub(crate) durations: DurationHistogram,
    pub(crate) failed_attempts: Count,
    pub(crate) timed_out_attempts: Count,
    pub(crate) rows_in: Count,
    pub(crate) lines_written: Count,
    /// Runs of which there is no row in the history.
    pub(crate) unrecorded_runs: Count,
    /// Requests that were refused because the queue was full or there was no process.
    pub(crate) refused_requests: Count,
    /// Instants of a schedule that passed without a run.
    pub(crate) skipped_runs: Count,
    /// Rows of runs that were given up.
    pub(crate) skipped_rows: Count,
    /// Records of the log that were removed before the trigger had read them.
    pub(crate) skipped_records: Count,
    /// When the first of these was missed in nanoseconds since the epoch, or the least number.
    skipped_since_ns: AtomicI64,
    /// Processes that were started in the place of others.
    pub(crate) restarts: Count,
    /// Processes that were killed by the server.
    pub(crate) processes_killed: Count,
    /// The end of the last run in nanoseconds since the epoch, or the least number.
    last_run_ns: AtomicI64,
    /// Its place in [`RunStatus::ALL`].
    last_status: AtomicU64,
    last_error: Mutex<Option<LastError>>,
    /// What was read of the log, 0 if nothing is known.
    position: AtomicU64,
    time_limit_ns: AtomicU64,
    /// As it was started last.
    followed: Mutex<Vec<Followed>>,
}

impl TriggerStats {
    fn new(trigger_name: Arc<str>, history: Arc<KeptRows<RunRow>>) -> Self {
        let now = Instant::now();
        Self {
            trigger_name,
            history,
            kept_successes: Mutex::new(Allowance::new(KEPT_SUCCESSES, now)),
            kept_failures: Mutex::new(Allowance::new(KEPT_FAILURES, now)),
            runs: Default::default(),
            durations: DurationHistogram::default(),
            failed_attempts: Count::default(),
            timed_out_attempts: Count::default(),
            rows_in: Count::default(),
            lines_written: Count::default(),
            unrecorded_runs: Count::default(),
            refused_requests: Count::default(),
            skipped_runs: Count::default(),
            skipped_rows: Count::default(),
            skipped_records: Count::default(),
            skipped_since_ns: AtomicI64::new(i64::MIN),
            restarts: Count::default(),
            processes_killed: Count::default(),
            last_run_ns: AtomicI64::new(i64::MIN),
            last_status: AtomicU64::new(0),
            last_error: Mutex::default(),
            position: AtomicU64::new(0),
            time_limit_ns: AtomicU64::new(u64::MAX),
            followed: Mutex::default(),
        }
    }

    pub(crate) fn trigger_name(&self) -> Arc<str> {
        Arc::clone(&self.trigger_name)
    }

    /// Follows a trigger that is started, until it has stopped.
    pub(crate) fn follow<'a>(self: &Arc<Self>, sessions: impl IntoIterator<Item = &'a Arc<Session>>) {
        let followed = sessions.into_iter().map(|session| self.follow_session(session));
        *self.followed.lock() = followed.collect();
    }

    fn follow_session(self: &Arc<Self>, session: &Arc<Session>) -> Followed {
        let time_limit_ns = u64::try_from(session.run_timeout().as_nanos()).unwrap_or(u64::MAX);
        self.time_limit_ns.store(time_limit_ns, Ordering::Relaxed);
        let mut states = session.states();
        let seen = Arc::new(Mutex::new(Seen {
            state: states.borrow_and_update().clone(),
            since_ns: now_ns(),
        }));
        let (stats, last_seen) = (Arc::clone(self), Arc::clone(&seen));
        tokio::spawn(async move {
            while last_seen.lock().state != WorkerState::Stopped && states.changed().await.is_ok() {
                let state = states.borrow_and_update().clone();
                if let WorkerState::Down { reason, .. } = &state {
                    stats.error(reason.as_str().into());
                }
                *last_seen.lock() = Seen {
                    state,
                    since_ns: now_ns(),
                };
            }
        });
        Followed {
            session: Arc::downgrade(session),
            seen,
        }
    }

    /// How long one attempt may take.
    pub(crate) fn time_limit(&self) -> Duration {
        Duration::from_nanos(self.time_limit_ns.load(Ordering::Relaxed))
    }

    /// The sessions of the trigger as it runs; none if it does not.
    pub(crate) fn sessions(&self) -> Vec<Arc<Session>> {
        let followed = self.followed.lock();
        followed
            .iter()
            .filter_map(|followed| followed.session.upgrade())
            .collect()
    }

    /// What its workers were seen doing, as it was started last.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let followed = self.followed.lock();
        followed
            .iter()
            .map(|followed| followed.seen.lock().clone())
            .collect()
    }

    pub(crate) fn runs(&self, status: RunStatus) -> u64 {
        self.runs[status as usize].get()
    }

    /// The end of the last run, in nanoseconds since the epoch, and how it ended.
    pub(crate) fn last_run(&self) -> Option<(i64, RunStatus)> {
        let time_ns = self.last_run_ns.load(Ordering::Acquire);
        let place = usize::try_from(self.last_status.load(Ordering::Relaxed)).ok()?;
        (time_ns != i64::MIN).then_some((time_ns, *RunStatus::ALL.get(place)?))
    }

    pub(crate) fn last_error(&self) -> Option<LastError> {
        self.last_error.lock().clone()
    }

    /// How far the log was read, as far as is known.
    pub(crate) fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    /// The trigger has read the log so far.
    pub(crate) fn set_position(&self, through: u64) {
        self.position.fetch_max(through, Ordering::Relaxed);
    }

    /// The trigger goes on without records that it has not read.
    pub(crate) fn records_skipped(&self, records: u64, text: Arc<str>) {
        self.skipped_records.add(records);
        let unset = i64::MIN;
        // Only the first counts.
        let _ = self
            .skipped_since_ns
            .compare_exchange(unset, now_ns(), Ordering::Relaxed, Ordering::Relaxed);
        self.error(text);
    }

    /// Since when records were skipped, in nanoseconds since the epoch, if they were.
    pub(crate) fn skipped_since_ns(&self) -> Option<i64> {
        let since_ns = self.skipped_since_ns.load(Ordering::Relaxed);
        (since_ns != i64::MIN).then_some(since_ns)
    }

    pub(crate) fn attempt_failed(&self, status: RunStatus, text: Arc<str>) {
        self.failed_attempts.add(1);
        if status == RunStatus::TimedOut {
            self.timed_out_attempts.add(1);
        }
        self.error(text);
    }

    fn error(&self, text: Arc<str>) {
        let time_ns = now_ns();
        *self.last_error.lock() = Some(LastError { time_ns, text });
    }

    /// Counts a run; `row` is asked for if it becomes part of the history.
    pub(crate) fn run_ended(
        &self,
        status: RunStatus,
        duration: Duration,
        rows_in: u64,
        lines_written: u64,
        row: impl FnOnce() -> RunRow,
    ) {
        self.runs[status as usize].add(1);
        self.durations.observe(duration);
        self.rows_in.add(rows_in);
        self.lines_written.add(lines_written);
        self.last_status.store(status as u64, Ordering::Relaxed);
        self.last_run_ns.store(now_ns(), Ordering::Release);
        let share = if status == RunStatus::Ok {
            &self.kept_successes
        } else {
            &self.kept_failures
        };
        let is_kept = share.lock().take(1, Instant::now()).is_some() && self.history.push(row()).is_ok();
        if !is_kept {
            self.unrecorded_runs.add(1);
        }
    }
}

/// The counts of all triggers.
#[derive(Default)]
pub(crate) struct TriggerBoard {
    triggers: RwLock<HashMap<TriggerKey, Arc<TriggerStats>>>,
}

impl TriggerBoard {
    /// The counts of a trigger, which begin with the first call.
    pub(crate) fn of_trigger(
        &self,
        key: TriggerKey,
        trigger_name: &str,
        runs: &KeptDatabases<RunRow>,
    ) -> Arc<TriggerStats> {
        if let Some(stats) = self.triggers.read().get(&key) {
            return Arc::clone(stats);
        }
        let history = || runs.of_database(key.database);
        let new = || Arc::new(TriggerStats::new(trigger_name.into(), history()));
        Arc::clone(self.triggers.write().entry(key).or_insert_with(new))
    }

    /// Forgets a trigger that was deleted.
    pub(crate) fn forget(&self, key: TriggerKey) {
        self.triggers.write().remove(&key);
    }

    /// Forgets the triggers of all databases but those that `keep` accepts.
    pub(crate) fn retain(&self, keep: impl Fn(DatabaseId) -> bool) {
        self.triggers.write().retain(|key, _| keep(key.database));
    }
}
