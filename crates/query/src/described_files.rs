//! A scan of files that says in a plan what it reads, instead of naming every file.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use datafusion::common::Statistics;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::config::ConfigOptions;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::{DataSource, OpenArgs};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::SchedulingType;
use datafusion::physical_plan::filter_pushdown::FilterPushdownPropagation;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{DisplayFormatType, Partitioning, PhysicalExpr, SortOrderPushdownResult};

use crate::unchecked_files::UncheckedFiles;

/// What a scan of a table reads of its files, for the eyes of the user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileSummary {
    /// Files read by this part of the plan.
    pub(crate) files: usize,
    /// The length of their objects.
    pub(crate) bytes: u64,
    /// All files of the table.
    pub(crate) of_files: usize,
    /// Those left out by their times, or because nothing is left of them.
    pub(crate) files_pruned: usize,
}

impl fmt::Display for FileSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "files={} of {}, files_pruned={}, file_bytes={}",
            self.files, self.of_files, self.files_pruned, self.bytes
        )
    }
}

/// [`FileScanConfig`] with another description, whose errors name what is damaged. Everything else is left to it.
#[derive(Clone, Debug)]
pub(crate) struct DescribedFiles {
    inner: Arc<dyn DataSource>,
    unchecked: UncheckedFiles,
    description: Arc<str>,
}

impl DescribedFiles {
    pub(crate) fn new(
        files: FileScanConfig,
        unchecked: UncheckedFiles,
        table: &str,
        summary: &FileSummary,
    ) -> Self {
        Self {
            inner: Arc::new(files),
            unchecked,
            description: Arc::from(format!("table={table}, {summary}")),
        }
    }

    fn around(&self, inner: Arc<dyn DataSource>) -> Arc<dyn DataSource> {
        Arc::new(Self {
            inner,
            unchecked: self.unchecked.clone(),
            description: Arc::clone(&self.description),
        })
    }
}

impl DataSource for DescribedFiles {
    fn open(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        Ok(self.unchecked.guard(self.inner.open(partition, context)?))
    }

    fn open_with_args(&self, args: OpenArgs) -> Result<SendableRecordBatchStream> {
        Ok(self.unchecked.guard(self.inner.open_with_args(args)?))
    }

    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if format == DisplayFormatType::TreeRender {
            return writeln!(f, "{}", self.description.replace(", ", "\n"));
        }
        write!(f, "{}", self.description)?;
        write!(f, ", partitions={}", self.output_partitioning().partition_count())?;
        if let Some(config) = (self.inner.as_ref() as &dyn Any).downcast_ref::<FileScanConfig>() {
            if let Ok(schema) = config.projected_schema() {
                let columns: Vec<&str> = schema
                    .fields()
                    .iter()
                    .map(|field| field.name().as_str())
                    .collect();
                write!(f, ", projection=[{}]", columns.join(", "))?;
            }
            if let Some(limit) = config.limit {
                write!(f, ", limit={limit}")?;
            }
            config.file_source().fmt_extra(format, f)?;
        }
        Ok(())
    }

    fn repartitioned(
        &self,
        target_partitions: usize,
        repartition_file_min_size: usize,
        output_ordering: Option<LexOrdering>,
    ) -> Result<Option<Arc<dyn DataSource>>> {
        let inner =
            self.inner
                .repartitioned(target_partitions, repartition_file_min_size, output_ordering)?;
        Ok(inner.map(|inner| self.around(inner)))
    }

    fn output_partitioning(&self) -> Partitioning {
        self.inner.output_partitioning()
    }

    fn eq_properties(&self) -> EquivalenceProperties {
        self.inner.eq_properties()
    }

    fn scheduling_type(&self) -> SchedulingType {
        self.inner.scheduling_type()
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        self.inner.partition_statistics(partition)
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn DataSource>> {
        self.inner.with_fetch(limit).map(|inner| self.around(inner))
    }

    fn fetch(&self) -> Option<usize> {
        self.inner.fetch()
    }

    fn metrics(&self) -> ExecutionPlanMetricsSet {
        self.inner.metrics()
    }

    fn try_swapping_with_projection(
        &self,
        projection: &ProjectionExprs,
    ) -> Result<Option<Arc<dyn DataSource>>> {
        let inner = self.inner.try_swapping_with_projection(projection)?;
        Ok(inner.map(|inner| self.around(inner)))
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn DataSource>>> {
        let pushed = self.inner.try_pushdown_filters(filters, config)?;
        Ok(FilterPushdownPropagation {
            filters: pushed.filters,
            updated_node: pushed.updated_node.map(|inner| self.around(inner)),
        })
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
    ) -> Result<SortOrderPushdownResult<Arc<dyn DataSource>>> {
        let pushed = self.inner.try_pushdown_sort(order)?;
        Ok(pushed.map(|inner| self.around(inner)))
    }

    fn with_preserve_order(&self, preserve_order: bool) -> Option<Arc<dyn DataSource>> {
        let inner = self.inner.with_preserve_order(preserve_order);
        inner.map(|inner| self.around(inner))
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.inner.apply_expressions(visit)
    }

    fn with_new_state(&self, state: Arc<dyn Any + Send + Sync>) -> Option<Arc<dyn DataSource>> {
        self.inner.with_new_state(state).map(|inner| self.around(inner))
    }

    fn create_sibling_state(&self, config: &ConfigOptions) -> Option<Arc<dyn Any + Send + Sync>> {
        self.inner.create_sibling_state(config)
    }
}
