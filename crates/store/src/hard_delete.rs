//! The end of what was deleted softly: its data goes when its time has come, and its name some time later.

use std::collections::BTreeSet;
use std::error::Error;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use tidemill_catalog::{
    Catalog, CatalogError, CatalogState, Database, DatabaseId, Deletion, Table, TableId, Transaction,
};

/// Where the data of tables is.
#[async_trait]
pub trait TableData: Send + Sync {
    /// The tables that have rows in memory or in files.
    fn tables_with_data(&self) -> BTreeSet<TableId>;

    /// Removes all rows and files of a table from sight, durably and for ever. One that has none is no error.
    ///
    /// # Errors
    /// Why nothing was done; it may be tried again.
    async fn drop_table_data(&self, table: TableId) -> Result<(), Box<dyn Error + Send + Sync>>;
}

/// Why a step was not done to its end. The next one goes on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HardDeleteError {
    /// The catalog could not be changed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The data of a table could not be removed.
    #[error("the data of deleted table {table} cannot be removed: {source}")]
    Data {
        /// The table.
        table: TableId,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// What a step has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HardDeleted {
    /// Tables whose data was removed.
    pub data_of: Vec<TableId>,
    /// Tables that are not in the catalog any more; those of `databases` are not counted.
    pub tables: Vec<TableId>,
    /// Databases that are not in the catalog any more.
    pub databases: Vec<DatabaseId>,
}

/// Removes the data of what is due, and takes out of the catalog what has been without data for `grace`.
///
/// First the catalog says, durably, that there is no way back; then the data goes; the catalog entry is the last. So a
/// crash between any two leaves something to go on with. Data of a table that the catalog gave up or forgot goes whenever
/// it is seen: a write that was under way may bring some.
///
/// # Errors
/// See [`HardDeleteError`]; what was done before stays done.
pub async fn hard_delete_due(
    catalog: &Catalog,
    data: &dyn TableData,
    grace: TimeDelta,
    now: DateTime<Utc>,
) -> Result<HardDeleted, HardDeleteError> {
    let mut done = HardDeleted::default();
    catalog
        .transact(|transaction| give_up_due(transaction, now))
        .await?;
    for table in data.tables_with_data() {
        let state = catalog.state();
        // A table of the future is a sign of a catalog that is older than the data: that is not deleted.
        if state.keeps_data_of(table) || !state.has_had_table(table) {
            continue;
        }
        let dropped = data.drop_table_data(table).await;
        dropped.map_err(|source| HardDeleteError::Data { table, source })?;
        done.data_of.push(table);
    }
    let with_data = data.tables_with_data();
    let remove = |transaction: &mut Transaction| {
        let state = transaction.state().clone();
        let is_over = |deletion: Option<&Deletion>| {
            let removed_at = deletion.and_then(|deletion| deletion.data_removed_at);
            removed_at.is_some_and(|removed_at| now.signed_duration_since(removed_at) >= grace)
        };
        let (mut tables, mut databases) = (Vec::new(), Vec::new());
        for database in state.databases() {
            let has_data = database.tables().any(|table| with_data.contains(&table.id));
            if is_over(database.deleted.as_ref()) && !has_data {
                transaction.remove_database(database.id)?;
                databases.push(database.id);
                continue;
            }
            for table in database.tables() {
                if is_over(table.deleted.as_ref()) && !with_data.contains(&table.id) {
                    transaction.remove_table(table.id)?;
                    tables.push(table.id);
                }
            }
        }
        Ok((tables, databases))
    };
    (done.tables, done.databases) = catalog.transact(remove).await?;
    Ok(done)
}

/// When [`hard_delete_due`] has something to do next, as far as the catalog knows; `None`: never.
pub fn next_hard_delete(state: &CatalogState, grace: TimeDelta) -> Option<DateTime<Utc>> {
    let of_deletion = |deletion: &Deletion| match deletion.data_removed_at {
        Some(removed_at) => removed_at.checked_add_signed(grace),
        None => deletion.hard_delete_at,
    };
    let of_database = |database: &Database| {
        let tables = database.tables().filter_map(|table| table.deleted.as_ref());
        database
            .deleted
            .iter()
            .chain(tables)
            .filter_map(of_deletion)
            .min()
    };
    state
        .databases()
        .filter_map(|database| of_database(database))
        .min()
}

/// Marks everything whose time has come: from then on it cannot be undeleted.
fn give_up_due(transaction: &mut Transaction, now: DateTime<Utc>) -> Result<(), CatalogError> {
    let state = transaction.state().clone();
    let is_due = |deletion: Option<&Deletion>| deletion.is_some_and(|deletion| deletion.is_due(now));
    for database in state.databases() {
        let database_is_due = is_due(database.deleted.as_ref());
        if database_is_due {
            transaction.give_up_database(database.id, now)?;
        }
        // With the database go all its tables, whatever was said of them.
        let goes =
            |table: &Table| table.deleted.is_some() && database_is_due || is_due(table.deleted.as_ref());
        for table in database.tables().filter(|table| goes(table)) {
            transaction.give_up_table(table.id, now)?;
        }
    }
    Ok(())
}
