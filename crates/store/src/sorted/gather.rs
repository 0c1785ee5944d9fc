//! Rows in order, made of rows in disorder.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, DictionaryArray, Int32Array, RecordBatch, UInt64Array, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::compute::interleave;
use arrow::datatypes::SchemaRef;

use crate::sorted::series_ranks::RankedTag;
use crate::sorted::sort::{PointOrder, RowPlace};
use crate::{FileError, FileSchema, StoredBatch};

/// Makes sorted batches of a buffer's rows.
#[derive(Debug)]
pub(crate) struct Gatherer {
    batches: Vec<Arc<StoredBatch>>,
    /// For each batch the rows up to the end of each of its runs of one place in the log.
    lsn_run_ends: Vec<Vec<u32>>,
    tags: Vec<RankedTag>,
    fields: Vec<FieldSources>,
}

/// Time or a field.
#[derive(Debug)]
struct FieldSources {
    /// By batch; where a batch does not have the column, and at the end, one null.
    arrays: Vec<ArrayRef>,
    is_absent: Vec<bool>,
    has_nulls: bool,
}

impl Gatherer {
    pub(crate) fn new(
        schema: &FileSchema,
        batches: &[Arc<StoredBatch>],
        tags: Vec<RankedTag>,
    ) -> Result<Self, FileError> {
        let columns = schema
            .columns()
            .iter()
            .zip(schema.arrow().fields())
            .skip(tags.len());
        let fields = columns.map(|((id, _), field)| {
            let null = new_null_array(field.data_type(), 1);
            let mut arrays: Vec<ArrayRef> = Vec::with_capacity(batches.len() + 1);
            for batch in batches {
                let array = batch.column(*id).unwrap_or(&null);
                if array.data_type() != field.data_type() {
                    let (name, expected, found) = (field.name(), field.data_type(), array.data_type());
                    return Err(FileError::Columns(format!(
                        "'{name}' is {found} instead of {expected}"
                    )));
                }
                arrays.push(Arc::clone(array));
            }
            let is_absent: Vec<bool> = batches.iter().map(|batch| batch.column(*id).is_none()).collect();
            let has_nulls = arrays.iter().any(|array| array.null_count() > 0);
            Ok(FieldSources {
                arrays,
                is_absent,
                has_nulls,
            })
        });
        let run_ends = |batch: &Arc<StoredBatch>| {
            let end_after = |end: &mut u32, (row_count, _): &(u32, u64)| {
                *end += row_count;
                Some(*end)
            };
            batch.lsn_runs.iter().scan(0, end_after).collect()
        };
        Ok(Self {
            lsn_run_ends: batches.iter().map(run_ends).collect(),
            fields: fields.collect::<Result<_, _>>()?,
            batches: batches.to_vec(),
            tags,
        })
    }

    /// The points of these rows as a batch; the last row must be the last of its point.
    pub(crate) fn gather(
        &self,
        schema: &SchemaRef,
        order: &PointOrder,
        rows: Range<usize>,
    ) -> Result<RecordBatch, FileError> {
        let picks = Picks::new(order, rows);
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
        for tag in &self.tags {
            columns.push(tag_column(tag, &picks.series_runs)?);
        }
        for field in &self.fields {
            columns.push(field.gather(&picks, order)?);
        }
        let lsns = picks
            .latest
            .iter()
            .map(|position| self.lsn(order.rows[*position]));
        columns.push(Arc::new(UInt64Array::from_iter_values(lsns)));
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }

    fn lsn(&self, place: RowPlace) -> u64 {
        let batch = place.batch as usize;
        let run = self.lsn_run_ends[batch].partition_point(|end| *end <= place.row);
        self.batches[batch]
            .lsn_runs
            .get(run)
            .map_or(self.batches[batch].lsn_last, |(_, lsn)| *lsn)
    }
}

/// The rows of a batch to be made.
struct Picks {
    /// For each point the position of its latest row in the order.
    latest: Vec<usize>,
    /// Points that have several rows: which point, and the position of its first row.
    merged: Vec<(usize, usize)>,
    /// Series, and how many points of it follow.
    series_runs: Vec<(usize, usize)>,
}

impl Picks {
    fn new(order: &PointOrder, rows: Range<usize>) -> Self {
        let first = order
            .superseded
            .partition_point(|position| *position < rows.start);
        let mut superseded = order.superseded[first..].iter().copied().peekable();
        let mut series = order.series_starts.partition_point(|start| *start <= rows.start) - 1;
        let mut picks = Self {
            latest: Vec::with_capacity(rows.len()),
            merged: Vec::new(),
            series_runs: vec![(series, 0)],
        };
        let mut point_start = None;
        for position in rows {
            if superseded.next_if_eq(&position).is_some() {
                point_start.get_or_insert(position);
                continue;
            }
            if let Some(start) = point_start.take() {
                picks.merged.push((picks.latest.len(), start));
            }
            picks.latest.push(position);
            while order.series_starts[series + 1] <= position {
                series += 1;
            }
            match picks.series_runs.last_mut() {
                Some((open, count)) if *open == series => *count += 1,
                _ => picks.series_runs.push((series, 1)),
            }
        }
        picks
    }
}

fn tag_column(tag: &RankedTag, series_runs: &[(usize, usize)]) -> Result<ArrayRef, FileError> {
    let mut keys: Vec<i32> = Vec::with_capacity(series_runs.iter().map(|(_, count)| count).sum());
    for (series, count) in series_runs {
        keys.resize(keys.len() + count, tag.keys[*series]);
    }
    let is_absent = |key: &i32| *key < 0;
    let nulls = keys
        .iter()
        .any(is_absent)
        .then(|| keys.iter().map(|key| !is_absent(key)).collect::<NullBuffer>());
    let keys = Int32Array::try_new(keys.into(), nulls)?;
    Ok(Arc::new(DictionaryArray::try_new(
        keys,
        Arc::clone(&tag.values) as ArrayRef,
    )?))
}

impl FieldSources {
    fn gather(&self, picks: &Picks, order: &PointOrder) -> Result<ArrayRef, FileError> {
        let index = |position: usize| {
            let place = order.rows[position];
            let batch = place.batch as usize;
            (
                batch,
                if self.is_absent[batch] {
                    0
                } else {
                    place.row as usize
                },
            )
        };
        let mut indices: Vec<(usize, usize)> = picks.latest.iter().map(|position| index(*position)).collect();
        if self.has_nulls {
            for (point, first) in &picks.merged {
                let positions = (*first..=picks.latest[*point]).rev();
                let has_value = |(batch, row): &(usize, usize)| self.arrays[*batch].is_valid(*row);
                if let Some(latest) = positions.map(index).find(has_value) {
                    indices[*point] = latest;
                }
            }
        }
        let arrays: Vec<&dyn Array> = self.arrays.iter().map(AsRef::as_ref).collect();
        Ok(interleave(&arrays, &indices)?)
    }
}
