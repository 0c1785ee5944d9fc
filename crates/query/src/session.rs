//! What all queries share, and the light session that each gets.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use datafusion::error::Result;
use datafusion::execution::context::SessionState;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{FunctionRegistry, TaskContext};
use datafusion::prelude::SessionConfig;
use tidemill_store::FileStore;

use crate::bounded_functions;
use crate::file_scan::FILES_URL;
use crate::functions;
use crate::grouped_tags::GroupByTagNumbers;
use crate::namespace::{Namespace, SQL_CATALOG, USER_SCHEMA};
use crate::yield_after_joins::YieldAfterJoins;

/// Rows in a batch between operators.
const BATCH_ROWS: usize = 8192;
/// How many of the largest memory users an out-of-memory error names.
const CONSUMERS_NAMED: NonZeroUsize = NonZeroUsize::new(5).expect("5 is not zero");

/// Limits on what queries may use together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryConfig {
    /// Threads that compute queries, and the partitions that one query is spread over. 0 counts as 1.
    pub threads: usize,
    /// Memory that the operators of all running queries may hold together. Beyond it they spill, or fail where an
    /// operator cannot.
    pub memory_bytes_max: usize,
    /// Where spilled data goes; `None`: the system's directory for temporary files.
    pub spill_directory: Option<PathBuf>,
    /// Bytes of spilled data at most, of all running queries together.
    pub spill_bytes_max: u64,
    /// How long one query may take from its start to its last row.
    pub timeout: Duration,
}

impl Default for QueryConfig {
    /// All cores, 1 GiB of memory, 10 GiB of spill space, 5 minutes.
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            memory_bytes_max: 1 << 30,
            spill_directory: None,
            spill_bytes_max: 10 << 30,
            timeout: Duration::from_mins(5),
        }
    }
}

/// A session state with everything but the names of a database. Making a session of it copies maps of pointers.
///
/// The state is made for the first query: hundreds of functions touch tens of MiB of the program, which a server that is
/// only written to never needs.
pub(crate) struct SessionTemplate {
    threads: usize,
    runtime: Arc<RuntimeEnv>,
    state: OnceLock<SessionState>,
}

impl SessionTemplate {
    /// Errors: a spill directory that cannot be used.
    pub(crate) fn new(config: &QueryConfig, files: &FileStore) -> Result<Self> {
        let directory = match &config.spill_directory {
            Some(directory) => DiskManagerMode::Directories(vec![directory.clone()]),
            None => DiskManagerMode::OsTmpDirectory,
        };
        let disk = DiskManagerBuilder::default()
            .with_mode(directory)
            .with_max_temp_directory_size(config.spill_bytes_max);
        let pool = TrackConsumersPool::new(FairSpillPool::new(config.memory_bytes_max), CONSUMERS_NAMED);
        let runtime = RuntimeEnvBuilder::new()
            .with_disk_manager_builder(disk)
            .with_memory_pool(Arc::new(pool))
            .build_arc()?;
        let url = ObjectStoreUrl::parse(FILES_URL)?;
        runtime.register_object_store(url.as_ref(), Arc::clone(files.objects()));
        Ok(Self {
            threads: config.threads.max(1),
            runtime,
            state: OnceLock::new(),
        })
    }

    /// A session that sees `namespace` and in which `now()` is now.
    pub(crate) fn session(&self, namespace: Namespace) -> SessionState {
        let state = self.state.get_or_init(|| {
            state(self.threads, Arc::clone(&self.runtime)).expect("all functions have their own names")
        });
        let mut session = state.clone();
        session.register_catalog_list(Arc::new(namespace));
        session.mark_start_execution();
        session
    }
}

fn state(threads: usize, runtime: Arc<RuntimeEnv>) -> Result<SessionState> {
    let mut state = SessionStateBuilder::new()
        .with_config(session_config(threads))
        .with_runtime_env(runtime)
        .with_default_features()
        // Nothing is read from or written to files by name, so neither is registered.
        .with_file_formats(Vec::new())
        .with_table_factories(HashMap::new())
        .with_optimizer_rule(Arc::new(GroupByTagNumbers))
        .with_physical_optimizer_rule(Arc::new(YieldAfterJoins))
        .build();
    state.register_udf(Arc::new(functions::to_timestamp()))?;
    bounded_functions::bound(&mut state)?;
    Ok(state)
}

/// The context to execute a plan of `session` in. Physical plans hold their functions, so it needs none.
pub(crate) fn task_context(session: &SessionState) -> Arc<TaskContext> {
    Arc::new(TaskContext::new(
        None,
        session.session_id().to_owned(),
        session.config().clone(),
        HashMap::new(),
        HashMap::new(),
        HashMap::new(),
        HashMap::new(),
        Arc::clone(session.runtime_env()),
    ))
}

fn session_config(threads: usize) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(SQL_CATALOG, USER_SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true)
        .with_batch_size(BATCH_ROWS)
        .with_target_partitions(threads)
        // Scans make as many partitions as pay; a small input is not worth spreading afterwards.
        .with_round_robin_repartition(false);
    let options = config.options_mut();
    // Strings are `Utf8` for every client; no views.
    options.sql_parser.map_string_types_to_utf8view = false;
    options.execution.parquet.schema_force_view_types = false;
    options.execution.parquet.pushdown_filters = true;
    config
}
