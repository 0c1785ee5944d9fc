//! What a failed data-write or scheduled run leads to: its log rows and what becomes of the trigger (engine.md 5.6, 0.12,
//! 0.13).

use std::num::NonZeroU32;
use std::sync::Arc;

use tidemill_ingest::TriggerProgress;
use tidemill_triggers::{Backoff, ErrorBehavior, PluginType, Position, RetryPolicy};

use crate::dead_letters::{FailedRun, set_mark};
use crate::effects;
use crate::plugin_logs::now_ns;
use crate::run_execution::{Committed, RunError, RunRequest, attempt};
use crate::run_history::RunRecord;
use crate::worker_session::Session;

/// Longest reason that is kept with a dead letter, in bytes.
const ERROR_BYTES_MAX: usize = 4096;

/// What became of a run after all its attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunOutcome {
    /// It succeeded.
    Succeeded(Committed),
    /// It failed and is not tried again; the trigger goes on.
    GivenUp,
    /// It failed so often that it is a dead letter now; the trigger goes on, and its position is on record.
    SetAside(Position),
    /// It failed and the trigger must stop, for this reason.
    Disable(String),
    /// The trigger was stopped meanwhile.
    Stopped,
}

/// Runs until success or until the error behaviour of the trigger says that it is over.
pub(crate) async fn run_to_the_end(
    session: &Arc<Session>,
    request: &RunRequest,
    progress: impl Fn() -> TriggerProgress,
) -> RunOutcome {
    let stats = Arc::clone(&session.stats);
    let mut record = RunRecord::begin(stats, request.run_id.clone(), request.rows);
    let retry = session.services.config.retry;
    let max_attempts = session.definition.settings.max_attempts;
    let policy = RetryPolicy {
        attempts_max: max_attempts.map(NonZeroU32::get).or(retry.attempts_max),
        ..retry
    };
    let mut backoff = Backoff::new(policy, seed(&request.run_id));
    loop {
        let error = match attempt(session, request, &progress, &mut record).await {
            Ok(committed) => return RunOutcome::Succeeded(committed),
            Err(RunError::Stopped) => return RunOutcome::Stopped,
            Err(error) => error,
        };
        let definition = &session.definition;
        let (trigger, database) = (&definition.trigger_name, &definition.database_name);
        let text = error.text();
        match definition.settings.error_behavior {
            ErrorBehavior::Log => {
                log_failure(session, &error);
                session.stats.skipped_rows.add(request.rows);
                return RunOutcome::GivenUp;
            }
            ErrorBehavior::Disable => {
                log_failure(session, &error);
                tracing::warn!(trigger, database, error = text, "disabling trigger");
                return RunOutcome::Disable(text.to_owned());
            }
            ErrorBehavior::Retry => {
                let Some(delay) = backoff.failed() else {
                    log_failure(session, &error);
                    if let Some(position) =
                        set_aside(session, request, backoff.failures(), text, &progress).await
                    {
                        return RunOutcome::SetAside(position);
                    }
                    // The run stays the trigger's next one until it succeeds or there is room for it.
                    tokio::time::sleep(policy.delay_max).await;
                    continue;
                };
                let row = format!("{}, will retry", executing_row(session, &error));
                tracing::info!(trigger, database, attempts = backoff.failures(), ?delay, "{row}");
                session.log.warn(row);
                tokio::time::sleep(delay).await;
            }
        }
    }
}

/// Makes a dead letter of a run and records that the trigger has passed over it. Gives the position on record, or `None` if
/// that was not possible; the log says why.
async fn set_aside(
    session: &Session,
    request: &RunRequest,
    attempts: u32,
    error: &str,
    progress: impl Fn() -> TriggerProgress,
) -> Option<Position> {
    let run = FailedRun {
        run_id: &request.run_id,
        work: &request.work,
        blob: &request.blob,
        rows: request.rows,
        depth: request.depth,
        attempts,
        error: &error[..error.floor_char_boundary(ERROR_BYTES_MAX)],
        time_ns: now_ns(),
    };
    let dead_letters = &session.services.dead_letters;
    let recorded = async {
        let stored = dead_letters.store(session.key, &run).await;
        let letter = stored.map_err(|error| error.to_string())?;
        let mut progress = progress();
        let position = progress.cursor.clone();
        progress.state.push(set_mark(&request.run_id));
        effects::commit(&session.services.ingest, Vec::new(), progress, 0).await?;
        dead_letters.list(letter);
        Ok(position)
    };
    let position: Result<Position, String> = recorded.await;
    let position = match position {
        Ok(position) => position,
        Err(reason) => {
            let row = format!("the batch stays with the trigger, which will try it again: {reason}");
            session.log.error(row);
            return None;
        }
    };
    session.log.error(format!(
        "gave up after {attempts} attempts: the batch is dead letter {} in system.processing_engine_dead_letters",
        request.run_id
    ));
    Some(position)
}

/// The rows of engine.md 5.6, and the traceback after them.
fn log_failure(session: &Session, error: &RunError) {
    let scheduled = session.definition.spec.plugin_type() == PluginType::Schedule;
    let from_write_back = matches!(error, RunError::WriteBack(_));
    if !scheduled || !from_write_back {
        session.log.error(executing_row(session, error));
    }
    if scheduled {
        let run_async = if session.definition.settings.run_async {
            "async "
        } else {
            ""
        };
        session.log.error(format!(
            "error running {run_async}scheduled plugin: {}",
            error.text()
        ));
    }
    if let Some(traceback) = error.traceback() {
        session.log.error(traceback.to_owned());
    }
}

fn executing_row(session: &Session, error: &RunError) -> String {
    let kind = match session.definition.spec.plugin_type() {
        PluginType::WalRows => "wal",
        PluginType::Schedule => "schedule",
        PluginType::Request => "request",
    };
    let step = if matches!(error, RunError::WriteBack(_)) {
        "running"
    } else {
        "executing"
    };
    format!("error {step} {kind} plugin: {}", error.text())
}

/// Any number that differs between runs: their retries shall not fall together.
fn seed(run_id: &str) -> u64 {
    run_id.bytes().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}
