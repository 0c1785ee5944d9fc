//! What must come out: points in order, each with the last value of each of its fields.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampNanosecondType, UInt64Type};
use proptest::prelude::*;
use tidemill_store::{CHUNK_ORDER_COLUMN, RowDelete};

use crate::tables::{Fields, Row, TAGS};

type Point = ([Option<String>; 3], i64);

#[derive(Debug, Default)]
pub(crate) struct Model {
    points: BTreeMap<Point, (Fields, u64)>,
}

impl Model {
    pub(crate) fn of(rows: &[Row]) -> Self {
        let mut model = Self::default();
        for row in rows {
            model.write(row);
        }
        model
    }

    pub(crate) fn write(&mut self, row: &Row) {
        let (fields, lsn) = self.points.entry((row.tags.clone(), row.time)).or_default();
        let new = row.fields.clone();
        fields.load = new.load.or(fields.load);
        fields.count = new.count.or(fields.count);
        fields.total = new.total.or(fields.total);
        fields.note = new.note.or(fields.note.take());
        fields.up = new.up.or(fields.up);
        *lsn = row.lsn;
    }

    pub(crate) fn delete(&mut self, delete: &RowDelete, tag_of: impl Fn(u16) -> usize) {
        self.points.retain(|(tags, time), _| {
            let is_inside = (delete.time_first..=delete.time_last).contains(time);
            let all_hold = delete.conditions.iter().all(|condition| {
                tags[tag_of(condition.column.0)].as_ref().is_some_and(|tag| {
                    condition.values.iter().any(|value| **value == **tag) != condition.negated
                })
            });
            !(is_inside && all_hold)
        });
    }

    pub(crate) fn rows(&self) -> Vec<Row> {
        let row = |((tags, time), (fields, lsn)): (&Point, &(Fields, u64))| Row {
            lsn: *lsn,
            tags: tags.clone(),
            time: *time,
            fields: fields.clone(),
        };
        self.points.iter().map(row).collect()
    }
}

/// The rows of batches as they come; columns that are missing count as null.
pub(crate) fn rows_of(batches: &[RecordBatch]) -> Vec<Row> {
    batches
        .iter()
        .flat_map(|batch| (0..batch.num_rows()).map(|row| row_of(batch, row)))
        .collect()
}

fn row_of(batch: &RecordBatch, row: usize) -> Row {
    let valid = |name: &str| batch.column_by_name(name).filter(|array| array.is_valid(row));
    let times = batch
        .column_by_name("time")
        .unwrap()
        .as_primitive::<TimestampNanosecondType>();
    let lsns = batch
        .column_by_name(CHUNK_ORDER_COLUMN)
        .unwrap()
        .as_primitive::<UInt64Type>();
    let text = |array: &ArrayRef| array.as_string::<i32>().value(row).to_owned();
    Row {
        lsn: lsns.value(row),
        time: times.value(row),
        tags: TAGS.map(|name| valid(name).map(|array| tag(array, row))),
        fields: Fields {
            load: valid("load").map(|array| array.as_primitive::<Float64Type>().value(row).to_bits()),
            count: valid("count").map(|array| array.as_primitive::<Int64Type>().value(row)),
            total: valid("total").map(|array| array.as_primitive::<UInt64Type>().value(row)),
            note: valid("note").map(text),
            up: valid("up").map(|array| array.as_boolean().value(row)),
        },
    }
}

fn tag(array: &ArrayRef, row: usize) -> String {
    let tags = array
        .as_dictionary::<Int32Type>()
        .downcast_dict::<StringArray>()
        .unwrap();
    tags.into_iter().nth(row).unwrap().unwrap().to_owned()
}

/// Commits of rows with ascending places in the log. Points are few, so that many are written more than once.
pub(crate) fn commits() -> impl Strategy<Value = Vec<Vec<Row>>> {
    let commit = prop::collection::vec(row(), 1..12);
    prop::collection::vec(commit, 1..12).prop_map(|mut commits| {
        for (position, commit) in commits.iter_mut().enumerate() {
            for row in commit {
                row.lsn = 10 + 3 * position as u64;
            }
        }
        commits
    })
}

fn row() -> impl Strategy<Value = Row> {
    let host = prop::option::weighted(0.9, prop::sample::select(vec!["a", "b", "ab", "\u{e9}", ""]));
    let region = prop::option::weighted(0.7, prop::sample::select(vec!["x", "y"]));
    let rack = prop::option::weighted(0.2, prop::sample::select(vec!["1", "2", "10"]));
    let time = prop_oneof![8 => 0..6_i64, 1 => prop::sample::select(vec![i64::MIN, -1, i64::MAX])];
    (host, region, rack, time, fields()).prop_map(|(host, region, rack, time, fields)| Row {
        lsn: 0,
        tags: [host, region, rack].map(|tag| tag.map(str::to_owned)),
        time,
        fields,
    })
}

fn fields() -> impl Strategy<Value = Fields> {
    let floats = vec![0.0, -0.0, 1.5, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE];
    let load = prop::option::of(prop::sample::select(floats));
    let count = prop::option::of(prop::sample::select(vec![0, -7, i64::MIN, i64::MAX]));
    let total = prop::option::of(prop::sample::select(vec![0, 7, u64::MAX]));
    let note = prop::option::of(prop::sample::select(vec!["", "n", "two\nlines"]));
    (load, count, total, note, prop::option::of(any::<bool>())).prop_map(|(load, count, total, note, up)| {
        Fields {
            load: load.map(f64::to_bits),
            count,
            total,
            note: note.map(str::to_owned),
            up,
        }
    })
}
