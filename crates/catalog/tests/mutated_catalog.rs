//! The check of the fuzz target, on random recipes.

#[path = "support/mutated_catalog.rs"]
mod mutated_catalog;
#[path = "../../checkpoint_log/tests/support/mutated_objects.rs"]
mod mutated_objects;

use proptest::prelude::*;

use mutated_catalog::check_mutated_catalog;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn opening_a_damaged_catalog_fails_or_gives_a_state_that_it_had(
        recipe in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        check_mutated_catalog(&recipe);
    }
}
