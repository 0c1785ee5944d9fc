//! Worker processes that are tasks: a script says what each run does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{Array, RecordBatch};
use arrow::ipc::reader::StreamReader;
use async_trait::async_trait;
use bytes::Bytes;
use tidemill_worker::{ExitReason, Gone, WorkerEvents};
use tidemill_worker_proto::{
    DatabaseWrites, Failure, FailureKind, FromWorker, Load, Outcome, RESPONSE_WINDOW_BYTES, ResponseHead,
    RunId, ToWorker, Work,
};
use tokio::sync::{mpsc, watch};

use crate::launcher::{LaunchError, Launcher, WorkerHandle};
use crate::memory_limit::MemoryLimit;
use crate::request_completion::CLIENT_LEFT;

/// A call of the plugin's function.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) load: Load,
    pub(super) run_id: String,
    pub(super) work: Work,
    pub(super) blob: Bytes,
    /// Number of the call over all processes, from 0.
    pub(super) number: usize,
}

impl Call {
    /// The written rows as text: `table: column=value,…; …`, one entry a row, in order.
    pub(super) fn rows(&self) -> Vec<String> {
        let Work::Writes { tables } = &self.work else {
            panic!("not a data-write run")
        };
        let mut rows = Vec::new();
        let mut offset = 0;
        for table in tables {
            for bytes in &table.stream_bytes {
                let end = offset + *bytes as usize;
                for batch in StreamReader::try_new(&self.blob[offset..end], None).unwrap() {
                    rows.extend(render_rows(&table.table_name, &batch.unwrap()));
                }
                offset = end;
            }
        }
        assert_eq!(offset, self.blob.len(), "the lengths cover the blob");
        rows
    }
}

fn render_rows(table: &str, batch: &RecordBatch) -> Vec<String> {
    let schema = batch.schema();
    let mut rows = Vec::new();
    for row in 0..batch.num_rows() {
        let mut cells = Vec::new();
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
            if column.is_valid(row) && field.name() != "time" {
                let value = arrow::util::display::array_value_to_string(column, row).unwrap();
                cells.push(format!("{}={value}", field.name()));
            }
        }
        rows.push(format!("{table}: {}", cells.join(",")));
    }
    rows
}

/// What a call does.
#[derive(Debug, Clone)]
pub(super) enum Action {
    /// Returns, with lines for databases (`None`: the trigger's own).
    Return(Vec<(Option<&'static str>, String)>),
    /// Answers a request.
    Respond(u16, &'static str),
    /// Streams a text, then returns with these lines for its own database.
    Stream(&'static str, &'static str),
    /// Streams a text, and ends when it is cancelled.
    StreamUntilCancelled(&'static str),
    /// Streams without end, whatever is taken.
    Flood,
    /// Raises `ValueError: <text>`.
    Raise(&'static str),
    /// The process exits with this code.
    Exit(i32),
    /// Returns; then the process closes its connection, and is told to be gone a while later.
    ReturnAndClose,
    /// Never returns, whatever it is told.
    Hang,
    /// Returns when it is cancelled.
    HangUntilCancelled,
}

/// How long a process with a closed connection seems to be alive.
const CLOSED_BUT_ALIVE: Duration = Duration::from_millis(150);

type Script = dyn Fn(&Call) -> Action + Send + Sync;

/// Starts fake workers.
pub(super) struct FakePython {
    script: Box<Script>,
    pub(super) calls: watch::Sender<Vec<Call>>,
    pub(super) launches: AtomicUsize,
    /// Processes that run now.
    alive: AtomicUsize,
    /// The most that ever ran at once.
    pub(super) alive_max: AtomicUsize,
    /// What every process has, in bytes.
    pub(super) resident_bytes: AtomicU64,
    pub(super) available: AtomicBool,
}

impl FakePython {
    pub(super) fn new(script: impl Fn(&Call) -> Action + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            script: Box::new(script),
            calls: watch::Sender::new(Vec::new()),
            launches: AtomicUsize::new(0),
            alive: AtomicUsize::new(0),
            alive_max: AtomicUsize::new(0),
            resident_bytes: AtomicU64::new(0),
            available: AtomicBool::new(true),
        })
    }

    /// Waits until that many processes were started.
    pub(super) async fn until_launched(&self, count: usize) {
        let until_launched = async {
            while self.launches.load(Ordering::SeqCst) < count {
                tokio::task::yield_now().await;
            }
        };
        let launched = tokio::time::timeout(Duration::from_secs(20), until_launched).await;
        launched.unwrap_or_else(|_| panic!("no {count} processes were started"));
    }

    /// Waits until that many calls were made.
    pub(super) async fn calls(&self, count: usize) -> Vec<Call> {
        let mut calls = self.calls.subscribe();
        let wanted = calls.wait_for(|calls| calls.len() >= count);
        let made = tokio::time::timeout(Duration::from_secs(20), wanted).await;
        made.unwrap_or_else(|_| panic!("no {count} calls were made"))
            .unwrap()
            .clone()
    }
}

/// Lets a test keep the launcher that it gives to the engine.
pub(super) struct SharedLauncher(pub(super) Arc<FakePython>);

#[async_trait]
impl Launcher for SharedLauncher {
    async fn launch(
        &self,
        _label: &str,
        _memory_limit: MemoryLimit,
        events: Arc<dyn WorkerEvents>,
    ) -> Result<Arc<dyn WorkerHandle>, LaunchError> {
        if !self.0.available.load(Ordering::SeqCst) {
            return Err(LaunchError::PythonUnavailable("install python3".to_owned()));
        }
        self.0.launches.fetch_add(1, Ordering::SeqCst);
        let alive = self.0.alive.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.alive_max.fetch_max(alive, Ordering::SeqCst);
        let (inbox, messages) = mpsc::unbounded_channel();
        let exit = watch::Sender::new(None);
        let process = FakeProcess {
            python: Arc::clone(&self.0),
            events,
            exit: exit.clone(),
            load: None,
        };
        let task = tokio::spawn(process.live(messages));
        let python = Arc::clone(&self.0);
        Ok(Arc::new(FakeWorker {
            python,
            inbox,
            exit,
            task,
        }))
    }

    async fn available(&self) {
        std::future::pending::<()>().await;
    }
}

struct FakeWorker {
    python: Arc<FakePython>,
    inbox: mpsc::UnboundedSender<(ToWorker, Bytes)>,
    exit: watch::Sender<Option<ExitReason>>,
    task: tokio::task::JoinHandle<()>,
}

#[async_trait]
impl WorkerHandle for FakeWorker {
    fn send(&self, message: ToWorker, blob: Bytes) -> Result<(), Gone> {
        self.inbox.send((message, blob)).map_err(|_| Gone)
    }

    async fn room(&self) -> Result<(), Gone> {
        Ok(())
    }

    async fn stop(&self, grace: Duration) {
        let _ = self.send(ToWorker::Shutdown, Bytes::new());
        if tokio::time::timeout(grace, self.wait()).await.is_err() {
            self.kill().await;
        }
    }

    async fn kill(&self) {
        self.task.abort();
        while !self.task.is_finished() {
            tokio::task::yield_now().await;
        }
        self.exit.send_if_modified(|exit| {
            let was_running = exit.is_none();
            exit.get_or_insert(ExitReason::Exited { code: 137 });
            was_running
        });
    }

    async fn wait(&self) -> ExitReason {
        self.exit
            .subscribe()
            .wait_for(Option::is_some)
            .await
            .unwrap()
            .clone()
            .unwrap()
    }

    fn resident_bytes(&self) -> Option<u64> {
        Some(self.python.resident_bytes.load(Ordering::SeqCst))
    }
}

struct FakeProcess {
    python: Arc<FakePython>,
    events: Arc<dyn WorkerEvents>,
    exit: watch::Sender<Option<ExitReason>>,
    load: Option<Load>,
}

impl Drop for FakeProcess {
    fn drop(&mut self) {
        self.python.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl FakeProcess {
    async fn live(mut self, mut messages: mpsc::UnboundedReceiver<(ToWorker, Bytes)>) {
        let mut code = 0;
        while let Some((message, blob)) = messages.recv().await {
            match message {
                ToWorker::Load(load) => {
                    self.load = Some(*load);
                    self.events.message(FromWorker::Loaded, Bytes::new());
                }
                ToWorker::Run { run, run_id, work } => {
                    let load = self.load.clone().expect("loaded before it is run");
                    let number = self.python.calls.borrow().len();
                    let call = Call {
                        load,
                        run_id,
                        work,
                        blob,
                        number,
                    };
                    let action = (self.python.script)(&call);
                    self.python.calls.send_modify(|calls| calls.push(call));
                    match action {
                        Action::Exit(with) => {
                            code = with;
                            break;
                        }
                        Action::ReturnAndClose => {
                            self.finish(run, Action::Return(vec![]));
                            drop(messages);
                            tokio::time::sleep(CLOSED_BUT_ALIVE).await;
                            break;
                        }
                        // With several threads, the others go on.
                        Action::Hang if self.concurrency() > 1 => {}
                        Action::Hang => std::future::pending().await,
                        Action::HangUntilCancelled | Action::StreamUntilCancelled(_) => {
                            if let Action::StreamUntilCancelled(text) = action {
                                self.begin_response(run, text.as_bytes());
                            }
                            let reason = loop {
                                match messages.recv().await {
                                    Some((ToWorker::Cancel { reason, .. }, _)) => break reason,
                                    Some(_) => {}
                                    None => return,
                                }
                            };
                            if reason == CLIENT_LEFT {
                                self.fail(run, format!("RunTimeout: {reason}"));
                            } else {
                                self.finish(run, Action::Raise("cancelled"));
                            }
                        }
                        Action::Flood => {
                            self.begin_response(run, b"");
                            for _ in 0..3 {
                                let part = vec![b'x'; RESPONSE_WINDOW_BYTES / 2];
                                self.events.message(FromWorker::ResponsePart { run }, part.into());
                            }
                        }
                        Action::Stream(text, lines) => {
                            self.begin_response(run, text.as_bytes());
                            let writes = vec![(None, lines.to_owned())];
                            let writes = if lines.is_empty() { vec![] } else { writes };
                            self.finish(run, Action::Return(writes));
                        }
                        other => self.finish(run, other),
                    }
                }
                ToWorker::Shutdown => break,
                _ => {}
            }
        }
        let reason = ExitReason::Exited { code };
        self.events.exited(reason.clone());
        self.exit.send_replace(Some(reason));
    }

    fn concurrency(&self) -> u32 {
        self.load.as_ref().map_or(1, |load| load.concurrency)
    }

    fn begin_response(&self, run: RunId, part: &[u8]) {
        let response = ResponseHead {
            status: 200,
            headers: vec![],
        };
        let begun = FromWorker::ResponseBegun { run, response };
        self.events.message(begun, Bytes::copy_from_slice(part));
    }

    fn fail(&self, run: RunId, message: String) {
        let outcome = Outcome::Failed(Failure {
            kind: FailureKind::Raised,
            message,
            traceback: None,
        });
        self.events
            .message(FromWorker::Finished { run, outcome }, Bytes::new());
    }

    fn finish(&self, run: RunId, action: Action) {
        let mut blob = Vec::new();
        let outcome = match action {
            Action::Return(writes) => Outcome::Returned {
                writes: writes
                    .into_iter()
                    .map(|(database, lines)| {
                        blob.extend_from_slice(lines.as_bytes());
                        DatabaseWrites {
                            database: database.map(str::to_owned),
                            bytes: lines.len() as u64,
                        }
                    })
                    .collect(),
                state: vec![],
                response: None,
            },
            Action::Respond(status, body) => {
                blob.extend_from_slice(body.as_bytes());
                let head = ResponseHead {
                    status,
                    headers: vec![],
                };
                Outcome::Returned {
                    writes: vec![],
                    state: vec![],
                    response: Some(head),
                }
            }
            Action::Raise(text) => return self.fail(run, format!("ValueError: {text}")),
            _ => unreachable!("handled by the caller"),
        };
        self.events
            .message(FromWorker::Finished { run, outcome }, blob.into());
    }
}
