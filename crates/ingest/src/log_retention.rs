//! Which segments of the log may go: those whose rows are in files, unless a trigger has still to read them.

use tidemill_wal::Lsn;

/// What there is to know for the decision.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retention {
    /// Everything up to here is in files.
    pub(crate) snapshot: Lsn,
    /// Everything up to here was read by every trigger.
    pub(crate) read: Lsn,
    /// The most bytes that are kept for triggers alone.
    pub(crate) backlog_bytes_max: u64,
    /// Segments that are kept although nobody needs them.
    pub(crate) segments_kept: usize,
}

/// The decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The first record that stays; segments that end before it go.
    pub(crate) keep_from: Lsn,
    /// Bytes of the segments that go.
    pub(crate) bytes: u64,
    /// Whether some of them have not been read by every trigger.
    pub(crate) is_forced: bool,
}

/// A segment whose rows are in files.
struct Covered {
    last: Lsn,
    bytes: u64,
}

/// Decides about segments, oldest first, each with its first record and its bytes. `None`: all stay.
pub(crate) fn cut(segments: &[(Lsn, u64)], retention: Retention) -> Option<Cut> {
    let covered: Vec<Covered> = covered(segments, retention.snapshot).collect();
    let candidates = &covered[..covered.len().saturating_sub(retention.segments_kept)];
    let is_read = |segment: &Covered| segment.last <= retention.read;
    let mut backlog_bytes = unread_bytes(&covered, retention.read);
    let mut count = candidates.partition_point(is_read);
    let read_count = count;
    while count < candidates.len() && backlog_bytes > retention.backlog_bytes_max {
        backlog_bytes -= candidates[count].bytes;
        count += 1;
    }
    let last = candidates.get(count.checked_sub(1)?)?;
    Some(Cut {
        keep_from: last.last.next(),
        bytes: candidates[..count].iter().map(|segment| segment.bytes).sum(),
        is_forced: count > read_count,
    })
}

/// Bytes of the segments that are kept for triggers alone.
pub(crate) fn backlog_bytes(segments: &[(Lsn, u64)], snapshot: Lsn, read: Lsn) -> u64 {
    unread_bytes(&covered(segments, snapshot).collect::<Vec<_>>(), read)
}

/// The segments that are not the last and hold nothing after the snapshot.
fn covered(segments: &[(Lsn, u64)], snapshot: Lsn) -> impl Iterator<Item = Covered> {
    segments
        .windows(2)
        .map(|pair| Covered {
            last: Lsn(pair[1].0.0 - 1),
            bytes: pair[0].1,
        })
        .take_while(move |segment| segment.last <= snapshot)
}

fn unread_bytes(covered: &[Covered], read: Lsn) -> u64 {
    covered
        .iter()
        .filter(|segment| segment.last > read)
        .map(|segment| segment.bytes)
        .sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Segments of ten records and 100 bytes each, from record 1 on.
    fn segments(count: u64) -> Vec<(Lsn, u64)> {
        (0..count).map(|number| (Lsn(number * 10 + 1), 100)).collect()
    }

    fn check(snapshot: u64, read: u64, backlog_bytes_max: u64, kept: usize, expected: Option<(u64, bool)>) {
        let retention = Retention {
            snapshot: Lsn(snapshot),
            read: Lsn(read),
            backlog_bytes_max,
            segments_kept: kept,
        };
        let cut = cut(&segments(5), retention);
        assert_eq!(
            cut.map(|cut| (cut.keep_from.0, cut.is_forced)),
            expected,
            "{retention:?}"
        );
    }

    #[test]
    fn what_is_in_files_and_was_read_goes() {
        check(0, 0, 1000, 0, None);
        check(9, 100, 1000, 0, None);
        check(10, 100, 1000, 0, Some((11, false)));
        check(100, 100, 1000, 0, Some((41, false)));
        check(100, 100, 1000, 2, Some((21, false)));
        check(100, 100, 1000, 9, None);
        check(100, 25, 1000, 0, Some((21, false)));
        check(100, 9, 1000, 0, None);
    }

    #[test]
    fn the_bound_removes_what_was_not_read_oldest_first() {
        check(100, 0, 400, 0, None);
        check(100, 0, 399, 0, Some((11, true)));
        check(100, 0, 200, 0, Some((21, true)));
        check(100, 15, 200, 0, Some((21, true)));
        check(100, 25, 200, 0, Some((21, false)));
        check(100, 0, 0, 0, Some((41, true)));
        check(20, 0, 0, 0, Some((21, true)));
    }

    proptest! {
        #[test]
        fn nothing_that_is_needed_goes(
            lengths in prop::collection::vec((1u64..20, 0u64..1000), 1..20),
            snapshot in 0u64..200,
            read in 0u64..200,
            backlog_bytes_max in 0u64..5000,
            segments_kept in 0usize..4,
        ) {
            let mut first = 1;
            let segments: Vec<(Lsn, u64)> = lengths.iter().map(|(records, bytes)| {
                let segment = (Lsn(first), *bytes);
                first += records;
                segment
            }).collect();
            let retention = Retention { snapshot: Lsn(snapshot), read: Lsn(read), backlog_bytes_max, segments_kept };
            let cut = cut(&segments, retention);
            if let Some(cut) = cut {
                prop_assert!(cut.keep_from.0 <= snapshot + 1);
                prop_assert_eq!(cut.is_forced, cut.keep_from.0 > read + 1);
                prop_assert!(segments.iter().any(|(first, _)| *first == cut.keep_from), "a segment begins there");
            }
            let keep_from = cut.map_or(Lsn(1), |cut| cut.keep_from);
            let kept: Vec<_> = segments.iter().copied().filter(|(first, _)| *first >= keep_from).collect();
            prop_assert!(kept.len() > segments_kept.min(segments.len().saturating_sub(1)));
            if segments_kept == 0 {
                prop_assert!(backlog_bytes(&kept, Lsn(snapshot), Lsn(read)) <= backlog_bytes_max);
            }
        }
    }
}
