//! The store stops at every operation, in each way it can; the journal is opened again and holds what it should.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::SECOND;
use support::checked_journal::{AGE_MAX, CheckedJournal, Step};
use tidemill_testkit::Fault;

/// Flushes, merges of two sizes, removals, expiry.
fn scenario() -> Vec<Step> {
    let mut steps = Vec::new();
    for round in 0..20 {
        steps.push(Step::Append {
            rows: 3,
            text_bytes: 500,
        });
        steps.push(if round % 3 == 0 { Step::Flush } else { Step::Upkeep });
        steps.push(Step::AppendDurably { text_bytes: 10 });
        steps.push(Step::Advance {
            nanoseconds: AGE_MAX.as_nanos() as i64 / 15,
        });
        if round % 5 == 4 {
            steps.push(Step::Remove { every: round });
        }
    }
    steps.push(Step::Advance {
        nanoseconds: AGE_MAX.as_nanos() as i64 / 2,
    });
    steps.extend([Step::Upkeep, Step::Upkeep]);
    steps
}

async fn check(fault: Fault) {
    let mut operations = 0;
    loop {
        let mut journal = CheckedJournal::new().await;
        journal.clock.advance(1000 * SECOND);
        journal.store.die_after(operations, fault);
        for step in &scenario() {
            journal.step(step).await;
        }
        journal.check().await;
        let has_died = journal.store.is_dead();
        journal.finish().await;
        if !has_died {
            break;
        }
        operations += 1;
    }
    assert!(operations > 100, "only {operations} operations were tried");
}

#[tokio::test]
async fn the_store_stops_before_an_operation() {
    check(Fault::Refuse).await;
}

#[tokio::test]
async fn the_store_stops_after_an_operation() {
    check(Fault::LoseAnswer).await;
}

#[tokio::test]
async fn the_store_stops_within_an_operation() {
    check(Fault::Tear).await;
}
