//! Parameters of queries: Python values to those of the wire (`spec/engine.md` 0.1).

use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyFloat, PyInt, PyMapping, PyString};
use tidemill_worker_proto::ParamValue;

use crate::python_types;

/// The named parameters of a mapping.
pub(crate) fn params(mapping: &Bound<'_, PyMapping>) -> PyResult<Vec<(String, ParamValue)>> {
    let mut params = Vec::with_capacity(mapping.len()?);
    for item in mapping.items()? {
        let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
        let Ok(name) = name.cast::<PyString>() else {
            let message = format!(
                "query parameter names must be str, not {}",
                name.get_type().name()?
            );
            return Err(PyTypeError::new_err(message));
        };
        let name = name.to_str()?;
        params.push((name.to_owned(), param(name, &value)?));
    }
    Ok(params)
}

fn param(name: &str, value: &Bound<'_, PyAny>) -> PyResult<ParamValue> {
    let py = value.py();
    if value.is_none() {
        return Ok(ParamValue::Null);
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(ParamValue::String(text.to_str()?.to_owned()));
    }
    if let Ok(truth) = value.cast::<PyBool>() {
        return Ok(ParamValue::Boolean(truth.is_true()));
    }
    if value.is_instance_of::<PyInt>() {
        return integer(name, value);
    }
    if let Ok(number) = value.cast::<PyFloat>() {
        return Ok(ParamValue::Float(number.value()));
    }
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(ParamValue::Bytes(bytes.as_bytes().to_vec()));
    }
    if let Ok(bytes) = value.cast::<PyByteArray>() {
        return Ok(ParamValue::Bytes(bytes.to_vec()));
    }
    if value.is_instance(python_types::datetime(py)?)? {
        return Ok(ParamValue::TimestampNs(timestamp_ns(name, value)?));
    }
    // Scalars of NumPy and the like: integers have `__index__`, floats `__float__`, and `bool_` has neither.
    if value.hasattr(intern!(py, "__index__"))? {
        return integer(name, &value.call_method0(intern!(py, "__index__"))?);
    }
    if let Ok(truth) = value.extract::<bool>() {
        return Ok(ParamValue::Boolean(truth));
    }
    if value.hasattr(intern!(py, "__float__"))? {
        return Ok(ParamValue::Float(value.extract()?));
    }
    let message = format!(
        "query parameter '{name}' has unsupported type {}: use str, int, float, bool, None, bytes or datetime",
        value.get_type().name()?
    );
    Err(PyTypeError::new_err(message))
}

fn integer(name: &str, value: &Bound<'_, PyAny>) -> PyResult<ParamValue> {
    if let Ok(number) = value.extract::<i64>() {
        return Ok(ParamValue::Integer(number));
    }
    match value.extract::<u64>() {
        Ok(number) => Ok(ParamValue::UInteger(number)),
        Err(_) => Err(PyOverflowError::new_err(format!(
            "query parameter '{name}' does not fit 64 bits"
        ))),
    }
}

/// Nanoseconds since the epoch; a naive `datetime` is UTC, as `call_time` is.
fn timestamp_ns(name: &str, moment: &Bound<'_, PyAny>) -> PyResult<i64> {
    let py = moment.py();
    let since_epoch = since_epoch(moment)?;
    let part = |name| -> PyResult<i128> { since_epoch.getattr(name)?.extract::<i64>().map(i128::from) };
    let seconds = part(intern!(py, "days"))? * 86_400 + part(intern!(py, "seconds"))?;
    let mut nanoseconds = seconds * 1_000_000_000 + part(intern!(py, "microseconds"))? * 1_000;
    // pandas' subclass counts on below the microsecond.
    if let Some(rest) = moment.getattr_opt(intern!(py, "nanosecond"))? {
        nanoseconds += rest.extract::<i64>().map(i128::from)?;
    }
    i64::try_from(nanoseconds).map_err(|_| {
        PyOverflowError::new_err(format!(
            "query parameter '{name}' is outside of the years 1677 to 2262"
        ))
    })
}

fn since_epoch<'py>(moment: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = moment.py();
    let datetime = python_types::datetime(py)?;
    // As the plain class: subclasses may have a narrower range, or subtract differently.
    let names = ["year", "month", "day", "hour", "minute", "second", "microsecond"];
    let mut parts = Vec::with_capacity(names.len());
    for name in names {
        parts.push(moment.getattr(name)?.extract::<i64>()?);
    }
    let [year, month, day, hour, minute, second, microsecond] = parts[..] else {
        return Err(PyTypeError::new_err("datetime of another shape"));
    };
    let naive = datetime.call1((year, month, day, hour, minute, second, microsecond))?;
    let elapsed = naive.sub(datetime.call1((1970, 1, 1))?)?;
    let offset = moment.call_method0(intern!(py, "utcoffset"))?;
    if offset.is_none() {
        Ok(elapsed)
    } else {
        elapsed.sub(offset)
    }
}
