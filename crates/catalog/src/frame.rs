//! The envelope of every catalog object: kind, version, length and checksum around a JSON payload.
//!
//! ```text
//! magic    8 bytes  "TMCATLOG" or "TMCATCKP"
//! version  u32 LE   of the payload's format
//! sequence u64 LE   of the record, or of the last record in the checkpoint
//! writer   16 bytes identity of the process run that wrote it, so that a writer recognises its own record
//! length   u64 LE   of the payload
//! checksum u32 LE   CRC-32/ISCSI over everything before it and the payload
//! payload
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// Payload format that is written, and the newest that is read.
const VERSION: u32 = 1;
const BODY_OFFSET: usize = CHECKSUM_OFFSET + 4;
const CHECKSUM_OFFSET: usize = 8 + 4 + 8 + 16 + 8;

/// What an object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    Record,
    Checkpoint,
}

impl FrameKind {
    fn magic(self) -> [u8; 8] {
        *match self {
            Self::Record => b"TMCATLOG",
            Self::Checkpoint => b"TMCATCKP",
        }
    }
}

/// The object's bytes.
pub(crate) fn encode(
    kind: FrameKind,
    sequence: u64,
    writer: Uuid,
    payload: &impl Serialize,
) -> Result<Bytes, serde_json::Error> {
    let payload = serde_json::to_vec(payload)?;
    let mut frame = BytesMut::with_capacity(BODY_OFFSET + payload.len());
    frame.put_slice(&kind.magic());
    frame.put_u32_le(VERSION);
    frame.put_u64_le(sequence);
    frame.put_slice(writer.as_bytes());
    frame.put_u64_le(payload.len() as u64);
    frame.put_u32_le(checksum(&frame, &payload));
    frame.put_slice(&payload);
    Ok(frame.freeze())
}

/// The payload of an object that must be of that kind and sequence number.
///
/// # Errors
/// What is wrong with the object.
pub(crate) fn decode<P: DeserializeOwned>(kind: FrameKind, sequence: u64, frame: &[u8]) -> Result<P, String> {
    let Some((head, payload)) = frame.split_at_checked(BODY_OFFSET) else {
        return Err(format!("{} bytes are too few", frame.len()));
    };
    if head[..8] != kind.magic() {
        return Err("it is of another kind".to_owned());
    }
    let version = u32::from_le_bytes(head[8..12].try_into().expect("four bytes"));
    if version > VERSION {
        return Err(format!(
            "its version {version} is newer than {VERSION}, which this program knows"
        ));
    }
    let length = u64::from_le_bytes(head[36..44].try_into().expect("eight bytes"));
    if length != payload.len() as u64 {
        return Err(format!("it holds {} of {length} bytes", payload.len()));
    }
    let stored_checksum = u32::from_le_bytes(head[CHECKSUM_OFFSET..].try_into().expect("four bytes"));
    if stored_checksum != checksum(&head[..CHECKSUM_OFFSET], payload) {
        return Err("its checksum does not match".to_owned());
    }
    let stored_sequence = u64::from_le_bytes(head[12..20].try_into().expect("eight bytes"));
    if stored_sequence != sequence {
        return Err(format!("it holds number {stored_sequence}"));
    }
    serde_json::from_slice(payload).map_err(|error| format!("its content is not understood: {error}"))
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(head);
    digest.update(payload);
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let frame = encode(FrameKind::Record, 7, Uuid::from_u128(1), &["a", "b"]).unwrap();
        let decoded: Vec<String> = decode(FrameKind::Record, 7, &frame).unwrap();
        assert_eq!(decoded, ["a", "b"]);
        for position in 0..frame.len() {
            let mut damaged = frame.to_vec();
            damaged[position] ^= 0x10;
            assert!(
                decode::<Vec<String>>(FrameKind::Record, 7, &damaged).is_err(),
                "byte {position}"
            );
            assert!(
                decode::<Vec<String>>(FrameKind::Record, 7, &frame[..position]).is_err(),
                "cut {position}"
            );
        }
    }

    #[test]
    fn kind_and_sequence_must_be_the_expected_ones() {
        let frame = encode(FrameKind::Record, 7, Uuid::from_u128(1), &0).unwrap();
        assert_eq!(
            decode::<u8>(FrameKind::Checkpoint, 7, &frame).unwrap_err(),
            "it is of another kind"
        );
        assert_eq!(
            decode::<u8>(FrameKind::Record, 8, &frame).unwrap_err(),
            "it holds number 7"
        );
    }
}
