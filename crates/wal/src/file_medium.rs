//! The log as append-only segment files, `{first lsn:020}.wal`, in one directory.
//!
//! A segment gets its name when its header is durable, so a file with a bad header is never the work of a crash.
//!
//! After a failed write the file is cut back to the last durable record. After a failed sync it is too, and a new
//! segment is started: the kernel may have dropped the unwritten pages and call the next sync a success.

use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;

use crate::file_reader::{FileLog, FileSegment};
use crate::file_replay::{Replay, Replayed, read_header};
use crate::frame::{RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader, group_bytes, group_headers};
use crate::frame_reader::Position;
use crate::segments::{replay_start, segment_name, segments_among};
use crate::{
    Disk, DiskFile, DurableLog, Lsn, Medium, OsDisk, Record, Recovery, Visitor, WalConfig, WalError,
};

/// A segment under this name is not finished; it is removed when the log is opened.
const UNFINISHED_NAME: &str = "next.tmp";

/// Append-only segment files in a directory, one `fdatasync` a group.
pub struct FileMedium {
    disk: Arc<dyn Disk>,
    log: Arc<FileLog>,
    segment_bytes_max: u64,
    tail: Tail,
}

/// The segment that is written to.
struct OpenSegment {
    first: Lsn,
    salt: u64,
    file: Box<dyn DiskFile>,
    /// Its length up to the last durable record.
    durable_bytes: u64,
}

/// In which state the end of the log is.
enum Tail {
    /// The next group starts a segment.
    Closed,
    /// The next group can be appended.
    Open(OpenSegment),
    /// Bytes of a failed group may stand behind the last durable record.
    Dirty { segment: OpenSegment, sync_failed: bool },
}

impl FileMedium {
    /// The log in `directory`, which is created if it is missing, and locked.
    ///
    /// Errors: [`WalError::Locked`] if another process holds the directory, [`WalError::Io`].
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, WalError> {
        Ok(Self::on(Arc::new(OsDisk::open(directory)?)))
    }

    /// The log on a given disk; it belongs to this log alone.
    pub fn on(disk: Arc<dyn Disk>) -> Self {
        let log = Arc::new(FileLog::new(Arc::clone(&disk)));
        Self {
            disk,
            log,
            segment_bytes_max: u64::MAX,
            tail: Tail::Closed,
        }
    }
}

impl Medium for FileMedium {
    fn recover(&mut self, config: &WalConfig, visit: &mut Visitor<'_>) -> Result<Recovery, WalError> {
        self.segment_bytes_max = config.segment_bytes_max;
        let firsts = self.list_segments()?;
        let path = |name: &str| self.disk.path(name);
        let start = replay_start(&firsts, config.replay_after, path)?;
        for &first in &firsts[..start] {
            self.note_unread(first)?;
        }
        let mut recovery = Recovery {
            last: config.replay_after,
            segments: firsts.len(),
            ..Recovery::default()
        };
        let mut expected = firsts.get(start).copied();
        for (index, &first) in firsts.iter().enumerate().skip(start) {
            if let Some(expected) = expected.filter(|&expected| expected != first) {
                return Err(WalError::Gap {
                    path: path(&segment_name(first)),
                    expected,
                    found: first,
                });
            }
            let is_last = index + 1 == firsts.len();
            let replay = Replay {
                disk: &self.disk,
                log: &self.log,
                config,
                is_last,
            };
            let replayed = replay.segment(first, &mut recovery, visit)?;
            recovery.last = Lsn(replayed.end.lsn.0 - 1);
            expected = Some(replayed.end.lsn);
            if is_last {
                self.tail = Tail::Open(self.adopt(first, replayed, config, &mut recovery)?);
            }
        }
        self.disk
            .sync_names()
            .map_err(WalError::io("sync", &self.disk.path("")))?;
        Ok(recovery)
    }

    fn append(&mut self, first: Lsn, group: &[Record]) -> Result<(), WalError> {
        let mut segment = self.take_writable(first, group_bytes(group))?;
        match write_durably(&self.disk, &mut segment, first, group) {
            Ok(()) => {
                self.note_group(&mut segment, first, group);
                self.tail = Tail::Open(segment);
                Ok(())
            }
            Err(WriteFailure { error, sync_failed }) => {
                self.tail = Tail::Dirty { segment, sync_failed };
                // At once, so that a crash does not bring back what the writers are told has failed.
                if let Err(error) = self.cut_back() {
                    tracing::warn!(%error, "cannot cut a failed write off the log yet");
                }
                Err(error)
            }
        }
    }

    fn durable_log(&self) -> Arc<dyn DurableLog> {
        Arc::clone(&self.log) as Arc<dyn DurableLog>
    }
}

impl FileMedium {
    fn list_segments(&self) -> Result<Vec<Lsn>, WalError> {
        let directory = self.disk.path("");
        let names = self.disk.names().map_err(WalError::io("list", &directory))?;
        if names.iter().any(|name| name == UNFINISHED_NAME) {
            let path = self.disk.path(UNFINISHED_NAME);
            self.disk
                .remove(UNFINISHED_NAME)
                .map_err(WalError::io("remove", &path))?;
        }
        segments_among(&names, |name| self.disk.path(name))
    }

    /// A segment in front of the replay: only its header is checked.
    fn note_unread(&self, first: Lsn) -> Result<(), WalError> {
        let name = segment_name(first);
        let path = self.disk.path(&name);
        let file = self.disk.open_read(&name).map_err(WalError::io("open", &path))?;
        let bytes = file.length().map_err(WalError::io("read", &path))?;
        let header = read_header(file.as_ref(), bytes, first, &path)?;
        self.log
            .index
            .insert(first, FileSegment::new(header.salt, first, bytes));
        Ok(())
    }

    /// Takes the last segment for appending: cuts what a crash tore, and syncs what a process that was killed may
    /// have left in the page cache.
    fn adopt(
        &self,
        first: Lsn,
        replayed: Replayed,
        config: &WalConfig,
        recovery: &mut Recovery,
    ) -> Result<OpenSegment, WalError> {
        let path = self.disk.path(&segment_name(first));
        // Before the cut: a log that is refused stays as it was found.
        if recovery.last < config.replay_after {
            return Err(WalError::EndsEarly {
                path,
                last: recovery.last,
                expected: config.replay_after,
            });
        }
        let Replayed {
            mut file,
            salt,
            end,
            file_bytes,
        } = replayed;
        if file_bytes > end.offset {
            recovery.cut_bytes = file_bytes - end.offset;
            tracing::warn!(
                path = %path.display(),
                offset = end.offset,
                cut_bytes = recovery.cut_bytes,
                "cut a torn write off the end of the log"
            );
            file.truncate(end.offset)
                .map_err(WalError::io("truncate", &path))?;
        }
        file.sync().map_err(WalError::io("sync", &path))?;
        Ok(OpenSegment {
            first,
            salt,
            file,
            durable_bytes: end.offset,
        })
    }

    /// The segment for a group of this size; on an error the next call tries again.
    fn take_writable(&mut self, first: Lsn, group_bytes: u64) -> Result<OpenSegment, WalError> {
        self.cut_back()?;
        match std::mem::replace(&mut self.tail, Tail::Closed) {
            Tail::Open(segment) if self.has_room(&segment, group_bytes) => Ok(segment),
            // From here on the old segment is closed even if the new one fails: its name may be in the directory.
            _ => self.start_segment(first),
        }
    }

    fn has_room(&self, segment: &OpenSegment, group_bytes: u64) -> bool {
        segment.durable_bytes == SEGMENT_HEADER_BYTES as u64
            || segment.durable_bytes + group_bytes <= self.segment_bytes_max
    }

    fn start_segment(&self, first: Lsn) -> Result<OpenSegment, WalError> {
        let header = SegmentHeader::new(first);
        let path = self.disk.path(UNFINISHED_NAME);
        let mut file = self
            .disk
            .create(UNFINISHED_NAME)
            .map_err(WalError::io("create", &path))?;
        file.append(&mut [IoSlice::new(&header.encode())])
            .map_err(WalError::io("write to", &path))?;
        file.sync().map_err(WalError::io("sync", &path))?;
        let name = segment_name(first);
        self.disk
            .rename(UNFINISHED_NAME, &name)
            .map_err(WalError::io("rename a new segment to", &self.disk.path(&name)))?;
        self.disk
            .sync_names()
            .map_err(WalError::io("sync", &self.disk.path("")))?;
        let durable_bytes = SEGMENT_HEADER_BYTES as u64;
        self.log
            .index
            .insert(first, FileSegment::new(header.salt, first, durable_bytes));
        Ok(OpenSegment {
            first,
            salt: header.salt,
            file,
            durable_bytes,
        })
    }

    fn note_group(&self, segment: &mut OpenSegment, first: Lsn, group: &[Record]) {
        let mut position = Position {
            offset: segment.durable_bytes,
            lsn: first,
        };
        self.log.index.update(segment.first, |known| {
            for record in group {
                known.note(position);
                position.offset += (RECORD_HEADER_BYTES + record.payload().len()) as u64;
                position.lsn = position.lsn.next();
            }
            known.set_bytes(position.offset);
        });
        segment.durable_bytes = position.offset;
    }

    /// Removes the bytes of a failed group; does nothing if there are none.
    fn cut_back(&mut self) -> Result<(), WalError> {
        let (mut segment, sync_failed) = match std::mem::replace(&mut self.tail, Tail::Closed) {
            Tail::Dirty { segment, sync_failed } => (segment, sync_failed),
            clean => {
                self.tail = clean;
                return Ok(());
            }
        };
        let path = self.disk.path(&segment_name(segment.first));
        if let Err(source) = segment.file.truncate(segment.durable_bytes) {
            self.tail = Tail::Dirty { segment, sync_failed };
            return Err(WalError::io("truncate", &path)(source));
        }
        if let Err(source) = segment.file.sync() {
            self.tail = Tail::Dirty {
                segment,
                sync_failed: true,
            };
            return Err(WalError::io("sync", &path)(source));
        }
        if !sync_failed {
            self.tail = Tail::Open(segment);
        }
        Ok(())
    }
}

struct WriteFailure {
    error: WalError,
    sync_failed: bool,
}

fn write_durably(
    disk: &Arc<dyn Disk>,
    segment: &mut OpenSegment,
    first: Lsn,
    group: &[Record],
) -> Result<(), WriteFailure> {
    let failure = |action, sync_failed| {
        let path = disk.path(&segment_name(segment.first));
        move |source| WriteFailure {
            error: WalError::io(action, &path)(source),
            sync_failed,
        }
    };
    let headers: Vec<_> = group_headers(segment.salt, first, group).collect();
    let mut parts: Vec<IoSlice<'_>> = headers
        .iter()
        .zip(group)
        .flat_map(|(header, record)| [IoSlice::new(header), IoSlice::new(record.payload())])
        .collect();
    segment
        .file
        .append(&mut parts)
        .map_err(failure("write to", false))?;
    segment.file.sync().map_err(failure("sync", true))
}
