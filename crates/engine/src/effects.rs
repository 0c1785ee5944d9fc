//! What a run leaves behind: the lines it collected, committed together with the progress of its trigger
//! (engine.md 0.11, 0.26, 3.3).

use std::time::Duration;

use bytes::Bytes;
use tidemill_catalog::CatalogError;
use tidemill_ingest::{DatabaseLines, Ingest, RunCommit, StateChange, TriggerProgress, WriteError};
use tidemill_worker_proto::DatabaseWrites;
use tokio::time::Instant;

use crate::plugin_logs::now_ns;

/// How long to wait before a commit is tried again for which there was no room.
const ROOM_RETRY_DELAY: Duration = Duration::from_secs(1);

/// What a finished run leaves behind.
#[derive(Debug)]
pub(crate) struct RunEffects {
    pub(crate) lines: Vec<DatabaseLines>,
    pub(crate) state: Vec<StateChange>,
    /// The body of an answer.
    pub(crate) body: Bytes,
}

impl RunEffects {
    /// Cuts the blob of a finished run: the collected lines, the values of the state, and what follows them. `None` if the
    /// lengths do not fit the blob.
    pub(crate) fn split(
        writes: Vec<DatabaseWrites>,
        state: Vec<tidemill_worker_proto::StateChange>,
        mut blob: Bytes,
        default_database: &str,
    ) -> Option<Self> {
        let mut take = |bytes: u64| {
            let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= blob.len())?;
            Some(blob.split_to(bytes))
        };
        let mut lines = Vec::with_capacity(writes.len());
        for write in writes {
            lines.push(DatabaseLines {
                database: write.database.unwrap_or_else(|| default_database.to_owned()),
                lines: take(write.bytes)?,
            });
        }
        let mut changes = Vec::with_capacity(state.len());
        for change in state {
            let value = match change.value_bytes {
                Some(bytes) => Some(take(bytes)?),
                None => None,
            };
            changes.push(StateChange {
                key: change.key,
                value,
            });
        }
        Some(Self {
            lines,
            state: changes,
            body: blob,
        })
    }

    /// Whether there is anything to commit.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.state.is_empty()
    }
}

/// Commits the writes of a run, its progress and what changes in its state, all or nothing. The error is the text of
/// engine.md 3.3. Answers how many lines were written.
pub(crate) async fn commit(
    ingest: &Ingest,
    writes: Vec<DatabaseLines>,
    progress: TriggerProgress,
    depth: u16,
) -> Result<usize, String> {
    let run = RunCommit {
        writes,
        progress,
        depth,
        received_ns: now_ns(),
    };
    let committed = ingest.commit_run(run).await;
    committed.map(|outcome| outcome.rows).map_err(not_committed)
}

/// As [`commit`], but waits while the server is out of memory for rows or out of space, which is not the plugin's
/// fault: at most `wait_max`.
pub(crate) async fn commit_when_there_is_room(
    ingest: &Ingest,
    writes: Vec<DatabaseLines>,
    progress: TriggerProgress,
    depth: u16,
    wait_max: Duration,
) -> Result<usize, String> {
    let run = RunCommit {
        writes,
        progress,
        depth,
        received_ns: now_ns(),
    };
    let end = Instant::now() + wait_max;
    loop {
        match ingest.commit_run(run.clone()).await {
            Ok(outcome) => return Ok(outcome.rows),
            Err((_, error)) if error.is_out_of_room() && Instant::now() < end => {
                tokio::time::sleep(ROOM_RETRY_DELAY).await;
            }
            Err(failure) => return Err(not_committed(failure)),
        }
    }
}

/// Why a run was not committed, with the database whose lines were refused.
fn not_committed((database, error): (String, WriteError)) -> String {
    match error {
        error if error.is_out_of_room() => format!("error writing back lines: {}", refusal(error)),
        WriteError::StateTooLarge { .. } => error.to_string(),
        WriteError::InvalidDatabaseName(_) => format!("invalid database name: {database}"),
        error => format!("error writing back lines to {database}: {}", refusal(error)),
    }
}

/// Why lines were not written, in the words of engine.md 3.2 to 3.4.
pub(crate) fn refusal(error: WriteError) -> String {
    match error {
        WriteError::InvalidDatabaseName(error) => format!("invalid database name: {error}"),
        WriteError::Catalog(CatalogError::DatabaseNotFound(database)) => {
            format!("Cannot write: database not found: {database}")
        }
        error => format!("Cannot write: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(database: Option<&str>, bytes: u64) -> DatabaseWrites {
        DatabaseWrites {
            database: database.map(str::to_owned),
            bytes,
        }
    }

    fn change(key: &str, value_bytes: Option<u64>) -> tidemill_worker_proto::StateChange {
        tidemill_worker_proto::StateChange {
            key: key.to_owned(),
            value_bytes,
        }
    }

    #[test]
    fn a_blob_is_cut_by_the_lengths_and_the_rest_is_the_body() {
        let blob = Bytes::from_static(b"a x=1\nb y=2valuebody");
        let writes = vec![write(None, 6), write(Some("other"), 5)];
        let state = vec![change("kept", Some(5)), change("gone", None)];
        let effects = RunEffects::split(writes, state, blob, "mine").unwrap();
        let lines: Vec<(&str, &[u8])> = effects
            .lines
            .iter()
            .map(|write| (write.database.as_str(), &write.lines[..]))
            .collect();
        assert_eq!(lines, [("mine", &b"a x=1\n"[..]), ("other", b"b y=2")]);
        let state: Vec<(&str, Option<&[u8]>)> = effects
            .state
            .iter()
            .map(|change| (change.key.as_str(), change.value.as_deref()))
            .collect();
        assert_eq!(state, [("kept", Some(&b"value"[..])), ("gone", None)]);
        assert_eq!(&effects.body[..], b"body");
    }

    #[test]
    fn lengths_that_lie_are_noticed() {
        let split = |writes, state| RunEffects::split(writes, state, Bytes::from_static(b"abc"), "mine");
        for bytes in [5, u64::MAX] {
            assert!(split(vec![write(None, bytes)], vec![]).is_none());
            assert!(split(vec![write(None, 2)], vec![change("key", Some(bytes))]).is_none());
        }
    }
}
