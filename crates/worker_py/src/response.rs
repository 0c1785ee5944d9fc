//! What `process_request` may return, as an HTTP answer (`spec/engine.md` 2.6, 2.7 and 0.27).
//!
//! The forms are tried in the order of the specification. What has its items already (a set) is joined; what makes them
//! is streamed (`stream.rs`).

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyDict, PyList, PyMemoryView, PyString, PyTuple};
use tidemill_worker_proto::ResponseHead;

use crate::failure::RunError;
use crate::stream::{Items, Streamed};

const HTML: &str = "text/html";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain";
const BINARY: &str = "application/octet-stream";

/// Statuses that an answer may have; those below 200 only announce one.
const STATUSES: std::ops::RangeInclusive<u16> = 200..=599;

/// What becomes of a return value.
pub(crate) enum Answer<'py> {
    Whole(Response),
    Streamed(Streamed<'py>),
}

impl Answer<'_> {
    fn head_mut(&mut self) -> &mut ResponseHead {
        match self {
            Self::Whole(response) => &mut response.head,
            Self::Streamed(streamed) => &mut streamed.head,
        }
    }
}

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
pub(crate) fn answer<'py>(value: &Bound<'py, PyAny>) -> Result<Answer<'py>, RunError> {
    if let Ok(tuple) = value.cast::<PyTuple>()
        && (1..=3).contains(&tuple.len())
    {
        return tuple_answer(tuple);
    }
    if let Some(answer) = known_answer(value).map_err(RunError::BadReturn)? {
        return Ok(answer);
    }
    match joined_body(value).map_err(RunError::BadReturn)? {
        Some(body) => Ok(body.into()),
        None => Err(RunError::NotAnAnswer(
            "Unsupported return type from Python function",
        )),
    }
}

/// What is an answer wherever it stands, alone or first in a tuple.
fn known_answer<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Answer<'py>>> {
    if let Some(answer) = object_answer(value)? {
        return Ok(Some(answer));
    }
    if let Some(body) = typed_body(value)? {
        return Ok(Some(body.into()));
    }
    let streamed = Items::of(value)?.map(|items| Streamed {
        head: head_of(HTML),
        items,
    });
    Ok(streamed.map(Answer::Streamed))
}

fn head_of(content_type: &str) -> ResponseHead {
    ResponseHead {
        status: 200,
        headers: vec![("Content-Type".to_owned(), content_type.to_owned())],
    }
}

/// A body with the content type that it has by itself.
struct TypedBody {
    content_type: &'static str,
    body: Body,
}

impl From<TypedBody> for Answer<'_> {
    fn from(typed: TypedBody) -> Self {
        Self::Whole(Response {
            head: head_of(typed.content_type),
            body: typed.body,
        })
    }
}

/// `str`, `dict`, `list` and bytes.
fn typed_body(value: &Bound<'_, PyAny>) -> PyResult<Option<TypedBody>> {
    let typed = |content_type, body| Ok(Some(TypedBody { content_type, body }));
    if let Ok(text) = value.cast::<PyString>() {
        return typed(HTML, Body::text(text.clone())?);
    }
    if value.is_instance_of::<PyDict>() || value.is_instance_of::<PyList>() {
        return typed(JSON, Body::text(json(value)?)?);
    }
    let content_type = BINARY;
    Ok(bytes_body(value)?.map(|body| TypedBody { content_type, body }))
}

/// `bytes` and what is like them.
fn bytes_body(value: &Bound<'_, PyAny>) -> PyResult<Option<Body>> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Some(Body::Bytes(bytes.clone().into())));
    }
    if value.is_instance_of::<PyByteArray>() || value.is_instance_of::<PyMemoryView>() {
        let bytes = value.py().get_type::<PyBytes>().call1((value,))?;
        return Ok(Some(Body::Bytes(bytes.cast_into::<PyBytes>()?.into())));
    }
    Ok(None)
}

/// An item of an iterable; `None` for one that is neither text nor bytes, which is left out.
pub(crate) fn item_body(item: &Bound<'_, PyAny>) -> PyResult<Option<Body>> {
    match item.cast::<PyString>() {
        Ok(text) => Body::text(text.clone()).map(Some),
        Err(_) => bytes_body(item),
    }
}

fn tuple_answer<'py>(tuple: &Bound<'py, PyTuple>) -> Result<Answer<'py>, RunError> {
    let mut items = tuple.iter();
    let first = items.next().expect("the tuple has an element");
    let mut status = None;
    let mut explicit_headers = Vec::new();
    if let Some(second) = items.next() {
        status = status_of(&second)?;
        if status.is_none()
            && let Ok(headers) = second.cast::<PyDict>()
        {
            append_headers(headers, &mut explicit_headers).map_err(RunError::BadReturn)?;
        }
    }
    if let Some(third) = items.next() {
        let Ok(headers) = third.cast::<PyDict>() else {
            return Err(RunError::NotAnAnswer("expected a dictionary in header item"));
        };
        append_headers(headers, &mut explicit_headers).map_err(RunError::BadReturn)?;
    }
    let mut answer = match known_answer(&first).map_err(RunError::BadReturn)? {
        Some(answer) => answer,
        None => TypedBody {
            content_type: TEXT,
            body: first.str().and_then(Body::text).map_err(RunError::BadReturn)?,
        }
        .into(),
    };
    let head = answer.head_mut();
    head.status = status.unwrap_or(head.status);
    merge_headers(explicit_headers, &mut head.headers);
    Ok(answer)
}

/// The joined items of anything else that can be iterated.
fn joined_body(value: &Bound<'_, PyAny>) -> PyResult<Option<TypedBody>> {
    if !value.hasattr(intern!(value.py(), "__iter__"))? {
        return Ok(None);
    }
    let mut joined = Vec::new();
    for item in value.try_iter()? {
        if let Some(body) = item_body(&item?)? {
            joined.extend_from_slice(body.bytes());
        }
    }
    Ok(Some(TypedBody {
        content_type: HTML,
        body: Body::Joined(joined),
    }))
}

/// Response objects: those that say so (`__flask_response__`), and those of Flask and Werkzeug.
fn object_answer<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Answer<'py>>> {
    if value.cast_exact::<PyDict>().is_ok()
        || value.cast_exact::<PyString>().is_ok()
        || value.cast_exact::<PyList>().is_ok()
    {
        return Ok(None);
    }
    let py = value.py();
    let marker = value.getattr_opt(intern!(py, "__flask_response__"))?;
    let marked = match marker {
        Some(marker) => marker.call0()?.is(PyBool::new(py, true)),
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
    }
    let status = value.getattr(attributes[0])?.extract::<u16>()?;
    check_status(status)?;
    let mut headers = Vec::new();
    append_headers(&value.getattr(attributes[1])?, &mut headers)?;
    let head = ResponseHead { status, headers };
    if !marked && let Some(items) = werkzeug_stream(value)? {
        return Ok(Some(Answer::Streamed(Streamed { head, items })));
    }
    let data = value.call_method0(attributes[2])?;
    let body = match data.cast::<PyString>() {
        Ok(text) => Body::text(text.clone())?,
        Err(_) => Body::Bytes(data.cast_into::<PyBytes>()?.into()),
    };
    Ok(Some(Answer::Whole(Response { head, body })))
}

/// The items of a Werkzeug response that does not know its length: it was made of a generator, or passes a file through.
fn werkzeug_stream<'py>(response: &Bound<'py, PyAny>) -> PyResult<Option<Items<'py>>> {
    let py = response.py();
    let is_streamed = response.getattr_opt(intern!(py, "is_streamed"))?;
    if !is_streamed.is_some_and(|is_streamed| is_streamed.is(PyBool::new(py, true))) {
        return Ok(None);
    }
    let items = response.call_method0(intern!(py, "iter_encoded"))?;
    Ok(Some(Items::Iterator(items.try_iter()?, response.clone())))
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
        let name = header_name(&name)?;
        if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
            for one in value.try_iter()? {
                out.push((name.clone(), header_value(&name, &one?)?));
            }
        } else {
            let value = header_value(&name, &value)?;
            out.push((name, value));
        }
    }
    Ok(())
}

/// What of a header's name is not letter or digit (RFC 9110, `token`).
const NAME_SIGNS: &[u8] = b"!#$%&'*+-.^_`|~";

fn header_name(name: &Bound<'_, PyAny>) -> PyResult<String> {
    let name = name.str()?.to_str()?.to_owned();
    let is_sign = |byte: &u8| byte.is_ascii_alphanumeric() || NAME_SIGNS.contains(byte);
    if name.is_empty() || !name.as_bytes().iter().all(is_sign) {
        return Err(PyValueError::new_err(format!(
            "{name:?} cannot be the name of a header"
        )));
    }
    Ok(name)
}

/// Beyond ASCII a value is sent as UTF-8.
fn header_value(name: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    let value = value.str()?.to_str()?.to_owned();
    let is_control = |byte: u8| (byte < b' ' && byte != b'\t') || byte == 0x7f;
    if value.bytes().any(is_control) {
        return Err(PyValueError::new_err(format!(
            "the value of header {name} has characters that a header cannot carry: {value:?}"
        )));
    }
    Ok(value)
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
