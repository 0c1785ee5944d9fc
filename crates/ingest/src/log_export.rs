//! The log for those who copy it while it is written to.

use std::sync::Arc;

use tidemill_wal::{Lsn, WalError};

use crate::ingest::Ingest;

/// As long as it lives, no record of the log is removed.
#[must_use]
pub struct LogHold {
    _held: Arc<()>,
}

impl Ingest {
    /// Keeps all records of the log. Waits until a snapshot that is being made is done.
    pub async fn hold_log(&self) -> LogHold {
        LogHold {
            _held: self.snapshots.hold_log().await,
        }
    }

    /// Where the data-write trigger stands that has the most to read, as far as the log reaches back; `u64::MAX` if there is
    /// none.
    pub fn read_by_all_triggers(&self) -> Lsn {
        self.read_by_all().max(self.log_start())
    }

    /// The last record that is durable.
    pub fn durable_lsn(&self) -> Lsn {
        self.wal.durable_lsn()
    }

    /// The payloads of durable records in `after < lsn <= until`, in order: at most `bytes_max` bytes, but at least one
    /// record if there is one. Blocks.
    ///
    /// # Errors
    /// Those of the log; [`WalError::Removed`] if nobody [holds](Self::hold_log) it.
    pub fn read_records(
        &self,
        after: Lsn,
        until: Lsn,
        bytes_max: usize,
    ) -> Result<Vec<(Lsn, Vec<u8>)>, WalError> {
        let mut records = self.wal.read(after, bytes_max)?;
        records.retain(|(lsn, _)| *lsn <= until);
        Ok(records)
    }
}
