//! A table of the store as DataFusion sees it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use tidemill_catalog::Table;
use tidemill_store::{FileStore, TableSnapshot};

use crate::intervals::Interval;
use crate::key_filter::is_key_predicate;
use crate::layout::TableLayout;
use crate::scan_plan::{ScanRequest, plan_scan};
use crate::time_filter::time_bounds;

/// One table within one query: all its scans read the same snapshot.
pub(crate) struct StoreTable {
    table: Arc<Table>,
    layout: Arc<TableLayout>,
    retention_ns: Option<u64>,
    files: Arc<FileStore>,
    snapshot: TableSnapshot,
}

impl StoreTable {
    /// `table` must know every column of `snapshot`: a tag it did not know would be missing in the key of points.
    /// The files of `snapshot` are read through `files`.
    pub(crate) fn new(
        table: Arc<Table>,
        retention_ns: Option<u64>,
        files: Arc<FileStore>,
        snapshot: TableSnapshot,
    ) -> Self {
        let layout = Arc::new(TableLayout::new(&table));
        Self {
            table,
            layout,
            retention_ns,
            files,
            snapshot,
        }
    }

    /// The first instant that retention still shows.
    fn first_retained(&self, now: Option<DateTime<Utc>>) -> Option<i64> {
        let now = now.unwrap_or_else(Utc::now).timestamp_nanos_opt()?;
        now.checked_sub_unsigned(self.retention_ns?)
    }
}

impl fmt::Debug for StoreTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreTable")
            .field("name", &self.table.name)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for StoreTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.layout.schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| {
            if is_key_predicate(filter, &self.layout) {
                TableProviderFilterPushDown::Exact
            } else if time_bounds(filter).interval != Some(Interval::ALL) {
                TableProviderFilterPushDown::Inexact
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
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut time_range = match self.first_retained(state.execution_props().query_execution_start_time) {
            Some(first) => Interval::new(first, i64::MAX),
            None => Some(Interval::ALL),
        };
        let mut key_predicates = Vec::new();
        for filter in filters {
            let bounds = time_bounds(filter);
            time_range = time_range
                .zip(bounds.interval)
                .and_then(|(range, bound)| range.intersect(bound));
            // What only bounds the time is done by choosing the rows of that time.
            if !bounds.exact && is_key_predicate(filter, &self.layout) {
                key_predicates.push(filter);
            }
        }
        let all_columns = || (0..self.layout.schema().fields().len()).collect();
        let request = ScanRequest {
            table: Arc::clone(&self.table),
            layout: Arc::clone(&self.layout),
            files: &self.files,
            columns: projection.cloned().unwrap_or_else(all_columns),
            time_range,
            key_predicates,
            partition_count: state.config().target_partitions(),
            session: state,
        };
        plan_scan(&request, &self.snapshot)
    }
}
