//! Tables as plugins get them: decoded on the first touch, as rows or through the Arrow `PyCapsule` interface.

use std::ffi::CStr;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchIterator};
use arrow::error::ArrowError;
use arrow::ffi::FFI_ArrowSchema;
use arrow::ffi_stream::FFI_ArrowArrayStream;
use bytes::Bytes;
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyList};

use crate::ipc::{Batches, decode};
use crate::rows::{Nulls, rows};

/// Names of capsules, given by the Arrow `PyCapsule` interface.
const SCHEMA_CAPSULE: &CStr = c"arrow_schema";
pub(crate) const STREAM_CAPSULE: &CStr = c"arrow_array_stream";

/// What stands behind an element of `table_batches`.
#[pyclass(frozen)]
pub(crate) struct TableSource {
    table_name: Arc<str>,
    streams: Vec<Bytes>,
    decoded: Mutex<Option<Batches>>,
}

impl TableSource {
    /// The written rows of a table, in Arrow IPC streams that may have different columns.
    pub(crate) fn new(table_name: &str, streams: Vec<Bytes>) -> Self {
        Self {
            table_name: Arc::from(table_name),
            streams,
            decoded: Mutex::new(None),
        }
    }

    fn batches(&self) -> PyResult<Batches> {
        let mut decoded = self.decoded.lock();
        if let Some(batches) = &*decoded {
            return Ok(batches.clone());
        }
        let batches = decode(&self.streams).map_err(value_error)?;
        *decoded = Some(batches.clone());
        Ok(batches)
    }
}

#[pymethods]
impl TableSource {
    /// The rows as dictionaries. A row has the keys that were written, and no others.
    pub(crate) fn rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        rows(py, &self.batches()?.batches, Nulls::Absent)
    }

    fn to_arrow(&self) -> PyResult<ArrowTable> {
        Ok(ArrowTable {
            batches: self.batches()?.unified().map_err(value_error)?,
            table_name: Some(Arc::clone(&self.table_name)),
        })
    }
}

/// A table that pyarrow, polars, pandas and duckdb read without a copy.
#[pyclass(frozen)]
pub(crate) struct ArrowTable {
    batches: Batches,
    /// The table that its rows were written to, where they come from one.
    table_name: Option<Arc<str>>,
}

impl ArrowTable {
    /// The batches of a query's result.
    pub(crate) fn new(batches: Batches) -> Self {
        Self {
            batches,
            table_name: None,
        }
    }

    /// The rows.
    pub(crate) fn batches(&self) -> &Batches {
        &self.batches
    }

    /// The table that its rows were written to, where they come from one.
    pub(crate) fn table_name(&self) -> Option<Arc<str>> {
        self.table_name.clone()
    }
}

#[pymethods]
impl ArrowTable {
    /// The schema, for consumers that look before they read.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let schema = FFI_ArrowSchema::try_from(self.batches.schema.as_ref()).map_err(value_error)?;
        PyCapsule::new_with_value(py, schema, SCHEMA_CAPSULE)
    }

    /// The batches. A requested schema is a wish that the interface allows to ignore.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        drop(requested_schema);
        let batches: Vec<Result<RecordBatch, ArrowError>> =
            self.batches.batches.iter().cloned().map(Ok).collect();
        let reader = RecordBatchIterator::new(batches, Arc::clone(&self.batches.schema));
        PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(reader)), STREAM_CAPSULE)
    }

    /// The rows as dictionaries, with every column.
    fn rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        rows(py, &self.batches.batches, Nulls::PyNone)
    }

    /// The number of rows.
    fn __len__(&self) -> usize {
        self.batches.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

/// An Arrow error as a Python exception.
pub(crate) fn value_error(error: ArrowError) -> PyErr {
    PyValueError::new_err(error.to_string())
}
