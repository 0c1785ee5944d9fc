//! Values that leave the process: pickled on their way out, so that what comes back is a copy.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;

/// The pickled value. What cannot be pickled is a `TypeError` that names the key, who needs it, and with `hint` what to do.
pub(crate) fn pickle<'py>(
    key: &str,
    value: &Bound<'py, PyAny>,
    needed_by: &str,
    hint: &str,
) -> PyResult<Bound<'py, PyBytes>> {
    static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = value.py();
    let pickled = DUMPS.import(py, "pickle", "dumps")?.call1((value,));
    let pickled = pickled.map_err(|error| {
        let message =
            format!("the value for '{key}' cannot be pickled, which the {needed_by} needs: {error}{hint}");
        caused_by(py, PyTypeError::new_err(message), error)
    })?;
    Ok(pickled.cast_into()?)
}

/// A copy of the value. It cannot be made where the value's class is gone or has another shape, a `ValueError`.
pub(crate) fn unpickle<'py>(
    py: Python<'py>,
    key: &str,
    value: &[u8],
    kept_by: &str,
) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let loaded = LOADS
        .import(py, "pickle", "loads")?
        .call1((PyBytes::new(py, value),));
    loaded.map_err(|error| {
        let message = format!(
            "the value for '{key}' in the {kept_by} cannot be unpickled: {error}; bring back the class that it needs, \
             or put another value"
        );
        caused_by(py, PyValueError::new_err(message), error)
    })
}

fn caused_by(py: Python<'_>, raised: PyErr, cause: PyErr) -> PyErr {
    raised.set_cause(py, Some(cause));
    raised
}
