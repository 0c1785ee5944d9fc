//! What plugins may pass to `write`: builders, text, lists of them, and Arrow tables.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};

use crate::line_builder::LineBuilder;
use crate::written_tables::{TableKeywords, table_lines};

/// What is to be written.
pub(crate) struct Written {
    pub(crate) lines: Vec<u8>,
    /// A table may be empty; anything else without lines is refused by the server.
    pub(crate) is_table: bool,
}

/// Line protocol of an argument: an object with `build()`, a `str` of lines, a list or tuple of those, or an Arrow table,
/// whose lines have at most `table_bytes_max` bytes.
pub(crate) fn line_protocol(
    argument: &Bound<'_, PyAny>,
    keywords: &TableKeywords,
    table_bytes_max: u64,
) -> PyResult<Written> {
    let is_builder = argument.is_exact_instance_of::<LineBuilder>();
    if !is_builder && let Some(lines) = table_lines(argument, keywords, table_bytes_max)? {
        let is_table = true;
        return Ok(Written { lines, is_table });
    }
    keywords.check_absent()?;
    let mut lines = Vec::new();
    if let Ok(list) = argument.cast::<PyList>() {
        for element in list {
            append(&element, &mut lines)?;
        }
    } else if let Ok(tuple) = argument.cast::<PyTuple>() {
        for element in tuple {
            append(&element, &mut lines)?;
        }
    } else {
        append(argument, &mut lines)?;
    }
    let is_table = false;
    Ok(Written { lines, is_table })
}

fn append(element: &Bound<'_, PyAny>, lines: &mut Vec<u8>) -> PyResult<()> {
    if let Ok(builder) = element.cast_exact::<LineBuilder>() {
        append_text(&builder.try_borrow()?.build()?, lines);
        return Ok(());
    }
    if let Ok(text) = element.cast::<PyString>() {
        append_text(text.to_str()?, lines);
        return Ok(());
    }
    let built = element.call_method0(intern!(element.py(), "build"))?;
    let Ok(text) = built.cast::<PyString>() else {
        let message = format!("build() must return str, not {}", built.get_type().name()?);
        return Err(PyTypeError::new_err(message));
    };
    append_text(text.to_str()?, lines);
    Ok(())
}

fn append_text(text: &str, lines: &mut Vec<u8>) {
    if !lines.is_empty() && !lines.ends_with(b"\n") {
        lines.push(b'\n');
    }
    lines.extend_from_slice(text.as_bytes());
}
