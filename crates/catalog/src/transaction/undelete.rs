//! The way back from a soft deletion, and the point from which there is none.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tidemill_triggers::TriggerDefinition;

use super::{Transaction, check_name};
use crate::operation::Operation;
use crate::schema::{Database, Deletion};
use crate::{CatalogError, DatabaseId, Strictness, TableId, validate_database_name};

const DATABASE: &str = "database";
const TABLE: &str = "table";

impl Transaction {
    /// Takes back the soft deletion of a database, and of the tables that were deleted with it. `name` is its present name
    /// or, if only one deleted database had it, the one it had; it gets the latter again, or `new_name`. Its triggers stay
    /// disabled. Returns the name it has then.
    ///
    /// # Errors
    /// [`CatalogError::NotDeleted`], [`CatalogError::AmbiguousName`], [`CatalogError::DataRemoved`],
    /// [`CatalogError::NameTaken`], [`CatalogError::InvalidDatabaseName`], [`CatalogError::TooManyDatabases`].
    pub fn undelete_database(
        &mut self,
        name: &str,
        new_name: Option<&str>,
    ) -> Result<Arc<str>, CatalogError> {
        let deleted = self.state.databases().filter_map(|database| {
            let deletion = database.deleted.as_ref()?;
            Some((database, &database.name, deletion))
        });
        let (database, deletion) = find_deleted(DATABASE, name, deleted)?;
        let (database, deletion) = (Arc::clone(database), deletion.clone());
        check_data(DATABASE, &database.name, &deletion)?;
        let restored_name = new_name.map_or(Arc::clone(&deletion.original_name), Arc::from);
        validate_database_name(&restored_name, Strictness::Weak)?;
        if self.state.database(&restored_name).is_some() {
            return Err(name_taken(DATABASE, &restored_name));
        }
        self.check_database_count()?;
        for (table, name) in deleted_with(&database, &deletion) {
            self.apply(Operation::RestoreTable { table, name });
        }
        for trigger in database
            .triggers()
            .filter(|trigger| *trigger.database_name != *restored_name)
        {
            let mut trigger = TriggerDefinition::clone(trigger);
            trigger.database_name = restored_name.to_string();
            self.apply(Operation::PutTrigger {
                database: database.id,
                trigger: Arc::new(trigger),
            });
        }
        self.apply(Operation::RestoreDatabase {
            database: database.id,
            name: Arc::clone(&restored_name),
        });
        Ok(restored_name)
    }

    /// Takes back the soft deletion of a table in a database that is not deleted. Names are as for
    /// [`Transaction::undelete_database`]. Returns the name it has then.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`] for the database, [`CatalogError::NotDeleted`], [`CatalogError::AmbiguousName`],
    /// [`CatalogError::DataRemoved`], [`CatalogError::NameTaken`], [`CatalogError::InvalidName`],
    /// [`CatalogError::TooManyTables`].
    pub fn undelete_table(
        &mut self,
        database: &str,
        name: &str,
        new_name: Option<&str>,
    ) -> Result<Arc<str>, CatalogError> {
        let database = Arc::clone(self.live_database(database)?);
        let deleted = database.tables().filter_map(|table| {
            let deletion = table.deleted.as_ref()?;
            Some((table, &table.name, deletion))
        });
        let (table, deletion) = find_deleted(TABLE, name, deleted)?;
        check_data(TABLE, &table.name, deletion)?;
        let restored_name = new_name.map_or(Arc::clone(&deletion.original_name), Arc::from);
        check_name(&restored_name)?;
        if database.table(&restored_name).is_some() {
            return Err(name_taken(TABLE, &restored_name));
        }
        self.check_table_count(&database)?;
        self.apply(Operation::RestoreTable {
            table: table.id,
            name: Arc::clone(&restored_name),
        });
        Ok(restored_name)
    }

    /// Gives the data of a deleted database up for removal: it cannot be undeleted any more. Does nothing where that is
    /// the case already. Its tables are given up one by one.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::NotDeleted`].
    pub fn give_up_database(&mut self, id: DatabaseId, now: DateTime<Utc>) -> Result<(), CatalogError> {
        let database = self.state.database_by_id(id);
        let database = database.ok_or_else(|| CatalogError::NotFound(id.to_string()))?;
        let deletion = database.deleted.as_ref();
        let deletion = deletion.ok_or_else(|| not_deleted(DATABASE, &database.name))?;
        if deletion.data_removed_at.is_none() {
            self.apply(Operation::GiveUpDatabase {
                database: id,
                at: now,
            });
        }
        Ok(())
    }

    /// Gives the data of a deleted table up for removal: it cannot be undeleted any more. Does nothing where that is the
    /// case already.
    ///
    /// # Errors
    /// [`CatalogError::TableIdNotFound`], [`CatalogError::NotDeleted`].
    pub fn give_up_table(&mut self, id: TableId, now: DateTime<Utc>) -> Result<(), CatalogError> {
        let table = self.expect_table(id)?;
        let deletion = table.deleted.as_ref();
        let deletion = deletion.ok_or_else(|| not_deleted(TABLE, &table.name))?;
        if deletion.data_removed_at.is_none() {
            self.apply(Operation::GiveUpTable { table: id, at: now });
        }
        Ok(())
    }
}

/// The tables that were deleted with their database and still have their data, with the names that they had.
fn deleted_with(database: &Database, deletion: &Deletion) -> BTreeMap<TableId, Arc<str>> {
    let mut newest_by_name: BTreeMap<&str, (TableId, &Arc<str>)> = BTreeMap::new();
    for table in database.tables() {
        let Some(of_table) = &table.deleted else { continue };
        if of_table.deleted_at != deletion.deleted_at || of_table.data_removed_at.is_some() {
            continue;
        }
        // One that was deleted at the same instant, by itself and before, may have had the name of another.
        let newest = newest_by_name
            .entry(&of_table.original_name)
            .or_insert((table.id, &of_table.original_name));
        newest.0 = newest.0.max(table.id);
    }
    let named = newest_by_name.into_values();
    named.map(|(table, name)| (table, Arc::clone(name))).collect()
}

/// The one of some deleted things that has this name now, or else the only one that had it.
fn find_deleted<'a, T>(
    kind: &'static str,
    name: &str,
    deleted: impl Iterator<Item = (T, &'a Arc<str>, &'a Deletion)>,
) -> Result<(T, &'a Deletion), CatalogError> {
    let mut had_it = Vec::new();
    for (thing, present_name, deletion) in deleted {
        if **present_name == *name {
            return Ok((thing, deletion));
        }
        if *deletion.original_name == *name {
            had_it.push((thing, present_name, deletion));
        }
    }
    if had_it.len() > 1 {
        return Err(CatalogError::AmbiguousName {
            kind,
            name: name.to_owned(),
            candidates: had_it.iter().map(|(_, name, _)| name.to_string()).collect(),
        });
    }
    let only = had_it.pop().map(|(thing, _, deletion)| (thing, deletion));
    only.ok_or_else(|| not_deleted(kind, name))
}

fn check_data(kind: &'static str, name: &str, deletion: &Deletion) -> Result<(), CatalogError> {
    match deletion.data_removed_at {
        None => Ok(()),
        Some(_) => Err(CatalogError::DataRemoved {
            kind,
            name: name.to_owned(),
        }),
    }
}

fn not_deleted(kind: &'static str, name: &str) -> CatalogError {
    let name = name.to_owned();
    CatalogError::NotDeleted { kind, name }
}

fn name_taken(kind: &'static str, name: &str) -> CatalogError {
    let name = name.to_owned();
    CatalogError::NameTaken { kind, name }
}
