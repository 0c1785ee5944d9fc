//! What a replayed commit must agree with: the catalog, which was durable before the commit was.

use tidemill_catalog::{CatalogState, TableId};
use tidemill_store::{FlushError, TableBatch};

use crate::record::{Commit, RecordError, decode, type_of};

/// Why a durable record cannot be taken into memory. Nothing was changed by the attempt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The record makes no sense by itself.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Its table or one of its columns is not what the catalog says: the catalog was lost, or restored from a time
    /// before the record. To go on would give the rows to another table later.
    #[error(
        "its rows of table {table} do not fit the catalog, which is older than the log: restore the one that belongs to it"
    )]
    CatalogIsOlder {
        /// The table.
        table: TableId,
    },
    /// The log is longer than what the buffer holds, and files cannot be written to make room.
    #[error("there is no room for the rest of the log in memory, and files cannot be written: {0}")]
    NoRoom(#[from] FlushError),
}

/// The commit that a payload stands for, without the rows of tables that were removed since.
pub(crate) fn decode_known(payload: &[u8], state: &CatalogState) -> Result<Commit, ReplayError> {
    let mut commit = decode(payload)?;
    for batch in &commit.tables {
        if !is_known(batch, state) {
            return Err(ReplayError::CatalogIsOlder { table: batch.table });
        }
    }
    commit
        .tables
        .retain(|batch| state.table_by_id(batch.table).is_some());
    Ok(commit)
}

/// Whether the table was removed, or has the columns of the batch.
fn is_known(batch: &TableBatch, state: &CatalogState) -> bool {
    match state.table_by_id(batch.table) {
        None => state.has_had_table(batch.table),
        Some(table) => batch.columns.iter().all(|(id, array)| {
            let column = table.column_by_id(*id);
            column.is_some_and(|column| column.column_type == type_of(array))
        }),
    }
}
