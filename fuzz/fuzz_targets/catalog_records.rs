//! Damages a catalog in every way it can think of and opens it: no panic, and nothing but a state that it had, unless the
//! damage has right checksums.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/catalog/tests/support/mutated_catalog.rs"]
mod mutated_catalog;
#[path = "../../crates/checkpoint_log/tests/support/mutated_objects.rs"]
mod mutated_objects;

fuzz_target!(|recipe: &[u8]| mutated_catalog::check_mutated_catalog(recipe));
