//! Scheduled triggers: `every:` and `cron:` (engine.md 0.15, 1.3, 1.4, 5.4).

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tidemill_ingest::TriggerProgress;
use tidemill_triggers::Schedule;
use tidemill_worker_proto::Work;
use tokio_util::sync::CancellationToken;

use crate::error_behavior::{RunOutcome, run_to_the_end};
use crate::plugin_logs::LogText;
use crate::run_execution::RunRequest;
use crate::trigger_task::RunnerExit;
use crate::worker_session::Session;

/// The wall clock is looked at this often, since it may be set while a timer runs.
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// Skipped instants are reported at most this often: a plugin that is always too slow has better use for its log.
const REPORT_INTERVAL: Duration = Duration::from_mins(1);

/// Runs the plugin at the instants of its schedule until `stop`, until there is no further instant or until its
/// database is gone.
pub(crate) async fn run(session: &Arc<Session>, stop: &CancellationToken) -> RunnerExit {
    let Some(schedule) = Schedule::new(&session.definition.spec) else {
        return RunnerExit::Ended;
    };
    let concurrency = session.concurrency();
    let mut in_flight = FuturesUnordered::new();
    let mut skipped = SkippedInstants::default();
    let mut due = schedule.first_after(Utc::now());

    let exit = loop {
        let Some(at) = due else {
            if in_flight.is_empty() {
                break RunnerExit::Ended;
            }
            tokio::select! {
                () = stop.cancelled() => break RunnerExit::Stopped,
                Some(outcome) = in_flight.next() => match outcome {
                    RunOutcome::Disable(reason) => break RunnerExit::Disable(reason),
                    _ => continue,
                }
            }
        };
        let all_busy = in_flight.len() >= concurrency;
        tokio::select! {
            () = stop.cancelled() => break RunnerExit::Stopped,
            Some(outcome) = in_flight.next(), if !in_flight.is_empty() => {
                if let RunOutcome::Disable(reason) = outcome {
                    break RunnerExit::Disable(reason);
                }
                if all_busy {
                    due = skip_what_passed_meanwhile(session, &schedule, at, &mut skipped);
                }
            }
            () = sleep_until(at), if !all_busy => {
                if !database_exists(session) {
                    break RunnerExit::Ended;
                }
                let scheduled = latest_that_is_due(session, &schedule, at, &mut skipped);
                in_flight.push(run_one(session, scheduled));
                due = schedule.next_after(scheduled, scheduled).map(|next| next.at);
            }
        }
    };

    let drained = async { while in_flight.next().await.is_some() {} };
    let _ = tokio::time::timeout(session.services.config.stop_grace, drained).await;
    exit
}

/// The next instant to run at, where `due` may have come while every permitted run was in flight: such instants are not
/// made up for.
fn skip_what_passed_meanwhile(
    session: &Session,
    schedule: &Schedule,
    due: DateTime<Utc>,
    skipped: &mut SkippedInstants,
) -> Option<DateTime<Utc>> {
    let now = Utc::now();
    if due > now {
        return Some(due);
    }
    let next = schedule.next_after(due, now)?;
    skipped.add(session, next.skipped + 1);
    Some(next.at)
}

/// The instant to run for when the timer for `due` has fired: `due` itself, unless the timer came so late that others
/// have passed too. Then only the latest one is run.
fn latest_that_is_due(
    session: &Session,
    schedule: &Schedule,
    due: DateTime<Utc>,
    skipped: &mut SkippedInstants,
) -> DateTime<Utc> {
    let now = Utc::now();
    let passed = schedule.next_after(due, now).map_or(0, |next| next.skipped);
    if passed == 0 {
        return due;
    }
    skipped.add(session, passed);
    schedule.last_until(now).map_or(due, |latest| latest.max(due))
}

/// Counts instants that were not run, and reports them in the trigger's log.
#[derive(Default)]
struct SkippedInstants {
    unreported: u64,
    reported: Option<Instant>,
}

impl SkippedInstants {
    fn add(&mut self, session: &Session, count: u64) {
        self.unreported += count;
        if self.reported.is_some_and(|at| at.elapsed() < REPORT_INTERVAL) {
            return;
        }
        let count = std::mem::take(&mut self.unreported);
        self.reported = Some(Instant::now());
        session
            .log
            .warn(format!("{count} scheduled instants have passed and are skipped"));
    }
}

async fn run_one(session: &Arc<Session>, scheduled: DateTime<Utc>) -> RunOutcome {
    let time_ns = scheduled.timestamp_nanos_opt().unwrap_or(i64::MAX);
    let key = session.key;
    let request = RunRequest {
        run_id: format!("s-{}-{}-{time_ns}", key.database.0, key.trigger_id),
        work: Work::Schedule { time_ns },
        blob: Bytes::new(),
        start_row: LogText::Scheduled(time_ns),
        depth: 1,
        rows: 0,
        settles: None,
    };
    let progress = || TriggerProgress {
        scheduled_ns: Some(time_ns),
        ..session.progress_without_position()
    };
    run_to_the_end(session, &request, progress).await
}

fn database_exists(session: &Session) -> bool {
    let state = session.services.catalog().state();
    state
        .database_by_id(session.key.database)
        .is_some_and(|database| database.deleted.is_none())
}

/// Sleeps until the wall clock shows `at`.
async fn sleep_until(at: DateTime<Utc>) {
    loop {
        let Ok(remaining) = (at - Utc::now()).to_std() else {
            return;
        };
        if remaining.is_zero() {
            return;
        }
        tokio::time::sleep(remaining.min(CLOCK_CHECK_INTERVAL)).await;
    }
}
