//! The durable log: opaque payloads in, numbered records out, and nothing that was answered is ever lost.
//!
//! **It is** an append-only sequence of records, each with a length and checksums, numbered without gaps by
//! [`Lsn`]. [`Wal::append`] takes a payload and a value; one thread writes everything that waits as *one group*
//! (one `fdatasync`, or one object), hands the values of the group to the `publish` callback and then answers
//! the writers. [`Wal::open`] replays what is there, [`Wal::read`] serves readers that lag behind.
//!
//! **It is not** a queue with consumers, and it **never** looks into a payload: it knows no SQL, no HTTP, no
//! Python, no catalog. It holds no reader positions; whoever owns them calls [`Wal::truncate_before`].
//!
//! Invariants:
//!
//! - The order of `append` calls is the order of the numbers. Number `n + 1` is durable only if `n` is.
//! - A value is published after its record is durable and before its writer is answered, and readers are woken
//!   after that; values of a group that failed are dropped and their numbers are given to the next group.
//! - A group starts only after the group before it is durable. Hence damage followed by a record of a *later*
//!   group can't come from a crash and is refused, with the file and the offset in the error; damage with
//!   nothing but its own group behind it, at the end of the last segment, is a torn write and is cut.
//! - Files and directories are synced where names change; one process owns one log.
//!
//! Two media implement [`Medium`]: [`FileMedium`] (segment files in a directory) and [`ObjectMedium`] (one
//! object a group in an object store).

#![deny(unsafe_code, missing_docs)]

mod disk;
mod error;
mod file_medium;
mod file_reader;
mod file_replay;
mod flush;
mod frame;
mod frame_reader;
mod lsn;
mod medium;
mod object_medium;
mod queue;
mod record;
mod segment_bytes;
mod segments;
mod tail_scan;
mod wal;

pub use crate::disk::{Disk, DiskFile, OsDisk};
pub use crate::error::WalError;
pub use crate::file_medium::FileMedium;
pub use crate::frame::{Damage, DamageKind};
pub use crate::lsn::Lsn;
pub use crate::medium::{DurableLog, Medium, Recovery, Visitor, WalConfig};
pub use crate::object_medium::ObjectMedium;
pub use crate::queue::WalStats;
pub use crate::record::{PAYLOAD_BYTES_MAX, Record};
pub use crate::segment_bytes::{
    SegmentContent, encode_segment, read_segment, segment_file_name, segment_first_lsn,
};
pub use crate::wal::{Pending, Wal};
