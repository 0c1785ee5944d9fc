//! Tables of the schema `system`: rows that describe the server, made when they are asked for.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{AsArray, RecordBatch, UInt64Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit, TimestampNanosecondType};
use datafusion::arrow::error::ArrowError;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use crate::intervals::Interval;
use crate::key_filter::is_row_predicate;
use crate::row_filter::RowFilter;
use crate::system_scan::SystemScanExec;
use crate::time_filter::time_bounds_of;

/// The rows of a system table: batches that are made as they are asked for, or why they cannot be given, in words for
/// the user.
pub type SystemRows = BoxStream<'static, Result<RecordBatch, String>>;

/// A source of system tables.
pub trait SystemTables: Send + Sync {
    /// The tables that this source has in `database`: names without the schema, and their columns. One whose first column
    /// is a timestamp in nanoseconds without nulls is a table *in the order of time*.
    fn tables(&self, database: &str) -> Vec<(&'static str, SchemaRef)>;

    /// Rows of one of those tables: what `scan` asks for. Called where a query is executed; work that waits or blocks
    /// belongs into the stream. The stream holds what it needs, and ends early when it is dropped.
    fn scan(&self, database: &str, table: &str, scan: SystemScan) -> SystemRows;
}

/// What a query wants of a system table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemScan {
    /// The columns to give, by their place in the schema, in this order. None at all is possible: rows are then counted.
    pub columns: Vec<usize>,
    /// Of a table in the order of time: rows of other times are not wanted, but do no harm.
    pub times: RangeInclusive<i64>,
    /// Of a table in the order of time: whether rows *must* come from the newest to the oldest. If not, they must come from
    /// the oldest to the newest.
    pub newest_first: bool,
    /// No more rows than this are looked at.
    pub rows_max: Option<usize>,
}

impl SystemScan {
    /// The answer of a source that has all its rows, with all their columns, in memory.
    pub fn answer(&self, rows: Result<RecordBatch, String>) -> SystemRows {
        let answer = rows.and_then(|rows| self.select(&rows).map_err(|error| error.to_string()));
        stream::iter([answer]).boxed()
    }

    /// Of rows with all columns, what is wanted.
    fn select(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        if !is_in_order_of_time(&rows.schema()) {
            return rows.project(&self.columns);
        }
        let times = rows.column(0).as_primitive::<TimestampNanosecondType>().values();
        let mut places: Vec<u64> = (0..times.len() as u64).collect();
        places.sort_by_key(|place| times[*place as usize]);
        if self.newest_first {
            places.reverse();
        }
        // The columns afterwards: without any, only a whole batch knows how many rows there are.
        take_record_batch(rows, &UInt64Array::from(places))?.project(&self.columns)
    }
}

/// Whether the first column is a time by which rows are ordered.
fn is_in_order_of_time(schema: &Schema) -> bool {
    schema.fields().first().is_some_and(|first| {
        matches!(first.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _)) && !first.is_nullable()
    })
}

/// One system table within one query.
#[derive(Clone)]
pub(crate) struct SystemTable {
    source: Arc<dyn SystemTables>,
    database: Arc<str>,
    name: &'static str,
    schema: SchemaRef,
}

impl SystemTable {
    /// The table `name` of the first of `sources` that has it.
    pub(crate) fn find(sources: &[Arc<dyn SystemTables>], database: &Arc<str>, name: &str) -> Option<Self> {
        sources.iter().find_map(|source| {
            let (name, schema) = source
                .tables(database)
                .into_iter()
                .find(|(known, _)| *known == name)?;
            Some(Self {
                source: Arc::clone(source),
                database: Arc::clone(database),
                name,
                schema,
            })
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn columns(&self) -> &SchemaRef {
        &self.schema
    }

    pub(crate) fn is_in_order_of_time(&self) -> bool {
        is_in_order_of_time(&self.schema)
    }

    pub(crate) fn rows(&self, scan: SystemScan) -> SystemRows {
        self.source.scan(&self.database, self.name, scan)
    }

    /// The instants of the first column that a filter can be true for.
    fn times(&self, filter: &Expr) -> Option<Interval> {
        if self.is_in_order_of_time() {
            time_bounds_of(self.schema.field(0).name(), filter).interval
        } else {
            Some(Interval::ALL)
        }
    }
}

impl fmt::Debug for SystemTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemTable")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // A filter above the scan would hide from the scan in which order rows are wanted.
        let support = |filter: &&Expr| {
            if is_row_predicate(filter) {
                TableProviderFilterPushDown::Exact
            } else {
                TableProviderFilterPushDown::Unsupported
            }
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut times = Some(Interval::ALL);
        for filter in filters {
            times = times
                .zip(self.times(filter))
                .and_then(|(times, bound)| times.intersect(bound));
        }
        let all_columns = || (0..self.schema.fields().len()).collect();
        let wanted: Vec<usize> = projection.cloned().unwrap_or_else(all_columns);
        let filter = RowFilter::compile(filters, &wanted, &self.schema, state)?;
        let scan = SystemScan {
            columns: filter.columns().to_vec(),
            times: times.map_or(RangeInclusive::new(1, 0), |times| times.first..=times.last),
            newest_first: false,
            // Filters leave fewer rows than the source gives.
            rows_max: limit.filter(|_| filter.is_empty()),
        };
        let exec = SystemScanExec::try_new(self.clone(), scan, Arc::new(filter), limit)?;
        Ok(Arc::new(exec))
    }
}
