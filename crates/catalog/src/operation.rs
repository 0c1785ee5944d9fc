//! The primitive changes that log records consist of.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tidemill_triggers::TriggerDefinition;
use uuid::Uuid;

use crate::schema::{Column, Deletion};
use crate::{DatabaseId, TableId};

/// One change. It says what comes out, not how it was decided, so that replay needs no clock, limits or rules.
/// Variants and their fields are an on-disk format: they may be added, never changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operation {
    /// The first operation of every catalog.
    Initialize {
        uuid: Uuid,
    },
    CreateDatabase {
        id: DatabaseId,
        name: Arc<str>,
        retention_ns: Option<u64>,
    },
    SetRetention {
        database: DatabaseId,
        retention_ns: Option<u64>,
    },
    /// Renames the database alone; its tables and triggers have operations of their own.
    SoftDeleteDatabase {
        database: DatabaseId,
        new_name: Arc<str>,
        deletion: Deletion,
    },
    /// Ends the database with all that is in it.
    RemoveDatabase {
        database: DatabaseId,
    },
    CreateTable {
        id: TableId,
        database: DatabaseId,
        name: Arc<str>,
        columns: Vec<Column>,
    },
    AddColumns {
        table: TableId,
        columns: Vec<Column>,
    },
    SoftDeleteTable {
        table: TableId,
        new_name: Arc<str>,
        deletion: Deletion,
    },
    RemoveTable {
        table: TableId,
    },
    /// The table's own retention; `None`: that of its database.
    SetTableRetention {
        table: TableId,
        retention_ns: Option<u64>,
    },
    /// Takes back the soft deletion of the database alone, under a name that is free.
    RestoreDatabase {
        database: DatabaseId,
        name: Arc<str>,
    },
    /// Takes back the soft deletion of the table, under a name that is free.
    RestoreTable {
        table: TableId,
        name: Arc<str>,
    },
    /// The data of the deleted database goes, and there is no way back.
    GiveUpDatabase {
        database: DatabaseId,
        at: DateTime<Utc>,
    },
    /// The data of the deleted table goes, and there is no way back.
    GiveUpTable {
        table: TableId,
        at: DateTime<Utc>,
    },
    /// Creates the trigger or replaces the one of the same name.
    PutTrigger {
        database: DatabaseId,
        trigger: Arc<TriggerDefinition>,
    },
    DeleteTrigger {
        database: DatabaseId,
        name: Arc<str>,
    },
}
