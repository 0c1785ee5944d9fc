//! A file as Parquet's readers want it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaData;

use crate::{DataFile, FileError, FileStore};

/// Reads one file through the caches of its [`FileStore`]; it keeps the file from being removed.
#[derive(Debug, Clone)]
pub struct FileReader {
    files: Arc<FileStore>,
    file: Arc<DataFile>,
}

impl FileReader {
    pub(crate) fn new(files: Arc<FileStore>, file: Arc<DataFile>) -> Self {
        Self { files, file }
    }

    /// The file that it reads.
    pub fn file(&self) -> &Arc<DataFile> {
        &self.file
    }
}

impl AsyncFileReader for FileReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        async move {
            let parts = self.get_byte_ranges(vec![range]).await?;
            Ok(parts.into_iter().next().unwrap_or_default())
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move { self.files.read(&self.file, &ranges).await.map_err(external) }.boxed()
    }

    /// With the page index, whatever the options say.
    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        async move { self.files.metadata(&self.file).await.map_err(external) }.boxed()
    }
}

fn external(error: FileError) -> ParquetError {
    ParquetError::External(Box::new(error))
}
