//! Which batches to merge next.

use std::ops::Range;

/// How large a batch is, or may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct BatchSize {
    pub(crate) row_count: usize,
    pub(crate) byte_size: usize,
}

impl BatchSize {
    fn plus(self, other: Self) -> Self {
        Self {
            row_count: self.row_count + other.row_count,
            byte_size: self.byte_size + other.byte_size,
        }
    }

    fn fits(self, target: Self) -> bool {
        self.row_count <= target.row_count && self.byte_size <= target.byte_size
    }

    /// Half of the target in rows or in bytes: it is left alone. So two neighbours that are not full always fit.
    fn is_full(self, target: Self) -> bool {
        self.row_count >= target.row_count / 2 || self.byte_size >= target.byte_size / 2
    }
}

/// Unless it becomes full, a merged batch has at least so many times the rows of the largest that went into it. So a
/// row is copied at most log4 of the target's rows times (nine times from a single row to 128k), and at most some three
/// batches of a size are waiting for a fourth.
const GROWTH: usize = 4;

/// What to do with a list of batches.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum MergePlan {
    /// Make these neighbours one.
    Merge(Range<usize>),
    /// Nothing now, and the first so many never.
    Settled(usize),
}

/// Plans the next merge of batches in log order, oldest first. No merged batch is larger than `target`.
///
/// Full batches divide the list. In front of one nothing can arrive any more, so what is there is merged as far as the
/// target allows. The batches behind the last full one are merged when they are more than the target holds, which is
/// when the merger has fallen behind, or else when neighbours among them have grown enough ([`GROWTH`]).
pub(crate) fn plan<T>(batches: &[T], size: impl Fn(&T) -> BatchSize, target: BatchSize) -> MergePlan {
    let mut start = 0;
    for (position, batch) in batches.iter().enumerate() {
        if size(batch).is_full(target) {
            if position - start > 1 {
                let closed = &batches[start..position];
                return MergePlan::Merge(start..start + count_that_fits(closed, &size, target));
            }
            start = position + 1;
        }
    }
    let open = &batches[start..];
    let fitting_count = count_that_fits(open, &size, target);
    if fitting_count < open.len() {
        return MergePlan::Merge(start..start + fitting_count);
    }
    // The newest first. Small ones that came together with a larger one stand before it, and must not wait for as many
    // rows again as that one has.
    for end in (2..=open.len()).rev() {
        if let Some(count) = count_that_has_grown(&open[..end], &size, target) {
            return MergePlan::Merge(start + end - count..start + end);
        }
    }
    MergePlan::Settled(start)
}

/// How many of the oldest make a batch that is not larger than the target.
fn count_that_fits<T>(batches: &[T], size: impl Fn(&T) -> BatchSize, target: BatchSize) -> usize {
    let mut run = BatchSize::default();
    let fits = |batch: &&T| {
        run = run.plus(size(batch));
        run.fits(target)
    };
    batches.iter().take_while(fits).count()
}

/// How many of the last make a batch that is full, or that much larger than each of them; as many as possible.
fn count_that_has_grown<T>(
    batches: &[T],
    size: impl Fn(&T) -> BatchSize,
    target: BatchSize,
) -> Option<usize> {
    let mut run = BatchSize::default();
    let mut largest_row_count = 0;
    let mut grown_count = None;
    for (position, batch) in batches.iter().rev().enumerate() {
        let size = size(batch);
        run = run.plus(size);
        largest_row_count = largest_row_count.max(size.row_count);
        let has_grown = run.row_count >= GROWTH * largest_row_count || run.is_full(target);
        if position > 0 && has_grown {
            grown_count = Some(position + 1);
        }
    }
    grown_count
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::MergePlan::{Merge, Settled};
    use super::*;

    fn rows(row_count: usize) -> BatchSize {
        BatchSize {
            row_count,
            byte_size: row_count,
        }
    }

    fn plan_of(list: &[usize], target: usize) -> MergePlan {
        plan(list, |row_count| rows(*row_count), rows(target))
    }

    #[test]
    fn four_of_a_size_are_merged_and_a_large_one_is_not_copied_for_a_small_one() {
        assert_eq!(plan_of(&[], 1000), Settled(0));
        assert_eq!(plan_of(&[1, 1, 1], 1000), Settled(0));
        assert_eq!(plan_of(&[1, 1, 1, 1], 1000), Merge(0..4));
        assert_eq!(plan_of(&[64, 1, 1, 1], 1000), Settled(0));
        assert_eq!(plan_of(&[64, 1, 1, 1, 1], 1000), Merge(1..5));
        assert_eq!(plan_of(&[16, 16, 16, 4, 4, 4, 1, 1, 1, 1], 1000), Merge(0..10));
        // A merger that fell behind finds small ones before a larger one.
        assert_eq!(plan_of(&[64, 1, 1, 1, 1, 50], 1000), Merge(1..5));
        assert_eq!(plan_of(&[64, 4, 50], 1000), Settled(0));
    }

    #[test]
    fn the_target_bounds_a_merged_batch_and_full_ones_rest() {
        assert_eq!(plan_of(&[30, 30, 30], 100), Merge(0..3));
        assert_eq!(plan_of(&[40, 40, 40], 100), Merge(0..2));
        assert_eq!(plan_of(&[50, 50], 100), Settled(2));
        assert_eq!(plan_of(&[1000, 1, 1, 1, 1], 100), Merge(1..5));
        assert_eq!(plan_of(&[1000, 1, 1], 100), Settled(1));
    }

    #[test]
    fn what_stands_before_a_full_one_is_merged_at_last() {
        assert_eq!(plan_of(&[1, 50], 100), Settled(2));
        assert_eq!(plan_of(&[1, 1, 50, 1], 100), Merge(0..2));
        assert_eq!(plan_of(&[70, 40, 40, 40, 40, 50], 100), Merge(1..3));
    }

    /// Adds the batches, and lets the merger in after every `lag` of them. Gives the list and the rows copied.
    fn merge_all(batches: &[usize], lag: usize, target: usize) -> (Vec<usize>, usize) {
        let (mut list, mut settled, mut copied) = (Vec::new(), 0, 0);
        for group in batches.chunks(lag) {
            list.extend_from_slice(group);
            loop {
                match plan_of(&list[settled..], target) {
                    Settled(count) => {
                        settled += count;
                        break;
                    }
                    Merge(run) => {
                        let run = settled + run.start..settled + run.end;
                        let merged: usize = list[run.clone()].iter().sum();
                        assert!(merged <= target && run.len() > 1);
                        copied += merged;
                        list.splice(run, [merged]);
                    }
                }
            }
        }
        (list, copied)
    }

    proptest! {
        #[test]
        fn the_list_stays_short_and_rows_are_copied_seldom(
            batches in prop::collection::vec(prop_oneof![9 => 1usize..40, 1 => 1usize..5000], 1..600),
            lag in 1usize..300,
        ) {
            let target = 4096;
            let (list, copied) = merge_all(&batches, lag, target);
            let row_count: usize = batches.iter().sum();
            prop_assert_eq!(list.iter().sum::<usize>(), row_count);
            prop_assert!(copied <= row_count * 8, "{} rows were copied {} times", row_count, copied);
            let full = list.iter().filter(|batch| **batch >= target / 2).count();
            prop_assert!(list.len() <= 2 * full + 24, "{list:?}");
        }
    }
}
