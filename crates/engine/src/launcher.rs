//! How the engine gets a worker process. A trait, so that the engine's own tests need no Python.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tidemill_worker::{ExitReason, Gone, Worker, WorkerEvents};
use tidemill_worker_proto::ToWorker;

use crate::memory_limit::MemoryLimit;

/// Why there is no worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LaunchError {
    /// There is no usable Python; the text says what to install.
    PythonUnavailable(String),
    /// The process did not start.
    Failed(String),
}

impl std::fmt::Display for LaunchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PythonUnavailable(reason) => write!(f, "python_unavailable: {reason}"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

/// A running worker process. It is killed when the last handle is dropped.
#[async_trait]
pub(crate) trait WorkerHandle: Send + Sync {
    /// Queues a message; never blocks.
    fn send(&self, message: ToWorker, blob: Bytes) -> Result<(), Gone>;
    /// Waits while more is queued than a well-behaved sender should add to.
    async fn room(&self) -> Result<(), Gone>;
    /// Asks the process to end and kills it after `grace`. Returns when it is gone.
    async fn stop(&self, grace: Duration);
    /// Logs the Python stacks of the process and kills it. Returns when it is gone.
    async fn kill(&self);
    /// How the process ended, when it has.
    async fn wait(&self) -> ExitReason;
    /// Resident memory of the process in bytes, where it can be told.
    fn resident_bytes(&self) -> Option<u64>;
    /// The id of the process, where there is one.
    fn process_id(&self) -> Option<u32> {
        None
    }
    /// What the process has taken from itself, in one line.
    fn sandbox(&self) -> Option<String> {
        None
    }
}

/// Starts worker processes.
#[async_trait]
pub(crate) trait Launcher: Send + Sync + 'static {
    /// Waits until it is known whether there is a Python, which may take minutes where its environment has to be made.
    async fn decided(&self) {}

    /// A process that has reported its version and waits for a plugin to load. With a memory limit the kernel refuses it what
    /// is far beyond; within, whoever has it must look.
    async fn launch(
        &self,
        label: &str,
        memory_limit: MemoryLimit,
        events: Arc<dyn WorkerEvents>,
    ) -> Result<Arc<dyn WorkerHandle>, LaunchError>;

    /// Waits until there is a Python again after [`LaunchError::PythonUnavailable`].
    async fn available(&self);
}

#[async_trait]
impl WorkerHandle for Worker {
    fn send(&self, message: ToWorker, blob: Bytes) -> Result<(), Gone> {
        Self::send(self, message, blob)
    }

    async fn room(&self) -> Result<(), Gone> {
        Self::room(self).await
    }

    async fn stop(&self, grace: Duration) {
        Self::stop(self, grace).await;
    }

    async fn kill(&self) {
        self.dump_stacks_and_kill().await;
    }

    async fn wait(&self) -> ExitReason {
        Self::wait(self).await
    }

    fn resident_bytes(&self) -> Option<u64> {
        Self::resident_bytes(self)
    }

    fn process_id(&self) -> Option<u32> {
        Some(self.pid())
    }

    fn sandbox(&self) -> Option<String> {
        Some(Self::sandbox(self).to_string())
    }
}
