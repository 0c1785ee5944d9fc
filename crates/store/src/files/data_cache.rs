//! Parts of files that were read lately.

use std::ops::Range;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::FileId;
use crate::files::byte_lru::ByteLru;

/// What an entry costs beside its bytes.
const ENTRY_OVERHEAD_BYTES: usize = 256;
/// A part larger than this share of the cache is not kept: one scan must not drive out what many queries use.
const LARGEST_SHARE: usize = 8;

/// Ranges of files, least recently used first out. Ranges of one file may overlap; a range that is inside of a cached one
/// is found.
#[derive(Debug)]
pub(crate) struct DataCache {
    /// By file and first byte.
    ranges: Mutex<ByteLru<(FileId, u64), Bytes>>,
    range_bytes_max: usize,
}

impl DataCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            ranges: Mutex::new(ByteLru::new(bytes_max)),
            range_bytes_max: bytes_max / LARGEST_SHARE,
        }
    }

    /// The bytes of a range, if one cached range has them all.
    pub(crate) fn get(&self, file: FileId, range: &Range<u64>) -> Option<Bytes> {
        let covers = |key: &(FileId, u64), bytes: &Bytes| key.1 + bytes.len() as u64 >= range.end;
        let (key, bytes) = self
            .ranges
            .lock()
            .get_last((file, 0)..=(file, range.start), covers)?;
        let start = (range.start - key.1) as usize;
        let length = (range.end - range.start) as usize;
        Some(bytes.slice(start..start + length))
    }

    /// Keeps a copy of what begins at `start`: a store may have given a small part of a large piece of memory, which
    /// would stay as long as the part.
    pub(crate) fn insert(&self, file: FileId, start: u64, bytes: &Bytes) {
        let cost = bytes.len() + ENTRY_OVERHEAD_BYTES;
        if cost > self.range_bytes_max {
            return;
        }
        let copy = Bytes::copy_from_slice(bytes);
        self.ranges.lock().insert((file, start), copy, cost);
    }

    /// Forgets a file.
    pub(crate) fn forget(&self, file: FileId) {
        self.ranges.lock().remove_range((file, 0)..=(file, u64::MAX));
    }

    /// Bytes and number of the parts.
    pub(crate) fn size(&self) -> (usize, usize) {
        let ranges = self.ranges.lock();
        (ranges.bytes(), ranges.len())
    }
}
