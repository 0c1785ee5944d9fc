//! A payload on its way into the log.

use bytes::Bytes;

use crate::WalError;

/// The longest payload of one record, in bytes (1 GiB).
pub const PAYLOAD_BYTES_MAX: usize = 1 << 30;

/// A payload together with its checksum, which is computed where the record is made: by the task that appends,
/// not by the one thread that writes for everybody.
#[derive(Clone, Debug)]
pub struct Record {
    payload: Bytes,
    checksum: u64,
}

impl Record {
    /// Takes the payload without copying it.
    ///
    /// Errors: [`WalError::PayloadTooLarge`] beyond [`PAYLOAD_BYTES_MAX`].
    pub fn new(payload: impl Into<Bytes>) -> Result<Self, WalError> {
        let payload = payload.into();
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(WalError::PayloadTooLarge {
                payload_bytes: payload.len(),
            });
        }
        let checksum = payload_checksum(&payload);
        Ok(Self { payload, checksum })
    }

    /// The bytes as given.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    pub(crate) fn checksum(&self) -> u64 {
        self.checksum
    }
}

/// CRC-64/NVME.
pub(crate) fn payload_checksum(payload: &[u8]) -> u64 {
    crc_fast::crc64_nvme(payload)
}
