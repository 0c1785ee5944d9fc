//! Written rows as a worker receives them: one entry a table in first-write order, each a row of Arrow IPC streams
//! (engine.md 0.23, 2.3).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::concat;
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use tidemill_catalog::{CatalogState, ColumnId, Table, TableId};
use tidemill_ingest::CommittedBatch;
use tidemill_lineproto::ParsedTable;
use tidemill_store::TableBatch;
use tidemill_worker_proto::TableWrites;

/// Rows on their way to a worker: the head of the message and the streams behind it.
#[derive(Debug, Clone)]
pub(crate) struct EncodedRows {
    pub(crate) tables: Vec<TableWrites>,
    pub(crate) blob: Bytes,
    pub(crate) rows: u64,
}

/// Appends one self-contained stream of batches to `out`. Answers its length in bytes.
pub(crate) fn append_stream(
    schema: &Schema,
    batches: &[RecordBatch],
    out: &mut Vec<u8>,
) -> Result<u64, ArrowError> {
    let start = out.len();
    let mut writer = StreamWriter::try_new(&mut *out, schema)?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    drop(writer);
    Ok((out.len() - start) as u64)
}

/// Encodes committed batches. Tables that are gone from the catalog are left out.
pub(crate) fn encode_committed(
    state: &CatalogState,
    batches: &[CommittedBatch],
) -> Result<EncodedRows, ArrowError> {
    let mut by_table: Vec<(TableId, Vec<&Arc<TableBatch>>)> = Vec::new();
    for CommittedBatch { batch, .. } in batches {
        match by_table.iter_mut().find(|(table, _)| *table == batch.table) {
            Some((_, of_table)) => of_table.push(batch),
            None => by_table.push((batch.table, vec![batch])),
        }
    }
    let mut tables = Vec::with_capacity(by_table.len());
    let columns = batches.iter().flat_map(|committed| &committed.batch.columns);
    let bytes = columns.map(|(_, column)| column.get_array_memory_size()).sum();
    let mut blob = Vec::with_capacity(bytes);
    let mut rows = 0;
    for (table_id, of_table) in by_table {
        let Some(table) = state.table_by_id(table_id) else {
            continue;
        };
        let mut stream_bytes = Vec::new();
        for alike in of_table.chunk_by(|first, second| same_columns(first, second)) {
            let batch = merge(table, alike)?;
            rows += batch.num_rows() as u64;
            stream_bytes.push(append_stream(
                &batch.schema(),
                std::slice::from_ref(&batch),
                &mut blob,
            )?);
        }
        tables.push(TableWrites {
            table_name: table.name.to_string(),
            stream_bytes,
        });
    }
    Ok(EncodedRows {
        tables,
        blob: blob.into(),
        rows,
    })
}

/// Encodes parsed lines that were never committed: the input of a dry run.
pub(crate) fn encode_parsed(parsed: &[ParsedTable]) -> Result<EncodedRows, ArrowError> {
    let mut tables = Vec::with_capacity(parsed.len());
    let mut blob = Vec::new();
    for table in parsed {
        let columns: Vec<(&str, ArrayRef)> = table
            .columns
            .iter()
            .map(|column| (column.name.as_str(), Arc::clone(&column.array)))
            .collect();
        let batch = record_batch(columns, table.row_count)?;
        let bytes = append_stream(&batch.schema(), std::slice::from_ref(&batch), &mut blob)?;
        tables.push(TableWrites {
            table_name: table.name.clone(),
            stream_bytes: vec![bytes],
        });
    }
    Ok(EncodedRows {
        tables,
        blob: blob.into(),
        rows: parsed.iter().map(|table| table.row_count as u64).sum(),
    })
}

/// Whether two batches of a table can be one: the same columns in the same order, so that the keys of a row keep the
/// order of its line. A column keeps its type for good.
fn same_columns(first: &TableBatch, second: &TableBatch) -> bool {
    let ids = |batch: &TableBatch| batch.columns.iter().map(|(id, _)| *id).collect::<Vec<ColumnId>>();
    first.columns.len() == second.columns.len() && ids(first) == ids(second)
}

fn merge(table: &Table, batches: &[&Arc<TableBatch>]) -> Result<RecordBatch, ArrowError> {
    let row_count = batches.iter().map(|batch| batch.row_count).sum();
    let mut columns = Vec::with_capacity(batches[0].columns.len());
    for (position, (id, first)) in batches[0].columns.iter().enumerate() {
        let name = table
            .column_by_id(*id)
            .map(|column| &*column.name)
            .ok_or_else(|| ArrowError::SchemaError(format!("table '{}' has no column {id}", table.name)))?;
        let array = if batches.len() == 1 {
            Arc::clone(first)
        } else {
            let parts: Vec<_> = batches
                .iter()
                .map(|batch| batch.columns[position].1.as_ref())
                .collect();
            concat(&parts)?
        };
        columns.push((name, array));
    }
    record_batch(columns, row_count)
}

fn record_batch(columns: Vec<(&str, ArrayRef)>, row_count: usize) -> Result<RecordBatch, ArrowError> {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), true))
        .collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(row_count));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
}
