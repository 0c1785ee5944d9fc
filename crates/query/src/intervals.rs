//! Sets of instants: sorted, disjoint, inclusive ranges of nanoseconds since the epoch.

/// A range of instants with both ends included; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) first: i64,
    pub(crate) last: i64,
}

impl Interval {
    pub(crate) const ALL: Self = Self {
        first: i64::MIN,
        last: i64::MAX,
    };

    /// `None` if there is no instant between the two.
    pub(crate) fn new(first: i64, last: i64) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    pub(crate) fn contains(self, instant: i64) -> bool {
        self.first <= instant && instant <= self.last
    }

    fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Whether all instants of the other are in this one.
    pub(crate) fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// From the first instant to the last, in nanoseconds.
    pub(crate) fn span(self) -> u64 {
        self.last.abs_diff(self.first)
    }

    pub(crate) fn intersect(self, other: Self) -> Option<Self> {
        Self::new(self.first.max(other.first), self.last.min(other.last))
    }

    /// The smallest interval that holds both.
    pub(crate) fn hull(self, other: Self) -> Self {
        Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }
}

/// A set of instants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Intervals(Vec<Interval>);

/// How a range of instants lies to a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cover {
    /// No instant of the range is in the set.
    None,
    /// Some may be.
    Some,
    /// All are.
    All,
}

impl Intervals {
    /// The union of ranges in any order.
    pub(crate) fn union(ranges: impl IntoIterator<Item = Interval>) -> Self {
        let mut ranges: Vec<Interval> = ranges.into_iter().collect();
        ranges.sort_unstable_by_key(|range| range.first);
        let mut merged: Vec<Interval> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(previous) if range.first <= previous.last.saturating_add(1) => {
                    previous.last = previous.last.max(range.last);
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn as_slice(&self) -> &[Interval] {
        &self.0
    }

    /// What this set has in common with one range.
    pub(crate) fn within(&self, range: Interval) -> Self {
        Self(
            self.overlapping(range)
                .iter()
                .filter_map(|interval| interval.intersect(range))
                .collect(),
        )
    }

    /// The intervals that have an instant in common with `range`, whole.
    pub(crate) fn overlapping(&self, range: Interval) -> &[Interval] {
        let from = self.0.partition_point(|interval| interval.last < range.first);
        let length = self.0[from..].partition_point(|interval| interval.first <= range.last);
        &self.0[from..from + length]
    }

    /// The part of `range` that is not in this set.
    pub(crate) fn gaps_within(&self, range: Interval) -> Self {
        let inside = self.overlapping(range);
        let mut gaps = Vec::with_capacity(inside.len() + 1);
        let mut next = Some(range.first);
        for interval in inside {
            let Some(start) = next else { break };
            if interval.first > start {
                gaps.push(Interval {
                    first: start,
                    last: interval.first - 1,
                });
            }
            next = interval.last.checked_add(1);
        }
        if let Some(start) = next {
            gaps.extend(Interval::new(start, range.last));
        }
        Self(gaps)
    }

    /// The instants of this set that are not in the other.
    pub(crate) fn without(&self, other: &Self) -> Self {
        Self(
            self.0
                .iter()
                .flat_map(|range| other.gaps_within(*range).0)
                .collect(),
        )
    }

    /// The instants of both sets.
    pub(crate) fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().flat_map(|range| other.within(*range).0).collect())
    }

    pub(crate) fn cover(&self, range: Interval) -> Cover {
        let from = self.0.partition_point(|interval| interval.last < range.first);
        match self.0.get(from) {
            Some(interval) if interval.first <= range.first && range.last <= interval.last => Cover::All,
            Some(interval) if interval.overlaps(range) => Cover::Some,
            _ => Cover::None,
        }
    }

    pub(crate) fn contains(&self, instant: i64) -> bool {
        let from = self.0.partition_point(|interval| interval.last < instant);
        self.0
            .get(from)
            .is_some_and(|interval| interval.contains(instant))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(i64, i64)]) -> Intervals {
        Intervals::union(ranges.iter().map(|&(first, last)| Interval { first, last }))
    }

    #[test]
    fn union_sorts_and_joins_neighbours() {
        assert_eq!(set(&[(7, 9), (1, 2), (3, 4), (8, 12)]), set(&[(1, 4), (7, 12)]));
        assert_eq!(set(&[(1, 10), (2, 3)]).as_slice().len(), 1);
        assert_eq!(set(&[(i64::MIN, i64::MAX), (0, 0)]).as_slice(), [Interval::ALL]);
    }

    #[test]
    fn gaps_are_what_is_left() {
        let windows = set(&[(2, 3), (6, 8)]);
        let gaps = |first, last| windows.gaps_within(Interval { first, last });
        assert_eq!(gaps(0, 10), set(&[(0, 1), (4, 5), (9, 10)]));
        assert_eq!(gaps(3, 7), set(&[(4, 5)]));
        assert_eq!(gaps(6, 8), set(&[]));
        assert_eq!(gaps(20, 30), set(&[(20, 30)]));
        assert_eq!(set(&[]).gaps_within(Interval::ALL).as_slice(), [Interval::ALL]);
        assert!(set(&[(i64::MIN, i64::MAX)]).gaps_within(Interval::ALL).is_empty());
    }

    #[test]
    fn cover_and_contains_agree() {
        let windows = set(&[(2, 3), (6, 8)]);
        assert_eq!(windows.cover(Interval { first: 4, last: 5 }), Cover::None);
        assert_eq!(windows.cover(Interval { first: 3, last: 5 }), Cover::Some);
        assert_eq!(windows.cover(Interval { first: 6, last: 7 }), Cover::All);
        assert_eq!(windows.cover(Interval { first: 9, last: 9 }), Cover::None);
        assert_eq!(
            (0..10).filter(|&t| windows.contains(t)).collect::<Vec<_>>(),
            [2, 3, 6, 7, 8]
        );
    }
}
