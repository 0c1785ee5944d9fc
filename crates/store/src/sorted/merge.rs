//! Merging sorted streams into one.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::StreamExt;

use crate::FileError;
use crate::sorted::assemble::Assembly;
use crate::sorted::cursor::Cursor;
use crate::sorted::{BATCH_ROWS, SortedStream};

/// A run this long is passed on as it is instead of copied.
const PASSED_ROWS_MIN: usize = BATCH_ROWS / 2;

/// All rows of sorted streams as one sorted stream in which each point occurs once, the later stream winning field by
/// field where it is not null. `inputs` come in log order. All have the columns of `schema`, of which the first
/// `key_columns` are the tags in the order of the series key and then time; any others may follow.
///
/// # Errors
/// Those of the inputs; [`FileError::Unsorted`] when one is not sorted; [`FileError::Columns`] when one has other columns.
pub fn merge_sorted(schema: SchemaRef, key_columns: usize, inputs: Vec<SortedStream>) -> SortedStream {
    let merge = Merge {
        assembly: Assembly::new(schema, key_columns),
        key_columns,
        unopened: inputs,
        cursors: Vec::new(),
        order: VecDeque::new(),
        next_series: 0,
    };
    let batches = futures::stream::try_unfold(merge, async |mut merge: Merge| {
        Ok(merge.next().await?.map(|batch| (batch, merge)))
    });
    batches.boxed()
}

struct Merge {
    assembly: Assembly,
    key_columns: usize,
    unopened: Vec<SortedStream>,
    /// In log order.
    cursors: Vec<Cursor>,
    /// Those that have rows left, by the point they stand at and then in log order.
    order: VecDeque<usize>,
    next_series: u64,
}

impl Merge {
    async fn next(&mut self) -> Result<Option<RecordBatch>, FileError> {
        self.open().await?;
        while let Some(least) = self.order.pop_front() {
            let next = self.order.front().map(|next| &self.cursors[*next]);
            let cursor = &self.cursors[least];
            if next.is_some_and(|next| cursor.is_at_point_of(next)) {
                self.take_point(least).await?;
            } else {
                let rest = cursor.batch().row_count() - cursor.row();
                let before = next.map_or(rest, |next| cursor.rows_before(next));
                if let Some(batch) = self.take_rows(least, before).await? {
                    return Ok(Some(batch));
                }
            }
            if self.assembly.row_count() >= BATCH_ROWS {
                break;
            }
        }
        self.assembly.finish()
    }

    async fn open(&mut self) -> Result<(), FileError> {
        let opening = self
            .unopened
            .drain(..)
            .map(|input| Cursor::open(input, self.key_columns));
        for cursor in futures::future::try_join_all(opening)
            .await?
            .into_iter()
            .flatten()
        {
            self.cursors.push(cursor);
            self.insert(self.cursors.len() - 1);
        }
        Ok(())
    }

    /// Takes rows of one cursor that come before those of all others; returns them if they need not be copied.
    async fn take_rows(&mut self, cursor: usize, row_count: usize) -> Result<Option<RecordBatch>, FileError> {
        let place = &self.cursors[cursor];
        let is_passed = row_count >= PASSED_ROWS_MIN && self.assembly.row_count() == 0;
        let taken = row_count.min(BATCH_ROWS - self.assembly.row_count());
        let passed = is_passed.then(|| place.batch().rows().slice(place.row(), taken));
        if passed.is_none() {
            self.assembly.push_run(cursor, place.batch(), place.row(), taken);
        }
        self.move_on(cursor, taken).await?;
        Ok(passed)
    }

    /// Takes the rows of all cursors that stand at the same point as the first.
    async fn take_point(&mut self, first: usize) -> Result<(), FileError> {
        let mut members = vec![first];
        while let Some(next) = self.order.front()
            && self.cursors[*next].is_at_point_of(&self.cursors[first])
        {
            members.extend(self.order.pop_front());
        }
        let place = |member: &usize| {
            (
                *member,
                self.cursors[*member].batch(),
                self.cursors[*member].row(),
            )
        };
        self.assembly.push_point(members.iter().map(place));
        for member in members {
            self.move_on(member, 1).await?;
        }
        Ok(())
    }

    async fn move_on(&mut self, cursor: usize, row_count: usize) -> Result<(), FileError> {
        let place = &mut self.cursors[cursor];
        if place.advance(row_count) || place.next_batch().await? {
            self.insert(cursor);
        }
        Ok(())
    }

    /// Puts a cursor that is not in it into the order.
    fn insert(&mut self, cursor: usize) {
        // Taken out so that it can be compared with the others: that it is compared with its neighbours is what finds
        // the number of its series.
        let (before, rest) = self.cursors.split_at_mut(cursor);
        let Some((place, after)) = rest.split_first_mut() else {
            return;
        };
        let position = self.order.partition_point(|&other| {
            let other_place = if other < cursor {
                &before[other]
            } else {
                &after[other - cursor - 1]
            };
            place.compare(other_place).then(cursor.cmp(&other)).is_gt()
        });
        place.number_series(&mut self.next_series);
        self.order.insert(position, cursor);
    }
}
