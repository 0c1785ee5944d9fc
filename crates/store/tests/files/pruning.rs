//! A file has what readers find their rows by, and one series of a large file costs few bytes.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, DictionaryArray, Float64Array, Int32Array, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{Int32Type, TimestampNanosecondType};
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use parquet::basic::Encoding;
use parquet::file::metadata::ParquetMetaData;
use tidemill_lineproto::ColumnType;
use tidemill_store::{FileSchema, SortedStream};

use crate::storage::{file_store, write};
use crate::tables::table_with;

const HOSTS: usize = 1000;
const ROWS_A_HOST: usize = 4195;
const STEP_NS: i64 = 10_000_000_000;
const HOUR_NS: i64 = 3_600_000_000_000;

/// Four Mi rows: a thousand hosts, a row every 10 s.
fn rows(schema: &FileSchema) -> SortedStream {
    let schema = Arc::clone(schema.arrow());
    let hosts: ArrayRef = Arc::new(
        (0..HOSTS)
            .map(|host| Some(format!("host{host:04}")))
            .collect::<StringArray>(),
    );
    let batch = move |start: usize| {
        let rows = start..(start + 8192).min(HOSTS * ROWS_A_HOST);
        let keys: Int32Array = rows.clone().map(|row| (row / ROWS_A_HOST) as i32).collect();
        let regions: StringArray = ["east", "west"].into_iter().map(Some).collect();
        let region_keys: Int32Array = keys.iter().map(|host| host.map(|host| host % 2)).collect();
        let values = |seed: u64| {
            let noise = move |row: usize| {
                f64::from((row as u32).wrapping_mul(2_654_435_761).rotate_left(seed as u32) % 1_000_000)
            };
            Float64Array::from_iter_values(rows.clone().map(noise))
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::clone(&hosts))),
            Arc::new(DictionaryArray::<Int32Type>::new(region_keys, Arc::new(regions))),
            Arc::new(TimestampNanosecondArray::from_iter_values(
                rows.clone().map(|row| (row % ROWS_A_HOST) as i64 * STEP_NS),
            )),
            Arc::new(values(3)),
            Arc::new(values(11)),
            Arc::new(UInt64Array::from_iter_values(
                rows.clone().map(|row| (row % ROWS_A_HOST) as u64),
            )),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&schema), columns).unwrap())
    };
    let starts = (0..HOSTS * ROWS_A_HOST).step_by(8192);
    futures::stream::iter(starts.map(batch)).boxed()
}

/// The rows of a row group in pages that may hold the host and the span of time.
fn matching_rows(
    metadata: &ArrowReaderMetadata,
    group: usize,
    host: &str,
    span: &Range<i64>,
) -> Vec<Range<usize>> {
    let parquet = metadata.metadata();
    let (columns, offsets) = (parquet.column_index().unwrap(), parquet.offset_index().unwrap());
    let converter =
        |name| StatisticsConverter::try_new(name, metadata.schema(), metadata.parquet_schema()).unwrap();
    let least = |name| {
        converter(name)
            .data_page_mins(columns, offsets, [&group])
            .unwrap()
    };
    let greatest = |name| {
        converter(name)
            .data_page_maxes(columns, offsets, [&group])
            .unwrap()
    };
    let (host_min, host_max) = (least("host"), greatest("host"));
    let (time_min, time_max) = (least("time"), greatest("time"));
    let (host_min, host_max) = (host_min.as_string::<i32>(), host_max.as_string::<i32>());
    let times = |array: &ArrayRef| array.as_primitive::<TimestampNanosecondType>().values().clone();
    let (time_min, time_max) = (times(&time_min), times(&time_max));
    let pages = offsets[group][0].page_locations();
    assert_eq!(
        pages.len(),
        time_min.len(),
        "all columns have pages of the same rows"
    );
    let end_of_page = |page: usize| match pages.get(page + 1) {
        Some(next) => next.first_row_index as usize,
        None => parquet.row_group(group).num_rows() as usize,
    };
    (0..pages.len())
        .filter(|&page| {
            let has_host = host_min.value(page) <= host && host <= host_max.value(page);
            has_host && time_min[page] < span.end && span.start <= time_max[page]
        })
        .map(|page| pages[page].first_row_index as usize..end_of_page(page))
        .collect()
}

fn check_structure(parquet: &ParquetMetaData) {
    for group in parquet.row_groups() {
        assert!((1..=1024 * 1024).contains(&group.num_rows()));
        let sorting = group.sorting_columns().unwrap();
        assert_eq!(
            sorting.iter().map(|column| column.column_idx).collect::<Vec<_>>(),
            [0, 1, 2]
        );
        assert!(
            sorting
                .iter()
                .all(|column| column.nulls_first && !column.descending)
        );
        for (position, column) in group.columns().iter().enumerate() {
            assert!(column.statistics().is_some(), "{}", column.column_path());
            assert!(column.offset_index_offset().is_some() && column.column_index_offset().is_some());
            let is_tag = position < 2;
            assert_eq!(column.bloom_filter_offset().is_some(), is_tag);
            assert_eq!(column.dictionary_page_offset().is_some(), is_tag);
        }
        let is_delta = |position: usize| {
            group
                .column(position)
                .encodings()
                .any(|encoding| encoding == Encoding::DELTA_BINARY_PACKED)
        };
        assert!(is_delta(2) && is_delta(5), "time and order are deltas");
    }
    let key_values = parquet.file_metadata().key_value_metadata().unwrap();
    let format = key_values
        .iter()
        .find(|pair| pair.key == "tidemill.format")
        .unwrap();
    assert_eq!(format.value.as_deref(), Some("1"));
}

#[tokio::test]
async fn one_series_and_one_hour_out_of_four_million_rows_cost_few_bytes() {
    let table = table_with(&[
        ("host", ColumnType::Tag),
        ("region", ColumnType::Tag),
        ("load", ColumnType::Float),
        ("idle", ColumnType::Float),
    ])
    .await;
    let schema = FileSchema::new(&table, |_| true);
    let store = file_store();
    let file = write(&store, &table, 1, (1, 9), rows(&schema)).await.unwrap();
    assert_eq!(file.row_count as usize, HOSTS * ROWS_A_HOST);

    let parquet = store.metadata(&file).await.unwrap();
    check_structure(&parquet);
    let footer_bytes = store.stats().fetched_bytes;
    assert!(footer_bytes <= 1024 * 1024, "{footer_bytes}");

    let metadata = ArrowReaderMetadata::try_new(parquet, ArrowReaderOptions::new()).unwrap();
    let (host, span) = ("host0777", 3 * HOUR_NS..4 * HOUR_NS);
    let reader = || ParquetRecordBatchStreamBuilder::new_with_metadata(store.reader(&file), metadata.clone());
    let mut found = 0;
    let mut groups_read = 0;
    for group in 0..metadata.metadata().num_row_groups() {
        let ranges = matching_rows(&metadata, group, host, &span);
        let mut builder = reader();
        let bloom = builder
            .get_row_group_column_bloom_filter(group, 0)
            .await
            .unwrap()
            .unwrap();
        if ranges.is_empty() {
            assert!(!bloom.check("host9999") || !bloom.check("host9998") || !bloom.check("nowhere"));
            continue;
        }
        assert!(bloom.check(host));
        groups_read += 1;
        let row_count = metadata.metadata().row_group(group).num_rows() as usize;
        let before = store.stats().fetched_bytes;
        let selection = RowSelection::from_consecutive_ranges(ranges.into_iter(), row_count);
        let stream = builder
            .with_row_groups(vec![group])
            .with_row_selection(selection)
            .build()
            .unwrap();
        let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
        for batch in batches {
            let times = batch
                .column(2)
                .as_primitive::<TimestampNanosecondType>()
                .values()
                .clone();
            let hosts = batch.column(0).as_dictionary::<Int32Type>().clone();
            let hosts = hosts.downcast_dict::<StringArray>().unwrap();
            let rows = hosts.into_iter().zip(times.iter());
            found += rows
                .filter(|(name, time)| *name == Some(host) && span.contains(*time))
                .count();
        }
        let fetched = store.stats().fetched_bytes - before;
        // Of each column at most two pages of 64 KiB, and the dictionaries of the tags.
        assert!(fetched <= 6 * 2 * 64 * 1024, "{fetched}");
    }
    assert_eq!((found, groups_read), (360, 1));
}
