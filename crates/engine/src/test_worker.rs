//! A worker for dry runs: real queries and caches of their own, but writes are captured (engine.md 5.9).

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tidemill_ingest::DatabaseLines;
use tidemill_triggers::ByteSize;
use tidemill_worker::{ExitReason, OutputStream, WorkerEvents};
use tidemill_worker_proto::{Failure, FromWorker, Load, LogLevel, ResponseHead, RunId, ToWorker, Work};
use tokio::sync::oneshot;

use crate::global_cache::GlobalCache;
use crate::launcher::{LaunchError, WorkerHandle};
use crate::memory_limit::MemoryLimit;
use crate::pending_runs::RunEnd;
use crate::plugin_calls::{PluginQuery, RunningQueries};
use crate::plugin_logs::{LogText, level_name};
use crate::plugin_state::TestState;
use crate::services::Services;

/// Lines of log that an answer holds, and bytes of them; the rest is counted.
const LOG_LINES_MAX: usize = 10_000;
/// Bytes of a streamed answer that are kept; then its run is ended.
const STREAMED_BYTES_MAX: usize = 1 << 20;
const LOG_BYTES_MAX: usize = 16 << 20;

/// What a dry run left behind.
#[derive(Debug, Default)]
pub(crate) struct Captured {
    pub(crate) log_lines: Vec<String>,
    pub(crate) immediate_writes: Vec<DatabaseLines>,
    /// An answer that the plugin has streamed, as far as it came and is kept.
    pub(crate) streamed: Option<(ResponseHead, Vec<u8>)>,
    dropped_log_lines: usize,
    log_bytes: usize,
    written_bytes: u64,
}

impl Captured {
    /// Adds a part of a streamed answer; false if there is more than is kept.
    fn stream(&mut self, part: &[u8]) -> bool {
        let Some((_, body)) = &mut self.streamed else {
            return true;
        };
        let room = STREAMED_BYTES_MAX - body.len();
        body.extend_from_slice(&part[..part.len().min(room)]);
        part.len() <= room
    }

    fn log(&mut self, level: LogLevel, text: &str) {
        let log_bytes = self.log_bytes + text.len();
        if self.log_lines.len() < LOG_LINES_MAX && log_bytes <= LOG_BYTES_MAX {
            self.log_bytes = log_bytes;
            self.log_lines.push(format!("{}: {text}", level_name(level)));
        } else {
            self.dropped_log_lines += 1;
        }
    }
}

/// The dry run that is going on.
#[derive(Default)]
struct Current {
    database: String,
    captured: Captured,
    loaded: Option<oneshot::Sender<Result<(), Failure>>>,
    finished: Option<(RunId, oneshot::Sender<RunEnd>)>,
}

struct TestEvents {
    services: Arc<Services>,
    cache: Arc<GlobalCache>,
    state: Arc<TestState>,
    /// Set right after the start; nothing that needs an answer comes before the plugin is loaded.
    worker: OnceLock<std::sync::Weak<dyn WorkerHandle>>,
    queries: Arc<RunningQueries>,
    current: Mutex<Current>,
}

impl TestEvents {
    fn worker(&self) -> Option<Arc<dyn WorkerHandle>> {
        self.worker.get()?.upgrade()
    }

    /// Keeps a part of a streamed answer, and lets the plugin go on, or not.
    fn stream(&self, run: RunId, part: &[u8]) {
        let is_kept = self.current.lock().captured.stream(part);
        let message = if is_kept {
            let bytes = part.len() as u64;
            ToWorker::ResponseTaken { run, bytes }
        } else {
            let reason =
                format!("the answer has more than the {STREAMED_BYTES_MAX} bytes that a dry run shows");
            ToWorker::Cancel { run, reason }
        };
        self.reply(message, Bytes::new());
    }

    /// Keeps lines that a run writes at once. All of them together are held until its end.
    fn capture(&self, database: Option<String>, lines: Bytes) -> Result<(), String> {
        let bytes_max = self.services.config.output_bytes_max;
        let mut current = self.current.lock();
        let written_bytes = current.captured.written_bytes + lines.len() as u64;
        if written_bytes > bytes_max {
            let bytes_max = ByteSize(bytes_max);
            return Err(format!("a dry run may write {bytes_max} at once and no more"));
        }
        current.captured.written_bytes = written_bytes;
        let database = database.unwrap_or_else(|| current.database.clone());
        current
            .captured
            .immediate_writes
            .push(DatabaseLines { database, lines });
        Ok(())
    }

    fn reply(&self, message: ToWorker, blob: Bytes) {
        if let Some(worker) = self.worker() {
            // A worker that has ended waits for nothing.
            let _ = worker.send(message, blob);
        }
    }
}

impl WorkerEvents for TestEvents {
    fn message(&self, message: FromWorker, blob: Bytes) {
        match message {
            FromWorker::Log { level, text, .. } => self.current.lock().captured.log(level, &text),
            FromWorker::Query {
                call,
                database,
                sql,
                params,
                ..
            } => {
                let Some(worker) = self.worker() else { return };
                let database = database.unwrap_or_else(|| self.current.lock().database.clone());
                let query = PluginQuery {
                    call,
                    database,
                    sql,
                    params,
                };
                let query_engine = Arc::clone(&self.services.query);
                self.queries.begin(query_engine, worker, query);
            }
            FromWorker::AbandonQuery { call } => self.queries.abandon(call),
            FromWorker::Write { call, database, .. } => {
                let outcome = self.capture(database, blob);
                self.reply(ToWorker::WriteDone { call, outcome }, Bytes::new());
            }
            FromWorker::GlobalCache { call, operation } => {
                let (reply, value) = self.cache.operate(operation, &blob, Instant::now());
                self.reply(ToWorker::CacheDone { call, reply }, value);
            }
            FromWorker::State { call, operation } => {
                let (reply, value) = self.state.operate(operation, blob);
                self.reply(ToWorker::StateDone { call, reply }, value);
            }
            FromWorker::Loaded => {
                if let Some(loaded) = self.current.lock().loaded.take() {
                    let _ = loaded.send(Ok(()));
                }
            }
            FromWorker::LoadFailed(failure) => {
                if let Some(loaded) = self.current.lock().loaded.take() {
                    let _ = loaded.send(Err(failure));
                }
            }
            FromWorker::Finished { run, outcome } => {
                let mut current = self.current.lock();
                let Some((_, finished)) = current.finished.take_if(|(expected, _)| *expected == run) else {
                    return;
                };
                let _ = finished.send(RunEnd::new(outcome, blob));
            }
            FromWorker::ResponseBegun { run, response } => {
                self.current.lock().captured.streamed = Some((response, Vec::new()));
                self.stream(run, &blob);
            }
            FromWorker::ResponsePart { run } => self.stream(run, &blob),
            FromWorker::Hello { .. } => {}
        }
    }

    fn output(&self, stream: OutputStream, line: &str) {
        let level = match stream {
            OutputStream::Stdout => LogLevel::Info,
            OutputStream::Stderr => LogLevel::Warn,
        };
        self.current.lock().captured.log(level, line);
    }

    fn exited(&self, reason: ExitReason) {
        let mut current = self.current.lock();
        current.loaded = None;
        if let Some((_, finished)) = current.finished.take() {
            let _ = finished.send(RunEnd::Lost(format!("the plugin's process {reason}")));
        }
    }
}

/// A process for dry runs, kept between them so that its caches are.
pub(crate) struct TestWorker {
    handle: Arc<dyn WorkerHandle>,
    events: Arc<TestEvents>,
    memory_limit: MemoryLimit,
    runs: u64,
    /// See [`Services::environment_changes`].
    environment: u64,
}

/// One dry run.
pub(crate) struct TestRun {
    pub(crate) load: Load,
    pub(crate) work: Work,
    pub(crate) blob: Bytes,
    pub(crate) start_row: LogText,
    pub(crate) time_limit: Duration,
}

impl TestWorker {
    pub(crate) async fn start(
        services: Arc<Services>,
        cache: Arc<GlobalCache>,
        state: Arc<TestState>,
    ) -> Result<Self, LaunchError> {
        let launcher = Arc::clone(&services.launcher);
        let environment = *services.environment_changes.borrow();
        let events = Arc::new(TestEvents {
            services,
            cache,
            state,
            worker: OnceLock::new(),
            queries: Arc::default(),
            current: Mutex::new(Current::default()),
        });
        let memory_limit = MemoryLimit {
            bytes_max: events.services.config.worker_memory_bytes_max,
        };
        let handle = launcher
            .launch("test", memory_limit, Arc::clone(&events) as _)
            .await?;
        events.worker.get_or_init(|| Arc::downgrade(&handle));
        Ok(Self {
            handle,
            events,
            memory_limit,
            runs: 0,
            environment,
        })
    }

    /// Whether the packages are as they were when it started.
    pub(crate) fn is_current(&self) -> bool {
        *self.events.services.environment_changes.borrow() == self.environment
    }

    /// Loads the plugin and runs it once. The second value says whether the process can be used again.
    pub(crate) async fn run(&mut self, run: TestRun) -> (RunEnd, Captured, bool) {
        let TestRun {
            load,
            work,
            blob,
            start_row,
            time_limit,
        } = run;
        let (loaded_sender, loaded) = oneshot::channel();
        let (finished_sender, finished) = oneshot::channel();
        let number = RunId(self.runs);
        self.runs += 1;
        *self.events.current.lock() = Current {
            database: load.database.clone(),
            captured: Captured::default(),
            loaded: Some(loaded_sender),
            finished: Some((number, finished_sender)),
        };
        let execution = async {
            let gone = || RunEnd::Lost("the plugin's process has ended".to_owned());
            let load = ToWorker::Load(Box::new(load));
            if self.handle.send(load, Bytes::new()).is_err() {
                return gone();
            }
            match loaded.await {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => return RunEnd::Failed(failure),
                // The end of the process says how.
                Err(_) => return finished.await.unwrap_or_else(|_| gone()),
            }
            let started = Instant::now();
            self.log(&start_row);
            let run = ToWorker::Run {
                run: number,
                run_id: format!("test-{}", number.0),
                work,
            };
            if self.handle.send(run, blob).is_err() {
                return gone();
            }
            let end = finished.await.unwrap_or_else(|_| gone());
            if matches!(end, RunEnd::Returned { .. }) {
                self.log(&LogText::Finished(started.elapsed()));
            }
            end
        };
        let ended = tokio::select! {
            end = execution => Ok(end),
            reason = self.memory_limit.exceeded(self.handle.as_ref()) => Err(reason),
            () = tokio::time::sleep(time_limit) => {
                let limit = humantime::format_duration(time_limit);
                Err(format!("the run exceeded its time limit of {limit}"))
            }
        };
        let end = match ended {
            Ok(end) => end,
            Err(reason) => {
                self.handle.kill().await;
                RunEnd::Lost(reason)
            }
        };
        let usable = !matches!(end, RunEnd::Lost(_));
        let mut captured = std::mem::take(&mut *self.events.current.lock()).captured;
        if captured.dropped_log_lines > 0 {
            captured.log_lines.push(format!(
                "WARN: {} further lines were dropped",
                captured.dropped_log_lines
            ));
        }
        (end, captured, usable)
    }

    pub(crate) async fn stop(self, grace: Duration) {
        self.handle.stop(grace).await;
    }

    fn log(&self, row: &LogText) {
        self.events
            .current
            .lock()
            .captured
            .log(LogLevel::Info, &row.render());
    }
}
