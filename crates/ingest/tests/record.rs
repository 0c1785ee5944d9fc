//! The record format: what is encoded comes back, and bytes that make no sense are errors, never panics.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, Int32Array, StringArray, TimestampNanosecondArray,
};
use arrow::datatypes::Int32Type;
use proptest::prelude::*;
use tidemill_catalog::{ColumnId, DatabaseId, TableId};
use tidemill_ingest::{Commit, StateChange, TriggerKey, TriggerProgress, record};
use tidemill_store::{SeriesOfRows, TableBatch};
use tidemill_triggers::{LogRange, Position};

/// Rows of (tag, text, number, time); a table of three columns and time.
type Row = (Option<u8>, Option<String>, Option<f64>, i64);

fn batch(table: u32, rows: &[Row], claimed_tag_sets: Option<Vec<u32>>) -> TableBatch {
    let values: Vec<String> = (0..=u8::MAX).map(|value| format!("value{value}")).collect();
    let keys: Int32Array = rows.iter().map(|row| row.0.map(i32::from)).collect();
    let tags: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::new(
        keys,
        Arc::new(StringArray::from(values)),
    ));
    let times: Vec<i64> = rows.iter().map(|row| row.3).collect();
    let columns: Vec<(ColumnId, ArrayRef)> = vec![
        (ColumnId(3), Arc::clone(&tags)),
        (
            ColumnId(0),
            Arc::new(rows.iter().map(|row| row.1.clone()).collect::<StringArray>()),
        ),
        (
            ColumnId(9),
            Arc::new(rows.iter().map(|row| row.2).collect::<Float64Array>()),
        ),
        (
            ColumnId(1),
            Arc::new(TimestampNanosecondArray::from(times.clone())),
        ),
    ];
    let every_row: Vec<u32> = (0..rows.len() as u32).collect();
    let tag_sets = claimed_tag_sets.unwrap_or_else(|| every_row.clone());
    let first_rows: Vec<u32> = (0..=tag_sets.iter().copied().max().unwrap_or(0))
        .map(|tag_set| {
            tag_sets
                .iter()
                .position(|claimed| *claimed == tag_set)
                .unwrap_or(0) as u32
        })
        .collect();
    TableBatch {
        table: TableId(table),
        series: SeriesOfRows::compute(&[(ColumnId(3), &tags)], tag_sets, &first_rows),
        columns,
        row_count: rows.len(),
        time_column: ColumnId(1),
        time_min: times.iter().copied().min().unwrap(),
        time_max: times.iter().copied().max().unwrap(),
    }
}

fn assert_same(decoded: &Commit, original: &Commit) {
    assert_eq!(decoded.progress, original.progress);
    assert_eq!(
        (decoded.time_ns, decoded.depth),
        (original.time_ns, original.depth)
    );
    assert_eq!(decoded.tables.len(), original.tables.len());
    for (decoded, original) in decoded.tables.iter().zip(&original.tables) {
        assert_eq!(
            (decoded.table, decoded.row_count),
            (original.table, original.row_count)
        );
        assert_eq!(
            (decoded.time_min, decoded.time_max),
            (original.time_min, original.time_max)
        );
        for ((decoded_id, decoded), (id, column)) in decoded.columns.iter().zip(&original.columns) {
            assert_eq!(decoded_id, id);
            // Dictionaries may differ in their unused values; the rows may not.
            let text =
                |array: &ArrayRef| arrow::compute::cast(array, &arrow::datatypes::DataType::Utf8).unwrap();
            assert_eq!(&text(decoded), &text(column));
        }
    }
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (
        proptest::option::of(0..4_u8),
        proptest::option::of(".{0,5}"),
        proptest::option::of(any::<f64>()),
        any::<i64>(),
    );
    proptest::collection::vec(row, 1..300)
}

/// A cursor with up to 16 finished ranges beyond it.
fn cursor() -> impl Strategy<Value = Position> {
    let gaps_and_lengths = proptest::collection::vec((1_u64..9, 1_u64..9), 0..16);
    (0..u64::MAX / 2, gaps_and_lengths).prop_map(|(through, gaps_and_lengths)| {
        let mut finished: Vec<LogRange> = Vec::new();
        for (gap, length) in gaps_and_lengths {
            let after = finished.last().map_or(through, |range| range.through) + gap;
            finished.push(LogRange {
                after,
                through: after + length,
            });
        }
        Position::from_parts(through, finished).unwrap()
    })
}

fn state() -> impl Strategy<Value = Vec<StateChange>> {
    let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20).prop_map(Into::into));
    let change = (".{0,8}", value).prop_map(|(key, value)| StateChange { key, value });
    proptest::collection::vec(change, 0..3)
}

fn commit() -> impl Strategy<Value = Commit> {
    (
        proptest::collection::vec(rows(), 0..3),
        proptest::collection::vec((any::<u32>(), cursor(), state(), any::<Option<i64>>()), 0..3),
        (any::<i64>(), any::<u16>()),
    )
        .prop_map(|(tables, progress, (time_ns, depth))| {
            let progress = progress
                .into_iter()
                .map(|(id, cursor, state, scheduled_ns)| TriggerProgress {
                    trigger: TriggerKey {
                        database: DatabaseId(1),
                        trigger_id: id,
                    },
                    cursor,
                    state,
                    scheduled_ns,
                });
            let tables = tables
                .iter()
                .enumerate()
                .map(|(table, rows)| Arc::new(batch(table as u32, rows, None)));
            Commit {
                tables: tables.collect(),
                progress: progress.collect(),
                time_ns,
                depth,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_is_encoded_comes_back(commit in commit()) {
        assert_same(&record::decode(&record::encode(&commit)).unwrap(), &commit);
    }

    #[test]
    fn damaged_records_are_errors(commit in commit(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = record::encode(&commit);
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
            prop_assert!(record::decode(&bytes).is_err());
        } else {
            // May still be a record; must not be a panic.
            bytes[at] = byte;
            let _ = record::decode(&bytes);
        }
    }
}

#[test]
fn tags_are_stored_right_even_where_the_tag_sets_are_not() {
    // All rows claim the same tag set, as they would after a collision of hashes.
    let rows: Vec<Row> = (0..3)
        .map(|tag| (Some(tag), None, Some(1.0), i64::from(tag)))
        .collect();
    let commit = Commit {
        tables: vec![Arc::new(batch(0, &rows, Some(vec![0, 0, 0])))],
        ..Commit::default()
    };
    assert_same(&record::decode(&record::encode(&commit)).unwrap(), &commit);
}

#[test]
fn finished_ranges_that_no_cursor_has_are_refused() {
    let range = |after, through| LogRange { after, through };
    let trigger = TriggerKey {
        database: DatabaseId(1),
        trigger_id: 2,
    };
    let cursor = Position::from_parts(5, vec![range(7, 9)]).unwrap();
    let commit = Commit {
        progress: vec![TriggerProgress::at(trigger, cursor)],
        ..Commit::default()
    };
    let good = record::encode(&commit);
    assert_eq!(record::decode(&good).unwrap().progress, commit.progress);
    let after = good
        .windows(8)
        .position(|bytes| bytes == 7_u64.to_le_bytes())
        .unwrap();
    for bad in [0_u64, 5, 9, u64::MAX] {
        let mut bytes = good.clone();
        bytes[after..after + 8].copy_from_slice(&bad.to_le_bytes());
        assert!(record::decode(&bytes).is_err(), "after {bad}");
    }
    let mut old = good;
    old[0] = 1;
    assert!(matches!(
        record::decode(&old),
        Err(record::RecordError::Version(1))
    ));
}
