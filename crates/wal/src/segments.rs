//! Which segments there are, shared by the thread that appends and by those that read and remove.

use std::collections::BTreeMap;
use std::path::PathBuf;

use parking_lot::RwLock;

use crate::{Lsn, WalError};

const SUFFIX: &str = ".wal";
const DIGITS: usize = 20;

/// The name of the segment whose first record is `first`.
pub(crate) fn segment_name(first: Lsn) -> String {
    format!("{:0DIGITS$}{SUFFIX}", first.0)
}

/// The segments among `names`, in order. Other files are no concern of the log, unless they end like a segment.
pub(crate) fn segments_among(names: &[String], path: impl Fn(&str) -> PathBuf) -> Result<Vec<Lsn>, WalError> {
    let mut firsts = Vec::new();
    for name in names {
        let Some(digits) = name.strip_suffix(SUFFIX) else {
            continue;
        };
        let is_number = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
        match digits.parse() {
            Ok(first) if is_number && first > 0 => firsts.push(Lsn(first)),
            _ => return Err(WalError::UnexpectedFile { path: path(name) }),
        }
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// The index of the segment with which a replay of the records after `replay_after` starts.
///
/// Errors: [`WalError::Gap`] if the log begins later than that.
pub(crate) fn replay_start(
    firsts: &[Lsn],
    replay_after: Lsn,
    path: impl Fn(&str) -> PathBuf,
) -> Result<usize, WalError> {
    let needed = replay_after.next();
    match firsts.first() {
        Some(&found) if found > needed => Err(WalError::Gap {
            path: path(&segment_name(found)),
            expected: needed,
            found,
        }),
        _ => Ok(firsts.partition_point(|&first| first <= needed).saturating_sub(1)),
    }
}

/// The segments by their first record, with what the medium knows of each.
#[derive(Debug)]
pub(crate) struct SegmentIndex<S> {
    segments: RwLock<BTreeMap<Lsn, S>>,
}

impl<S> SegmentIndex<S> {
    pub(crate) fn new() -> Self {
        Self {
            segments: RwLock::new(BTreeMap::new()),
        }
    }

    pub(crate) fn insert(&self, first: Lsn, segment: S) {
        self.segments.write().insert(first, segment);
    }

    pub(crate) fn remove(&self, first: Lsn) -> Option<S> {
        self.segments.write().remove(&first)
    }

    /// The first record of the oldest segment.
    pub(crate) fn first(&self) -> Option<Lsn> {
        self.segments.read().keys().next().copied()
    }

    /// Every segment by its first record, with something that is told from it.
    pub(crate) fn map<R>(&self, look: impl Fn(&S) -> R) -> Vec<(Lsn, R)> {
        let segments = self.segments.read();
        segments
            .iter()
            .map(|(&first, segment)| (first, look(segment)))
            .collect()
    }

    pub(crate) fn contains(&self, first: Lsn) -> bool {
        self.segments.read().contains_key(&first)
    }

    /// Changes a segment that is in the index.
    pub(crate) fn update(&self, first: Lsn, change: impl FnOnce(&mut S)) {
        if let Some(segment) = self.segments.write().get_mut(&first) {
            change(segment);
        }
    }

    /// Looks at the segment in which record `lsn` is or will be; `None` if that is before the oldest.
    pub(crate) fn look_up<R>(&self, lsn: Lsn, look: impl FnOnce(Lsn, &S) -> R) -> Option<R> {
        self.segments
            .read()
            .range(..=lsn)
            .next_back()
            .map(|(&first, segment)| look(first, segment))
    }

    /// The oldest segment, if all its records are `< lsn` and it is not the last.
    pub(crate) fn removable(&self, lsn: Lsn) -> Option<Lsn> {
        let segments = self.segments.read();
        let mut firsts = segments.keys();
        let oldest = *firsts.next()?;
        let following = *firsts.next()?;
        (following <= lsn).then_some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        PathBuf::from(name)
    }

    #[test]
    fn names_are_ordered_and_strange_ones_refused() {
        let names = [
            "00000000000000000012.wal",
            "lock",
            "00000000000000000001.wal",
            "a.tmp",
        ];
        let names: Vec<String> = names.map(String::from).to_vec();
        assert_eq!(segments_among(&names, path).unwrap(), [Lsn(1), Lsn(12)]);
        for strange in [
            "1.wal",
            "+0000000000000000001.wal",
            "00000000000000000000.wal",
            "x.wal",
        ] {
            let error = segments_among(&[strange.to_owned()], path).unwrap_err();
            assert!(error.to_string().starts_with(strange), "{error}");
        }
        assert_eq!(segment_name(Lsn(12)), "00000000000000000012.wal");
    }

    #[test]
    fn replay_starts_with_the_segment_that_holds_the_next_record() {
        let firsts = [Lsn(1), Lsn(5), Lsn(9)];
        let start = |after| replay_start(&firsts, Lsn(after), path).unwrap();
        assert_eq!(
            [start(0), start(3), start(4), start(7), start(8), start(100)],
            [0, 0, 1, 1, 2, 2]
        );
        assert_eq!(replay_start(&[], Lsn(7), path).unwrap(), 0);
        assert!(matches!(
            replay_start(&firsts[1..], Lsn(3), path),
            Err(WalError::Gap { .. })
        ));
        assert_eq!(replay_start(&firsts[1..], Lsn(4), path).unwrap(), 0);
    }
}
