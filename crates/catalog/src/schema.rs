//! Databases, tables and columns as readers see them: immutable, shared, replaced as a whole when something changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use tidemill_lineproto::ColumnType;
use tidemill_triggers::TriggerDefinition;

use crate::{CatalogError, ColumnId, DatabaseId, INTERNAL_DATABASE, TIME_COLUMN, TableId};

/// The retention of a table whose rows are kept for ever although its database keeps them for a time only.
pub const KEPT_FOR_EVER_NS: u64 = u64::MAX;

/// What became of a database or table that was deleted softly: data kept, name free for another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// The name it had; the present one carries the time of deletion.
    pub original_name: Arc<str>,
    /// When it was deleted.
    pub deleted_at: DateTime<Utc>,
    /// When its data may go; `None`: never.
    pub hard_delete_at: Option<DateTime<Utc>>,
    /// When its data was given up for removal: from then on it cannot be undeleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_removed_at: Option<DateTime<Utc>>,
}

impl Deletion {
    /// Whether the time has come at which its data may go.
    pub fn is_due(&self, now: DateTime<Utc>) -> bool {
        self.hard_delete_at.is_some_and(|at| at <= now)
    }
}

/// A database with its tables and triggers.
#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    /// Its identity, never reused.
    pub id: DatabaseId,
    /// Its present name; a deleted database has the time of deletion in it.
    pub name: Arc<str>,
    /// Rows older than this are gone from answers, in nanoseconds; `None`: kept for ever.
    pub retention_ns: Option<u64>,
    /// Set when the database was deleted softly.
    pub deleted: Option<Deletion>,
    pub(crate) tables: BTreeMap<Arc<str>, Arc<Table>>,
    pub(crate) triggers: BTreeMap<Arc<str>, Arc<TriggerDefinition>>,
}

impl Database {
    pub(crate) fn new(id: DatabaseId, name: Arc<str>, retention_ns: Option<u64>) -> Self {
        let (tables, triggers) = (BTreeMap::new(), BTreeMap::new());
        Self {
            id,
            name,
            retention_ns,
            deleted: None,
            tables,
            triggers,
        }
    }

    /// The table of that present name; deleted tables are found under the name they have now.
    pub fn table(&self, name: &str) -> Option<&Arc<Table>> {
        self.tables.get(name)
    }

    /// All tables, deleted ones too, by present name.
    pub fn tables(&self) -> impl ExactSizeIterator<Item = &Arc<Table>> {
        self.tables.values()
    }

    /// The trigger of that name.
    pub fn trigger(&self, name: &str) -> Option<&Arc<TriggerDefinition>> {
        self.triggers.get(name)
    }

    /// All triggers by name.
    pub fn triggers(&self) -> impl ExactSizeIterator<Item = &Arc<TriggerDefinition>> {
        self.triggers.values()
    }

    /// True for `_internal`.
    pub fn is_internal(&self) -> bool {
        &*self.name == INTERNAL_DATABASE
    }

    /// How long rows of a table of this database are kept, in nanoseconds: as the table says, or else as the database
    /// does. `None`: for ever.
    pub fn retention_of(&self, table: &Table) -> Option<u64> {
        let retention_ns = table.retention_ns.or(self.retention_ns);
        retention_ns.filter(|retention_ns| *retention_ns != KEPT_FOR_EVER_NS)
    }

    /// Refuses writes to a database that is marked for deletion.
    ///
    /// # Errors
    /// [`CatalogError::SoftDeleted`] with its present name.
    pub fn check_writable(&self) -> Result<(), CatalogError> {
        match self.deleted {
            Some(_) => Err(CatalogError::SoftDeleted(self.name.to_string())),
            None => Ok(()),
        }
    }
}

/// A table with its columns.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its identity, unique over all databases and never reused.
    pub id: TableId,
    /// The database it belongs to.
    pub database_id: DatabaseId,
    /// Its present name; a deleted table has the time of deletion in it.
    pub name: Arc<str>,
    /// In order of creation; a column's position is its [`ColumnId`]. Columns are never removed or changed.
    pub columns: Vec<Column>,
    /// How long rows are kept, in nanoseconds, where that is not as in the whole database; [`KEPT_FOR_EVER_NS`]: for
    /// ever. See [`Database::retention_of`].
    pub retention_ns: Option<u64>,
    /// Set when the table was deleted softly.
    pub deleted: Option<Deletion>,
    time_column: ColumnId,
    by_name: HashMap<Arc<str>, ColumnId>,
}

impl PartialEq for Table {
    /// The indexes follow from the columns and need no comparison.
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
            && self.database_id == other.database_id
            && self.name == other.name
            && self.columns == other.columns
            && self.retention_ns == other.retention_ns
            && self.deleted == other.deleted
    }
}

impl Table {
    /// Columns must have dense ids in order, distinct names, and exactly one must be `time`.
    pub(crate) fn new(
        id: TableId,
        database_id: DatabaseId,
        name: Arc<str>,
        columns: Vec<Column>,
        deleted: Option<Deletion>,
    ) -> Result<Self, String> {
        let time = columns
            .iter()
            .find(|column| column.column_type == ColumnType::Time);
        let Some(time_column) = time.filter(|time| &*time.name == TIME_COLUMN).map(|time| time.id) else {
            return Err(format!("table '{name}' has no time column"));
        };
        let mut table = Self {
            id,
            database_id,
            name,
            columns: Vec::new(),
            retention_ns: None,
            deleted,
            time_column,
            by_name: HashMap::new(),
        };
        table.append_columns(columns)?;
        Ok(table)
    }

    pub(crate) fn append_columns(&mut self, columns: Vec<Column>) -> Result<(), String> {
        for column in columns {
            if usize::from(column.id.0) != self.columns.len() {
                return Err(format!(
                    "column '{}' of table '{}' has id {}",
                    column.name, self.name, column.id
                ));
            }
            if self.by_name.insert(Arc::clone(&column.name), column.id).is_some() {
                return Err(format!(
                    "column '{}' of table '{}' is there twice",
                    column.name, self.name
                ));
            }
            if column.column_type == ColumnType::Time && column.id != self.time_column {
                return Err(format!(
                    "column '{}' of table '{}' is a second time",
                    column.name, self.name
                ));
            }
            self.columns.push(column);
        }
        Ok(())
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.by_name.get(name).and_then(|id| self.column_by_id(*id))
    }

    /// The column of that identity.
    pub fn column_by_id(&self, id: ColumnId) -> Option<&Column> {
        self.columns.get(usize::from(id.0))
    }

    /// The `time` column, which every table has.
    pub fn time_column(&self) -> &Column {
        &self.columns[usize::from(self.time_column.0)]
    }

    /// The tag columns in order of first appearance: the series key.
    pub fn tags(&self) -> impl Iterator<Item = &Column> {
        self.columns
            .iter()
            .filter(|column| column.column_type == ColumnType::Tag)
    }

    /// The id that the next column of this table gets.
    pub(crate) fn next_column_id(&self) -> ColumnId {
        ColumnId(u16::try_from(self.columns.len()).expect("columns per table are limited below 2^16"))
    }
}

/// A column; it keeps its kind, type and name for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its position in the table.
    pub id: ColumnId,
    /// Its name.
    pub name: Arc<str>,
    /// Tag, field of a type, or time.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
}
