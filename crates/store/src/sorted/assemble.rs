//! Batches made of pieces of others.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, DictionaryArray, Int32Array, RecordBatch, StringBuilder};
use arrow::buffer::NullBuffer;
use arrow::compute::interleave;
use arrow::datatypes::SchemaRef;
use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::FileError;
use crate::sorted::sorted_batch::{SortedBatch, TagKeys};

/// Collects pieces of sorted batches, in order, until they are made into one.
pub(crate) struct Assembly {
    schema: SchemaRef,
    key_columns: usize,
    sources: Vec<Arc<SortedBatch>>,
    /// For each cursor the source that it used last.
    source_of_cursor: Vec<Option<usize>>,
    /// Source and row of each row.
    rows: Vec<(usize, usize)>,
    points: Vec<Point>,
}

/// A row that several rows make together.
struct Point {
    row: usize,
    /// Source and row of each, in log order.
    parts: Vec<(usize, usize)>,
}

impl Assembly {
    pub(crate) fn new(schema: SchemaRef, key_columns: usize) -> Self {
        Self {
            schema,
            key_columns,
            sources: Vec::new(),
            source_of_cursor: Vec::new(),
            rows: Vec::new(),
            points: Vec::new(),
        }
    }

    pub(crate) fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// Appends rows of a cursor's batch.
    pub(crate) fn push_run(
        &mut self,
        cursor: usize,
        batch: &Arc<SortedBatch>,
        start: usize,
        row_count: usize,
    ) {
        let source = self.source(cursor, batch);
        self.rows
            .extend((start..start + row_count).map(|row| (source, row)));
    }

    /// Appends the row that several rows of one point make: cursor, batch and row of each, in log order.
    pub(crate) fn push_point<'a>(
        &mut self,
        parts: impl Iterator<Item = (usize, &'a Arc<SortedBatch>, usize)>,
    ) {
        let parts: Vec<(usize, usize)> = parts
            .map(|(cursor, batch, row)| (self.source(cursor, batch), row))
            .collect();
        let row = self.rows.len();
        self.rows.extend(parts.last());
        self.points.push(Point { row, parts });
    }

    fn source(&mut self, cursor: usize, batch: &Arc<SortedBatch>) -> usize {
        if self.source_of_cursor.len() <= cursor {
            self.source_of_cursor.resize(cursor + 1, None);
        }
        let known = &mut self.source_of_cursor[cursor];
        match known {
            Some(source) if Arc::ptr_eq(&self.sources[*source], batch) => *source,
            _ => {
                self.sources.push(Arc::clone(batch));
                *known.insert(self.sources.len() - 1)
            }
        }
    }

    /// Everything collected as a batch, if there is anything; after that nothing is.
    pub(crate) fn finish(&mut self) -> Result<Option<RecordBatch>, FileError> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        let tag_count = self.key_columns - 1;
        let tags = (0..tag_count).map(|tag| self.tag_column(tag));
        let fields = (tag_count..self.schema.fields().len()).map(|column| self.field_column(column));
        let columns: Vec<ArrayRef> = tags.chain(fields).collect::<Result<_, _>>()?;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|error| FileError::Columns(error.to_string()))?;
        self.sources.clear();
        self.source_of_cursor.clear();
        self.rows.clear();
        self.points.clear();
        Ok(Some(batch))
    }

    fn field_column(&self, column: usize) -> Result<ArrayRef, FileError> {
        let arrays: Vec<&dyn Array> = self
            .sources
            .iter()
            .map(|source| source.rows().column(column).as_ref())
            .collect();
        if self.points.is_empty() || arrays.iter().all(|array| array.null_count() == 0) {
            return Ok(interleave(&arrays, &self.rows)?);
        }
        let mut rows = self.rows.clone();
        for point in &self.points {
            let latest = point
                .parts
                .iter()
                .rfind(|(source, row)| arrays[*source].is_valid(*row));
            if let Some(latest) = latest {
                rows[point.row] = *latest;
            }
        }
        Ok(interleave(&arrays, &rows)?)
    }

    fn tag_column(&self, tag: usize) -> Result<ArrayRef, FileError> {
        let mut merged = MergedTag::default();
        let mut keys: Vec<i32> = Vec::with_capacity(self.rows.len());
        // Rows of a series follow each other, so the last answer is nearly always the next.
        let mut last: Option<((usize, i32), i32)> = None;
        for (source, row) in &self.rows {
            let tag_keys = self.sources[*source].tag(tag);
            let wanted = (*source, tag_keys.keys()[*row]);
            let key = match last {
                Some((known, key)) if known == wanted => key,
                _ => merged.key(wanted, tag_keys)?,
            };
            last = Some((wanted, key));
            keys.push(key);
        }
        merged.finish(keys)
    }
}

/// The dictionary of a tag while it is made.
#[derive(Default)]
struct MergedTag<'a> {
    by_value: HashMap<&'a str, i32, RandomState>,
    by_source_key: HashMap<(usize, i32), i32, RandomState>,
    values: StringBuilder,
}

impl<'a> MergedTag<'a> {
    /// The new key of a source's key; negative for an absent tag.
    fn key(&mut self, source_key: (usize, i32), tag: &'a TagKeys) -> Result<i32, FileError> {
        if let Some(key) = self.by_source_key.get(&source_key) {
            return Ok(*key);
        }
        let key = match tag.value_of_key(source_key.1) {
            None => -1,
            Some(value) => match self.by_value.get(value) {
                Some(key) => *key,
                None => self.add(value)?,
            },
        };
        self.by_source_key.insert(source_key, key);
        Ok(key)
    }

    fn add(&mut self, value: &'a str) -> Result<i32, FileError> {
        let byte_count = self.values.values_slice().len() + value.len();
        if i32::try_from(byte_count).is_err() {
            return Err(FileError::TooMuch("values of a tag in one batch".to_owned()));
        }
        let key = self.by_value.len() as i32;
        self.values.append_value(value);
        self.by_value.insert(value, key);
        Ok(key)
    }

    fn finish(mut self, keys: Vec<i32>) -> Result<ArrayRef, FileError> {
        let absent = keys.iter().any(|key| *key < 0);
        let nulls = absent.then(|| keys.iter().map(|key| *key >= 0).collect::<NullBuffer>());
        let keys = Int32Array::try_new(keys.into(), nulls)?;
        Ok(Arc::new(DictionaryArray::try_new(
            keys,
            Arc::new(self.values.finish()),
        )?))
    }
}
