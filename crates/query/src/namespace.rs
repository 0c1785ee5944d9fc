//! The names a query can use: the SQL catalog `public` with the schemas `iox` and `system` of one database.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::TableType;
use tidemill_catalog::{Catalog, Database};
use tidemill_store::{FileStore, Store};

use crate::store_table::StoreTable;
use crate::system::{SystemTable, SystemTables};

/// The one SQL catalog.
pub(crate) const SQL_CATALOG: &str = "public";
/// The schema of the user's tables, which is the default.
pub(crate) const USER_SCHEMA: &str = "iox";
/// The schema of the system tables.
pub(crate) const SYSTEM_SCHEMA: &str = "system";

/// One database as one query sees it.
#[derive(Clone)]
pub(crate) struct Namespace {
    catalog: Arc<Catalog>,
    /// As it was when the query began.
    database: Arc<Database>,
    store: Arc<Store>,
    files: Arc<FileStore>,
    system: Arc<[Arc<dyn SystemTables>]>,
}

impl Namespace {
    pub(crate) fn new(
        catalog: Arc<Catalog>,
        database: Arc<Database>,
        store: Arc<Store>,
        files: Arc<FileStore>,
        system: Arc<[Arc<dyn SystemTables>]>,
    ) -> Self {
        Self {
            catalog,
            database,
            store,
            files,
            system,
        }
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace")
            .field("database", &self.database.name)
            .finish_non_exhaustive()
    }
}

impl CatalogProviderList for Namespace {
    /// Catalogs cannot be added; the one offered is given back.
    fn register_catalog(
        &self,
        _name: String,
        catalog: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        Some(catalog)
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![SQL_CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == SQL_CATALOG).then(|| Arc::new(self.clone()) as Arc<dyn CatalogProvider>)
    }
}

impl CatalogProvider for Namespace {
    fn schema_names(&self) -> Vec<String> {
        vec![USER_SCHEMA.to_owned(), SYSTEM_SCHEMA.to_owned()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        match name {
            USER_SCHEMA => Some(Arc::new(UserSchema(self.clone()))),
            SYSTEM_SCHEMA => Some(Arc::new(SystemSchema(self.clone()))),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct UserSchema(Namespace);

#[async_trait]
impl SchemaProvider for UserSchema {
    fn table_names(&self) -> Vec<String> {
        let tables = self.0.database.tables().filter(|table| table.deleted.is_none());
        tables.map(|table| table.name.to_string()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(table) = self
            .0
            .database
            .table(name)
            .filter(|table| table.deleted.is_none())
        else {
            return Ok(None);
        };
        // A column is in the catalog before the first row that has it is in the store, so looking at the store first
        // and at the catalog then gives a table that knows all columns of the snapshot.
        let snapshot = self.0.store.scan(table.id);
        let catalog = self.0.catalog.state();
        let table = catalog.table_by_id(table.id).unwrap_or(table);
        let retention_ns = self.0.database.retention_of(table);
        Ok(Some(Arc::new(StoreTable::new(
            Arc::clone(table),
            retention_ns,
            Arc::clone(&self.0.files),
            snapshot,
        ))))
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        Ok(self.table_exist(name).then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0
            .database
            .table(name)
            .is_some_and(|table| table.deleted.is_none())
    }
}

#[derive(Debug)]
struct SystemSchema(Namespace);

#[async_trait]
impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        let tables = self
            .0
            .system
            .iter()
            .flat_map(|source| source.tables(&self.0.database.name));
        tables.map(|(name, _)| name.to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let table = SystemTable::find(&self.0.system, &self.0.database.name, name);
        Ok(table.map(|table| Arc::new(table) as Arc<dyn TableProvider>))
    }

    fn table_exist(&self, name: &str) -> bool {
        SystemTable::find(&self.0.system, &self.0.database.name, name).is_some()
    }
}
