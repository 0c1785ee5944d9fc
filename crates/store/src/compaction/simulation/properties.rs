//! Any files that keep the rule: the planner ends, and keeps it.

use proptest::prelude::*;

use super::table::{HOUR, Point, SimTable};
use crate::Effort;

/// Snapshots of files that share places in the log but no instant.
fn snapshots() -> impl Strategy<Value = Vec<Vec<Vec<Point>>>> {
    let file = (0i64..200, 1i64..60, 1u64..120, 1u32..4);
    prop::collection::vec(prop::collection::vec(file, 1..4), 1..60).prop_map(|snapshots| {
        snapshots
            .into_iter()
            .map(|files| {
                let mut start_after = i64::MIN;
                let mut apart: Vec<Vec<Point>> = Vec::new();
                let mut sorted = files;
                sorted.sort_unstable();
                for (start, span, count, series) in sorted {
                    let start = start.max(start_after.saturating_add(1));
                    start_after = start + span;
                    let points = (0..count as i64).map(|n| (start + n * span / count as i64, series));
                    let mut points: Vec<Point> = points.collect();
                    points.dedup();
                    apart.push(points);
                }
                apart
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn ends_and_keeps_the_order(
        snapshots in snapshots(),
        target in 20u64..2000,
        jobs_between in 0usize..3,
        keep_from in prop_oneof![3 => Just(i64::MIN), 1 => 0i64..300],
        rewrite_bytes_min in prop_oneof![Just(u64::MAX), 0u64..200],
    ) {
        let mut table = SimTable::new(target);
        table.policy.rewrite_bytes_min = rewrite_bytes_min;
        for (number, files) in snapshots.into_iter().enumerate() {
            for points in files {
                table.add(points, number as u64 * 10, number as u64 * 10 + 9);
            }
            table.check_order();
            for _ in 0..jobs_between {
                if let Some(plan) = table.plan() {
                    table.run(&plan);
                }
            }
        }
        table.keep_from = keep_from;
        table.compact();
        prop_assert!(table.depth() <= 5);
        for _ in 0..50 {
            table.now += 24 * HOUR;
            table.compact();
        }
        prop_assert!(table.depth() <= 5);
        let hasty = table.files().into_iter().filter(|file| file.effort == Effort::Low);
        prop_assert!(hasty.map(|file| file.byte_size).max() < Some(rewrite_bytes_min));
    }
}
