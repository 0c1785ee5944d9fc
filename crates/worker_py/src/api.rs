//! `influxdb3_local`: what a plugin can do in the database (`spec/engine.md` 3 and 0).
//!
//! The object is made for one run and stays usable after it, from any thread: what it does then belongs to the run that the
//! calling thread executes, or to none. A queued write that belongs to no run is committed at once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pyo3::exceptions::{PyException, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyMapping, PyString, PyTuple};
use tidemill_worker_proto::{FromWorker, LogLevel, RequestHead, RunId, bounded_log_text};

use crate::cache::Cache;
use crate::calls::Answer;
use crate::exceptions::QueryError;
use crate::ipc::{Batches, decode};
use crate::lines::{Written, line_protocol};
use crate::params::params;
use crate::plugin::Plugin;
use crate::request::Request;
use crate::rows::{Nulls, rows};
use crate::runs::ActiveRun;
use crate::state::State;
use crate::tables::{ArrowTable, value_error};
use crate::worker::Worker;
use crate::written_tables::TableKeywords;

/// See the module's documentation.
#[pyclass(frozen, name = "PyPluginCallApi")]
pub(crate) struct PluginApi {
    worker: Arc<Worker>,
    plugin: Arc<Plugin>,
    run: Arc<ActiveRun>,
    args: Option<Py<PyDict>>,
    request: Option<RequestHead>,
}

impl PluginApi {
    pub(crate) fn new(
        worker: Arc<Worker>,
        plugin: Arc<Plugin>,
        run: Arc<ActiveRun>,
        args: Option<Bound<'_, PyDict>>,
        request: Option<RequestHead>,
    ) -> Self {
        Self {
            worker,
            plugin,
            run,
            args: args.map(Bound::unbind),
            request,
        }
    }

    fn run_number(&self) -> Option<RunId> {
        self.run.open().map(|run| run.run)
    }

    /// A database as the wire names it: `None` is the trigger's.
    fn named<'a>(&self, database: &'a str) -> Option<&'a str> {
        (database != self.plugin.load.database).then_some(database)
    }

    fn log(&self, py: Python<'_>, level: LogLevel, args: &Bound<'_, PyTuple>) -> PyResult<()> {
        let mut text = String::new();
        for (index, argument) in args.iter().enumerate() {
            if index > 0 {
                text.push(' ');
            }
            text.push_str(&argument.str()?.to_string_lossy());
        }
        let run = self.run_number();
        let text = bounded_log_text(text);
        self.worker.post(py, &FromWorker::Log { run, level, text })
    }

    fn written(&self, argument: &Bound<'_, PyAny>, keywords: TableKeywords) -> PyResult<Written> {
        line_protocol(argument, &keywords, self.plugin.load.output_bytes_max)
    }

    fn collect(&self, py: Python<'_>, database: Option<&str>, written: &Written) -> PyResult<()> {
        // The run may end on its own thread between the two looks at it.
        let collected = self
            .run
            .open()
            .and_then(|run| run.collect(database, &written.lines, self.plugin.load.output_bytes_max));
        match collected {
            Some(true) => Ok(()),
            Some(false) => Err(self.output_too_large("run")),
            None => self.commit(py, database, written, false),
        }
    }

    fn output_too_large(&self, what: &str) -> PyErr {
        let bytes_max = self.plugin.load.output_bytes_max;
        PyValueError::new_err(format!(
            "the {what} exceeds the trigger's output limit of {bytes_max} bytes"
        ))
    }

    fn commit(
        &self,
        py: Python<'_>,
        database: Option<&str>,
        written: &Written,
        no_sync: bool,
    ) -> PyResult<()> {
        if written.is_table && written.lines.is_empty() {
            return Ok(());
        }
        if written.lines.len() as u64 > self.plugin.load.output_bytes_max {
            return Err(self.output_too_large("write"));
        }
        let run = self.run_number();
        let answer = self.worker.ask(py, &written.lines, |call| FromWorker::Write {
            call,
            run,
            database: database.map(str::to_owned),
            no_sync,
        })?;
        match answer {
            Answer::Write(Ok(())) => Ok(()),
            Answer::Write(Err(text)) => Err(PyException::new_err(text)),
            _ => Err(PyRuntimeError::new_err(
                "the server's answer does not fit the write",
            )),
        }
    }

    fn select(
        &self,
        py: Python<'_>,
        sql: &str,
        args: Option<&Bound<'_, PyMapping>>,
        database: Option<&str>,
    ) -> PyResult<Batches> {
        let params = args.map(params).transpose()?.unwrap_or_default();
        let run = self.run_number();
        let database = database.and_then(|database| self.named(database));
        let answer = self.worker.ask(py, &[], |call| FromWorker::Query {
            call,
            run,
            database: database.map(str::to_owned),
            sql: sql.to_owned(),
            params,
        })?;
        match answer {
            Answer::Query(Ok(parts)) => decode_detached(py, &parts),
            Answer::Query(Err(text)) => Err(QueryError::new_err(text)),
            _ => Err(PyRuntimeError::new_err(
                "the server's answer does not fit the query",
            )),
        }
    }
}

fn decode_detached(py: Python<'_>, parts: &[Bytes]) -> PyResult<Batches> {
    py.detach(|| decode(parts)).map_err(value_error)
}

#[pymethods]
impl PluginApi {
    /// Logs `str()` of the arguments, joined by spaces.
    #[pyo3(signature = (*args))]
    fn info(&self, py: Python<'_>, args: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.log(py, LogLevel::Info, args)
    }

    /// Logs `str()` of the arguments, joined by spaces.
    #[pyo3(signature = (*args))]
    fn warn(&self, py: Python<'_>, args: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.log(py, LogLevel::Warn, args)
    }

    /// Logs `str()` of the arguments, joined by spaces.
    #[pyo3(signature = (*args))]
    fn error(&self, py: Python<'_>, args: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.log(py, LogLevel::Error, args)
    }

    /// Rows of a SQL query as dictionaries. `args` are the values of `$name`; `database` is the trigger's by default.
    #[pyo3(signature = (query, args = None, database = None))]
    fn query<'py>(
        &self,
        py: Python<'py>,
        query: &str,
        args: Option<&Bound<'py, PyMapping>>,
        database: Option<&str>,
    ) -> PyResult<Bound<'py, PyList>> {
        let result = self.select(py, query, args, database)?;
        rows(py, &result.batches, Nulls::PyNone)
    }

    /// The same as an object with the Arrow `PyCapsule` interface.
    #[pyo3(signature = (query, args = None, database = None))]
    fn query_arrow(
        &self,
        py: Python<'_>,
        query: &str,
        args: Option<&Bound<'_, PyMapping>>,
        database: Option<&str>,
    ) -> PyResult<ArrowTable> {
        Ok(ArrowTable::new(self.select(py, query, args, database)?))
    }

    /// Writes to the trigger's database when the run has succeeded.
    #[pyo3(signature = (line_builder, *, table = None, tags = None, time = Some(TableKeywords::TIME_DEFAULT.to_owned())))]
    fn write(
        &self,
        py: Python<'_>,
        line_builder: &Bound<'_, PyAny>,
        table: Option<String>,
        tags: Option<Vec<String>>,
        time: Option<String>,
    ) -> PyResult<()> {
        let written = self.written(line_builder, TableKeywords { table, tags, time })?;
        self.collect(py, None, &written)
    }

    /// Writes to a database when the run has succeeded.
    #[pyo3(signature = (db_name, line_builder, *, table = None, tags = None, time = Some(TableKeywords::TIME_DEFAULT.to_owned())))]
    fn write_to_db(
        &self,
        py: Python<'_>,
        db_name: &str,
        line_builder: &Bound<'_, PyAny>,
        table: Option<String>,
        tags: Option<Vec<String>>,
        time: Option<String>,
    ) -> PyResult<()> {
        let written = self.written(line_builder, TableKeywords { table, tags, time })?;
        self.collect(py, self.named(db_name), &written)
    }

    /// Writes to the trigger's database now.
    #[pyo3(signature = (line_builder, no_sync, *, table = None, tags = None, time = Some(TableKeywords::TIME_DEFAULT.to_owned())))]
    fn write_sync(
        &self,
        py: Python<'_>,
        line_builder: &Bound<'_, PyAny>,
        no_sync: bool,
        table: Option<String>,
        tags: Option<Vec<String>>,
        time: Option<String>,
    ) -> PyResult<()> {
        let written = self.written(line_builder, TableKeywords { table, tags, time })?;
        self.commit(py, None, &written, no_sync)
    }

    /// Writes to a database now.
    #[pyo3(signature = (db_name, line_builder, no_sync, *, table = None, tags = None, time = Some(TableKeywords::TIME_DEFAULT.to_owned())))]
    #[expect(clippy::too_many_arguments, reason = "the arguments of the Python method")]
    fn write_sync_to_db(
        &self,
        py: Python<'_>,
        db_name: &str,
        line_builder: &Bound<'_, PyAny>,
        no_sync: bool,
        table: Option<String>,
        tags: Option<Vec<String>>,
        time: Option<String>,
    ) -> PyResult<()> {
        let written = self.written(line_builder, TableKeywords { table, tags, time })?;
        self.commit(py, self.named(db_name), &written, no_sync)
    }

    /// Values that are kept between runs.
    #[getter]
    fn cache(&self) -> Cache {
        let ttl_default = self.plugin.load.cache_ttl_default_ms.map(Duration::from_millis);
        Cache::new(Arc::clone(&self.worker), ttl_default)
    }

    /// Values that survive a restart.
    #[getter]
    fn state(&self) -> State {
        State::new(Arc::clone(&self.worker), Arc::clone(&self.run))
    }

    /// The name of the trigger.
    #[getter]
    fn trigger_name<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, &self.plugin.load.trigger_name)
    }

    /// The database of the trigger.
    #[getter]
    fn database<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, &self.plugin.load.database)
    }

    /// Names the run; the same when the same work is tried again.
    #[getter]
    fn run_id<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, &self.run.run_id)
    }

    /// The request that the run answers; `None` in other runs.
    #[getter]
    fn request(&self) -> Option<Request> {
        let path = self.plugin.load.request_path.as_deref().unwrap_or_default();
        self.request.as_ref().map(|head| Request::new(path, head))
    }

    /// The trigger's arguments, for `on_write(self, …)`, which is not passed them.
    #[getter]
    fn args<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyDict>> {
        self.args.as_ref().map(|args| args.bind(py).clone())
    }
}
