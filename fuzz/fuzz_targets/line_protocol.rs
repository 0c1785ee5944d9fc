//! Any text must be parsed without a panic, into columns that are consistent.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidemill_lineproto::{ParseOptions, Precision, parse};

#[path = "../../crates/lineproto/tests/parser/invariants.rs"]
mod invariants;

const STRING_BYTES_MAX: usize = 64;

fuzz_target!(|body: &str| {
    for precision in [Precision::Auto, Precision::Second] {
        let options = ParseOptions {
            precision,
            default_time_ns: 0,
            string_bytes_max: STRING_BYTES_MAX,
        };
        invariants::assert_invariants(body, &parse(body, &options));
    }
});
