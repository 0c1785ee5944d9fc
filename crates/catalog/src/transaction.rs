//! What a transaction can do: each method checks the rules, then adds operations to a working copy.

mod undelete;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tidemill_lineproto::ColumnType;
use tidemill_triggers::{TriggerDefinition, TriggerSpec};

use crate::names::{NAME_BYTES_MAX, is_reserved_column};
use crate::operation::Operation;
use crate::schema::{Column, Database, Deletion, Table};
use crate::{
    CatalogError, CatalogState, ColumnId, DatabaseId, INTERNAL_DATABASE, Limits, Strictness, TIME_COLUMN,
    TableId, validate_database_name,
};

/// Changes under way. A method that fails leaves the transaction as it was, so that the caller may go on without it.
#[derive(Debug)]
pub struct Transaction {
    limits: Limits,
    state: Arc<CatalogState>,
    operations: Vec<Operation>,
}

/// A point in a transaction that it can be taken back to.
#[derive(Debug)]
pub struct Savepoint {
    state: Arc<CatalogState>,
    operation_count: usize,
}

impl Transaction {
    pub(crate) fn new(state: Arc<CatalogState>, limits: Limits) -> Self {
        Self {
            limits,
            state,
            operations: Vec::new(),
        }
    }

    pub(crate) fn into_parts(self) -> (Arc<CatalogState>, Vec<Operation>) {
        (self.state, self.operations)
    }

    /// The catalog with the changes made so far.
    pub fn state(&self) -> &Arc<CatalogState> {
        &self.state
    }

    /// Marks the present point; cheap.
    pub fn savepoint(&self) -> Savepoint {
        Savepoint {
            state: Arc::clone(&self.state),
            operation_count: self.operations.len(),
        }
    }

    /// Undoes everything done since the mark was set, ids included.
    pub fn roll_back_to(&mut self, savepoint: Savepoint) {
        self.state = savepoint.state;
        self.operations.truncate(savepoint.operation_count);
    }

    /// Creates a database; `retention_ns` of `None` keeps rows for ever. The name must satisfy at least
    /// [`Strictness::Weak`]; a stricter rule is the caller's to check, who knows where the name came from.
    ///
    /// # Errors
    /// [`CatalogError::InvalidDatabaseName`], [`CatalogError::AlreadyExists`], [`CatalogError::TooManyDatabases`].
    pub fn create_database(
        &mut self,
        name: &str,
        retention_ns: Option<u64>,
    ) -> Result<DatabaseId, CatalogError> {
        validate_database_name(name, Strictness::Weak)?;
        if self.state.database(name).is_some() {
            return Err(CatalogError::AlreadyExists);
        }
        if name != INTERNAL_DATABASE {
            self.check_database_count()?;
        }
        let id = self.state.next_database_id();
        self.apply(Operation::CreateDatabase {
            id,
            name: name.into(),
            retention_ns,
        });
        Ok(id)
    }

    /// Sets or, with `None`, clears how long the rows of a database are kept, in nanoseconds.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`].
    pub fn set_retention(&mut self, database: &str, retention_ns: Option<u64>) -> Result<(), CatalogError> {
        let database = self.live_database(database)?;
        if database.retention_ns != retention_ns {
            let database = database.id;
            self.apply(Operation::SetRetention {
                database,
                retention_ns,
            });
        }
        Ok(())
    }

    /// Sets how long the rows of a table are kept, in nanoseconds: for ever with [`KEPT_FOR_EVER_NS`](crate::KEPT_FOR_EVER_NS),
    /// as in the whole database with `None`.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`] for the database, [`CatalogError::TableNotFound`].
    pub fn set_table_retention(
        &mut self,
        database: &str,
        table: &str,
        retention_ns: Option<u64>,
    ) -> Result<(), CatalogError> {
        let table = self.live_table(database, table)?;
        if table.retention_ns != retention_ns {
            let table = table.id;
            self.apply(Operation::SetTableRetention { table, retention_ns });
        }
        Ok(())
    }

    /// Renames the database and its tables to `<name>-YYYYMMDDThhmmss` by the time `now`, disables its triggers, and
    /// frees the name. Data may go at `hard_delete_at` (`None`: never). Returns the identity of the deleted database.
    ///
    /// # Errors
    /// [`CatalogError::InternalDatabase`], [`CatalogError::NotFound`].
    pub fn soft_delete_database(
        &mut self,
        name: &str,
        now: DateTime<Utc>,
        hard_delete_at: Option<DateTime<Utc>>,
    ) -> Result<DatabaseId, CatalogError> {
        let database = Arc::clone(self.live_database(name)?);
        if database.is_internal() {
            return Err(CatalogError::InternalDatabase { operation: "delete" });
        }
        for table in database.tables().filter(|table| table.deleted.is_none()) {
            self.apply(soft_deletion_of_table(&database, table, now, hard_delete_at));
        }
        for trigger in database.triggers().filter(|trigger| !trigger.disabled) {
            let mut trigger = TriggerDefinition::clone(trigger);
            trigger.disabled = true;
            trigger.disabled_reason = Some("its database was deleted".to_owned());
            self.apply(Operation::PutTrigger {
                database: database.id,
                trigger: Arc::new(trigger),
            });
        }
        self.apply(Operation::SoftDeleteDatabase {
            database: database.id,
            new_name: deleted_name(name, now, |name| self.state.database(name).is_some()),
            deletion: deletion(&database.name, now, hard_delete_at),
        });
        Ok(database.id)
    }

    /// Renames the table to `<name>-YYYYMMDDThhmmss` by the time `now` and frees the name. Data may go at
    /// `hard_delete_at` (`None`: never). Returns the identity of the deleted table.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`] for the database, [`CatalogError::TableNotFound`].
    pub fn soft_delete_table(
        &mut self,
        database: &str,
        table: &str,
        now: DateTime<Utc>,
        hard_delete_at: Option<DateTime<Utc>>,
    ) -> Result<TableId, CatalogError> {
        let live_table = Arc::clone(self.live_table(database, table)?);
        let database = Arc::clone(self.live_database(database)?);
        self.apply(soft_deletion_of_table(
            &database,
            &live_table,
            now,
            hard_delete_at,
        ));
        Ok(live_table.id)
    }

    /// Ends a database, deleted softly before or not, with all its tables and triggers. Its data must be gone or go.
    ///
    /// # Errors
    /// [`CatalogError::InternalDatabase`], [`CatalogError::NotFound`].
    pub fn remove_database(&mut self, id: DatabaseId) -> Result<(), CatalogError> {
        match self.state.database_by_id(id) {
            None => Err(CatalogError::NotFound(id.to_string())),
            Some(database) if database.is_internal() => {
                Err(CatalogError::InternalDatabase { operation: "delete" })
            }
            Some(_) => {
                self.apply(Operation::RemoveDatabase { database: id });
                Ok(())
            }
        }
    }

    /// Ends a table, deleted softly before or not. Its data must be gone or go.
    ///
    /// # Errors
    /// [`CatalogError::TableIdNotFound`].
    pub fn remove_table(&mut self, id: TableId) -> Result<(), CatalogError> {
        self.expect_table(id)?;
        self.apply(Operation::RemoveTable { table: id });
        Ok(())
    }

    /// Creates a table with these tags and fields and, behind them, `time`. Column ids are their positions.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`] for the database, [`CatalogError::SoftDeleted`], [`CatalogError::InvalidName`],
    /// [`CatalogError::AlreadyExists`], [`CatalogError::TooManyTables`], [`CatalogError::TooManyColumns`],
    /// [`CatalogError::ReservedColumn`], [`CatalogError::DuplicateColumn`].
    pub fn create_table(
        &mut self,
        database: DatabaseId,
        name: &str,
        columns: Vec<(String, ColumnType)>,
    ) -> Result<TableId, CatalogError> {
        let database = self
            .state
            .database_by_id(database)
            .ok_or_else(|| CatalogError::NotFound(database.to_string()))?;
        database.check_writable()?;
        check_name(name)?;
        if database.table(name).is_some() {
            return Err(CatalogError::AlreadyExists);
        }
        self.check_table_count(database)?;
        self.check_column_count(columns.len())?;
        let mut new_columns = Vec::with_capacity(columns.len() + 1);
        for (name, column_type) in columns {
            check_column(&name, column_type)?;
            push_column(&mut new_columns, 0, &name, column_type);
        }
        push_column(&mut new_columns, 0, TIME_COLUMN, ColumnType::Time);
        let mut names: Vec<&str> = new_columns.iter().map(|column| &*column.name).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(CatalogError::DuplicateColumn(twice[0].to_owned()));
        }
        let (id, database) = (self.state.next_table_id(), database.id);
        self.apply(Operation::CreateTable {
            id,
            database,
            name: name.into(),
            columns: new_columns,
        });
        Ok(id)
    }

    /// The ids of these columns in the given order; those that the table has not are added, all or none.
    ///
    /// # Errors
    /// [`CatalogError::TableIdNotFound`], [`CatalogError::ReservedColumn`], [`CatalogError::InvalidName`],
    /// [`CatalogError::ColumnTypeConflict`] with a column that is there or stands earlier in the list,
    /// [`CatalogError::TooManyColumns`].
    pub fn add_columns(
        &mut self,
        table: TableId,
        columns: Vec<(String, ColumnType)>,
    ) -> Result<Vec<ColumnId>, CatalogError> {
        let present = self.expect_table(table)?;
        let first_new_id = present.next_column_id().0;
        let mut ids = Vec::with_capacity(columns.len());
        let mut new_columns: Vec<Column> = Vec::new();
        for (name, column_type) in columns {
            let known = present
                .column(&name)
                .or_else(|| new_columns.iter().find(|column| *column.name == *name));
            if let Some(known) = known {
                if known.column_type != column_type {
                    let (expected, got) = (known.column_type, column_type);
                    return Err(CatalogError::ColumnTypeConflict {
                        column: name,
                        expected,
                        got,
                    });
                }
                ids.push(known.id);
                continue;
            }
            check_column(&name, column_type)?;
            // The table's columns and these, without `time`, with this one.
            self.check_column_count(present.columns.len() + new_columns.len())?;
            ids.push(push_column(&mut new_columns, first_new_id, &name, column_type));
        }
        if !new_columns.is_empty() {
            self.apply(Operation::AddColumns {
                table,
                columns: new_columns,
            });
        }
        Ok(ids)
    }

    /// Creates a trigger in a database and returns its id, which no other trigger of the catalog ever has.
    /// `trigger_id` and `database_name` of the definition are set here, whatever they hold.
    ///
    /// # Errors
    /// [`CatalogError::InternalDatabase`], [`CatalogError::DatabaseNotFound`], [`CatalogError::InvalidName`],
    /// [`CatalogError::AlreadyExists`], [`CatalogError::RequestPathTaken`].
    pub fn create_trigger(
        &mut self,
        database: &str,
        definition: TriggerDefinition,
    ) -> Result<u32, CatalogError> {
        if database == INTERNAL_DATABASE {
            return Err(CatalogError::InternalDatabase { operation: "modify" });
        }
        let database = match self.live_database(database) {
            Ok(database) => Arc::clone(database),
            Err(_) => return Err(CatalogError::DatabaseNotFound(database.to_owned())),
        };
        check_name(&definition.trigger_name)?;
        if database.trigger(&definition.trigger_name).is_some() {
            return Err(CatalogError::AlreadyExists);
        }
        let trigger_id = self.state.next_trigger_id();
        let database_name = database.name.to_string();
        let trigger = TriggerDefinition {
            trigger_id,
            database_name,
            ..definition
        };
        self.check_request_path(&trigger)?;
        self.apply(Operation::PutTrigger {
            database: database.id,
            trigger: Arc::new(trigger),
        });
        Ok(trigger_id)
    }

    /// Changes the definition of a trigger; its id, name, database and place of creation stay.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::RequestPathTaken`].
    pub fn update_trigger(
        &mut self,
        database: &str,
        name: &str,
        change: impl FnOnce(&mut TriggerDefinition),
    ) -> Result<(), CatalogError> {
        let (database, before) = self.expect_trigger(database, name)?;
        let mut after = TriggerDefinition::clone(&before);
        change(&mut after);
        after.trigger_id = before.trigger_id;
        after.trigger_name.clone_from(&before.trigger_name);
        after.database_name.clone_from(&before.database_name);
        after.created_at_lsn = before.created_at_lsn;
        if after.spec != before.spec {
            self.check_request_path(&after)?;
        }
        if after != *before {
            self.apply(Operation::PutTrigger {
                database,
                trigger: Arc::new(after),
            });
        }
        Ok(())
    }

    /// Enables or disables a trigger. `reason` is kept with a disabled one where the server did it by itself.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`].
    pub fn set_trigger_disabled(
        &mut self,
        database: &str,
        name: &str,
        disabled: bool,
        reason: Option<String>,
    ) -> Result<(), CatalogError> {
        self.update_trigger(database, name, |trigger| {
            trigger.disabled = disabled;
            trigger.disabled_reason = reason.filter(|_| disabled);
        })
    }

    /// Deletes a trigger; an enabled one only with `force`.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::TriggerEnabled`].
    pub fn delete_trigger(&mut self, database: &str, name: &str, force: bool) -> Result<(), CatalogError> {
        let (database, trigger) = self.expect_trigger(database, name)?;
        if !trigger.disabled && !force {
            return Err(CatalogError::TriggerEnabled(name.to_owned()));
        }
        self.apply(Operation::DeleteTrigger {
            database,
            name: name.into(),
        });
        Ok(())
    }

    /// Every rule was checked, and the ids were taken from the state that the operation is applied to.
    fn apply(&mut self, operation: Operation) {
        Arc::make_mut(&mut self.state)
            .apply(&operation)
            .expect("an operation made from this state fits it");
        self.operations.push(operation);
    }

    pub(crate) fn initialize(&mut self) {
        self.apply(Operation::Initialize {
            uuid: uuid::Uuid::new_v4(),
        });
    }

    fn live_database(&self, name: &str) -> Result<&Arc<Database>, CatalogError> {
        let live = self
            .state
            .database(name)
            .filter(|database| database.deleted.is_none());
        live.ok_or_else(|| CatalogError::NotFound(name.to_owned()))
    }

    fn live_table(&self, database: &str, table: &str) -> Result<&Arc<Table>, CatalogError> {
        let live = self
            .live_database(database)?
            .table(table)
            .filter(|table| table.deleted.is_none());
        live.ok_or_else(|| CatalogError::TableNotFound {
            database: database.to_owned(),
            table: table.to_owned(),
        })
    }

    fn expect_table(&self, id: TableId) -> Result<&Arc<Table>, CatalogError> {
        self.state
            .table_by_id(id)
            .ok_or(CatalogError::TableIdNotFound(id))
    }

    fn expect_trigger(
        &self,
        database: &str,
        name: &str,
    ) -> Result<(DatabaseId, Arc<TriggerDefinition>), CatalogError> {
        let database = self.live_database(database)?;
        match database.trigger(name) {
            Some(trigger) => Ok((database.id, Arc::clone(trigger))),
            None => Err(CatalogError::NotFound(name.to_owned())),
        }
    }

    /// There must be room for one more database.
    fn check_database_count(&self) -> Result<(), CatalogError> {
        let Some(limit) = self.limits.databases_max else {
            return Ok(());
        };
        let counted = |database: &&Arc<Database>| database.deleted.is_none() && !database.is_internal();
        let existing = self.state.databases().filter(counted).count();
        if existing >= limit {
            Err(CatalogError::TooManyDatabases { limit })
        } else {
            Ok(())
        }
    }

    /// There must be room for one more table.
    fn check_table_count(&self, database: &Database) -> Result<(), CatalogError> {
        let limit = self.limits.tables_per_database_max;
        // Deleted ones do not count; while there are few of both they need not be told apart.
        if database.tables().len() < limit {
            return Ok(());
        }
        let existing = database.tables().filter(|table| table.deleted.is_none()).count();
        if existing >= limit {
            Err(CatalogError::TooManyTables { existing, limit })
        } else {
            Ok(())
        }
    }

    /// `count` is that of tags and fields.
    fn check_column_count(&self, count: usize) -> Result<(), CatalogError> {
        let limit = self.limits.columns_max();
        if count > limit {
            Err(CatalogError::TooManyColumns { limit })
        } else {
            Ok(())
        }
    }

    /// A request path belongs to one trigger of all databases, since the path alone decides who is called.
    fn check_request_path(&self, trigger: &TriggerDefinition) -> Result<(), CatalogError> {
        let TriggerSpec::Request { path } = &trigger.spec else {
            return Ok(());
        };
        let live = self
            .state
            .databases()
            .filter(|database| database.deleted.is_none());
        let mut others = live.flat_map(|database| database.triggers());
        let taken_by = |other: &&Arc<TriggerDefinition>| {
            other.trigger_id != trigger.trigger_id
                && matches!(&other.spec, TriggerSpec::Request { path: taken } if taken == path)
        };
        match others.find(taken_by) {
            None => Ok(()),
            Some(other) => Err(CatalogError::RequestPathTaken {
                path: path.clone(),
                trigger: other.trigger_name.clone(),
                database: other.database_name.clone(),
            }),
        }
    }
}

fn check_name(name: &str) -> Result<(), CatalogError> {
    if name.is_empty() {
        return Err(CatalogError::InvalidName("name cannot be empty"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(CatalogError::InvalidName("String is greater than 1MB"));
    }
    Ok(())
}

fn check_column(name: &str, column_type: ColumnType) -> Result<(), CatalogError> {
    check_name(name)?;
    if is_reserved_column(name) || column_type == ColumnType::Time {
        return Err(CatalogError::ReservedColumn(name.to_owned()));
    }
    Ok(())
}

fn push_column(columns: &mut Vec<Column>, first_id: u16, name: &str, column_type: ColumnType) -> ColumnId {
    let id = ColumnId(first_id + columns.len() as u16);
    columns.push(Column {
        id,
        name: name.into(),
        column_type,
    });
    id
}

fn deletion(name: &Arc<str>, now: DateTime<Utc>, hard_delete_at: Option<DateTime<Utc>>) -> Deletion {
    Deletion {
        original_name: Arc::clone(name),
        deleted_at: now,
        hard_delete_at,
        data_removed_at: None,
    }
}

fn soft_deletion_of_table(
    database: &Database,
    table: &Table,
    now: DateTime<Utc>,
    hard_delete_at: Option<DateTime<Utc>>,
) -> Operation {
    Operation::SoftDeleteTable {
        table: table.id,
        new_name: deleted_name(&table.name, now, |name| database.table(name).is_some()),
        deletion: deletion(&table.name, now, hard_delete_at),
    }
}

/// `<name>-YYYYMMDDThhmmss`, with a counter behind it when the same name was deleted twice in a second.
fn deleted_name(name: &str, now: DateTime<Utc>, is_taken: impl Fn(&str) -> bool) -> Arc<str> {
    let dated_name = format!("{name}-{}", now.format("%Y%m%dT%H%M%S"));
    let counted_names = (2..).map(|count: u32| format!("{dated_name}-{count}"));
    let mut candidates = std::iter::once(dated_name.clone()).chain(counted_names);
    candidates
        .find(|candidate| !is_taken(candidate))
        .expect("a counter finds a free name")
        .into()
}
