//! One attempt of a data-write or scheduled run: handed over, awaited, committed (engine.md 3.1, 0.11).

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidemill_ingest::{StateChange, TriggerProgress};
use tidemill_triggers::Position;
use tidemill_worker_proto::{Failure, LogLevel, Work};
use tokio::sync::oneshot;

use crate::effects::{self, RunEffects};
use crate::pending_runs::{Completion, RunEnd};
use crate::plugin_logs::LogText;
use crate::plugin_state;
use crate::run_history::RunRecord;
use crate::worker_session::{Session, Stopped, Submission};

/// How long to wait before a run is offered again to a worker that is about to end.
const ENDING_WORKER_DELAY: Duration = Duration::from_millis(5);

/// What is to be run; the same for every attempt.
#[derive(Clone)]
pub(crate) struct RunRequest {
    /// Stable over attempts.
    pub(crate) run_id: String,
    pub(crate) work: Work,
    pub(crate) blob: Bytes,
    /// The log row in front of every attempt.
    pub(crate) start_row: LogText,
    /// Through how many triggers what the run writes has come.
    pub(crate) depth: u16,
    /// Rows that it is called with.
    pub(crate) rows: u64,
    /// What is to be recorded of the run whether it writes or not.
    pub(crate) settles: Option<StateChange>,
}

/// Why an attempt came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunError {
    /// The plugin failed.
    Plugin(Failure),
    /// Its process ended, or was ended for taking too long.
    Lost(String),
    /// What it wrote was refused.
    WriteBack(String),
    /// The trigger was stopped; this is nobody's failure.
    Stopped,
}

impl RunError {
    /// The failure in one line.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Plugin(failure) => &failure.message,
            Self::Lost(text) | Self::WriteBack(text) => text,
            Self::Stopped => "the trigger was stopped",
        }
    }

    /// The whole Python traceback, where there is one.
    pub(crate) fn traceback(&self) -> Option<&str> {
        match self {
            Self::Plugin(failure) => failure.traceback.as_deref(),
            _ => None,
        }
    }
}

impl From<Stopped> for RunError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// What a successful attempt has committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Committed {
    /// Its writes and the progress of the trigger, which stands there now.
    WithProgress(Position),
    /// Nothing: it wrote nothing, and its progress is still to be recorded.
    Nothing,
}

/// Makes one attempt. `progress` is asked for when the writes are about to be committed.
pub(crate) async fn attempt(
    session: &Arc<Session>,
    request: &RunRequest,
    progress: impl FnOnce() -> TriggerProgress,
    record: &mut RunRecord,
) -> Result<Committed, RunError> {
    let attempted = make_attempt(session, request, progress, record).await;
    match &attempted {
        Ok((_, lines)) => record.succeed(*lines),
        Err(error) => record.fail(error),
    }
    attempted.map(|(committed, _)| committed)
}

/// What the attempt has committed, and how many lines.
async fn make_attempt(
    session: &Arc<Session>,
    request: &RunRequest,
    progress: impl FnOnce() -> TriggerProgress,
    record: &mut RunRecord,
) -> Result<(Committed, usize), RunError> {
    let mut is_announced = false;
    let (started, end) = loop {
        session.ready().await?;
        let started = Instant::now();
        if !std::mem::replace(&mut is_announced, true) {
            session.log.push(LogLevel::Info, request.start_row.clone());
            record.hand_over();
        }
        let (waiting, end) = oneshot::channel();
        let RunRequest {
            run_id, work, blob, ..
        } = request.clone();
        let submission = Submission {
            run_id,
            work,
            blob,
            depth: request.depth,
            completion: Completion::Run(waiting),
        };
        if session.submit(submission).is_ok() {
            break (started, end.await.map_err(|_| RunError::Stopped)?);
        }
        // It is being replaced, which its state says already, or it is at its end and its state does not say so yet: it
        // has closed its connection, and that the process is gone too may take seconds.
        tokio::time::sleep(ENDING_WORKER_DELAY).await;
    };
    let (writes, state, blob) = match end {
        RunEnd::Returned {
            writes, state, blob, ..
        } => (writes, state, blob),
        RunEnd::Failed(failure) => return Err(RunError::Plugin(failure)),
        RunEnd::Lost(reason) => return Err(RunError::Lost(reason)),
    };
    plugin_state::check_keys(state.iter().map(|change| &change.key)).map_err(RunError::WriteBack)?;
    let effects = RunEffects::split(writes, state, blob, &session.definition.database_name)
        .ok_or_else(|| RunError::Lost("the worker sent lengths that do not fit".to_owned()))?;
    let committed = if effects.is_empty() && request.settles.is_none() {
        (Committed::Nothing, 0)
    } else {
        let mut progress = progress();
        let cursor = progress.cursor.clone();
        progress.state.extend(effects.state);
        progress.state.extend(request.settles.clone());
        let lines = effects::commit_when_there_is_room(
            &session.services.ingest,
            effects.lines,
            progress,
            request.depth,
            session.run_timeout(),
        );
        let lines = lines.await.map_err(RunError::WriteBack)?;
        (Committed::WithProgress(cursor), lines)
    };
    session
        .log
        .push(LogLevel::Info, LogText::Finished(started.elapsed()));
    Ok(committed)
}
