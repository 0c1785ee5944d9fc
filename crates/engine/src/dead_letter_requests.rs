//! What becomes of dead letters: they are run once more, or dropped (engine.md 0.12).

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_ingest::{TriggerKey, TriggerProgress};

use crate::Engine;
use crate::dead_letters::{DeadLetter, DeadLetterError, clear_mark};
use crate::effects;
use crate::engine::find_trigger;
use crate::error::EngineError;
use crate::plugin_logs::LogText;
use crate::run_execution::{RunError, RunRequest, attempt};
use crate::run_history::RunRecord;
use crate::worker_session::Session;

/// Which dead letters of a trigger are meant.
#[derive(Debug, Clone, Deserialize)]
pub struct SelectDeadLetters {
    /// The trigger's database.
    pub db: String,
    /// Its name.
    pub trigger_name: String,
    /// The runs whose letters are meant; all where it is absent.
    #[serde(default)]
    pub run_ids: Option<Vec<String>>,
}

/// What a replay has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// Letters that are done.
    pub replayed: usize,
    /// Letters that have failed again and stay; the trigger's log says why.
    pub failed: usize,
}

/// What was dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Letters that are gone.
    pub dropped: usize,
}

impl From<DeadLetterError> for EngineError {
    fn from(error: DeadLetterError) -> Self {
        Self::DeadLetters(error.to_string())
    }
}

impl Engine {
    /// Runs dead letters once more, oldest first, beside what the trigger does otherwise. What a run writes counts once: it is
    /// committed together with the end of its letter.
    pub async fn replay_dead_letters(&self, selection: &SelectDeadLetters) -> Result<Replayed, EngineError> {
        let (key, letters) = self.select(selection)?;
        let session = self
            .session(key)
            .await
            .ok_or_else(|| EngineError::TriggerNotRunning(selection.trigger_name.clone()))?;
        let mut replayed = Replayed::default();
        for letter in letters {
            if replay(&session, letter).await? {
                replayed.replayed += 1;
            } else {
                replayed.failed += 1;
            }
        }
        Ok(replayed)
    }

    /// Drops dead letters for good.
    pub async fn drop_dead_letters(&self, selection: &SelectDeadLetters) -> Result<Dropped, EngineError> {
        let (key, letters) = self.select(selection)?;
        if letters.is_empty() {
            return Ok(Dropped::default());
        }
        let services = self.services();
        let progress = TriggerProgress {
            state: letters
                .iter()
                .map(|letter| clear_mark(&letter.head.run_id))
                .collect(),
            ..TriggerProgress::in_place(key)
        };
        effects::commit(&services.ingest, Vec::new(), progress, 0)
            .await
            .map_err(EngineError::DeadLetters)?;
        for letter in &letters {
            services.dead_letters.settled(key, &letter.head.run_id).await;
        }
        Ok(Dropped {
            dropped: letters.len(),
        })
    }

    fn select(&self, selection: &SelectDeadLetters) -> Result<(TriggerKey, Vec<DeadLetter>), EngineError> {
        let state = self.services().catalog().state();
        if state.database(&selection.db).is_none() {
            return Err(EngineError::DatabaseNotFound(selection.db.clone()));
        }
        let (key, _) = find_trigger(&state, &selection.db, &selection.trigger_name)
            .ok_or_else(|| EngineError::TriggerNotFound(selection.trigger_name.clone()))?;
        let mut letters = self.services().dead_letters.of_trigger(key);
        if let Some(run_ids) = &selection.run_ids {
            let is_known = |run_id: &&String| letters.iter().any(|letter| letter.head.run_id == **run_id);
            if let Some(unknown) = run_ids.iter().find(|run_id| !is_known(run_id)) {
                return Err(EngineError::DeadLetterNotFound(unknown.clone()));
            }
            letters.retain(|letter| run_ids.contains(&letter.head.run_id));
        }
        Ok((key, letters))
    }
}

/// Makes one more attempt at a letter; tells whether it succeeded.
async fn replay(session: &Arc<Session>, letter: DeadLetter) -> Result<bool, EngineError> {
    let dead_letters = &session.services.dead_letters;
    let batch = dead_letters.batch(&letter).await?;
    let run_id = letter.head.run_id.clone();
    let request = RunRequest {
        run_id: run_id.clone(),
        work: letter.head.work.to_work(),
        blob: batch.clone(),
        start_row: LogText::Text(format!("starting execution of dead letter {run_id}").into()),
        depth: letter.head.depth,
        rows: letter.head.rows,
        settles: Some(clear_mark(&run_id)),
    };
    let stats = Arc::clone(&session.stats);
    let mut record = RunRecord::begin(stats, run_id.clone(), request.rows);
    let progress = || TriggerProgress::in_place(session.key);
    match attempt(session, &request, progress, &mut record).await {
        Ok(_) => {
            dead_letters.settled(session.key, &run_id).await;
            Ok(true)
        }
        Err(RunError::Stopped) => Err(EngineError::TriggerNotRunning(
            session.definition.trigger_name.clone(),
        )),
        Err(error) => {
            session
                .log
                .error(format!("error replaying dead letter {run_id}: {}", error.text()));
            if let Some(traceback) = error.traceback() {
                session.log.error(traceback.to_owned());
            }
            dead_letters.failed_again(letter, &batch, error.text()).await?;
            Ok(false)
        }
    }
}
