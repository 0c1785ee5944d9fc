//! One Parquet file.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_catalog::{DatabaseId, TableId};

use crate::Effort;

/// Identity of a file, never reused within a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FileId(pub u64);

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A file with rows of one table, sorted by tags (in the order of the series key) and time, each point once.
///
/// Of two live files of a table whose ranges of time overlap, one holds only rows that are later in the log than all rows
/// of the other: so whole files are ordered where order matters. Whoever holds the `Arc` of a file that a
/// [`TableSnapshot`](crate::TableSnapshot) gave can read it: the object is removed after the last one is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// Its identity.
    pub id: FileId,
    /// Whose rows it holds.
    pub database: DatabaseId,
    /// Whose rows it holds.
    pub table: TableId,
    /// Path of the object in the store.
    pub path: Arc<str>,
    /// Length of the object.
    pub byte_size: u64,
    /// CRC-32/ISCSI of the object.
    pub checksum: u32,
    /// Rows, which is also the number of points.
    pub row_count: u64,
    /// Least time, nanoseconds since the epoch; it occurs in the file.
    pub time_min: i64,
    /// Greatest time; it occurs in the file.
    pub time_max: i64,
    /// Least place in the log that its rows may have.
    pub lsn_first: u64,
    /// Greatest place in the log that its rows may have.
    pub lsn_last: u64,
    /// Row deletes up to this place in the log have been applied to it.
    pub deletes_through: u64,
    /// How much work went into making it small. Manifests of before this was noted do not have it; their files stay as
    /// they are.
    #[serde(default = "unnoted_effort", skip_serializing_if = "is_unnoted_effort")]
    pub effort: Effort,
    /// By which any part of it can be checked; absent from files of versions that wrote no such checksums.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<FileTail>,
}

/// What a file has of which the manifest notes nothing.
fn unnoted_effort() -> Effort {
    Effort::High
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_unnoted_effort(effort: &Effort) -> bool {
    *effort == unnoted_effort()
}

/// What comes after the rows of a file: the checksums of their blocks, and Parquet's footer with its indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTail {
    /// Its first byte; it goes to the end of the file.
    pub start: u64,
    /// CRC-32/ISCSI of it.
    pub checksum: u32,
}

impl DataFile {
    /// Whether both hold rows of some span of time: then one of them is wholly later in the log.
    pub fn overlaps_in_time(&self, other: &Self) -> bool {
        self.time_min <= other.time_max && other.time_min <= self.time_max
    }

    /// Whether the ranges of places in the log have one in common.
    pub fn overlaps_in_log(&self, other: &Self) -> bool {
        self.lsn_first <= other.lsn_last && other.lsn_first <= self.lsn_last
    }
}
