//! Files of versions that wrote no checksums of their parts: what is wrong with them shows, if at all, when it is decoded.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};
use tidemill_store::{DataFile, FileDamage, FileStore};

use crate::error::damage;

/// The files of a scan that cannot be checked before they are decoded.
#[derive(Clone, Debug)]
pub(crate) struct UncheckedFiles {
    store: Arc<FileStore>,
    files: Arc<[Arc<DataFile>]>,
}

impl UncheckedFiles {
    /// Those of `files`.
    pub(crate) fn of(store: &Arc<FileStore>, files: &[Arc<DataFile>]) -> Self {
        let unchecked = files.iter().filter(|file| file.tail.is_none());
        Self {
            store: Arc::clone(store),
            files: unchecked.cloned().collect(),
        }
    }

    /// The same rows; when decoding fails, the error is that of the damaged file.
    pub(crate) fn guard(&self, rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
        if self.files.is_empty() {
            return rows;
        }
        let schema = rows.schema();
        let this = self.clone();
        let rows = AssertUnwindSafe(rows).catch_unwind().map(or_panic);
        let rows = rows.or_else(move |error| {
            let this = this.clone();
            async move { Err(this.named(error).await) }
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }

    /// The damage that is to blame for an error, if there is any; else the error.
    async fn named(&self, error: DataFusionError) -> DataFusionError {
        let is_of_decoding = matches!(
            error.find_root(),
            DataFusionError::ParquetError(_)
                | DataFusionError::ArrowError(..)
                | DataFusionError::Execution(_)
                | DataFusionError::Internal(_)
        );
        if !is_of_decoding || damage(&error).is_some() {
            return error;
        }
        for file in self.files.iter() {
            if let Err(found) = self.store.check_whole(file).await {
                return DataFusionError::External(Box::new(found));
            }
        }
        error
    }
}

fn or_panic(rows: std::result::Result<Result<RecordBatch>, Box<dyn Any + Send>>) -> Result<RecordBatch> {
    rows.unwrap_or_else(|payload| {
        let panic = FileDamage::from_panic(&*payload);
        Err(DataFusionError::Internal(format!("a file was read, and {panic}")))
    })
}
