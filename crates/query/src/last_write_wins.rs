//! Makes one row of all writes of a point.
//!
//! A point is identified by the values of its key columns, null being a value like any other. Of every other column
//! the last non-null value in the order of the rows pushed counts.

use std::hash::BuildHasher;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use datafusion::arrow::compute::{interleave, take};
use datafusion::arrow::datatypes::{DataType, Int32Type, SchemaRef};
use datafusion::arrow::row::{RowConverter, Rows, SortField};
use datafusion::error::Result;
use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::tag_numbers::TagNumbers;

/// Where a row was pushed: number of the batch, number of the row in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RowRef {
    batch: u32,
    row: u32,
}

/// Collects rows, then gives each point once.
pub(crate) struct LastWriteWins {
    /// The first so many columns of the rows are the key.
    key_column_count: usize,
    /// For each column of the key that is a tag: its values are compared by number.
    tag_numbers: Vec<Option<TagNumbers>>,
    converter: RowConverter,
    keys: Rows,
    /// Hash of a point's key and the point's number.
    points: HashTable<(u64, u32)>,
    hasher: FixedState,
    /// Where the key of each point is in `keys`.
    key_of_point: Vec<u32>,
    /// The last row of each point.
    last_row: Vec<RowRef>,
    /// For each column that is not in the key: the row with the last non-null value of each point, kept only once
    /// that differs from `last_row` somewhere.
    last_value: Vec<Option<Vec<RowRef>>>,
    batches: Vec<RecordBatch>,
    batch_bytes: usize,
    row_count: usize,
}

impl LastWriteWins {
    /// For rows of `schema` whose first `key_column_count` columns are the key.
    pub(crate) fn new(schema: &SchemaRef, key_column_count: usize) -> Result<Self> {
        let fields = schema.fields();
        let is_tag = |data_type: &DataType| matches!(data_type, DataType::Dictionary(..));
        let key_types = || fields[..key_column_count].iter().map(|field| field.data_type());
        let tag_numbers = key_types()
            .map(|data_type| is_tag(data_type).then(TagNumbers::default))
            .collect();
        let key_type = |data_type: &DataType| {
            if is_tag(data_type) {
                DataType::Int32
            } else {
                data_type.clone()
            }
        };
        let key_fields = key_types()
            .map(|data_type| SortField::new(key_type(data_type)))
            .collect();
        let converter = RowConverter::new(key_fields)?;
        let keys = converter.empty_rows(0, 0);
        Ok(Self {
            key_column_count,
            tag_numbers,
            converter,
            keys,
            points: HashTable::new(),
            hasher: FixedState::default(),
            key_of_point: Vec::new(),
            last_row: Vec::new(),
            last_value: vec![None; fields.len() - key_column_count],
            batches: Vec::new(),
            batch_bytes: 0,
            row_count: 0,
        })
    }

    /// Takes rows that were written after all rows pushed before.
    pub(crate) fn push(&mut self, rows: RecordBatch) -> Result<()> {
        let first_key = self.keys.num_rows();
        let key_columns = self.key_columns(&rows)?;
        self.converter.append(&mut self.keys, &key_columns)?;
        let batch = self.batches.len() as u32;
        for row in 0..rows.num_rows() {
            let key = first_key + row;
            let row = RowRef {
                batch,
                row: row as u32,
            };
            let hash = self.hasher.hash_one(self.keys.row(key).data());
            let (keys, key_of_point) = (&self.keys, &self.key_of_point);
            let entry = self.points.entry(
                hash,
                |&(other_hash, point)| {
                    other_hash == hash && keys.row(key_of_point[point as usize] as usize) == keys.row(key)
                },
                |&(hash, _)| hash,
            );
            match entry {
                hashbrown::hash_table::Entry::Occupied(known) => {
                    let point = known.get().1 as usize;
                    self.overwrite(point, row, &rows);
                }
                hashbrown::hash_table::Entry::Vacant(new) => {
                    new.insert((hash, self.last_row.len() as u32));
                    self.key_of_point.push(key as u32);
                    self.last_row.push(row);
                    for last_value in self.last_value.iter_mut().flatten() {
                        last_value.push(row);
                    }
                }
            }
        }
        self.row_count += rows.num_rows();
        self.batch_bytes += rows.columns().iter().map(row_bytes).sum::<usize>();
        self.batches.push(rows);
        Ok(())
    }

    fn key_columns(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let columns = self.tag_numbers.iter().zip(rows.columns());
        columns
            .map(
                |(tag_numbers, column)| match (tag_numbers, column.as_dictionary_opt::<Int32Type>()) {
                    (Some(tag_numbers), Some(tags)) => Ok(Arc::new(tag_numbers.numbers(tags)?) as ArrayRef),
                    _ => Ok(Arc::clone(column)),
                },
            )
            .collect()
    }

    /// `row` of `rows` is a later write of a known point.
    fn overwrite(&mut self, point: usize, row: RowRef, rows: &RecordBatch) {
        let values = &rows.columns()[self.key_column_count..];
        for (last_value, values) in self.last_value.iter_mut().zip(values) {
            if values.is_valid(row.row as usize) {
                if let Some(last_value) = last_value {
                    last_value[point] = row;
                }
            } else {
                // The value before stays, so this column goes its own way from here on.
                last_value.get_or_insert_with(|| self.last_row.clone());
            }
        }
        self.last_row[point] = row;
    }

    /// Bytes held, to be accounted for.
    pub(crate) fn size(&self) -> usize {
        let row_refs =
            self.last_row.capacity() + self.last_value.iter().flatten().map(Vec::capacity).sum::<usize>();
        self.keys.size()
            + self.converter.size()
            + self
                .tag_numbers
                .iter()
                .flatten()
                .map(TagNumbers::size)
                .sum::<usize>()
            + self.points.capacity() * size_of::<(u64, u32)>()
            + self.key_of_point.capacity() * size_of::<u32>()
            + row_refs * size_of::<RowRef>()
            + self.batch_bytes
    }

    /// Every point once, in batches no larger than those pushed. `columns` chooses from the columns pushed; `schema`
    /// is that of the chosen.
    pub(crate) fn finish(self, columns: &[usize], schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
        if self.last_row.len() == self.row_count {
            return self
                .batches
                .iter()
                .map(|batch| chosen_columns(batch, columns, schema))
                .collect();
        }
        let mut points_of_batch: Vec<Vec<u32>> = vec![Vec::new(); self.batches.len()];
        for (point, row) in self.last_row.iter().enumerate() {
            points_of_batch[row.batch as usize].push(point as u32);
        }
        let mut output = Vec::with_capacity(self.batches.len());
        for (batch, mut points) in self.batches.iter().zip(points_of_batch) {
            if points.is_empty() {
                continue;
            }
            points.sort_unstable_by_key(|&point| self.last_row[point as usize].row);
            output.push(self.take_points(batch, &points, columns, schema)?);
        }
        Ok(output)
    }

    /// The rows of `points`, whose last writes are all in `batch`.
    fn take_points(
        &self,
        batch: &RecordBatch,
        points: &[u32],
        columns: &[usize],
        schema: &SchemaRef,
    ) -> Result<RecordBatch> {
        let rows: UInt32Array = points
            .iter()
            .map(|&point| self.last_row[point as usize].row)
            .collect();
        let take_column = |&column: &usize| -> Result<ArrayRef> {
            let last_value = column
                .checked_sub(self.key_column_count)
                .and_then(|value| self.last_value[value].as_ref());
            match last_value {
                None => Ok(take(batch.column(column), &rows, None)?),
                Some(last_value) => self.gather(column, last_value, points),
            }
        };
        let arrays = columns.iter().map(take_column).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(points.len()));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(schema),
            arrays,
            &options,
        )?)
    }

    /// A column's values of `points` from wherever they were written.
    fn gather(&self, column: usize, last_value: &[RowRef], points: &[u32]) -> Result<ArrayRef> {
        let mut source_of_batch: Vec<Option<usize>> = vec![None; self.batches.len()];
        let mut sources: Vec<&dyn Array> = Vec::new();
        let indices: Vec<(usize, usize)> = points
            .iter()
            .map(|&point| {
                let row = last_value[point as usize];
                let batch = row.batch as usize;
                let source = *source_of_batch[batch].get_or_insert_with(|| {
                    sources.push(self.batches[batch].column(column).as_ref());
                    sources.len() - 1
                });
                (source, row.row as usize)
            })
            .collect();
        Ok(interleave(&sources, &indices)?)
    }
}

/// Some columns of a batch; `schema` is theirs.
pub(crate) fn chosen_columns(
    batch: &RecordBatch,
    columns: &[usize],
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let arrays = columns
        .iter()
        .map(|&column| Arc::clone(batch.column(column)))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(
        Arc::clone(schema),
        arrays,
        &options,
    )?)
}

/// What the rows of a column occupy; dictionaries are shared with the store and count there.
fn row_bytes(column: &ArrayRef) -> usize {
    match column.data_type() {
        DataType::Dictionary(keys, _) => keys.primitive_width().unwrap_or(0) * column.len(),
        data_type => match data_type.primitive_width() {
            Some(width) => width * column.len(),
            None => column.to_data().get_slice_memory_size().unwrap_or(0),
        },
    }
}
