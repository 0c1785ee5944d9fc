//! Tells a torn write from damage.
//!
//! A crash during a flush can leave any part of the *last group* on the disk: pages reach it in any order, so an
//! intact record may stand behind a torn one. But a group is written only after the group before it is durable.
//! So if behind a bad record there is a record header of a later group, the bad record was durable once, and a
//! crash is not what happened to it.

use std::io;

use crate::disk::{DiskFile, read_fully_at};
use crate::frame::{RECORD_HEADER_BYTES, RecordHeader};
use crate::frame_reader::Position;

const WINDOW_BYTES: usize = 1 << 20;

/// The offset of a record that belongs to a later group than the bad record at `bad`, if there is one before `end`.
pub(crate) fn later_group_behind(
    file: &dyn DiskFile,
    salt: u64,
    bad: Position,
    end: u64,
) -> io::Result<Option<u64>> {
    let mut window = vec![0; WINDOW_BYTES];
    let mut window_offset = bad.offset;
    while window_offset + RECORD_HEADER_BYTES as u64 <= end {
        let window_bytes = (end - window_offset).min(WINDOW_BYTES as u64) as usize;
        let window = &mut window[..window_bytes];
        read_fully_at(file, window, window_offset)?;
        for (index, candidate) in window.windows(RECORD_HEADER_BYTES).enumerate() {
            let candidate = candidate.first_chunk().expect("a window has this size");
            let offset = window_offset + index as u64;
            if is_plausible(RecordHeader::fields(candidate), bad, offset)
                && RecordHeader::decode(candidate, salt).is_some()
            {
                return Ok(Some(offset));
            }
        }
        // Windows overlap by a header less one byte, so that each offset is looked at once.
        window_offset += (window_bytes - (RECORD_HEADER_BYTES - 1)) as u64;
    }
    Ok(None)
}

/// A cheap look before the checksum is computed: a later group, and not more records ahead than fit in between.
fn is_plausible(header: RecordHeader, bad: Position, offset: u64) -> bool {
    let records_between_max = (offset - bad.offset) / RECORD_HEADER_BYTES as u64;
    bad.lsn < header.group_first
        && header.group_first <= header.lsn
        && header.lsn.0 - bad.lsn.0 <= records_between_max
}
