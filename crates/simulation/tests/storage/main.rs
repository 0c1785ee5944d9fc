//! The whole of storage on a machine that fails: a seeded run of writes, deletes, snapshots, compactions and triggers'
//! runs, with requests and syncs that fail and power that goes at any step. After each restart everything that was
//! acknowledged must be there with its last value, and nothing else; every trigger has had every row exactly once.
//!
//! `SIMULATION_SEEDS=n` runs so many seeds, `SIMULATION_SEED=n` only that one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod contents;
mod model;
mod process;
mod workload;
