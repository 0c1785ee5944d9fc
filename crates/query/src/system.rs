//! Tables of the schema `system`: rows that describe the server, made when they are asked for.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::exec_err;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

/// A source of system tables. Sources read memory and answer at once, hence no `async`.
pub trait SystemTables: Send + Sync {
    /// The tables that this source has in `database`: names without the schema, and their columns.
    fn tables(&self, database: &str) -> Vec<(&'static str, SchemaRef)>;

    /// All rows of one of those tables, in the schema given there.
    ///
    /// Errors: why the rows cannot be given, in words for the user.
    fn scan(&self, database: &str, table: &str) -> Result<RecordBatch, String>;
}

/// One system table within one query.
pub(crate) struct SystemTable {
    source: Arc<dyn SystemTables>,
    database: Arc<str>,
    name: &'static str,
    schema: SchemaRef,
}

impl SystemTable {
    /// The table `name` of the first of `sources` that has it.
    pub(crate) fn find(sources: &[Arc<dyn SystemTables>], database: &Arc<str>, name: &str) -> Option<Self> {
        sources.iter().find_map(|source| {
            let (name, schema) = source
                .tables(database)
                .into_iter()
                .find(|(known, _)| *known == name)?;
            Some(Self {
                source: Arc::clone(source),
                database: Arc::clone(database),
                name,
                schema,
            })
        })
    }
}

impl fmt::Debug for SystemTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemTable")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match self.source.scan(&self.database, self.name) {
            Ok(rows) => {
                let schema = Arc::clone(&self.schema);
                Ok(MemorySourceConfig::try_new_exec(
                    &[vec![rows]],
                    schema,
                    projection.cloned(),
                )?)
            }
            Err(reason) => exec_err!("reading system.{}: {reason}", self.name),
        }
    }
}
