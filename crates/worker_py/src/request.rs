//! The arguments of `process_request` (`spec/engine.md` 2.5).

use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use tidemill_worker_proto::RequestHead;

/// `query_parameters`, `request_headers` and `request_body`. Of equal names the last wins.
pub(crate) fn arguments<'py>(
    py: Python<'py>,
    head: &RequestHead,
    body: &Bytes,
) -> PyResult<(Bound<'py, PyDict>, Bound<'py, PyDict>, Bound<'py, PyBytes>)> {
    Ok((
        dict(py, &head.query_parameters)?,
        dict(py, &head.headers)?,
        PyBytes::new(py, body),
    ))
}

fn dict<'py>(py: Python<'py>, entries: &[(String, String)]) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in entries {
        dict.set_item(name, value)?;
    }
    Ok(dict)
}
