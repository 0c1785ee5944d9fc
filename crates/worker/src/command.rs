//! What to start, and who is told what happens to it.

use std::{ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use tidemill_sandbox::{Level, Profile};
use tidemill_worker_proto::FromWorker;

use crate::{ExitReason, OutputStream, PluginUser};

/// The program text that a worker interpreter is started with. Its arguments are the path of the extension module, the
/// number of the inherited socket, and the sandbox profile.
pub const BOOTSTRAP: &str = include_str!("../../worker_py/bootstrap.py");

/// Long enough for a hundred interpreters that start at once on a small machine.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// How to start a worker.
#[derive(Debug, Clone)]
pub struct WorkerCommand {
    /// The interpreter: `bin/python` of the virtual environment.
    pub python: PathBuf,
    /// The extension module, see [`extension_path`](crate::extension_path).
    pub extension: PathBuf,
    /// All environment variables of the worker, see [`worker_environment`](crate::worker_environment).
    pub environment: Vec<(OsString, OsString)>,
    /// Names the worker in the server's log, for example `database/trigger`.
    pub label: String,
    /// Longest time from the start of the process to its first message.
    pub handshake_timeout: Duration,
    /// What the worker takes from itself before it does anything else, see [`worker_sandbox`](crate::worker_sandbox).
    pub sandbox: Profile,
    /// Who the process runs as; `None` for the server's own user.
    pub user: Option<Arc<PluginUser>>,
    /// Program text, [`BOOTSTRAP`] unless a test says otherwise.
    pub bootstrap: String,
}

impl WorkerCommand {
    /// A command with the usual program text and deadline, without a sandbox.
    pub fn new(
        python: impl Into<PathBuf>,
        extension: impl Into<PathBuf>,
        environment: Vec<(OsString, OsString)>,
        label: impl Into<String>,
    ) -> Self {
        Self {
            python: python.into(),
            extension: extension.into(),
            environment,
            label: label.into(),
            handshake_timeout: HANDSHAKE_TIMEOUT,
            sandbox: Profile {
                level: Level::Off,
                ..Profile::default()
            },
            user: None,
            bootstrap: BOOTSTRAP.to_owned(),
        }
    }
}

/// Receives what a worker sends, prints and finally does. Called from the tasks that read from the worker, so an
/// implementation must not block; the calls for one stream come one after another, those for different streams may
/// come at the same time.
pub trait WorkerEvents: Send + Sync + 'static {
    /// A message other than the first `Hello`. The blob is a part of the read buffer: copy what is kept for long.
    fn message(&self, message: FromWorker, blob: Bytes);

    /// A line that the worker wrote, without its line end and at most about [`LINE_BYTES_MAX`](crate::LINE_BYTES_MAX)
    /// long. Called from the start of the process on, also when the start then fails.
    fn output(&self, stream: OutputStream, line: &str);

    /// The worker is gone; the last call. Not called when [`Worker::start`](crate::Worker::start) failed.
    fn exited(&self, reason: ExitReason);
}
