//! The times at which a point may occur twice.

/// Windows of time, both ends inclusive, ascending, disjoint, and bounded in number: when there are too many, those with
/// the smallest gaps between them become one. So the windows cover every time added, and perhaps more.
#[derive(Debug, Clone)]
pub(crate) struct LateWindows {
    windows: Vec<(i64, i64)>,
    count_max: usize,
    /// Position of the window found last: late rows come in runs.
    recent: usize,
}

impl LateWindows {
    /// At least one window is allowed.
    pub(crate) fn new(count_max: usize) -> Self {
        Self {
            windows: Vec::new(),
            count_max: count_max.max(1),
            recent: 0,
        }
    }

    pub(crate) fn as_slice(&self) -> &[(i64, i64)] {
        &self.windows
    }

    /// True when the time is covered already.
    pub(crate) fn contains(&mut self, time: i64) -> bool {
        if self
            .windows
            .get(self.recent)
            .is_some_and(|(first, last)| (*first..=*last).contains(&time))
        {
            return true;
        }
        let position = self.windows.partition_point(|(_, last)| *last < time);
        let found = self
            .windows
            .get(position)
            .is_some_and(|(first, _)| *first <= time);
        if found {
            self.recent = position;
        }
        found
    }

    /// Covers the times, which are sorted here.
    pub(crate) fn add(&mut self, times: &mut [i64]) {
        times.sort_unstable();
        let points = times.iter().map(|time| (*time, *time));
        let mut all: Vec<(i64, i64)> = self.windows.iter().copied().chain(points).collect();
        all.sort_unstable();
        self.windows.clear();
        for (first, last) in all {
            match self.windows.last_mut() {
                Some(open) if first <= open.1.saturating_add(1) => open.1 = open.1.max(last),
                _ => self.windows.push((first, last)),
            }
        }
        self.reduce();
    }

    /// Closes the smallest gaps until the windows are few enough.
    fn reduce(&mut self) {
        let Some(excess) = self
            .windows
            .len()
            .checked_sub(self.count_max)
            .filter(|excess| *excess > 0)
        else {
            return;
        };
        let gap_before = |position: usize| self.windows[position].0.abs_diff(self.windows[position - 1].1);
        let mut positions: Vec<usize> = (1..self.windows.len()).collect();
        positions.select_nth_unstable_by_key(excess - 1, |position| gap_before(*position));
        let closed = &mut positions[..excess];
        closed.sort_unstable();

        let mut closed = closed.iter().copied().peekable();
        let mut reduced: Vec<(i64, i64)> = Vec::with_capacity(self.count_max);
        for (position, window) in self.windows.iter().enumerate() {
            if closed.next_if_eq(&position).is_some() {
                let open = reduced.last_mut().expect("the first window has no gap before it");
                open.1 = window.1;
            } else {
                reduced.push(*window);
            }
        }
        self.windows = reduced;
        self.recent = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn windows(count_max: usize, batches: &[&[i64]]) -> Vec<(i64, i64)> {
        let mut windows = LateWindows::new(count_max);
        for batch in batches {
            windows.add(&mut batch.to_vec());
        }
        windows.as_slice().to_vec()
    }

    #[test]
    fn neighbours_join_and_the_smallest_gap_goes_first() {
        assert_eq!(windows(8, &[&[3, 1, 2], &[10]]), [(1, 3), (10, 10)]);
        assert_eq!(windows(2, &[&[0, 100, 110, 300]]), [(0, 110), (300, 300)]);
        assert_eq!(
            windows(1, &[&[5], &[i64::MIN], &[i64::MAX]]),
            [(i64::MIN, i64::MAX)]
        );
        assert_eq!(windows(8, &[&[i64::MAX, i64::MAX]]), [(i64::MAX, i64::MAX)]);
    }

    proptest! {
        #[test]
        fn all_times_are_covered_by_few_ordered_windows(
            batches in prop::collection::vec(prop::collection::vec(-50i64..50, 0..20), 0..10),
            count_max in 1usize..6,
        ) {
            let mut late = LateWindows::new(count_max);
            for batch in &batches {
                late.add(&mut batch.clone());
            }
            prop_assert!(late.as_slice().len() <= count_max);
            prop_assert!(late.as_slice().iter().all(|(first, last)| first <= last));
            prop_assert!(late.as_slice().windows(2).all(|pair| pair[0].1.saturating_add(1) < pair[1].0));
            for time in batches.iter().flatten() {
                prop_assert!(late.contains(*time));
            }
            let covered = late.as_slice().to_vec();
            for time in -60..60 {
                let inside = covered.iter().any(|(first, last)| (*first..=*last).contains(&time));
                prop_assert_eq!(late.contains(time), inside);
            }
        }
    }
}
