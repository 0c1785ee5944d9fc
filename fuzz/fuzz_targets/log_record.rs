//! Any bytes as the payload of a log record, and as the progress that a snapshot leaves: no panic, and what is read can be
//! written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/ingest/tests/support/any_record.rs"]
mod any_record;

fuzz_target!(|bytes: &[u8]| any_record::check_record(bytes));
