//! Row deletes that files still await, as predicates on their rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, lit};
use datafusion::physical_plan::PhysicalExpr;
use datafusion::scalar::ScalarValue;
use tidemill_catalog::{ColumnId, Table};
use tidemill_store::{DataFile, RowDelete};

use crate::intervals::Interval;
use crate::time_filter::TIME_COLUMN;
use crate::time_shares::file_hull;

/// The deletes that some of the files in hand await.
pub(crate) struct PendingDeletes<'a> {
    table: &'a Table,
    deletes: Vec<&'a Arc<RowDelete>>,
}

/// Which of the deletes concern a file, by their number.
pub(crate) type DeleteSet = Vec<usize>;

impl<'a> PendingDeletes<'a> {
    /// Those of `deletes` that may hide rows of `range`.
    pub(crate) fn new(table: &'a Table, deletes: &'a [Arc<RowDelete>], range: Interval) -> Self {
        let deletes = deletes
            .iter()
            .filter(|delete| span(delete).and_then(|span| span.intersect(range)).is_some());
        Self {
            table,
            deletes: deletes.collect(),
        }
    }

    /// Whether nothing is left of a file: one delete takes all its time, whatever the tags.
    pub(crate) fn hide(&self, file: &DataFile) -> bool {
        let takes_all = |delete: &&&Arc<RowDelete>| {
            delete.conditions.is_empty() && span(delete).is_some_and(|span| span.covers(file_hull(file)))
        };
        let mut takers = self.deletes.iter().filter(takes_all);
        takers.any(|delete| delete.concerns(file))
    }

    /// The deletes that concern a file.
    pub(crate) fn set_of(&self, file: &DataFile) -> DeleteSet {
        let numbers = 0..self.deletes.len();
        numbers
            .filter(|number| self.deletes[*number].concerns(file))
            .collect()
    }

    /// Files by the set of deletes that concern them.
    pub(crate) fn group(&self, files: Vec<Arc<DataFile>>) -> BTreeMap<DeleteSet, Vec<Arc<DataFile>>> {
        let mut groups: BTreeMap<DeleteSet, Vec<Arc<DataFile>>> = BTreeMap::new();
        if self.deletes.is_empty() {
            if !files.is_empty() {
                groups.insert(Vec::new(), files);
            }
            return groups;
        }
        for file in files {
            groups.entry(self.set_of(&file)).or_default().push(file);
        }
        groups
    }

    /// The tags that conditions look at.
    pub(crate) fn columns(&self) -> impl Iterator<Item = ColumnId> {
        let conditions = self.deletes.iter().flat_map(|delete| &delete.conditions);
        conditions.map(|condition| condition.column)
    }

    /// For each delete what is true of the rows it leaves. `schema` has time and [`columns`](Self::columns).
    pub(crate) fn predicates(
        &self,
        schema: &DFSchema,
        session: &dyn Session,
    ) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        let predicates = self.deletes.iter().map(|delete| {
            let left = left_by(delete, self.table);
            session.create_physical_expr(left, schema)
        });
        predicates.collect()
    }
}

fn span(delete: &RowDelete) -> Option<Interval> {
    Interval::new(delete.time_first, delete.time_last)
}

/// True for the rows that a delete does not remove.
fn left_by(delete: &RowDelete, table: &Table) -> Expr {
    let column = |name: &str| Expr::Column(Column::new_unqualified(name));
    let instant = |time| lit(ScalarValue::TimestampNanosecond(Some(time), None));
    let mut is_removed = column(TIME_COLUMN).between(instant(delete.time_first), instant(delete.time_last));
    for condition in &delete.conditions {
        // A tag that the table does not have is absent from all rows, and such rows satisfy no condition.
        let satisfied = match table.column_by_id(condition.column) {
            Some(tag) => {
                let values = condition.values.iter().map(|value| lit(&**value)).collect();
                column(&tag.name).in_list(values, condition.negated)
            }
            None => lit(false),
        };
        is_removed = is_removed.and(satisfied);
    }
    // Not `NOT`: a condition on an absent tag is null, and such a row stays.
    is_removed.is_not_true()
}
