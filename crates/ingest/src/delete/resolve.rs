//! Names to ids, with everything refused that would delete other rows than were meant.

use std::sync::Arc;

use tidemill_catalog::{CatalogError, CatalogState, Database, TIME_COLUMN, Table};
use tidemill_lineproto::ColumnType;
use tidemill_store::TagCondition;

use super::instant::parse_instant;
use super::predicate::{Condition, Operator, Test, Value, parse};
use super::request::{DeleteError, DeleteRequest};
use crate::record::DeletedRows;

/// The name that tables have in the older interface.
const MEASUREMENT: &str = "_measurement";

/// What the request deletes, table by table.
pub(super) fn resolve(
    request: &DeleteRequest,
    state: &CatalogState,
) -> Result<Vec<DeletedRows>, DeleteError> {
    let database = state
        .database(&request.database)
        .ok_or_else(|| CatalogError::NotFound(request.database.clone()))?;
    database.check_writable()?;
    let mut predicate = Predicate::new(request)?;
    let tables = match &request.table {
        Some(name) => vec![live_table(database, name)?],
        None => predicate.take_tables(database),
    };
    if predicate.time_first > predicate.time_last {
        return Err(DeleteError::EmptySpan);
    }
    predicate.check_columns(&tables)?;
    let deletes = tables.into_iter().filter_map(|table| {
        Some(DeletedRows {
            database: database.id,
            table: table.id,
            time_first: predicate.time_first,
            time_last: predicate.time_last,
            conditions: predicate.conditions_on(table)?,
        })
    });
    Ok(deletes.collect())
}

fn live_table<'a>(database: &'a Database, name: &str) -> Result<&'a Arc<Table>, DeleteError> {
    let table = database.table(name).filter(|table| table.deleted.is_none());
    let not_found = || CatalogError::TableNotFound {
        database: database.name.to_string(),
        table: name.to_owned(),
    };
    Ok(table.ok_or_else(not_found)?)
}

/// A predicate whose columns are still names.
struct Predicate {
    time_first: i64,
    time_last: i64,
    on_tags: Vec<OnTag>,
}

struct OnTag {
    column: String,
    negated: bool,
    values: Vec<Arc<str>>,
}

impl OnTag {
    /// As of a text that is always there.
    fn is_satisfied_by(&self, text: &str) -> bool {
        self.values.iter().any(|value| **value == *text) != self.negated
    }
}

impl Predicate {
    fn new(request: &DeleteRequest) -> Result<Self, DeleteError> {
        let mut predicate = Self {
            time_first: request.start_ns.unwrap_or(i64::MIN),
            time_last: request.stop_ns.unwrap_or(i64::MAX),
            on_tags: Vec::new(),
        };
        for Condition { column, test } in parse(&request.predicate)? {
            if column == TIME_COLUMN {
                predicate.narrow_time(&test)?;
            } else {
                predicate.on_tags.push(on_tag(column, test)?);
            }
        }
        Ok(predicate)
    }

    fn narrow_time(&mut self, test: &Test) -> Result<(), DeleteError> {
        let Test::Compare(operator, value) = test else {
            let text = "time is compared with =, <, <=, > or >=, not with a list";
            return Err(DeleteError::Comparison(text.to_owned()));
        };
        let instant = match value {
            Value::Text(text) => parse_instant(text)?,
            Value::Integer(nanoseconds) => *nanoseconds,
        };
        // Beyond the last instant there is none: the span is empty then.
        let after = instant.checked_add(1).ok_or(DeleteError::EmptySpan);
        let before = instant.checked_sub(1).ok_or(DeleteError::EmptySpan);
        let (first, last) = match operator {
            Operator::Equal => (instant, instant),
            Operator::Less => (i64::MIN, before?),
            Operator::LessOrEqual => (i64::MIN, instant),
            Operator::Greater => (after?, i64::MAX),
            Operator::GreaterOrEqual => (instant, i64::MAX),
            Operator::NotEqual => {
                let text = "time is compared with =, <, <=, > or >=, not with !=";
                return Err(DeleteError::Comparison(text.to_owned()));
            }
        };
        self.time_first = self.time_first.max(first);
        self.time_last = self.time_last.min(last);
        Ok(())
    }

    /// The tables whose names satisfy the conditions on them, which are taken out.
    fn take_tables<'a>(&mut self, database: &'a Database) -> Vec<&'a Arc<Table>> {
        let is_on_name = |condition: &OnTag| condition.column == MEASUREMENT;
        let (on_name, on_tags) = std::mem::take(&mut self.on_tags)
            .into_iter()
            .partition::<Vec<_>, _>(is_on_name);
        self.on_tags = on_tags;
        let is_meant = |table: &&Arc<Table>| {
            table.deleted.is_none()
                && on_name
                    .iter()
                    .all(|condition| condition.is_satisfied_by(&table.name))
        };
        database.tables().filter(is_meant).collect()
    }

    /// Refuses conditions on fields, and on columns that none of the tables has.
    fn check_columns(&self, tables: &[&Arc<Table>]) -> Result<(), DeleteError> {
        for condition in &self.on_tags {
            let mut is_known = tables.is_empty();
            for table in tables {
                let Some(column) = table.column(&condition.column) else {
                    continue;
                };
                if column.column_type != ColumnType::Tag {
                    return Err(DeleteError::Field {
                        column: condition.column.clone(),
                        table: table.name.to_string(),
                    });
                }
                is_known = true;
            }
            if !is_known {
                let place = match tables {
                    [table] => format!("table '{}'", table.name),
                    _ => "any of the tables".to_owned(),
                };
                return Err(DeleteError::UnknownColumn {
                    column: condition.column.clone(),
                    place,
                });
            }
        }
        Ok(())
    }

    /// The conditions with the ids of a table; `None` where it has not all of the tags, so that no row satisfies them.
    fn conditions_on(&self, table: &Table) -> Option<Vec<TagCondition>> {
        let with_id = |condition: &OnTag| {
            Some(TagCondition {
                column: table.column(&condition.column)?.id,
                negated: condition.negated,
                values: condition.values.clone(),
            })
        };
        self.on_tags.iter().map(with_id).collect()
    }
}

fn on_tag(column: String, test: Test) -> Result<OnTag, DeleteError> {
    let (negated, values) = match test {
        Test::Compare(Operator::Equal, value) => (false, vec![value]),
        Test::Compare(Operator::NotEqual, value) => (true, vec![value]),
        Test::Compare(..) => {
            return Err(DeleteError::Comparison(format!(
                "'{column}' is compared with =, !=, IN or NOT IN: only time has an order here"
            )));
        }
        Test::In { negated, values } => (negated, values),
    };
    let text_of = |value: Value| match value {
        Value::Text(text) => Ok(Arc::from(text)),
        Value::Integer(number) => Err(DeleteError::Comparison(format!(
            "'{column}' is compared with {number}: values of tags are texts and stand in quotes"
        ))),
    };
    let values = values.into_iter().map(text_of).collect::<Result<_, _>>()?;
    Ok(OnTag {
        column,
        negated,
        values,
    })
}
