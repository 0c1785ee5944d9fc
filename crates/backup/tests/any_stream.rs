//! The check of the fuzz target, on a stream that was really sent, with some bytes changed.

#[path = "support/any_stream.rs"]
mod any_stream;

use any_stream::check_stream;
use proptest::prelude::*;

const SENT: &[u8] = include_bytes!("fixtures/version1.backup");

#[test]
fn what_was_sent_is_a_whole_stream() {
    assert!(check_stream(SENT));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Half of the changes are near the beginning, where most of the structure is.
    #[test]
    fn a_changed_stream_is_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..4),
        is_near in any::<bool>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = SENT.to_vec();
        let span = if is_near { 400 } else { bytes.len() };
        for (at, bits) in changes {
            bytes[at.index(span)] ^= bits;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(SENT.len()));
        }
        prop_assert!(!check_stream(&bytes) || bytes == SENT);
    }
}
