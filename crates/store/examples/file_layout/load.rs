//! The rows of the bench: hosts that report their CPU, ten tags and ten float fields, a row a host every 10 s.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, Int32Array, StringArray, TimestampNanosecondArray,
};
use arrow::datatypes::Int32Type;
use object_store::memory::InMemory;
use tidemill_catalog::{Catalog, Limits, Table};
use tidemill_lineproto::ColumnType;
use tidemill_store::StoredBatch;

const START_NS: i64 = 1_767_225_600_000_000_000;
const STEP_NS: i64 = 10_000_000_000;
const FIELDS: usize = 10;
/// Tags beside the host's name, with how many values each has.
const TAGS: [(&str, u32); 9] = [
    ("region", 8),
    ("datacenter", 24),
    ("rack", 100),
    ("os", 3),
    ("arch", 2),
    ("team", 4),
    ("service", 20),
    ("service_version", 2),
    ("service_environment", 3),
];
/// Values are walked in ten-thousandths, so that they have four decimals.
const VALUE_SCALE: u32 = 10_000;
const VALUE_MAX: u32 = 100 * VALUE_SCALE;
const VALUE_STEP_MAX: u32 = VALUE_SCALE;

pub(crate) async fn table() -> Arc<Table> {
    let catalog = Catalog::open(Arc::new(InMemory::new()), "node", Limits::default())
        .await
        .expect("a new catalog");
    let mut columns = vec![("hostname".to_owned(), ColumnType::Tag)];
    columns.extend(TAGS.iter().map(|(name, _)| ((*name).to_owned(), ColumnType::Tag)));
    columns.extend((0..FIELDS).map(|field| (format!("usage_{field}"), ColumnType::Float)));
    let created = catalog.transact(|transaction| {
        let database = transaction.create_database("db", None)?;
        transaction.create_table(database, "cpu", columns)
    });
    let id = created.await.expect("names are valid");
    Arc::clone(catalog.state().table_by_id(id).expect("it was created"))
}

/// Rows in order of time, as the buffer keeps them: `batch_rows` a batch, each of many commits of 5,000 rows.
pub(crate) fn batches(
    table: &Table,
    hosts: usize,
    row_count: usize,
    batch_rows: usize,
) -> Vec<Arc<StoredBatch>> {
    let mut random = Random(42);
    let tags: Vec<Vec<u32>> = (0..hosts)
        .map(|_| TAGS.iter().map(|(_, count)| random.below(*count)).collect())
        .collect();
    let mut values: Vec<[u32; FIELDS]> = (0..hosts)
        .map(|_| std::array::from_fn(|_| random.below(VALUE_MAX + 1)))
        .collect();
    let names: ArrayRef = Arc::new(
        (0..hosts)
            .map(|host| Some(format!("host_{host}")))
            .collect::<StringArray>(),
    );
    let mut batches = Vec::new();
    for start in (0..row_count).step_by(batch_rows) {
        let rows = start..(start + batch_rows).min(row_count);
        let mut floats: Vec<Vec<f64>> = std::iter::repeat_with(|| Vec::with_capacity(rows.len()))
            .take(FIELDS)
            .collect();
        for row in rows.clone() {
            for (value, floats) in values[row % hosts].iter_mut().zip(&mut floats) {
                let change = random.below(2 * VALUE_STEP_MAX + 1);
                *value = (*value + change).saturating_sub(VALUE_STEP_MAX).min(VALUE_MAX);
                floats.push(f64::from(*value) / f64::from(VALUE_SCALE));
            }
        }
        let times: Vec<i64> = rows
            .clone()
            .map(|row| START_NS + (row / hosts) as i64 * STEP_NS)
            .collect();
        let id = |name: &str| table.column(name).expect("the table has it").id;
        let host_keys: Int32Array = rows.clone().map(|row| (row % hosts) as i32).collect();
        let host_tag = DictionaryArray::<Int32Type>::new(host_keys, Arc::clone(&names));
        let mut columns: Vec<(_, ArrayRef)> = vec![(id("hostname"), Arc::new(host_tag))];
        for (position, (name, count)) in TAGS.iter().enumerate() {
            let texts: StringArray = (0..*count).map(|value| Some(format!("{name}_{value}"))).collect();
            let keys: Int32Array = rows
                .clone()
                .map(|row| tags[row % hosts][position] as i32)
                .collect();
            columns.push((
                id(name),
                Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(texts))),
            ));
        }
        for (field, floats) in floats.into_iter().enumerate() {
            columns.push((
                id(&format!("usage_{field}")),
                Arc::new(Float64Array::from(floats)),
            ));
        }
        let (time_min, time_max) = (times[0], times[times.len() - 1]);
        columns.push((id("time"), Arc::new(TimestampNanosecondArray::from(times))));
        let commits: Vec<u64> = rows
            .clone()
            .step_by(5000)
            .map(|row| 1 + row as u64 / 5000)
            .collect();
        let commit_rows = |position: usize| (rows.len() - position * 5000).min(5000) as u32;
        batches.push(Arc::new(StoredBatch {
            lsn_first: commits[0],
            lsn_last: commits[commits.len() - 1],
            lsn_runs: commits
                .iter()
                .enumerate()
                .map(|(position, lsn)| (commit_rows(position), *lsn))
                .collect(),
            row_count: rows.len(),
            columns,
            time_column: id("time"),
            time_min,
            time_max,
            byte_size: 0,
        }));
    }
    batches
}

/// `SplitMix64` (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        (((mixed >> 32) * u64::from(bound)) >> 32) as u32
    }
}
