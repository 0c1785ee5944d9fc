//! The memory buffer: what was committed lately, as Arrow batches a table, ready to be queried.
//!
//! It takes batches in log order from the one thread that publishes commits, keeps them as they came, and merges small
//! neighbours in the background. It does not decide anything about them: it is no log (a crash empties it and replay
//! fills it), and it never parses SQL or line protocol, resolves names, or removes duplicates.
//!
//! Invariants:
//! - The rows of a snapshot, batch after batch, are the applied rows of the table in the order they were applied,
//!   whatever was merged meanwhile.
//! - Two rows of a table with equal series and time both lie in one of the snapshot's late windows; outside of the
//!   windows every row is known to be the only one of its point.
//! - A snapshot never changes, and neither taking nor holding one stops the writer.
//! - Dictionaries of merged batches have distinct values and `i32` keys.
#![deny(unsafe_code)]

mod batch;
mod late_windows;
mod merge;
mod merge_plan;
mod merger;
mod series;
mod stats;
mod store;
mod table_buffer;

pub use batch::{StoredBatch, TableBatch};
pub use series::SeriesOfRows;
pub use stats::{StoreStats, TableStats};
pub use store::{Store, StoreConfig};
pub use table_buffer::TableSnapshot;
