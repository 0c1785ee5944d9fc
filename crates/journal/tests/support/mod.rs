//! What the tests of the journal share.
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod checked_journal;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use tidemill_journal::Clock;

pub(crate) const PREFIX: &str = "node1/journal/7/logs";
pub(crate) const SECOND: i64 = 1_000_000_000;

pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(
            "event_time",
            DataType::Timestamp(TimeUnit::Nanosecond, None),
            false,
        ),
        Field::new("id", DataType::Int64, false),
        Field::new("text", DataType::Utf8, true),
    ]))
}

/// Rows with these ids, of one time, each with a text of so many bytes.
pub(crate) fn rows(ids: impl IntoIterator<Item = i64>, time: i64, text_bytes: usize) -> RecordBatch {
    let ids: Vec<i64> = ids.into_iter().collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampNanosecondArray::from(vec![time; ids.len()])),
        Arc::new(Int64Array::from(ids.clone())),
        Arc::new(
            ids.iter()
                .map(|id| Some(id.to_string().repeat(text_bytes)[..text_bytes].to_owned()))
                .collect::<StringArray>(),
        ),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

pub(crate) fn ids(batches: &[RecordBatch]) -> Vec<i64> {
    let columns = batches
        .iter()
        .map(|batch| batch.column(1).as_primitive::<Int64Type>());
    columns.flat_map(|ids| ids.values().to_vec()).collect()
}

/// The rows whose id is wanted.
pub(crate) fn ids_that(
    wanted: impl Fn(i64) -> bool + Send + Sync,
) -> impl Fn(&RecordBatch) -> BooleanArray + Send + Sync {
    move |batch| {
        let ids = batch.column(1).as_primitive::<Int64Type>();
        ids.values().iter().map(|id| Some(wanted(*id))).collect()
    }
}

/// A clock that tests move.
#[derive(Clone, Default)]
pub(crate) struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub(crate) fn now(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn advance(&self, nanoseconds: i64) {
        self.0.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    pub(crate) fn clock(&self) -> Clock {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }
}
