//! Exception classes that plugins see, and the places where they find them.

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use crate::embedded::Embedded;
use crate::line_builder::LineBuilder;

create_exception!(influxdb3_py_api, QueryError, PyException, "A query failed.");
create_exception!(tidemill, InfluxDBError, PyException, "What LineBuilder raises.");
create_exception!(
    tidemill,
    InvalidMeasurementError,
    InfluxDBError,
    "The measurement is not allowed."
);
create_exception!(
    tidemill,
    InvalidKeyError,
    InfluxDBError,
    "The key of a tag or field is not allowed."
);
create_exception!(
    tidemill,
    InvalidLineError,
    InfluxDBError,
    "The line is not complete."
);

/// Makes `LineBuilder` and the exceptions builtins, and these and more importable from `tidemill`.
pub(crate) fn publish(py: Python<'_>, python: &Embedded) -> PyResult<()> {
    let names: [(&str, Bound<'_, PyType>); 6] = [
        ("LineBuilder", py.get_type::<LineBuilder>()),
        ("QueryError", py.get_type::<QueryError>()),
        ("InfluxDBError", py.get_type::<InfluxDBError>()),
        (
            "InvalidMeasurementError",
            py.get_type::<InvalidMeasurementError>(),
        ),
        ("InvalidKeyError", py.get_type::<InvalidKeyError>()),
        ("InvalidLineError", py.get_type::<InvalidLineError>()),
    ];
    let builtins = py.import("builtins")?;
    let classes = PyDict::new(py);
    for (name, class) in &names {
        builtins.setattr(*name, class)?;
        classes.set_item(*name, class)?;
    }
    classes.set_item("RunTimeout", python.run_timeout_class(py))?;
    classes.set_item("TableBatch", python.table_batch_class(py))?;
    let modules = py.import("sys")?.getattr("modules")?;
    modules.set_item("tidemill", python.tidemill_module(&classes)?)
}
