//! The process as a whole: what its threads share, and the services that they offer one another.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use tidemill_worker_proto::{CallId, FromWorker, ProtocolError, RunId};

use crate::cache::TriggerCache;
use crate::calls::{Answer, Calls};
use crate::embedded::Embedded;
use crate::output::Output;
use crate::plugin::Plugin;
use crate::queue::Queue;
use crate::runs::{ActiveRuns, current, interruption, take_interruption, thread_ident};

/// See the module's documentation.
pub(crate) struct Worker {
    pub(crate) output: Output,
    pub(crate) queue: Queue,
    pub(crate) calls: Calls,
    pub(crate) runs: ActiveRuns,
    pub(crate) cache: TriggerCache,
    pub(crate) python: Embedded,
    pub(crate) plugin: Mutex<Option<Arc<Plugin>>>,
    pub(crate) executors: Executors,
    /// This is a child of the worker's process, without its threads and its connection.
    is_forked: Arc<AtomicBool>,
    main_thread: std::ffi::c_ulong,
    /// The handler of the signal that wakes the main thread.
    on_interrupt: Py<PyAny>,
}

impl Worker {
    /// To be called on the main thread, which becomes the first executor.
    pub(crate) fn new(py: Python<'_>, socket: Arc<OwnedFd>) -> PyResult<Arc<Self>> {
        let python = Embedded::load(py)?;
        let on_interrupt = PyCFunction::new_closure(py, None, None, raise_interruption)?.into_any();
        let is_forked = Arc::new(AtomicBool::new(false));
        let on_fork = on_fork(Arc::clone(&is_forked), Arc::clone(&socket));
        let on_fork = PyCFunction::new_closure(py, None, None, on_fork)?;
        python.set_up_process(&on_interrupt, on_fork.as_any())?;
        Ok(Arc::new(Self {
            is_forked,
            output: Output::new(socket),
            queue: Queue::default(),
            calls: Calls::default(),
            runs: ActiveRuns::default(),
            cache: TriggerCache::default(),
            python,
            plugin: Mutex::new(None),
            executors: Executors::default(),
            main_thread: thread_ident(),
            on_interrupt: on_interrupt.unbind(),
        }))
    }

    /// Whether this process was forked from the worker's: it has none of its threads, and no part in its connection.
    pub(crate) fn is_forked(&self) -> bool {
        self.is_forked.load(Ordering::Relaxed)
    }

    fn check_not_forked(&self) -> PyResult<()> {
        if self.is_forked() {
            return Err(PyRuntimeError::new_err(
                "influxdb3_local cannot be used in a forked process: return what it has to say to its parent",
            ));
        }
        Ok(())
    }

    /// Sends a message that has no answer, within a millisecond.
    pub(crate) fn post(&self, py: Python<'_>, message: &FromWorker) -> PyResult<()> {
        self.check_not_forked()?;
        if self.output.is_full() {
            py.detach(|| self.output.wait_for_room());
        }
        self.output.push_soon(message, &[]).map_err(too_long)
    }

    /// Sends a message and waits for its answer, with the interpreter lock released. Raises if the thread's run is
    /// interrupted meanwhile.
    pub(crate) fn ask(
        &self,
        py: Python<'_>,
        blob: &[u8],
        message: impl FnOnce(CallId) -> FromWorker,
    ) -> PyResult<Answer> {
        self.check_not_forked()?;
        let call = self.calls.open(current().map(|run| run.run));
        // From here on an interruption finds the call and wakes it; one that came before is seen now.
        if let Some(interruption) = take_interruption(py) {
            return Err(interruption);
        }
        let message = message(call.id);
        let is_query = matches!(message, FromWorker::Query { .. });
        self.output.push(&message, &[blob]).map_err(too_long)?;
        let answer = py.detach(|| {
            self.output.flush();
            call.wait()
        });
        match answer {
            Answer::Interrupted => {
                if is_query {
                    // A long one would go on without anybody to have its result.
                    self.post(py, &FromWorker::AbandonQuery { call: call.id })?;
                }
                Err(interruption(py))
            }
            answer => Ok(answer),
        }
    }

    /// Raises an exception in the thread that executes a run, wherever that thread waits. Nothing happens if the run has
    /// ended. May wait long for the interpreter lock.
    pub(crate) fn interrupt(&self, run: RunId, reason: String) {
        Python::attach(|py| {
            // A failure here leaves the run alone, and the server ends the process after its grace period.
            let _ = self.try_interrupt(py, run, &reason);
        });
    }

    fn try_interrupt(&self, py: Python<'_>, run: RunId, reason: &str) -> PyResult<()> {
        let class = self.python.run_timeout(py, reason)?;
        let main_thread = self.main_thread;
        // The main thread is woken by a signal, whose handler raises: that also ends a system call.
        let Some(thread) = self.runs.interrupt(class, run, |thread| thread != main_thread) else {
            return Ok(());
        };
        self.calls.interrupt(run);
        if thread == main_thread {
            return self.python.wake_main_thread(self.on_interrupt.bind(py), thread);
        }
        self.python.wake_loop(py, thread)
    }
}

/// How many threads execute runs, and how many of them are at it.
pub(crate) struct Executors {
    counts: Mutex<ExecutorCounts>,
}

struct ExecutorCounts {
    executors: u32,
    busy: u32,
}

impl Default for Executors {
    /// The main thread.
    fn default() -> Self {
        let counts = ExecutorCounts {
            executors: 1,
            busy: 0,
        };
        Self {
            counts: Mutex::new(counts),
        }
    }
}

impl Executors {
    /// One executor begins a run. Returns whether another is to be started (and is counted already): the next job may come
    /// while this one takes its time, so one is kept free as long as there may be more.
    pub(crate) fn begin_run(&self, executors_max: u32) -> bool {
        let mut counts = self.counts.lock();
        counts.busy += 1;
        let wanted = counts.busy == counts.executors && counts.executors < executors_max;
        counts.executors += u32::from(wanted);
        wanted
    }

    /// The run has ended.
    pub(crate) fn end_run(&self) {
        self.counts.lock().busy -= 1;
    }

    /// An executor that was wanted could not be started.
    pub(crate) fn remove(&self) {
        self.counts.lock().executors -= 1;
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.counts.lock().executors
    }
}

/// What is done in a process that was forked: it notes the fact and lets go of the connection, which would otherwise
/// seem open for as long as that process lives.
fn on_fork(
    is_forked: Arc<AtomicBool>,
    socket: Arc<OwnedFd>,
) -> impl Fn(&Bound<'_, PyTuple>, Option<&Bound<'_, PyDict>>) -> PyResult<()> + Send + 'static {
    move |_, _| {
        is_forked.store(true, Ordering::Relaxed);
        let nothing = File::open("/dev/null")?;
        // SAFETY: the descriptor is open, since `socket` owns it, and stays so; it refers to another file afterwards.
        if unsafe { libc::dup2(nothing.as_raw_fd(), socket.as_raw_fd()) } < 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        Ok(())
    }
}

/// The signal handler: raises in the main thread if its run is to end. The run may have ended since the signal was sent.
fn raise_interruption(args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
    match take_interruption(args.py()) {
        Some(interruption) => Err(interruption),
        None => Ok(()),
    }
}

/// What is too long for a message, as the exception of whoever wanted to send it.
pub(crate) fn too_long(error: ProtocolError) -> PyErr {
    PyValueError::new_err(error.to_string())
}
