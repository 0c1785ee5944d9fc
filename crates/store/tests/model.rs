//! The buffer against a plain model: a list of rows.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Float64Array, TimestampNanosecondArray};
use arrow::datatypes::{Float64Type, Int32Type, TimestampNanosecondType};
use hashbrown::HashMap;
use proptest::prelude::*;
use tidemill_catalog::{ColumnId, DatabaseId, TableId};
use tidemill_store::{RowDelete, SeriesOfRows, Store, StoreConfig, TableBatch, TableSnapshot, TagCondition};

const TABLE: TableId = TableId(7);
const TIME: ColumnId = ColumnId(0);
const TAGS: [ColumnId; 2] = [ColumnId(1), ColumnId(3)];
const FIELDS: [ColumnId; 2] = [ColumnId(2), ColumnId(4)];

#[derive(Clone, Debug, PartialEq)]
struct Row {
    time: i64,
    tags: [Option<String>; 2],
    fields: [Option<f64>; 2],
}

/// A batch as the write path makes it: columns that no row has are absent.
fn batch(rows: &[Row]) -> Arc<TableBatch> {
    let times: TimestampNanosecondArray = rows.iter().map(|row| Some(row.time)).collect();
    let mut tag_columns: Vec<(ColumnId, ArrayRef)> = Vec::new();
    let mut columns: Vec<(ColumnId, ArrayRef)> = Vec::new();
    for (position, id) in TAGS.into_iter().enumerate() {
        if rows.iter().any(|row| row.tags[position].is_some()) {
            let tags: DictionaryArray<Int32Type> =
                rows.iter().map(|row| row.tags[position].as_deref()).collect();
            tag_columns.push((id, Arc::new(tags)));
        }
    }
    for (position, id) in FIELDS.into_iter().enumerate() {
        if rows.iter().any(|row| row.fields[position].is_some()) {
            let fields: Float64Array = rows.iter().map(|row| row.fields[position]).collect();
            columns.push((id, Arc::new(fields)));
        }
    }
    let mut numbers: HashMap<&[Option<String>; 2], u32> = HashMap::new();
    let mut first_rows = Vec::new();
    let mut tag_set_of_row = Vec::new();
    for (position, row) in rows.iter().enumerate() {
        let next = numbers.len() as u32;
        let number = *numbers.entry(&row.tags).or_insert(next);
        if number == next {
            first_rows.push(position as u32);
        }
        tag_set_of_row.push(number);
    }
    let borrowed: Vec<(ColumnId, &ArrayRef)> = tag_columns.iter().map(|(id, array)| (*id, array)).collect();
    let series = SeriesOfRows::compute(&borrowed, tag_set_of_row, &first_rows);
    columns.extend(tag_columns);
    columns.push((TIME, Arc::new(times)));
    Arc::new(TableBatch {
        table: TABLE,
        columns,
        row_count: rows.len(),
        time_column: TIME,
        time_min: rows.iter().map(|row| row.time).min().unwrap(),
        time_max: rows.iter().map(|row| row.time).max().unwrap(),
        series,
    })
}

/// All rows of a snapshot in order; checks what its batches say of themselves.
fn rows(snapshot: &TableSnapshot) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in &snapshot.batches {
        assert!(
            batch
                .columns
                .iter()
                .all(|(_, array)| array.len() == batch.row_count)
        );
        let times = batch
            .column(batch.time_column)
            .unwrap()
            .as_primitive::<TimestampNanosecondType>();
        assert_eq!(times.values().iter().min(), Some(&batch.time_min));
        assert_eq!(times.values().iter().max(), Some(&batch.time_max));
        let run_rows: u32 = batch.lsn_runs.iter().map(|(rows, _)| rows).sum();
        assert_eq!(run_rows as usize, batch.row_count);
        let lsns = || batch.lsn_runs.iter().map(|(_, lsn)| *lsn);
        assert!(lsns().is_sorted());
        assert_eq!(
            (lsns().next(), lsns().next_back()),
            (Some(batch.lsn_first), Some(batch.lsn_last))
        );
        for (id, array) in &batch.columns {
            assert!(
                array.logical_null_count() < array.len(),
                "column {id} is not absent"
            );
        }
        for row in 0..batch.row_count {
            let tag = |id: ColumnId| {
                let tags = batch.column(id)?.as_dictionary::<Int32Type>();
                Some(tags.values().as_string::<i32>().value(tags.key(row)?).to_owned())
            };
            let field = |id: ColumnId| {
                let fields = batch.column(id)?.as_primitive::<Float64Type>();
                fields.is_valid(row).then(|| fields.value(row))
            };
            rows.push(Row {
                time: times.value(row),
                tags: TAGS.map(tag),
                fields: FIELDS.map(field),
            });
        }
    }
    assert_eq!(rows.len(), snapshot.row_count);
    assert_eq!(
        snapshot
            .batches
            .iter()
            .map(|batch| batch.byte_size)
            .sum::<usize>(),
        snapshot.byte_size
    );
    assert!(snapshot.batches.is_sorted_by(|a, b| a.lsn_last < b.lsn_first));
    rows
}

fn is_late(snapshot: &TableSnapshot, time: i64) -> bool {
    snapshot
        .late
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&time))
}

fn any_row() -> impl Strategy<Value = Row> {
    let tag = || prop::option::of((0u8..3).prop_map(|number| format!("v{number}")));
    let field = || prop::option::of((0u8..100).prop_map(f64::from));
    (0i64..60, [tag(), tag()], [field(), field()]).prop_map(|(time, tags, fields)| Row { time, tags, fields })
}

/// Some rows late, some times far apart.
fn any_batches() -> impl Strategy<Value = Vec<Vec<Row>>> {
    let batch = (
        prop::collection::vec(any_row(), 1..12),
        0i64..4,
        prop::option::of(0i64..4),
    );
    prop::collection::vec(batch, 1..80).prop_map(|batches| {
        let mut start = 0;
        let mut shifted = Vec::new();
        for (mut rows, step, back) in batches {
            start += step * 40;
            let offset = back.map_or(start, |back| back * 40);
            for row in &mut rows {
                row.time += offset;
            }
            shifted.push(rows);
        }
        shifted
    })
}

proptest! {
    #[test]
    fn a_scan_is_the_applied_rows_in_order_and_duplicates_lie_in_late_windows(
        batches in any_batches(),
        merged_rows_max in prop_oneof![Just(8usize), Just(64), Just(100_000)],
        late_windows_max in 1usize..8,
        settle_every in 1usize..20,
    ) {
        let store = Store::new(StoreConfig { merged_rows_max, late_windows_max, ..StoreConfig::default() });
        let mut applied: Vec<Row> = Vec::new();
        for (position, rows_of_batch) in batches.iter().enumerate() {
            store.apply(position as u64 + 1, &batch(rows_of_batch));
            applied.extend_from_slice(rows_of_batch);
            if position % settle_every == 0 {
                store.settle();
            }
            // While merges are or are not under way.
            prop_assert_eq!(rows(&store.scan(TABLE)), &applied[..]);
        }
        store.settle();
        let snapshot = store.scan(TABLE);
        prop_assert_eq!(rows(&snapshot), &applied[..]);
        prop_assert!(snapshot.late.len() <= late_windows_max);

        let mut occurrences: BTreeMap<(&[Option<String>; 2], i64), usize> = BTreeMap::new();
        for row in &applied {
            *occurrences.entry((&row.tags, row.time)).or_default() += 1;
        }
        for ((tags, time), count) in occurrences {
            prop_assert!(count == 1 || is_late(&snapshot, time), "{tags:?} at {time} occurs {count} times");
        }
        let stats = store.stats();
        prop_assert_eq!(stats.bytes, store.total_bytes());
        prop_assert_eq!(stats.tables[0].batches, snapshot.batches.len());
        store.drop_table(TABLE);
        prop_assert_eq!(store.total_bytes(), 0);
    }
}

fn any_delete() -> impl Strategy<Value = RowDelete> {
    let condition = (0usize..2, any::<bool>(), prop::collection::vec(0u8..4, 1..3));
    let conditions = prop::collection::vec(condition, 0..3);
    (0i64..400, 0i64..200, conditions).prop_map(|(first, length, conditions)| RowDelete {
        lsn: 0,
        database: DatabaseId(1),
        table: TABLE,
        time_first: first,
        time_last: first + length,
        conditions: conditions
            .into_iter()
            .map(|(tag, negated, values)| TagCondition {
                column: TAGS[tag],
                negated,
                values: values.iter().map(|value| format!("v{value}").into()).collect(),
            })
            .collect(),
    })
}

fn is_removed(row: &Row, delete: &RowDelete) -> bool {
    let satisfied = |condition: &TagCondition| {
        let tag = TAGS.iter().position(|tag| *tag == condition.column).unwrap();
        let value = row.tags[tag].as_deref();
        value.is_some_and(|value| {
            condition.values.iter().any(|listed| **listed == *value) != condition.negated
        })
    };
    (delete.time_first..=delete.time_last).contains(&row.time) && delete.conditions.iter().all(satisfied)
}

proptest! {
    #[test]
    fn deletes_remove_what_was_there_before_them_whatever_is_merged(
        steps in prop::collection::vec((any_batches(), any_delete()), 1..5),
        merged_rows_max in prop_oneof![Just(8usize), Just(64), Just(100_000)],
        settles in any::<bool>(),
    ) {
        let store = Store::new(StoreConfig { merged_rows_max, ..StoreConfig::default() });
        let mut expected: Vec<Row> = Vec::new();
        let mut lsn = 0;
        for (batches, delete) in &steps {
            for rows_of_batch in batches {
                lsn += 1;
                store.apply(lsn, &batch(rows_of_batch));
                expected.extend_from_slice(rows_of_batch);
            }
            let before = store.scan(TABLE);
            let before_rows = expected.clone();
            lsn += 1;
            let delete = RowDelete { lsn, ..delete.clone() };
            store.apply_delete(&delete);
            expected.retain(|row| !is_removed(row, &delete));
            // While merges are or are not under way.
            prop_assert_eq!(rows(&store.scan(TABLE)), &expected[..]);
            prop_assert_eq!(rows(&before), &before_rows[..], "a snapshot never changes");
            if settles {
                store.settle();
            }
        }
        store.settle();
        let snapshot = store.scan(TABLE);
        prop_assert_eq!(rows(&snapshot), &expected[..]);
        prop_assert!(snapshot.deletes.is_empty(), "batches await no delete");
        prop_assert_eq!(store.stats().bytes, store.total_bytes());
        store.drop_table(TABLE);
        prop_assert_eq!(store.total_bytes(), 0);
    }
}

#[test]
fn a_delete_of_a_table_that_is_not_there_does_nothing() {
    let store = Store::new(StoreConfig::default());
    store.apply(1, &batch(&[row(1, "a")]));
    store.apply_delete(&RowDelete {
        lsn: 2,
        database: DatabaseId(1),
        table: TableId(99),
        time_first: i64::MIN,
        time_last: i64::MAX,
        conditions: Vec::new(),
    });
    assert_eq!(store.scan(TABLE).row_count, 1);
    assert_eq!(store.stats().tables.len(), 1);
}

fn row(time: i64, host: &str) -> Row {
    Row {
        time,
        tags: [Some(host.to_owned()), None],
        fields: [Some(1.0), None],
    }
}

#[test]
fn rows_in_time_order_are_never_late() {
    let store = Store::new(StoreConfig::default());
    for time in 0..50 {
        store.apply(time as u64 + 1, &batch(&[row(time, "a"), row(time, "b")]));
    }
    assert_eq!(store.scan(TABLE).late, []);
    store.apply(51, &batch(&[row(10, "a"), row(50, "b"), row(50, "c")]));
    assert_eq!(store.scan(TABLE).late, [(10, 10)]);
    store.apply(52, &batch(&[row(11, "a"), row(60, "a"), row(60, "a")]));
    assert_eq!(store.scan(TABLE).late, [(10, 11), (60, 60)]);
}

#[test]
fn single_rows_become_few_batches_with_distinct_dictionary_values() {
    let store = Store::new(StoreConfig::default());
    for time in 0..1000 {
        store.apply(
            time as u64 + 1,
            &batch(&[row(time, ["x", "y", "z"][time as usize % 3])]),
        );
    }
    store.settle();
    let snapshot = store.scan(TABLE);
    assert!(snapshot.batches.len() <= 18, "{} batches", snapshot.batches.len());
    let largest = snapshot
        .batches
        .iter()
        .max_by_key(|batch| batch.row_count)
        .unwrap();
    assert!(largest.row_count >= 256);
    let hosts = largest.column(TAGS[0]).unwrap().as_dictionary::<Int32Type>();
    assert_eq!(hosts.values().len(), 3);
    assert!(
        largest.column(TAGS[1]).is_none(),
        "a column that no row has is absent"
    );
    assert_eq!(snapshot.batches[0].lsn_first, 1);
    assert_eq!(snapshot.batches.last().unwrap().lsn_last, 1000);
}

/// Many commits at once, as in replay: the merger may come to the list only when all of them are there.
#[test]
fn a_merger_that_fell_behind_catches_up() {
    let store = Store::new(StoreConfig {
        merged_rows_max: 1000,
        ..StoreConfig::default()
    });
    let batches: Vec<Arc<TableBatch>> = (0..2000)
        .map(|number| batch(&[row(number * 2, "a"), row(number * 2 + 1, "b")]))
        .collect();
    for (position, batch) in batches.iter().enumerate() {
        store.apply(position as u64 + 1, batch);
    }
    store.settle();
    let snapshot = store.scan(TABLE);
    let small_count = snapshot
        .batches
        .iter()
        .filter(|batch| batch.row_count < 500)
        .count();
    assert!(small_count <= 20, "{small_count} small batches");
    assert!(snapshot.batches.iter().all(|batch| batch.row_count <= 1000));
    assert_eq!(rows(&snapshot).len(), 4000);
}

#[test]
fn a_snapshot_stays_and_a_dropped_table_starts_anew() {
    let store = Store::new(StoreConfig::default());
    assert_eq!(store.scan(TABLE).row_count, 0);
    for time in 0..10 {
        store.apply(time as u64 + 1, &batch(&[row(time, "a")]));
    }
    let snapshot = store.scan(TABLE);
    store.drop_table(TABLE);
    store.settle();
    assert_eq!(rows(&snapshot).len(), 10);
    assert_eq!(store.scan(TABLE).batches.len(), 0);
    assert_eq!((store.total_bytes(), store.stats().tables.len()), (0, 0));

    store.apply(11, &batch(&[row(0, "a")]));
    let snapshot = store.scan(TABLE);
    assert_eq!(
        (snapshot.row_count, snapshot.late.len()),
        (1, 0),
        "what was dropped is forgotten"
    );
}

#[test]
fn tables_are_independent() {
    let store = Store::new(StoreConfig::default());
    let mut other = TableBatch::clone(&batch(&[row(1, "a")]));
    other.table = TableId(8);
    store.apply(1, &batch(&[row(1, "a")]));
    store.apply(1, &Arc::new(other));
    let stats = store.stats();
    let tables: Vec<(TableId, usize)> = stats
        .tables
        .iter()
        .map(|table| (table.table, table.rows))
        .collect();
    assert_eq!(tables, [(TABLE, 1), (TableId(8), 1)]);
    assert!(store.scan(TABLE).late.is_empty() && store.scan(TableId(8)).late.is_empty());
    assert_eq!(stats.bytes, store.total_bytes());
}

/// One writer, one reader, merges beside them: every snapshot is a prefix of what was applied.
#[test]
fn readers_see_prefixes_while_the_writer_and_the_merger_work() {
    let store = Arc::new(Store::new(StoreConfig {
        merged_rows_max: 64,
        ..StoreConfig::default()
    }));
    let writer_store = Arc::clone(&store);
    let batch_count = 3000;
    let writer = std::thread::spawn(move || {
        for time in 0..batch_count {
            writer_store.apply(time as u64 + 1, &batch(&[row(time, "a")]));
        }
    });
    loop {
        let is_finished = writer.is_finished();
        let times: Vec<i64> = rows(&store.scan(TABLE)).iter().map(|row| row.time).collect();
        assert_eq!(times, (0..times.len() as i64).collect::<Vec<_>>());
        if is_finished {
            assert_eq!(times.len() as i64, batch_count);
            break;
        }
    }
    writer.join().unwrap();
}
