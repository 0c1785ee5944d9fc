//! The log of a server as a backup reads it.

use tidemill_ingest::Ingest;
use tidemill_wal::{Lsn, WalError};

use crate::export::LogSource;

impl LogSource for Ingest {
    fn durable(&self) -> Lsn {
        self.durable_lsn()
    }

    fn read_by_all(&self) -> Lsn {
        self.read_by_all_triggers()
    }

    fn read(&self, after: Lsn, until: Lsn, bytes_max: usize) -> Result<Vec<(Lsn, Vec<u8>)>, WalError> {
        self.read_records(after, until, bytes_max)
    }
}
