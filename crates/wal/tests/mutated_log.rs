//! The check of the fuzz target, on random recipes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use proptest::prelude::*;

use support::mutated_log::{check_mutated_log, check_segment};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn opening_a_damaged_log_fails_or_gives_a_prefix(recipe in prop::collection::vec(any::<u8>(), 0..1500)) {
        check_mutated_log(&recipe);
    }

    /// Segments that were really written, with some bytes changed and perhaps an end cut off.
    #[test]
    fn whatever_a_segment_holds_is_told(
        is_object in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let files: [&[u8]; 2] = [
            include_bytes!("fixtures/version1.file.wal"),
            include_bytes!("fixtures/version1.object.wal"),
        ];
        let mut segment = files[usize::from(is_object)].to_vec();
        for (at, byte) in changes {
            let at = at.index(segment.len());
            segment[at] = byte;
        }
        if let Some(cut) = cut {
            segment.truncate(cut.index(segment.len()));
        }
        check_segment(&segment);
    }

    /// Short payloads leave more of the recipe for changes.
    #[test]
    fn opening_a_log_with_one_change_fails_or_gives_a_prefix(
        lengths in prop::collection::vec(0_u8..20, 1..6),
        change in prop::array::uniform5(any::<u8>()),
    ) {
        let mut recipe = vec![lengths.len() as u8];
        for length in lengths {
            recipe.extend([0, length]);
            recipe.extend(vec![length; usize::from(length)]);
        }
        recipe.extend(change);
        check_mutated_log(&recipe);
    }
}
