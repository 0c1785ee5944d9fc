//! `influxdb3_local.cache` (`spec/engine.md` 3.5, 5.8, 0.29).
//!
//! The trigger's namespace holds references to live objects and ends with the process. The global namespace is kept by the
//! server and shared by all plugins' processes, so its values are pickled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use pyo3::exceptions::{PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use tidemill_worker_proto::{CacheOperation, CacheReply, FromWorker};

use crate::calls::Answer;
use crate::pickling::{pickle, unpickle};
use crate::worker::Worker;

/// How often, at most, expired entries are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// What error texts call the namespace that is shared.
const GLOBAL_CACHE: &str = "global cache";

/// The trigger's namespace.
///
/// No lock is held while an object is dropped: that may run code of the plugin, which may use the cache.
#[derive(Default)]
pub(crate) struct TriggerCache {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: HashMap<String, Entry, RandomState>,
    swept: Option<Instant>,
}

struct Entry {
    value: Py<PyAny>,
    expires: Option<Instant>,
}

impl Entry {
    fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

impl TriggerCache {
    /// Drops what has expired, unless that was done shortly before.
    fn sweep(&self) {
        let now = Instant::now();
        let expired: Vec<(String, Entry)> = {
            let mut state = self.state.lock();
            if state.swept.is_some_and(|swept| now < swept + SWEEP_INTERVAL) {
                return;
            }
            state.swept = Some(now);
            state
                .entries
                .extract_if(|_, entry| entry.is_expired(now))
                .collect()
        };
        drop(expired);
    }

    fn put(&self, key: String, value: Py<PyAny>, expires: Option<Instant>) {
        let replaced = self.state.lock().entries.insert(key, Entry { value, expires });
        drop(replaced);
    }

    fn get(&self, py: Python<'_>, key: &str) -> Option<Py<PyAny>> {
        let mut state = self.state.lock();
        let entry = state.entries.get(key)?;
        if !entry.is_expired(Instant::now()) {
            return Some(entry.value.clone_ref(py));
        }
        let expired = state.entries.remove(key);
        drop(state);
        drop(expired);
        None
    }

    fn delete(&self, key: &str) -> bool {
        let removed = self.state.lock().entries.remove(key);
        removed.is_some_and(|entry| !entry.is_expired(Instant::now()))
    }
}

/// The object that `influxdb3_local.cache` gives.
#[pyclass(frozen, name = "PyCache")]
pub(crate) struct Cache {
    worker: Arc<Worker>,
    ttl_default: Option<Duration>,
}

impl Cache {
    /// Reading the property also removes what has expired.
    pub(crate) fn new(worker: Arc<Worker>, ttl_default: Option<Duration>) -> Self {
        worker.cache.sweep();
        Self { worker, ttl_default }
    }

    fn ask(
        &self,
        py: Python<'_>,
        operation: CacheOperation,
        value: &[u8],
    ) -> PyResult<(CacheReply, bytes::Bytes)> {
        let answer = self
            .worker
            .ask(py, value, |call| FromWorker::GlobalCache { call, operation })?;
        match answer {
            Answer::Cache(reply, value) => Ok((reply, value)),
            _ => Err(unexpected_answer()),
        }
    }
}

#[pymethods]
impl Cache {
    /// Keeps a value for `ttl` seconds, or for ever.
    #[pyo3(signature = (key, value, ttl = None, use_global = None))]
    fn put(
        &self,
        key: String,
        value: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
        use_global: Option<bool>,
    ) -> PyResult<()> {
        let ttl = match ttl {
            Some(seconds) => Some(time_to_live(seconds)?),
            None => self.ttl_default,
        };
        if use_global.unwrap_or_default() {
            let pickled = pickle(
                &key,
                value,
                GLOBAL_CACHE,
                "; keep it in the trigger's own cache (use_global=False)",
            )?;
            let ttl_ms = ttl.map(|ttl| u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX));
            let operation = CacheOperation::Put { key, ttl_ms };
            return match self.ask(value.py(), operation, pickled.as_bytes())? {
                (CacheReply::Stored, _) => Ok(()),
                (CacheReply::Full, _) => Err(PyRuntimeError::new_err(
                    "the global cache is full: delete what is not needed, give entries a ttl, or use the trigger's own \
                     cache (use_global=False)",
                )),
                _ => Err(unexpected_answer()),
            };
        }
        let expires = match ttl {
            Some(ttl) => Some(Instant::now().checked_add(ttl).ok_or_else(invalid_ttl)?),
            None => None,
        };
        self.worker.cache.put(key, value.clone().unbind(), expires);
        Ok(())
    }

    /// The value, or `default` where there is none or it has expired.
    #[pyo3(signature = (key, default = None, use_global = None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        key: String,
        default: Option<Bound<'py, PyAny>>,
        use_global: Option<bool>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if !use_global.unwrap_or_default() {
            return Ok(match self.worker.cache.get(py, &key) {
                Some(value) => Some(value.into_bound(py)),
                None => default,
            });
        }
        match self.ask(py, CacheOperation::Get { key: key.clone() }, &[])? {
            (CacheReply::Value, value) => unpickle(py, &key, &value, GLOBAL_CACHE).map(Some),
            (CacheReply::Missing, _) => Ok(default),
            _ => Err(unexpected_answer()),
        }
    }

    /// Removes a value; tells whether there was one.
    #[pyo3(signature = (key, use_global = None))]
    fn delete(&self, py: Python<'_>, key: String, use_global: Option<bool>) -> PyResult<bool> {
        if !use_global.unwrap_or_default() {
            return Ok(self.worker.cache.delete(&key));
        }
        match self.ask(py, CacheOperation::Delete { key }, &[])? {
            (CacheReply::Deleted(deleted), _) => Ok(deleted),
            _ => Err(unexpected_answer()),
        }
    }
}

fn time_to_live(seconds: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let extracted: PyResult<f64> = seconds.extract();
    let seconds = match extracted {
        Err(error) if error.is_instance_of::<PyOverflowError>(seconds.py()) => return Err(invalid_ttl()),
        extracted => extracted?,
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| invalid_ttl())
}

fn invalid_ttl() -> PyErr {
    PyValueError::new_err("ttl must be a number of seconds that is not negative and not too large")
}

fn unexpected_answer() -> PyErr {
    PyRuntimeError::new_err("the server's answer does not fit the cache operation")
}
