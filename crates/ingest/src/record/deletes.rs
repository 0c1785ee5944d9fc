//! Deletes in a log record.
//!
//! ```text
//! u32  number of deletes, then each:
//!      u32 database, u32 table, i64 first instant, i64 last instant
//!      u32 number of conditions, then each:  u16 column id, u8 whether it is negated, u32 number of values,
//!          then each value:  u32 length, text
//! ```

use std::sync::Arc;

use tidemill_catalog::{ColumnId, DatabaseId, TableId};
use tidemill_store::{RowDelete, TagCondition};
use tidemill_wal::Lsn;

use super::{Input, RecordError, put_bytes, put_i64, put_u16, put_u32};

/// A delete of rows as a commit holds it: its place in the log is that of the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedRows {
    /// The database of the table.
    pub database: DatabaseId,
    /// The table.
    pub table: TableId,
    /// First instant, nanoseconds since the epoch.
    pub time_first: i64,
    /// Last instant, included.
    pub time_last: i64,
    /// All must hold; none: every row of the span.
    pub conditions: Vec<TagCondition>,
}

impl DeletedRows {
    /// The delete, given its place in the log.
    pub fn at(&self, lsn: Lsn) -> RowDelete {
        RowDelete {
            lsn: lsn.0,
            database: self.database,
            table: self.table,
            time_first: self.time_first,
            time_last: self.time_last,
            conditions: self.conditions.clone(),
        }
    }

    /// Size in memory, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        let values = self.conditions.iter().flat_map(|condition| &condition.values);
        size_of::<Self>()
            + values
                .map(|value| size_of::<Arc<str>>() + value.len())
                .sum::<usize>()
    }
}

pub(super) fn encode(deletes: &[DeletedRows], out: &mut Vec<u8>) {
    put_u32(out, deletes.len());
    for delete in deletes {
        put_u32(out, delete.database.0 as usize);
        put_u32(out, delete.table.0 as usize);
        put_i64(out, delete.time_first);
        put_i64(out, delete.time_last);
        put_u32(out, delete.conditions.len());
        for condition in &delete.conditions {
            put_u16(out, condition.column.0 as usize);
            out.push(u8::from(condition.negated));
            put_u32(out, condition.values.len());
            for value in &condition.values {
                put_bytes(out, value.as_bytes());
            }
        }
    }
}

pub(super) fn decode(input: &mut Input<'_>) -> Result<Vec<DeletedRows>, RecordError> {
    let mut deletes = Vec::new();
    for _ in 0..input.u32()? {
        let mut delete = DeletedRows {
            database: DatabaseId(input.u32()?),
            table: TableId(input.u32()?),
            time_first: input.i64()?,
            time_last: input.i64()?,
            conditions: Vec::new(),
        };
        for _ in 0..input.u32()? {
            delete.conditions.push(decode_condition(input)?);
        }
        deletes.push(delete);
    }
    Ok(deletes)
}

fn decode_condition(input: &mut Input<'_>) -> Result<TagCondition, RecordError> {
    let (column, negated) = (ColumnId(input.u16()?), input.flag()?);
    let mut values = Vec::new();
    for _ in 0..input.u32()? {
        let value = std::str::from_utf8(input.prefixed()?)
            .map_err(|_| RecordError::Malformed("value of a delete is not UTF-8"))?;
        values.push(Arc::from(value));
    }
    if values.is_empty() {
        return Err(RecordError::Malformed("condition of a delete without a value"));
    }
    Ok(TagCondition {
        column,
        negated,
        values,
    })
}
