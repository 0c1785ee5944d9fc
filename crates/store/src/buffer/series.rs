//! Which series a row belongs to, told by one number.

use std::hash::{BuildHasher, Hasher};

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, StringArray};
use arrow::datatypes::Int32Type;
use foldhash::quality::FixedState;
use hashbrown::HashMap;
use tidemill_catalog::ColumnId;

const VALUE_SEED: u64 = 0x7469_6465_6d69_6c6c;
const TAG_SET_SEED: u64 = 0x7365_7269_6573_0001;

/// The tag sets of a batch and the one that each row has.
///
/// A tag set is named by its *canonical hash*: over pairs of column id and value, independent of the order in which the
/// tags were written, absent tags left out. Two rows of a table with equal tags have equal hashes in every batch of this
/// process, however it came in; the reverse may fail, which costs time and nothing else. Hashes are not for the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesOfRows {
    tag_set_of_row: Vec<u32>,
    hashes: Vec<u64>,
}

impl SeriesOfRows {
    /// Names the tag sets of a batch. `tag_columns` are its `Dictionary(Int32, Utf8)` columns in any order;
    /// `tag_set_of_row` has for each row a number below `tag_set_first_row.len()`, and `tag_set_first_row` a row for
    /// each of these numbers. Numbers whose tags turn out to be the same (`a=1,b=2` and `b=2,a=1`) become one.
    ///
    /// # Panics
    /// When a column has another type or fewer rows, or a number is out of range: the caller made them.
    pub fn compute(
        tag_columns: &[(ColumnId, &ArrayRef)],
        mut tag_set_of_row: Vec<u32>,
        tag_set_first_row: &[u32],
    ) -> Self {
        let mut sums = vec![0u64; tag_set_first_row.len()];
        for (column, array) in tag_columns {
            add_column(
                *column,
                array.as_dictionary::<Int32Type>(),
                tag_set_first_row,
                &mut sums,
            );
        }
        // The sum is independent of order; hashing it spreads it over all bits.
        let hasher = FixedState::with_seed(TAG_SET_SEED);
        let mut hashes: Vec<u64> = Vec::with_capacity(sums.len());
        let mut numbers: HashMap<u64, u32, PassThrough> =
            HashMap::with_capacity_and_hasher(sums.len(), PassThrough);
        let renumbered: Vec<u32> = sums
            .iter()
            .map(|sum| {
                let hash = hasher.hash_one(sum);
                *numbers.entry(hash).or_insert_with(|| {
                    hashes.push(hash);
                    hashes.len() as u32 - 1
                })
            })
            .collect();
        if hashes.len() < sums.len() {
            for tag_set in &mut tag_set_of_row {
                *tag_set = renumbered[*tag_set as usize];
            }
        }
        assert!(
            tag_set_of_row
                .iter()
                .all(|tag_set| (*tag_set as usize) < hashes.len()),
            "every row has one of the tag sets"
        );
        Self {
            tag_set_of_row,
            hashes,
        }
    }

    /// For each row the number of its tag set: the position of its hash in [`SeriesOfRows::hashes`].
    pub fn tag_set_of_row(&self) -> &[u32] {
        &self.tag_set_of_row
    }

    /// The canonical hash of each tag set, all distinct.
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }
}

/// Adds the hash of (column, value) to the sum of every tag set that has the tag.
fn add_column(
    column: ColumnId,
    tags: &DictionaryArray<Int32Type>,
    tag_set_first_row: &[u32],
    sums: &mut [u64],
) {
    let values = tags.values().as_string::<i32>();
    let hasher = FixedState::with_seed(VALUE_SEED ^ u64::from(column.0));
    // Values are fewer than tag sets as a rule, and then each is hashed once.
    let hashes: Option<Vec<u64>> = (values.len() <= sums.len()).then(|| {
        (0..values.len())
            .map(|value| hash_value(&hasher, values, value))
            .collect()
    });
    for (sum, row) in sums.iter_mut().zip(tag_set_first_row) {
        if let Some(value) = tags.key(*row as usize).filter(|value| values.is_valid(*value)) {
            let hash = match &hashes {
                Some(hashes) => hashes[value],
                None => hash_value(&hasher, values, value),
            };
            *sum = sum.wrapping_add(hash);
        }
    }
}

fn hash_value(state: &FixedState, values: &StringArray, value: usize) -> u64 {
    let mut hasher = state.build_hasher();
    hasher.write(values.value(value).as_bytes());
    hasher.finish()
}

/// For maps whose keys are hashes already.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PassThrough;

impl BuildHasher for PassThrough {
    type Hasher = PassThroughHasher;

    fn build_hasher(&self) -> PassThroughHasher {
        PassThroughHasher(0)
    }
}

pub(crate) struct PassThroughHasher(u64);

impl Hasher for PassThroughHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn tags(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(values.iter().copied().collect::<DictionaryArray<Int32Type>>())
    }

    fn compute(
        columns: &[(u16, &[Option<&str>])],
        tag_set_of_row: &[u32],
        first_rows: &[u32],
    ) -> SeriesOfRows {
        let arrays: Vec<(ColumnId, ArrayRef)> = columns
            .iter()
            .map(|(id, values)| (ColumnId(*id), tags(values)))
            .collect();
        let borrowed: Vec<(ColumnId, &ArrayRef)> = arrays.iter().map(|(id, array)| (*id, array)).collect();
        SeriesOfRows::compute(&borrowed, tag_set_of_row.to_vec(), first_rows)
    }

    #[test]
    fn equal_tags_are_equal_whatever_order_and_batch() {
        let one = compute(
            &[(0, &[Some("a"), Some("b")]), (3, &[Some("x"), None])],
            &[0, 1],
            &[0, 1],
        );
        let other = compute(
            &[(3, &[None, Some("x")]), (0, &[Some("b"), Some("a")])],
            &[0, 1],
            &[0, 1],
        );
        assert_eq!(one.hashes()[0], other.hashes()[1]);
        assert_eq!(one.hashes()[1], other.hashes()[0]);
    }

    #[test]
    fn a_null_tag_is_as_a_missing_column() {
        let with_null = compute(&[(0, &[Some("a")]), (1, &[None])], &[0], &[0]);
        let without = compute(&[(0, &[Some("a")])], &[0], &[0]);
        assert_eq!(with_null, without);
        let no_tags = compute(&[], &[0, 0], &[0]);
        assert_eq!(no_tags.hashes(), compute(&[(0, &[None])], &[0], &[0]).hashes());
    }

    #[test]
    fn value_and_column_both_count() {
        let hash = |column, value: &'static str| compute(&[(column, &[Some(value)])], &[0], &[0]).hashes()[0];
        let swapped = |a: &'static str, b: &'static str| {
            compute(&[(0, &[Some(a)]), (1, &[Some(b)])], &[0], &[0]).hashes()[0]
        };
        assert_ne!(hash(0, "a"), hash(0, "b"));
        assert_ne!(hash(0, "a"), hash(1, "a"));
        assert_ne!(hash(0, ""), compute(&[], &[0], &[0]).hashes()[0]);
        assert_ne!(swapped("a", "b"), swapped("b", "a"));
    }

    #[test]
    fn tag_sets_that_are_the_same_become_one() {
        let series = compute(
            &[
                (0, &[Some("1"), Some("1"), Some("2"), Some("1")]),
                (1, &[Some("2"), Some("2"), Some("2"), Some("2")]),
            ],
            &[0, 1, 2, 1],
            &[0, 1, 2],
        );
        assert_eq!(series.tag_set_of_row(), [0, 0, 1, 0]);
        assert_eq!(series.hashes().len(), 2);
    }
}
