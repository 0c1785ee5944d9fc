//! A process that dies between any two requests to the store, and the one that comes after it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use proptest::prelude::*;
use support::{ListLog, add, config};
use tidemill_checkpoint_log::{LogConfig, Start};
use tidemill_testkit::{Fault, FaultyStore};

#[derive(Clone, Copy, Debug)]
enum Step {
    Add,
    Checkpoint,
}

/// One process: what it does, and after how many requests it dies, if the store is to be gone then.
#[derive(Clone, Debug)]
struct Life {
    steps: Vec<Step>,
    dies_after: usize,
    last_fault: Fault,
}

fn life() -> impl Strategy<Value = Life> {
    let step = prop_oneof![4 => Just(Step::Add), 1 => Just(Step::Checkpoint)];
    let fault = prop_oneof![Just(Fault::Refuse), Just(Fault::LoseAnswer)];
    (prop::collection::vec(step, 1..25), 0..60usize, fault).prop_map(|(steps, dies_after, last_fault)| Life {
        steps,
        dies_after,
        last_fault,
    })
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![Just(Start::Listing), Just(Start::Pointer { magic: *b"TESTCURR" })]
}

/// Runs the lives one after the other. What was confirmed must be there in the next one, in order; what was not may be
/// there once or not at all.
async fn run(config: &LogConfig, lives: &[Life]) {
    let store = FaultyStore::new();
    let mut confirmed: Vec<u64> = Vec::new();
    let mut next_item = 0;
    for life in lives {
        store.repair();
        let log = ListLog::open(store.object_store(), config).await.unwrap();
        check(&log, &confirmed);
        confirmed.clone_from(&log.state().items);
        store.die_after(life.dies_after, life.last_fault);
        for step in &life.steps {
            match step {
                Step::Checkpoint => drop(log.checkpoint().await),
                Step::Add => {
                    next_item += 1;
                    if add(&log, next_item).await.is_ok() {
                        // A change in doubt may have taken effect just before.
                        check(&log, &confirmed);
                        confirmed.clone_from(&log.state().items);
                        assert_eq!(confirmed.last(), Some(&next_item));
                    }
                }
            }
        }
    }
    store.repair();
    check(
        &ListLog::open(store.object_store(), config).await.unwrap(),
        &confirmed,
    );
}

fn check(log: &ListLog, confirmed: &[u64]) {
    let items = &log.state().items;
    assert!(
        items.starts_with(confirmed),
        "{confirmed:?} were confirmed, but there are {items:?}"
    );
    assert!(items.is_sorted_by(|left, right| left < right), "{items:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_was_confirmed_is_lost(start in start(), lives in prop::collection::vec(life(), 1..6)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(run(&config(start), &lives));
    }
}
