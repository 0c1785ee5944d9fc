//! Sorting, merging, writing and reading, against a plain model.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod caching;
mod damage;
mod deletes;
mod formats;
mod merging;
mod model;
mod odd_rows;
mod pruning;
mod round_trip;
mod sorting;
mod storage;
mod tables;
