//! What a profile does to real processes: each test lets Python try something in the sandbox, and compares what came of it.
//! Where this kernel lacks a measure, the report has to say so instead.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod child;

mod files;
mod kernels;
mod limits;
mod network;
mod processes;
mod work;
