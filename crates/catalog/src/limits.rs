//! Safety limits of a catalog; the operator sets them, and the refusals keep the known texts.

/// How much a catalog takes before it refuses more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Databases, `_internal` and deleted ones not counted; `None`: as many as one likes.
    pub databases_max: Option<usize>,
    /// Tables in one database, deleted ones not counted.
    pub tables_per_database_max: usize,
    /// Tags and fields of one table; `time` is not counted. Column ids are 16 bits wide, so that at most
    /// [`Limits::COLUMNS_CEILING`] is honoured whatever stands here.
    pub columns_per_table_max: usize,
}

impl Limits {
    /// The most columns (beside `time`) that column ids can tell apart.
    pub const COLUMNS_CEILING: usize = u16::MAX as usize - 1;

    /// Tags and fields that a table may have: [`Limits::columns_per_table_max`] as far as it can be honoured.
    pub fn columns_max(&self) -> usize {
        self.columns_per_table_max.min(Self::COLUMNS_CEILING)
    }
}

impl Default for Limits {
    /// 10,000 tables a database, 1,000 columns a table, no limit on databases.
    fn default() -> Self {
        Self {
            databases_max: None,
            tables_per_database_max: 10_000,
            columns_per_table_max: 1_000,
        }
    }
}
