//! Dry runs of plugins: `test wal_plugin`, `test schedule_plugin`, `test request_plugin` (engine.md 0.31, 5.9, 8.4).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use parking_lot::Mutex as BlockingMutex;
use tidemill_lineproto::{ParseOptions, Precision, parse};
use tidemill_triggers::{CronSchedule, UnknownMethod};
use tidemill_worker_proto::{EntryPoint, Load, RequestHead, RequestMethod, ResponseHead, Work};
use tokio::sync::{Mutex, Semaphore};

use crate::captured_writes;
use crate::effects::RunEffects;
use crate::error::EngineError;
use crate::global_cache::GlobalCache;
use crate::launcher::LaunchError;
use crate::pending_runs::RunEnd;
use crate::plugin_files::ResolvedPlugin;
use crate::plugin_logs::{LogText, now_ns};
use crate::plugin_state::TestState;
use crate::request_runner::REQUEST_PATH_PREFIX;
use crate::requests::{TestReport, TestRequest, TestResponse, TestSchedule, TestWal, TriggerTime};
use crate::row_batches::encode_parsed;
use crate::services::Services;
use crate::test_worker::{TestRun, TestWorker};

const CACHE_NAME_DEFAULT: &str = "_shared_test";
const CACHE_TTL_DEFAULT: Duration = Duration::from_mins(30);
/// Processes kept for their caches; beyond it the one that was not used for longest goes. As many runs go on at once.
const WORKERS_MAX: usize = 4;
/// Every second: what `test schedule_plugin` assumes.
const SCHEDULE_DEFAULT: &str = "* * * * * *";

/// The caches of one name and the process that holds half of them.
struct TestBench {
    cache: Arc<GlobalCache>,
    state: Arc<TestState>,
    worker: Mutex<Option<TestWorker>>,
    last_used: BlockingMutex<Instant>,
}

/// All dry runs of a server. Those that share a cache name are run one after another.
pub(crate) struct TestRuns {
    services: Arc<Services>,
    benches: BlockingMutex<HashMap<String, Arc<TestBench>>>,
    running: Semaphore,
}

/// What the three kinds of dry run have in common.
struct Subject {
    plugin: ResolvedPlugin,
    database: String,
    arguments: Option<BTreeMap<String, String>>,
    cache_name: Option<String>,
}

impl TestRuns {
    pub(crate) fn new(services: Arc<Services>) -> Self {
        Self {
            services,
            benches: BlockingMutex::default(),
            running: Semaphore::new(WORKERS_MAX),
        }
    }

    pub(crate) async fn wal(&self, test: TestWal) -> Result<TestReport, EngineError> {
        let plugin = self.resolve(&test.filename).await?;
        let options = ParseOptions {
            precision: Precision::Nanosecond,
            default_time_ns: now_ns(),
            string_bytes_max: usize::MAX,
        };
        let input = test.input_lp;
        let parsed = tokio::task::spawn_blocking(move || parse(&input, &options)).await;
        let parsed = parsed.map_err(|_| EngineError::ShuttingDown)?;
        if let Some(error) = parsed.errors.first() {
            let error = format!(
                "line protocol parse failed: {} (line {})",
                error.message, error.line_number
            );
            return Ok(TestReport {
                errors: vec![error],
                ..TestReport::default()
            });
        }
        let rows = match encode_parsed(&parsed.tables) {
            Ok(rows) => rows,
            Err(error) => {
                return Ok(TestReport {
                    errors: vec![error.to_string()],
                    ..TestReport::default()
                });
            }
        };
        let subject = Subject {
            plugin,
            database: test.database,
            arguments: test.input_arguments,
            cache_name: test.cache_name,
        };
        let start_row = LogText::Static("starting execution of wal plugin.");
        self.run(
            subject,
            EntryPoint::Writes,
            Work::Writes { tables: rows.tables },
            rows.blob,
            start_row,
        )
        .await
    }

    pub(crate) async fn schedule(&self, test: TestSchedule) -> Result<TestReport, EngineError> {
        let plugin = self.resolve(&test.filename).await?;
        let untimed = |error| {
            Ok(TestReport {
                trigger_time: Some(TriggerTime(None)),
                errors: vec![error],
                ..TestReport::default()
            })
        };
        if !self.database_exists(&test.database) {
            return untimed("couldn't find db".to_owned());
        }
        let expression = test.schedule.as_deref().unwrap_or(SCHEDULE_DEFAULT);
        let cron = match CronSchedule::parse(expression) {
            Ok(cron) => cron,
            Err(error) => return untimed(format!("invalid cron syntax: {error}")),
        };
        let Some(at) = cron.at_or_after(Utc::now()) else {
            return untimed(format!("cron schedule never triggers: {expression}"));
        };
        let time_ns = at.timestamp_nanos_opt().unwrap_or(i64::MAX);
        let subject = Subject {
            plugin,
            database: test.database,
            arguments: test.input_arguments,
            cache_name: test.cache_name,
        };
        let work = Work::Schedule { time_ns };
        let start_row = LogText::Scheduled(time_ns);
        let report = self
            .run(subject, EntryPoint::ScheduledCall, work, Bytes::new(), start_row)
            .await?;
        Ok(TestReport {
            trigger_time: Some(TriggerTime(Some(rfc3339(at)))),
            ..report
        })
    }

    pub(crate) async fn request(&self, test: TestRequest) -> Result<TestReport, EngineError> {
        let plugin = self.resolve(&test.filename).await?;
        if !self.database_exists(&test.database) {
            return Ok(TestReport {
                errors: vec!["couldn't find db".to_owned()],
                ..TestReport::default()
            });
        }
        let method = match &test.method {
            Some(name) => RequestMethod::from_name(&name.to_uppercase())
                .ok_or_else(|| EngineError::Invalid(UnknownMethod(name.clone()).to_string()))?,
            None if test.body.is_empty() => RequestMethod::Get,
            None => RequestMethod::Post,
        };
        let query_string = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(&test.query_parameters)
            .finish();
        let head = RequestHead {
            method,
            query_string,
            query_parameters: test.query_parameters.into_iter().collect(),
            headers: test
                .headers
                .into_iter()
                .map(|(name, value)| (name.to_lowercase(), value))
                .collect(),
        };
        let subject = Subject {
            plugin,
            database: test.database,
            arguments: test.input_arguments,
            cache_name: test.cache_name,
        };
        let start_row = LogText::Static("starting execution of request plugin.");
        self.run(
            subject,
            EntryPoint::Request,
            Work::Request(head),
            test.body.into(),
            start_row,
        )
        .await
    }

    /// Ends all processes.
    pub(crate) async fn shutdown(&self) {
        let benches: Vec<_> = self.benches.lock().drain().map(|(_, bench)| bench).collect();
        let grace = self.services.config.stop_grace;
        let stops = benches.iter().map(|bench| async {
            // A run that is going on ends with its process, when the bench is dropped.
            if let Ok(mut worker) = bench.worker.try_lock()
                && let Some(worker) = worker.take()
            {
                worker.stop(grace).await;
            }
        });
        futures::future::join_all(stops).await;
    }

    async fn resolve(&self, filename: &str) -> Result<ResolvedPlugin, EngineError> {
        self.services
            .resolve_plugin(filename)
            .await
            .map_err(EngineError::Plugin)
    }

    fn database_exists(&self, name: &str) -> bool {
        let state = self.services.catalog().state();
        state
            .database(name)
            .is_some_and(|database| database.deleted.is_none())
    }

    async fn run(
        &self,
        subject: Subject,
        entry: EntryPoint,
        work: Work,
        blob: Bytes,
        start_row: LogText,
    ) -> Result<TestReport, EngineError> {
        let Subject {
            plugin,
            database,
            arguments,
            cache_name,
        } = subject;
        let load = Load {
            form: plugin.form,
            path: plugin.path.to_string_lossy().into_owned(),
            plugin_dir: plugin.plugin_dir.to_string_lossy().into_owned(),
            entry,
            trigger_name: "test".to_owned(),
            database: database.clone(),
            arguments: arguments.map(|arguments| arguments.into_iter().collect()),
            concurrency: 1,
            cache_ttl_default_ms: Some(CACHE_TTL_DEFAULT.as_millis() as u64),
            output_bytes_max: self.services.config.output_bytes_max,
            request_path: Some(format!("{REQUEST_PATH_PREFIX}test")),
        };
        let time_limit = self.services.config.request_timeout;
        let run = TestRun {
            load,
            work,
            blob,
            start_row,
            time_limit,
        };

        let bench = self.bench(cache_name.as_deref().unwrap_or(CACHE_NAME_DEFAULT));
        let mut place = bench.worker.lock().await;
        // After the lock, so that those who wait for one bench do not keep others from theirs.
        let _running = self
            .running
            .acquire()
            .await
            .map_err(|_| EngineError::ShuttingDown)?;
        // Taken out while it runs: if the client leaves, the process ends with this future.
        let mut worker = match place.take().filter(TestWorker::is_current) {
            Some(worker) => worker,
            None => match TestWorker::start(
                Arc::clone(&self.services),
                Arc::clone(&bench.cache),
                Arc::clone(&bench.state),
            )
            .await
            {
                Ok(worker) => worker,
                Err(LaunchError::PythonUnavailable(reason)) => {
                    return Err(EngineError::PythonUnavailable(reason));
                }
                Err(error @ LaunchError::Failed(_)) => {
                    let error = format!("error executing plugin: {error}");
                    return Ok(TestReport {
                        errors: vec![error],
                        ..TestReport::default()
                    });
                }
            },
        };
        let (end, captured, usable) = worker.run(run).await;
        if usable {
            *place = Some(worker);
            *bench.last_used.lock() = Instant::now();
            self.expire_later(&bench);
        }
        drop(place);

        let mut report = TestReport {
            log_lines: captured.log_lines,
            ..TestReport::default()
        };
        // Also of a plugin that failed, or did not end: the part is what its author wants to see.
        if let Some((head, body)) = captured.streamed {
            report.response = Some(test_response(head, &body));
        }
        let mut writes = captured.immediate_writes;
        match end {
            RunEnd::Returned {
                writes: collected,
                state,
                response,
                blob,
            } => match RunEffects::split(collected, state, blob, &database) {
                Some(effects) => {
                    writes.extend(effects.lines);
                    bench.state.apply(effects.state);
                    if let Some(head) = response {
                        report.response = Some(test_response(head, &effects.body));
                    }
                }
                None => report
                    .errors
                    .push("the worker sent lengths that do not fit".to_owned()),
            },
            RunEnd::Failed(failure) => {
                report
                    .errors
                    .push(format!("error executing plugin: {}", failure.message));
                report
                    .log_lines
                    .extend(failure.traceback.map(|traceback| format!("ERROR: {traceback}")));
            }
            RunEnd::Lost(reason) => report.errors.push(format!("error executing plugin: {reason}")),
        }
        let state = self.services.catalog().state();
        captured_writes::describe(&state, &writes, &mut report);
        Ok(report)
    }

    /// The caches of that name, made where there are none.
    fn bench(&self, cache_name: &str) -> Arc<TestBench> {
        let mut benches = self.benches.lock();
        if let Some(bench) = benches.get(cache_name) {
            return Arc::clone(bench);
        }
        if benches.len() >= WORKERS_MAX {
            let oldest = benches
                .iter()
                .min_by_key(|(_, bench)| *bench.last_used.lock())
                .map(|(name, _)| name.clone());
            // Its process ends when its last run, if there is one, is over.
            oldest.and_then(|name| benches.remove(&name));
        }
        let bench = Arc::new(TestBench {
            cache: Arc::new(GlobalCache::new(Some(CACHE_TTL_DEFAULT))),
            state: Arc::default(),
            worker: Mutex::new(None),
            last_used: BlockingMutex::new(Instant::now()),
        });
        benches.insert(cache_name.to_owned(), Arc::clone(&bench));
        bench
    }

    /// Ends the process of a bench when everything in its caches has expired and nobody has used it since.
    fn expire_later(&self, bench: &Arc<TestBench>) {
        let bench = Arc::downgrade(bench);
        let grace = self.services.config.stop_grace;
        tokio::spawn(async move {
            tokio::time::sleep(CACHE_TTL_DEFAULT).await;
            let Some(bench) = bench.upgrade() else { return };
            if bench.last_used.lock().elapsed() < CACHE_TTL_DEFAULT {
                return;
            }
            let idle = bench.worker.lock().await.take();
            if let Some(worker) = idle {
                worker.stop(grace).await;
            }
        });
    }
}

fn test_response(head: ResponseHead, body: &[u8]) -> TestResponse {
    TestResponse {
        status: head.status,
        headers: head.headers,
        body: String::from_utf8_lossy(body).into_owned(),
    }
}

fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
