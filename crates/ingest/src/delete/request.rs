//! What is asked for, what can be wrong with it, and its way into the log.

use tidemill_catalog::CatalogError;

use super::instant::InstantError;
use super::predicate::PredicateError;
use super::resolve::resolve;
use crate::record::Commit;
use crate::write::WriteError;
use crate::{Ingest, Lsn};

/// Rows to delete: those of the span of time that satisfy the predicate.
#[derive(Debug, Clone)]
pub struct DeleteRequest {
    /// The database.
    pub database: String,
    /// The table; `None` for all tables whose names satisfy the predicate's conditions on `_measurement`.
    pub table: Option<String>,
    /// First instant, nanoseconds since the epoch; `None`: from the beginning.
    pub start_ns: Option<i64>,
    /// Last instant, included; `None`: to the end.
    pub stop_ns: Option<i64>,
    /// Conditions on tags and `time`, joined by `AND`; blank: every row of the span.
    pub predicate: String,
    /// Time of arrival in nanoseconds since the epoch.
    pub received_ns: i64,
}

/// Why nothing was deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteError {
    /// The predicate cannot be read.
    #[error(transparent)]
    Predicate(#[from] PredicateError),
    /// A time in it cannot be read.
    #[error(transparent)]
    Instant(#[from] InstantError),
    /// A field would have to be looked at row by row and version by version.
    #[error("column '{column}' of table '{table}' is a field: rows are deleted by tags and time only")]
    Field {
        /// The column.
        column: String,
        /// Its table.
        table: String,
    },
    /// Most likely a mistake in the name, and then too many rows would go.
    #[error("there is no column '{column}' in {place}")]
    UnknownColumn {
        /// The column.
        column: String,
        /// Where it was looked for.
        place: String,
    },
    /// A comparison that has no meaning for its column.
    #[error("{0}")]
    Comparison(String),
    /// Nothing could be deleted.
    #[error("no instant lies in the span of time to delete: it begins after its end")]
    EmptySpan,
    /// There is no such database or table.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The log failed; the delete may be tried again.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Ingest {
    /// Deletes rows that were written before. Returns when that is durable and visible; `None` where no table is concerned.
    ///
    /// # Errors
    /// See [`DeleteError`]; nothing was deleted then.
    pub async fn delete_rows(&self, request: &DeleteRequest) -> Result<Option<Lsn>, DeleteError> {
        let deletes = resolve(request, &self.catalog().state())?;
        if deletes.is_empty() {
            return Ok(None);
        }
        let commit = Commit {
            deletes,
            time_ns: request.received_ns,
            ..Commit::default()
        };
        let pending = self.append(commit).await?;
        let lsn = pending.durable().await.map_err(WriteError::from)?;
        Ok(Some(lsn))
    }
}
