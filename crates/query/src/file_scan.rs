//! Reading some columns of a table's files, and of the rows those that pass predicates on tags and time.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, DFSchema, Statistics, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::can_expr_be_pushed_down_with_schemas;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, Operator};
use datafusion::physical_expr::conjunction;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use datafusion::scalar::ScalarValue;
use tidemill_store::{DataFile, FileStore};

use crate::file_bytes::{FileBytes, WhenFull};
use crate::file_columns::ColumnsByName;
use crate::in_times::InTimes;
use crate::intervals::{Interval, Intervals};
use crate::layout::TableLayout;
use crate::row_deletes::{DeleteSet, PendingDeletes};
use crate::time_filter::TIME_COLUMN;
use crate::time_shares::file_hull;
use crate::unchecked_files::UncheckedFiles;

/// Under this address the objects are known to DataFusion, which wants one. Paths are not resolved through it.
pub(crate) const FILES_URL: &str = "tidemill://files";
/// Rows of files that are worth a partition of their own.
const ROWS_PER_PARTITION_MIN: u64 = 64 * 1024;
/// Place of time in the schema that readers know, so that statistics of a file need to have only one column.
const TIME_POSITION: usize = 0;

/// What to read of files within one scan.
#[derive(Debug)]
pub(crate) struct FileScan {
    /// The columns that readers know of: time, those wanted, and those that predicates look at.
    schema: SchemaRef,
    /// Where in `schema` the columns are that are yielded.
    projection: Vec<usize>,
    bytes: Arc<FileBytes>,
    /// Of the readers of [`stream`](Self::stream).
    stream_source: ParquetSource,
    /// Must hold for rows of all files.
    key_predicates: Vec<Arc<dyn PhysicalExpr>>,
    /// By the number of a delete: must hold for the rows of files that it concerns.
    delete_predicates: Vec<Arc<dyn PhysicalExpr>>,
}

/// Files that are read in one way.
pub(crate) struct FilesToRead {
    pub(crate) files: Vec<Arc<DataFile>>,
    pub(crate) deletes: DeleteSet,
    /// Rows of other times are left out; `None`: all times are wanted.
    pub(crate) times: Option<Intervals>,
}

impl FileScan {
    /// `columns` are yielded, by their position in `layout`; `predicates` are on tags and time.
    pub(crate) fn new(
        files: &Arc<FileStore>,
        layout: &TableLayout,
        columns: &[usize],
        predicates: &[&Expr],
        deletes: &PendingDeletes<'_>,
        when_full: WhenFull,
        session: &dyn Session,
    ) -> Result<Self> {
        let mut known = vec![layout.time()];
        let in_predicates = predicates.iter().flat_map(|predicate| predicate.column_refs());
        let in_predicates = in_predicates.filter_map(|column| layout.key_column(&column.name));
        let in_deletes = deletes.columns().filter_map(|id| layout.position(id));
        for column in columns.iter().copied().chain(in_predicates).chain(in_deletes) {
            if !known.contains(&column) {
                known.push(column);
            }
        }
        let position = |column: &usize| known.iter().position(|known| known == column);
        let projection = columns.iter().filter_map(position).collect();
        let schema = layout.project(&known);

        let df_schema = DFSchema::try_from(Arc::clone(&schema))?;
        let key_predicates = predicates
            .iter()
            .map(|predicate| session.create_physical_expr((*predicate).clone(), &df_schema))
            .collect::<Result<Vec<_>>>()?;
        let delete_predicates = deletes.predicates(&df_schema, session)?;
        for predicate in key_predicates.iter().chain(&delete_predicates) {
            // The reader would silently leave out what it cannot evaluate.
            if !can_expr_be_pushed_down_with_schemas(predicate, &schema) {
                return internal_err!("the file reader cannot evaluate {predicate}");
            }
        }
        let bytes = FileBytes::new(Arc::clone(files), &session.runtime_env().memory_pool, when_full);
        let bytes = Arc::new(bytes);
        Ok(Self {
            stream_source: new_source(&schema, &bytes),
            schema,
            projection,
            bytes,
            key_predicates,
            delete_predicates,
        })
    }

    /// Whether some rows of the files are left out.
    pub(crate) fn has_predicate(&self, files: &FilesToRead) -> bool {
        !self.key_predicates.is_empty() || !files.deletes.is_empty() || files.times.is_some()
    }

    /// A scan of files that come in the order of time, spread over some partitions. The newest are read first: whoever asks
    /// for some of the rows mostly means the newest, and with these in hand the others need not be opened.
    pub(crate) fn config(&self, files: &FilesToRead, partition_count: usize) -> Result<FileScanConfig> {
        Ok(self
            .config_builder(files, new_source(&self.schema, &self.bytes), partition_count)?
            .build())
    }

    fn config_builder(
        &self,
        files: &FilesToRead,
        source: ParquetSource,
        partition_count: usize,
    ) -> Result<FileScanConfigBuilder> {
        let row_count: u64 = files.files.iter().map(|file| file.row_count).sum();
        let partition_count = (row_count / ROWS_PER_PARTITION_MIN).clamp(1, partition_count.max(1) as u64);
        // The groups say little: partitions take from one queue, which is made of the groups one after the other.
        let files_per_group = files.files.len().div_ceil(partition_count as usize).max(1);
        let groups = files.files.rchunks(files_per_group).map(|group| {
            let group = group.iter().rev().map(partitioned_file).collect();
            FileGroup::new(group)
        });
        let source = self.with_predicates(source, files);
        FileScanConfigBuilder::new(ObjectStoreUrl::parse(FILES_URL)?, source)
            .with_file_groups(groups.collect())
            .with_statistics(self.statistics(&files.files, row_count))
            .with_expr_adapter(Some(Arc::new(ColumnsByName)))
            .with_projection_indices(Some(self.projection.clone()))
    }

    /// The rows of one file at some times, in the file's order.
    pub(crate) fn stream(
        &self,
        file: &Arc<DataFile>,
        deletes: &DeleteSet,
        times: &Intervals,
        context: &Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let files = FilesToRead {
            files: vec![Arc::clone(file)],
            deletes: deletes.clone(),
            times: Some(times.clone()),
        };
        let config = self
            .config_builder(&files, self.stream_source.clone(), 1)?
            .with_preserve_order(true)
            .build();
        let rows = DataSourceExec::from_data_source(config).execute(0, Arc::clone(context))?;
        Ok(self.unchecked(&files).guard(rows))
    }

    /// Those of the files that cannot be checked before they are decoded.
    pub(crate) fn unchecked(&self, files: &FilesToRead) -> UncheckedFiles {
        UncheckedFiles::of(self.bytes.files(), &files.files)
    }

    /// What the readers of all streams measured.
    pub(crate) fn stream_metrics(&self) -> MetricsSet {
        self.stream_source.metrics().clone_inner()
    }

    pub(crate) fn key_predicates(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.key_predicates
    }

    fn with_predicates(&self, source: ParquetSource, files: &FilesToRead) -> Arc<dyn FileSource> {
        let mut predicates = self.key_predicates.clone();
        if let Some(times) = &files.times {
            let hull = files
                .files
                .iter()
                .map(|file| file_hull(file))
                .reduce(Interval::hull);
            predicates.extend(hull.into_iter().flat_map(|hull| time_predicates(times, hull)));
        }
        let deletes = files.deletes.iter();
        predicates.extend(deletes.map(|delete| Arc::clone(&self.delete_predicates[*delete])));
        if predicates.is_empty() {
            Arc::new(source)
        } else {
            Arc::new(source.with_predicate(conjunction(predicates)))
        }
    }

    fn statistics(&self, files: &[Arc<DataFile>], row_count: u64) -> Statistics {
        let mut statistics = Statistics::new_unknown(&self.schema);
        statistics.num_rows = Precision::Exact(row_count as usize);
        if let Some(hull) = files.iter().map(|file| file_hull(file)).reduce(Interval::hull) {
            statistics.column_statistics[TIME_POSITION] = time_statistics(hull);
        }
        statistics
    }
}

fn new_source(schema: &SchemaRef, bytes: &Arc<FileBytes>) -> ParquetSource {
    ParquetSource::new(Arc::clone(schema))
        .with_parquet_file_reader_factory(Arc::clone(bytes) as Arc<dyn ParquetFileReaderFactory>)
        .with_pushdown_filters(true)
}

fn partitioned_file(file: &Arc<DataFile>) -> PartitionedFile {
    let mut read = PartitionedFile::new(&*file.path, file.byte_size);
    read.extensions.insert_arc(Arc::clone(file));
    // No more columns than time: with ten thousand files all of them would be megabytes.
    read.statistics = Some(Arc::new(Statistics {
        num_rows: Precision::Exact(file.row_count as usize),
        total_byte_size: Precision::Absent,
        column_statistics: vec![time_statistics(file_hull(file))],
    }));
    read
}

fn time_statistics(hull: Interval) -> ColumnStatistics {
    let instant = |time| Precision::Exact(ScalarValue::TimestampNanosecond(Some(time), None));
    ColumnStatistics {
        min_value: instant(hull.first),
        max_value: instant(hull.last),
        null_count: Precision::Exact(0),
        ..ColumnStatistics::new_unknown()
    }
}

/// What is true of the rows in `times`, given that all lie in `hull`.
fn time_predicates(times: &Intervals, hull: Interval) -> Vec<Arc<dyn PhysicalExpr>> {
    let time = || Arc::new(Column::new(TIME_COLUMN, TIME_POSITION)) as Arc<dyn PhysicalExpr>;
    let times = times.within(hull);
    let (Some(first), Some(last)) = (times.as_slice().first(), times.as_slice().last()) else {
        return vec![Arc::new(Literal::new(ScalarValue::Boolean(Some(false))))];
    };
    // Comparisons even where the spans would do: they can be checked against statistics.
    let compare = |operator, instant| {
        let instant = Arc::new(Literal::new(ScalarValue::TimestampNanosecond(
            Some(instant),
            None,
        )));
        Arc::new(BinaryExpr::new(time(), operator, instant)) as Arc<dyn PhysicalExpr>
    };
    let mut predicates = Vec::new();
    if first.first > hull.first {
        predicates.push(compare(Operator::GtEq, first.first));
    }
    if last.last < hull.last {
        predicates.push(compare(Operator::LtEq, last.last));
    }
    if times.as_slice().len() > 1 {
        predicates.push(Arc::new(InTimes::new(time(), Arc::new(times))));
    }
    predicates
}
