//! The progress and the state of all triggers at a place in the log, as the object that a snapshot leaves: the log that
//! says the same may go then.
//!
//! ```text
//! 8 bytes  "TMPROGRS"
//! u32      format version
//! u64      the place in the log
//! entries of progress as in a log record, each with all of the trigger's state
//! u32      CRC-32/ISCSI of everything before
//! ```
//!
//! All numbers are little-endian.

use bytes::Bytes;
use tidemill_wal::Lsn;

use crate::progress::TriggerProgress;
use crate::record::{self, RecordError};

const MAGIC: &[u8; 8] = b"TMPROGRS";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = MAGIC.len() + 4 + 8;
const CHECKSUM_BYTES: usize = 4;

/// Why the progress of the triggers cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgressImageError {
    /// It is not what was written.
    #[error("the progress of the triggers is damaged: {0}; restore the object from a backup")]
    Damaged(&'static str),
    /// It was written by a newer program.
    #[error("the progress of the triggers has format version {0}, this program reads version {VERSION}")]
    Version(u32),
    /// It belongs to another snapshot.
    #[error("the progress of the triggers is of place {found} in the log, the snapshot of place {expected}")]
    OtherPlace {
        /// The place that it is of.
        found: u64,
        /// The place of the snapshot.
        expected: u64,
    },
    /// Its entries make no sense.
    #[error("the progress of the triggers is damaged: {0}")]
    Entry(#[from] RecordError),
}

/// Encodes the progress of all triggers at a place in the log.
pub(crate) fn encode(lsn: Lsn, triggers: &[TriggerProgress]) -> Bytes {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&lsn.0.to_le_bytes());
    for progress in triggers {
        record::encode_progress(progress, &mut out);
    }
    let checksum = crc_fast::crc32_iscsi(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.into()
}

/// Decodes what [`encode`] has made at this place in the log.
pub(crate) fn decode(lsn: Lsn, bytes: &[u8]) -> Result<Vec<TriggerProgress>, ProgressImageError> {
    let too_short = ProgressImageError::Damaged("it is too short");
    if bytes.len() < HEADER_BYTES + CHECKSUM_BYTES {
        return Err(too_short);
    }
    let (covered, checksum) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
    if crc_fast::crc32_iscsi(covered).to_le_bytes() != checksum {
        return Err(ProgressImageError::Damaged("its checksum is wrong"));
    }
    let Some((version, rest)) = covered
        .strip_prefix(MAGIC)
        .and_then(|rest| rest.split_first_chunk::<4>())
    else {
        return Err(ProgressImageError::Damaged("it does not begin as it should"));
    };
    let version = u32::from_le_bytes(*version);
    if version != VERSION {
        return Err(ProgressImageError::Version(version));
    }
    let Some((found, entries)) = rest.split_first_chunk::<8>() else {
        return Err(too_short);
    };
    let found = u64::from_le_bytes(*found);
    if found != lsn.0 {
        return Err(ProgressImageError::OtherPlace {
            found,
            expected: lsn.0,
        });
    }
    Ok(record::decode_progresses(entries)?)
}

/// Whether an object with triggers' progress is whole, at whatever place in the log it is.
///
/// # Errors
/// What is wrong with it.
pub fn check_progress(bytes: &[u8]) -> Result<(), ProgressImageError> {
    let place = bytes.get(MAGIC.len() + 4..HEADER_BYTES);
    let place = place.and_then(|place| place.first_chunk::<8>());
    let lsn = place.map_or(Lsn::ZERO, |place| Lsn(u64::from_le_bytes(*place)));
    decode(lsn, bytes).map(drop)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidemill_catalog::DatabaseId;
    use tidemill_triggers::{LogRange, Position};

    use super::*;
    use crate::progress::{StateChange, TriggerKey};

    fn progress() -> impl Strategy<Value = TriggerProgress> {
        let key = (0u32..5, 0u32..5).prop_map(|(database, trigger_id)| TriggerKey {
            database: DatabaseId(database),
            trigger_id,
        });
        let change =
            ("[a-z]{0,8}", prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(key, value)| StateChange {
                key,
                value: Some(value.into()),
            });
        let state = prop::collection::vec(change, 0..4);
        (key, 0u64..1000, state, prop::option::of(any::<i64>())).prop_map(
            |(trigger, through, state, scheduled_ns)| TriggerProgress {
                trigger,
                cursor: Position::at(through),
                state,
                scheduled_ns,
            },
        )
    }

    proptest! {
        #[test]
        fn an_image_is_read_as_it_was_written_and_damage_is_noticed(
            triggers in prop::collection::vec(progress(), 0..6),
            lsn in any::<u64>(),
            flipped in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let image = encode(Lsn(lsn), &triggers);
            prop_assert_eq!(&decode(Lsn(lsn), &image).unwrap(), &triggers);
            prop_assert!(decode(Lsn(lsn.wrapping_add(1)), &image).is_err());
            let mut damaged = image.to_vec();
            let position = flipped.index(damaged.len());
            damaged[position] ^= 1 << bit;
            prop_assert!(decode(Lsn(lsn), &damaged).is_err());
            prop_assert!(decode(Lsn(lsn), &image[..position]).is_err());
        }
    }

    const VERSION_1: &[u8] = include_bytes!("../tests/fixtures/version1.progress");
    const PLACE: Lsn = Lsn(77);

    fn progress_of_version_1() -> Vec<TriggerProgress> {
        let trigger = |trigger_id| TriggerKey {
            database: DatabaseId(1),
            trigger_id,
        };
        let change = |key: &str, value: &'static [u8]| StateChange {
            key: key.to_owned(),
            value: Some(value.into()),
        };
        let finished = vec![LogRange { after: 7, through: 9 }];
        vec![
            TriggerProgress {
                state: vec![change("größe", b"\x00value"), change("", b"")],
                ..TriggerProgress::at(trigger(2), Position::from_parts(5, finished).unwrap())
            },
            TriggerProgress {
                scheduled_ns: Some(-1),
                ..TriggerProgress::at(trigger(3), Position::at(PLACE.0))
            },
        ]
    }

    #[test]
    fn an_image_of_version_1_is_read_and_written() {
        assert_eq!(decode(PLACE, VERSION_1).unwrap(), progress_of_version_1());
        let written = encode(PLACE, &progress_of_version_1());
        assert_eq!(written, VERSION_1, "a new version needs a fixture of its own");
    }

    /// Makes the fixture of the present version; those of later ones get other names, and this one stays.
    #[test]
    #[ignore = "changes a file of the repository"]
    fn write_the_fixture() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/version1.progress");
        std::fs::write(path, encode(PLACE, &progress_of_version_1())).unwrap();
    }

    #[test]
    fn another_version_is_named() {
        let mut image = encode(Lsn(1), &[]).to_vec();
        image[MAGIC.len()] = 9;
        let end = image.len() - CHECKSUM_BYTES;
        let checksum = crc_fast::crc32_iscsi(&image[..end]);
        image[end..].copy_from_slice(&checksum.to_le_bytes());
        let error = decode(Lsn(1), &image).unwrap_err();
        assert!(error.to_string().contains("format version 9"), "{error}");
    }
}
