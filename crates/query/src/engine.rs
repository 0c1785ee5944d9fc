//! Entry point: a statement in, a schema and a stream of batches out.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::{SQLOptions, SessionState};
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use tidemill_catalog::Catalog;
use tidemill_store::Store;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::answer::{QueryOutput, QueryTask, TaskBatches, task_failure};
use crate::catalog_tables::CatalogTables;
use crate::error::QueryError;
use crate::namespace::Namespace;
use crate::outgoing::Outgoing;
use crate::params::{self, Params};
use crate::session::{QueryConfig, SessionTemplate, task_context};
use crate::statement;
use crate::system::SystemTables;

/// Batches that are computed ahead of the caller. More would only hold memory.
const BATCHES_AHEAD: usize = 2;

/// Answers SQL over the catalog, the store and the system tables.
///
/// Queries are computed on threads of their own, so that none of them delays those who accept requests.
pub struct QueryEngine {
    catalog: Arc<Catalog>,
    store: Arc<Store>,
    system: Arc<[Arc<dyn SystemTables>]>,
    template: SessionTemplate,
    timeout: Duration,
    /// `None` only while it is being dropped.
    runtime: Option<Runtime>,
}

impl QueryEngine {
    /// An engine with the system tables of `system` beside those of the catalog. May be called inside or outside of
    /// a tokio runtime.
    ///
    /// # Panics
    /// When the operating system gives no threads, or `config.spill_directory` cannot be used: a server cannot start
    /// without.
    pub fn new(
        catalog: Arc<Catalog>,
        store: Arc<Store>,
        system: Vec<Arc<dyn SystemTables>>,
        config: QueryConfig,
    ) -> Self {
        let template = SessionTemplate::new(&config).expect("the spill directory can be used");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.threads.max(1))
            .thread_name("query")
            .enable_all()
            .build()
            .expect("the operating system gives threads at start");
        let catalog_tables: Arc<dyn SystemTables> = Arc::new(CatalogTables::new(Arc::clone(&catalog)));
        let system = std::iter::once(catalog_tables).chain(system).collect();
        Self {
            catalog,
            store,
            system,
            template,
            timeout: config.timeout,
            runtime: Some(runtime),
        }
    }

    /// Plans `sql`, which must be one statement that only reads, in `database` and starts it.
    ///
    /// The answer sees everything that was applied to the store before the call. Dropping the future or the stream
    /// of the answer stops the query.
    ///
    /// # Errors
    /// Everything that can be known before rows are computed; what fails later is an item of the stream.
    pub async fn sql(&self, database: &str, sql: &str, params: Params) -> Result<QueryOutput, QueryError> {
        let deadline = Instant::now() + self.timeout;
        let catalog = self.catalog.state();
        let database = catalog
            .database(database)
            .filter(|database| database.deleted.is_none())
            .ok_or_else(|| QueryError::DatabaseNotFound(database.to_owned()))?;
        let namespace = Namespace::new(
            Arc::clone(&self.catalog),
            Arc::clone(database),
            Arc::clone(&self.store),
            Arc::clone(&self.system),
        );
        let session = self.template.session(namespace);

        let (answer_planned, planned) = oneshot::channel();
        let (batch_sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let query = Query {
            session,
            sql: sql.to_owned(),
            params,
            deadline,
            timeout: self.timeout,
        };
        let runtime = self
            .runtime
            .as_ref()
            .expect("the runtime lives as long as the engine");
        let mut task = runtime.spawn(query.run(answer_planned, batch_sender));
        let abort = AbortUnlessKept(Some(task.abort_handle()));

        match planned.await {
            Ok(schema) => {
                let schema = schema?;
                abort.keep();
                let batches = Box::pin(TaskBatches::new(QueryTask::new(task), batches));
                Ok(QueryOutput { schema, batches })
            }
            Err(_) => Err(match (&mut task).await {
                Err(failure) => task_failure(&failure),
                Ok(()) => QueryError::execution("the query ended without an answer"),
            }),
        }
    }
}

impl Drop for QueryEngine {
    /// Stops running queries without waiting for them, since this may run inside another runtime.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Stops the task if the caller goes away before there is a stream to own it.
struct AbortUnlessKept(Option<tokio::task::AbortHandle>);

impl AbortUnlessKept {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for AbortUnlessKept {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// One query at work.
struct Query {
    session: SessionState,
    sql: String,
    params: Params,
    deadline: Instant,
    timeout: Duration,
}

impl Query {
    async fn run(
        self,
        answer_planned: oneshot::Sender<Result<SchemaRef, QueryError>>,
        batches: mpsc::Sender<Result<RecordBatch, QueryError>>,
    ) {
        let started = match tokio::time::timeout_at(self.deadline, self.start()).await {
            Ok(started) => started.map_err(QueryError::from_planning),
            Err(_) => Err(QueryError::DeadlineExceeded(self.timeout)),
        };
        let mut rows = match started {
            Ok(rows) => rows,
            Err(error) => {
                // A caller that has gone away needs no error.
                let _ = answer_planned.send(Err(error));
                return;
            }
        };
        let outgoing = Outgoing::new(&rows.schema());
        if answer_planned.send(Ok(Arc::clone(outgoing.schema()))).is_err() {
            return;
        }
        loop {
            let batch = match tokio::time::timeout_at(self.deadline, rows.next()).await {
                Ok(None) => return,
                Ok(Some(batch)) => batch
                    .and_then(|batch| Ok(outgoing.prepare(batch)?))
                    .map_err(QueryError::from_execution),
                Err(_) => Err(QueryError::DeadlineExceeded(self.timeout)),
            };
            let failed = batch.is_err();
            if batches.send(batch).await.is_err() || failed {
                return;
            }
        }
    }

    async fn start(&self) -> Result<SendableRecordBatchStream, DataFusionError> {
        let statement = statement::parse(&self.sql, &self.params)?;
        let plan = self.session.statement_to_plan(statement).await?;
        let read_only = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        read_only.verify_plan(&plan)?;
        let plan = plan.with_param_values(params::to_datafusion(&self.params))?;
        let plan = self.session.create_physical_plan(&plan).await?;
        execute_stream(plan, task_context(&self.session))
    }
}
