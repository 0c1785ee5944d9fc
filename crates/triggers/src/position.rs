//! The part of the log that a trigger has behind it: what is written down of a cursor (design.md section 6).

/// Part of the log: the records after `after`, up to and including `through`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LogRange {
    /// The last record before the range.
    pub after: u64,
    /// The last record of the range.
    pub through: u64,
}

/// A set of records of the log: all up to one, and ranges beyond it that runs have finished out of order.
///
/// The ranges are in log order and never touch each other or the contiguous part, so each but the last stands before a
/// run that has not finished: there are no more of them than runs in flight.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Position {
    through: u64,
    finished: Vec<LogRange>,
}

impl Position {
    /// All records up to and including `through`.
    pub fn at(through: u64) -> Self {
        Self {
            through,
            finished: Vec::new(),
        }
    }

    /// A position as [`through`](Self::through) and [`finished`](Self::finished) gave it; `None` if they cannot have.
    pub fn from_parts(through: u64, finished: Vec<LogRange>) -> Option<Self> {
        let mut end = through;
        for range in &finished {
            if range.after <= end || range.through <= range.after {
                return None;
            }
            end = range.through;
        }
        Some(Self { through, finished })
    }

    /// Every record up to here is in the set, the next one is not.
    pub fn through(&self) -> u64 {
        self.through
    }

    /// What is in the set beyond [`through`](Self::through), in log order.
    pub fn finished(&self) -> &[LogRange] {
        &self.finished
    }

    /// Adds a range.
    pub fn add(&mut self, range: LogRange) {
        if range.through <= range.after {
            return;
        }
        let mut joined = range;
        self.finished.retain(|other| {
            let apart = other.through < joined.after || joined.through < other.after;
            if !apart {
                joined.after = joined.after.min(other.after);
                joined.through = joined.through.max(other.through);
            }
            apart
        });
        if joined.after <= self.through {
            self.through = self.through.max(joined.through);
            // What lies below the new end; nothing that is left touches the range itself.
            self.finished.retain(|other| other.after > joined.through);
        } else {
            let index = self
                .finished
                .partition_point(|other| other.through < joined.after);
            self.finished.insert(index, joined);
        }
    }

    /// Adds everything that another position has: neither the order nor the repetition of such merges matters.
    pub fn merge(&mut self, other: &Self) {
        self.add(LogRange {
            after: 0,
            through: other.through,
        });
        for range in &other.finished {
            self.add(*range);
        }
    }

    /// The end of what is in the set without a gap from the record after `record` on; `record` itself if that is not.
    pub(crate) fn contiguous_end(&self, record: u64) -> u64 {
        let around = self
            .finished
            .iter()
            .find(|range| range.after <= record && record <= range.through);
        around.map_or(record, |range| range.through).max(self.through)
    }

    /// The last record before the next range beyond `record` that is in the set, if there is one.
    pub(crate) fn gap_end(&self, record: u64) -> Option<u64> {
        let next = self.finished.iter().find(|range| range.after > record);
        next.map(|range| range.after)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The records 1 to 60 that are in the set.
    fn records(position: &Position) -> BTreeSet<u64> {
        let mut records: BTreeSet<u64> = (1..=position.through()).collect();
        for range in position.finished() {
            records.extend(range.after + 1..=range.through);
        }
        records
    }

    fn position() -> impl Strategy<Value = Position> {
        (0_u64..20, proptest::collection::vec((0_u64..50, 0_u64..6), 0..8)).prop_map(|(through, ranges)| {
            let mut position = Position::at(through);
            for (after, length) in ranges {
                position.add(LogRange {
                    after,
                    through: after + length,
                });
            }
            position
        })
    }

    #[test]
    fn adjacent_ranges_are_one_and_a_closed_gap_moves_the_position() {
        let mut position = Position::at(10);
        for (after, through) in [(14, 16), (12, 14), (18, 20)] {
            position.add(LogRange { after, through });
        }
        let range = |after, through| LogRange { after, through };
        assert_eq!(
            (position.through(), position.finished()),
            (10, &[range(12, 16), range(18, 20)][..])
        );
        assert_eq!(
            [10, 12, 13, 16, 17].map(|at| position.contiguous_end(at)),
            [10, 16, 16, 16, 17]
        );
        assert_eq!(
            [10, 16, 20].map(|at| position.gap_end(at)),
            [Some(12), Some(18), None]
        );
        position.add(range(10, 12));
        assert_eq!(
            (position.through(), position.finished()),
            (16, &[range(18, 20)][..])
        );
    }

    #[test]
    fn parts_that_no_position_has_are_refused() {
        for (through, ranges) in [
            (5, vec![(5, 6)]),
            (5, vec![(6, 6)]),
            (5, vec![(8, 9), (6, 7)]),
            (5, vec![(6, 8), (8, 9)]),
        ] {
            let ranges: Vec<LogRange> = ranges
                .into_iter()
                .map(|(after, through)| LogRange { after, through })
                .collect();
            assert_eq!(Position::from_parts(through, ranges.clone()), None, "{ranges:?}");
        }
    }

    proptest! {
        #[test]
        fn adding_is_the_union(mut position in position(), after in 0_u64..50, length in 0_u64..20) {
            let mut expected = records(&position);
            expected.extend(after + 1..=after + length);
            position.add(LogRange { after, through: after + length });
            prop_assert_eq!(records(&position), expected);
            let (through, finished) = (position.through(), position.finished().to_vec());
            prop_assert_eq!(Position::from_parts(through, finished), Some(position));
        }

        #[test]
        fn merging_is_the_union_in_any_order(
            positions in proptest::collection::vec(position(), 1..6),
            seed in any::<prop::sample::Index>(),
        ) {
            let expected: BTreeSet<u64> = positions.iter().flat_map(records).collect();
            let mut rotated = positions.clone();
            rotated.rotate_left(seed.index(positions.len()));
            let reversed: Vec<Position> = positions.iter().rev().cloned().collect();
            for order in [positions, rotated, reversed] {
                let mut merged = Position::default();
                for position in order.iter().chain(&order) {
                    merged.merge(position);
                }
                prop_assert_eq!(records(&merged), expected.clone());
                prop_assert!(Position::from_parts(merged.through(), merged.finished().to_vec()).is_some());
            }
        }
    }
}
