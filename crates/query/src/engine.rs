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
use tidemill_store::{FileStore, Store};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::answer::{QueryOutput, QueryTask, TaskBatches};
use crate::catalog_tables::CatalogTables;
use crate::complexity::STACK_BYTES;
use crate::counts::{QueryCounter, QueryCounts};
use crate::error::QueryError;
use crate::namespace::Namespace;
use crate::outgoing::Outgoing;
use crate::params::{self, Params};
use crate::session::{QueryConfig, SessionTemplate, task_context};
use crate::statement;
use crate::system::SystemTables;

/// Batches that are computed ahead of the caller. More would only hold memory.
const BATCHES_AHEAD: usize = 2;
/// Stands for a time limit that is too long for the clock.
const TIMEOUT_MAX: Duration = Duration::from_hours(24 * 365);

/// Answers SQL over the catalog, the store and the system tables.
///
/// Queries are computed on threads of their own, so that none of them delays those who accept requests.
pub struct QueryEngine {
    catalog: Arc<Catalog>,
    store: Arc<Store>,
    files: Arc<FileStore>,
    system: Arc<[Arc<dyn SystemTables>]>,
    template: SessionTemplate,
    timeout: Duration,
    counter: Arc<QueryCounter>,
    /// `None` only while it is being dropped.
    runtime: Option<Runtime>,
}

impl QueryEngine {
    /// An engine with the system tables of `system` beside those of the catalog. The files that `store` names are read
    /// through `files`. May be called inside or outside of
    /// a tokio runtime.
    ///
    /// # Panics
    /// When the operating system gives no threads, or `config.spill_directory` cannot be used: a server cannot start
    /// without.
    pub fn new(
        catalog: Arc<Catalog>,
        store: Arc<Store>,
        files: Arc<FileStore>,
        system: Vec<Arc<dyn SystemTables>>,
        config: QueryConfig,
    ) -> Self {
        let template = SessionTemplate::new(&config, &files).expect("the spill directory can be used");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.threads.max(1))
            .thread_name("query")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .expect("the operating system gives threads at start");
        let catalog_tables: Arc<dyn SystemTables> = Arc::new(CatalogTables::new(Arc::clone(&catalog)));
        let system = std::iter::once(catalog_tables).chain(system).collect();
        Self {
            catalog,
            store,
            files,
            system,
            template,
            timeout: config.timeout,
            counter: Arc::default(),
            runtime: Some(runtime),
        }
    }

    /// How queries have ended until now.
    pub fn counts(&self) -> QueryCounts {
        self.counter.counts()
    }

    /// Plans `sql`, which must be one statement that only reads, in `database` and starts it.
    ///
    /// The answer sees everything that was applied to the store before the call. Dropping the future or the stream
    /// of the answer stops the query.
    ///
    /// # Errors
    /// Everything that can be known before rows are computed; what fails later is an item of the stream.
    pub async fn sql(&self, database: &str, sql: &str, params: Params) -> Result<QueryOutput, QueryError> {
        let now = Instant::now();
        let deadline = now.checked_add(self.timeout).unwrap_or(now + TIMEOUT_MAX);
        let catalog = self.catalog.state();
        let database = catalog
            .database(database)
            .filter(|database| database.deleted.is_none())
            .ok_or_else(|| QueryError::DatabaseNotFound(database.to_owned()))?;
        let namespace = Namespace::new(
            Arc::clone(&self.catalog),
            Arc::clone(database),
            Arc::clone(&self.store),
            Arc::clone(&self.files),
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
        let counted = self.counter.begin();
        let run = async move { counted.end(query.run(answer_planned, batch_sender).await) };
        let task = QueryTask::new(runtime.spawn(run));
        match planned.await {
            Ok(schema) => {
                let batches = Box::pin(TaskBatches::new(task, batches));
                Ok(QueryOutput { schema, batches })
            }
            Err(_) => Err(match task.outcome().await {
                Err(error) => error,
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

/// One query at work.
struct Query {
    session: SessionState,
    sql: String,
    params: Params,
    deadline: Instant,
    timeout: Duration,
}

impl Query {
    /// Computes the answer and hands it on; both must be done by the deadline, so that a reader who stops reading does
    /// not hold memory for ever. Batches go to `batches`; an error is what the task ends with.
    async fn run(
        self,
        answer_planned: oneshot::Sender<SchemaRef>,
        batches: mpsc::Sender<RecordBatch>,
    ) -> Result<(), QueryError> {
        let started = self.in_time(self.start()).await?;
        let mut rows = started.map_err(QueryError::from_planning)?;
        let outgoing = Outgoing::new(&rows.schema());
        if answer_planned.send(Arc::clone(outgoing.schema())).is_err() {
            return Ok(());
        }
        while let Some(batch) = self.in_time(rows.next()).await? {
            let batch = batch
                .and_then(|batch| Ok(outgoing.prepare(batch)?))
                .map_err(QueryError::from_execution)?;
            if self.in_time(batches.send(batch)).await?.is_err() {
                // Nobody waits for the rest.
                return Ok(());
            }
        }
        Ok(())
    }

    /// What `work` gives, unless the deadline comes first.
    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, QueryError> {
        let late = || QueryError::DeadlineExceeded(self.timeout);
        // Work that is always ready would never let the timer have its say.
        if Instant::now() >= self.deadline {
            return Err(late());
        }
        tokio::time::timeout_at(self.deadline, work)
            .await
            .map_err(|_| late())
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
