//! Sorting, merging, writing and reading, against a plain model.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod model;
mod round_trip;
mod sorting;
mod tables;
