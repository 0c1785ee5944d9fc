//! The payload of a log record: what was accepted, as columns, and whose progress it is.
//!
//! All numbers are little-endian. Names do not occur: databases, tables and columns are catalog ids, which are durable
//! before a record that uses them.
//!
//! ```text
//! u8   format version
//! i64  time of the commit, u16 depth
//! u32  number of trigger progress entries, then each:
//!      u32 database, u32 trigger, u64 cursor
//!      u32 number of finished ranges beyond the cursor in log order, then each:  u64 after, u64 through
//!      u8 whether it is of a scheduled run [, i64 the instant]
//!      u32 number of state changes, then each:  u32 length, key, u8 whether there is a value [, u32 length, value]
//! u32  number of tables, then each:
//!      u32 table, u32 rows, u16 column id of `time`, u32 distinct tag sets, tag set of each row (index)
//!      u16 number of columns, then each in the order of the line:
//!          u16 column id, u8 type, u8 has nulls [, validity bits]
//!          tag:      strings of the dictionary, then its index for each *tag set* (the number of strings means null)
//!          string:   strings of the rows
//!          boolean:  bits
//!          others:   8 bytes a row
//! deletes of rows (see the module `deletes`); not in format 3
//! index   = 1, 2 or 4 bytes, the fewest that hold the largest value
//! strings = u32 count, u32 end offsets, bytes
//! ```
//!
//! Tags are stored per distinct tag set and not per row: a batch of 5,000 lines of 1,000 hosts with ten tags takes 30 KB
//! instead of 100 KB, and the index by row is what deduplication needs after a replay anyway.

mod deletes;

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array,
    StringArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampNanosecondType, UInt64Type};
use bytes::Bytes;
use tidemill_catalog::{ColumnId, DatabaseId, TableId};
use tidemill_lineproto::ColumnType;
use tidemill_store::{SeriesOfRows, TableBatch};
use tidemill_triggers::{LogRange, Position};

use crate::progress::{StateChange, TriggerKey, TriggerProgress};

pub use deletes::DeletedRows;

const FORMAT_VERSION: u8 = 4;
/// The oldest format that is still read: it has no deletes.
const OLDEST_FORMAT_VERSION: u8 = 3;

/// What one log record stands for.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// Rows, one batch a table, in first-write order.
    pub tables: Vec<Arc<TableBatch>>,
    /// Rows of earlier commits that are deleted.
    pub deletes: Vec<DeletedRows>,
    /// Whose run this is, if it is one.
    pub progress: Vec<TriggerProgress>,
    /// When the rows arrived, in nanoseconds since the epoch by the server's clock, which may be set back.
    pub time_ns: i64,
    /// Through how many triggers the rows have come: 0 for what clients write, one more than what it has read for what a
    /// run writes.
    pub depth: u16,
}

impl Commit {
    /// Size of the rows and deletes in memory, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let rows: usize = self.tables.iter().map(|batch| batch_memory_bytes(batch)).sum();
        rows + self.deletes.iter().map(DeletedRows::memory_bytes).sum::<usize>()
    }
}

/// Size of a batch in memory, in bytes.
pub(crate) fn batch_memory_bytes(batch: &TableBatch) -> usize {
    let columns: usize = batch
        .columns
        .iter()
        .map(|(_, array)| array.get_array_memory_size())
        .sum();
    columns + batch.series.tag_set_of_row().len() * 4 + batch.series.hashes().len() * 8
}

/// A record that was durable, passed its checksum, and still makes no sense: written by a newer version, or a defect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The record ends inside a value.
    #[error("log record is truncated")]
    Truncated,
    /// Another format.
    #[error(
        "log record has format version {0}, this program reads versions {OLDEST_FORMAT_VERSION} to {FORMAT_VERSION}"
    )]
    Version(u8),
    /// A value that no encoder writes.
    #[error("log record is malformed: {0}")]
    Malformed(&'static str),
}

/// Encodes a commit.
pub fn encode(commit: &Commit) -> Vec<u8> {
    let mut out = Vec::with_capacity(
        64 + commit
            .tables
            .iter()
            .map(|batch| batch.row_count * 96 + 4096)
            .sum::<usize>(),
    );
    out.push(FORMAT_VERSION);
    put_i64(&mut out, commit.time_ns);
    put_u16(&mut out, usize::from(commit.depth));
    put_u32(&mut out, commit.progress.len());
    for progress in &commit.progress {
        encode_progress(progress, &mut out);
    }
    put_u32(&mut out, commit.tables.len());
    for batch in &commit.tables {
        encode_batch(batch, &mut out);
    }
    deletes::encode(&commit.deletes, &mut out);
    out
}

/// Appends an entry of progress.
pub(crate) fn encode_progress(progress: &TriggerProgress, out: &mut Vec<u8>) {
    put_u32(out, progress.trigger.database.0 as usize);
    put_u32(out, progress.trigger.trigger_id as usize);
    put_u64(out, progress.cursor.through());
    put_u32(out, progress.cursor.finished().len());
    for range in progress.cursor.finished() {
        put_u64(out, range.after);
        put_u64(out, range.through);
    }
    out.push(u8::from(progress.scheduled_ns.is_some()));
    if let Some(scheduled_ns) = progress.scheduled_ns {
        put_i64(out, scheduled_ns);
    }
    put_u32(out, progress.state.len());
    for StateChange { key, value } in &progress.state {
        put_bytes(out, key.as_bytes());
        out.push(u8::from(value.is_some()));
        if let Some(value) = value {
            put_bytes(out, value);
        }
    }
}

fn encode_batch(batch: &TableBatch, out: &mut Vec<u8>) {
    put_u32(out, batch.table.0 as usize);
    put_u32(out, batch.row_count);
    put_u16(out, batch.time_column.0 as usize);
    let (tag_set_of_row, first_rows) = exact_tag_sets(batch);
    put_u32(out, first_rows.len());
    put_index(out, first_rows.len(), tag_set_of_row.iter().copied());
    put_u16(out, batch.columns.len());
    for (id, array) in &batch.columns {
        put_u16(out, id.0 as usize);
        encode_column(array, &first_rows, out);
    }
}

/// The tag set of each row and the first row of each tag set.
///
/// The series of a batch are told apart by a hash, which may collide. Stored tags must not: where a row has other tags than
/// the first row of its tag set, every row counts as a tag set of its own.
fn exact_tag_sets(batch: &TableBatch) -> (Cow<'_, [u32]>, Vec<u32>) {
    let tag_set_of_row = batch.series.tag_set_of_row();
    let first_rows = first_row_of_tag_sets(tag_set_of_row, batch.series.hashes().len());
    let exact = batch
        .columns
        .iter()
        .filter(|(_, array)| type_of(array) == ColumnType::Tag)
        .all(|(_, array)| {
            let keys = array.as_dictionary::<Int32Type>().keys();
            let key_of = |row: usize| keys.is_valid(row).then(|| keys.value(row));
            let same_as_first =
                |(row, tag_set): (usize, &u32)| key_of(row) == key_of(first_rows[*tag_set as usize] as usize);
            tag_set_of_row.iter().enumerate().all(same_as_first)
        });
    if exact {
        (Cow::Borrowed(tag_set_of_row), first_rows)
    } else {
        let every_row: Vec<u32> = (0..batch.row_count as u32).collect();
        (Cow::Owned(every_row.clone()), every_row)
    }
}

fn first_row_of_tag_sets(tag_set_of_row: &[u32], tag_set_count: usize) -> Vec<u32> {
    let mut first_rows = vec![u32::MAX; tag_set_count];
    for (row, &tag_set) in tag_set_of_row.iter().enumerate() {
        let first = &mut first_rows[tag_set as usize];
        if *first == u32::MAX {
            *first = row as u32;
        }
    }
    first_rows
}

fn encode_column(array: &ArrayRef, first_rows: &[u32], out: &mut Vec<u8>) {
    let column_type = type_of(array);
    out.push(type_code(column_type));
    if column_type == ColumnType::Tag {
        out.push(0);
        let tags = array.as_dictionary::<Int32Type>();
        let values = tags.values().as_string::<i32>();
        put_strings(out, values.len(), |index| values.value(index));
        let keys = tags.keys();
        let null = values.len() as u32;
        let key_of = |&row: &u32| {
            if keys.is_null(row as usize) {
                null
            } else {
                keys.value(row as usize) as u32
            }
        };
        put_index(out, values.len(), first_rows.iter().map(key_of));
        return;
    }
    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => out.push(0),
        Some(nulls) => {
            out.push(1);
            put_bits(out, nulls.inner());
        }
    }
    match column_type {
        ColumnType::Float => put_words(out, array.as_primitive::<Float64Type>().values().inner()),
        ColumnType::Integer => put_words(out, array.as_primitive::<Int64Type>().values().inner()),
        ColumnType::UInteger => put_words(out, array.as_primitive::<UInt64Type>().values().inner()),
        ColumnType::Time => put_words(
            out,
            array.as_primitive::<TimestampNanosecondType>().values().inner(),
        ),
        ColumnType::Boolean => put_bits(out, array.as_boolean().values()),
        ColumnType::String => {
            let strings = array.as_string::<i32>();
            put_strings(out, strings.len(), |row| {
                if strings.is_null(row) {
                    ""
                } else {
                    strings.value(row)
                }
            });
        }
        ColumnType::Tag => unreachable!("returned above"),
    }
}

/// The type of a column, which its Arrow type determines.
pub(crate) fn type_of(array: &ArrayRef) -> ColumnType {
    use arrow::datatypes::DataType;
    match array.data_type() {
        DataType::Dictionary(_, _) => ColumnType::Tag,
        DataType::Float64 => ColumnType::Float,
        DataType::Int64 => ColumnType::Integer,
        DataType::UInt64 => ColumnType::UInteger,
        DataType::Utf8 => ColumnType::String,
        DataType::Boolean => ColumnType::Boolean,
        DataType::Timestamp(_, _) => ColumnType::Time,
        other => unreachable!("batches hold the types of line protocol only, not {other}"),
    }
}

fn type_code(column_type: ColumnType) -> u8 {
    match column_type {
        ColumnType::Tag => 0,
        ColumnType::Float => 1,
        ColumnType::Integer => 2,
        ColumnType::UInteger => 3,
        ColumnType::String => 4,
        ColumnType::Boolean => 5,
        ColumnType::Time => 6,
    }
}

fn type_from_code(code: u8) -> Result<ColumnType, RecordError> {
    Ok(match code {
        0 => ColumnType::Tag,
        1 => ColumnType::Float,
        2 => ColumnType::Integer,
        3 => ColumnType::UInteger,
        4 => ColumnType::String,
        5 => ColumnType::Boolean,
        6 => ColumnType::Time,
        _ => return Err(RecordError::Malformed("unknown column type")),
    })
}

fn put_u16(out: &mut Vec<u8>, value: usize) {
    out.extend_from_slice(
        &u16::try_from(value)
            .expect("column counts and ids are limited to 16 bits")
            .to_le_bytes(),
    );
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_u32(out: &mut Vec<u8>, value: usize) {
    out.extend_from_slice(
        &u32::try_from(value)
            .expect("a request's size limit keeps counts within 32 bits")
            .to_le_bytes(),
    );
}

/// Bytes an index takes whose largest value is `max`.
fn index_width(max: usize) -> usize {
    match max {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        _ => 4,
    }
}

fn put_index(out: &mut Vec<u8>, max: usize, values: impl Iterator<Item = u32>) {
    match index_width(max) {
        1 => out.extend(values.map(|value| value as u8)),
        2 => values.for_each(|value| out.extend_from_slice(&(value as u16).to_le_bytes())),
        _ => values.for_each(|value| out.extend_from_slice(&value.to_le_bytes())),
    }
}

fn put_words(out: &mut Vec<u8>, values: &Buffer) {
    out.extend_from_slice(values.as_slice());
}

fn put_bits(out: &mut Vec<u8>, bits: &BooleanBuffer) {
    let aligned = bits.sliced();
    out.extend_from_slice(&aligned.as_slice()[..bits.len().div_ceil(8)]);
}

fn put_strings<'a>(out: &mut Vec<u8>, count: usize, value: impl Fn(usize) -> &'a str) {
    put_u32(out, count);
    let mut end = 0;
    for index in 0..count {
        end += value(index).len();
        put_u32(out, end);
    }
    for index in 0..count {
        out.extend_from_slice(value(index).as_bytes());
    }
}

/// Decodes a record's payload.
pub fn decode(payload: &[u8]) -> Result<Commit, RecordError> {
    let mut input = Input { bytes: payload };
    let version = input.u8()?;
    if !(OLDEST_FORMAT_VERSION..=FORMAT_VERSION).contains(&version) {
        return Err(RecordError::Version(version));
    }
    let mut commit = Commit {
        time_ns: input.i64()?,
        depth: input.u16()?,
        ..Commit::default()
    };
    for _ in 0..input.u32()? {
        commit.progress.push(decode_progress(&mut input)?);
    }
    for _ in 0..input.u32()? {
        commit.tables.push(Arc::new(decode_batch(&mut input)?));
    }
    if version > OLDEST_FORMAT_VERSION {
        commit.deletes = deletes::decode(&mut input)?;
    }
    if !input.bytes.is_empty() {
        return Err(RecordError::Malformed("bytes after the end"));
    }
    Ok(commit)
}

/// Entries of progress that stand one after another, and nothing else.
pub(crate) fn decode_progresses(bytes: &[u8]) -> Result<Vec<TriggerProgress>, RecordError> {
    let mut input = Input { bytes };
    let mut progresses = Vec::new();
    while !input.bytes.is_empty() {
        progresses.push(decode_progress(&mut input)?);
    }
    Ok(progresses)
}

fn decode_progress(input: &mut Input<'_>) -> Result<TriggerProgress, RecordError> {
    let trigger = TriggerKey {
        database: DatabaseId(input.u32()?),
        trigger_id: input.u32()?,
    };
    let mut progress = TriggerProgress::at(trigger, decode_position(input)?);
    progress.scheduled_ns = if input.flag()? { Some(input.i64()?) } else { None };
    for _ in 0..input.u32()? {
        let key = std::str::from_utf8(input.prefixed()?)
            .map_err(|_| RecordError::Malformed("key of a state is not UTF-8"))?;
        let value = if input.flag()? {
            Some(Bytes::copy_from_slice(input.prefixed()?))
        } else {
            None
        };
        progress.state.push(StateChange {
            key: key.to_owned(),
            value,
        });
    }
    Ok(progress)
}

fn decode_position(input: &mut Input<'_>) -> Result<Position, RecordError> {
    let through = input.u64()?;
    let mut finished = Vec::new();
    for _ in 0..input.u32()? {
        finished.push(LogRange {
            after: input.u64()?,
            through: input.u64()?,
        });
    }
    Position::from_parts(through, finished).ok_or(RecordError::Malformed("finished ranges at odds"))
}

fn decode_batch(input: &mut Input<'_>) -> Result<TableBatch, RecordError> {
    let table = TableId(input.u32()?);
    let row_count = input.u32()? as usize;
    let time_column = ColumnId(input.u16()?);
    let tag_set_count = input.u32()? as usize;
    if tag_set_count > row_count {
        return Err(RecordError::Malformed("more tag sets than rows"));
    }
    let tag_set_of_row = input.index(row_count, tag_set_count)?;
    if tag_set_of_row
        .iter()
        .any(|&tag_set| tag_set as usize >= tag_set_count)
    {
        return Err(RecordError::Malformed("tag set out of range"));
    }
    let column_count = input.u16()?;
    let mut columns = Vec::with_capacity(usize::from(column_count));
    let (mut time_min, mut time_max) = (i64::MAX, i64::MIN);
    for _ in 0..column_count {
        let id = ColumnId(input.u16()?);
        let array = decode_column(input, row_count, tag_set_count, &tag_set_of_row)?;
        if id == time_column {
            let times = array
                .as_primitive_opt::<TimestampNanosecondType>()
                .ok_or(RecordError::Malformed("time column of another type"))?;
            time_min = times.values().iter().copied().min().unwrap_or(time_min);
            time_max = times.values().iter().copied().max().unwrap_or(time_max);
        }
        columns.push((id, array));
    }
    if time_min > time_max {
        return Err(RecordError::Malformed("no time"));
    }
    let first_rows = first_row_of_tag_sets(&tag_set_of_row, tag_set_count);
    if first_rows.contains(&u32::MAX) {
        return Err(RecordError::Malformed("tag set without a row"));
    }
    let tag_columns: Vec<(ColumnId, &ArrayRef)> = columns
        .iter()
        .filter(|(_, array)| type_of(array) == ColumnType::Tag)
        .map(|(id, array)| (*id, array))
        .collect();
    let series = SeriesOfRows::compute(&tag_columns, tag_set_of_row, &first_rows);
    Ok(TableBatch {
        table,
        columns,
        row_count,
        time_column,
        time_min,
        time_max,
        series,
    })
}

fn decode_column(
    input: &mut Input<'_>,
    row_count: usize,
    tag_set_count: usize,
    tag_set_of_row: &[u32],
) -> Result<ArrayRef, RecordError> {
    let column_type = type_from_code(input.u8()?)?;
    let nulls = match input.u8()? {
        0 => None,
        1 => Some(NullBuffer::new(input.bits(row_count)?)),
        _ => return Err(RecordError::Malformed("unknown null marker")),
    };
    Ok(match column_type {
        ColumnType::Tag => {
            let values = input.strings()?;
            let key_of_tag_set = input.index(tag_set_count, values.len())?;
            let null = values.len() as u32;
            if key_of_tag_set.iter().any(|&key| key > null) {
                return Err(RecordError::Malformed("tag value out of range"));
            }
            let key_of_row = |tag_set: &u32| {
                let key = key_of_tag_set[*tag_set as usize];
                (key != null).then_some(key as i32)
            };
            let keys: Int32Array = tag_set_of_row.iter().map(key_of_row).collect();
            Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(values)))
        }
        ColumnType::Float => Arc::new(Float64Array::new(input.words(row_count)?, nulls)),
        ColumnType::Integer => Arc::new(Int64Array::new(input.words(row_count)?, nulls)),
        ColumnType::UInteger => Arc::new(UInt64Array::new(input.words(row_count)?, nulls)),
        ColumnType::Time => Arc::new(TimestampNanosecondArray::new(input.words(row_count)?, nulls)),
        ColumnType::Boolean => Arc::new(BooleanArray::new(input.bits(row_count)?, nulls)),
        ColumnType::String => {
            let (offsets, values, _) = input.strings()?.into_parts();
            if offsets.len() != row_count + 1 {
                return Err(RecordError::Malformed("string column of another length"));
            }
            Arc::new(
                StringArray::try_new(offsets, values, nulls)
                    .map_err(|_| RecordError::Malformed("strings"))?,
            )
        }
    })
}

/// What is left of a payload.
struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(RecordError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        Ok(self.take(N)?.try_into().expect("took exactly N bytes"))
    }

    fn u8(&mut self) -> Result<u8, RecordError> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, RecordError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, RecordError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, RecordError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, RecordError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    fn flag(&mut self) -> Result<bool, RecordError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(RecordError::Malformed("flag is neither 0 nor 1")),
        }
    }

    /// Bytes behind their length.
    fn prefixed(&mut self) -> Result<&'a [u8], RecordError> {
        let count = self.u32()? as usize;
        self.take(count)
    }

    fn index(&mut self, count: usize, max: usize) -> Result<Vec<u32>, RecordError> {
        let width = index_width(max);
        let bytes = self.take(count.checked_mul(width).ok_or(RecordError::Truncated)?)?;
        Ok(match width {
            1 => bytes.iter().map(|&byte| u32::from(byte)).collect(),
            2 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|&two| u32::from(u16::from_le_bytes(two)))
                .collect(),
            _ => bytes
                .as_chunks()
                .0
                .iter()
                .map(|&four| u32::from_le_bytes(four))
                .collect(),
        })
    }

    fn words<T: arrow::datatypes::ArrowNativeType>(
        &mut self,
        count: usize,
    ) -> Result<ScalarBuffer<T>, RecordError> {
        let bytes = self.take(count.checked_mul(8).ok_or(RecordError::Truncated)?)?;
        // The payload is not aligned; the copy is, and outlives it.
        Ok(ScalarBuffer::new(Buffer::from_slice_ref(bytes), 0, count))
    }

    fn bits(&mut self, count: usize) -> Result<BooleanBuffer, RecordError> {
        Ok(BooleanBuffer::new(
            Buffer::from_slice_ref(self.take(count.div_ceil(8))?),
            0,
            count,
        ))
    }

    fn strings(&mut self) -> Result<StringArray, RecordError> {
        let count = self.u32()? as usize;
        let ends = self.take(count.checked_mul(4).ok_or(RecordError::Truncated)?)?;
        let mut offsets = Vec::with_capacity(count + 1);
        offsets.push(0_i32);
        for &end in ends.as_chunks().0 {
            let end = i32::try_from(u32::from_le_bytes(end))
                .map_err(|_| RecordError::Malformed("string offset"))?;
            if end < offsets[offsets.len() - 1] {
                return Err(RecordError::Malformed("string offsets go backwards"));
            }
            offsets.push(end);
        }
        let bytes = self.take(offsets[count] as usize)?;
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        StringArray::try_new(offsets, Buffer::from_slice_ref(bytes), None)
            .map_err(|_| RecordError::Malformed("string is not UTF-8"))
    }
}
