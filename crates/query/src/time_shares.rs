//! Which source answers for which span of time.
//!
//! Files and the memory buffer hold rows of the same table, and a point that was written twice may be in several of
//! them. But it has one time: at instants that only one source covers there is nothing to deduplicate. So time is
//! shared out into spans where one source is *alone*, to be read as it lies, and spans where sources *overlap*, to be
//! merged.

use std::sync::Arc;

use tidemill_store::DataFile;

use crate::intervals::{Cover, Interval, Intervals};

/// Files that one merge should read at a time, if cutting time helps to keep it that low.
const FILES_PER_SLICE: usize = 16;
/// Rows of files below which a further slice costs more than it brings.
const ROWS_PER_SLICE_MIN: u64 = 1 << 20;
/// A file whose rows are sorted by series is read in full for any span of time. So one that is alone in less than this
/// share of its time (one nth) is read once, by the merge, instead of twice.
const ALONE_SHARE_MIN: u64 = 2;

/// A range of time, shared out.
#[derive(Debug, Default)]
pub(crate) struct TimeShares {
    /// Files that are wanted as a whole and are alone at all their times.
    pub(crate) whole: Vec<Arc<DataFile>>,
    /// Files of which rows at some times are wanted or alone: those in [`alone`](Self::alone).
    pub(crate) cut: Vec<Arc<DataFile>>,
    /// The times of the range at which rows need not be merged.
    pub(crate) alone: Intervals,
    /// What must be merged, by time.
    pub(crate) slices: Vec<Slice>,
    /// Files without a row in the range.
    pub(crate) outside_count: usize,
}

/// Spans of time in which sources overlap. No instant is in two slices.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) times: Intervals,
    /// The files that have rows there, in log order. The buffer, which is later than all files, is not named.
    pub(crate) files: Vec<Arc<DataFile>>,
}

/// The part of a file's time that is in the range.
#[derive(Clone, Copy, Debug)]
struct Piece<'a> {
    times: Interval,
    file: &'a Arc<DataFile>,
}

impl TimeShares {
    /// Shares out `range` between `files`, which are in log order wherever they overlap in time, and the buffer, which
    /// has rows within the hulls `buffer`. More slices than `partition_count` are made only to keep them small.
    pub(crate) fn new(
        files: &[Arc<DataFile>],
        buffer: &Intervals,
        range: Interval,
        partition_count: usize,
    ) -> Self {
        let mut pieces: Vec<Piece<'_>> = files
            .iter()
            .filter_map(|file| {
                let times = file_hull(file).intersect(range)?;
                Some(Piece { times, file })
            })
            .collect();
        let outside_count = files.len() - pieces.len();
        // Files mostly come in the order of time, which makes this cheap.
        pieces.sort_by_key(|piece| piece.times.first);

        let overlaps = overlaps(&pieces, &buffer.within(range));
        let mut shares = Self {
            alone: overlaps.gaps_within(range),
            outside_count,
            ..Self::default()
        };
        for piece in &pieces {
            match overlaps.cover(piece.times) {
                Cover::None if piece.times == file_hull(piece.file) => {
                    shares.whole.push(Arc::clone(piece.file));
                }
                Cover::None | Cover::Some => shares.cut.push(Arc::clone(piece.file)),
                Cover::All => {}
            }
        }
        shares.slices = slices(&pieces, &overlaps, partition_count);
        shares
    }
}

pub(crate) fn file_hull(file: &DataFile) -> Interval {
    Interval {
        first: file.time_min,
        last: file.time_max,
    }
}

/// The times that must be merged: those that two sources cover, and those of files that are hardly ever alone.
fn overlaps(pieces: &[Piece<'_>], buffer: &Intervals) -> Intervals {
    let mut hulls: Vec<Interval> = pieces.iter().map(|piece| piece.times).collect();
    hulls.extend(buffer.as_slice());
    hulls.sort_by_key(|hull| hull.first);

    let mut overlaps: Vec<Interval> = Vec::new();
    let mut covered_to: Option<i64> = None;
    for hull in hulls {
        // What began earlier and is not over covers all instants from here to where the last of it ends.
        if let Some(covered_to) = covered_to {
            overlaps.extend(Interval::new(hull.first, hull.last.min(covered_to)));
        }
        covered_to = covered_to.max(Some(hull.last));
    }
    let overlaps = Intervals::union(overlaps);

    let hardly_alone = |piece: &&Piece<'_>| {
        let shared = overlaps.overlapping(piece.times).iter();
        let shared = shared.filter_map(|overlap| overlap.intersect(piece.times));
        let shared: u64 = shared.map(Interval::span).sum();
        let alone = piece.times.span() - shared;
        overlaps.cover(piece.times) == Cover::Some && alone < piece.times.span() / ALONE_SHARE_MIN
    };
    let mut widened = pieces.iter().filter(hardly_alone).peekable();
    if widened.peek().is_none() {
        return overlaps;
    }
    let widened: Vec<Interval> = widened.map(|piece| piece.times).collect();
    Intervals::union(overlaps.as_slice().iter().copied().chain(widened))
}

/// The slices of all overlaps. `pieces` are in the order of their first instants.
fn slices(pieces: &[Piece<'_>], overlaps: &Intervals, partition_count: usize) -> Vec<Slice> {
    let row_count: u64 = pieces.iter().map(|piece| piece.file.row_count).sum();
    let rows_per_slice = (row_count / partition_count.max(1) as u64).max(ROWS_PER_SLICE_MIN);
    let mut parts = Vec::new();
    let mut following = pieces.iter().peekable();
    let mut present: Vec<Piece<'_>> = Vec::new();
    for overlap in overlaps.as_slice() {
        present.retain(|piece| piece.times.last >= overlap.first);
        while let Some(piece) = following.next_if(|piece| piece.times.first <= overlap.last) {
            if piece.times.last >= overlap.first {
                present.push(*piece);
            }
        }
        cut(*overlap, &present, rows_per_slice, &mut parts);
    }
    join(parts, rows_per_slice)
}

/// A span of time with the files that have rows there.
struct Part<'a> {
    times: Interval,
    pieces: Vec<Piece<'a>>,
}

/// Cuts an overlap where many files end, so that few files are open at a time and slices can be worked on in parallel.
/// Every cut has the files read twice that go on beyond it.
fn cut<'a>(overlap: Interval, pieces: &[Piece<'a>], rows_per_slice: u64, parts: &mut Vec<Part<'a>>) {
    let mut first = overlap.first;
    let mut present: Vec<Piece<'_>> = Vec::new();
    let mut row_count = 0;
    for piece in pieces {
        let start = piece.times.first;
        let is_enough = present.len() >= FILES_PER_SLICE || row_count >= rows_per_slice;
        if is_enough && start > first {
            let over = present.iter().filter(|piece| piece.times.last < start).count();
            if over * 2 >= present.len() {
                let last = start - 1;
                parts.push(Part {
                    times: Interval { first, last },
                    pieces: present.clone(),
                });
                present.retain(|piece| piece.times.last >= start);
                row_count = 0;
                first = start;
            }
        }
        present.push(*piece);
        row_count += piece.file.row_count;
    }
    let last = overlap.last;
    parts.push(Part {
        times: Interval { first, last },
        pieces: present,
    });
}

/// Joins neighbours that have files in common: a file is read for each slice that it is in.
fn join(parts: Vec<Part<'_>>, rows_per_slice: u64) -> Vec<Slice> {
    let rows = |pieces: &[&Piece<'_>]| -> u64 { pieces.iter().map(|piece| piece.file.row_count).sum() };
    let mut slices = Vec::new();
    let mut spans: Vec<Interval> = Vec::new();
    let mut files: Vec<Piece<'_>> = Vec::new();
    let mut row_count = 0;
    for part in parts {
        let is_open = |piece: &&Piece<'_>| files.iter().any(|open| Arc::ptr_eq(open.file, piece.file));
        let (shared, new): (Vec<&Piece<'_>>, Vec<&Piece<'_>>) = part.pieces.iter().partition(is_open);
        let is_small = row_count + rows(&new) <= rows_per_slice;
        let saves_most = rows(&shared) >= rows(&new);
        let is_joined =
            !shared.is_empty() && files.len() + new.len() <= FILES_PER_SLICE && (is_small || saves_most);
        if !is_joined && !spans.is_empty() {
            slices.push(Slice::new(std::mem::take(&mut spans), std::mem::take(&mut files)));
            row_count = 0;
        }
        let added = if is_joined {
            new
        } else {
            part.pieces.iter().collect()
        };
        row_count += rows(&added);
        files.extend(added);
        spans.push(part.times);
    }
    if !spans.is_empty() {
        slices.push(Slice::new(spans, files));
    }
    slices
}

impl Slice {
    fn new(spans: Vec<Interval>, pieces: Vec<Piece<'_>>) -> Self {
        let mut files: Vec<Arc<DataFile>> = pieces.iter().map(|piece| Arc::clone(piece.file)).collect();
        files.sort_by_key(|file| (file.lsn_first, file.id));
        Self {
            times: Intervals::union(spans),
            files,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidemill_catalog::{DatabaseId, TableId};
    use tidemill_store::{Effort, FileId};

    use super::*;

    fn file(number: u64, first: i64, last: i64, row_count: u64) -> Arc<DataFile> {
        Arc::new(DataFile {
            id: FileId(number),
            database: DatabaseId(0),
            table: TableId(0),
            path: Arc::from(format!("{number}.parquet")),
            byte_size: 1,
            checksum: 0,
            row_count,
            time_min: first,
            time_max: last,
            lsn_first: number * 10,
            lsn_last: number * 10 + 9,
            deletes_through: 0,
            effort: Effort::High,
            tail: None,
        })
    }

    fn ids(files: &[Arc<DataFile>]) -> Vec<u64> {
        files.iter().map(|file| file.id.0).collect()
    }

    fn interval(first: i64, last: i64) -> Interval {
        Interval { first, last }
    }

    #[test]
    fn files_that_are_alone_are_left_alone() {
        let files = [file(0, 0, 9, 1), file(1, 10, 19, 1), file(2, 30, 39, 1)];
        let buffer = Intervals::union([interval(40, 49)]);
        let shares = TimeShares::new(&files, &buffer, interval(5, 60), 2);
        assert_eq!((ids(&shares.whole), ids(&shares.cut)), (vec![1, 2], vec![0]));
        assert!(shares.slices.is_empty());
        assert_eq!(shares.alone.as_slice(), [interval(5, 60)]);
        let shares = TimeShares::new(&files, &buffer, interval(20, 29), 2);
        assert_eq!(shares.outside_count, 3);
    }

    #[test]
    fn only_where_sources_overlap_they_are_merged() {
        let files = [file(0, 0, 99, 1), file(1, 98, 200, 1)];
        let buffer = Intervals::union([interval(195, 300)]);
        let shares = TimeShares::new(&files, &buffer, Interval::ALL, 2);
        assert_eq!((ids(&shares.whole), ids(&shares.cut)), (vec![], vec![0, 1]));
        // Both spans concern file 1, which is read once for them.
        assert_eq!(
            shares.slices,
            [Slice {
                times: Intervals::union([interval(98, 99), interval(195, 200)]),
                files: files.to_vec(),
            }]
        );
    }

    #[test]
    fn a_file_that_is_hardly_alone_is_read_once() {
        let files = [file(1, 0, 100, 1), file(0, 0, 90, 1)];
        let shares = TimeShares::new(&files, &Intervals::default(), Interval::ALL, 2);
        assert!(shares.whole.is_empty() && shares.cut.is_empty());
        let [slice] = &shares.slices[..] else {
            panic!("{shares:?}");
        };
        assert_eq!(
            (slice.times.as_slice(), ids(&slice.files)),
            (&[interval(0, 100)][..], vec![0, 1])
        );
    }

    #[test]
    fn a_long_chain_of_overlaps_is_cut() {
        let files: Vec<_> = (0..1000)
            .map(|number| file(number as u64, number * 10, number * 10 + 20, 100))
            .collect();
        let shares = TimeShares::new(&files, &Intervals::default(), Interval::ALL, 2);
        let most = shares.slices.iter().map(|slice| slice.files.len()).max();
        assert!(most <= Some(FILES_PER_SLICE + 3), "{most:?}");
        let reads: usize = shares.slices.iter().map(|slice| slice.files.len()).sum();
        assert!(reads < 1500, "{reads}");

        // The same with gaps between the overlaps, as commits that come a little late make them.
        let files: Vec<_> = (0..1000)
            .map(|number| file(number as u64, number * 10, number * 10 + 11, 100))
            .collect();
        let shares = TimeShares::new(&files, &Intervals::default(), Interval::ALL, 2);
        let reads: usize = shares.slices.iter().map(|slice| slice.files.len()).sum();
        assert_eq!(shares.cut.len(), 1000);
        assert!(reads < 1100, "{reads}");
    }

    #[test]
    fn a_large_file_is_not_read_for_every_late_row() {
        let files = [file(0, 0, 1000, 5_000_000)];
        let buffer = Intervals::union((0..50).map(|number| interval(number * 10, number * 10 + 2)));
        let shares = TimeShares::new(&files, &buffer, Interval::ALL, 4);
        assert_eq!(shares.slices.len(), 1);
        assert_eq!(shares.slices[0].times, buffer);
    }

    fn any_span() -> impl Strategy<Value = (i64, i64)> {
        (0..60i64, 0..25i64).prop_map(|(first, length)| (first, first + length))
    }

    proptest! {
        #[test]
        fn every_row_has_one_way(
            spans in prop::collection::vec((any_span(), 1..3_000_000u64), 0..40),
            buffer in prop::collection::vec(any_span(), 0..4),
            range in any_span(),
            partition_count in 1..4usize,
        ) {
            let files: Vec<_> = spans
                .iter()
                .enumerate()
                .map(|(number, ((first, last), rows))| file(number as u64, *first, *last, *rows))
                .collect();
            let buffer = Intervals::union(buffer.iter().map(|(first, last)| interval(*first, *last)));
            let range = interval(range.0, range.1);
            let shares = TimeShares::new(&files, &buffer, range, partition_count);
            prop_assert_eq!(shares.outside_count, files.iter().filter(|file| file_hull(file).intersect(range).is_none()).count());
            for whole in &shares.whole {
                prop_assert!(range.covers(file_hull(whole)));
                prop_assert!(!shares.cut.iter().any(|cut| cut.id == whole.id));
            }
            for slice in &shares.slices {
                prop_assert!(slice.files.is_sorted_by_key(|file| file.lsn_first));
            }
            for time in -1..90 {
                let here = |file: &&Arc<DataFile>| file_hull(file).contains(time);
                let merged: Vec<_> = shares.slices.iter().filter(|slice| slice.times.contains(time)).collect();
                let is_alone = shares.alone.contains(time);
                if !range.contains(time) {
                    prop_assert!(merged.is_empty() && !is_alone);
                    continue;
                }
                // An instant is merged or alone, never both.
                prop_assert_eq!(merged.len(), usize::from(!is_alone));
                let sources: Vec<u64> = files.iter().filter(here).map(|file| file.id.0).collect();
                let plain: Vec<u64> =
                    shares.whole.iter().chain(&shares.cut).filter(here).map(|file| file.id.0).collect();
                if is_alone {
                    prop_assert!(sources.len() + usize::from(buffer.contains(time)) <= 1);
                    prop_assert_eq!(plain, sources);
                } else {
                    let read: Vec<u64> = merged[0].files.iter().filter(here).map(|file| file.id.0).collect();
                    prop_assert_eq!(read, sources);
                    prop_assert!(shares.whole.iter().filter(here).count() == 0);
                }
            }
        }
    }
}
