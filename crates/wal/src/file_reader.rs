//! Reads and removes segment files while the log thread appends to the last of them.

use std::io::{self, BufReader};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::FileBytes;
use crate::frame::SEGMENT_HEADER_BYTES;
use crate::frame_reader::{FrameReader, Position};
use crate::segments::{SegmentIndex, segment_name};
use crate::{Disk, DurableLog, Lsn, WalError};

/// A reader starts at most this far before the record it wants.
const MARK_BYTES: u64 = 256 << 10;
const READ_BUFFER_BYTES: usize = 256 << 10;

/// What is known of a segment file.
#[derive(Debug)]
pub(crate) struct FileSegment {
    salt: u64,
    /// Its length as far as it is durable.
    bytes: u64,
    /// Places to start reading at, ascending.
    marks: Vec<Position>,
}

impl FileSegment {
    /// A segment without records; or, with `bytes`, one whose records have not been looked at.
    pub(crate) fn new(salt: u64, first: Lsn, bytes: u64) -> Self {
        let start = Position {
            offset: SEGMENT_HEADER_BYTES as u64,
            lsn: first,
        };
        Self {
            salt,
            bytes,
            marks: vec![start],
        }
    }

    /// Records where a record begins.
    pub(crate) fn note(&mut self, position: Position) {
        let last = self
            .marks
            .last()
            .expect("a segment has at least its start as a mark");
        if position.offset >= last.offset + MARK_BYTES {
            self.marks.push(position);
        }
    }

    pub(crate) fn set_bytes(&mut self, bytes: u64) {
        self.bytes = bytes;
    }

    fn mark_before(&self, lsn: Lsn) -> Position {
        let behind = self.marks.partition_point(|mark| mark.lsn <= lsn);
        self.marks[behind.saturating_sub(1)]
    }
}

/// The segment files of a directory.
pub(crate) struct FileLog {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) index: SegmentIndex<FileSegment>,
    removal: Mutex<()>,
}

/// A part of a segment to be read.
struct Extent {
    first: Lsn,
    salt: u64,
    start: Position,
    end: u64,
}

/// What a read has collected so far.
struct Collected {
    records: Vec<(Lsn, Vec<u8>)>,
    bytes: usize,
    bytes_max: usize,
}

impl Collected {
    /// False if there is no room for it.
    fn push(&mut self, lsn: Lsn, payload: &[u8]) -> bool {
        if !self.records.is_empty() && self.bytes.saturating_add(payload.len()) > self.bytes_max {
            return false;
        }
        self.bytes += payload.len();
        self.records.push((lsn, payload.to_vec()));
        true
    }
}

impl FileLog {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            index: SegmentIndex::new(),
            removal: Mutex::new(()),
        }
    }

    fn extent_of(&self, lsn: Lsn) -> Result<Extent, WalError> {
        self.index
            .look_up(lsn, |first, segment| Extent {
                first,
                salt: segment.salt,
                start: segment.mark_before(lsn),
                end: segment.bytes,
            })
            .ok_or_else(|| self.removed(lsn))
    }

    fn removed(&self, wanted: Lsn) -> WalError {
        WalError::Removed {
            after: Lsn(wanted.0 - 1),
            first: self.first_lsn().unwrap_or(wanted),
        }
    }

    /// Collects `next` and the records behind it in the same segment. Returns the number after the last one
    /// looked at, and whether there is room for more.
    fn read_extent(
        &self,
        extent: &Extent,
        next: Lsn,
        until: Lsn,
        collected: &mut Collected,
    ) -> Result<(Lsn, bool), WalError> {
        let name = segment_name(extent.first);
        let path = self.disk.path(&name);
        let file = match self.disk.open_read(&name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.index.contains(extent.first) => {
                return Err(self.removed(next));
            }
            Err(error) => return Err(WalError::io("open", &path)(error)),
        };
        let bytes = FileBytes {
            file: file.as_ref(),
            offset: extent.start.offset,
        };
        let bytes = BufReader::with_capacity(READ_BUFFER_BYTES, bytes);
        let mut reader = FrameReader::new(bytes, extent.start, extent.end, extent.salt);
        while reader.position().lsn <= until {
            let record = reader.next().map_err(|error| error.into_wal_error(&path))?;
            let Some((lsn, payload)) = record else { break };
            if lsn >= next && !collected.push(lsn, payload) {
                return Ok((lsn, false));
            }
        }
        Ok((reader.position().lsn, true))
    }
}

impl DurableLog for FileLog {
    fn first_lsn(&self) -> Option<Lsn> {
        self.index.first()
    }

    fn segments(&self) -> Vec<(Lsn, u64)> {
        self.index.map(|segment| segment.bytes)
    }

    fn read(&self, after: Lsn, until: Lsn, bytes_max: usize) -> Result<Vec<(Lsn, Vec<u8>)>, WalError> {
        let mut collected = Collected {
            records: Vec::new(),
            bytes: 0,
            bytes_max,
        };
        let mut next = after.next();
        while next <= until {
            let extent = self.extent_of(next)?;
            let (reached, has_room) = self.read_extent(&extent, next, until, &mut collected)?;
            if !has_room {
                break;
            }
            if reached <= next && reached <= until {
                let path = self.disk.path(&segment_name(extent.first));
                return Err(WalError::EndsEarly {
                    path,
                    last: Lsn(reached.0 - 1),
                    expected: until,
                });
            }
            next = reached;
        }
        Ok(collected.records)
    }

    fn remove_before(&self, lsn: Lsn) -> Result<usize, WalError> {
        let _one_at_a_time = self.removal.lock();
        let mut removed = 0;
        while let Some(first) = self.index.removable(lsn) {
            // Out of the index first: a reader that misses the file then knows why.
            let Some(segment) = self.index.remove(first) else {
                break;
            };
            if let Err(error) = self.remove_file(&segment_name(first)) {
                self.index.insert(first, segment);
                return Err(error);
            }
            removed += 1;
        }
        Ok(removed)
    }
}

impl FileLog {
    /// Synced one by one: a crash must not bring back an older segment and leave a gap behind it.
    fn remove_file(&self, name: &str) -> Result<(), WalError> {
        match self.disk.remove(name) {
            Ok(()) => {}
            // Removed by an attempt whose sync failed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(WalError::io("remove", &self.disk.path(name))(error)),
        }
        self.disk
            .sync_names()
            .map_err(WalError::io("sync", &self.disk.path("")))
    }
}
