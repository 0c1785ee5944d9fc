//! What one log differs in from another.

use std::time::Duration;

use object_store::path::Path;

/// Where a log lies and how it behaves.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// What it is called in log lines.
    pub name: &'static str,
    /// Its folder in the object store.
    pub folder: Path,
    /// First bytes of a record.
    pub record_magic: [u8; 8],
    /// First bytes of a checkpoint.
    pub checkpoint_magic: [u8; 8],
    /// Version of the payloads that is written, and the newest that is read.
    pub version: u32,
    /// How the newest checkpoint is found.
    pub start: Start,
    /// After so many records a checkpoint is written in the background.
    pub records_per_checkpoint: u64,
    /// What happens to a change whose put fails.
    pub on_failure: OnFailure,
}

/// How the newest checkpoint and the records after it are found at start-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The folders are listed. They are short.
    Listing,
    /// The object `current` names a checkpoint, and records are read one after the other until one is missing: nothing
    /// is listed unless `current` is missing or damaged, or names a checkpoint that is gone.
    Pointer {
        /// First bytes of `current`.
        magic: [u8; 8],
    },
}

/// What happens to a change whose put fails, so that nobody knows whether it is or will be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The caller gets the error and may try again. If the change is durable nevertheless, it takes effect before the
    /// next one. For changes that name all they mean, so that a second try is harmless.
    Report,
    /// The put is repeated until its outcome is known. The caller gets an error only if nothing was done. For changes
    /// that refer to objects, which the caller must neither remove nor name again while the outcome is unknown.
    Insist {
        /// How long the first pause is; each one is twice the one before.
        pause_min: Duration,
        /// No pause is longer.
        pause_max: Duration,
    },
}
