//! Merging streams of many batches.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, DictionaryArray, Float64Array, RecordBatch, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{Float64Type, Int32Type, SchemaRef, TimestampNanosecondType, UInt64Type};
use futures::{StreamExt, TryStreamExt};
use proptest::prelude::*;
use tidemill_lineproto::ColumnType;
use tidemill_store::{FileError, FileSchema, SortedStream, merge_sorted};

use crate::tables::table_with;

/// Series, time, value, place in the log.
type Sample = (u32, i64, Option<u32>, u64);

async fn schema() -> FileSchema {
    let table = table_with(&[("host", ColumnType::Tag), ("load", ColumnType::Float)]).await;
    FileSchema::new(&table, |_| true)
}

fn batch(schema: &SchemaRef, samples: &[Sample]) -> RecordBatch {
    let hosts: Vec<String> = samples
        .iter()
        .map(|(series, ..)| format!("host{series:04}"))
        .collect();
    let tags: DictionaryArray<Int32Type> = hosts.iter().map(String::as_str).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(tags),
        Arc::new(TimestampNanosecondArray::from_iter_values(
            samples.iter().map(|(_, time, ..)| *time),
        )),
        Arc::new(
            samples
                .iter()
                .map(|(_, _, value, _)| value.map(f64::from))
                .collect::<Float64Array>(),
        ),
        Arc::new(UInt64Array::from_iter_values(
            samples.iter().map(|(.., lsn)| *lsn),
        )),
    ];
    RecordBatch::try_new(Arc::clone(schema), columns).unwrap()
}

fn samples_of(batch: &RecordBatch) -> Vec<Sample> {
    let tags = batch.column(0).as_dictionary::<Int32Type>();
    let tags = tags.downcast_dict::<arrow::array::StringArray>().unwrap();
    let times = batch.column(1).as_primitive::<TimestampNanosecondType>().values();
    let values = batch.column(2).as_primitive::<Float64Type>();
    let lsns = batch.column(3).as_primitive::<UInt64Type>().values();
    let rows = tags.into_iter().zip(times).zip(values).zip(lsns);
    rows.map(|(((host, time), value), lsn)| {
        (
            host.unwrap()[4..].parse().unwrap(),
            *time,
            value.map(|value| value as u32),
            *lsn,
        )
    })
    .collect()
}

fn stream(schema: &SchemaRef, samples: &[Sample], batch_rows: usize) -> SortedStream {
    let batches: Vec<_> = samples
        .chunks(batch_rows)
        .map(|chunk| Ok(batch(schema, chunk)))
        .collect();
    futures::stream::iter(batches).boxed()
}

/// Inputs of series with runs of samples; several inputs have the same series, and some the same samples.
fn inputs() -> impl Strategy<Value = Vec<Vec<Sample>>> {
    let run = (0..6_u32, 0..5_000_i64, 1..3_000_i64, 1..4_i64);
    let input = prop::collection::vec(run, 1..5);
    prop::collection::vec(input, 1..5).prop_map(|inputs| {
        let input = |(number, runs): (usize, Vec<(u32, i64, i64, i64)>)| {
            let mut points = BTreeMap::new();
            for (series, start, length, step) in runs {
                for time in (start..start + length).step_by(step as usize) {
                    let value = (time % 7 != 0).then_some(number as u32 * 10_000 + time as u32);
                    points.insert((series, time), value);
                }
            }
            points
                .into_iter()
                .map(|((series, time), value)| (series, time, value, number as u64))
                .collect()
        };
        inputs.into_iter().enumerate().map(input).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_merge_is_the_last_write_of_each_point(
        inputs in inputs(),
        batch_rows in prop::sample::select(vec![1_usize, 100, 8192, 20_000]),
    ) {
        let mut model: BTreeMap<(u32, i64), (Option<u32>, u64)> = BTreeMap::new();
        for (series, time, value, lsn) in inputs.iter().flatten() {
            let entry = model.entry((*series, *time)).or_default();
            *entry = (value.or(entry.0), *lsn);
        }
        let expected: Vec<Sample> =
            model.into_iter().map(|((series, time), (value, lsn))| (series, time, value, lsn)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let schema = schema().await;
            let streams = inputs.iter().map(|samples| stream(schema.arrow(), samples, batch_rows)).collect();
            let merged = merge_sorted(Arc::clone(schema.arrow()), schema.key_columns(), streams);
            let batches: Vec<RecordBatch> = merged.try_collect().await.unwrap();
            assert!(batches.iter().all(|batch| (1..=8192).contains(&batch.num_rows())));
            let samples: Vec<Sample> = batches.iter().flat_map(samples_of).collect();
            assert!(samples == expected, "{} rows instead of {}", samples.len(), expected.len());
        });
    }
}

#[tokio::test]
async fn rows_out_of_order_are_refused() {
    let schema = schema().await;
    let ordered: Vec<Sample> = vec![(1, 5, None, 1), (1, 6, None, 1), (2, 1, None, 1)];
    for (first, second) in [(0, 1), (1, 2), (0, 2)] {
        for batch_rows in [1, 2, 3] {
            let mut samples = ordered.clone();
            samples.swap(first, second);
            let inputs = vec![
                stream(schema.arrow(), &samples, batch_rows),
                stream(schema.arrow(), &ordered, 3),
            ];
            let merged = merge_sorted(Arc::clone(schema.arrow()), schema.key_columns(), inputs);
            let error = merged.try_collect::<Vec<_>>().await.unwrap_err();
            assert!(matches!(error, FileError::Unsorted(_)), "{error:?}");
        }
    }
    let twice = vec![ordered[0], ordered[0]];
    let merged = merge_sorted(
        Arc::clone(schema.arrow()),
        schema.key_columns(),
        vec![stream(schema.arrow(), &twice, 1)],
    );
    assert!(merged.try_collect::<Vec<_>>().await.is_err());
}

#[tokio::test]
async fn errors_of_inputs_and_empty_inputs_pass() {
    let schema = schema().await;
    let failing: SortedStream =
        futures::stream::iter([Err(FileError::Unsorted("as given".to_owned()))]).boxed();
    let inputs = vec![stream(schema.arrow(), &[(1, 1, None, 1)], 1), failing];
    let merged = merge_sorted(Arc::clone(schema.arrow()), schema.key_columns(), inputs);
    assert!(
        merged
            .try_collect::<Vec<_>>()
            .await
            .unwrap_err()
            .to_string()
            .contains("as given")
    );
    for inputs in [Vec::new(), vec![futures::stream::empty().boxed()]] {
        let merged = merge_sorted(Arc::clone(schema.arrow()), schema.key_columns(), inputs);
        assert_eq!(merged.try_collect::<Vec<_>>().await.unwrap(), []);
    }
}
