//! The plugin: what the server said about it, and its module as last loaded.

use std::time::Instant;

use parking_lot::Mutex;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use tidemill_worker_proto::{EntryPoint, Failure, FailureKind, Load, PluginForm};

use crate::embedded::Embedded;
use crate::failure::{describe, missing_function};
use crate::watch::Watch;

/// See the module's documentation.
pub(crate) struct Plugin {
    pub(crate) load: Load,
    /// The Python half, which loads the module.
    handle: Py<PyAny>,
    owns: Py<PyAny>,
    watch: Py<Watch>,
    module: Mutex<Option<Py<PyAny>>>,
}

/// The function to call.
pub(crate) enum Entry<'py> {
    /// The function that the trigger's specification asks for.
    Function(Bound<'py, PyAny>),
    /// `on_write(self, database, table_name, batch)`, once a table (`spec/engine.md` 0.8).
    OnWrite(Bound<'py, PyAny>),
}

impl Plugin {
    /// Prepares the import system for the plugin; does not load it.
    pub(crate) fn new(py: Python<'_>, python: &Embedded, load: Load) -> PyResult<Self> {
        let watch = Bound::new(py, Watch::default())?;
        let is_package = load.form == PluginForm::Package;
        let handle = python.new_plugin(py, &load.path, is_package, &load.plugin_dir, watch.as_any())?;
        Ok(Self {
            owns: handle.getattr("owns")?.unbind(),
            handle: handle.unbind(),
            watch: watch.unbind(),
            module: Mutex::new(None),
            load,
        })
    }

    /// Takes the plugin out of the import system.
    pub(crate) fn remove(&self, py: Python<'_>) -> PyResult<()> {
        self.handle.bind(py).call_method0("remove").map(drop)
    }

    /// A predicate on file names: whether they are the plugin's.
    pub(crate) fn owns<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.owns.bind(py)
    }

    /// The function to call for work that arrived at `received`. Loads the plugin if it is not, or was edited before that.
    pub(crate) fn entry<'py>(
        &self,
        py: Python<'py>,
        python: &Embedded,
        received: Instant,
    ) -> Result<Entry<'py>, Failure> {
        let module = match self.loaded(py, received) {
            Some(module) => module,
            None => self
                .load_again(py)
                .map_err(|error| self.load_failure(py, python, &error))?,
        };
        self.find_entry(&module)
            .map_err(|error| describe(python, self.owns(py), FailureKind::Load, &error))?
            .ok_or_else(|| missing_function(self.load.entry))
    }

    /// The value of `args`: a new dictionary for every call, `None` where the trigger has no arguments.
    pub(crate) fn arguments<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(arguments) = &self.load.arguments else {
            return Ok(None);
        };
        let dict = PyDict::new(py);
        for (name, value) in arguments {
            dict.set_item(name, value)?;
        }
        Ok(Some(dict))
    }

    fn loaded<'py>(&self, py: Python<'py>, received: Instant) -> Option<Bound<'py, PyAny>> {
        let module = self.module.lock().as_ref().map(|module| module.clone_ref(py))?;
        if self.watch.get().changed_before(received) {
            return None;
        }
        Some(module.into_bound(py))
    }

    fn load_again<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        *self.module.lock() = None;
        let module = self.handle.bind(py).call_method0("module")?;
        *self.module.lock() = Some(module.clone().unbind());
        Ok(module)
    }

    fn load_failure(&self, py: Python<'_>, python: &Embedded, error: &PyErr) -> Failure {
        let mut failure = describe(python, self.owns(py), FailureKind::Load, error);
        if self.load.form == PluginForm::Package {
            let name = self
                .handle
                .bind(py)
                .getattr("display_name")
                .map(|name| name.to_string());
            failure.message = format!(
                "Failed to import plugin module '{}': {}\nHint: Check for syntax errors or missing dependencies in Python files.",
                name.unwrap_or_default(),
                failure.message,
            );
        }
        failure
    }

    fn find_entry<'py>(&self, module: &Bound<'py, PyAny>) -> PyResult<Option<Entry<'py>>> {
        let py = module.py();
        let name: &Bound<'_, PyString> = match self.load.entry {
            EntryPoint::Writes => intern!(py, "process_writes"),
            EntryPoint::ScheduledCall => intern!(py, "process_scheduled_call"),
            EntryPoint::Request => intern!(py, "process_request"),
        };
        if let Some(function) = module.getattr_opt(name)? {
            return Ok(Some(Entry::Function(function)));
        }
        if self.load.entry == EntryPoint::Writes {
            return Ok(module.getattr_opt(intern!(py, "on_write"))?.map(Entry::OnWrite));
        }
        Ok(None)
    }
}
