//! The bytes of a segment: a header, then records, each with a header of its own. All numbers little-endian.
//!
//! | segment header | bytes | |
//! |---|---|---|
//! | magic | 8 | `TMILLWAL` |
//! | format version | 4 | 1 |
//! | checksum | 4 | CRC-32/iSCSI of the other 28 bytes |
//! | first lsn | 8 | as in the name |
//! | salt | 8 | random, one a segment |
//!
//! | record header | bytes | |
//! |---|---|---|
//! | checksum | 4 | CRC-32/iSCSI of the segment's salt and the other 28 bytes |
//! | payload length | 4 | |
//! | lsn | 8 | |
//! | first lsn of the group | 8 | tells a torn group from a damaged one, see [`crate::tail_scan`] |
//! | payload checksum | 8 | CRC-64/NVME |
//!
//! The salt keeps a payload that happens (or pretends) to contain a record from being taken for one.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

use crate::{Lsn, Record};

pub(crate) const SEGMENT_HEADER_BYTES: usize = 32;
pub(crate) const RECORD_HEADER_BYTES: usize = 32;

const MAGIC: [u8; 8] = *b"TMILLWAL";
const FORMAT_VERSION: u32 = 1;

/// What is wrong with the bytes of a segment, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The offset, from the beginning of the segment, of the header or record that is damaged.
    pub offset: u64,
    /// In which way.
    pub kind: DamageKind,
}

/// In which way bytes of a segment are wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DamageKind {
    /// The segment ends within its header.
    SegmentHeaderCut,
    /// The segment does not begin as one of ours.
    Magic,
    /// Written by another version of this program.
    FormatVersion(u32),
    /// The segment header's checksum does not match.
    SegmentHeaderChecksum,
    /// The segment header names another first record than the file name.
    FirstLsn(Lsn),
    /// The segment ends within a record's header.
    RecordHeaderCut,
    /// A record header's checksum does not match.
    RecordHeaderChecksum,
    /// The segment ends within a record's payload.
    PayloadCut,
    /// A payload's checksum does not match.
    PayloadChecksum,
    /// A record has not the number that follows the one before.
    Sequence {
        /// The number that should be there.
        expected: Lsn,
        /// The number that is there.
        found: Lsn,
    },
}

impl fmt::Display for DamageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SegmentHeaderCut => f.write_str("it ends within the file header"),
            Self::Magic => f.write_str("it does not begin as a segment of the log"),
            Self::FormatVersion(found) => {
                write!(
                    f,
                    "it has format version {found}, this program reads version {FORMAT_VERSION}"
                )
            }
            Self::SegmentHeaderChecksum => f.write_str("the checksum of the file header does not match"),
            Self::FirstLsn(found) => write!(f, "its header says that it starts with record {found}"),
            Self::RecordHeaderCut => f.write_str("it ends within the header of a record"),
            Self::RecordHeaderChecksum => f.write_str("the checksum of a record header does not match"),
            Self::PayloadCut => f.write_str("it ends within a record"),
            Self::PayloadChecksum => f.write_str("the checksum of a record does not match"),
            Self::Sequence { expected, found } => {
                write!(f, "record {expected} should follow but record {found} is there")
            }
        }
    }
}

/// The header of a segment; see the module for its layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentHeader {
    pub(crate) first: Lsn,
    pub(crate) salt: u64,
}

impl SegmentHeader {
    pub(crate) fn new(first: Lsn) -> Self {
        Self {
            first,
            salt: random_salt(),
        }
    }

    pub(crate) fn encode(self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[24..].copy_from_slice(&self.salt.to_le_bytes());
        let checksum = segment_header_checksum(&bytes);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// `bytes`: the beginning of a segment; `named`: the record number in the segment's name.
    pub(crate) fn decode(bytes: &[u8], named: Lsn) -> Result<Self, Damage> {
        let damage = |kind| Damage { offset: 0, kind };
        let Some(bytes) = bytes.first_chunk::<SEGMENT_HEADER_BYTES>() else {
            return Err(damage(DamageKind::SegmentHeaderCut));
        };
        if bytes[..8] != MAGIC {
            return Err(damage(DamageKind::Magic));
        }
        // Before the checksum: another version may have another layout.
        let version = u32_at(bytes, 8);
        if version != FORMAT_VERSION {
            return Err(damage(DamageKind::FormatVersion(version)));
        }
        if u32_at(bytes, 12) != segment_header_checksum(bytes) {
            return Err(damage(DamageKind::SegmentHeaderChecksum));
        }
        let header = Self {
            first: Lsn(u64_at(bytes, 16)),
            salt: u64_at(bytes, 24),
        };
        if header.first != named {
            return Err(damage(DamageKind::FirstLsn(header.first)));
        }
        Ok(header)
    }
}

/// The header of a record; see the module for its layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RecordHeader {
    pub(crate) payload_bytes: u32,
    pub(crate) lsn: Lsn,
    pub(crate) group_first: Lsn,
    pub(crate) payload_checksum: u64,
}

impl RecordHeader {
    pub(crate) fn encode(self, salt: u64) -> [u8; RECORD_HEADER_BYTES] {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        bytes[4..8].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.lsn.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.group_first.0.to_le_bytes());
        bytes[24..].copy_from_slice(&self.payload_checksum.to_le_bytes());
        let checksum = record_header_checksum(&bytes, salt);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// `None` if the checksum does not match.
    pub(crate) fn decode(bytes: &[u8; RECORD_HEADER_BYTES], salt: u64) -> Option<Self> {
        (u32_at(bytes, 0) == record_header_checksum(bytes, salt)).then(|| Self::fields(bytes))
    }

    /// The fields without a check of the checksum.
    pub(crate) fn fields(bytes: &[u8; RECORD_HEADER_BYTES]) -> Self {
        Self {
            payload_bytes: u32_at(bytes, 4),
            lsn: Lsn(u64_at(bytes, 8)),
            group_first: Lsn(u64_at(bytes, 16)),
            payload_checksum: u64_at(bytes, 24),
        }
    }
}

/// The record headers of a group whose first record gets the number `first`.
pub(crate) fn group_headers(
    salt: u64,
    first: Lsn,
    group: &[Record],
) -> impl Iterator<Item = [u8; RECORD_HEADER_BYTES]> {
    group.iter().zip(first.0..).map(move |(record, lsn)| {
        let header = RecordHeader {
            payload_bytes: record.payload().len() as u32,
            lsn: Lsn(lsn),
            group_first: first,
            payload_checksum: record.checksum(),
        };
        header.encode(salt)
    })
}

/// The bytes a group takes in a segment.
pub(crate) fn group_bytes(group: &[Record]) -> u64 {
    group
        .iter()
        .map(|record| (RECORD_HEADER_BYTES + record.payload().len()) as u64)
        .sum()
}

/// Unpredictable enough that no payload can be made to contain a valid record of the segment.
pub(crate) fn random_salt() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn segment_header_checksum(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> u32 {
    let mut covered = [0; SEGMENT_HEADER_BYTES - 4];
    covered[..12].copy_from_slice(&bytes[..12]);
    covered[12..].copy_from_slice(&bytes[16..]);
    crc_fast::crc32_iscsi(&covered)
}

fn record_header_checksum(bytes: &[u8; RECORD_HEADER_BYTES], salt: u64) -> u32 {
    let mut covered = [0; 8 + RECORD_HEADER_BYTES - 4];
    covered[..8].copy_from_slice(&salt.to_le_bytes());
    covered[8..].copy_from_slice(&bytes[4..]);
    crc_fast::crc32_iscsi(&covered)
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_header_round_trip_and_every_flipped_bit_is_seen() {
        let header = SegmentHeader::new(Lsn(42));
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes, Lsn(42)), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&flipped, Lsn(42)).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_header_under_another_name_is_refused() {
        let bytes = SegmentHeader::new(Lsn(42)).encode();
        let damage = SegmentHeader::decode(&bytes, Lsn(43)).unwrap_err();
        assert_eq!(damage.kind, DamageKind::FirstLsn(Lsn(42)));
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = SegmentHeader::new(Lsn(1)).encode();
        bytes[8] = 2;
        let damage = SegmentHeader::decode(&bytes, Lsn(1)).unwrap_err();
        assert_eq!(damage.kind, DamageKind::FormatVersion(2));
    }

    #[test]
    fn record_header_round_trip_and_every_flipped_bit_is_seen() {
        let header = RecordHeader {
            payload_bytes: 7,
            lsn: Lsn(3),
            group_first: Lsn(2),
            payload_checksum: 0xfeed,
        };
        let bytes = header.encode(99);
        assert_eq!(RecordHeader::decode(&bytes, 99), Some(header));
        assert_eq!(RecordHeader::decode(&bytes, 98), None, "another segment's salt");
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::decode(&flipped, 99), None, "bit {bit}");
        }
    }
}
