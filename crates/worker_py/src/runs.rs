//! The runs that are being executed: what each has collected, on which thread it runs, and how it is interrupted.

use std::cell::RefCell;
use std::ffi::c_ulong;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use pyo3::exceptions::PyTimeoutError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;
use tidemill_worker_proto::RunId;

use crate::collected::{Change, Collected};
use crate::window::Window;

thread_local! {
    /// The run that this thread executes.
    static CURRENT: RefCell<Option<Arc<ActiveRun>>> = const { RefCell::new(None) };
}

/// A run from the moment its executor takes it until its end; plugins may keep it longer through the API object.
pub(crate) struct ActiveRun {
    pub(crate) run: RunId,
    pub(crate) run_id: String,
    thread: c_ulong,
    /// `None` once the run has ended: what is written later cannot be committed with it.
    collected: Mutex<Option<Collected>>,
    /// Of the run's answer, where that is streamed.
    pub(crate) window: Window,
    interrupted: AtomicBool,
    /// The exception class to raise; taken by who raises it.
    interruption: Mutex<Option<Py<PyType>>>,
}

impl ActiveRun {
    /// Adds lines to what is committed with the run, and says whether there was room; `None` if the run has ended.
    pub(crate) fn collect(&self, database: Option<&str>, lines: &[u8], bytes_max: u64) -> Option<bool> {
        let mut collected = self.collected.lock();
        let collected = collected.as_mut()?;
        Some(collected.add(database, lines, bytes_max))
    }

    /// What this run has made of a key of the state, if anything.
    pub(crate) fn state_change(&self, key: &str) -> Option<Change> {
        self.collected.lock().as_ref()?.state_change(key)
    }

    /// Sets a key of the state to a pickled value when the run is committed; false if the run has ended.
    pub(crate) fn put_state(&self, key: &str, value: Bytes) -> bool {
        match &mut *self.collected.lock() {
            Some(collected) => {
                collected.put_state(key, value);
                true
            }
            None => false,
        }
    }

    /// Deletes a key of the state when the run is committed. Returns whether the run saw a value; `None` if it has ended.
    pub(crate) fn delete_state(&self, key: &str, is_committed: bool) -> Option<bool> {
        let mut collected = self.collected.lock();
        Some(collected.as_mut()?.delete_state(key, is_committed))
    }

    /// The run that a call through an object of this run belongs to: this one, or after its end the one that the calling thread
    /// executes.
    pub(crate) fn open(self: &Arc<Self>) -> Option<Arc<Self>> {
        if self.is_open() {
            return Some(Arc::clone(self));
        }
        current().filter(|run| run.is_open())
    }

    /// Whether the function has not yet returned.
    fn is_open(&self) -> bool {
        self.collected.lock().is_some()
    }

    /// Ends the collecting, and gives what there is.
    pub(crate) fn close(&self) -> Collected {
        self.collected.lock().take().unwrap_or_default()
    }
}

/// The run that the calling thread executes, if it does.
pub(crate) fn current() -> Option<Arc<ActiveRun>> {
    CURRENT.with_borrow(Clone::clone)
}

/// All runs of the process. Beginning, ending and interrupting happen with the interpreter lock held, so that an
/// interruption never hits the run after the one it was meant for.
#[derive(Default)]
pub(crate) struct ActiveRuns {
    runs: Mutex<HashMap<RunId, Arc<ActiveRun>, RandomState>>,
}

impl ActiveRuns {
    /// A run that has begun and not ended.
    pub(crate) fn get(&self, run: RunId) -> Option<Arc<ActiveRun>> {
        self.runs.lock().get(&run).cloned()
    }

    /// Begins a run on this thread.
    pub(crate) fn begin(&self, _py: Python<'_>, run: RunId, run_id: String) -> Arc<ActiveRun> {
        let active = Arc::new(ActiveRun {
            run,
            run_id,
            thread: thread_ident(),
            collected: Mutex::new(Some(Collected::default())),
            window: Window::default(),
            interrupted: AtomicBool::new(false),
            interruption: Mutex::new(None),
        });
        self.runs.lock().insert(run, Arc::clone(&active));
        CURRENT.set(Some(Arc::clone(&active)));
        active
    }

    /// Ends the run of this thread; an interruption that it has not noticed is withdrawn.
    pub(crate) fn end(&self, _py: Python<'_>, active: &ActiveRun) {
        self.runs.lock().remove(&active.run);
        CURRENT.set(None);
        if active.interrupted.load(Ordering::Relaxed) {
            *active.interruption.lock() = None;
            set_asynchronous_exception(active.thread, std::ptr::null_mut());
        }
    }

    /// Marks a run as interrupted by an exception of this class. Returns its thread, or `None` if it has ended.
    ///
    /// With `raise`, the interpreter raises the exception in that thread as soon as it executes Python code there.
    pub(crate) fn interrupt(
        &self,
        class: Bound<'_, PyType>,
        run: RunId,
        raise: impl FnOnce(c_ulong) -> bool,
    ) -> Option<c_ulong> {
        let active = self.runs.lock().get(&run).cloned()?;
        active.interrupted.store(true, Ordering::Relaxed);
        if raise(active.thread) {
            set_asynchronous_exception(active.thread, class.as_ptr());
        }
        *active.interruption.lock() = Some(class.unbind());
        active.window.close();
        Some(active.thread)
    }
}

/// The exception that interrupts the run of this thread, if there is one that was not raised yet.
pub(crate) fn take_interruption(py: Python<'_>) -> Option<PyErr> {
    let active = current()?;
    let class = active.interruption.lock().take()?;
    set_asynchronous_exception(active.thread, std::ptr::null_mut());
    Some(PyErr::from_type(class.into_bound(py), ()))
}

/// The exception with which the interrupted run of this thread ends. The interpreter may have raised it already, in a signal
/// handler, and the plugin have caught it.
pub(crate) fn interruption(py: Python<'_>) -> PyErr {
    take_interruption(py).unwrap_or_else(|| PyTimeoutError::new_err("the run was ended"))
}

/// What Python calls `threading.get_ident()`.
pub(crate) fn thread_ident() -> c_ulong {
    // SAFETY: has no precondition; it reads the identity of the calling thread.
    unsafe { ffi::PyThread_get_thread_ident() }
}

/// Lets the interpreter raise `exception` (a class) in a thread, or with null withdraws what is not yet raised.
fn set_asynchronous_exception(thread: c_ulong, exception: *mut ffi::PyObject) {
    // SAFETY: the callers hold the interpreter lock (they have a `Python` token), and `exception` is null or a borrowed
    // reference to an exception class that outlives the call; the interpreter takes its own reference.
    unsafe { ffi::PyThreadState_SetAsyncExc(thread.cast_signed(), exception) };
}
