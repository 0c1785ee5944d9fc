//! The parts of the worker that are written in Python, compiled into the extension.

use std::ffi::{CStr, CString};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

/// Handles to what the Python parts define; each is documented where it is defined, in `python/`.
pub(crate) struct Embedded {
    plugin_class: Py<PyAny>,
    table_batch_class: Py<PyAny>,
    describe: Py<PyAny>,
    run_timeout_class: Py<PyAny>,
    run_timeout: Py<PyAny>,
    wake_main_thread: Py<PyAny>,
    start_thread: Py<PyAny>,
    wait_for: Py<PyAny>,
    wake_loop: Py<PyAny>,
    next_item: Py<PyAny>,
    set_up: Py<PyAny>,
    make_tidemill_module: Py<PyAny>,
}

impl Embedded {
    /// Executes the Python parts.
    pub(crate) fn load(py: Python<'_>) -> PyResult<Self> {
        let loader = module(
            py,
            include_str!("../python/loader.py"),
            c"<tidemill loader>",
            c"tidemill_loader",
        )?;
        let batch = module(
            py,
            include_str!("../python/table_batch.py"),
            c"<tidemill table_batch>",
            c"tidemill_table_batch",
        )?;
        let failures = module(
            py,
            include_str!("../python/failures.py"),
            c"<tidemill failures>",
            c"tidemill_failures",
        )?;
        let process = module(
            py,
            include_str!("../python/process.py"),
            c"<tidemill process>",
            c"tidemill_process",
        )?;
        let tidemill = module(
            py,
            include_str!("../python/tidemill_module.py"),
            c"<tidemill module>",
            c"tidemill_module",
        )?;
        Ok(Self {
            plugin_class: loader.getattr("Plugin")?.unbind(),
            table_batch_class: batch.getattr("TableBatch")?.unbind(),
            describe: failures.getattr("describe")?.unbind(),
            run_timeout_class: process.getattr("RunTimeout")?.unbind(),
            run_timeout: process.getattr("run_timeout")?.unbind(),
            wake_main_thread: process.getattr("wake_main_thread")?.unbind(),
            start_thread: process.getattr("start_thread")?.unbind(),
            wait_for: process.getattr("wait_for")?.unbind(),
            wake_loop: process.getattr("wake_loop")?.unbind(),
            next_item: process.getattr("next_item")?.unbind(),
            set_up: process.getattr("set_up")?.unbind(),
            make_tidemill_module: tidemill.getattr("make")?.unbind(),
        })
    }

    pub(crate) fn new_plugin<'py>(
        &self,
        py: Python<'py>,
        path: &str,
        is_package: bool,
        plugin_dir: &str,
        watch: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.plugin_class
            .bind(py)
            .call1((path, is_package, plugin_dir, watch))
    }

    pub(crate) fn new_table_batch<'py>(
        &self,
        py: Python<'py>,
        table_name: &str,
        source: impl IntoPyObject<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.table_batch_class.bind(py).call1((table_name, source))
    }

    /// The class of the elements of `table_batches`.
    pub(crate) fn table_batch_class<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.table_batch_class.bind(py)
    }

    /// What `import tidemill` gives: these classes, and the types of the package for authors.
    pub(crate) fn tidemill_module<'py>(&self, classes: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
        let interface = include_str!("../../../python/tidemill/interface.py");
        let make = self.make_tidemill_module.bind(classes.py());
        make.call1((classes, interface))
    }

    /// The message and the traceback of an exception.
    pub(crate) fn describe(
        &self,
        error: &Bound<'_, PyAny>,
        owns: &Bound<'_, PyAny>,
    ) -> PyResult<(String, String)> {
        self.describe.bind(error.py()).call1((error, owns))?.extract()
    }

    /// The base of all classes that [`Embedded::run_timeout`] makes.
    pub(crate) fn run_timeout_class<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.run_timeout_class.bind(py)
    }

    /// An exception class for one interruption.
    pub(crate) fn run_timeout<'py>(&self, py: Python<'py>, reason: &str) -> PyResult<Bound<'py, PyType>> {
        Ok(self.run_timeout.bind(py).call1((reason,))?.cast_into()?)
    }

    pub(crate) fn wake_main_thread(&self, on_interrupt: &Bound<'_, PyAny>, ident: u64) -> PyResult<()> {
        self.wake_main_thread
            .bind(on_interrupt.py())
            .call1((ident, on_interrupt))
            .map(drop)
    }

    /// Wakes a thread that waits in its event loop.
    pub(crate) fn wake_loop(&self, py: Python<'_>, ident: u64) -> PyResult<()> {
        self.wake_loop.bind(py).call1((ident,)).map(drop)
    }

    pub(crate) fn start_thread(&self, target: Bound<'_, PyAny>, name: &str) -> PyResult<()> {
        self.start_thread
            .bind(target.py())
            .call1((&target, name))
            .map(drop)
    }

    pub(crate) fn wait_for<'py>(&self, awaitable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.wait_for.bind(awaitable.py()).call1((&awaitable,))
    }

    /// The next item of an asynchronous iterator.
    pub(crate) fn next_item<'py>(&self, items: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let next: Option<(Bound<'py, PyAny>,)> =
            self.next_item.bind(items.py()).call1((items,))?.extract()?;
        Ok(next.map(|(item,)| item))
    }

    pub(crate) fn set_up_process(
        &self,
        on_interrupt: &Bound<'_, PyAny>,
        on_fork: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.set_up
            .bind(on_interrupt.py())
            .call1((on_interrupt, on_fork))
            .map(drop)
    }
}

fn module<'py>(py: Python<'py>, source: &str, file: &CStr, name: &CStr) -> PyResult<Bound<'py, PyModule>> {
    let source = CString::new(source)?;
    PyModule::from_code(py, &source, file, name)
}
