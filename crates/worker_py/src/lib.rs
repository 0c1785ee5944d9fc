//! The Python side of a worker process: the extension module `tidemill_worker`, loaded by the interpreter of the plugins'
//! virtual environment (`bootstrap.py`), which hands the process over to [`main`].
//!
//! It **is** everything between the socket and a plugin's function: loading and reloading the plugin, rows, `LineBuilder`,
//! `influxdb3_local`, answers of request triggers, and the words for what goes wrong (`spec/engine.md` 2 to 4).
//! It **is not** linked into the server, and knows no database, catalog or HTTP: what it cannot do itself it asks for through
//! `tidemill-worker-proto`. It never decides about retries, limits or deadlines.
//!
//! # Threads
//! - The *main thread* of Python executes runs ([`executor`]); asynchronous triggers add threads made by `threading`. A thread
//!   keeps the interpreter lock over as many queued runs as there are, and gives it back only to wait.
//! - The *reader* ([`input`]) cuts the socket's stream into frames; the *sender* ([`output`]) sends what others had no time
//!   for. Neither ever takes the interpreter lock, so neither can be stopped by a plugin.
//! - An interruption takes a thread of its own while it waits for that lock.
//!
//! # Invariants
//! - The sandbox is entered before anything else is done.
//! - The first frame sent is `Hello`; every `Run` is answered by exactly one `Finished`, every `Load` by one answer.
//! - The process ends at once when the server's end of the socket closes, whatever Python does.
//! - No lock of ours is held while Python code runs or while a Python object is dropped, and nobody waits for the socket or
//!   for an answer with the interpreter lock held.
//! - Rows and their dictionaries are plain objects that belong to the plugin.

mod api;
mod cache;
mod calls;
mod cells;
mod collected;
mod embedded;
mod exceptions;
mod executor;
mod exit;
mod failure;
mod input;
mod ipc;
mod line_builder;
mod lines;
mod output;
mod params;
mod pickling;
mod plugin;
mod python_types;
mod queue;
mod request;
mod response;
mod rows;
mod runs;
mod state;
mod stream;
mod tables;
mod watch;
mod window;
mod worker;
mod written_tables;

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use tidemill_sandbox::{Applied, Profile};
use tidemill_worker_proto::{FromWorker, PROTOCOL_VERSION};

use crate::worker::Worker;

/// The threads beside Python run no plugin and no deep recursion.
const SERVICE_STACK_BYTES: usize = 512 << 10;

/// The extension module.
#[pymodule]
mod tidemill_worker {
    #[pymodule_export]
    use super::main;
}

/// Takes from the process what the profile `sandbox` says, serves the connection `fd` until its other end closes, and then ends
/// the process. To be called once, on the main thread, before there are others.
#[pyfunction]
fn main(py: Python<'_>, fd: RawFd, sandbox: &str) -> PyResult<()> {
    let sandbox = Profile::from_argument(sandbox)
        .map_err(|error| PyValueError::new_err(format!("sandbox profile: {error}")))?
        .apply();
    // SAFETY: the server opened the descriptor for this call and passed it to nobody else.
    let socket = Arc::new(unsafe { OwnedFd::from_raw_fd(fd) });
    prepare(&socket).map_err(|error| PyOSError::new_err(error.to_string()))?;
    let worker = Worker::new(py, Arc::clone(&socket))?;
    exceptions::publish(py, &worker.python)?;
    greet(py, &worker, &sandbox)?;
    let sender = Arc::clone(&worker);
    spawn("sender", move || sender.output.run_sender())?;
    let reader = Arc::clone(&worker);
    spawn("reader", move || input::run_reader(&socket, &reader))?;
    executor::run_executor(py, &worker)
}

/// Programs that the plugin starts must not inherit the connection, or it would outlive the process.
fn prepare(socket: &OwnedFd) -> io::Result<()> {
    rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(socket, false)?;
    Ok(())
}

fn greet(py: Python<'_>, worker: &Worker, sandbox: &Applied) -> PyResult<()> {
    let version = py.version_info();
    let hello = FromWorker::Hello {
        protocol_version: PROTOCOL_VERSION,
        python_version: format!("{}.{}.{}", version.major, version.minor, version.patch),
    };
    let report = sandbox.to_json();
    let pushed = worker.output.push(&hello, &[report.as_bytes()]);
    pushed.map_err(|error| PyValueError::new_err(error.to_string()))?;
    worker.output.flush();
    Ok(())
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> PyResult<()> {
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(SERVICE_STACK_BYTES);
    thread.spawn(run)?;
    Ok(())
}
