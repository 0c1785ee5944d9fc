//! What was committed: the memory buffer, the Parquet files it becomes, and their way to fewer and larger ones.
//!
//! It **is** [`buffer`] (recent rows, Arrow batches in log order), [`manifest`] (which files there are), [`files`] (how they
//! are written, cached and read) and [`sorted`] (rows in the order of their points, and merging them). It
//! **is not** a log, and it never parses SQL or line protocol or resolves names.
//!
//! Invariants:
//! - The rows of a snapshot's buffer, batch after batch, are the applied rows of the table in the order they were applied,
//!   whatever was merged meanwhile; its files hold what was applied before those, each row once.
//! - Two rows of the *buffer* with equal series and time both lie in one of the snapshot's late windows; outside of the
//!   windows every row of the buffer is known to be the only one of its point in the buffer.
//! - Of two files of a table that overlap in time one is wholly later in the log ([`DataFile`]).
//! - A snapshot never changes, its files stay readable, and neither taking nor holding one stops the writer.
//! - Dictionaries of merged batches have distinct values and `i32` keys.
#![deny(unsafe_code)]

pub mod buffer;
pub mod compaction;
pub mod files;
mod hard_delete;
pub mod manifest;
mod priority;
pub mod sorted;
pub mod storage;

pub use buffer::{
    Frozen, FrozenTable, SeriesOfRows, Store, StoreConfig, StoreStats, StoredBatch, TableBatch, TableFiles,
    TableSnapshot, TableStats,
};
pub use files::{
    CHUNK_ORDER_COLUMN, CacheStats, DeleteFilter, Effort, FileDamage, FileError, FileReader, FileSchema,
    FileStore, FileStoreConfig, FileStoreStats, WriteSpec, check_bytes, scan_file, write_file,
};
pub use hard_delete::{HardDeleteError, HardDeleted, TableData, hard_delete_due, next_hard_delete};
pub use manifest::{
    DataFile, Edit, FileId, FileTail, Manifest, ManifestError, ManifestState, RowDelete, TagCondition,
};
pub use sorted::{SortedRows, SortedStream, merge_sorted, sort_batches};
pub use storage::{Flush, FlushError, FlushReport, Storage, StorageError};
