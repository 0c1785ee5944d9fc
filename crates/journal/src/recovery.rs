//! Which of the objects that are found hold the journal, and which are left over.
//!
//! A merge or a rewriting writes the new object and then removes the old ones. After a crash in between, and after a
//! write whose success was not heard of, several objects hold the same flush. The one written last counts: whatever it
//! was made of counted at that time. So an object that overlaps a newer one is superfluous, and the rest is disjoint.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::object::Object;
use crate::object_name::ObjectName;

/// An object that the store lists.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) name: ObjectName,
    /// Whether it has the size that its name says.
    pub(crate) is_whole: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// Disjoint, oldest flush first.
    pub(crate) live: Vec<Arc<Object>>,
    /// In the order in which they were superseded.
    pub(crate) superseded: Vec<Arc<Object>>,
    /// The highest number that was ever given, as far as can be seen.
    pub(crate) last_number: u64,
}

/// Sorts out what was found. A torn object supersedes nothing, since its write never succeeded; one whose rows are
/// nowhere else stays, as damaged.
pub(crate) fn recover(mut found: Vec<Found>) -> Recovered {
    found.sort_by_key(|found| Reverse((found.is_whole, found.name.version)));
    let mut recovered = Recovered::default();
    for Found { name, is_whole } in found {
        recovered.last_number = recovered.last_number.max(name.version);
        let is_superseded = recovered.live.iter().any(|newer| newer.name.overlaps(&name));
        let object = if is_whole {
            Object::whole(name)
        } else {
            Object::torn(name)
        };
        if is_superseded {
            recovered.superseded.push(object);
        } else {
            recovered.live.push(object);
        }
    }
    recovered.live.sort_by_key(|object| *object.name.flushes.start());
    recovered.superseded.sort_by_key(|object| object.name.version);
    recovered
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Objects as (first flush, last flush, version, whether whole).
    fn check(found: &[(u64, u64, u64, bool)], live: &[u64], superseded: &[u64]) {
        let found = found.iter().map(|&(first, last, version, is_whole)| Found {
            name: ObjectName {
                flushes: first..=last,
                version,
                times: 0..=0,
                memory_bytes: 0,
                stored_bytes: 0,
            },
            is_whole,
        });
        let recovered = recover(found.collect());
        let versions = |objects: &[Arc<Object>]| -> Vec<u64> {
            objects.iter().map(|object| object.name.version).collect()
        };
        assert_eq!(versions(&recovered.live), live);
        assert_eq!(versions(&recovered.superseded), superseded);
    }

    #[test]
    fn the_newest_object_of_a_flush_counts() {
        check(&[], &[], &[]);
        check(&[(2, 2, 2, true), (1, 1, 1, true)], &[1, 2], &[]);
        // An interrupted merge, and one of it and others.
        check(
            &[(1, 1, 1, true), (1, 2, 3, true), (4, 4, 4, true)],
            &[3, 4],
            &[1],
        );
        check(
            &[(1, 2, 3, true), (1, 4, 5, true), (2, 2, 2, true), (6, 6, 6, true)],
            &[5, 6],
            &[2, 3],
        );
        // An interrupted removal of rows.
        check(&[(1, 1, 1, true), (1, 1, 2, true)], &[2], &[1]);
        // A merge that was taken for failed, and a rewriting of one of its parts since.
        check(
            &[(1, 1, 1, true), (2, 2, 2, true), (1, 2, 3, true), (2, 2, 4, true)],
            &[1, 4],
            &[2, 3],
        );
    }

    #[test]
    fn a_torn_object_supersedes_nothing() {
        check(
            &[(1, 1, 1, true), (2, 2, 2, true), (1, 2, 3, false)],
            &[1, 2],
            &[3],
        );
        check(&[(1, 1, 1, true), (2, 2, 2, false)], &[1, 2], &[]);
    }
}
