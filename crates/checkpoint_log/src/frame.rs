//! The envelope of every object: kind, version, length and checksum around a JSON payload.
//!
//! ```text
//! magic    8 bytes  of the log and the kind of object
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

const BODY_OFFSET: usize = CHECKSUM_OFFSET + 4;
const CHECKSUM_OFFSET: usize = 8 + 4 + 8 + 16 + 8;

/// What an object is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameKind {
    pub(crate) magic: [u8; 8],
    /// Version of the payload that is written, and the newest that is read.
    pub(crate) version: u32,
}

/// An undamaged object.
pub(crate) struct Frame<'a> {
    pub(crate) sequence: u64,
    pub(crate) writer: Uuid,
    payload: &'a [u8],
}

impl FrameKind {
    /// The object's bytes.
    pub(crate) fn encode(
        self,
        sequence: u64,
        writer: Uuid,
        payload: &impl Serialize,
    ) -> Result<Bytes, serde_json::Error> {
        let payload = serde_json::to_vec(payload)?;
        let mut frame = BytesMut::with_capacity(BODY_OFFSET + payload.len());
        frame.put_slice(&self.magic);
        frame.put_u32_le(self.version);
        frame.put_u64_le(sequence);
        frame.put_slice(writer.as_bytes());
        frame.put_u64_le(payload.len() as u64);
        frame.put_u32_le(checksum(&frame, &payload));
        frame.put_slice(&payload);
        Ok(frame.freeze())
    }

    /// The payload of an object that must be of this kind and have that sequence number.
    ///
    /// # Errors
    /// What is wrong with the object.
    pub(crate) fn decode<P: DeserializeOwned>(self, sequence: u64, frame: &[u8]) -> Result<P, String> {
        let frame = self.open(frame)?;
        if frame.sequence != sequence {
            return Err(format!("it holds number {}", frame.sequence));
        }
        serde_json::from_slice(frame.payload)
            .map_err(|error| format!("its content is not understood: {error}"))
    }

    /// What is in an object of this kind.
    ///
    /// # Errors
    /// What is wrong with the object.
    pub(crate) fn open(self, frame: &[u8]) -> Result<Frame<'_>, String> {
        let Some((head, payload)) = frame.split_at_checked(BODY_OFFSET) else {
            return Err(format!("{} bytes are too few", frame.len()));
        };
        if head[..8] != self.magic {
            return Err("it is of another kind".to_owned());
        }
        let version = u32::from_le_bytes(head[8..12].try_into().expect("four bytes"));
        if version > self.version {
            return Err(format!(
                "its version {version} is newer than {}, which this program knows",
                self.version
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
        Ok(Frame {
            sequence: u64::from_le_bytes(head[12..20].try_into().expect("eight bytes")),
            writer: Uuid::from_bytes(head[20..36].try_into().expect("sixteen bytes")),
            payload,
        })
    }
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

    const RECORD: FrameKind = FrameKind {
        magic: *b"TESTRECD",
        version: 1,
    };

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let frame = RECORD.encode(7, Uuid::from_u128(1), &["a", "b"]).unwrap();
        let decoded: Vec<String> = RECORD.decode(7, &frame).unwrap();
        assert_eq!(decoded, ["a", "b"]);
        for position in 0..frame.len() {
            let mut damaged = frame.to_vec();
            damaged[position] ^= 0x10;
            assert!(
                RECORD.decode::<Vec<String>>(7, &damaged).is_err(),
                "byte {position}"
            );
            let cut = &frame[..position];
            assert!(RECORD.decode::<Vec<String>>(7, cut).is_err(), "cut {position}");
        }
    }

    #[test]
    fn kind_version_and_sequence_must_be_the_expected_ones() {
        let frame = RECORD.encode(7, Uuid::from_u128(1), &0).unwrap();
        let other = FrameKind {
            magic: *b"TESTCKPT",
            ..RECORD
        };
        assert_eq!(
            other.decode::<u8>(7, &frame).unwrap_err(),
            "it is of another kind"
        );
        assert_eq!(RECORD.decode::<u8>(8, &frame).unwrap_err(), "it holds number 7");
        let newer = FrameKind { version: 2, ..RECORD };
        let frame = newer.encode(7, Uuid::from_u128(1), &0).unwrap();
        assert_eq!(
            RECORD.decode::<u8>(7, &frame).unwrap_err(),
            "its version 2 is newer than 1, which this program knows"
        );
    }
}
