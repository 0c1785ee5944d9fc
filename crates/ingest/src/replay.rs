//! What a replayed commit must agree with: the catalog, which was durable before the commit was.

use tidemill_catalog::{CatalogState, ColumnId, TableId};
use tidemill_lineproto::ColumnType;
use tidemill_store::{FlushError, TableBatch};

use crate::record::{Commit, DeletedRows, RecordError, decode, type_of};

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

/// The commit that a payload stands for, without the rows and deletes of tables that were removed or given up since.
pub(crate) fn decode_known(payload: &[u8], state: &CatalogState) -> Result<Commit, ReplayError> {
    let mut commit = decode(payload)?;
    for batch in &commit.tables {
        if !is_known(batch, state) {
            return Err(ReplayError::CatalogIsOlder { table: batch.table });
        }
    }
    for delete in &commit.deletes {
        if !is_known_delete(delete, state) {
            return Err(ReplayError::CatalogIsOlder { table: delete.table });
        }
    }
    let is_there = |table: TableId| state.keeps_data_of(table);
    commit.tables.retain(|batch| is_there(batch.table));
    commit.deletes.retain(|delete| is_there(delete.table));
    Ok(commit)
}

/// Whether the table was removed, or has the columns of the batch.
fn is_known(batch: &TableBatch, state: &CatalogState) -> bool {
    batch
        .columns
        .iter()
        .all(|(id, array)| may_have_column(state, batch.table, *id, type_of(array)))
}

/// Whether the table was removed, or has the tags of the conditions.
fn is_known_delete(delete: &DeletedRows, state: &CatalogState) -> bool {
    state.has_had_table(delete.table)
        && delete
            .conditions
            .iter()
            .all(|condition| may_have_column(state, delete.table, condition.column, ColumnType::Tag))
}

fn may_have_column(state: &CatalogState, table: TableId, id: ColumnId, column_type: ColumnType) -> bool {
    match state.table_by_id(table) {
        None => state.has_had_table(table),
        Some(table) => table
            .column_by_id(id)
            .is_some_and(|column| column.column_type == column_type),
    }
}
