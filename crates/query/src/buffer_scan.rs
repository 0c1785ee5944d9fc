//! The leaf of every plan over the memory buffer.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::{BatchCoalescer, filter_record_batch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, Statistics, internal_err};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
};
use datafusion::scalar::ScalarValue;

use crate::buffer_part::BufferPart;
use crate::described_files::FileSummary;
use crate::intervals::Interval;
use crate::key_filter::{KeyFilter, Rows};
use crate::layout::TableLayout;

/// Reads rows of stored batches: some columns, and of the rows those that pass a filter. Every partition yields its
/// rows in log order.
#[derive(Debug)]
pub(crate) struct BufferScanExec {
    source: Arc<Source>,
    partitions: Vec<Arc<[BufferPart]>>,
    /// What became of the table's files, if this is all of the plan that can say it.
    files: Option<FileSummary>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

#[derive(Debug)]
struct Source {
    table_name: Arc<str>,
    layout: Arc<TableLayout>,
    /// The columns to yield, in this order.
    columns: Vec<usize>,
    schema: SchemaRef,
    filter: KeyFilter,
}

impl BufferScanExec {
    /// A scan of `columns` (positions in the layout) with one output partition for each of `partitions`.
    pub(crate) fn new(
        table_name: Arc<str>,
        layout: Arc<TableLayout>,
        columns: Vec<usize>,
        filter: KeyFilter,
        partitions: Vec<Vec<BufferPart>>,
    ) -> Self {
        let schema = layout.project(&columns);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(partitions.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            source: Arc::new(Source {
                table_name,
                layout,
                columns,
                schema,
                filter,
            }),
            partitions: partitions.into_iter().map(Arc::from).collect(),
            files: None,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// The same scan; its description says what became of the table's files.
    pub(crate) fn with_files(mut self, files: Option<FileSummary>) -> Self {
        self.files = files;
        self
    }

    /// What is known without reading rows. Of all partitions together everything is exact if every row of every part
    /// is meant, since the ends of a batch's time hull then occur in the answer.
    fn statistics(&self, partition: Option<usize>) -> Statistics {
        let partitions = match partition {
            Some(one) => &self.partitions[one..=one],
            None => &self.partitions[..],
        };
        let parts = || partitions.iter().flat_map(|partition| partition.iter());
        let row_count = parts().map(BufferPart::row_count_max).sum();
        let all_rows = self.source.filter.is_empty() && parts().all(|part| part.keep().is_none());
        let time_hull = parts().map(BufferPart::time_hull).reduce(Interval::hull);

        let column = |&position: &usize| {
            let mut statistics = ColumnStatistics::new_unknown();
            if all_rows {
                let null_count = parts()
                    .map(|part| part.null_count(&self.source.layout, position))
                    .sum();
                statistics.null_count = Precision::Exact(null_count);
            }
            if position == self.source.layout.time()
                && let Some(hull) = time_hull
            {
                let bound = |instant| {
                    let value = ScalarValue::TimestampNanosecond(Some(instant), None);
                    if all_rows && partition.is_none() {
                        Precision::Exact(value)
                    } else {
                        Precision::Inexact(value)
                    }
                };
                statistics.min_value = bound(hull.first);
                statistics.max_value = bound(hull.last);
            }
            statistics
        };
        Statistics {
            num_rows: if all_rows {
                Precision::Exact(row_count)
            } else {
                Precision::Inexact(row_count)
            },
            total_byte_size: Precision::Absent,
            column_statistics: self.source.columns.iter().map(column).collect(),
        }
    }
}

impl DisplayAs for BufferScanExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = || self.partitions.iter().flat_map(|partition| partition.iter());
        let columns: Vec<&str> = self
            .source
            .schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        let predicates: Vec<String> = self.source.filter.predicates().map(ToString::to_string).collect();
        match format {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(
                    f,
                    "BufferScanExec: table={}, partitions={}, batches={}, rows_max={}, projection=[{}]",
                    self.source.table_name,
                    self.partitions.len(),
                    parts().count(),
                    parts().map(BufferPart::row_count_max).sum::<usize>(),
                    columns.join(", "),
                )?;
                if parts().any(|part| part.keep().is_some()) {
                    write!(f, ", time_ranges=true")?;
                }
                if !predicates.is_empty() {
                    write!(f, ", predicate={}", predicates.join(" AND "))?;
                }
                match &self.files {
                    Some(files) => write!(f, ", {files}"),
                    None => Ok(()),
                }
            }
            DisplayFormatType::TreeRender => {
                writeln!(f, "table={}", self.source.table_name)?;
                if !predicates.is_empty() {
                    writeln!(f, "predicate={}", predicates.join(" AND "))?;
                }
                Ok(())
            }
        }
    }
}

impl ExecutionPlan for BufferScanExec {
    fn name(&self) -> &'static str {
        "BufferScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    /// The predicates have their own column numbering (that of the columns they read), so they are not offered for
    /// rewriting against the output.
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
            internal_err!("BufferScanExec is a leaf")
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let batches = PartBatches {
            source: Arc::clone(&self.source),
            parts: Arc::clone(&self.partitions[partition]),
            next_part: 0,
            rest: None,
            coalescer: BatchCoalescer::new(
                Arc::clone(&self.source.schema),
                context.session_config().batch_size(),
            ),
            batch_rows_max: context.session_config().batch_size(),
            metrics: BaselineMetrics::new(&self.metrics, partition),
        };
        let stream = futures::stream::iter(batches);
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.source.schema),
            stream,
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(
        &self,
        _input_stats: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        Ok(Arc::new(self.statistics(args.partition())))
    }
}

/// The batches of one partition: whole runs are cut to the batch size without a copy; what a filter leaves of the
/// others is gathered until it makes a batch worth handing on.
struct PartBatches {
    source: Arc<Source>,
    parts: Arc<[BufferPart]>,
    next_part: usize,
    /// What is still to be handed on of a run that is meant as a whole.
    rest: Option<RecordBatch>,
    coalescer: BatchCoalescer,
    batch_rows_max: usize,
    metrics: BaselineMetrics,
}

impl PartBatches {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.coalescer.next_completed_batch() {
                return Ok(Some(batch));
            }
            if let Some(rest) = self.rest.take() {
                return Ok(Some(self.cut(rest)));
            }
            let Some(part) = self.parts.get(self.next_part) else {
                if self.coalescer.is_empty() {
                    return Ok(None);
                }
                self.coalescer.finish_buffered_batch()?;
                continue;
            };
            match self.source.filter.rows(part, &self.source.layout)? {
                Rows::None => {}
                Rows::All => {
                    // Log order: what was gathered so far goes first.
                    self.coalescer.finish_buffered_batch()?;
                    self.rest = Some(self.source.batch(part)?);
                }
                Rows::Some(mask) => {
                    let rows =
                        filter_record_batch(&self.source.batch(part)?, &BooleanArray::new(mask, None))?;
                    self.coalescer.push_batch(rows)?;
                }
            }
            self.next_part += 1;
        }
    }

    fn cut(&mut self, rows: RecordBatch) -> RecordBatch {
        let row_count = rows.num_rows();
        if row_count <= self.batch_rows_max {
            return rows;
        }
        self.rest = Some(rows.slice(self.batch_rows_max, row_count - self.batch_rows_max));
        rows.slice(0, self.batch_rows_max)
    }
}

impl Iterator for PartBatches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let timer = self.metrics.elapsed_compute().clone();
        let _timer = timer.timer();
        let batch = self.next_batch().transpose();
        if let Some(Ok(batch)) = &batch {
            self.metrics.record_output(batch.num_rows());
        }
        batch
    }
}

impl Source {
    fn batch(&self, part: &BufferPart) -> Result<RecordBatch> {
        let columns: Vec<ArrayRef> = self
            .columns
            .iter()
            .map(|&position| part.column(&self.layout, position))
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(part.row_count_max()));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.schema),
            columns,
            &options,
        )?)
    }
}
