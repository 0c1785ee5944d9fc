//! Where along time the output of a job is cut into files.

use std::ops::Range;

use crate::compaction::time_histogram::{Bucket, time_of};

/// The first instants of all output files but the first, ascending; rows of one instant stay together.
///
/// Files get about `rows_per_file` rows. The cuts are the roundest instants (in binary) that serve, so that those of
/// overlapping jobs tend to fall together and later jobs do not spread. Up to `files_max` files are made also where that
/// sets a dense span apart from a long sparse one: a file that is small in time stands in the way of few others.
pub(crate) fn cut_times(buckets: &[Bucket], rows_per_file: u64, files_max: usize) -> Vec<i64> {
    let limit = rows_per_file.max(1);
    let mut leaves = Vec::new();
    bisect(buckets, 0..buckets.len(), limit + limit / 2, &mut leaves);
    let mut pieces = pack(buckets, &leaves, limit);
    while pieces.len() < files_max {
        let best = pieces
            .iter()
            .enumerate()
            .filter_map(|(place, piece)| {
                separation(&buckets[piece.clone()]).map(|(at, saved)| (place, piece.start + at, saved))
            })
            .max_by(|a, b| a.2.total_cmp(&b.2));
        let Some((place, at, _)) = best else { break };
        let end = std::mem::replace(&mut pieces[place].end, at);
        pieces.insert(place + 1, at..end);
    }
    pieces
        .iter()
        .skip(1)
        .map(|piece| time_of(roundest(buckets[piece.start - 1].end, buckets[piece.start].start)))
        .collect()
}

/// The instant after `before` and not after `first` that ends with most zeros in binary.
fn roundest(before: u64, first: u64) -> u64 {
    let highest_bit = (before ^ first).ilog2();
    (first >> highest_bit) << highest_bit
}

fn rows(buckets: &[Bucket]) -> u64 {
    buckets.iter().map(|bucket| bucket.rows).sum()
}

/// Halves the span at the highest bit in which its ends differ until no part has more than `rows_max` rows.
fn bisect(buckets: &[Bucket], range: Range<usize>, rows_max: u64, leaves: &mut Vec<Range<usize>>) {
    let part = &buckets[range.clone()];
    let (Some(first), Some(last)) = (part.first(), part.last()) else {
        return;
    };
    if part.len() == 1 || rows(part) <= rows_max {
        leaves.push(range);
        return;
    }
    let middle = roundest(first.start, last.start);
    let cut = range.start + part.partition_point(|bucket| bucket.start < middle);
    bisect(buckets, range.start..cut, rows_max, leaves);
    bisect(buckets, cut..range.end, rows_max, leaves);
}

/// Joins parts with less than half of the rows of a file to a neighbour.
fn pack(buckets: &[Bucket], leaves: &[Range<usize>], rows_per_file: u64) -> Vec<Range<usize>> {
    let mut pieces: Vec<(Range<usize>, u64)> = Vec::with_capacity(leaves.len());
    for leaf in leaves {
        let leaf_rows = rows(&buckets[leaf.clone()]);
        match pieces.last_mut() {
            Some((last, last_rows))
                if (*last_rows).min(leaf_rows) < rows_per_file / 2
                    && *last_rows + leaf_rows <= rows_per_file * 2 =>
            {
                last.end = leaf.end;
                *last_rows += leaf_rows;
            }
            _ => pieces.push((leaf.clone(), leaf_rows)),
        }
    }
    pieces.into_iter().map(|(piece, _)| piece).collect()
}

/// Where to cut so that the parts overlap far less with whatever else there is: the product of rows and span, summed
/// over the parts, falls to a quarter at most (evenly spread rows would make it half). Also returns how much it falls.
fn separation(buckets: &[Bucket]) -> Option<(usize, f64)> {
    const KEPT_MAX: f64 = 0.25;
    let (first, last) = (buckets.first()?, buckets.last()?);
    let total = rows(buckets);
    let span = |from: &Bucket, to: &Bucket| (to.end - from.start) as f64 + 1.0;
    let whole = total as f64 * span(first, last);
    let mut rows_before = 0;
    let mut best: Option<(usize, f64)> = None;
    for at in 1..buckets.len() {
        rows_before += buckets[at - 1].rows;
        let parts = rows_before as f64 * span(first, &buckets[at - 1])
            + (total - rows_before) as f64 * span(&buckets[at], last);
        if best.is_none_or(|(_, least)| parts < least) {
            best = Some((at, parts));
        }
    }
    let (at, parts) = best?;
    (parts <= whole * KEPT_MAX).then_some((at, whole - parts))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compaction::time_histogram::TimeHistogram;

    const HOUR: i64 = 3_600_000_000_000;

    fn cuts(times: &[i64], rows_per_file: u64, files_max: usize) -> Vec<i64> {
        let mut histogram = TimeHistogram::default();
        histogram.add(times);
        cut_times(&histogram.buckets(), rows_per_file, files_max)
    }

    fn sizes(times: &[i64], cuts: &[i64]) -> Vec<usize> {
        let mut sizes = vec![0; cuts.len() + 1];
        for time in times {
            sizes[cuts.partition_point(|cut| cut <= time)] += 1;
        }
        sizes
    }

    #[test]
    fn what_fits_is_one_file() {
        let times: Vec<i64> = (0..1400).map(|n| n * HOUR).collect();
        assert_eq!(cuts(&times, 1000, 4), Vec::<i64>::new());
    }

    #[test]
    fn evenly_spread_rows_make_files_of_about_the_target() {
        let times: Vec<i64> = (0..100_000).map(|n| n * HOUR / 7).collect();
        let sizes = sizes(&times, &cuts(&times, 1000, 0));
        assert!(sizes.iter().all(|rows| (500..=2000).contains(rows)), "{sizes:?}");
    }

    #[test]
    fn overlapping_spans_are_cut_at_the_same_instants() {
        let older: Vec<i64> = (0..10_000).map(|n| n * HOUR).collect();
        let newer: Vec<i64> = (3_000..13_000).map(|n| n * HOUR + 1).collect();
        let (older, newer) = (cuts(&older, 1000, 0), cuts(&newer, 1000, 0));
        let common = newer.iter().filter(|cut| older.contains(cut)).count();
        assert!(common >= 5, "{older:?} {newer:?}");
    }

    #[test]
    fn a_dense_span_is_set_apart_where_files_may_be_added() {
        let mut times: Vec<i64> = (0..100).map(|n| n * 24 * HOUR).collect();
        times.extend((0..900).map(|n| 100 * 24 * HOUR + n * 1_000_000_000));
        let cut = cuts(&times, 10_000, 2);
        assert_eq!(cut.len(), 1);
        assert!(99 * 24 * HOUR < cut[0] && cut[0] <= 100 * 24 * HOUR);
        assert_eq!(cuts(&times, 10_000, 1), Vec::<i64>::new());
    }

    proptest! {
        #[test]
        fn cuts_ascend_and_no_file_is_empty_or_far_too_large(
            times in prop::collection::vec(prop_oneof![any::<i64>(), -50i64..50, (0i64..1000).prop_map(|n| n * HOUR)], 1..600),
            rows_per_file in 1u64..200,
            files_max in 0usize..6,
        ) {
            let cuts = cuts(&times, rows_per_file, files_max);
            prop_assert!(cuts.windows(2).all(|pair| pair[0] < pair[1]));
            let mut start = i64::MIN;
            for (size, end) in sizes(&times, &cuts).into_iter().zip(cuts.iter().copied().map(Some).chain([None])) {
                prop_assert!(size > 0);
                let of_slice: std::collections::HashSet<i64> = times
                    .iter()
                    .copied()
                    .filter(|time| *time >= start && end.is_none_or(|end| *time < end))
                    .collect();
                prop_assert!(size as u64 <= rows_per_file * 2 || of_slice.len() == 1);
                start = end.unwrap_or(i64::MAX);
            }
        }
    }
}
