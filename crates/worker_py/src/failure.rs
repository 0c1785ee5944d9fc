//! Ways in which loading and running fail, and what the server is told about each.

use std::fmt;

use pyo3::prelude::*;
use tidemill_worker_proto::{EntryPoint, Failure, FailureKind};

use crate::embedded::Embedded;

/// Why a run has no result.
pub(crate) enum RunError {
    /// Described already: the plugin could not be loaded, or has no such function.
    Failed(Failure),
    /// An exception left the plugin's function.
    Raised(PyErr),
    /// What the function returned is not an answer; an exception says why.
    BadReturn(PyErr),
    /// What the function returned is not an answer; a literal text of `spec/engine.md` says why.
    NotAnAnswer(&'static str),
}

impl fmt::Display for RunError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) => formatter.write_str(&failure.message),
            Self::Raised(error) | Self::BadReturn(error) => error.fmt(formatter),
            Self::NotAnAnswer(text) => formatter.write_str(text),
        }
    }
}

impl RunError {
    /// What goes to the server. `owns` tells the plugin's source files from others.
    pub(crate) fn into_failure(self, python: &Embedded, owns: &Bound<'_, PyAny>) -> Failure {
        match self {
            Self::Failed(failure) => failure,
            Self::Raised(error) => describe(python, owns, FailureKind::Raised, &error),
            Self::BadReturn(error) => describe(python, owns, FailureKind::BadReturn, &error),
            Self::NotAnAnswer(text) => literal(FailureKind::BadReturn, text.to_owned()),
        }
    }
}

/// A failure with a text and no traceback.
pub(crate) fn literal(kind: FailureKind, message: String) -> Failure {
    Failure {
        kind,
        message,
        traceback: None,
    }
}

/// A failure by an exception.
pub(crate) fn describe(
    python: &Embedded,
    owns: &Bound<'_, PyAny>,
    kind: FailureKind,
    error: &PyErr,
) -> Failure {
    let py = owns.py();
    // `into_value` also gives the exception its traceback, which until Python 3.12 is kept beside it.
    let exception = error.clone_ref(py).into_value(py).into_bound(py);
    match python.describe(exception.as_any(), owns) {
        Ok((message, traceback)) => Failure {
            kind,
            message,
            traceback: Some(traceback),
        },
        // Out of memory or out of stack: the short text needs little of either.
        Err(_) => literal(kind, error.to_string()),
    }
}

/// The failure of a plugin without its function, as the interface words it (`spec/engine.md` 2.1).
pub(crate) fn missing_function(entry: EntryPoint) -> Failure {
    let (name, signature) = match entry {
        EntryPoint::Writes => (
            "process_writes",
            "process_writes(influxdb3_local, table_batches, args=None)",
        ),
        EntryPoint::ScheduledCall => (
            "process_scheduled_call",
            "process_scheduled_call(influxdb3_local, call_time, args=None)",
        ),
        EntryPoint::Request => (
            "process_request",
            "process_request(influxdb3_local, query_parameters, request_headers, request_body, args=None) \
             -> Tuple[str, Optional[Dict[str, str]]]",
        ),
    };
    let message =
        format!("the {name} function is not present in the plugin. Should be defined as: {signature}");
    literal(FailureKind::MissingFunction, message)
}
