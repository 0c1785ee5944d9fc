//! The memory buffer: what was committed lately, as Arrow batches a table, ready to be queried.
//!
//! It takes batches in log order from the one thread that publishes commits, keeps them as they came, and merges small
//! neighbours in the background. It is no log: a crash empties it and replay fills it.

mod batch;
mod deletes;
mod freeze;
mod late_windows;
mod merge;
mod merge_plan;
mod merger;
mod series;
mod series_times;
mod stats;
mod store;
mod table_buffer;

pub use batch::{StoredBatch, TableBatch};
pub use freeze::{Frozen, FrozenTable};
pub use series::SeriesOfRows;
pub use stats::{StoreStats, TableStats};
pub use store::{Store, StoreConfig};
pub use table_buffer::{TableFiles, TableSnapshot};
