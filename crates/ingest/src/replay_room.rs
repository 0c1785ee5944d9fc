//! Room for a log that is longer than memory.

use std::sync::Arc;

use tidemill_catalog::CatalogState;
use tidemill_store::{Flush, Storage};
use tidemill_wal::Lsn;
use tokio::runtime::Handle;

use crate::ingest::Published;
use crate::progress_image;
use crate::replay::ReplayError;
use crate::snapshot_config::SnapshotConfig;

/// Keeps the buffer within its limit while the log is replayed, which may be longer than memory.
pub(crate) struct ReplayRoom<'a> {
    storage: &'a Arc<Storage>,
    published: &'a Arc<Published>,
    catalog: &'a Arc<CatalogState>,
    config: &'a SnapshotConfig,
    /// Where there is none, nothing can be written.
    runtime: Option<Handle>,
    bytes_since_snapshot: u64,
}

impl<'a> ReplayRoom<'a> {
    pub(crate) fn new(
        storage: &'a Arc<Storage>,
        published: &'a Arc<Published>,
        catalog: &'a Arc<CatalogState>,
        config: &'a SnapshotConfig,
    ) -> Self {
        Self {
            storage,
            published,
            catalog,
            config,
            runtime: Handle::try_current().ok(),
            bytes_since_snapshot: 0,
        }
    }

    /// Bytes of the records that were replayed and are in no file.
    pub(crate) fn bytes_since_snapshot(&self) -> u64 {
        self.bytes_since_snapshot
    }

    /// Notes a replayed record, and writes the buffer to files where it has become too large.
    pub(crate) fn make(&mut self, record_bytes: usize) -> Result<(), ReplayError> {
        self.bytes_since_snapshot += record_bytes as u64;
        let is_large = self.storage.store().total_bytes() >= self.config.buffer_bytes_soft;
        let Some(runtime) = self.runtime.as_ref().filter(|_| is_large) else {
            return Ok(());
        };
        let (frozen, triggers) = self.published.freeze();
        let flush = Flush {
            catalog: Arc::clone(self.catalog),
            progress: progress_image::encode(Lsn(frozen.lsn), &triggers),
            concurrency: self.config.concurrency,
            part_bytes_max: self.config.part_bytes_max,
        };
        let report = runtime.block_on(self.storage.flush(frozen, flush))?;
        tracing::info!(
            lsn = report.lsn,
            rows = report.rows,
            files = report.files,
            "the log is longer than the buffer: wrote a snapshot while replaying it"
        );
        self.bytes_since_snapshot = 0;
        Ok(())
    }
}
