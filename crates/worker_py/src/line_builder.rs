//! `LineBuilder`: the Python class around the builder of `tidemill-lineproto`.
//!
//! What Python does with a value before it is text (`str(value)`, `f"{value}i"`, `value % 1`) is done here, by Python where the
//! value is not of the plain type; everything after that, and all texts, are the core's. The builder is not borrowed while Python
//! works: what it works on may use the builder too.

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyInt, PyString};
use tidemill_lineproto::{LineBuilder as Core, LineBuilderError};

use crate::exceptions::{InvalidKeyError, InvalidLineError, InvalidMeasurementError};

/// Builds one line of line protocol. All setters return the builder.
#[pyclass(subclass, module = "tidemill")]
#[derive(Clone)]
pub(crate) struct LineBuilder {
    core: Core,
}

#[pymethods]
impl LineBuilder {
    #[new]
    fn new(measurement: &str) -> PyResult<Self> {
        let core = Core::new(measurement).map_err(exception)?;
        Ok(Self { core })
    }

    /// The measurement, unescaped.
    #[getter]
    fn measurement(&self) -> &str {
        self.core.measurement()
    }

    /// The tags, unescaped, in their order. A copy: changing it does not change the line.
    #[getter]
    fn tags<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        dict(py, self.core.tags())
    }

    /// The fields in their order, as line protocol. A copy: changing it does not change the line.
    #[getter]
    fn fields<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        dict(py, self.core.fields())
    }

    /// The time in nanoseconds, `None` if it is not set.
    #[getter(_timestamp_ns)]
    fn timestamp_ns<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(text) = self.core.timestamp() else {
            return Ok(None);
        };
        match text.parse::<i64>() {
            Ok(time_ns) => Ok(Some(time_ns.into_pyobject(py)?.into_any())),
            Err(_) => Ok(Some(PyString::new(py, text).into_any())),
        }
    }

    /// Sets a tag to `str(value)`.
    fn tag<'py>(this: Bound<'py, Self>, key: &str, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        let value = match value.cast_exact::<PyString>() {
            Ok(text) => text.clone(),
            Err(_) => value.str()?,
        };
        this.borrow_mut()
            .core
            .tag(key, value.to_str()?)
            .map_err(exception)?;
        Ok(this)
    }

    /// Sets a signed integer field to `f"{value}i"`.
    fn int64_field<'py>(
        this: Bound<'py, Self>,
        key: &str,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        if let Some(number) = small_integer::<i64>(value) {
            this.borrow_mut()
                .core
                .int64_field(key, number)
                .map_err(exception)?;
        } else {
            this.borrow_mut()
                .core
                .int64_field_text(key, formatted(value)?.to_str()?)
                .map_err(exception)?;
        }
        Ok(this)
    }

    /// Sets an unsigned integer field to `f"{value}u"`; it must not be negative.
    fn uint64_field<'py>(
        this: Bound<'py, Self>,
        key: &str,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        if let Some(number) = small_integer::<u64>(value) {
            this.borrow_mut()
                .core
                .uint64_field(key, number)
                .map_err(exception)?;
        } else {
            // What cannot be compared is a TypeError here; the sign itself is the core's to judge.
            value.lt(0)?;
            this.borrow_mut()
                .core
                .uint64_field_text(key, formatted(value)?.to_str()?)
                .map_err(exception)?;
        }
        Ok(this)
    }

    /// Sets a float field: `f"{int(value)}.0"` for a whole number, else `str(value)`.
    fn float64_field<'py>(
        this: Bound<'py, Self>,
        key: &str,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = value.py();
        if let Ok(number) = value.cast_exact::<PyFloat>() {
            this.borrow_mut()
                .core
                .float64_field(key, number.value())
                .map_err(exception)?;
        } else if value.rem(1)?.eq(0)? {
            let whole = py.get_type::<PyInt>().call1((value,))?.str()?;
            let text = format!("{}.0", whole.to_str()?);
            this.borrow_mut()
                .core
                .float64_field_text(key, &text)
                .map_err(exception)?;
        } else {
            this.borrow_mut()
                .core
                .float64_field_text(key, value.str()?.to_str()?)
                .map_err(exception)?;
        }
        Ok(this)
    }

    /// Sets a string field.
    fn string_field<'py>(
        this: Bound<'py, Self>,
        key: &str,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        // `replace` is what a string is needed for: what has none is an AttributeError, as Python words it.
        value.getattr(intern!(value.py(), "replace"))?;
        let text = value.cast::<PyString>()?;
        this.borrow_mut()
            .core
            .string_field(key, text.to_str()?)
            .map_err(exception)?;
        Ok(this)
    }

    /// Sets a boolean field to whether the value is true.
    fn bool_field<'py>(
        this: Bound<'py, Self>,
        key: &str,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        let truth = value.is_truthy()?;
        this.borrow_mut().core.bool_field(key, truth).map_err(exception)?;
        Ok(this)
    }

    /// Sets the time to `str(timestamp_ns)`; `None` unsets it.
    fn time_ns<'py>(this: Bound<'py, Self>, timestamp_ns: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        if let Some(number) = small_integer::<i64>(timestamp_ns) {
            this.borrow_mut().core.time_ns(Some(number));
        } else if timestamp_ns.is_none() {
            this.borrow_mut().core.time_ns(None);
        } else {
            this.borrow_mut()
                .core
                .time_ns_text(Some(timestamp_ns.str()?.to_str()?.to_owned()));
        }
        Ok(this)
    }

    /// The line, without a line end.
    pub(crate) fn build(&self) -> PyResult<String> {
        self.core.build().map_err(exception)
    }

    fn __copy__(&self) -> Self {
        self.clone()
    }

    fn __deepcopy__(&self, _memo: &Bound<'_, PyAny>) -> Self {
        self.clone()
    }
}

/// The value, if it is a plain `int` (no `bool`, which has a text of its own) that fits.
fn small_integer<'py, T: for<'a> FromPyObject<'a, 'py>>(value: &Bound<'py, PyAny>) -> Option<T> {
    value.cast_exact::<PyInt>().ok()?.extract().ok()
}

/// `f"{value}"`
fn formatted<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    let py = value.py();
    let text = value
        .get_type()
        .call_method1(intern!(py, "__format__"), (value, intern!(py, "")))?;
    Ok(text.cast_into()?)
}

fn dict<'py, 'a>(
    py: Python<'py>,
    entries: impl Iterator<Item = (&'a str, &'a str)>,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (key, value) in entries {
        dict.set_item(key, value)?;
    }
    Ok(dict)
}

fn exception(error: LineBuilderError) -> PyErr {
    let text = error.to_string();
    match error {
        LineBuilderError::InvalidMeasurement(_) => InvalidMeasurementError::new_err(text),
        LineBuilderError::InvalidKey(_) => InvalidKeyError::new_err(text),
        LineBuilderError::InvalidLine(_) => InvalidLineError::new_err(text),
        // `Value`, and whatever the core comes to check later.
        _ => PyValueError::new_err(text),
    }
}
