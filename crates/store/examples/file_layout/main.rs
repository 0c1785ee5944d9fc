//! Measures how the layout of files decides their size and the time they take. The figures of `docs/adr/0008` are its.
//!
//! ```text
//! cargo run --release -p tidemill-store --example file_layout -- layouts [ROWS] [HOSTS]
//! cargo run --release -p tidemill-store --example file_layout -- files [ROWS] [HOSTS]
//! ```
//!
//! `layouts` encodes the float columns, which are nearly all of a file, in many ways. `files` sorts, writes, reads and
//! merges with the layout that files have.
#![expect(clippy::print_stdout, reason = "it prints its results")]

mod load;

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterVersion};
use tidemill_store::{
    DataFile, Effort, FileError, FileId, FileStore, FileStoreConfig, SortedRows, SortedStream, WriteSpec,
    check_bytes, merge_sorted, scan_file, sort_batches, write_file,
};

const BUFFER_BATCH_ROWS: usize = 128 * 1024;

type AnyError = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args().collect();
    let number =
        |position: usize, default: usize| arguments.get(position).map_or(Ok(default), |text| text.parse());
    let (rows, hosts) = (number(2, 1_000_000)?, number(3, 1000)?);
    match arguments.get(1).map(String::as_str) {
        Some("layouts") => layouts(rows, hosts).await,
        Some("files") => files(rows, hosts).await,
        _ => Err("say 'layouts' or 'files'".into()),
    }
}

/// One way to encode floats.
struct Layout {
    name: &'static str,
    encoding: Option<Encoding>,
    level: i32,
    page_rows: usize,
    group_rows: usize,
}

async fn layouts(rows: usize, hosts: usize) -> Result<(), AnyError> {
    let table = load::table().await;
    let batches = load::batches(&table, hosts, rows, BUFFER_BATCH_ROWS);
    let sorted = sort_batches(&table, &batches)?;
    let schema = sorted[0].schema();
    let all = concat_batches(&schema, &sorted)?;
    let is_float = |position: &usize| schema.field(*position).name().starts_with("usage");
    let floats = all.project(&(0..schema.fields().len()).filter(is_float).collect::<Vec<_>>())?;
    println!("{rows} rows, {hosts} hosts; float columns only");
    println!("| encoding | zstd | rows a page | rows a group | MB | encode ms | decode ms |");
    println!("|---|---|---|---|---|---|---|");
    let (plain, split) = (Some(Encoding::PLAIN), Some(Encoding::BYTE_STREAM_SPLIT));
    let mut candidates = Vec::new();
    for (name, encoding) in [
        ("plain", plain),
        ("byte stream split", split),
        ("dictionary", None),
    ] {
        candidates.push((name, encoding, 1, 16 * 1024, 512 * 1024));
        candidates.push((name, encoding, 3, 16 * 1024, 512 * 1024));
    }
    for level in [1, 2, 3, 4, 5, 6, 7, 9, 12] {
        candidates.push(("plain", plain, level, 16 * 1024, 512 * 1024));
    }
    for page_rows in [2, 4, 8, 32, 64, 128, 256, 512] {
        for level in [1, 3, 5, 9] {
            candidates.push(("plain", plain, level, page_rows * 1024, 512 * 1024));
        }
    }
    for (name, encoding, level, page_rows, group_rows) in candidates {
        measure(
            &floats,
            &Layout {
                name,
                encoding,
                level,
                page_rows,
                group_rows,
            },
        )?;
    }
    Ok(())
}

fn measure(floats: &RecordBatch, layout: &Layout) -> Result<(), AnyError> {
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(layout.level)?))
        .set_data_page_row_count_limit(layout.page_rows)
        .set_data_page_size_limit(usize::MAX)
        .set_max_row_group_row_count(Some(layout.group_rows))
        .set_dictionary_enabled(layout.encoding.is_none())
        .set_dictionary_page_size_limit(usize::MAX);
    if let Some(encoding) = layout.encoding {
        properties = properties.set_encoding(encoding);
    }
    let started = Instant::now();
    let mut writer = ArrowWriter::try_new(Vec::new(), floats.schema(), Some(properties.build()))?;
    writer.write(floats)?;
    let bytes = writer.into_inner()?;
    let encode_ms = started.elapsed().as_millis();
    let size = bytes.len();
    let started = Instant::now();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes))?.build()?;
    let read: usize = reader
        .map(|batch| batch.map_or(0, |batch| batch.num_rows()))
        .sum();
    assert_eq!(read, floats.num_rows(), "all rows are read");
    let decode_ms = started.elapsed().as_millis();
    let megabytes = size as f64 / 1e6;
    let Layout {
        name,
        level,
        page_rows,
        group_rows,
        ..
    } = layout;
    println!(
        "| {name} | {level} | {page_rows} | {group_rows} | {megabytes:.2} | {encode_ms} | {decode_ms} |"
    );
    Ok(())
}

async fn files(rows: usize, hosts: usize) -> Result<(), AnyError> {
    let table = load::table().await;
    let batches = load::batches(&table, hosts, rows, BUFFER_BATCH_ROWS);
    let rate = |what: &str, started: Instant| {
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "{what}: {:.0} ms, {:.2} M rows/s",
            seconds * 1e3,
            rows as f64 / seconds / 1e6
        );
    };
    let started = Instant::now();
    let sorted = SortedRows::new(&table, &batches)?;
    let schema = Arc::clone(sorted.schema().arrow());
    let key_columns = sorted.schema().key_columns();
    rate("order", started);
    let count: usize = sorted
        .map(|batch| batch.map_or(0, |batch| batch.num_rows()))
        .sum();
    rate(&format!("order and gather {count} rows"), started);

    let store = Arc::new(FileStore::new(
        Arc::new(InMemory::new()),
        FileStoreConfig::default(),
    ));
    let prefix = Path::from("node");
    let spec = |effort| WriteSpec {
        table: &table,
        path_prefix: &prefix,
        node_id: "node",
        lsn_first: 1,
        lsn_last: u64::MAX,
        deletes_through: 0,
        effort,
    };
    for (id, effort) in [(1, Effort::Low), (2, Effort::High)] {
        let started = Instant::now();
        let sorted = SortedRows::new(&table, &batches)?.into_stream();
        let file = write_file(&store, &spec(effort), sorted, || FileId(id)).await?;
        rate(
            &format!("order, gather and write with {effort:?} effort"),
            started,
        );
        let file = Arc::new(file.ok_or("there are rows")?);
        println!("  {:.2} MB", file.byte_size as f64 / 1e6);
        let metadata = store.metadata(&file).await?;
        for column in 0..schema.fields().len() {
            let bytes: i64 = metadata
                .row_groups()
                .iter()
                .map(|group| group.column(column).compressed_size())
                .sum();
            println!("  {:>10} {}", bytes, schema.field(column).name());
        }
        for (kind, tail) in [("checked", file.tail), ("unchecked", None)] {
            let file = Arc::new(DataFile {
                tail,
                ..DataFile::clone(&file)
            });
            let files = FileStore::new(Arc::clone(store.objects()), FileStoreConfig::default());
            let started = Instant::now();
            let count: usize = scan_file(&Arc::new(files), &file, Arc::clone(&schema), None, &[])
                .try_fold(0, async |count, batch| Ok(count + batch.num_rows()))
                .await?;
            rate(&format!("scan {count} rows, {kind}"), started);
        }
        let bytes = store
            .objects()
            .get(&Path::from(&*file.path))
            .await?
            .bytes()
            .await?;
        let started = Instant::now();
        check_bytes(&file, &bytes)?;
        rate("compare every checksum, of blocks and of the whole", started);
    }

    // As snapshots come: each a slice of time, all with all hosts.
    let mut inputs: Vec<SortedStream> = Vec::new();
    for part in batches.chunks(2) {
        let rows = SortedRows::new(&table, part)?.collect::<Vec<_>>();
        inputs.push(Box::pin(futures::stream::iter(rows)));
    }
    merge("slices of time", &schema, key_columns, inputs, rate).await?;
    // The worst: neighbours always come from different inputs.
    let sorted = SortedRows::new(&table, &batches)?.collect::<Result<Vec<_>, _>>()?;
    let mut inputs: Vec<SortedStream> = Vec::new();
    for first in 0..4 {
        let every_fourth = |batch: &RecordBatch| {
            let rows = UInt32Array::from_iter_values((first..batch.num_rows() as u32).step_by(4));
            take_record_batch(batch, &rows).map_err(FileError::from)
        };
        inputs.push(Box::pin(futures::stream::iter(
            sorted.iter().map(every_fourth).collect::<Vec<_>>(),
        )));
    }
    merge("rows in turn", &schema, key_columns, inputs, rate).await
}

async fn merge(
    name: &str,
    schema: &SchemaRef,
    key_columns: usize,
    inputs: Vec<SortedStream>,
    rate: impl Fn(&str, Instant),
) -> Result<(), AnyError> {
    let input_count = inputs.len();
    let started = Instant::now();
    let count: usize = merge_sorted(Arc::clone(schema), key_columns, inputs)
        .try_fold(0, async |count, batch| Ok(count + batch.num_rows()))
        .await?;
    rate(
        &format!("merge {input_count} inputs, {name}, into {count} rows"),
        started,
    );
    Ok(())
}
