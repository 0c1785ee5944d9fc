//! What a run leaves behind: the lines it collected, committed together with the progress of its trigger
//! (engine.md 0.11, 0.26, 3.3).

use bytes::Bytes;
use tidemill_catalog::CatalogError;
use tidemill_ingest::{DatabaseLines, Ingest, TriggerProgress, WriteError};
use tidemill_worker_proto::DatabaseWrites;

use crate::plugin_logs::now_ns;

/// Cuts the blob of a finished run into the collected lines and what follows them, the body of an answer. `None` if
/// the lengths do not fit the blob.
pub(crate) fn split_writes(
    writes: Vec<DatabaseWrites>,
    mut blob: Bytes,
    default_database: &str,
) -> Option<(Vec<DatabaseLines>, Bytes)> {
    let mut lines = Vec::with_capacity(writes.len());
    for write in writes {
        let bytes = usize::try_from(write.bytes)
            .ok()
            .filter(|bytes| *bytes <= blob.len())?;
        let database = write.database.unwrap_or_else(|| default_database.to_owned());
        lines.push(DatabaseLines {
            database,
            lines: blob.split_to(bytes),
        });
    }
    Some((lines, blob))
}

/// Commits the writes and the progress of a run, all or nothing. The error is the text of engine.md 3.3.
pub(crate) async fn commit(
    ingest: &Ingest,
    writes: Vec<DatabaseLines>,
    progress: TriggerProgress,
) -> Result<(), String> {
    match ingest.commit_run(writes, progress, now_ns()).await {
        Ok(_) => Ok(()),
        Err((database, WriteError::InvalidDatabaseName(_))) => {
            Err(format!("invalid database name: {database}"))
        }
        Err((database, error)) => Err(format!(
            "error writing back lines to {database}: {}",
            refusal(error)
        )),
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

    #[test]
    fn a_blob_is_cut_by_the_lengths_and_the_rest_is_the_body() {
        let blob = Bytes::from_static(b"a x=1\nb y=2body");
        let (lines, body) =
            split_writes(vec![write(None, 6), write(Some("other"), 5)], blob, "mine").unwrap();
        assert_eq!(
            (lines[0].database.as_str(), &lines[0].lines[..]),
            ("mine", &b"a x=1\n"[..])
        );
        assert_eq!(
            (lines[1].database.as_str(), &lines[1].lines[..]),
            ("other", &b"b y=2"[..])
        );
        assert_eq!(&body[..], b"body");
    }

    #[test]
    fn lengths_that_lie_are_noticed() {
        for bytes in [5, u64::MAX] {
            assert!(split_writes(vec![write(None, bytes)], Bytes::from_static(b"abc"), "mine").is_none());
        }
    }
}
