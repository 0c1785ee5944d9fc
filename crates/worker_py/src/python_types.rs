//! Classes of Python's library that values become; each is imported when it is first needed.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

macro_rules! library_class {
    ($(#[$documentation:meta])* $function:ident, $module:literal, $class:literal) => {
        $(#[$documentation])*
        pub(crate) fn $function(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
            static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
            CLASS.import(py, $module, $class)
        }
    };
}

library_class!(
    /// `datetime.date`
    date, "datetime", "date"
);
library_class!(
    /// `datetime.time`
    time, "datetime", "time"
);
library_class!(
    /// `datetime.datetime`
    datetime, "datetime", "datetime"
);
library_class!(
    /// `datetime.timedelta`
    timedelta, "datetime", "timedelta"
);
library_class!(
    /// `decimal.Decimal`
    decimal, "decimal", "Decimal"
);

/// A named tuple `Interval(months, days, nanoseconds)`: Python has no type for intervals.
pub(crate) fn interval(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = CLASS.get_or_try_init(py, || {
        let namedtuple = py.import("collections")?.getattr("namedtuple")?;
        let class = namedtuple.call1(("Interval", "months days nanoseconds"))?;
        PyResult::Ok(class.unbind())
    })?;
    Ok(class.bind(py))
}

/// A naive `datetime` in UTC, with microseconds.
pub(crate) fn naive_utc(py: Python<'_>, time_ns: i64) -> PyResult<Bound<'_, PyAny>> {
    let seconds = time_ns.div_euclid(1_000_000_000);
    let microseconds = time_ns.rem_euclid(1_000_000_000) / 1_000;
    let epoch = datetime(py)?.call1((1970, 1, 1))?;
    epoch.add(timedelta(py)?.call1((0, seconds, microseconds))?)
}
