//! Exception classes that plugins see, and the places where they find them.

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyType;

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

/// Makes `LineBuilder` and the exceptions builtins, and importable from `tidemill`.
pub(crate) fn publish(py: Python<'_>, run_timeout: &Bound<'_, PyAny>) -> PyResult<()> {
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
    let module = PyModule::new(py, "tidemill")?;
    for (name, class) in &names {
        builtins.setattr(*name, class)?;
        module.setattr(*name, class)?;
    }
    module.setattr("RunTimeout", run_timeout)?;
    let modules = py.import("sys")?.getattr("modules")?;
    modules.set_item("tidemill", &module)
}
