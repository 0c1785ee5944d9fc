//! The check of the fuzz target, on records that were really written, with some bytes changed.

#[path = "support/any_record.rs"]
mod any_record;

use any_record::check_record;
use proptest::prelude::*;

const WRITTEN: [&[u8]; 3] = [
    include_bytes!("fixtures/format3.record"),
    include_bytes!("fixtures/format4.record"),
    include_bytes!("fixtures/version1.progress"),
];

#[derive(Debug, Clone)]
enum Change {
    Set(u8),
    Insert(u8),
    Remove,
    Cut,
}

fn change() -> impl Strategy<Value = Change> {
    // Small numbers and the largest ones are counts and offsets that are nearly right.
    let byte = prop_oneof![0_u8..9, any::<u8>(), 250_u8..];
    prop_oneof![
        6 => byte.clone().prop_map(Change::Set),
        1 => byte.prop_map(Change::Insert),
        1 => Just(Change::Remove),
        1 => Just(Change::Cut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn whatever_a_record_holds_is_read_or_refused(
        which in 0..WRITTEN.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), change()), 0..5),
    ) {
        let mut bytes = WRITTEN[which].to_vec();
        for (at, change) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match change {
                Change::Set(byte) => bytes[at] = byte,
                Change::Insert(byte) => bytes.insert(at, byte),
                Change::Remove => drop(bytes.remove(at)),
                Change::Cut => bytes.truncate(at),
            }
        }
        check_record(&bytes);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check_record(&bytes);
    }
}
