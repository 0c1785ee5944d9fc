//! A file as Parquet's readers want it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ParquetMetaData;

use crate::files::footer::Footer;
use crate::{DataFile, FileError, FileStore};

/// Reads one file through the caches of its [`FileStore`]; it keeps the file from being removed.
#[derive(Debug, Clone)]
pub struct FileReader {
    files: Arc<FileStore>,
    file: Arc<DataFile>,
    /// Once it was asked for; the cache may have lost it by the next read.
    footer: Option<Arc<Footer>>,
}

impl FileReader {
    pub(crate) fn new(files: Arc<FileStore>, file: Arc<DataFile>) -> Self {
        Self {
            files,
            file,
            footer: None,
        }
    }

    /// The file that it reads.
    pub fn file(&self) -> &Arc<DataFile> {
        &self.file
    }

    /// What [`FileStore::metadata`] returns.
    ///
    /// # Errors
    /// Those of [`FileStore::metadata`].
    pub(crate) async fn metadata(&mut self) -> Result<Arc<ParquetMetaData>, FileError> {
        Ok(Arc::clone(&self.footer().await?.metadata))
    }

    async fn footer(&mut self) -> Result<Arc<Footer>, FileError> {
        if let Some(footer) = &self.footer {
            return Ok(Arc::clone(footer));
        }
        let footer = self.files.footer(&self.file).await?;
        self.footer = Some(Arc::clone(&footer));
        Ok(footer)
    }
}

impl AsyncFileReader for FileReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move {
            let parts = self.get_byte_ranges(vec![range]).await?;
            Ok(parts.into_iter().next().unwrap_or_default())
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        async move {
            let known = self.footer.clone();
            let parts = self.files.read(&self.file, known, &ranges).await;
            parts.map_err(external)
        }
        .boxed()
    }

    /// With the page index, whatever the options say.
    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move { self.metadata().await.map_err(external) }.boxed()
    }
}

fn external(error: FileError) -> ParquetError {
    ParquetError::External(Box::new(error))
}
