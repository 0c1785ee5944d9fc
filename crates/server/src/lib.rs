//! The server: HTTP on one port over the write path, the query engine and the processing engine.
//!
//! It **is** routes, request and answer formats, status codes, and the order in which everything starts and stops.
//! It **is not** a place for business rules: a route reads its parameters, calls one crate and renders what it says.
//!
//! Invariants:
//! - Errors become answers in one place ([`error`]); every one is JSON.
//! - Nothing is served before the log is replayed; on the way down nothing is accepted after the log is flushed.
//! - Until tokens exist, a server that anyone but this machine can reach must be asked for (`--without-auth`).

mod access;
mod backup;
mod body;
mod compaction_metrics;
mod config;
mod configure;
mod connections;
mod deletes;
mod encoder;
mod error;
mod file_metrics;
mod format;
mod hard_deletion;
mod health;
mod lease;
mod metrics;
mod packages;
mod plugin_requests;
mod plugins;
mod pretty;
mod query;
mod routes;
mod run;
mod stall_guard;
mod state;
mod stop_signal;
mod store_metrics;
mod system;
#[cfg(test)]
mod tests;
mod write;

pub use config::{DeletionConfig, ServerConfig};
pub use run::{ServeError, run};
pub use tidemill_ingest::SnapshotConfig;
pub use tidemill_store::compaction::CompactionConfig;
