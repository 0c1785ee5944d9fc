//! Counters that are counted without a lock, and the text in which Prometheus reads them.
//!
//! **It is** a histogram of durations and a writer of the Prometheus text format (version 0.0.4). **It is not** a registry:
//! whoever counts owns what it counts, and whoever answers `/metrics` asks the owners.

#![deny(unsafe_code, missing_docs)]

mod duration_histogram;
mod exposition;

pub use duration_histogram::{BUCKET_BOUNDS_NS, DurationHistogram, Durations};
pub use exposition::{CONTENT_TYPE, Exposition, Kind};
