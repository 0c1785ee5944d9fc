//! The extension as the server sees it: real interpreters, spoken to over a socket.
//!
//! `TIDEMILL_TEST_PYTHON` names the interpreter, `python3` by default. `speed` holds measurements, which run on request:
//! `cargo test --release -p tidemill-worker-py -- --ignored --nocapture speed`.

#![expect(
    clippy::unwrap_used,
    reason = "tests, of which clippy only knows the functions that are marked so"
)]

mod cache;
mod entry_points;
mod failures;
mod harness;
mod libraries;
mod line_builder;
mod loading;
mod process;
mod queries;
mod responses;
mod rows;
mod speed;
mod state;
mod writes;
mod written_tables;
