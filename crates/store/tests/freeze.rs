//! Rows that become files: every row is seen once, whenever and from wherever one looks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, DictionaryArray, TimestampNanosecondArray};
use arrow::datatypes::{Int32Type, TimestampNanosecondType};
use parking_lot::Mutex;
use proptest::prelude::*;
use tidemill_catalog::{ColumnId, DatabaseId, TableId};
use tidemill_store::{
    DataFile, Effort, FileId, Frozen, RowDelete, SeriesOfRows, Store, StoreConfig, StoredBatch, TableBatch,
    TableSnapshot,
};

const TABLE: TableId = TableId(7);
const TIME: ColumnId = ColumnId(0);
const HOST: ColumnId = ColumnId(1);

/// Host and time.
type Row = (u8, i64);

fn batch(rows: &[Row]) -> Arc<TableBatch> {
    let times: TimestampNanosecondArray = rows.iter().map(|(_, time)| Some(*time)).collect();
    let names: Vec<String> = rows.iter().map(|(host, _)| host.to_string()).collect();
    let hosts: DictionaryArray<Int32Type> = names.iter().map(|name| Some(name.as_str())).collect();
    let hosts: ArrayRef = Arc::new(hosts);
    let (mut first_rows, mut numbers) = (Vec::new(), BTreeMap::new());
    let tag_sets = rows.iter().enumerate().map(|(position, (host, _))| {
        let next = numbers.len() as u32;
        *numbers.entry(*host).or_insert_with(|| {
            first_rows.push(position as u32);
            next
        })
    });
    let tag_set_of_row = tag_sets.collect();
    Arc::new(TableBatch {
        table: TABLE,
        row_count: rows.len(),
        time_column: TIME,
        time_min: rows.iter().map(|(_, time)| *time).min().unwrap(),
        time_max: rows.iter().map(|(_, time)| *time).max().unwrap(),
        series: SeriesOfRows::compute(&[(HOST, &hosts)], tag_set_of_row, &first_rows),
        columns: vec![(HOST, hosts), (TIME, Arc::new(times))],
    })
}

fn rows_of_batches(batches: &[Arc<StoredBatch>]) -> Vec<Row> {
    let rows = batches.iter().flat_map(|batch| {
        assert_eq!(
            batch
                .lsn_runs
                .iter()
                .map(|(rows, _)| *rows as usize)
                .sum::<usize>(),
            batch.row_count
        );
        assert!(batch.lsn_runs.is_sorted_by_key(|(_, lsn)| *lsn));
        let times = batch
            .column(TIME)
            .unwrap()
            .as_primitive::<TimestampNanosecondType>();
        let hosts = batch.column(HOST).unwrap().as_dictionary::<Int32Type>();
        let names = hosts.values().as_string::<i32>();
        (0..batch.row_count).map(move |row| {
            let host = names.value(hosts.key(row).unwrap()).parse().unwrap();
            (host, times.value(row))
        })
    });
    rows.collect()
}

/// What is in files, which here are lists of rows.
#[derive(Default)]
struct Files {
    rows: BTreeMap<FileId, Vec<Row>>,
}

impl Files {
    fn write(&mut self, lsn_first: u64, lsn_last: u64, rows: Vec<Row>) -> Arc<DataFile> {
        let id = FileId(self.rows.len() as u64 + 1);
        let file = DataFile {
            id,
            database: DatabaseId(1),
            table: TABLE,
            path: id.to_string().into(),
            byte_size: 0,
            checksum: 0,
            row_count: rows.len() as u64,
            time_min: rows.iter().map(|(_, time)| *time).min().unwrap(),
            time_max: rows.iter().map(|(_, time)| *time).max().unwrap(),
            lsn_first,
            lsn_last,
            deletes_through: lsn_last,
            effort: Effort::High,
            tail: None,
        };
        self.rows.insert(id, rows);
        Arc::new(file)
    }

    fn of_frozen(&mut self, frozen: &Frozen) -> HashMap<TableId, Vec<Arc<DataFile>>> {
        let tables = frozen.tables.iter().map(|table| {
            let (first, last) = (&table.batches[0], table.batches.last().unwrap());
            assert!(last.lsn_last <= frozen.lsn);
            let rows = rows_of_batches(&table.batches);
            assert_eq!(rows.len(), table.row_count);
            (
                table.table,
                vec![self.write(first.lsn_first, last.lsn_last, rows)],
            )
        });
        tables.collect()
    }

    /// All rows of a snapshot, which are in log order.
    fn rows(&self, snapshot: &TableSnapshot) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for file in &*snapshot.files {
            rows.extend(&self.rows[&file.id]);
        }
        let buffered = rows_of_batches(&snapshot.batches);
        assert_eq!(buffered.len(), snapshot.row_count);
        rows.extend(buffered);
        rows
    }
}

#[derive(Debug, Clone)]
enum Step {
    Apply(Vec<Row>),
    Settle,
    Freeze,
    Install,
    Thaw,
    /// The two newest files become one.
    Compact,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop::collection::vec((0u8..4, 0i64..40), 1..8).prop_map(Step::Apply),
        2 => Just(Step::Settle),
        2 => Just(Step::Freeze),
        2 => Just(Step::Install),
        1 => Just(Step::Thaw),
        1 => Just(Step::Compact),
    ]
}

fn duplicates(rows: &[Row]) -> BTreeSet<Row> {
    let mut seen = BTreeSet::new();
    rows.iter().copied().filter(|row| !seen.insert(*row)).collect()
}

proptest! {
    #[test]
    fn a_snapshot_has_every_row_once_in_log_order(
        steps in prop::collection::vec(any_step(), 1..120),
        merged_rows_max in prop_oneof![Just(8usize), Just(64)],
    ) {
        let store = Store::new(StoreConfig { merged_rows_max, ..StoreConfig::default() });
        let (mut files, mut applied, mut lsn) = (Files::default(), Vec::<Row>::new(), 0);
        let mut frozen: Option<Frozen> = None;
        let mut behind_mark = Vec::<Row>::new();
        for step in steps {
            match step {
                Step::Apply(rows) => {
                    lsn += 1;
                    store.apply(lsn, &batch(&rows));
                    applied.extend(&rows);
                    behind_mark.extend(&rows);
                }
                Step::Settle => store.settle(),
                Step::Freeze if frozen.is_none() => {
                    frozen = Some(store.freeze(lsn));
                    behind_mark.clear();
                }
                Step::Install => if let Some(frozen) = frozen.take() {
                    store.install_snapshot(&files.of_frozen(&frozen));
                    let snapshot = store.scan(TABLE);
                    prop_assert_eq!(&rows_of_batches(&snapshot.batches), &behind_mark);
                    let series: BTreeSet<u8> = behind_mark.iter().map(|(host, _)| *host).collect();
                    let known = store.stats().tables.first().map_or(0, |table| table.series);
                    prop_assert_eq!(known, series.len(), "series of rows that are in files are forgotten");
                },
                Step::Thaw => if frozen.take().is_some() {
                    store.thaw();
                },
                Step::Compact => {
                    let snapshot = store.scan(TABLE);
                    if let [.., first, second] = &*snapshot.files {
                        let rows = [&files.rows[&first.id][..], &files.rows[&second.id]].concat();
                        let merged = files.write(first.lsn_first, second.lsn_last, rows);
                        store.install(TABLE, &[first.id, second.id], &[merged]);
                    }
                }
                Step::Freeze => {}
            }
            let snapshot = store.scan(TABLE);
            prop_assert_eq!(&files.rows(&snapshot), &applied);
            for (host, time) in duplicates(&rows_of_batches(&snapshot.batches)) {
                let is_late = snapshot.late.iter().any(|(first, last)| (*first..=*last).contains(&time));
                prop_assert!(is_late, "{} at {} is in the buffer twice", host, time);
            }
            prop_assert_eq!(store.stats().bytes, store.total_bytes());
        }
        store.settle();
        prop_assert_eq!(&files.rows(&store.scan(TABLE)), &applied);
    }
}

/// A writer, a merger, one who makes files, and a reader, all at once: every look is at a prefix of what was written.
#[test]
fn readers_see_prefixes_while_rows_become_files() {
    const COUNT: i64 = 4000;
    let store = Store::new(StoreConfig {
        merged_rows_max: 64,
        ..StoreConfig::default()
    });
    let files = Mutex::new(Files::default());
    // Held while a commit is applied, and while the mark is set.
    let published = Mutex::new(0_u64);
    std::thread::scope(|scope| {
        let (files, published) = (&files, &published);
        let store = &store;
        let writer = scope.spawn(move || {
            for time in 0..COUNT {
                let mut lsn = published.lock();
                *lsn += 1;
                store.apply(*lsn, &batch(&[(1, time)]));
            }
        });
        let snapshots = scope.spawn(move || {
            let mut count = 0;
            loop {
                let is_finished = writer.is_finished();
                let frozen = {
                    let lsn = published.lock();
                    store.freeze(*lsn)
                };
                let written = files.lock().of_frozen(&frozen);
                if count % 3 == 1 {
                    store.thaw();
                } else {
                    store.install_snapshot(&written);
                }
                count += 1;
                if is_finished && !store.has_rows() {
                    return count;
                }
            }
        });
        loop {
            let is_finished = snapshots.is_finished();
            let snapshot = store.scan(TABLE);
            let rows = files.lock().rows(&snapshot);
            let expected: Vec<Row> = (0..rows.len() as i64).map(|time| (1, time)).collect();
            assert_eq!(rows, expected);
            if is_finished {
                assert_eq!(rows.len() as i64, COUNT);
                break;
            }
        }
        assert!(snapshots.join().unwrap() > 1);
    });
    assert_eq!(store.scan(TABLE).batches.len(), 0);
}

fn delete(lsn: u64, time_first: i64, time_last: i64) -> Arc<RowDelete> {
    Arc::new(RowDelete {
        lsn,
        database: DatabaseId(1),
        table: TABLE,
        time_first,
        time_last,
        conditions: Vec::new(),
    })
}

fn awaited(store: &Store) -> Vec<u64> {
    store
        .scan(TABLE)
        .deletes
        .iter()
        .map(|delete| delete.lsn)
        .collect()
}

#[test]
fn a_delete_is_awaited_by_the_files_that_were_made_from_rows_before_it() {
    let store = Store::new(StoreConfig::default());
    let mut files = Files::default();
    store.apply(1, &batch(&[(1, 10)]));
    // No file, none being made: what the buffer holds is deleted at once, by others.
    store.await_delete(&delete(2, 0, 100));
    assert!(awaited(&store).is_empty());

    let frozen = store.freeze(2);
    store.await_delete(&delete(3, 0, 100));
    store.await_delete(&delete(4, 50, 100));
    assert_eq!(
        awaited(&store),
        [3, 4],
        "a file that is being made has yet to be seen"
    );
    store.install_snapshot(&files.of_frozen(&frozen));
    assert_eq!(
        awaited(&store),
        [3],
        "the file has no rows of the time of the other"
    );

    store.apply(5, &batch(&[(1, 20)]));
    let frozen = store.freeze(5);
    assert_eq!(
        frozen.deletes.iter().map(|delete| delete.lsn).collect::<Vec<_>>(),
        [3]
    );
    store.install_snapshot(&files.of_frozen(&frozen));
    assert_eq!(awaited(&store), [3]);
    let snapshot = store.scan(TABLE);
    let first = Arc::clone(&snapshot.files[0]);
    let applied = DataFile {
        id: FileId(99),
        deletes_through: 3,
        ..DataFile::clone(&first)
    };
    store.install(TABLE, &[first.id], &[Arc::new(applied)]);
    assert!(awaited(&store).is_empty());
}

#[test]
fn a_table_that_is_dropped_while_its_files_are_made_stays_dropped() {
    let store = Store::new(StoreConfig::default());
    let mut files = Files::default();
    store.apply(1, &batch(&[(1, 10)]));
    let frozen = store.freeze(1);
    store.drop_table(TABLE);
    let written = files.of_frozen(&frozen);
    store.install_snapshot(&written);
    assert!(store.scan(TABLE).files.is_empty());
    assert_eq!(store.total_bytes(), 0);
}

#[test]
fn rows_that_are_deleted_while_they_become_files_are_gone_before_and_after_that() {
    let store = Store::new(StoreConfig::default());
    let mut files = Files::default();
    store.apply(1, &batch(&[(1, 10)]));
    store.apply(2, &batch(&[(1, 20), (1, 30)]));
    let frozen = store.freeze(2);
    store.apply(3, &batch(&[(1, 11)]));
    let times = || -> Vec<i64> {
        let snapshot = store.scan(TABLE);
        let batches = snapshot.batches.iter();
        batches.flat_map(|batch| batch.times().to_vec()).collect()
    };
    // All of one frozen batch, one row of the other, and what came after the mark.
    store.apply_delete(&delete(4, 0, 25));
    assert_eq!(times(), [30]);
    store.apply(5, &batch(&[(1, 12)]));
    assert_eq!(times(), [30, 12]);
    store.install_snapshot(&files.of_frozen(&frozen));
    assert_eq!(times(), [12]);
    assert_eq!(
        awaited(&store),
        [4],
        "the file has the rows as they were at the mark"
    );
    assert_eq!(store.stats().bytes, store.total_bytes());
}
