//! Everything the catalog can refuse or fail with.

use thiserror::Error;
use tidemill_checkpoint_log::{LogError, is_disk_full};
use tidemill_lineproto::ColumnType;

use crate::{DatabaseNameError, TableId};

/// Why a transaction did nothing, or why the catalog does not open. Where a text is known to clients
/// (`spec/database.md` 1.5, 1.11, 1.12, 3.3, 3.4; `spec/engine.md` 8.3), it is that text.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// A database, table or trigger of that name is there already (409).
    #[error("attempted to create a resource that already exists")]
    AlreadyExists,
    /// Another trigger answers on this path (409); choose another path or delete that trigger.
    #[error("request path '{path}' is taken by trigger '{trigger}' of database '{database}'")]
    RequestPathTaken {
        /// The path without the leading slash.
        path: String,
        /// Name of the trigger that has it.
        trigger: String,
        /// Database of that trigger.
        database: String,
    },
    /// No database or trigger of that name (404).
    #[error("the requested resource was not found: {0}")]
    NotFound(String),
    /// The database that a trigger is to belong to does not exist (404).
    #[error("Database not found {0}")]
    DatabaseNotFound(String),
    /// No such table in that database (404).
    #[error("Table {table} not in DB schema for {database}")]
    TableNotFound {
        /// Name of the database.
        database: String,
        /// Name that was looked for.
        table: String,
    },
    /// No table of that identity: it was removed since the caller looked it up (404).
    #[error("the requested resource was not found: table id {0}")]
    TableIdNotFound(TableId),
    /// Nothing deleted has that name, neither its present one nor the one it had (404).
    #[error("there is no deleted {kind} '{name}'")]
    NotDeleted {
        /// `database` or `table`.
        kind: &'static str,
        /// Name that was looked for.
        name: String,
    },
    /// Several deleted things had that name; their present names tell them apart (400).
    #[error("several deleted {kind}s were called '{name}', name one of them: {}", candidates.join(", "))]
    AmbiguousName {
        /// `database` or `table`.
        kind: &'static str,
        /// Name that was looked for.
        name: String,
        /// Their present names.
        candidates: Vec<String>,
    },
    /// Too late to undelete (409).
    #[error("the data of {kind} '{name}' is gone, it cannot be undeleted")]
    DataRemoved {
        /// `database` or `table`.
        kind: &'static str,
        /// Its present name.
        name: String,
    },
    /// The name of what is undeleted belongs to another now (409).
    #[error("there is another {kind} '{name}' now: delete it first, or undelete under another name")]
    NameTaken {
        /// `database` or `table`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// The database name breaks the rule (400).
    #[error(transparent)]
    InvalidDatabaseName(#[from] DatabaseNameError),
    /// The table, column or trigger name breaks the rule (400).
    #[error("{0}")]
    InvalidName(&'static str),
    /// A write to a database that is marked for deletion (400).
    #[error("cannot write to soft-deleted database '{0}' - it is marked for deletion")]
    SoftDeleted(String),
    /// The column limit of a table (422).
    #[error("Update to schema would exceed number of columns per table limit of {limit} columns")]
    TooManyColumns {
        /// Tags and fields a table may have.
        limit: usize,
    },
    /// The table limit of a database (422).
    #[error(
        "Update to schema would exceed number of tables limit: attempted to create table but already have {existing} table(s) (limit: {limit})"
    )]
    TooManyTables {
        /// Tables that are there.
        existing: usize,
        /// Tables that may be there.
        limit: usize,
    },
    /// The database limit (422).
    #[error("Adding a new database would exceed limit of {limit} databases")]
    TooManyDatabases {
        /// Databases that may be there.
        limit: usize,
    },
    /// A client may not create a column of this name (400).
    #[error("'{0}' is a reserved column")]
    ReservedColumn(String),
    /// A new table names a column twice (400).
    #[error("duplicate column '{0}'")]
    DuplicateColumn(String),
    /// A column keeps its kind and type for good (400).
    #[error(
        "invalid column type for column '{column}', expected {}, got {}",
        expected.iox_name(),
        got.iox_name()
    )]
    ColumnTypeConflict {
        /// Name of the column.
        column: String,
        /// What the column is.
        expected: ColumnType,
        /// What was asked for.
        got: ColumnType,
    },
    /// `_internal` may not be deleted or given triggers (500 for compatibility).
    #[error("cannot {operation} internal db")]
    InternalDatabase {
        /// `delete` or `modify`.
        operation: &'static str,
    },
    /// An enabled trigger is deleted only with force (500 for compatibility).
    #[error("Cannot delete running plugin {0}. Disable it first or use --force.")]
    TriggerEnabled(String),
    /// Another process writes to the same catalog: two servers run with one node id. This process must stop.
    #[error(
        "catalog record {sequence} was written by another process: is a second server running with this node id?"
    )]
    Conflict {
        /// Sequence number that both wanted.
        sequence: u64,
    },
    /// Nothing of this transaction was done, since an earlier one whose outcome was unknown turned out to be durable
    /// and took its place; it is in effect now. Try again.
    #[error("an earlier catalog change took effect late, try again")]
    Superseded,
    /// An object of the catalog is damaged, missing or of another version. Nothing was changed; restore the object.
    #[error("catalog object '{object}' is unusable: {reason}")]
    Corrupt {
        /// Path of the object in the store.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The object store failed. State is as before; the change may be tried again.
    #[error("catalog store: {0}")]
    Store(#[from] object_store::Error),
}

impl CatalogError {
    /// Whether the change was not made for want of space on the disk (503): it may be made later as it is.
    pub fn is_out_of_room(&self) -> bool {
        matches!(self, Self::Store(error) if is_disk_full(error))
    }
}

impl From<LogError> for CatalogError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Conflict { sequence } => Self::Conflict { sequence },
            LogError::Superseded => Self::Superseded,
            LogError::Corrupt { object, reason } => Self::Corrupt { object, reason },
            LogError::Store(source) => Self::Store(source),
        }
    }
}
