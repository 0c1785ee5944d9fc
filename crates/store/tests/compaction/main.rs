//! Compaction with real files, against a plain model, with crashes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod crashes;
mod node;
mod steps;
