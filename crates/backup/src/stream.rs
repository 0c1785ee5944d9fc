//! The format of a backup on its way: everything that makes up a node, object after object, as one sequence of bytes of
//! which every cut and every changed byte is noticed.
//!
//! ```text
//! stream   magic "TMBACKUP", version u32, head, object*, end or failure
//! frame    kind u8, header length u32, content length u64, checksum u32 of these and the header, header
//! head     frame of kind 1, the header is JSON: what the backup is of
//! object   frame of kind 2, the header is the path of the object below the node; then its content:
//!          part*, length 0 u32, checksum u32 of the content
//! part     length u32, bytes; the length 2^32 - 1 has no bytes: the object is given up, a failure follows
//! end      frame of kind 3, the header is JSON: how many objects and bytes came before
//! failure  frame of kind 4, the header is a text: why the server could not go on
//! ```
//!
//! Numbers are little-endian, checksums are CRC-32/ISCSI. Nothing follows an end or a failure, and a stream without one of
//! them is not complete.

mod decoder;
mod encoder;

use crc_fast::{CrcAlgorithm, Digest};
use serde::{Deserialize, Serialize};

pub use decoder::{Decoder, Event};
pub use encoder::Encoder;

/// First bytes of a stream.
pub const MAGIC: [u8; 8] = *b"TMBACKUP";
/// Version that is written, and the newest that is read.
pub const VERSION: u32 = 1;
/// Media type of a stream in an HTTP answer.
pub const CONTENT_TYPE: &str = "application/vnd.tidemill.backup";

/// Longest header of a frame, so that a damaged length asks for no memory.
const HEADER_BYTES_MAX: usize = 1 << 16;
const PREAMBLE_BYTES: usize = 8 + 4;
const FRAME_START_BYTES: usize = 1 + 4 + 8 + 4;
/// Length of a part that says that the object is given up.
const GIVEN_UP: u32 = u32::MAX;

const KIND_HEAD: u8 = 1;
const KIND_OBJECT: u8 = 2;
const KIND_END: u8 = 3;
const KIND_FAILURE: u8 = 4;

/// What a backup is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamHead {
    /// Version of the program that made it.
    pub program_version: String,
    /// The node.
    pub node_id: String,
    /// When it began, nanoseconds since the epoch.
    pub created_ns: i64,
    /// Everything up to this place in the log is in its Parquet files; 0: nothing is.
    pub snapshot_lsn: u64,
    /// The first record of the log that is in the backup; `log_last + 1` if none is.
    pub log_first: u64,
    /// The last record of the log that is in the backup, or that its files hold.
    pub log_last: u64,
    /// About how many bytes will come; log records are not counted.
    pub bytes_expected: u64,
}

/// How much came before the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEnd {
    /// Objects.
    pub objects: u64,
    /// Bytes of their contents.
    pub bytes: u64,
}

/// What is wrong with a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// Something else answered.
    #[error("what was received is not a backup: is this the address of a tidemill server?")]
    Magic,
    /// Made by a newer program.
    #[error("the backup has format {0}, this program reads up to {VERSION}: use the version of the server")]
    Version(u32),
    /// A byte was changed on the way.
    #[error("the backup was damaged on its way, at byte {offset}: {reason}")]
    Damaged {
        /// Place in the stream.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// The connection ended early.
    #[error(
        "the backup ends early, after {objects} objects with {bytes} bytes: the server or the connection was stopped"
    )]
    Cut {
        /// Whole objects before.
        objects: u64,
        /// Bytes of their contents.
        bytes: u64,
    },
    /// The server says why it could not go on.
    #[error("the server could not go on: {0}")]
    Server(String),
}

/// CRC-32/ISCSI of an object that comes in parts.
#[derive(Clone)]
pub(crate) struct Checksum(Digest);

impl Checksum {
    pub(crate) fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn value(&self) -> u32 {
        self.0.finalize() as u32
    }
}

/// CRC-32/ISCSI of the start of a frame and its header.
fn header_checksum(start: &[u8], header: &[u8]) -> u32 {
    let mut checksum = Checksum::new();
    checksum.update(start);
    checksum.update(header);
    checksum.value()
}
