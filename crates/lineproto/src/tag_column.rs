//! One tag column: a dictionary while it is being filled, and the array in the end.

use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Int32Array, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::Int32Type;

use crate::dictionary::Dictionary;
use crate::key::Key;
use crate::tag_set::TagSets;

/// The values of one tag. Which rows have which is known by the rows' tag sets.
#[derive(Debug)]
pub(crate) struct TagColumn<'a> {
    /// The key as it was spelled when it was last looked up.
    pub(crate) key: Key<'a>,
    /// The column's name, an index into the table's names.
    pub(crate) name: u32,
    pub(crate) dictionary: Dictionary<'a>,
    /// The tag set that was the last to be read with this tag, by the order of reading.
    pub(crate) last_read: u64,
}

impl<'a> TagColumn<'a> {
    pub(crate) fn new(key: Key<'a>, name: u32) -> Self {
        Self {
            key,
            name,
            dictionary: Dictionary::default(),
            last_read: 0,
        }
    }

    /// The column as an array, given the dictionary key of each tag set (from [`keys_of_sets`]) and the tag
    /// set of each row.
    pub(crate) fn finish(&self, key_of_set: &[i32], set_of_row: &[u32]) -> ArrayRef {
        let values = StringArray::from_iter_values(self.dictionary.values());
        let nulls = key_of_set
            .contains(&NO_KEY)
            .then(|| {
                set_of_row
                    .iter()
                    .map(|&set| key_of_set[set as usize] != NO_KEY)
                    .collect()
            })
            .map(NullBuffer::new);
        // Rows without the tag hold key 0, which every dictionary has.
        let keys: Vec<i32> = set_of_row
            .iter()
            .map(|&set| key_of_set[set as usize].max(0))
            .collect();
        let keys = Int32Array::new(keys.into(), nulls);
        Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(values)))
    }
}

/// Marks a tag set that lacks the tag.
const NO_KEY: i32 = -1;

/// For each of a table's `column_count` tag columns the dictionary key of each of its tag sets.
pub(crate) fn keys_of_sets(
    sets_of_table: &[u32],
    column_count: usize,
    tag_sets: &TagSets<'_>,
) -> Vec<Vec<i32>> {
    let mut keys = vec![vec![NO_KEY; sets_of_table.len()]; column_count];
    for (number, &set) in sets_of_table.iter().enumerate() {
        for tag in tag_sets.tags(set) {
            keys[tag.column as usize][number] = tag.key as i32;
        }
    }
    keys
}
