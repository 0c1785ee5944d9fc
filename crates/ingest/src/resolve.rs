//! From parsed columns to table batches: names become catalog ids, types are checked, rows that do not fit are taken out.
//!
//! A row is judged in the order of the lines: the first accepted line that names a column fixes its type, as if the lines
//! had come one by one. That walk costs time, so it is only taken for a table whose columns do not all fit as they are.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::{cast, filter};
use arrow::datatypes::{DataType, TimestampNanosecondType};
use tidemill_catalog::{CatalogError, CatalogState, ColumnId, Database, Limits, Table, Transaction};
use tidemill_lineproto::{ColumnType, ParsedTable};
use tidemill_store::{SeriesOfRows, TableBatch};

use crate::rejections::Rejections;

/// What the parsed tables of one database need from the catalog, and which rows it refuses.
#[derive(Debug)]
pub(crate) struct Resolution {
    tables: Vec<TableResolution>,
    database_exists: bool,
    pub(crate) rejections: Rejections,
}

#[derive(Debug)]
struct TableResolution {
    /// Rows to keep; `None` is all of them.
    keep: Option<BooleanArray>,
    kept_rows: usize,
    table_exists: bool,
    new_columns: Vec<(String, ColumnType)>,
}

impl Resolution {
    /// Holds the tables against the schema as it is in `state`.
    pub(crate) fn new(state: &CatalogState, limits: &Limits, database: &str, tables: &[ParsedTable]) -> Self {
        let database = state.database(database);
        let find = |parsed: &ParsedTable| database.and_then(|database| database.table(&parsed.name));
        // Counting takes its time, and most requests make no table.
        let makes_tables = tables.iter().any(|parsed| find(parsed).is_none());
        let mut table_count = if makes_tables {
            database.map_or(0, live_tables)
        } else {
            0
        };
        let mut rejections = Rejections::default();
        let tables = tables
            .iter()
            .map(|parsed| {
                let table = find(parsed);
                if let Some(message) = refusal_of_table(table, table_count, limits) {
                    return reject_table(parsed, &message, &mut rejections);
                }
                let resolution = resolve_table(table, limits.columns_max(), parsed, &mut rejections);
                table_count += usize::from(table.is_none() && resolution.kept_rows > 0);
                resolution
            })
            .collect();
        Self {
            tables,
            database_exists: database.is_some(),
            rejections,
        }
    }

    /// Rows that are kept, over all tables.
    pub(crate) fn kept_rows(&self) -> usize {
        self.tables.iter().map(|table| table.kept_rows).sum()
    }

    /// Whether the kept rows need a database, table or column that is not there.
    pub(crate) fn changes_schema(&self) -> bool {
        let needs = |table: &TableResolution| {
            table.kept_rows > 0 && (!table.table_exists || !table.new_columns.is_empty())
        };
        self.kept_rows() > 0 && (!self.database_exists || self.tables.iter().any(needs))
    }

    /// Makes what is missing, inside the transaction whose state this was resolved against.
    pub(crate) fn apply(
        &self,
        transaction: &mut Transaction,
        database: &str,
        tables: &[ParsedTable],
    ) -> Result<(), CatalogError> {
        let database_id = match transaction.state().database(database) {
            Some(database) => database.id,
            None => transaction.create_database(database, None)?,
        };
        for (parsed, resolution) in tables
            .iter()
            .zip(&self.tables)
            .filter(|(_, resolution)| resolution.kept_rows > 0)
        {
            if !resolution.table_exists {
                transaction.create_table(database_id, &parsed.name, resolution.new_columns.clone())?;
            } else if !resolution.new_columns.is_empty() {
                let table = transaction
                    .state()
                    .database(database)
                    .and_then(|database| database.table(&parsed.name));
                let table = table
                    .map(|table| table.id)
                    .ok_or_else(|| CatalogError::NotFound(parsed.name.clone()))?;
                transaction.add_columns(table, resolution.new_columns.clone())?;
            }
        }
        Ok(())
    }

    /// The kept rows as batches of the schema that now has all they need.
    pub(crate) fn batches(
        &self,
        database: &Database,
        tables: Vec<ParsedTable>,
    ) -> Result<Vec<Arc<TableBatch>>, CatalogError> {
        let kept = tables
            .into_iter()
            .zip(&self.tables)
            .filter(|(_, resolution)| resolution.kept_rows > 0);
        kept.map(|(parsed, resolution)| {
            let table = database
                .table(&parsed.name)
                .ok_or_else(|| CatalogError::NotFound(parsed.name.clone()))?;
            table_batch(table, parsed, resolution).map(Arc::new)
        })
        .collect()
    }
}

fn live_tables(database: &Arc<Database>) -> usize {
    database.tables().filter(|table| table.deleted.is_none()).count()
}

/// Why no row can go into a table, whatever its columns are.
fn refusal_of_table(table: Option<&Arc<Table>>, table_count: usize, limits: &Limits) -> Option<String> {
    let limit = limits.tables_per_database_max;
    match table {
        // Found under the name that the deletion gave it: what is written there would be answered and never seen again.
        Some(table) if table.deleted.is_some() => Some(format!(
            "cannot write to soft-deleted table '{}' - it is marked for deletion",
            table.name
        )),
        None if table_count >= limit => {
            let existing = table_count;
            Some(CatalogError::TooManyTables { existing, limit }.to_string())
        }
        _ => None,
    }
}

fn reject_table(parsed: &ParsedTable, message: &str, rejections: &mut Rejections) -> TableResolution {
    for &line_number in &parsed.line_numbers {
        rejections.add(line_number, || message.to_owned());
    }
    TableResolution {
        keep: None,
        kept_rows: 0,
        table_exists: false,
        new_columns: Vec::new(),
    }
}

fn resolve_table(
    table: Option<&Arc<Table>>,
    columns_max: usize,
    parsed: &ParsedTable,
    rejections: &mut Rejections,
) -> TableResolution {
    let existing = |name: &str| {
        table
            .and_then(|table| table.column(name))
            .map(|column| column.column_type)
    };
    // `time` is not counted.
    let existing_count = table.map_or(0, |table| table.columns.len() - 1);
    let columns: Vec<_> = parsed
        .columns
        .iter()
        .filter(|column| column.column_type != ColumnType::Time)
        .collect();

    let mut new_columns: Vec<(String, ColumnType)> = Vec::new();
    let mut fits = true;
    for column in &columns {
        match existing(&column.name) {
            Some(column_type) => fits &= column_type == column.column_type,
            None => new_columns.push((column.name.clone(), column.column_type)),
        }
    }
    // Twice the same known name cannot fit twice; twice the same new name must not either.
    if new_columns.len() > 1 {
        let mut names: Vec<&str> = new_columns.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        fits &= names.windows(2).all(|pair| pair[0] != pair[1]);
    }
    // A table may have more columns than a limit that was lowered later; only new ones are refused.
    fits &= new_columns.is_empty() || existing_count + new_columns.len() <= columns_max;
    if fits {
        return TableResolution {
            keep: None,
            kept_rows: parsed.row_count,
            table_exists: table.is_some(),
            new_columns,
        };
    }

    let mut accepted_new: Vec<(String, ColumnType)> = Vec::new();
    let mut type_of_new: HashMap<&str, ColumnType> = HashMap::new();
    let mut keep = Vec::with_capacity(parsed.row_count);
    for row in 0..parsed.row_count {
        let mut new_in_row: Vec<(&str, ColumnType)> = Vec::new();
        let mut refusal = None;
        for column in columns.iter().filter(|column| column.array.is_valid(row)) {
            match existing(&column.name).or_else(|| type_of_new.get(column.name.as_str()).copied()) {
                Some(expected) if expected == column.column_type => {}
                Some(expected) => {
                    let column_name = column.name.clone();
                    let got = column.column_type;
                    refusal = Some(CatalogError::ColumnTypeConflict {
                        column: column_name,
                        expected,
                        got,
                    });
                    break;
                }
                None => new_in_row.push((&column.name, column.column_type)),
            }
        }
        let column_count = existing_count + accepted_new.len() + new_in_row.len();
        if refusal.is_none() && !new_in_row.is_empty() && column_count > columns_max {
            refusal = Some(CatalogError::TooManyColumns { limit: columns_max });
        }
        keep.push(refusal.is_none());
        match refusal {
            Some(refusal) => rejections.add(parsed.line_numbers[row], || refusal.to_string()),
            None => {
                for (name, column_type) in new_in_row {
                    type_of_new.insert(name, column_type);
                    accepted_new.push((name.to_owned(), column_type));
                }
            }
        }
    }
    let kept_rows = keep.iter().filter(|keep| **keep).count();
    TableResolution {
        keep: (kept_rows < parsed.row_count).then(|| BooleanArray::from(keep)),
        kept_rows,
        table_exists: table.is_some(),
        new_columns: accepted_new,
    }
}

fn table_batch(
    table: &Table,
    parsed: ParsedTable,
    resolution: &TableResolution,
) -> Result<TableBatch, CatalogError> {
    let missing = |name: &str| CatalogError::NotFound(format!("{}.{name}", table.name));
    let mut columns: Vec<(ColumnId, ArrayRef)> = Vec::with_capacity(parsed.columns.len());
    let mut time_column = None;
    for parsed_column in &parsed.columns {
        let array = match &resolution.keep {
            None => Arc::clone(&parsed_column.array),
            Some(keep) => kept_values(&parsed_column.array, keep),
        };
        if array.null_count() == array.len() {
            continue;
        }
        let column = table
            .column(&parsed_column.name)
            .ok_or_else(|| missing(&parsed_column.name))?;
        assert_eq!(
            column.column_type, parsed_column.column_type,
            "rows of another type were taken out"
        );
        if column.column_type == ColumnType::Time {
            time_column = Some(column.id);
        }
        columns.push((column.id, array));
    }
    let time_column = time_column.ok_or_else(|| missing("time"))?;

    let (tag_set_of_row, first_rows, time_min, time_max) = match &resolution.keep {
        None => (
            parsed.tag_set_of_row,
            parsed.tag_set_first_row,
            parsed.time_min,
            parsed.time_max,
        ),
        Some(keep) => {
            let (tag_set_of_row, first_rows) = renumber_tag_sets(&parsed.tag_set_of_row, keep);
            let times = columns
                .last()
                .expect("time is the last column")
                .1
                .as_primitive::<TimestampNanosecondType>()
                .values();
            let time_min = times.iter().copied().min().expect("a batch has a row");
            let time_max = times.iter().copied().max().expect("a batch has a row");
            (tag_set_of_row, first_rows, time_min, time_max)
        }
    };
    let tag_columns: Vec<(ColumnId, &ArrayRef)> = columns
        .iter()
        .filter(|(_, array)| matches!(array.data_type(), DataType::Dictionary(_, _)))
        .map(|(id, array)| (*id, array))
        .collect();
    let series = SeriesOfRows::compute(&tag_columns, tag_set_of_row, &first_rows);
    let row_count = resolution.kept_rows;
    Ok(TableBatch {
        table: table.id,
        columns,
        row_count,
        time_column,
        time_min,
        time_max,
        series,
    })
}

/// The values of the kept rows. A dictionary is made anew: a value that only rejected rows have must not stay behind.
fn kept_values(array: &ArrayRef, keep: &BooleanArray) -> ArrayRef {
    let kept = filter(array, keep).expect("mask and column have one length");
    match kept.data_type() {
        DataType::Dictionary(_, values) => {
            let texts = cast(&kept, values).expect("a dictionary can be written out");
            cast(&texts, kept.data_type()).expect("texts make a dictionary")
        }
        _ => kept,
    }
}

/// The tag sets of the kept rows, numbered anew without gaps, and the first row of each.
fn renumber_tag_sets(tag_set_of_row: &[u32], keep: &BooleanArray) -> (Vec<u32>, Vec<u32>) {
    let mut new_number: HashMap<u32, u32> = HashMap::new();
    let mut renumbered = Vec::new();
    let mut first_rows = Vec::new();
    for (_, old) in tag_set_of_row
        .iter()
        .enumerate()
        .filter(|(row, _)| keep.value(*row))
    {
        let number = *new_number.entry(*old).or_insert_with(|| {
            first_rows.push(renumbered.len() as u32);
            first_rows.len() as u32 - 1
        });
        renumbered.push(number);
    }
    (renumbered, first_rows)
}
