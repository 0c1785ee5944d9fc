//! Which objects to merge next.

use std::ops::{Range, RangeInclusive};

/// So many objects of a class are merged. An object is rewritten once for each class, and some three of each remain.
const FAN_IN: usize = 4;
/// An object of a class is so many times larger than one of the class before.
const GROWTH: usize = 4;
/// Objects below this size are all of the lowest class.
const LOWEST_CLASS_BYTES: usize = 4 * 1024;

/// What is to be known of an object.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) bytes: usize,
    pub(crate) times: RangeInclusive<i64>,
    pub(crate) is_damaged: bool,
}

/// What a merged object may become. Objects that have come close stay as they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MergeLimits {
    pub(crate) bytes_max: usize,
    pub(crate) span_ns_max: u64,
}

/// The size class of an object: the logarithm of its size.
fn class(bytes: usize) -> u32 {
    (bytes / LOWEST_CLASS_BYTES).max(1).ilog(GROWTH)
}

/// Neighbours to be merged: enough of one class, and what smaller ones there are between them.
pub(crate) fn next_merge(objects: &[Candidate], limits: MergeLimits) -> Option<Range<usize>> {
    let highest = objects.iter().map(|object| class(object.bytes)).max()?;
    (0..=highest).find_map(|class| merge_of_class(objects, class, limits))
}

fn merge_of_class(objects: &[Candidate], wanted: u32, limits: MergeLimits) -> Option<Range<usize>> {
    let mut group = Group::empty(0);
    for (index, object) in objects.iter().enumerate() {
        if !group.extended(object, wanted).fits(limits) {
            if group.is_enough() {
                return Some(group.range);
            }
            group = Group::empty(index);
        }
        group = group.extended(object, wanted);
        if !group.fits(limits) {
            group = Group::empty(index + 1);
        }
    }
    group.is_enough().then_some(group.range)
}

/// Neighbours that are looked at together.
struct Group {
    range: Range<usize>,
    bytes: usize,
    times: Option<RangeInclusive<i64>>,
    of_class: usize,
    has_obstacle: bool,
}

impl Group {
    fn empty(start: usize) -> Self {
        Self {
            range: start..start,
            bytes: 0,
            times: None,
            of_class: 0,
            has_obstacle: false,
        }
    }

    fn extended(&self, object: &Candidate, wanted: u32) -> Self {
        let (start, end) = (*object.times.start(), *object.times.end());
        let times = match &self.times {
            Some(times) => start.min(*times.start())..=end.max(*times.end()),
            None => start..=end,
        };
        let class = class(object.bytes);
        Self {
            range: self.range.start..self.range.end + 1,
            bytes: self.bytes + object.bytes,
            times: Some(times),
            of_class: self.of_class + usize::from(class == wanted),
            has_obstacle: self.has_obstacle || object.is_damaged || class > wanted,
        }
    }

    fn fits(&self, limits: MergeLimits) -> bool {
        let span_ns = self
            .times
            .as_ref()
            .map_or(0, |times| times.end().abs_diff(*times.start()));
        !self.has_obstacle && self.bytes <= limits.bytes_max && span_ns <= limits.span_ns_max
    }

    fn is_enough(&self) -> bool {
        self.of_class >= FAN_IN
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: MergeLimits = MergeLimits {
        bytes_max: 1024 * 1024,
        span_ns_max: 1000,
    };

    fn candidate(bytes: usize, start: i64) -> Candidate {
        Candidate {
            bytes,
            times: start..=start,
            is_damaged: false,
        }
    }

    /// Sizes in KiB, of the same time; 0 stands for one that is damaged.
    fn check(kib: &[usize], expected: Option<Range<usize>>) {
        let objects: Vec<Candidate> = kib
            .iter()
            .map(|&kib| Candidate {
                is_damaged: kib == 0,
                ..candidate(kib * 1024, 0)
            })
            .collect();
        assert_eq!(next_merge(&objects, LIMITS), expected, "{kib:?}");
    }

    #[test]
    fn enough_neighbours_of_a_class_are_merged() {
        check(&[], None);
        check(&[1, 1, 1], None);
        check(&[1, 1, 2, 15], Some(0..4));
        check(&[16, 1, 1, 1], None);
        check(&[16, 1, 1, 1, 1], Some(1..5));
        check(&[16, 1, 17, 16, 1, 20, 1, 300], Some(0..7));
        check(&[1, 1, 0, 1, 1], None);
        check(&[1, 0, 1, 1, 1, 1, 0], Some(2..6));
        // Nothing may become larger than 1 MiB.
        check(&[300, 300, 300, 300, 300], None);
        check(&[300, 300, 300, 64, 64, 64, 64, 300], Some(3..7));
        check(&[250, 250, 250, 250, 250], Some(0..4));
    }

    #[test]
    fn nothing_spans_too_much_time() {
        let objects: Vec<Candidate> = (0..10).map(|number| candidate(1, number * 300)).collect();
        assert_eq!(next_merge(&objects, LIMITS), Some(0..4));
        let objects: Vec<Candidate> = (0..10).map(|number| candidate(1, number * 400)).collect();
        assert_eq!(next_merge(&objects, LIMITS), None);
        // One that came from a wrong clock is stepped over.
        let mut objects: Vec<Candidate> = (0..10).map(|number| candidate(1, number)).collect();
        objects[1] = candidate(1, i64::MAX);
        objects[2].times = i64::MIN..=i64::MAX;
        assert_eq!(next_merge(&objects, LIMITS), Some(3..10));
    }

    proptest! {
        /// A stream of flushes of any sizes becomes few objects, each row is copied a few times, and limits are kept.
        #[test]
        fn few_objects_and_few_copies(flushes in prop::collection::vec(1_usize..20_000, 1..2_000)) {
            let mut objects: Vec<Candidate> = Vec::new();
            let (mut appended, mut copied) = (0, 0);
            for (time, bytes) in flushes.into_iter().enumerate() {
                appended += bytes;
                objects.push(candidate(bytes, time as i64));
                while let Some(range) = next_merge(&objects, LIMITS) {
                    let group = &objects[range.clone()];
                    let merged = Candidate {
                        bytes: group.iter().map(|object| object.bytes).sum(),
                        times: *group[0].times.start()..=*group[group.len() - 1].times.end(),
                        is_damaged: false,
                    };
                    prop_assert!(merged.bytes <= LIMITS.bytes_max);
                    prop_assert!(merged.times.end() - merged.times.start() <= 1000);
                    copied += merged.bytes;
                    objects.splice(range, [merged]);
                }
            }
            // A tenth of the limit is reached by every object but the newest dozen, or a tenth of the span.
            let large = |object: &&Candidate| {
                object.bytes > LIMITS.bytes_max / 10 || object.times.end() - object.times.start() > 100
            };
            let small = objects.len() - objects.iter().filter(large).count();
            prop_assert!(small <= 24, "{} of {} objects are small", small, objects.len());
            prop_assert!(copied <= 8 * appended + 64 * 1024, "{} bytes copied of {}", copied, appended);
        }
    }
}
