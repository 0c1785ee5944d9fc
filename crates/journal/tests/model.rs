//! Any sequence of appends, flushes, merges, removals, faults and crashes leaves what a list would hold.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use proptest::prelude::*;
use support::SECOND;
use support::checked_journal::{CheckedJournal, Step};
use tidemill_testkit::Fault;

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![Just(Fault::Refuse), Just(Fault::LoseAnswer), Just(Fault::Tear)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_i64..5, 0_usize..3_000).prop_map(|(rows, text_bytes)| Step::Append { rows, text_bytes }),
        2 => (0_usize..3_000).prop_map(|text_bytes| Step::AppendDurably { text_bytes }),
        6 => Just(Step::Flush),
        4 => Just(Step::Upkeep),
        1 => (1_i64..6).prop_map(|every| Step::Remove { every }),
        3 => (0..100 * SECOND).prop_map(|nanoseconds| Step::Advance { nanoseconds }),
        2 => (0_usize..6, fault()).prop_map(|(after, fault)| Step::Fail { after, fault }),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #[test]
    fn it_holds_what_a_list_would(steps in prop::collection::vec(step(), 1..100)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut journal = CheckedJournal::new().await;
            for step in &steps {
                journal.step(step).await;
                journal.check().await;
            }
            journal.finish().await;
        });
    }
}
