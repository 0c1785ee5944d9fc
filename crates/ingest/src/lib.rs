//! The write path: a body of line protocol in, an acknowledged commit out.
//!
//! It **is** the only place where parsing, the catalog, the log and the memory buffer meet, the owner of the format of a
//! log record ([`record`]) and of the [`Tail`] of recent commits from which triggers read.
//! It **is not** a parser, a log or a store, and never knows HTTP, SQL or Python.
//!
//! ```text
//! bytes ─ parse ─▶ columns ─ resolve ─▶ table batches ─ encode ─▶ log ─ durable ─▶ buffer, tail ─▶ answer, wake triggers
//! ```
//!
//! Invariants:
//! - A commit is durable before it is visible, visible before its writer is answered, and answered before a trigger is
//!   woken for it (`design.md` section 3). The log's publish step runs in log order on one thread.
//! - A delete of rows has its place in the log like a write: it removes what is before it and nothing after it.
//! - A request changes the schema as a whole or not at all, and a rejected line leaves nothing behind.
//! - What one run of a trigger wrote and how far it has read are one record: a crash has both or neither.

mod delete;
mod ingest;
mod log_export;
mod log_retention;
mod progress;
mod progress_image;
pub mod record;
mod rejections;
mod replay;
mod replay_room;
mod resolve;
mod room;
mod snapshot_config;
mod snapshots;
mod snapshotter;
mod tail;
mod write;

pub use delete::{DeleteError, DeleteRequest, InstantError, PredicateError, parse_instant};
pub use ingest::{Ingest, IngestConfig, OpenError};
pub use log_export::LogHold;
pub use progress::{StateChange, TriggerKey, TriggerProgress};
pub use progress_image::{ProgressImageError, check_progress};
pub use record::{Commit, DeletedRows, RecordError};
pub use replay::ReplayError;
pub use snapshot_config::SnapshotConfig;
pub use snapshots::{IngestStats, SnapshotStep};
pub use snapshotter::Snapshotter;
pub use tail::{Backlog, CommittedBatch, ReadLimits, TableFilter, Tail, TailRead};
pub use tidemill_wal::{Lsn, WalError};
pub use write::{DatabaseLines, NameRule, RunCommit, WriteError, WriteOutcome, WriteRequest};
