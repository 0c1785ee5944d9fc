//! The operator that makes one row of all writes of a point.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Statistics, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PhysicalExpr,
    PlanProperties,
};
use futures::{Stream, StreamExt, TryStreamExt};

use crate::last_write_wins::LastWriteWins;

/// Deduplicates each partition of its input by itself, the last write winning field by field.
///
/// The input's partitions are *slices*: no point occurs in two of them, and each yields its rows in the order of the
/// log. Each output partition works through its share of the slices one after the other, so that only one slice per
/// output partition is in memory at a time.
#[derive(Debug)]
pub(crate) struct DeduplicateExec {
    input: Arc<dyn ExecutionPlan>,
    /// The first so many columns of the input are the key.
    key_column_count: usize,
    /// The columns of the input to yield.
    columns: Arc<[usize]>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl DeduplicateExec {
    /// Yields `columns` of `input` in at most `partition_count` partitions.
    ///
    /// Errors: `columns` are not columns of the input.
    pub(crate) fn try_new(
        input: Arc<dyn ExecutionPlan>,
        key_column_count: usize,
        columns: Arc<[usize]>,
        partition_count: usize,
    ) -> Result<Self> {
        let schema = Arc::new(input.schema().project(&columns)?);
        let slice_count = input.output_partitioning().partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(slice_count.min(partition_count).max(1)),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self {
            input,
            key_column_count,
            columns,
            schema,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

impl DisplayAs for DeduplicateExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let input = self.input.schema();
        let key: Vec<&str> = input.fields()[..self.key_column_count]
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        let slice_count = self.input.output_partitioning().partition_count();
        match format {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(
                    f,
                    "DeduplicateExec: key=[{}], slices={slice_count}",
                    key.join(", ")
                )
            }
            DisplayFormatType::TreeRender => writeln!(f, "key={}", key.join(", ")),
        }
    }
}

impl ExecutionPlan for DeduplicateExec {
    fn name(&self) -> &'static str {
        "DeduplicateExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    /// Another distribution of the input would tear points apart.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (Some(input), true) = (children.pop(), children.is_empty()) else {
            return internal_err!("DeduplicateExec has one input");
        };
        if input.output_partitioning().partition_count() != self.input.output_partitioning().partition_count()
        {
            return internal_err!("the slices under DeduplicateExec must not be repartitioned");
        }
        let partition_count = self.properties.output_partitioning().partition_count();
        let columns = Arc::clone(&self.columns);
        Ok(Arc::new(Self::try_new(
            input,
            self.key_column_count,
            columns,
            partition_count,
        )?))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let slice_count = self.input.output_partitioning().partition_count();
        let partition_count = self.properties.output_partitioning().partition_count();
        let reservation =
            MemoryConsumer::new(format!("DeduplicateExec[{partition}]")).register(context.memory_pool());
        let run = PartitionRun {
            input: Arc::clone(&self.input),
            key_column_count: self.key_column_count,
            columns: Arc::clone(&self.columns),
            schema: Arc::clone(&self.schema),
            context,
            reservation,
            metrics: BaselineMetrics::new(&self.metrics, partition),
        };
        let slices = (partition..slice_count).step_by(partition_count);
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.schema),
            run.stream(slices),
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, _partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(None)]
    }

    fn statistics_from_inputs(
        &self,
        input_stats: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        if let Some(&rows) = input_stats.first().and_then(|input| input.num_rows.get_value()) {
            statistics.num_rows = Precision::Inexact(rows);
        }
        Ok(Arc::new(statistics))
    }
}

/// One output partition at work.
struct PartitionRun {
    input: Arc<dyn ExecutionPlan>,
    key_column_count: usize,
    columns: Arc<[usize]>,
    schema: SchemaRef,
    context: Arc<TaskContext>,
    reservation: MemoryReservation,
    metrics: BaselineMetrics,
}

impl PartitionRun {
    fn stream(
        self,
        slices: impl Iterator<Item = usize> + Send + 'static,
    ) -> impl Stream<Item = Result<RecordBatch>> + Send + 'static {
        let run = Arc::new(self);
        futures::stream::iter(slices)
            .then(move |slice| {
                let run = Arc::clone(&run);
                async move {
                    let batches = run.deduplicate(slice).await?;
                    let yielded = batches.into_iter().map(move |batch| {
                        run.metrics.record_output(batch.num_rows());
                        Ok::<_, DataFusionError>(batch)
                    });
                    Ok::<_, DataFusionError>(futures::stream::iter(yielded))
                }
            })
            .try_flatten()
    }

    async fn deduplicate(&self, slice: usize) -> Result<Vec<RecordBatch>> {
        let mut input = self.input.execute(slice, Arc::clone(&self.context))?;
        let mut points = LastWriteWins::new(&input.schema(), self.key_column_count)?;
        while let Some(rows) = input.next().await {
            let rows = rows?;
            let _timer = self.metrics.elapsed_compute().timer();
            points.push(rows)?;
            self.reservation.try_resize(points.size())?;
        }
        let _timer = self.metrics.elapsed_compute().timer();
        points.finish(&self.columns, &self.schema)
    }
}
