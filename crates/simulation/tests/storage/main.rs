//! The whole of storage on a machine that fails: seeded runs of writes, deletes, snapshots, compactions and a trigger's
//! runs, with requests and syncs that fail and power that goes at any step. After each restart everything that was
//! acknowledged must be there with its last value, and nothing else; the trigger has had every row exactly once.
//!
//! `SIMULATION_SEEDS=n` runs so many seeds, `SIMULATION_SEED=n` only that one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod contents;
mod life;
mod model;
mod process;
mod workload;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use life::World;

const SEEDS: u64 = 2000;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} must be a number, not '{text}'")),
    )
}

fn simulate(seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { World::new(seed).run().await });
}

#[test]
fn nothing_acknowledged_is_lost_whatever_fails() {
    if let Some(seed) = number("SIMULATION_SEED") {
        return simulate(seed);
    }
    let seeds = number("SIMULATION_SEEDS").unwrap_or(SEEDS);
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || failed.load(Ordering::Relaxed) < seed {
                        break;
                    }
                    if catch_unwind(AssertUnwindSafe(|| simulate(seed))).is_err() {
                        failed.fetch_min(seed, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let seed = failed.into_inner();
    assert!(
        seed == u64::MAX,
        "seed {seed} fails; again: SIMULATION_SEED={seed} cargo test --release -p tidemill-simulation --test storage"
    );
}
