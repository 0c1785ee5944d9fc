//! A table, rows for it, and batches of them as the buffer keeps them.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, StringArray,
    TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::Int32Type;
use object_store::memory::InMemory;
use tidemill_catalog::{Catalog, ColumnId, Limits, Table};
use tidemill_lineproto::ColumnType;
use tidemill_store::StoredBatch;

pub(crate) const TAGS: [&str; 3] = ["host", "region", "rack"];

/// Columns in the order in which the table got them; the last three came later.
const COLUMNS: [(&str, ColumnType); 8] = [
    ("host", ColumnType::Tag),
    ("load", ColumnType::Float),
    ("count", ColumnType::Integer),
    ("region", ColumnType::Tag),
    ("note", ColumnType::String),
    ("rack", ColumnType::Tag),
    ("total", ColumnType::UInteger),
    ("up", ColumnType::Boolean),
];
const FIRST_COLUMNS: usize = 5;

/// A row as it was written.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) lsn: u64,
    pub(crate) tags: [Option<String>; 3],
    pub(crate) time: i64,
    pub(crate) fields: Fields,
}

/// The fields of a row; floats by their bits, so that NaN equals itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    pub(crate) load: Option<u64>,
    pub(crate) count: Option<i64>,
    pub(crate) total: Option<u64>,
    pub(crate) note: Option<String>,
    pub(crate) up: Option<bool>,
}

pub(crate) async fn table_with(columns: &[(&str, ColumnType)]) -> Arc<Table> {
    let catalog = Catalog::open(Arc::new(InMemory::new()), "node", Limits::default())
        .await
        .unwrap();
    let owned = |columns: &[(&str, ColumnType)]| {
        columns
            .iter()
            .map(|(name, kind)| ((*name).to_owned(), *kind))
            .collect()
    };
    let first = columns.len().min(FIRST_COLUMNS);
    let id = catalog
        .transact(|transaction| {
            let database = transaction.create_database("db", None)?;
            let table = transaction.create_table(database, "t", owned(&columns[..first]))?;
            transaction.add_columns(table, owned(&columns[first..]))?;
            Ok(table)
        })
        .await
        .unwrap();
    Arc::clone(catalog.state().table_by_id(id).unwrap())
}

pub(crate) async fn table() -> Arc<Table> {
    table_with(&COLUMNS).await
}

fn column_id(table: &Table, name: &str) -> ColumnId {
    table.column(name).unwrap().id
}

/// One batch of these rows. Columns that none of them has are left out. Dictionaries are as clumsy as they may be: a
/// value occurs twice, another is never used, and the key of an absent tag is out of range.
pub(crate) fn batch(table: &Table, rows: &[Row]) -> Arc<StoredBatch> {
    let mut columns: Vec<(ColumnId, ArrayRef)> = Vec::new();
    for (position, name) in TAGS.iter().enumerate() {
        if rows.iter().any(|row| row.tags[position].is_some()) {
            let tags = rows.iter().map(|row| row.tags[position].as_deref());
            columns.push((
                column_id(table, name),
                clumsy_dictionary(&tags.collect::<Vec<_>>()),
            ));
        }
    }
    let mut add_field = |name: &str, array: ArrayRef| {
        if array.null_count() < rows.len() {
            columns.push((column_id(table, name), array));
        }
    };
    let fields = || rows.iter().map(|row| &row.fields);
    let loads = fields().map(|fields| fields.load.map(f64::from_bits));
    add_field("load", Arc::new(loads.collect::<Float64Array>()));
    add_field(
        "count",
        Arc::new(fields().map(|fields| fields.count).collect::<Int64Array>()),
    );
    add_field(
        "total",
        Arc::new(fields().map(|fields| fields.total).collect::<UInt64Array>()),
    );
    add_field(
        "note",
        Arc::new(
            fields()
                .map(|fields| fields.note.clone())
                .collect::<StringArray>(),
        ),
    );
    add_field(
        "up",
        Arc::new(fields().map(|fields| fields.up).collect::<BooleanArray>()),
    );
    let times: Vec<i64> = rows.iter().map(|row| row.time).collect();
    let time_column = table.time_column().id;
    columns.push((
        time_column,
        Arc::new(TimestampNanosecondArray::from(times.clone())),
    ));

    let mut lsn_runs: Vec<(u32, u64)> = Vec::new();
    for row in rows {
        match lsn_runs.last_mut() {
            Some((count, lsn)) if *lsn == row.lsn => *count += 1,
            _ => lsn_runs.push((1, row.lsn)),
        }
    }
    Arc::new(StoredBatch {
        lsn_first: rows[0].lsn,
        lsn_last: rows[rows.len() - 1].lsn,
        lsn_runs,
        row_count: rows.len(),
        columns,
        time_column,
        time_min: *times.iter().min().unwrap(),
        time_max: *times.iter().max().unwrap(),
        byte_size: 0,
    })
}

fn clumsy_dictionary(tags: &[Option<&str>]) -> ArrayRef {
    let mut values: Vec<&str> = tags.iter().flatten().copied().collect();
    values.push("never used");
    values.dedup();
    let keys: Vec<i32> = tags
        .iter()
        .map(|tag| {
            let position = tag.map(|tag| values.iter().rposition(|value| *value == tag).unwrap());
            position.map_or(0, |position| position as i32)
        })
        .collect();
    let nulls = tags.iter().map(Option::is_some).collect();
    let keys = Int32Array::new(keys.into(), Some(nulls));
    let values: StringArray = values.into_iter().map(Some).collect();
    Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(values)))
}
