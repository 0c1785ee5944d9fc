//! What `process_request` may return, as an HTTP answer (`spec/engine.md` 2.6, 2.7 and 0.27).
//!
//! The forms are tried in the order of the specification. Answers are complete before they leave: a generator is exhausted
//! here, its items joined.

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PyMemoryView, PyString, PyTuple};
use tidemill_worker_proto::ResponseHead;

use crate::embedded::Embedded;
use crate::failure::RunError;

const HTML: &str = "text/html";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain";
const BINARY: &str = "application/octet-stream";

/// Statuses that the server passes on.
const STATUSES: std::ops::RangeInclusive<u16> = 100..=599;

/// A complete answer.
pub(crate) struct Response {
    pub(crate) head: ResponseHead,
    pub(crate) body: Body,
}

/// A body that is kept as the Python object it came as: it is copied once, into the frame.
pub(crate) enum Body {
    Text(PyBackedStr),
    Bytes(PyBackedBytes),
    Joined(Vec<u8>),
}

impl Body {
    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
            Self::Joined(bytes) => bytes,
        }
    }

    /// A text; one that is not valid Unicode (lone surrogates) is an exception.
    fn text(text: Bound<'_, PyString>) -> PyResult<Self> {
        PyBackedStr::try_from(text).map(Self::Text)
    }
}

/// The answer that a return value stands for.
pub(crate) fn response(python: &Embedded, value: &Bound<'_, PyAny>) -> Result<Response, RunError> {
    if let Ok(tuple) = value.cast::<PyTuple>()
        && (1..=3).contains(&tuple.len())
    {
        return tuple_response(python, tuple);
    }
    if let Some(response) = response_object(value)? {
        return Ok(response);
    }
    if let Some(body) = plain_body(value)? {
        return Ok(body.with_status(200));
    }
    match iterated(python, value)? {
        Some(body) => Ok(body.with_status(200)),
        None => Err(RunError::NotAnAnswer(
            "Unsupported return type from Python function",
        )),
    }
}

/// A body with the content type that it has by itself.
struct TypedBody {
    content_type: &'static str,
    body: Body,
}

impl TypedBody {
    fn with_status(self, status: u16) -> Response {
        let headers = vec![("Content-Type".to_owned(), self.content_type.to_owned())];
        let head = ResponseHead { status, headers };
        Response {
            head,
            body: self.body,
        }
    }
}

/// `str`, `dict`, `list` and bytes: what is a body wherever it stands.
fn plain_body(value: &Bound<'_, PyAny>) -> Result<Option<TypedBody>, RunError> {
    typed_body(value).map_err(RunError::BadReturn)
}

fn typed_body(value: &Bound<'_, PyAny>) -> PyResult<Option<TypedBody>> {
    let typed = |content_type, body| Ok(Some(TypedBody { content_type, body }));
    if let Ok(text) = value.cast::<PyString>() {
        return typed(HTML, Body::text(text.clone())?);
    }
    if value.is_instance_of::<PyDict>() || value.is_instance_of::<PyList>() {
        return typed(JSON, Body::text(json(value)?)?);
    }
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return typed(BINARY, Body::Bytes(bytes.clone().into()));
    }
    if value.is_instance_of::<PyByteArray>() || value.is_instance_of::<PyMemoryView>() {
        let bytes = value
            .py()
            .get_type::<PyBytes>()
            .call1((value,))?
            .cast_into::<PyBytes>()?;
        return typed(BINARY, Body::Bytes(bytes.into()));
    }
    Ok(None)
}

fn tuple_response(python: &Embedded, tuple: &Bound<'_, PyTuple>) -> Result<Response, RunError> {
    let mut items = tuple.iter();
    let first = items.next().expect("the tuple has an element");
    let mut status = 200;
    let mut explicit_headers = Vec::new();
    if let Some(second) = items.next() {
        if let Some(given) = status_of(&second)? {
            status = given;
        } else if let Ok(headers) = second.cast::<PyDict>() {
            append_headers(headers, &mut explicit_headers).map_err(RunError::BadReturn)?;
        }
    }
    if let Some(third) = items.next() {
        let Ok(headers) = third.cast::<PyDict>() else {
            return Err(RunError::NotAnAnswer("expected a dictionary in header item"));
        };
        append_headers(headers, &mut explicit_headers).map_err(RunError::BadReturn)?;
    }
    let mut response = element_body(python, &first)?.with_status(status);
    merge_headers(explicit_headers, &mut response.head.headers);
    Ok(response)
}

/// The body of a tuple: everything has a text, and iterators have items.
fn element_body(python: &Embedded, value: &Bound<'_, PyAny>) -> Result<TypedBody, RunError> {
    if let Some(body) = plain_body(value)? {
        return Ok(body);
    }
    if is_iterator(value)
        && let Some(body) = iterated(python, value)?
    {
        return Ok(body);
    }
    let text = value.str().and_then(Body::text).map_err(RunError::BadReturn)?;
    Ok(TypedBody {
        content_type: TEXT,
        body: text,
    })
}

fn is_iterator(value: &Bound<'_, PyAny>) -> bool {
    let py = value.py();
    let has = |name| value.hasattr(name).unwrap_or(false);
    has(intern!(py, "__next__")) || has(intern!(py, "__anext__"))
}

/// The joined items of anything that can be iterated, also asynchronously; items that are neither text nor bytes are left out.
fn iterated(python: &Embedded, value: &Bound<'_, PyAny>) -> Result<Option<TypedBody>, RunError> {
    iterated_body(python, value).map_err(RunError::BadReturn)
}

fn iterated_body(python: &Embedded, value: &Bound<'_, PyAny>) -> PyResult<Option<TypedBody>> {
    let py = value.py();
    let items = if value.hasattr(intern!(py, "__aiter__"))? {
        python.collect(value)?
    } else if value.hasattr(intern!(py, "__iter__"))? {
        value.clone()
    } else {
        return Ok(None);
    };
    let mut joined = Vec::new();
    for item in items.try_iter()? {
        let item = item?;
        if let Ok(text) = item.cast::<PyString>() {
            joined.extend_from_slice(text.to_str()?.as_bytes());
        } else if let Ok(bytes) = item.cast::<PyBytes>() {
            joined.extend_from_slice(bytes.as_bytes());
        }
    }
    Ok(Some(TypedBody {
        content_type: HTML,
        body: Body::Joined(joined),
    }))
}

/// Response objects: those that say so (`__flask_response__`), and those of Flask and Werkzeug.
fn response_object(value: &Bound<'_, PyAny>) -> Result<Option<Response>, RunError> {
    if value.cast_exact::<PyDict>().is_ok()
        || value.cast_exact::<PyString>().is_ok()
        || value.cast_exact::<PyList>().is_ok()
    {
        return Ok(None);
    }
    object_response(value).map_err(RunError::BadReturn)
}

fn object_response(value: &Bound<'_, PyAny>) -> PyResult<Option<Response>> {
    let py = value.py();
    let marker = value.getattr_opt(intern!(py, "__flask_response__"))?;
    let marked = match marker {
        Some(marker) => marker.call0()?.is(pyo3::types::PyBool::new(py, true)),
        None => false,
    };
    let attributes = [
        intern!(py, "status_code"),
        intern!(py, "headers"),
        intern!(py, "get_data"),
    ];
    if !marked {
        for attribute in attributes {
            if !value.hasattr(attribute)? {
                return Ok(None);
            }
        }
        let passthrough = intern!(py, "direct_passthrough");
        if value.hasattr(passthrough)? {
            // Werkzeug's way to say that the body is a file that was not read; it is to be read.
            value.setattr(passthrough, false)?;
        }
    }
    let status = value.getattr(attributes[0])?.extract::<u16>()?;
    check_status(status)?;
    let data = value.call_method0(attributes[2])?;
    let body = match data.cast::<PyString>() {
        Ok(text) => Body::text(text.clone())?,
        Err(_) => Body::Bytes(data.cast_into::<PyBytes>()?.into()),
    };
    let mut headers = Vec::new();
    append_headers(&value.getattr(attributes[1])?, &mut headers)?;
    let head = ResponseHead { status, headers };
    Ok(Some(Response { head, body }))
}

/// The status that an element stands for, if it is a number.
fn status_of(value: &Bound<'_, PyAny>) -> Result<Option<u16>, RunError> {
    let py = value.py();
    if !value
        .hasattr(intern!(py, "__index__"))
        .map_err(RunError::BadReturn)?
    {
        return Ok(None);
    }
    let status = value.extract::<u16>().map_err(RunError::BadReturn)?;
    check_status(status).map_err(RunError::BadReturn)?;
    Ok(Some(status))
}

fn check_status(status: u16) -> PyResult<()> {
    if STATUSES.contains(&status) {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("{status} is not an HTTP status")))
}

/// Headers of a `dict` or of Werkzeug's multi-dictionary; a list as value repeats the header.
fn append_headers(headers: &Bound<'_, PyAny>, out: &mut Vec<(String, String)>) -> PyResult<()> {
    for item in headers.call_method0(intern!(headers.py(), "items"))?.try_iter()? {
        let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item?.extract()?;
        let name = name.str()?.to_str()?.to_owned();
        if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
            for one in value.try_iter()? {
                out.push((name.clone(), one?.str()?.to_str()?.to_owned()));
            }
        } else {
            out.push((name, value.str()?.to_str()?.to_owned()));
        }
    }
    Ok(())
}

/// Adds headers to those that are there by default; equal names, in whatever case, replace them.
fn merge_headers(explicit: Vec<(String, String)>, headers: &mut Vec<(String, String)>) {
    headers.retain(|(default, _)| {
        explicit
            .iter()
            .all(|(name, _)| !name.eq_ignore_ascii_case(default))
    });
    headers.extend(explicit);
}

/// `json.dumps(value)`
fn json<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let text = DUMPS.import(value.py(), "json", "dumps")?.call1((value,))?;
    Ok(text.cast_into()?)
}
