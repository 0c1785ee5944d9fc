//! Backups of a node, and the check of everything that it has stored.
//!
//! It **is** [`export`] (a running node as one stream of bytes), [`stream`] (the format of that), [`import()`] (from the
//! stream into a directory or a bucket), [`restore()`] (from there into the place of a node) and [`verify`] (reads everything
//! back and says in plain words what is damaged and what is safe). It **is not** a server and not a command line: the one
//! routes, the other prints.
//!
//! Invariants:
//! - A backup is one state that the node had: whatever was answered before it began is in it, and nothing is in it twice.
//! - A backup that was not finished, or is not whole, is never taken for one that is: every object is checked against its
//!   length and checksum, in the stream and in the index that is written last.
//! - A node into which a restore was not finished does not start.
//! - [`verify`] writes nothing, and no damage makes it panic or stop looking.
#![deny(unsafe_code)]

mod error;
pub mod export;
mod import;
mod index;
mod ingest_log;
mod object_writer;
mod place;
mod readable_bytes;
mod restore;
pub mod stream;
pub mod verify;

pub use error::BackupError;
pub use import::{Progress, import};
pub use index::{BackupIndex, BackupObject};
pub use place::BackupPlace;
pub use readable_bytes::ReadableBytes;
pub use restore::{RESTORE_MARK, RestoreReport, check_restored, restore};
