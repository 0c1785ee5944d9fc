//! `influxdb3_local.state` (`spec/engine.md` 0.29): values that are durable, and committed with the run.
//!
//! What a run changes is kept with the run until it ends, and hides what is committed; outside a run a change is committed
//! at once.

use std::sync::Arc;

use bytes::Bytes;
use pyo3::exceptions::{PyException, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use tidemill_worker_proto::{FromWorker, StateOperation, StateReply};

use crate::calls::Answer;
use crate::collected::Change;
use crate::pickling::{pickle, unpickle};
use crate::runs::ActiveRun;
use crate::worker::Worker;

/// Longest key; the server keeps all keys in memory.
const KEY_BYTES_MAX: usize = 1_024;
/// Largest value, pickled.
const VALUE_BYTES_MAX: usize = 8 << 20;
/// What error texts call it.
const STATE: &str = "state";

/// The object that `influxdb3_local.state` gives.
#[pyclass(frozen, name = "PyState")]
pub(crate) struct State {
    worker: Arc<Worker>,
    run: Arc<ActiveRun>,
}

impl State {
    pub(crate) fn new(worker: Arc<Worker>, run: Arc<ActiveRun>) -> Self {
        Self { worker, run }
    }

    fn ask(&self, py: Python<'_>, operation: StateOperation, value: &[u8]) -> PyResult<(StateReply, Bytes)> {
        let answer = self
            .worker
            .ask(py, value, |call| FromWorker::State { call, operation })?;
        match answer {
            Answer::State(StateReply::Refused(text), _) => Err(PyException::new_err(text)),
            Answer::State(reply, value) => Ok((reply, value)),
            _ => Err(unexpected_answer()),
        }
    }

    /// What is committed.
    fn committed(&self, py: Python<'_>, key: String) -> PyResult<Option<Bytes>> {
        match self.ask(py, StateOperation::Get { key }, &[])? {
            (StateReply::Value, value) => Ok(Some(value)),
            (StateReply::Missing, _) => Ok(None),
            _ => Err(unexpected_answer()),
        }
    }
}

#[pymethods]
impl State {
    /// Keeps a value. It must be possible to pickle it.
    fn put(&self, key: String, value: &Bound<'_, PyAny>) -> PyResult<()> {
        check_key(&key)?;
        let pickled = pickle(&key, value, STATE, "")?;
        let bytes = pickled.as_bytes();
        if bytes.len() > VALUE_BYTES_MAX {
            return Err(PyValueError::new_err(format!(
                "the value for '{key}' has {} bytes when it is pickled, and a value of the state has at most {VALUE_BYTES_MAX}",
                bytes.len()
            )));
        }
        if let Some(run) = self.run.open() {
            // The run may end on its own thread between the two looks at it.
            if run.put_state(&key, Bytes::copy_from_slice(bytes)) {
                return Ok(());
            }
        }
        match self.ask(value.py(), StateOperation::Put { key }, bytes)? {
            (StateReply::Stored, _) => Ok(()),
            _ => Err(unexpected_answer()),
        }
    }

    /// A copy of the value, or `default` where there is none.
    #[pyo3(signature = (key, default = None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        key: String,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        check_key(&key)?;
        let change = self.run.open().and_then(|run| run.state_change(&key));
        let value = match change {
            Some(Change::Put(value)) => Some(value),
            Some(Change::Deleted) => None,
            None => self.committed(py, key.clone())?,
        };
        match value {
            Some(value) => unpickle(py, &key, &value, STATE).map(Some),
            None => Ok(default),
        }
    }

    /// Removes a value; tells whether there was one.
    fn delete(&self, py: Python<'_>, key: String) -> PyResult<bool> {
        check_key(&key)?;
        if let Some(run) = self.run.open() {
            let is_committed = match run.state_change(&key) {
                // It does not matter then what is committed.
                Some(_) => false,
                None => self.committed(py, key.clone())?.is_some(),
            };
            if let Some(deleted) = run.delete_state(&key, is_committed) {
                return Ok(deleted);
            }
        }
        match self.ask(py, StateOperation::Delete { key }, &[])? {
            (StateReply::Deleted(deleted), _) => Ok(deleted),
            _ => Err(unexpected_answer()),
        }
    }
}

fn check_key(key: &str) -> PyResult<()> {
    let refusal = if key.is_empty() {
        "a key of the state must not be empty".to_owned()
    } else if key.starts_with('\0') {
        "a key of the state must not begin with a NUL character".to_owned()
    } else if key.len() > KEY_BYTES_MAX {
        format!(
            "a key of the state has at most {KEY_BYTES_MAX} bytes; this one has {}",
            key.len()
        )
    } else {
        return Ok(());
    };
    Err(PyValueError::new_err(refusal))
}

fn unexpected_answer() -> PyErr {
    PyRuntimeError::new_err("the server's answer does not fit the operation on the state")
}
