//! Reads records one after the other, and says precisely what is wrong where it can't.

use std::io::{self, Read};
use std::path::Path;

use crate::frame::{DamageKind, RECORD_HEADER_BYTES, RecordHeader};
use crate::record::payload_checksum;
use crate::{Damage, Lsn, WalError};

/// Why no record could be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    Io(io::Error),
    Damage(Damage),
}

impl ReadError {
    pub(crate) fn into_wal_error(self, path: &Path) -> WalError {
        match self {
            Self::Io(source) => WalError::io("read", path)(source),
            Self::Damage(damage) => WalError::Damaged {
                path: path.to_path_buf(),
                damage,
            },
        }
    }
}

/// Where a reader stands in a segment: at the beginning of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) offset: u64,
    /// The number the record at `offset` must have.
    pub(crate) lsn: Lsn,
}

/// Reads the records of one segment from a byte stream that stands at `position`.
pub(crate) struct FrameReader<R> {
    bytes: R,
    position: Position,
    end: u64,
    salt: u64,
    payload: Vec<u8>,
}

impl<R: Read> FrameReader<R> {
    /// `end`: the offset at which the segment ends.
    pub(crate) fn new(bytes: R, position: Position, end: u64, salt: u64) -> Self {
        Self {
            bytes,
            position,
            end,
            salt,
            payload: Vec::new(),
        }
    }

    /// Where the next record begins.
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// The next record, checked; `None` at the end. After an error the position is that of the bad record.
    pub(crate) fn next(&mut self) -> Result<Option<(Lsn, &[u8])>, ReadError> {
        let Position { offset, lsn } = self.position;
        let available = self.end - offset;
        if available == 0 {
            return Ok(None);
        }
        let damaged = |kind| ReadError::Damage(Damage { offset, kind });
        if available < RECORD_HEADER_BYTES as u64 {
            return Err(damaged(DamageKind::RecordHeaderCut));
        }
        let mut header_bytes = [0; RECORD_HEADER_BYTES];
        self.bytes.read_exact(&mut header_bytes).map_err(ReadError::Io)?;
        let header = RecordHeader::decode(&header_bytes, self.salt)
            .ok_or_else(|| damaged(DamageKind::RecordHeaderChecksum))?;
        if header.lsn != lsn {
            return Err(damaged(DamageKind::Sequence {
                expected: lsn,
                found: header.lsn,
            }));
        }
        // Before the allocation: a length is believed only as far as there are bytes.
        if u64::from(header.payload_bytes) > available - RECORD_HEADER_BYTES as u64 {
            return Err(damaged(DamageKind::PayloadCut));
        }
        self.payload.resize(header.payload_bytes as usize, 0);
        self.bytes.read_exact(&mut self.payload).map_err(ReadError::Io)?;
        if payload_checksum(&self.payload) != header.payload_checksum {
            return Err(damaged(DamageKind::PayloadChecksum));
        }
        self.position = Position {
            offset: offset + RECORD_HEADER_BYTES as u64 + u64::from(header.payload_bytes),
            lsn: lsn.next(),
        };
        Ok(Some((lsn, &self.payload)))
    }
}
