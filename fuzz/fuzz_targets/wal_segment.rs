//! Damages a log in every way it can think of and opens it: no panic, and nothing but a prefix of what was written.

#![no_main]
#![allow(dead_code, unreachable_pub, reason = "the support files serve the tests too")]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/wal/tests/support/log_file.rs"]
mod log_file;
#[path = "../../crates/wal/tests/support/mutated_log.rs"]
mod mutated_log;

fuzz_target!(|recipe: &[u8]| {
    mutated_log::check_mutated_log(recipe);
    mutated_log::check_segment(recipe);
});
