//! Rows that were deleted by time and tags.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_catalog::{ColumnId, DatabaseId, TableId};

use crate::DataFile;

/// The rows of a table that were written before some place in the log, lie in a span of time, and satisfy all conditions:
/// they are deleted. It has its place in the log like a write, so that what is written later stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowDelete {
    /// Its place in the log.
    pub lsn: u64,
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

impl RowDelete {
    /// Whether a file may hold rows that this delete removes.
    pub fn concerns(&self, file: &DataFile) -> bool {
        file.table == self.table
            && file.deletes_through < self.lsn
            && file.lsn_first < self.lsn
            && file.time_min <= self.time_last
            && self.time_first <= file.time_max
    }
}

/// A condition on one tag. As in SQL, a row without the tag satisfies neither form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagCondition {
    /// The tag.
    pub column: ColumnId,
    /// True: the value is none of `values`; false: it is one of them.
    pub negated: bool,
    /// The values; never empty.
    pub values: Vec<Arc<str>>,
}
