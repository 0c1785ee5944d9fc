//! Damages a manifest in every way it can think of and opens it: no panic, and nothing but a state that it had.
//! The same check runs on random input in `tests/mutated_manifest.rs`.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/mutated_manifest.rs"]
mod mutated_manifest;

fuzz_target!(|recipe: &[u8]| mutated_manifest::check_mutated_manifest(recipe));
