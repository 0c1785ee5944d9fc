//! Access of DataFusion's Parquet reader to files of the store.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use futures::FutureExt;
use futures::future::BoxFuture;
use tidemill_store::{DataFile, FileReader, FileStore};

/// What reading does when the pool has no memory for the bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// Take it nevertheless, so that others spill: for scans, each of which has few files open at a time.
    Exceed,
    /// Fail: for merges, which have many open at once.
    Fail,
}

/// Makes readers of files that are named by a [`DataFile`] among the extensions of a [`PartitionedFile`]. The bytes of
/// files that are being decoded are accounted to the memory pool.
#[derive(Debug)]
pub(crate) struct FileBytes {
    files: Arc<FileStore>,
    reservation: Arc<MemoryReservation>,
    when_full: WhenFull,
}

impl FileBytes {
    pub(crate) fn new(files: Arc<FileStore>, pool: &Arc<dyn MemoryPool>, when_full: WhenFull) -> Self {
        Self {
            files,
            reservation: Arc::new(MemoryConsumer::new("FileBytes").register(pool)),
            when_full,
        }
    }

    pub(crate) fn files(&self) -> &Arc<FileStore> {
        &self.files
    }
}

impl ParquetFileReaderFactory for FileBytes {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let Some(data_file) = file.extensions.get_arc::<DataFile>() else {
            return datafusion::common::internal_err!(
                "'{}' is no file of the store",
                file.object_meta.location
            );
        };
        Ok(Box::new(AccountedReader {
            reader: self.files.reader(&data_file),
            reservation: Arc::clone(&self.reservation),
            when_full: self.when_full,
            bytes_scanned: MetricBuilder::new(metrics).counter("bytes_scanned", partition),
        }))
    }
}

struct AccountedReader {
    reader: FileReader,
    reservation: Arc<MemoryReservation>,
    when_full: WhenFull,
    bytes_scanned: Count,
}

impl AccountedReader {
    fn reserve(&self, length: u64) -> Result<MemoryReservation, ParquetError> {
        self.bytes_scanned.add(length as usize);
        let reservation = self.reservation.new_empty();
        match self.when_full {
            WhenFull::Exceed => reservation.grow(length as usize),
            WhenFull::Fail => {
                let reserved = reservation.try_grow(length as usize);
                reserved.map_err(|error| ParquetError::External(Box::new(error)))?;
            }
        }
        Ok(reservation)
    }
}

impl AsyncFileReader for AccountedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move {
            let reservation = self.reserve(range.end - range.start)?;
            let bytes = self.reader.get_bytes(range).await?;
            Ok(accounted(bytes, reservation))
        }
        .boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move {
            let lengths = ranges.iter().map(|range| range.end - range.start);
            let reservations = lengths
                .map(|length| self.reserve(length))
                .collect::<Result<Vec<_>, _>>()?;
            let parts = self.reader.get_byte_ranges(ranges).await?.into_iter();
            Ok(parts
                .zip(reservations)
                .map(|(bytes, reservation)| accounted(bytes, reservation))
                .collect())
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        self.reader.get_metadata(options)
    }
}

/// Bytes that give their memory back to the pool with the last of their clones.
struct Accounted {
    bytes: Bytes,
    _reservation: MemoryReservation,
}

impl AsRef<[u8]> for Accounted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn accounted(bytes: Bytes, reservation: MemoryReservation) -> Bytes {
    Bytes::from_owner(Accounted {
        bytes,
        _reservation: reservation,
    })
}

impl fmt::Debug for AccountedReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AccountedReader")
            .field(self.reader.file())
            .finish()
    }
}
