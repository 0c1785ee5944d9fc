//! How much the buffer holds.

use tidemill_catalog::TableId;

/// The buffer in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Memory of all tables: columns and series.
    pub bytes: usize,
    /// Each table that has, or had, rows or files, ascending by id.
    pub tables: Vec<TableStats>,
}

/// One table in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableStats {
    /// The table.
    pub table: TableId,
    /// Memory of its columns.
    pub column_bytes: usize,
    /// Memory of what is known about its series.
    pub series_bytes: usize,
    /// Rows in memory, those of one point counted each.
    pub rows: usize,
    /// Batches that a query reads.
    pub batches: usize,
    /// Series of the rows in memory.
    pub series: usize,
    /// Windows of time in which a point may occur twice.
    pub late_windows: usize,
    /// Files.
    pub files: usize,
}
