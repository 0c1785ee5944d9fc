//! The check of the fuzz target, on random recipes.

#[path = "support/mutated_manifest.rs"]
mod mutated_manifest;
#[path = "../../checkpoint_log/tests/support/mutated_objects.rs"]
mod mutated_objects;

use proptest::prelude::*;

use mutated_manifest::check_mutated_manifest;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn opening_a_damaged_manifest_fails_or_gives_a_state_that_it_had(
        recipe in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        check_mutated_manifest(&recipe);
    }
}
