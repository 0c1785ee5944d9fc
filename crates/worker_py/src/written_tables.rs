//! Tables that plugins write: whatever has the Arrow `PyCapsule` interface, as line protocol (`spec/engine.md` 0.26).

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::ffi_stream::{ArrowArrayStreamReader, FFI_ArrowArrayStream};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use tidemill_lineproto::{TableLines, TableOptions};

use crate::tables::{ArrowTable, STREAM_CAPSULE, value_error};

/// The keyword arguments of `write` and its relatives, which say what a table itself does not.
pub(crate) struct TableKeywords {
    /// The table that is written to; by default the one that the rows were written to.
    pub(crate) table: Option<String>,
    /// The columns that are tags; by default those that are dictionaries of text.
    pub(crate) tags: Option<Vec<String>>,
    /// The column of the times, or `None` for the time of the write.
    pub(crate) time: Option<String>,
}

impl TableKeywords {
    /// The value of `time` where it is not given.
    pub(crate) const TIME_DEFAULT: &str = "time";

    /// Refuses keywords for what is no table.
    pub(crate) fn check_absent(&self) -> PyResult<()> {
        let is_absent =
            self.table.is_none() && self.tags.is_none() && self.time.as_deref() == Some(Self::TIME_DEFAULT);
        if is_absent {
            return Ok(());
        }
        Err(PyTypeError::new_err(
            "table=, tags= and time= are for Arrow tables only",
        ))
    }
}

/// Line protocol of an argument that is a table, of at most `bytes_max` bytes; `None` if it is none.
pub(crate) fn table_lines(
    argument: &Bound<'_, PyAny>,
    keywords: &TableKeywords,
    bytes_max: u64,
) -> PyResult<Option<Vec<u8>>> {
    let py = argument.py();
    let (schema, batches, written_to) = if let Ok(table) = argument.cast::<ArrowTable>() {
        let table = table.get();
        let batches = table.batches().batches.clone();
        let reader: Reader = Box::new(batches.into_iter().map(Ok));
        (Arc::clone(&table.batches().schema), reader, table.table_name())
    } else if let Some(stream) = stream_of(argument)? {
        let schema = stream.schema();
        let reader: Reader = Box::new(stream);
        (schema, reader, None)
    } else {
        return Ok(None);
    };
    let Some(table) = keywords.table.as_deref().or(written_to.as_deref()) else {
        return Err(PyTypeError::new_err(
            "an Arrow table does not say which table its rows belong to: pass table=",
        ));
    };
    let options = TableOptions {
        table,
        tags: keywords.tags.as_deref(),
        time: keywords.time.as_deref(),
        bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
    };
    py.detach(|| render(&schema, batches, &options)).map(Some)
}

type Reader = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

fn render(schema: &Schema, batches: Reader, options: &TableOptions<'_>) -> PyResult<Vec<u8>> {
    let refused = |error: tidemill_lineproto::TableLinesError| PyValueError::new_err(error.to_string());
    let mut table = TableLines::new(schema, options).map_err(refused)?;
    let mut lines = Vec::new();
    for batch in batches {
        table
            .append(&batch.map_err(value_error)?, &mut lines)
            .map_err(refused)?;
    }
    Ok(lines)
}

/// The batches of an object with the interface. It is looked for in the class, since data frames have their columns as attributes.
fn stream_of(argument: &Bound<'_, PyAny>) -> PyResult<Option<ArrowArrayStreamReader>> {
    let name = intern!(argument.py(), "__arrow_c_stream__");
    if !argument.get_type().hasattr(name)? {
        return Ok(None);
    }
    let capsule = argument.call_method0(name)?.cast_into::<PyCapsule>()?;
    let stream = capsule.pointer_checked(Some(STREAM_CAPSULE))?;
    // SAFETY: a capsule of this name holds a pointer to a stream, as the interface has it; `capsule` keeps it alive. The stream is
    // moved out, and what is left behind is marked as released.
    let stream = unsafe { FFI_ArrowArrayStream::from_raw(stream.cast().as_ptr()) };
    ArrowArrayStreamReader::try_new(stream)
        .map(Some)
        .map_err(value_error)
}
