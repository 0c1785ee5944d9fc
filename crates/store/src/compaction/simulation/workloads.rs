//! Ingest of several kinds, and what is to be left of it.

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::table::{DAY, HOUR, Point, SECOND, SimTable, YEAR};
use crate::compaction::CompactionReason;

fn random() -> impl FnMut(u64) -> u64 {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    move |bound| rng.next_u64() % bound
}

/// `count` points of `series` series, evenly from `start` for `span`.
fn even(start: i64, span: i64, count: u64, series: u32) -> Vec<Point> {
    let steps = count / u64::from(series);
    (0..steps)
        .flat_map(|step| {
            let time = start + (i128::from(span) * i128::from(step) / i128::from(steps)) as i64;
            (0..series).map(move |series| (time, series))
        })
        .collect()
}

#[test]
fn thirty_days_in_order() {
    let mut table = SimTable::new(4000);
    for snapshot in 0..30 * 144 {
        table.now = snapshot * HOUR / 6;
        table.snapshot(even(table.now, HOUR / 6, 60, 6));
        table.compact();
    }
    table.report("in order");
    assert!(table.files().len() <= 259_200 / 2000 + 12);
    assert!(table.amplification() <= 5.0);
    assert_eq!(table.full_rewritten, 0);
    assert_eq!(table.depth(), 1);
}

#[test]
fn in_order_but_for_some_minutes() {
    let mut random = random();
    let mut table = SimTable::new(4000);
    for snapshot in 0..30 * 144 {
        table.now = snapshot * HOUR / 6;
        let mut points = even(table.now, HOUR / 6, 54, 6);
        points.extend((0..6).map(|series| (table.now - random(25 * 60) as i64 * SECOND, series)));
        table.snapshot(points);
        table.compact();
    }
    table.report("slightly late");
    assert!(table.files().len() <= 259_200 / 2000 + 12);
    assert!(table.amplification() <= 6.0);
    assert!(table.depth() <= 6);
    table.now += 30 * DAY;
    table.compact();
    table.report("slightly late, cold");
    assert!(table.amplification() <= 6.0);
}

#[test]
fn ten_years_in_random_order() {
    let mut random = random();
    for target in [4_194_304, 400_000, 40_000] {
        let mut table = SimTable::new(target);
        for snapshot in 0..20 {
            table.now = snapshot * 10 * SECOND;
            table.snapshot(
                (0..50_000)
                    .map(|_| (random(YEAR as u64 * 10) as i64, 0))
                    .collect(),
            );
            table.compact();
        }
        table.report("random ten years");
        assert!(table.files().len() < 200);
        assert!(table.amplification() <= 10.0);
        assert!(table.depth() <= 6);
    }
}

#[test]
fn much_in_random_order() {
    let mut random = random();
    let mut table = SimTable::new(4000);
    for snapshot in 0..2000 {
        table.now = snapshot * 10 * SECOND;
        table.snapshot((0..200).map(|_| (random(YEAR as u64) as i64, 0)).collect());
        table.compact();
    }
    table.report("much at random");
    assert!(table.files().len() <= 2 * 400_000 / 4000);
    assert!(table.amplification() <= 15.0);
    assert!(table.depth() <= 6);
}

#[test]
fn ten_years_in_order() {
    let mut table = SimTable::new(40_000);
    for snapshot in 0..200 {
        table.now = snapshot * SECOND;
        table.snapshot(even(snapshot * YEAR / 20, YEAR / 20, 5000, 10));
        table.compact();
    }
    table.report("ten years in order");
    assert!(table.files().len() < 60);
    assert!(table.amplification() <= 4.0);
    assert_eq!(table.full_rewritten, 0);
}

#[test]
fn old_days_while_new_data_arrive() {
    let mut random = random();
    let mut table = SimTable::new(4000);
    for snapshot in 0..20 * 144 {
        let new = 1000 * DAY + snapshot * HOUR / 6;
        table.now = new;
        let mut points = even(new, HOUR / 6, 60, 6);
        // Day by day, and here and there.
        points.extend(even(snapshot * HOUR, HOUR, 60, 6));
        points.extend((0..3).map(|series| (random(1000 * DAY as u64) as i64, series)));
        table.snapshot(points);
        table.compact();
    }
    table.report("backfill");
    assert!(table.files().len() <= 2 * 354_240 / 4000 + 20);
    assert!(table.amplification() <= 15.0);
    assert!(table.depth() <= 6);
}

#[test]
fn the_same_hour_again_and_again() {
    let mut random = random();
    let mut table = SimTable::new(4000);
    for snapshot in 0..1000 {
        table.now = snapshot * SECOND;
        table.snapshot((0..100).map(|_| (random(3600) as i64 * SECOND, 0)).collect());
        table.compact();
    }
    table.report("hot hour");
    assert!(table.files().len() <= 6);
    assert!(table.amplification() <= 15.0);
}

#[test]
fn many_tiny_snapshots() {
    let mut table = SimTable::new(4000);
    for snapshot in 0..20_000 {
        table.now = snapshot * SECOND;
        table.snapshot(vec![(table.now, 0)]);
        table.compact();
    }
    table.report("tiny");
    assert!(table.files().len() <= 30);
    assert!(table.amplification() <= 8.0);
}

#[test]
fn sizes_of_all_kinds() {
    let mut random = random();
    let mut table = SimTable::new(4000);
    let mut start = 0;
    for _ in 0..1500 {
        table.now += HOUR / 6;
        let count = 6 * (1 + (1 << random(11)) / 6);
        let reach = if random(5) == 0 {
            random(20 * DAY as u64) as i64
        } else {
            0
        };
        table.snapshot(even(start - reach, HOUR / 6, count, 6));
        start += HOUR / 6;
        table.compact();
    }
    table.report("mixed");
    assert!(table.files().len() as u64 <= 3 * table.ingested / 4000 + 20);
    assert!(table.amplification() <= 15.0);
    assert!(table.depth() <= 6);
    table.now += 30 * DAY;
    table.compact();
    table.report("mixed, cold");
}

#[test]
fn late_rows_join_the_old_ones_in_the_end() {
    let mut random = random();
    let mut table = SimTable::new(4000);
    for day in 0..30 {
        table.snapshot(even(day * DAY, DAY, 4000, 4));
    }
    for _ in 0..20 {
        table.snapshot(
            (0..50)
                .map(|series| (random(29 * DAY as u64) as i64, series))
                .collect(),
        );
        table.compact();
    }
    table.report("late, hot");
    assert_eq!(table.full_rewritten, 0);
    for _ in 0..2 {
        table.now += 30 * DAY;
        table.compact();
    }
    table.report("late, cold");
    assert_eq!(table.depth(), 1);
}

#[test]
fn nothing_is_read_to_be_removed_when_its_time_has_come() {
    let mut table = SimTable::new(4000);
    for day in 0..60 {
        table.now = day * DAY;
        table.keep_from = table.now - 10 * DAY;
        table.snapshot(even(table.now, DAY, 1000, 4));
        table.compact();
    }
    table.report("retention");
    assert!(table.files().iter().all(|file| file.time_max >= table.keep_from));
    assert!(table.amplification() <= 2.5);
}

#[test]
fn a_file_that_stays_alone_is_written_anew_once() {
    let mut table = SimTable::new(4000);
    table.policy.rewrite_bytes_min = 100;
    // One that is full, one that nothing comes to, and one that is too small.
    table.snapshot(even(0, DAY, 3000, 3));
    table.snapshot(even(10 * DAY, DAY, 500, 1));
    table.snapshot(even(20 * DAY, DAY, 99, 1));
    table.now = 23 * HOUR;
    table.compact();
    assert_eq!(table.jobs, 0);
    for hour in 24..200 {
        table.now = hour * HOUR;
        table.compact();
    }
    table.report("alone");
    assert_eq!(table.by_reason.get(&CompactionReason::Effort), Some(&(2, 3500)));
    assert_eq!(table.jobs, 2);
}

#[test]
fn a_damaged_file_is_not_written_anew() {
    let mut table = SimTable::new(4000);
    table.policy.rewrite_bytes_min = 100;
    table.snapshot(even(0, DAY, 3000, 3));
    table.damaged = table.files().first().map(|file| file.id);
    table.now = 100 * DAY;
    table.compact();
    assert_eq!(table.jobs, 0);
}

#[test]
fn what_is_merged_anyway_is_not_written_anew_before() {
    let mut table = SimTable::new(4000);
    table.policy.rewrite_bytes_min = 1;
    for snapshot in 0..30 * 144 {
        table.now = snapshot * HOUR / 6;
        table.snapshot(even(table.now, HOUR / 6, 60, 6));
        table.compact();
    }
    table.report("in order, rewritten");
    assert!(table.amplification() <= 5.0);
    assert_eq!(table.by_reason.get(&CompactionReason::Effort), None);
}
