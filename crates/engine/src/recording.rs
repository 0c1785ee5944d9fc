//! Recordings: what a trigger on writes is given, as text that plugins can be run on without a server.
//!
//! A recording is JSON, one object a line. The first says what was recorded ([`RecordingHead`]), each further one is what one
//! run would get ([`RecordedRun`]). The rows are arrays beside the names and types of their columns, so that a recording keeps
//! what dictionaries of JSON would not: the order of the keys, unsigned and large integers, tags and strings, and that a
//! column is absent (`null`). Numbers that JSON does not know are the texts `NaN`, `inf` and `-inf`.
//!
//! Recording reads the log behind the commit as the trigger does, with the same bounds, and leaves the trigger's cursor alone.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, SchemaRef, TimestampNanosecondType, UInt64Type};
use arrow::error::ArrowError;
use chrono::{SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use tidemill_catalog::{CatalogState, Table};
use tidemill_ingest::{CommittedBatch, Lsn, TriggerKey};
use tidemill_lineproto::ColumnType;
use tidemill_triggers::{LogRange, PluginType, TriggerDefinition};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::error::EngineError;
use crate::requests::{RecordNext, StartRecording};
use crate::row_batches::by_table;
use crate::services::Services;
use crate::writes_runner::{LogRead, ReadBounds, read_log, run_id, table_filter};

const FORMAT: &str = "tidemill-recording";
const VERSION: u32 = 1;
/// How many parts of recordings are read and rendered at once; further requests wait. Each is as large as a run.
const READS_MAX: usize = 2;
/// Longest time that a request waits for something to be written.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The first line of a recording.
#[derive(Debug, Clone, Serialize)]
pub struct RecordingHead {
    format: &'static str,
    version: u32,
    database: String,
    trigger_name: String,
    trigger_specification: String,
    plugin_filename: String,
    trigger_arguments: Option<std::collections::BTreeMap<String, String>>,
    /// Where in the log the recording begins: `after` of the first [`RecordNext`].
    pub position: u64,
}

/// A further line: what one run would be given. Without tables where there is nothing (yet).
#[derive(Debug, Clone, Serialize)]
pub struct RecordedRun {
    /// Where in the log it ends: `after` of the next [`RecordNext`].
    pub position: u64,
    run_id: String,
    /// When it was read; RFC 3339.
    read_at: String,
    tables: Vec<RecordedTable>,
}

#[derive(Debug, Clone, Serialize)]
struct RecordedTable {
    table_name: String,
    /// Stretches of rows with the same columns, in log order.
    batches: Vec<RecordedBatch>,
}

#[derive(Debug, Clone, Serialize)]
struct RecordedBatch {
    /// Name and type, in the order in which rows have their keys.
    columns: Vec<(String, &'static str)>,
    rows: Vec<Vec<Cell>>,
}

#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Absent,
    Boolean(bool),
    Integer(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent => serializer.serialize_unit(),
            Self::Boolean(value) => serializer.serialize_bool(*value),
            Self::Integer(value) => serializer.serialize_i64(*value),
            Self::Unsigned(value) => serializer.serialize_u64(*value),
            Self::Float(value) if value.is_nan() => serializer.serialize_str("NaN"),
            Self::Float(value) if value.is_infinite() => {
                serializer.serialize_str(if *value > 0.0 { "inf" } else { "-inf" })
            }
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(value) => serializer.serialize_str(value),
        }
    }
}

/// Reads what triggers on writes are given.
pub(crate) struct Recordings {
    services: Arc<Services>,
    reads: Semaphore,
}

impl Recordings {
    pub(crate) fn new(services: Arc<Services>) -> Self {
        Self {
            services,
            reads: Semaphore::new(READS_MAX),
        }
    }

    /// Begins a recording; nothing of it is kept here.
    pub(crate) async fn start(&self, request: &StartRecording) -> Result<RecordingHead, EngineError> {
        let (_, definition) = self.recordable(&request.db, &request.trigger_name)?;
        let position = self.services.start_position(request.start_at).await?.0;
        Ok(RecordingHead {
            format: FORMAT,
            version: VERSION,
            database: request.db.clone(),
            trigger_name: request.trigger_name.clone(),
            trigger_specification: definition.spec.to_string(),
            plugin_filename: definition.plugin_filename.clone(),
            trigger_arguments: definition.arguments.clone(),
            position,
        })
    }

    /// What the run after a position would be given; waits a while where there is nothing yet.
    pub(crate) async fn next(&self, request: &RecordNext) -> Result<RecordedRun, EngineError> {
        let deadline = Instant::now() + Duration::from_millis(request.wait_ms).min(WAIT_MAX);
        let mut committed = self.services.ingest.committed();
        // What is there already is read to its end; only what comes later is waited for.
        let end = committed.borrow().0;
        let mut after = request.after;
        loop {
            committed.mark_unchanged();
            // Looked up each time: the trigger may be deleted meanwhile.
            let (key, definition) = self.recordable(&request.db, &request.trigger_name)?;
            let read = self.read(key, &definition, after).await?;
            if !read.tables.is_empty() {
                return Ok(read);
            }
            if read.position > after && (read.position < end || Instant::now() < deadline) {
                after = read.position;
                continue;
            }
            let changed = tokio::time::timeout_at(deadline, committed.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return Ok(read);
            }
        }
    }

    async fn read(
        &self,
        key: TriggerKey,
        definition: &TriggerDefinition,
        after: u64,
    ) -> Result<RecordedRun, EngineError> {
        let _permit = self.reads.acquire().await.expect("the semaphore is never closed");
        let bounds = ReadBounds {
            bytes_max: self.services.config.run_bytes_max,
            share: self.services.concurrency(&definition.settings),
        };
        let filter = |state: &Arc<CatalogState>| table_filter(state, key.database, &definition.spec);
        let (state, mut batches, Lsn(through)) = read_log(&self.services, Lsn(after), bounds, filter)
            .await
            .map_err(|error| EngineError::Log(error.to_string()))?;
        // The trigger is not given rows that triggers feed one another with.
        let depth_max = self.services.config.trigger_depth_max;
        if batches.iter().any(|committed| committed.depth >= depth_max) {
            batches.clear();
        }
        let read: LogRead = (state, batches, Lsn(through));
        let rendered = tokio::task::spawn_blocking(move || tables(&read.0, &read.1)).await;
        let tables = rendered
            .map_err(|error| EngineError::Log(error.to_string()))?
            .map_err(|error| EngineError::Log(error.to_string()))?;
        Ok(RecordedRun {
            position: through,
            run_id: run_id(key, LogRange { after, through }),
            read_at: Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true),
            tables,
        })
    }

    /// A trigger that reads the log.
    fn recordable(
        &self,
        db: &str,
        trigger_name: &str,
    ) -> Result<(TriggerKey, Arc<TriggerDefinition>), EngineError> {
        let state = self.services.catalog().state();
        if state.database(db).is_none() {
            return Err(EngineError::DatabaseNotFound(db.to_owned()));
        }
        let found = crate::engine::find_trigger(&state, db, trigger_name)
            .ok_or_else(|| EngineError::TriggerNotFound(trigger_name.to_owned()))?;
        if found.1.spec.plugin_type() != PluginType::WalRows {
            return Err(EngineError::Invalid(format!(
                "only triggers on writes (table:, all_tables) can be recorded; {trigger_name} is {}",
                found.1.spec
            )));
        }
        Ok(found)
    }
}

fn tables(state: &CatalogState, batches: &[CommittedBatch]) -> Result<Vec<RecordedTable>, ArrowError> {
    let tables = by_table(state, batches).into_iter();
    tables
        .map(|rows| {
            let batches = rows.batches().map(|batch| recorded_batch(rows.table, &batch?));
            Ok(RecordedTable {
                table_name: rows.table.name.to_string(),
                batches: batches.collect::<Result<_, _>>()?,
            })
        })
        .collect()
}

fn recorded_batch(table: &Table, batch: &RecordBatch) -> Result<RecordedBatch, ArrowError> {
    let mut rows: Vec<Vec<Cell>> = (0..batch.num_rows())
        .map(|_| Vec::with_capacity(batch.num_columns()))
        .collect();
    for array in batch.columns() {
        append_cells(array, &mut rows)?;
    }
    Ok(RecordedBatch {
        columns: column_types(table, &batch.schema()),
        rows,
    })
}

fn column_types(table: &Table, schema: &SchemaRef) -> Vec<(String, &'static str)> {
    let fields = schema.fields().iter();
    fields
        .map(|field| {
            let column_type = match field.data_type() {
                DataType::Dictionary(..) => ColumnType::Tag,
                _ => table
                    .column(field.name())
                    .map_or(ColumnType::String, |column| column.column_type),
            };
            (field.name().clone(), column_type.schema_name())
        })
        .collect()
}

/// Appends the values of a column to the rows.
fn append_cells(array: &ArrayRef, rows: &mut [Vec<Cell>]) -> Result<(), ArrowError> {
    let array = match array.data_type() {
        DataType::Dictionary(..) => cast(array, &DataType::Utf8)?,
        _ => Arc::clone(array),
    };
    let cell: Box<dyn Fn(usize) -> Cell> = match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean().clone();
            Box::new(move |row| Cell::Boolean(values.value(row)))
        }
        DataType::Int64 => {
            let values = array.as_primitive::<Int64Type>().clone();
            Box::new(move |row| Cell::Integer(values.value(row)))
        }
        DataType::Timestamp(..) => {
            let values = array.as_primitive::<TimestampNanosecondType>().clone();
            Box::new(move |row| Cell::Integer(values.value(row)))
        }
        DataType::UInt64 => {
            let values = array.as_primitive::<UInt64Type>().clone();
            Box::new(move |row| Cell::Unsigned(values.value(row)))
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>().clone();
            Box::new(move |row| Cell::Float(values.value(row)))
        }
        DataType::Utf8 => {
            let values = array.as_string::<i32>().clone();
            Box::new(move |row| Cell::Text(values.value(row).to_owned()))
        }
        other => {
            return Err(ArrowError::SchemaError(format!(
                "a written column has the type {other}"
            )));
        }
    };
    for (index, row) in rows.iter_mut().enumerate() {
        row.push(if array.is_null(index) {
            Cell::Absent
        } else {
            cell(index)
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BooleanArray, DictionaryArray, Float64Array, Int64Array, StringArray, TimestampNanosecondArray,
        UInt64Array,
    };
    use arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn every_type_keeps_its_values() {
        let tags: DictionaryArray<Int32Type> = [Some("a b"), None, Some("ü\n")].into_iter().collect();
        let columns: [ArrayRef; 7] = [
            Arc::new(tags),
            Arc::new(Float64Array::from(vec![
                Some(1.0),
                Some(f64::NAN),
                Some(f64::NEG_INFINITY),
            ])),
            Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(0)])),
            Arc::new(UInt64Array::from(vec![Some(u64::MAX), None, Some(0)])),
            Arc::new(StringArray::from(vec![Some(""), None, Some("\"")])),
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
            Arc::new(TimestampNanosecondArray::from(vec![-1, 0, i64::MAX])),
        ];
        let mut rows = vec![Vec::new(), Vec::new(), Vec::new()];
        for column in &columns {
            append_cells(column, &mut rows).unwrap();
        }
        let lines: Vec<String> = rows
            .iter()
            .map(|row| serde_json::to_string(row).unwrap())
            .collect();
        assert_eq!(
            lines,
            [
                r#"["a b",1.0,-9223372036854775808,18446744073709551615,"",true,-1]"#,
                r#"[null,"NaN",null,null,null,null,0]"#,
                r#"["ü\n","-inf",0,0,"\"",false,9223372036854775807]"#,
            ]
        );
    }
}
