//! Rows in the order of their points, each point once: the buffer's rows are brought into it, files have it, and streams
//! that have it are merged.
//!
//! The order is that of the tags in the order of the series key, absent ones first, and then of time. Of several rows of a
//! point, the later in the log wins field by field: a field that it does not have keeps the value it had.

mod assemble;
mod cursor;
mod gather;
mod merge;
mod series_ranks;
mod sort;
mod sorted_batch;

use std::pin::Pin;

use arrow::array::RecordBatch;
use futures::Stream;

use crate::FileError;

pub use merge::merge_sorted;
pub use sort::{SortedRows, sort_batches};

/// Rows in the order of their points, each point once in the whole stream. After an error nothing more comes.
pub type SortedStream = Pin<Box<dyn Stream<Item = Result<RecordBatch, FileError>> + Send>>;

/// The most rows of a batch that comes out of here.
pub(crate) const BATCH_ROWS: usize = 8192;
