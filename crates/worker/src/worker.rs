//! A running worker: from the start of its process to the collection of its exit code.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::process::Signal;
use tidemill_sandbox::Applied;
use tidemill_worker_proto::{FromWorker, PROTOCOL_VERSION, ProtocolError, ToWorker};
use tokio::{
    net::UnixStream,
    process::{ChildStderr, ChildStdout},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

use crate::{
    ExitReason, Gone, KillCause, OutputStream, StartError, WorkerCommand, WorkerEvents,
    connection::{FrameReader, ReadEnd, write_all},
    exit::OurCause,
    output::{Tail, read_lines},
    process::Process,
    queue::{Blob, Outgoing, SendQueue},
    spawner::{self, Spawned},
};

/// How long a worker whose connection has ended may take to end too. Python's own end needs some of it.
const LINGER: Duration = Duration::from_secs(2);
/// How long the rest of messages and output is waited for once the process and its descendants have ended.
const DRAIN: Duration = Duration::from_millis(500);
/// How long a worker may take to write its stacks: it is a signal handler in C that writes a few kilobytes.
const STACK_DUMP: Duration = Duration::from_millis(100);

/// A worker that has reported its version. Dropping it kills the process and all that it started.
#[derive(Debug)]
pub struct Worker {
    process: Arc<Process>,
    queue: Arc<SendQueue>,
    hello: Hello,
    exited: watch::Receiver<Option<ExitReason>>,
}

impl Worker {
    /// Starts a worker and waits until it has reported its protocol version.
    ///
    /// `events` hears from it from then on; lines that it prints are given from its start on. Must be called in a tokio
    /// runtime with I/O and time.
    pub async fn start(command: WorkerCommand, events: Arc<dyn WorkerEvents>) -> Result<Self, StartError> {
        let python = command.python.clone();
        let handshake_timeout = command.handshake_timeout;
        let label = command.label.clone();
        let Spawned {
            process,
            stdout,
            stderr,
            socket,
        } = spawner::spawn(command)
            .await
            .map_err(|source| StartError::Spawn { python, source })?;
        let process = Arc::new(process);
        tracing::debug!(worker = label, pid = process.pid(), "worker process started");

        let outputs = Outputs::read(stdout, stderr, &events)?;
        socket.set_nonblocking(true)?;
        let (read_half, write_half) = UnixStream::from_std(socket)?.into_split();
        let mut reader = FrameReader::new(read_half);

        let hello = match timeout(handshake_timeout, handshake(&mut reader)).await {
            Ok(Ok(hello)) => hello,
            Ok(Err(failure)) => return Err(failure.into_error(&process, outputs).await),
            Err(_) => {
                let stderr = end_failed_start(&process, outputs).await.stderr;
                return Err(StartError::Silent {
                    timeout: handshake_timeout,
                    stderr,
                });
            }
        };

        outputs.stop_capture();
        let (queue, frames) = SendQueue::new();
        let writing = tokio::spawn(write_all(write_half, frames));
        let reading = tokio::spawn(reader.deliver_all(Arc::clone(&events)));
        let (exited_sender, exited) = watch::channel(None);
        let supervision = Supervision {
            process: Arc::clone(&process),
            events,
            reading,
            writing,
            outputs,
            label,
        };
        tokio::spawn(async move {
            let reason = supervision.run().await;
            exited_sender.send_replace(Some(reason));
        });
        Ok(Self {
            process,
            queue,
            hello,
            exited,
        })
    }

    /// Queues a frame; it never blocks. That it returns `Ok` does not mean that the worker will see the frame: it may
    /// die before. A frame longer than the protocol allows ends the worker.
    pub fn send(&self, message: ToWorker, blob: Bytes) -> Result<(), Gone> {
        self.queue.send(Outgoing {
            message,
            blob: Blob::One(blob),
        })
    }

    /// Like [`Worker::send`], with a blob in parts that are joined on the wire.
    pub fn send_parts(&self, message: ToWorker, parts: Vec<Bytes>) -> Result<(), Gone> {
        self.queue.send(Outgoing {
            message,
            blob: Blob::Many(parts),
        })
    }

    /// Waits until no more than some megabytes are queued. Whoever sends much (a query result) waits here between
    /// frames, so that a worker that does not read cannot fill the server's memory.
    pub async fn room(&self) -> Result<(), Gone> {
        self.queue.room().await
    }

    /// Approximate bytes that are queued for the worker.
    pub fn queued_bytes(&self) -> usize {
        self.queue.queued_bytes()
    }

    /// Process id, which is the id of its process group too.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Version of its interpreter, for example `3.11.7`.
    pub fn python_version(&self) -> &str {
        &self.hello.python_version
    }

    /// What the worker has taken from itself.
    pub fn sandbox(&self) -> &Applied {
        &self.hello.sandbox
    }

    /// Resident memory of the process in bytes; `None` when it has ended.
    pub fn resident_bytes(&self) -> Option<u64> {
        self.process.resident_bytes()
    }

    /// Makes the worker write the Python stacks of all its threads to its standard error.
    pub fn dump_stacks(&self) {
        self.process.signal(Signal::USR1);
    }

    /// Kills the process and its group at once.
    pub fn kill(&self) {
        self.process.kill(OurCause::Kill(KillCause::Requested));
    }

    /// Kills the process and its group after its stacks have been written to its standard error, and waits until it is
    /// gone.
    pub async fn dump_stacks_and_kill(&self) {
        self.dump_then_kill(KillCause::Requested).await;
    }

    /// Asks the worker to exit, kills it with its group if it has not done so within `grace`, and waits until it is
    /// gone and its last events have been delivered.
    pub async fn stop(&self, grace: Duration) {
        if self.send(ToWorker::Shutdown, Bytes::new()).is_ok() && timeout(grace, self.wait()).await.is_ok() {
            return;
        }
        self.dump_then_kill(KillCause::GraceExpired).await;
    }

    /// Waits until the worker is gone and its last events have been delivered, and says how it ended.
    pub async fn wait(&self) -> ExitReason {
        let mut exited = self.exited.clone();
        let reason = exited.wait_for(Option::is_some).await;
        match reason.ok().and_then(|reason| reason.clone()) {
            Some(reason) => reason,
            // The supervising task was dropped together with its runtime, and killed the worker.
            None => ExitReason::Killed(KillCause::Dropped),
        }
    }

    /// How the worker ended; `None` while it runs.
    pub fn exit_reason(&self) -> Option<ExitReason> {
        self.exited.borrow().clone()
    }

    async fn dump_then_kill(&self, cause: KillCause) {
        self.process.condemn(OurCause::Kill(cause));
        self.dump_stacks();
        if timeout(STACK_DUMP, self.wait()).await.is_err() {
            self.process.kill(OurCause::Kill(cause));
        }
        self.wait().await;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.process.kill(OurCause::Kill(KillCause::Dropped));
    }
}

/// What can go wrong with the first message.
enum HandshakeFailure {
    Closed,
    Protocol(ProtocolError),
    NoHello,
    Version(u32),
}

impl HandshakeFailure {
    async fn into_error(self, process: &Process, outputs: Outputs) -> StartError {
        if matches!(self, Self::Closed) {
            // The end of the process follows that of its socket; its exit code says more than a kill would.
            let _ = timeout(LINGER, process.ended()).await;
        }
        let FailedStart { reason, stderr } = end_failed_start(process, outputs).await;
        match self {
            Self::Closed => StartError::Exited { reason, stderr },
            Self::Protocol(error) => StartError::Protocol { error, stderr },
            Self::NoHello => StartError::NoHello,
            Self::Version(theirs) => StartError::Version { theirs },
        }
    }
}

/// What a worker says first.
#[derive(Debug)]
struct Hello {
    python_version: String,
    sandbox: Applied,
}

async fn handshake(reader: &mut FrameReader) -> Result<Hello, HandshakeFailure> {
    let frame = reader.next().await.map_err(|end| match end {
        ReadEnd::Closed => HandshakeFailure::Closed,
        ReadEnd::Malformed(error) => HandshakeFailure::Protocol(error),
    })?;
    match frame.head {
        FromWorker::Hello {
            protocol_version: PROTOCOL_VERSION,
            python_version,
        } => Ok(Hello {
            python_version,
            // Of a worker that reports nothing that can be read, nothing is known to be in force.
            sandbox: Applied::from_json(&frame.blob).unwrap_or_default(),
        }),
        FromWorker::Hello { protocol_version, .. } => Err(HandshakeFailure::Version(protocol_version)),
        _ => Err(HandshakeFailure::NoHello),
    }
}

struct FailedStart {
    reason: ExitReason,
    stderr: String,
}

async fn end_failed_start(process: &Process, outputs: Outputs) -> FailedStart {
    process.kill(OurCause::Kill(KillCause::ConnectionClosed));
    process.ended().await;
    let reason = process
        .collect()
        .await
        .expect("a process that failed to start is collected here only");
    let stderr = outputs.drain().await;
    FailedStart { reason, stderr }
}

/// The tasks that read what a worker prints.
struct Outputs {
    readers: Vec<JoinHandle<()>>,
    /// Last lines of standard error, kept until the worker is ready.
    captured: Arc<Mutex<Option<Tail>>>,
}

impl Outputs {
    fn read(
        stdout: Option<std::process::ChildStdout>,
        stderr: Option<std::process::ChildStderr>,
        events: &Arc<dyn WorkerEvents>,
    ) -> Result<Self, StartError> {
        let captured = Arc::new(Mutex::new(Some(Tail::default())));
        let mut readers = Vec::with_capacity(2);
        if let Some(stdout) = stdout {
            let stdout = ChildStdout::from_std(stdout)?;
            let events = Arc::clone(events);
            readers.push(tokio::spawn(async move {
                read_lines(stdout, |line| events.output(OutputStream::Stdout, line)).await;
            }));
        }
        if let Some(stderr) = stderr {
            let stderr = ChildStderr::from_std(stderr)?;
            let events = Arc::clone(events);
            let captured = Arc::clone(&captured);
            readers.push(tokio::spawn(async move {
                let emit = |line: &str| {
                    if let Some(tail) = captured.lock().as_mut() {
                        tail.push(line);
                    }
                    events.output(OutputStream::Stderr, line);
                };
                read_lines(stderr, emit).await;
            }));
        }
        Ok(Self { readers, captured })
    }

    fn stop_capture(&self) {
        *self.captured.lock() = None;
    }

    /// Waits for the end of both streams, for a limited time, and gives the captured lines.
    async fn drain(self) -> String {
        for reader in self.readers {
            finish(reader).await;
        }
        self.captured
            .lock()
            .take()
            .map(|tail| tail.text())
            .unwrap_or_default()
    }
}

/// Waits for a task that ends with the process, and stops it when it does not.
async fn finish<T>(mut task: JoinHandle<T>) {
    if timeout(DRAIN, &mut task).await.is_err() {
        task.abort();
        // Awaited so that no event comes after `exited`.
        let _ = task.await;
    }
}

/// Everything that is watched while a worker runs.
struct Supervision {
    process: Arc<Process>,
    events: Arc<dyn WorkerEvents>,
    reading: JoinHandle<ReadEnd>,
    writing: JoinHandle<Result<(), ProtocolError>>,
    outputs: Outputs,
    label: String,
}

impl Supervision {
    async fn run(mut self) -> ExitReason {
        let reading_ended = self.watch().await;
        let reason = self
            .process
            .collect()
            .await
            .expect("a running process is collected here only");
        if !reading_ended {
            finish(self.reading).await;
        }
        // Frames that wait for a dead worker are of no use.
        self.writing.abort();
        self.outputs.drain().await;
        tracing::debug!(worker = self.label, %reason, "worker process ended");
        self.events.exited(reason.clone());
        reason
    }

    /// Returns when the process has ended; says whether everything it sent has been read.
    async fn watch(&mut self) -> bool {
        let mut writing_ended = false;
        loop {
            tokio::select! {
                () = self.process.ended() => return false,
                end = &mut self.reading => {
                    self.connection_ended(end.unwrap_or(ReadEnd::Closed)).await;
                    return true;
                }
                end = &mut self.writing, if !writing_ended => {
                    writing_ended = true;
                    if let Ok(Err(error)) = end {
                        self.process.kill(OurCause::Protocol(error.to_string()));
                    }
                }
            }
        }
    }

    async fn connection_ended(&self, end: ReadEnd) {
        match end {
            ReadEnd::Malformed(error) => self.process.kill(OurCause::Protocol(error.to_string())),
            ReadEnd::Closed => {
                if timeout(LINGER, self.process.ended()).await.is_ok() {
                    return;
                }
                self.process.kill(OurCause::Kill(KillCause::ConnectionClosed));
            }
        }
        self.process.ended().await;
    }
}
