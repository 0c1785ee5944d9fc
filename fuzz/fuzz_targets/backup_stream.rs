//! Any bytes as a backup on its way, in pieces of any size: no panic, and no more content than was sent.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/backup/tests/support/any_stream.rs"]
mod any_stream;

fuzz_target!(|bytes: &[u8]| {
    any_stream::check_stream(bytes);
});
