//! Reads a segment file when the log is opened, and decides what of it holds.

use std::io::{self, BufReader};
use std::path::Path;
use std::sync::Arc;

use crate::disk::{FileBytes, read_fully_at};
use crate::file_reader::{FileLog, FileSegment};
use crate::frame::{Damage, DamageKind, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::frame_reader::{FrameReader, Position, ReadError};
use crate::segments::segment_name;
use crate::tail_scan::later_group_behind;
use crate::{Disk, DiskFile, Lsn, Recovery, Visitor, WalConfig, WalError};

const READ_BUFFER_BYTES: usize = 256 << 10;

/// Replays one segment.
pub(crate) struct Replay<'a> {
    pub(crate) disk: &'a Arc<dyn Disk>,
    pub(crate) log: &'a FileLog,
    pub(crate) config: &'a WalConfig,
    pub(crate) is_last: bool,
}

/// A segment after its replay.
pub(crate) struct Replayed {
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) salt: u64,
    /// Behind the last good record.
    pub(crate) end: Position,
    /// More than `end.offset` if there is a torn write.
    pub(crate) file_bytes: u64,
}

impl Replay<'_> {
    /// Checks the segment that starts with `first`, visits its records and enters it into the index.
    pub(crate) fn segment(
        &self,
        first: Lsn,
        recovery: &mut Recovery,
        visit: &mut Visitor<'_>,
    ) -> Result<Replayed, WalError> {
        let name = segment_name(first);
        let path = self.disk.path(&name);
        let opened = if self.is_last {
            self.disk.open_append(&name)
        } else {
            self.disk.open_read(&name)
        };
        let file = opened.map_err(WalError::io("open", &path))?;
        let file_bytes = file.length().map_err(WalError::io("read", &path))?;
        let header = read_header(file.as_ref(), file_bytes, first, &path)?;

        let mut known = FileSegment::new(header.salt, first, file_bytes);
        let start = Position {
            offset: SEGMENT_HEADER_BYTES as u64,
            lsn: first,
        };
        let bytes = FileBytes {
            file: file.as_ref(),
            offset: start.offset,
        };
        let bytes = BufReader::with_capacity(READ_BUFFER_BYTES, bytes);
        let mut reader = FrameReader::new(bytes, start, file_bytes, header.salt);
        let end = loop {
            let position = reader.position();
            match reader.next() {
                Ok(Some((lsn, payload))) => {
                    known.note(position);
                    if lsn > self.config.replay_after {
                        recovery.records += 1;
                        recovery.payload_bytes += payload.len() as u64;
                        visit(lsn, payload)?;
                    }
                }
                Ok(None) => break position,
                Err(ReadError::Damage(damage)) => {
                    let is_torn = self
                        .is_torn(file.as_ref(), header.salt, damage, position, file_bytes)
                        .map_err(WalError::io("read", &path))?;
                    if is_torn {
                        break position;
                    }
                    return Err(WalError::Damaged { path, damage });
                }
                Err(error @ ReadError::Io(_)) => return Err(error.into_wal_error(&path)),
            }
        };
        known.set_bytes(end.offset);
        self.log.index.insert(first, known);
        Ok(Replayed {
            file,
            salt: header.salt,
            end,
            file_bytes,
        })
    }

    fn is_torn(
        &self,
        file: &dyn DiskFile,
        salt: u64,
        damage: Damage,
        bad: Position,
        end: u64,
    ) -> io::Result<bool> {
        // A header with a good checksum and a wrong number was written so.
        let can_be_torn = self.is_last && !matches!(damage.kind, DamageKind::Sequence { .. });
        Ok(can_be_torn && later_group_behind(file, salt, bad, end)?.is_none())
    }
}

/// The header of the segment that is named after `first`; `path` is for the error.
pub(crate) fn read_header(
    file: &dyn DiskFile,
    file_bytes: u64,
    first: Lsn,
    path: &Path,
) -> Result<SegmentHeader, WalError> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    let available = file_bytes.min(SEGMENT_HEADER_BYTES as u64) as usize;
    read_fully_at(file, &mut bytes[..available], 0).map_err(WalError::io("read", path))?;
    SegmentHeader::decode(&bytes[..available], first).map_err(|damage| WalError::Damaged {
        path: path.to_path_buf(),
        damage,
    })
}
