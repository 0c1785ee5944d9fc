//! The whole catalog at one moment, and how a change makes the next one.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_triggers::TriggerDefinition;
use uuid::Uuid;

use crate::operation::Operation;
use crate::paged_map::PagedMap;
use crate::schema::{Column, Database, Deletion, Table};
use crate::{DatabaseId, TableId};

/// The catalog after the record [`CatalogState::sequence`]. It never changes; a change makes another one that shares
/// all but what was changed.
#[derive(Clone, Debug)]
pub struct CatalogState {
    sequence: u64,
    uuid: Uuid,
    next_database_id: u32,
    next_table_id: u32,
    next_trigger_id: u32,
    /// In one map only, so that several changes in one transaction copy a database once.
    databases: PagedMap<Database>,
    database_names: BTreeMap<Arc<str>, DatabaseId>,
    tables: PagedMap<Table>,
}

impl PartialEq for CatalogState {
    /// Tables by identity follow from the databases and need no comparison.
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
            && self.uuid == other.uuid
            && self.next_database_id == other.next_database_id
            && self.next_table_id == other.next_table_id
            && self.next_trigger_id == other.next_trigger_id
            && self.databases().eq(other.databases())
    }
}

impl CatalogState {
    /// Before the first record.
    pub(crate) fn empty() -> Self {
        Self {
            sequence: 0,
            uuid: Uuid::nil(),
            next_database_id: 0,
            next_table_id: 0,
            next_trigger_id: 0,
            databases: PagedMap::new(),
            database_names: BTreeMap::new(),
            tables: PagedMap::new(),
        }
    }

    /// Number of the last record that is in this state.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Identity of the catalog, made at the first start.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// The database of that present name; deleted ones are found under the name they have now.
    pub fn database(&self, name: &str) -> Option<&Arc<Database>> {
        self.database_by_id(*self.database_names.get(name)?)
    }

    /// The database of that identity, deleted or not.
    pub fn database_by_id(&self, id: DatabaseId) -> Option<&Arc<Database>> {
        self.databases.get(id.0)
    }

    /// All databases, deleted ones too, by present name.
    pub fn databases(&self) -> impl ExactSizeIterator<Item = &Arc<Database>> {
        let named = |id: &DatabaseId| self.database_by_id(*id).expect("every name has its database");
        self.database_names.values().map(named)
    }

    /// The table of that identity, deleted or not.
    pub fn table_by_id(&self, id: TableId) -> Option<&Arc<Table>> {
        self.tables.get(id.0)
    }

    /// How long rows of a table are kept, in nanoseconds; `None`: for ever, or there is no such table.
    pub fn retention_of(&self, id: TableId) -> Option<u64> {
        let table = self.table_by_id(id)?;
        self.database_by_id(table.database_id)?.retention_of(table)
    }

    /// Whether the data of a table is to be kept: it is there, and not given up for removal.
    pub fn keeps_data_of(&self, id: TableId) -> bool {
        let table = self.table_by_id(id);
        table.is_some_and(|table| {
            let deletion = table.deleted.as_ref();
            deletion.is_none_or(|deletion| deletion.data_removed_at.is_none())
        })
    }

    /// Whether there is or was a table of that identity. One that never was is a sign that this catalog is older than
    /// what refers to the table.
    pub fn has_had_table(&self, id: TableId) -> bool {
        id < self.next_table_id()
    }

    pub(crate) fn set_sequence(&mut self, sequence: u64) {
        self.sequence = sequence;
    }

    pub(crate) fn next_database_id(&self) -> DatabaseId {
        DatabaseId(self.next_database_id)
    }

    pub(crate) fn next_table_id(&self) -> TableId {
        TableId(self.next_table_id)
    }

    pub(crate) fn next_trigger_id(&self) -> u32 {
        self.next_trigger_id
    }

    /// Makes the change in place.
    ///
    /// # Errors
    /// The reason why the operation does not fit this state; the state may be half changed then and must be dropped.
    pub(crate) fn apply(&mut self, operation: &Operation) -> Result<(), String> {
        match operation {
            Operation::Initialize { uuid } => {
                if !self.uuid.is_nil() {
                    return Err("catalog is initialized twice".to_owned());
                }
                self.uuid = *uuid;
                Ok(())
            }
            Operation::CreateDatabase {
                id,
                name,
                retention_ns,
            } => {
                if *id != self.next_database_id() || self.database_names.contains_key(name) {
                    return Err(format!("database '{name}' with id {id} is not new"));
                }
                self.next_database_id += 1;
                self.put_database(Database::new(*id, Arc::clone(name), *retention_ns));
                Ok(())
            }
            Operation::SetRetention {
                database,
                retention_ns,
            } => {
                self.database_mut(*database)?.retention_ns = *retention_ns;
                Ok(())
            }
            Operation::SoftDeleteDatabase {
                database,
                new_name,
                deletion,
            } => {
                if self.database_names.contains_key(new_name) {
                    return Err(format!("database '{new_name}' is there already"));
                }
                let changed = self.database_mut(*database)?;
                let old_name = std::mem::replace(&mut changed.name, Arc::clone(new_name));
                changed.deleted = Some(deletion.clone());
                self.database_names.remove(&old_name);
                self.database_names.insert(Arc::clone(new_name), *database);
                Ok(())
            }
            Operation::RemoveDatabase { database } => {
                let removed = Database::clone(self.database_mut(*database)?);
                for table in removed.tables() {
                    self.tables.set(table.id.0, None);
                }
                self.database_names.remove(&removed.name);
                self.databases.set(database.0, None);
                Ok(())
            }
            Operation::CreateTable {
                id,
                database,
                name,
                columns,
            } => {
                if *id != self.next_table_id() {
                    return Err(format!("table '{name}' with id {id} is not new"));
                }
                self.next_table_id += 1;
                let table = Table::new(*id, *database, Arc::clone(name), columns.clone(), None)?;
                self.put_table(None, table)
            }
            Operation::AddColumns { table, columns } => {
                let mut changed = self.expect_table(*table)?;
                changed.append_columns(columns.clone())?;
                let name = Arc::clone(&changed.name);
                self.put_table(Some(&name), changed)
            }
            Operation::SoftDeleteTable {
                table,
                new_name,
                deletion,
            } => {
                let mut changed = self.expect_table(*table)?;
                let old_name = std::mem::replace(&mut changed.name, Arc::clone(new_name));
                changed.deleted = Some(deletion.clone());
                self.put_table(Some(&old_name), changed)
            }
            Operation::RemoveTable { table } => {
                let removed = self.expect_table(*table)?;
                self.tables.set(table.0, None);
                self.database_mut(removed.database_id)?
                    .tables
                    .remove(&removed.name);
                Ok(())
            }
            Operation::SetTableRetention { table, retention_ns } => {
                let mut changed = self.expect_table(*table)?;
                changed.retention_ns = *retention_ns;
                let name = Arc::clone(&changed.name);
                self.put_table(Some(&name), changed)
            }
            Operation::RestoreDatabase { database, name } => {
                if self.database_names.contains_key(name) {
                    return Err(format!("database '{name}' is there already"));
                }
                let changed = self.database_mut(*database)?;
                let old_name = std::mem::replace(&mut changed.name, Arc::clone(name));
                changed.deleted = None;
                self.database_names.remove(&old_name);
                self.database_names.insert(Arc::clone(name), *database);
                Ok(())
            }
            Operation::RestoreTable { table, name } => {
                let mut changed = self.expect_table(*table)?;
                let old_name = std::mem::replace(&mut changed.name, Arc::clone(name));
                changed.deleted = None;
                self.put_table(Some(&old_name), changed)
            }
            Operation::GiveUpDatabase { database, at } => {
                let deletion = self.database_mut(*database)?.deleted.as_mut();
                let deletion = deletion.ok_or_else(|| format!("database {database} is not deleted"))?;
                deletion.data_removed_at = Some(*at);
                Ok(())
            }
            Operation::GiveUpTable { table, at } => {
                let mut changed = self.expect_table(*table)?;
                let deletion = changed.deleted.as_mut();
                let deletion = deletion.ok_or_else(|| format!("table {table} is not deleted"))?;
                deletion.data_removed_at = Some(*at);
                let name = Arc::clone(&changed.name);
                self.put_table(Some(&name), changed)
            }
            Operation::PutTrigger { database, trigger } => {
                self.next_trigger_id = self.next_trigger_id.max(trigger.trigger_id.saturating_add(1));
                let name = trigger.trigger_name.as_str().into();
                self.database_mut(*database)?
                    .triggers
                    .insert(name, Arc::clone(trigger));
                Ok(())
            }
            Operation::DeleteTrigger { database, name } => {
                match self.database_mut(*database)?.triggers.remove(name) {
                    Some(_) => Ok(()),
                    None => Err(format!("trigger '{name}' does not exist")),
                }
            }
        }
    }

    /// The database for changing: a copy of its own if another state shares it.
    fn database_mut(&mut self, id: DatabaseId) -> Result<&mut Database, String> {
        let database = self.databases.get_mut(id.0);
        database
            .map(Arc::make_mut)
            .ok_or_else(|| format!("database {id} does not exist"))
    }

    fn expect_table(&self, id: TableId) -> Result<Table, String> {
        self.table_by_id(id)
            .map(|table| Table::clone(table))
            .ok_or_else(|| format!("table {id} does not exist"))
    }

    fn put_database(&mut self, database: Database) {
        self.database_names
            .insert(Arc::clone(&database.name), database.id);
        self.databases.set(database.id.0, Some(Arc::new(database)));
    }

    /// Enters a table that is new (`old_name` is `None`) or takes the place of itself under its former name.
    fn put_table(&mut self, old_name: Option<&Arc<str>>, table: Table) -> Result<(), String> {
        let table = Arc::new(table);
        self.tables.set(table.id.0, Some(Arc::clone(&table)));
        let tables = &mut self.database_mut(table.database_id)?.tables;
        if let Some(old_name) = old_name {
            tables.remove(old_name);
        }
        match tables.insert(Arc::clone(&table.name), Arc::clone(&table)) {
            Some(_) => Err(format!("table '{}' is there already", table.name)),
            None => Ok(()),
        }
    }
}

/// A state as a checkpoint holds it. Like [`Operation`] an on-disk format.
#[derive(Serialize, Deserialize)]
pub(crate) struct StateImage {
    uuid: Uuid,
    next_database_id: u32,
    next_table_id: u32,
    next_trigger_id: u32,
    databases: Vec<DatabaseImage>,
}

#[derive(Serialize, Deserialize)]
struct DatabaseImage {
    id: DatabaseId,
    name: Arc<str>,
    retention_ns: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deleted: Option<Deletion>,
    tables: Vec<TableImage>,
    triggers: Vec<Arc<TriggerDefinition>>,
}

#[derive(Serialize, Deserialize)]
struct TableImage {
    id: TableId,
    name: Arc<str>,
    columns: Vec<Column>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retention_ns: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deleted: Option<Deletion>,
}

impl StateImage {
    pub(crate) fn of(state: &CatalogState) -> Self {
        let table_image = |table: &Arc<Table>| TableImage {
            id: table.id,
            name: Arc::clone(&table.name),
            columns: table.columns.clone(),
            retention_ns: table.retention_ns,
            deleted: table.deleted.clone(),
        };
        let database_image = |database: &Arc<Database>| DatabaseImage {
            id: database.id,
            name: Arc::clone(&database.name),
            retention_ns: database.retention_ns,
            deleted: database.deleted.clone(),
            tables: database.tables().map(table_image).collect(),
            triggers: database.triggers().cloned().collect(),
        };
        Self {
            uuid: state.uuid,
            next_database_id: state.next_database_id,
            next_table_id: state.next_table_id,
            next_trigger_id: state.next_trigger_id,
            databases: state.databases().map(database_image).collect(),
        }
    }

    /// The state that the image was made of.
    ///
    /// # Errors
    /// The reason why the image contradicts itself.
    pub(crate) fn into_state(self, sequence: u64) -> Result<CatalogState, String> {
        let mut state = CatalogState {
            sequence,
            uuid: self.uuid,
            next_database_id: self.next_database_id,
            next_table_id: self.next_table_id,
            next_trigger_id: self.next_trigger_id,
            ..CatalogState::empty()
        };
        for image in self.databases {
            let mut database = Database::new(image.id, image.name, image.retention_ns);
            database.deleted = image.deleted;
            for image in image.tables {
                if image.id >= state.next_table_id() {
                    return Err(format!(
                        "table '{}' has id {} from the future",
                        image.name, image.id
                    ));
                }
                let mut table = Table::new(image.id, database.id, image.name, image.columns, image.deleted)?;
                table.retention_ns = image.retention_ns;
                let table = Arc::new(table);
                state.tables.set(table.id.0, Some(Arc::clone(&table)));
                database.tables.insert(Arc::clone(&table.name), table);
            }
            for trigger in image.triggers {
                database
                    .triggers
                    .insert(trigger.trigger_name.as_str().into(), trigger);
            }
            if database.id >= state.next_database_id() {
                return Err(format!(
                    "database '{}' has id {} from the future",
                    database.name, database.id
                ));
            }
            state.put_database(database);
        }
        Ok(state)
    }
}
