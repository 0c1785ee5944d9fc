//! The leaf of every plan over a system table.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{exec_datafusion_err, internal_err};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
    SortOrderPushdownResult,
};
use futures::{StreamExt, stream};

use crate::row_filter::RowFilter;
use crate::system::{SystemScan, SystemTable};

/// Reads a system table as its source gives it. A table in the order of time can be read from either end, so that a query
/// for the newest rows looks at no others.
#[derive(Debug)]
pub(crate) struct SystemScanExec {
    table: SystemTable,
    scan: SystemScan,
    filter: Arc<RowFilter>,
    /// So many rows are given, of those that pass the filter.
    fetch: Option<usize>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl SystemScanExec {
    /// `scan` asks for the columns of `filter`.
    pub(crate) fn try_new(
        table: SystemTable,
        scan: SystemScan,
        filter: Arc<RowFilter>,
        fetch: Option<usize>,
    ) -> Result<Self> {
        let schema = Arc::new(table.columns().project(filter.wanted())?);
        let mut equivalences = EquivalenceProperties::new(Arc::clone(&schema));
        let time = filter.wanted().iter().position(|column| *column == 0);
        if let Some(time) = time.filter(|_| table.is_in_order_of_time()) {
            let options = SortOptions {
                descending: scan.newest_first,
                nulls_first: scan.newest_first,
            };
            let column = Arc::new(Column::new(schema.field(time).name(), time));
            equivalences.add_ordering([PhysicalSortExpr::new(column, options)]);
        }
        let properties = PlanProperties::new(
            equivalences,
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self {
            table,
            scan,
            filter,
            fetch,
            schema,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    fn with(&self, scan: SystemScan, fetch: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        let filter = Arc::clone(&self.filter);
        Ok(Arc::new(Self::try_new(self.table.clone(), scan, filter, fetch)?))
    }

    /// Whether an order begins with the time of a table in the order of time.
    fn begins_with_time(&self, order: &[PhysicalSortExpr]) -> bool {
        let column = order
            .first()
            .and_then(|first| first.expr.downcast_ref::<Column>());
        let place = column.and_then(|column| self.filter.wanted().get(column.index()));
        self.table.is_in_order_of_time() && place == Some(&0)
    }
}

impl DisplayAs for SystemScanExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.schema.fields().iter().map(|field| field.name().as_str());
        let columns = columns.collect::<Vec<_>>().join(", ");
        write!(
            f,
            "SystemScanExec: table={}, projection=[{columns}]",
            self.table.name()
        )?;
        if self.table.is_in_order_of_time() {
            let (first, last) = (self.scan.times.start(), self.scan.times.end());
            write!(f, ", newest_first={}", self.scan.newest_first)?;
            if (*first, *last) != (i64::MIN, i64::MAX) {
                write!(f, ", times={first}..={last}")?;
            }
        }
        for predicate in self.filter.predicates() {
            write!(f, ", predicate={predicate}")?;
        }
        match self.fetch {
            Some(fetch) => write!(f, ", fetch={fetch}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for SystemScanExec {
    fn name(&self) -> &'static str {
        "SystemScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() {
            Ok(self)
        } else {
            internal_err!("SystemScanExec is a leaf")
        }
    }

    fn fetch(&self) -> Option<usize> {
        self.fetch
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let scan = SystemScan {
            rows_max: limit.filter(|_| self.filter.is_empty()),
            ..self.scan.clone()
        };
        self.with(scan, limit).ok()
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
    ) -> Result<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        // The first rows in the other order would be other rows.
        if !self.begins_with_time(order) || self.fetch.is_some() {
            return Ok(SortOrderPushdownResult::Unsupported);
        }
        let scan = SystemScan {
            newest_first: order[0].options.descending,
            ..self.scan.clone()
        };
        let inner = self.with(scan, None)?;
        Ok(match order {
            [_] => SortOrderPushdownResult::Exact { inner },
            _ => SortOrderPushdownResult::Inexact { inner },
        })
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let batch_rows_max = context.session_config().batch_size();
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let name = self.table.name();
        let rows_missing = self.fetch.unwrap_or(usize::MAX);
        let filter = Arc::clone(&self.filter);
        let pieces = self.table.rows(self.scan.clone()).flat_map(move |batch| {
            let pieces: Vec<Result<RecordBatch>> = match batch {
                Ok(batch) => match filter.apply(&batch) {
                    Ok(batch) => pieces(&batch, batch_rows_max).map(Ok).collect(),
                    Err(error) => vec![Err(error)],
                },
                Err(reason) => vec![Err(exec_datafusion_err!("reading system.{name}: {reason}"))],
            };
            stream::iter(pieces)
        });
        // The source is not asked for more when there is enough: it might read a file for it.
        let wanted = stream::unfold((pieces, rows_missing), move |(mut pieces, rows_missing)| {
            let metrics = metrics.clone();
            async move {
                if rows_missing == 0 {
                    return None;
                }
                Some(match pieces.next().await? {
                    Ok(batch) => {
                        let taken = batch.slice(0, batch.num_rows().min(rows_missing));
                        metrics.record_output(taken.num_rows());
                        let rows_missing = rows_missing - taken.num_rows();
                        (Ok(taken), (pieces, rows_missing))
                    }
                    Err(error) => (Err(error), (pieces, 0)),
                })
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.schema),
            wanted,
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The rows in batches of the size that operators expect.
fn pieces(batch: &RecordBatch, rows_max: usize) -> impl Iterator<Item = RecordBatch> {
    let starts = (0..batch.num_rows()).step_by(rows_max.max(1));
    starts.map(move |start| batch.slice(start, rows_max.min(batch.num_rows() - start)))
}
