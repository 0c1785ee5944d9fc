//! A Parquet file against what the manifest says of it.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, TimeUnit, TimestampNanosecondType, UInt64Type};
use arrow::row::{OwnedRow, RowConverter, SortField};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tidemill_catalog::{TIME_COLUMN, Table};
use tidemill_store::{CHUNK_ORDER_COLUMN, DataFile, check_bytes};

const ROWS_AT_ONCE: usize = 16 * 1024;

/// Checks length and checksums, then that every row can be read, that there are as many rows as there should be, of the times and
/// places in the log that there should be, and in order, each point once.
///
/// # Errors
/// What is wrong first.
pub(crate) fn check_content(bytes: Bytes, file: &DataFile, table: Option<&Table>) -> Result<(), String> {
    check_bytes(file, &bytes).map_err(|damage| damage.to_string())?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)
        .map_err(|error| format!("its footer cannot be read: {error}"))?;
    let rows = builder.metadata().file_metadata().num_rows();
    if u64::try_from(rows) != Ok(file.row_count) {
        return Err(format!("it has {rows} rows instead of {}", file.row_count));
    }
    if let Some(table) = table {
        check_columns(builder.schema(), table)?;
    }
    let reader = builder.with_batch_size(ROWS_AT_ONCE).build();
    let reader = reader.map_err(|error| format!("it cannot be read: {error}"))?;
    let mut rows = RowsCheck::new(file);
    for batch in reader {
        let batch = batch.map_err(|error| format!("a row group cannot be read: {error}"))?;
        rows.check(&batch)?;
    }
    rows.finish()
}

/// Every column must be one of the table.
fn check_columns(schema: &arrow::datatypes::Schema, table: &Table) -> Result<(), String> {
    let is_known = |name: &str| name == CHUNK_ORDER_COLUMN || table.column(name).is_some();
    match schema.fields().iter().find(|field| !is_known(field.name())) {
        None => Ok(()),
        Some(field) => Err(format!("its column '{}' is none of the table", field.name())),
    }
}

/// Rows that come in batches.
struct RowsCheck<'a> {
    file: &'a DataFile,
    row_count: u64,
    times: Option<(i64, i64)>,
    converter: Option<RowConverter>,
    last_key: Option<OwnedRow>,
}

impl<'a> RowsCheck<'a> {
    fn new(file: &'a DataFile) -> Self {
        Self {
            file,
            row_count: 0,
            times: None,
            converter: None,
            last_key: None,
        }
    }

    fn check(&mut self, batch: &RecordBatch) -> Result<(), String> {
        self.row_count += batch.num_rows() as u64;
        let time_index = batch.schema().index_of(TIME_COLUMN);
        let time_index = time_index.map_err(|_| "it has no times".to_owned())?;
        self.check_times(batch.column(time_index))?;
        self.check_places(batch)?;
        // Tags in the order of the series key, then time.
        self.check_order(&batch.columns()[..=time_index])
    }

    fn check_times(&mut self, column: &ArrayRef) -> Result<(), String> {
        let is_time = matches!(column.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _));
        if !is_time || column.null_count() > 0 {
            return Err("its times are none".to_owned());
        }
        let times = column.as_primitive::<TimestampNanosecondType>().values();
        if let (Some(&least), Some(&greatest)) = (times.iter().min(), times.iter().max()) {
            let (first, last) = self.times.unwrap_or((least, greatest));
            self.times = Some((first.min(least), last.max(greatest)));
        }
        Ok(())
    }

    fn check_places(&self, batch: &RecordBatch) -> Result<(), String> {
        let places = batch.column_by_name(CHUNK_ORDER_COLUMN);
        let places = places.and_then(|column| column.as_primitive_opt::<UInt64Type>());
        let places = places.filter(|places| places.null_count() == 0);
        let places = places.ok_or_else(|| "its rows have no places in the log".to_owned())?;
        let expected = self.file.lsn_first..=self.file.lsn_last;
        match places.values().iter().find(|place| !expected.contains(place)) {
            None => Ok(()),
            Some(place) => Err(format!(
                "a row is of record {place}, but it should hold records {} to {}",
                expected.start(),
                expected.end()
            )),
        }
    }

    fn check_order(&mut self, key: &[ArrayRef]) -> Result<(), String> {
        if self.converter.is_none() {
            let fields = key
                .iter()
                .map(|column| SortField::new(column.data_type().clone()));
            let converter = RowConverter::new(fields.collect());
            self.converter = Some(converter.map_err(|error| format!("its keys are none: {error}"))?);
        }
        let converter = self.converter.as_ref().expect("it was made for the first batch");
        let rows = converter.convert_columns(key);
        let rows = rows.map_err(|error| format!("its keys cannot be compared: {error}"))?;
        let mut last = self.last_key.as_ref().map(OwnedRow::row);
        for row in &rows {
            if last.is_some_and(|last| last >= row) {
                return Err(
                    "its rows are not in the order of tags and time, or a point occurs twice".to_owned(),
                );
            }
            last = Some(row);
        }
        self.last_key = last.map(|row| row.owned());
        Ok(())
    }

    fn finish(self) -> Result<(), String> {
        if self.row_count != self.file.row_count {
            return Err(format!(
                "{} rows can be read instead of {}",
                self.row_count, self.file.row_count
            ));
        }
        let expected = Some((self.file.time_min, self.file.time_max));
        if self.row_count > 0 && self.times != expected {
            return Err("its rows are of other times than the manifest says".to_owned());
        }
        Ok(())
    }
}
