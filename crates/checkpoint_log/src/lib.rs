//! A state that is a log of small records in an object store, with checkpoints.
//!
//! **It is** what the catalog and the manifest have in common: where records and checkpoints lie, their envelope, how the
//! state is read at start-up, how a change becomes durable and then visible, and what happens to a change whose outcome
//! the store did not tell. What a state and a change are is the business of whoever implements [`LogState`].
//!
//! **It is not** a log of data: all of the state is in memory, and a checkpoint holds all of it.
//!
//! Invariants:
//! - A state is immutable. Readers take it without a lock and keep it as long as they like.
//! - A change becomes visible only after its record is durable, and all of a record becomes visible at once.
//! - Changes are serialised; a record that another process wrote is an error, never overwritten.
//! - Start-up reads one checkpoint and a bounded tail, whatever the log's age.
#![deny(unsafe_code)]

mod config;
mod disk;
mod error;
mod frame;
mod inspect;
mod log;
mod objects;
mod pointer;
mod state;

pub use config::{LogConfig, OnFailure, Start};
pub use disk::is_disk_full;
pub use error::LogError;
pub use inspect::{DamagedObject, Inspection, inspect};
pub use log::CheckpointLog;
pub use state::{Change, LogState};
