//! The operator that merges files and the buffer where they overlap in time.

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
use datafusion::physical_plan::common::spawn_buffered;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
};
use futures::{Stream, StreamExt, TryStreamExt};
use tidemill_store::{DataFile, FileError, SortedStream, merge_sorted};

use crate::buffer_part::BufferPart;
use crate::buffer_points::{BufferPoints, from_file_error};
use crate::described_files::FileSummary;
use crate::file_scan::FileScan;
use crate::intervals::Intervals;
use crate::last_write_wins::chosen_columns;
use crate::row_deletes::DeleteSet;

/// Batches of a file that are decoded ahead of the merge: decoding is most of the work, and goes on beside it.
const BATCHES_AHEAD: usize = 1;
/// Batches of one input that are in memory at a time: ahead, being merged, and being made.
const BATCHES_PER_INPUT: usize = BATCHES_AHEAD + 2;
/// What a value is taken to be in memory.
const BYTES_PER_VALUE: usize = 16;

/// Spans of time to merge; no instant is in two slices.
#[derive(Debug)]
pub(crate) struct MergeSlice {
    pub(crate) times: Intervals,
    /// In log order, each with the deletes that concern it.
    pub(crate) files: Vec<(Arc<DataFile>, DeleteSet)>,
    /// Rows of the buffer, which are later than those of all files.
    pub(crate) buffer: Vec<BufferPart>,
}

/// What is merged.
#[derive(Debug)]
pub(crate) struct MergeInput {
    pub(crate) table_name: Arc<str>,
    pub(crate) slices: Vec<MergeSlice>,
    pub(crate) files: FileSummary,
    /// Both yield the same columns, which begin with those of the key.
    pub(crate) file_scan: FileScan,
    pub(crate) buffer: BufferPoints,
    pub(crate) key_column_count: usize,
}

/// Yields each point of the slices once, the last write winning field by field. Every partition works through its share of
/// the slices one after the other.
#[derive(Debug)]
pub(crate) struct MergeExec {
    input: Arc<MergeInput>,
    /// The columns of the input to yield.
    columns: Arc<[usize]>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl MergeExec {
    /// Yields `columns` of what is merged in at most `partition_count` partitions.
    pub(crate) fn try_new(input: MergeInput, columns: Arc<[usize]>, partition_count: usize) -> Result<Self> {
        let schema = Arc::new(input.buffer.schema().project(&columns)?);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(input.slices.len().min(partition_count).max(1)),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self {
            input: Arc::new(input),
            columns,
            schema,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

impl DisplayAs for MergeExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let input = &self.input;
        if format == DisplayFormatType::TreeRender {
            writeln!(f, "table={}", input.table_name)?;
            return writeln!(f, "files={}", input.files.files);
        }
        let names = |schema: &SchemaRef, count: usize| {
            let fields = schema.fields().iter().take(count);
            let names: Vec<&str> = fields.map(|field| field.name().as_str()).collect();
            names.join(", ")
        };
        let parts = input.slices.iter().flat_map(|slice| &slice.buffer);
        write!(
            f,
            "MergeExec: table={}, {}, slices={}, buffer_rows_max={}, key=[{}], projection=[{}]",
            input.table_name,
            input.files,
            input.slices.len(),
            parts.map(BufferPart::row_count_max).sum::<usize>(),
            names(input.buffer.schema(), input.key_column_count),
            names(&self.schema, usize::MAX),
        )?;
        let predicates = input.file_scan.key_predicates();
        if !predicates.is_empty() {
            let predicates: Vec<String> = predicates.iter().map(ToString::to_string).collect();
            write!(f, ", predicate={}", predicates.join(" AND "))?;
        }
        Ok(())
    }
}

impl ExecutionPlan for MergeExec {
    fn name(&self) -> &'static str {
        "MergeExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    /// The predicates are numbered by the columns that files are read with, so they are not offered for rewriting.
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
            internal_err!("MergeExec is a leaf")
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let slice_count = self.input.slices.len();
        let partition_count = self.properties.output_partitioning().partition_count();
        let consumer = MemoryConsumer::new(format!("MergeExec[{partition}]"));
        let run = PartitionRun {
            input: Arc::clone(&self.input),
            columns: Arc::clone(&self.columns),
            schema: Arc::clone(&self.schema),
            reservation: consumer.register(context.memory_pool()),
            metrics: BaselineMetrics::new(&self.metrics, partition),
            context,
        };
        let slices = (partition..slice_count).step_by(partition_count);
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.schema),
            run.stream(slices),
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        let mut metrics = self.input.file_scan.stream_metrics();
        for metric in self.metrics.clone_inner().iter() {
            metrics.push(Arc::clone(metric));
        }
        Some(metrics)
    }

    fn statistics_from_inputs(
        &self,
        _input_stats: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        let slices = self.input.slices.iter();
        statistics.num_rows = Precision::Inexact(slices.map(MergeSlice::row_count_max).sum());
        Ok(Arc::new(statistics))
    }
}

impl MergeSlice {
    fn row_count_max(&self) -> usize {
        let in_files: u64 = self.files.iter().map(|(file, _)| file.row_count).sum();
        let in_buffer: usize = self.buffer.iter().map(BufferPart::row_count_max).sum();
        in_files as usize + in_buffer
    }
}

/// One output partition at work.
struct PartitionRun {
    input: Arc<MergeInput>,
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
            .map(move |slice| run.merge(&run.input.slices[slice], &run))
            .try_flatten()
    }

    /// The rows of one slice.
    fn merge(
        &self,
        slice: &MergeSlice,
        run: &Arc<Self>,
    ) -> Result<impl Stream<Item = Result<RecordBatch>> + Send + use<>> {
        let _timer = self.metrics.elapsed_compute().timer();
        let schema = self.input.buffer.schema();
        let batch_rows = BATCHES_PER_INPUT * self.context.session_config().batch_size();
        let rows_in_memory = slice
            .files
            .iter()
            .map(|(file, _)| batch_rows.min(file.row_count as usize))
            .sum::<usize>();
        // The slice before is done.
        self.reservation
            .try_resize(rows_in_memory * schema.fields().len() * BYTES_PER_VALUE)?;

        let mut inputs: Vec<SortedStream> = Vec::with_capacity(slice.files.len() + 1);
        for (file, deletes) in &slice.files {
            let rows = self
                .input
                .file_scan
                .stream(file, deletes, &slice.times, &self.context)?;
            let rows = spawn_buffered(rows, BATCHES_AHEAD).map_err(|error| FileError::Input(Box::new(error)));
            inputs.push(rows.boxed());
        }
        if let Some(points) = self.input.buffer.sorted(&slice.buffer)? {
            self.reservation.try_grow(points.bytes)?;
            inputs.push(points.stream);
        }
        let merged = merge_sorted(Arc::clone(schema), self.input.key_column_count, inputs);
        let run = Arc::clone(run);
        Ok(merged.map(move |rows| {
            let rows = rows.map_err(from_file_error)?;
            let rows = chosen_columns(&rows, &run.columns, &run.schema)?;
            run.metrics.record_output(rows.num_rows());
            Ok::<_, DataFusionError>(rows)
        }))
    }
}
