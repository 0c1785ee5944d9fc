//! Scheduled triggers: `every:` and `cron:` (engine.md 0.15, 1.3, 1.4, 5.4). What is run and when, the
//! [`Scheduler`] decides; here it is done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tidemill_ingest::TriggerProgress;
use tidemill_triggers::{CatchUp, Schedule, Scheduler, Step};
use tidemill_worker_proto::Work;
use tokio_util::sync::CancellationToken;

use crate::effects;
use crate::error_behavior::{RunOutcome, run_to_the_end};
use crate::plugin_logs::LogText;
use crate::run_execution::{Committed, RunRequest};
use crate::trigger_task::RunnerExit;
use crate::worker_session::Session;

/// Skipped instants are reported at most this often: a plugin that is always too slow has better use for its log.
const REPORT_INTERVAL: Duration = Duration::from_mins(1);

/// Where the instants of a schedule begin when its trigger starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScheduleStart {
    /// After the last one that was run: the server was down meanwhile, or the trigger was changed.
    Continued,
    /// Now: the trigger is new, was disabled, or has got another schedule.
    Fresh,
}

/// Runs the plugin at the instants of its schedule until `stop`, until there is no further instant or until its
/// database is gone.
pub(crate) async fn run(
    session: &Arc<Session>,
    start: ScheduleStart,
    stop: &CancellationToken,
) -> RunnerExit {
    let Some(schedule) = Schedule::new(&session.definition.spec) else {
        return RunnerExit::Ended;
    };
    let runner = ScheduleRunner::new(session, schedule, start).await;
    let clock = &session.services.clock;
    let mut in_flight = FuturesUnordered::new();
    let mut skipped = SkippedInstants::default();

    let exit = loop {
        let step = runner.scheduler.lock().step(clock.now());
        runner.report(&mut skipped);
        let until = match step {
            Step::Run(instant) => {
                if !database_exists(session) {
                    break RunnerExit::Ended;
                }
                in_flight.push(runner.run_one(instant));
                continue;
            }
            Step::Ended if in_flight.is_empty() => break RunnerExit::Ended,
            Step::Ended | Step::WaitForRun => None,
            Step::WaitUntil(instant) => Some(instant),
        };
        let until_due = async {
            match until {
                Some(instant) => clock.sleep_until(instant).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => break RunnerExit::Stopped,
            Some(outcome) = in_flight.next(), if !in_flight.is_empty() => match outcome {
                RunOutcome::Disable(reason) => break RunnerExit::Disable(reason),
                RunOutcome::Stopped => break RunnerExit::Stopped,
                RunOutcome::Succeeded(_) | RunOutcome::GivenUp | RunOutcome::SetAside(_) => {}
            },
            () = until_due => {}
        }
    };

    let drained = async { while in_flight.next().await.is_some() {} };
    let _ = tokio::time::timeout(session.services.config.stop_grace, drained).await;
    exit
}

struct ScheduleRunner<'a> {
    session: &'a Arc<Session>,
    catch_up: CatchUp,
    scheduler: Mutex<Scheduler>,
}

impl<'a> ScheduleRunner<'a> {
    async fn new(session: &'a Arc<Session>, schedule: Schedule, start: ScheduleStart) -> Self {
        let catch_up = session.catch_up();
        let ingest = &session.services.ingest;
        let continued = if start == ScheduleStart::Continued && catch_up != CatchUp::None {
            // What ran of the trigger before it was changed may have left records that are still on their way into the log.
            ingest.settled().await;
            let last = ingest.last_scheduled(session.key);
            last.map(DateTime::from_timestamp_nanos)
        } else {
            None
        };
        let now = session.services.clock.now();
        let scheduler = Scheduler::new(
            schedule,
            catch_up,
            session.concurrency(),
            continued.unwrap_or(now),
        );
        let runner = Self {
            session,
            catch_up,
            scheduler: Mutex::new(scheduler),
        };
        if continued.is_none() {
            // So that what passes before the first run, while the server is down, counts as missed, and what passed while the
            // trigger was disabled does not.
            runner.record(now).await;
        }
        runner
    }

    /// One run with all its attempts.
    async fn run_one(&self, instant: DateTime<Utc>) -> RunOutcome {
        let time_ns = nanoseconds(instant);
        let key = self.session.key;
        let request = RunRequest {
            run_id: format!("s-{}-{}-{time_ns}", key.database.0, key.trigger_id),
            work: Work::Schedule { time_ns },
            blob: Bytes::new(),
            start_row: LogText::Scheduled(time_ns),
            depth: 1,
            rows: 0,
            settles: None,
        };
        let progress = || self.progress(self.scheduler.lock().done_through(instant));
        let outcome = run_to_the_end(self.session, &request, progress).await;
        // A run that wrote, or is a dead letter, has recorded its instant with that.
        if matches!(
            outcome,
            RunOutcome::Succeeded(Committed::Nothing) | RunOutcome::GivenUp
        ) {
            let done_through = self.scheduler.lock().done_through(instant);
            self.record(done_through).await;
        }
        let now = self.session.services.clock.now();
        self.scheduler.lock().run_ended(instant, now);
        outcome
    }

    /// Puts the moment through which all is done into the log, without waiting until it is durable. Without anything to
    /// catch up on, nobody will ask for it.
    async fn record(&self, done_through: DateTime<Utc>) {
        if self.catch_up == CatchUp::None {
            return;
        }
        let progress = self.progress(done_through);
        if let Err(reason) = effects::commit(&self.session.services.ingest, Vec::new(), progress, 1).await {
            tracing::warn!(
                trigger = self.session.definition.trigger_name,
                reason,
                "could not record the instant of a scheduled run"
            );
        }
    }

    fn progress(&self, done_through: DateTime<Utc>) -> TriggerProgress {
        TriggerProgress {
            scheduled_ns: Some(nanoseconds(done_through)),
            ..self.session.progress_without_position()
        }
    }

    fn report(&self, skipped: &mut SkippedInstants) {
        let mut scheduler = self.scheduler.lock();
        if let Some(by) = scheduler.take_set_back() {
            let by = humantime::format_duration(Duration::from_secs(by.as_secs()));
            self.session.log.warn(format!(
                "the clock was set back by {by}; instants of this time come again"
            ));
        }
        skipped.add(self.session, scheduler.take_skipped());
    }
}

/// Counts instants that were not run, and reports them in the trigger's log.
#[derive(Default)]
struct SkippedInstants {
    unreported: u64,
    reported: Option<Instant>,
}

impl SkippedInstants {
    fn add(&mut self, session: &Session, count: u64) {
        session.stats.skipped_runs.add(count);
        self.unreported += count;
        if self.unreported == 0 || self.reported.is_some_and(|at| at.elapsed() < REPORT_INTERVAL) {
            return;
        }
        let count = std::mem::take(&mut self.unreported);
        self.reported = Some(Instant::now());
        session
            .log
            .warn(format!("{count} scheduled instants have passed and are skipped"));
    }
}

fn nanoseconds(moment: DateTime<Utc>) -> i64 {
    moment.timestamp_nanos_opt().unwrap_or(i64::MAX)
}

fn database_exists(session: &Session) -> bool {
    let state = session.services.catalog().state();
    state
        .database_by_id(session.key.database)
        .is_some_and(|database| database.deleted.is_none())
}
