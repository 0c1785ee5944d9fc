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

use crate::system::{SystemScan, SystemTable};

/// Reads a system table as its source gives it. A table in the order of time can be read from either end, so that a query
/// for the newest rows looks at no others.
#[derive(Debug)]
pub(crate) struct SystemScanExec {
    table: SystemTable,
    scan: SystemScan,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl SystemScanExec {
    pub(crate) fn try_new(table: SystemTable, scan: SystemScan) -> Result<Self> {
        let schema = Arc::new(table.columns().project(&scan.columns)?);
        let mut equivalences = EquivalenceProperties::new(Arc::clone(&schema));
        let time = scan.columns.iter().position(|column| *column == 0);
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
            schema,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    fn with(&self, scan: SystemScan) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::try_new(self.table.clone(), scan)?))
    }

    /// Whether an order begins with the time of a table in the order of time.
    fn begins_with_time(&self, order: &[PhysicalSortExpr]) -> bool {
        let column = order
            .first()
            .and_then(|first| first.expr.downcast_ref::<Column>());
        let place = column.and_then(|column| self.scan.columns.get(column.index()));
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
        match self.scan.rows_max {
            Some(rows_max) => write!(f, ", rows_max={rows_max}"),
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
        self.scan.rows_max
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let scan = SystemScan {
            rows_max: limit,
            ..self.scan.clone()
        };
        self.with(scan).ok()
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
    ) -> Result<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        if !self.begins_with_time(order) {
            return Ok(SortOrderPushdownResult::Unsupported);
        }
        let inner = self.with(SystemScan {
            newest_first: order[0].options.descending,
            ..self.scan.clone()
        })?;
        Ok(match order {
            [_] => SortOrderPushdownResult::Exact { inner },
            _ => SortOrderPushdownResult::Inexact { inner },
        })
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let batch_rows_max = context.session_config().batch_size();
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let name = self.table.name();
        let rows_missing = self.scan.rows_max.unwrap_or(usize::MAX);
        let pieces = self.table.rows(self.scan.clone()).flat_map(move |batch| {
            let pieces: Vec<Result<RecordBatch>> = match batch {
                Ok(batch) => pieces(&batch, batch_rows_max).map(Ok).collect(),
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
