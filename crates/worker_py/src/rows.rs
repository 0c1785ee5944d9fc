//! Record batches as lists of dictionaries.
//!
//! A dictionary of 21 entries grows three times while it is filled. So for each set of columns that rows have, one empty
//! *template* is made and copied, which is a block copy, and its values are then replaced. Values are made column by column
//! for some hundred rows at a time, few enough that their dictionaries stay in the cache.

use arrow::array::RecordBatch;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use crate::cells::Column;

const CHUNK_ROWS: usize = 256;
/// Sets of columns for which a template is kept; rows with further sets are built without.
const TEMPLATES_MAX: usize = 512;
/// Columns with nulls up to which a set of columns is a bit set.
const NULLABLE_COLUMNS_MAX: usize = 64;

/// What becomes of a null.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nulls {
    /// The row has no such key (written rows).
    Absent,
    /// The row has the key, with the value `None` (query results).
    PyNone,
}

/// All rows as dictionaries, with keys in the order of the columns. Of columns with one name the last wins.
pub(crate) fn rows<'py>(
    py: Python<'py>,
    batches: &[RecordBatch],
    nulls: Nulls,
) -> PyResult<Bound<'py, PyList>> {
    let _pause = CollectorPause::begin(py)?;
    let row_count = batches.iter().map(RecordBatch::num_rows).sum();
    let mut rows = Vec::with_capacity(row_count);
    for batch in batches {
        append_batch(py, batch, nulls, &mut rows)?;
    }
    PyList::new(py, rows)
}

fn append_batch<'py>(
    py: Python<'py>,
    batch: &RecordBatch,
    nulls: Nulls,
    rows: &mut Vec<Bound<'py, PyDict>>,
) -> PyResult<()> {
    let columns = named_columns(py, batch)?;
    let mut templates = Templates::new(py, batch, &columns, nulls)?;
    for start in (0..batch.num_rows()).step_by(CHUNK_ROWS) {
        let end = batch.num_rows().min(start + CHUNK_ROWS);
        let first = rows.len();
        templates.append_rows(start..end, rows)?;
        let chunk = &rows[first..];
        for (name, column) in &columns {
            match column.nulls() {
                None => {
                    for (index, row) in chunk.iter().enumerate() {
                        row.set_item(name, column.get(start + index)?)?;
                    }
                }
                Some(missing) => {
                    for (index, row) in chunk.iter().enumerate() {
                        if missing.is_valid(start + index) {
                            row.set_item(name, column.get(start + index)?)?;
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

/// The columns by name; of equal names only the last.
fn named_columns<'py>(
    py: Python<'py>,
    batch: &RecordBatch,
) -> PyResult<Vec<(Bound<'py, PyString>, Column<'py>)>> {
    let schema = batch.schema_ref();
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (index, (field, array)) in schema.fields().iter().zip(batch.columns()).enumerate() {
        if schema.fields()[index + 1..]
            .iter()
            .all(|later| later.name() != field.name())
        {
            columns.push((PyString::intern(py, field.name()), Column::new(py, array)?));
        }
    }
    Ok(columns)
}

/// Makes the dictionaries that the columns are then filled into: each has its keys, in order, with the value `None`.
struct Templates<'py, 'a> {
    py: Python<'py>,
    /// All keys in the order of their first column.
    names: Vec<Bound<'py, PyString>>,
    /// For each column that may be absent: its place in `names`, and the column.
    optional: Vec<(usize, &'a Column<'py>)>,
    /// Templates by the set of absent columns, a bit for each of `optional`.
    by_absent: HashMap<u64, Bound<'py, PyDict>, RandomState>,
}

impl<'py, 'a> Templates<'py, 'a> {
    fn new(
        py: Python<'py>,
        batch: &RecordBatch,
        columns: &'a [(Bound<'py, PyString>, Column<'py>)],
        nulls: Nulls,
    ) -> PyResult<Self> {
        let all = PyDict::new(py);
        for field in batch.schema_ref().fields() {
            all.set_item(PyString::intern(py, field.name()), py.None())?;
        }
        let mut names = Vec::with_capacity(all.len());
        for name in all.keys() {
            names.push(name.cast_into::<PyString>()?);
        }
        let mut optional = Vec::new();
        if nulls == Nulls::Absent {
            for (name, column) in columns {
                if column.nulls().is_some() {
                    let place = names.iter().position(|known| known.is(name));
                    optional.push((place.expect("every column has a name"), column));
                }
            }
        }
        Ok(Self {
            py,
            names,
            optional,
            by_absent: HashMap::default(),
        })
    }

    fn append_rows(
        &mut self,
        range: std::ops::Range<usize>,
        rows: &mut Vec<Bound<'py, PyDict>>,
    ) -> PyResult<()> {
        if self.optional.len() > NULLABLE_COLUMNS_MAX {
            rows.extend(range.map(|_| PyDict::new(self.py)));
            return Ok(());
        }
        let mut absent = [0_u64; CHUNK_ROWS];
        for (bit, (_, column)) in self.optional.iter().enumerate() {
            let Some(nulls) = column.nulls() else { continue };
            for (index, row) in range.clone().enumerate() {
                absent[index] |= u64::from(nulls.is_null(row)) << bit;
            }
        }
        let mut last: Option<(u64, Bound<'py, PyDict>)> = None;
        for set in &absent[..range.len()] {
            let template = match &last {
                Some((known, template)) if known == set => template.clone(),
                _ => self.template(*set)?,
            };
            rows.push(template.copy()?);
            last = Some((*set, template));
        }
        Ok(())
    }

    fn template(&mut self, absent: u64) -> PyResult<Bound<'py, PyDict>> {
        if let Some(template) = self.by_absent.get(&absent) {
            return Ok(template.clone());
        }
        let template = PyDict::new(self.py);
        for (place, name) in self.names.iter().enumerate() {
            let bit = self.optional.iter().position(|(optional, _)| *optional == place);
            if bit.is_none_or(|bit| absent & (1 << bit) == 0) {
                template.set_item(name, self.py.None())?;
            }
        }
        if self.by_absent.len() < TEMPLATES_MAX {
            self.by_absent.insert(absent, template.clone());
        }
        Ok(template)
    }
}

/// Python's collector walks all containers again and again while many are made; nothing here can be garbage yet.
struct CollectorPause<'py> {
    collector: Option<Bound<'py, PyModule>>,
}

impl<'py> CollectorPause<'py> {
    fn begin(py: Python<'py>) -> PyResult<Self> {
        let collector = py.import(intern!(py, "gc"))?;
        let enabled = collector.call_method0(intern!(py, "isenabled"))?.is_truthy()?;
        if enabled {
            collector.call_method0(intern!(py, "disable"))?;
        }
        Ok(Self {
            collector: enabled.then_some(collector),
        })
    }
}

impl Drop for CollectorPause<'_> {
    fn drop(&mut self) {
        if let Some(collector) = &self.collector {
            // `gc.enable` sets a flag and cannot fail.
            let _ = collector.call_method0(intern!(collector.py(), "enable"));
        }
    }
}
