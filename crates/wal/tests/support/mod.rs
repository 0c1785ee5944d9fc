//! Shared by the tests: a disk that fails and crashes, and short ways to write and read a log.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses its own part of this module"
)]

pub mod gated_medium;
pub mod log_file;
pub mod mutated_log;
