//! Segments as bytes in memory: for who makes a log out of records, and for who checks one without opening it.

use std::io::{self, IoSlice};
use std::ops::ControlFlow;

use bytes::{BufMut, Bytes, BytesMut};

use crate::disk::DiskFile;
use crate::frame::{DamageKind, SEGMENT_HEADER_BYTES, SegmentHeader, group_bytes, group_headers};
use crate::frame_reader::{FrameReader, Position, ReadError};
use crate::segments::segment_name;
use crate::tail_scan::later_group_behind;
use crate::{Damage, Lsn, Record};

/// The name of the segment whose first record is `first`.
pub fn segment_file_name(first: Lsn) -> String {
    segment_name(first)
}

/// The first record of the segment of that name; `None` if no segment has such a name.
pub fn segment_first_lsn(name: &str) -> Option<Lsn> {
    let first = Lsn(name.strip_suffix(".wal")?.parse().ok()?);
    (first > Lsn::ZERO && segment_name(first) == name).then_some(first)
}

/// A segment with these records, of which the first gets the number `first`. Each is a group of its own, so that damage to
/// any but the last is told from a torn write.
pub fn encode_segment(first: Lsn, records: &[Record]) -> Bytes {
    let header = SegmentHeader::new(first);
    let length = SEGMENT_HEADER_BYTES + group_bytes(records) as usize;
    let mut segment = BytesMut::with_capacity(length);
    segment.put_slice(&header.encode());
    for (record, lsn) in records.iter().zip(first.0..) {
        let group = std::slice::from_ref(record);
        for header in group_headers(header.salt, Lsn(lsn), group) {
            segment.put_slice(&header);
        }
        segment.put_slice(record.payload());
    }
    segment.freeze()
}

/// What a segment holds, as far as it can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentContent {
    /// The number after the last good record.
    pub next: Lsn,
    /// Bytes of an unfinished write behind the last good record. Nobody was told that they are durable.
    pub torn_bytes: u64,
    /// What is wrong beyond that, with the first bad record.
    pub damage: Option<Damage>,
    /// Where good records go on behind the damage: the least number that is certain to be there.
    pub resumes: Option<Lsn>,
}

/// Reads a segment whose name says that it begins with `first`, and calls `visit` with its good records until one is bad,
/// or it says stop. `is_last`: whether it is the last of its log, the only one that may end with a torn write.
pub fn read_segment(
    first: Lsn,
    segment: &[u8],
    is_last: bool,
    mut visit: impl FnMut(Lsn, &[u8]) -> ControlFlow<()>,
) -> SegmentContent {
    let mut content = SegmentContent {
        next: first,
        torn_bytes: 0,
        damage: None,
        resumes: None,
    };
    let header = match SegmentHeader::decode(segment, first) {
        Ok(header) => header,
        Err(damage) => {
            content.damage = Some(damage);
            return content;
        }
    };
    let start = Position {
        offset: SEGMENT_HEADER_BYTES as u64,
        lsn: first,
    };
    let end = segment.len() as u64;
    let mut reader = FrameReader::new(&segment[SEGMENT_HEADER_BYTES..], start, end, header.salt);
    loop {
        let position = reader.position();
        match reader.next() {
            Ok(Some((lsn, payload))) => {
                content.next = lsn.next();
                if visit(lsn, payload).is_break() {
                    return content;
                }
            }
            Ok(None) => return content,
            Err(error) => {
                let damage = damage_of(error, position);
                let behind = later_group_behind(&InMemory(segment), header.salt, position, end);
                let behind = behind.ok().flatten();
                if is_last && behind.is_none() && !matches!(damage.kind, DamageKind::Sequence { .. }) {
                    content.torn_bytes = end - position.offset;
                } else {
                    content.damage = Some(damage);
                    content.resumes = behind.and_then(|offset| lsn_at(segment, offset, header.salt));
                }
                return content;
            }
        }
    }
}

/// Bytes in memory are always read; an error would mean that they end too early.
fn damage_of(error: ReadError, position: Position) -> Damage {
    match error {
        ReadError::Damage(damage) => damage,
        ReadError::Io(_) => Damage {
            offset: position.offset,
            kind: DamageKind::PayloadCut,
        },
    }
}

fn lsn_at(segment: &[u8], offset: u64, salt: u64) -> Option<Lsn> {
    let header = segment.get(offset as usize..)?.first_chunk()?;
    Some(crate::frame::RecordHeader::decode(header, salt)?.lsn)
}

/// Bytes as a file that can be read.
struct InMemory<'a>(&'a [u8]);

impl DiskFile for InMemory<'_> {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.0.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn append(&mut self, _parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn truncate(&mut self, _length: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records(payloads: &[Vec<u8>]) -> Vec<Record> {
        let records = payloads.iter().map(|payload| Record::new(payload.clone()));
        records.map(Result::unwrap).collect()
    }

    fn read(first: Lsn, segment: &[u8], is_last: bool) -> (Vec<(u64, Vec<u8>)>, SegmentContent) {
        let mut seen = Vec::new();
        let content = read_segment(first, segment, is_last, |lsn, payload| {
            seen.push((lsn.0, payload.to_vec()));
            ControlFlow::Continue(())
        });
        (seen, content)
    }

    #[test]
    fn names_are_those_of_segments() {
        assert_eq!(segment_first_lsn(&segment_file_name(Lsn(12))), Some(Lsn(12)));
        for name in [
            "lock",
            "1.wal",
            "00000000000000000000.wal",
            "+0000000000000000001.wal",
        ] {
            assert_eq!(segment_first_lsn(name), None, "{name}");
        }
    }

    #[test]
    fn a_damaged_record_before_another_is_damage_and_not_a_torn_write() {
        let records = records(&[vec![1; 10], vec![2; 10], vec![3; 10]]);
        let segment = encode_segment(Lsn(5), &records);
        let mut damaged = segment.to_vec();
        let second = SEGMENT_HEADER_BYTES + 32 + 10;
        damaged[second + 40] ^= 1;
        let (seen, content) = read(Lsn(5), &damaged, true);
        assert_eq!(seen.len(), 1);
        assert_eq!(
            content.damage.map(|damage| damage.kind),
            Some(DamageKind::PayloadChecksum)
        );
        assert_eq!(content.resumes, Some(Lsn(7)));

        let mut torn = segment.to_vec();
        let last = torn.len() - 1;
        torn[last] ^= 1;
        let (seen, content) = read(Lsn(5), &torn, true);
        assert_eq!((seen.len(), content.torn_bytes, content.damage), (2, 42, None));
        let (_, content) = read(Lsn(5), &torn, false);
        assert!(content.damage.is_some(), "only the last segment may be torn");
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_read(
            first in 1_u64..1 << 40,
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8),
        ) {
            let segment = encode_segment(Lsn(first), &records(&payloads));
            let (seen, content) = read(Lsn(first), &segment, false);
            let expected: Vec<_> = (first..).zip(payloads).collect();
            prop_assert_eq!(content.next, Lsn(first + expected.len() as u64));
            prop_assert_eq!((content.torn_bytes, content.damage), (0, None));
            prop_assert_eq!(seen, expected);
        }

        /// However it is damaged: a prefix of the records is read, and that something is wrong is said.
        #[test]
        fn mutations_are_noticed(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..6),
            at in any::<prop::sample::Index>(),
            bits in 1_u8..,
            is_last in any::<bool>(),
        ) {
            let segment = encode_segment(Lsn(3), &records(&payloads));
            let mut damaged = segment.to_vec();
            let at = at.index(damaged.len());
            damaged[at] ^= bits;
            let (seen, content) = read(Lsn(3), &damaged, is_last);
            prop_assert!(seen.len() < payloads.len());
            for (record, payload) in seen.iter().zip(&payloads) {
                prop_assert_eq!(&record.1, payload);
            }
            prop_assert!(content.damage.is_some() || content.torn_bytes > 0);
        }

        #[test]
        fn cuts_are_noticed_or_end_the_log(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let segment = encode_segment(Lsn(3), &records(&payloads));
            let (seen, content) = read(Lsn(3), &segment[..cut.index(segment.len())], true);
            prop_assert!(seen.len() < payloads.len());
            prop_assert_eq!(content.next.0, 3 + seen.len() as u64);
        }
    }
}
