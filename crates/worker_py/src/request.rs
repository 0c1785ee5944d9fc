//! The arguments of `process_request` (`spec/engine.md` 2.5), and the rest of its request: `influxdb3_local.request`.

use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
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

/// What `process_request` is not passed: the request's method, URL and all its headers.
#[pyclass(frozen, name = "Request")]
pub(crate) struct Request {
    path: String,
    head: RequestHead,
}

impl Request {
    /// `path` is that of the URL.
    pub(crate) fn new(path: &str, head: &RequestHead) -> Self {
        Self {
            path: path.to_owned(),
            head: head.clone(),
        }
    }
}

#[pymethods]
impl Request {
    /// `GET`, `POST` and so on.
    #[getter]
    fn method(&self) -> &'static str {
        self.head.method.name()
    }

    /// The path of the URL.
    #[getter]
    fn path(&self) -> &str {
        &self.path
    }

    /// What stands behind the question mark, as it came.
    #[getter]
    fn query_string(&self) -> &str {
        &self.head.query_string
    }

    /// The headers as pairs, names in lower case; repeated ones are repeated.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, &self.head.headers)
    }
}

fn dict<'py>(py: Python<'py>, entries: &[(String, String)]) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in entries {
        dict.set_item(name, value)?;
    }
    Ok(dict)
}
