//! Numbers for tag values, given in the order in which the values are met: comparing, hashing and storing a number is
//! much cheaper than the text.

use std::hash::BuildHasher;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, StringArray, StringBuilder,
};
use datafusion::arrow::buffer::ScalarBuffer;
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::Int32Type;
use datafusion::common::exec_datafusion_err;
use datafusion::error::Result;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use parking_lot::Mutex;

/// A number that no value has; stands for a null dictionary entry.
const NO_NUMBER: i32 = -1;
/// How many dictionaries are remembered with their numbers. Each partition works on one at a time.
const REMEMBERED_DICTIONARIES: usize = 16;
/// With more entries than this for each row, rows are looked at instead of entries.
const ENTRIES_PER_ROW_MAX: usize = 2;
/// A dictionary of up to so many values is handed out whole, however few rows use it.
const WHOLE_DICTIONARY_MAX: usize = 1024;

/// One numbering of one tag within one query or a part of it. Equal values have equal numbers in all batches, which no dictionary
/// promises for its keys.
#[derive(Debug, Default)]
pub(crate) struct TagNumbers {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    numbers: HashTable<(u64, i32)>,
    values: StringBuilder,
    hasher: FixedState,
    /// Dictionaries seen lately and the numbers of their entries; the array is held, so its memory stays its own.
    remembered: Vec<(ArrayRef, Arc<[i32]>)>,
    next_forgotten: usize,
    /// All values as an array, as long as no other has come.
    finished: Option<Arc<StringArray>>,
}

impl TagNumbers {
    /// The number of each row's value; null for null.
    ///
    /// Errors: more distinct text than one array can hold.
    pub(crate) fn numbers(&self, tags: &DictionaryArray<Int32Type>) -> Result<Int32Array> {
        let mut state = self.state.lock();
        if tags.values().len() > ENTRIES_PER_ROW_MAX * tags.len() && state.recall(tags.values()).is_none() {
            return state.numbers_by_row(tags);
        }
        let of_entry = state.numbers_of_entries(tags.values())?;
        drop(state);
        let keys = tags.keys();
        // A key under a null may be anything.
        let number = |key: i32| of_entry.get(key as usize).copied().unwrap_or(NO_NUMBER);
        let numbers: ScalarBuffer<i32> = keys.values().iter().map(|&key| number(key)).collect();
        let nulls = if of_entry.contains(&NO_NUMBER) {
            tags.logical_nulls()
        } else {
            keys.nulls().cloned()
        };
        Ok(Int32Array::try_new(numbers, nulls)?)
    }

    /// Bytes held.
    pub(crate) fn size(&self) -> usize {
        let state = self.state.lock();
        let remembered: usize = state
            .remembered
            .iter()
            .map(|(_, numbers)| size_of_val::<[i32]>(numbers))
            .sum();
        let values = state.values.values_slice().len() + size_of_val(state.values.offsets_slice());
        state.numbers.allocation_size() + values + remembered
    }

    /// The values that have these numbers, null for null.
    pub(crate) fn values(&self, numbers: &Int32Array) -> Result<DictionaryArray<Int32Type>> {
        let all = self.state.lock().all_values();
        if all.len() <= numbers.len().max(WHOLE_DICTIONARY_MAX) {
            return Ok(DictionaryArray::try_new(numbers.clone(), all)?);
        }
        // Few rows must not carry a large dictionary along.
        let values = take(&all, numbers, None)?;
        let keys = Int32Array::try_new((0..numbers.len() as i32).collect(), numbers.nulls().cloned())?;
        Ok(DictionaryArray::try_new(keys, values)?)
    }
}

impl State {
    fn recall(&self, entries: &ArrayRef) -> Option<&Arc<[i32]>> {
        self.remembered
            .iter()
            .find(|(known, _)| is_same_memory(known, entries))
            .map(|(_, numbers)| numbers)
    }

    fn numbers_of_entries(&mut self, entries: &ArrayRef) -> Result<Arc<[i32]>> {
        if let Some(numbers) = self.recall(entries) {
            return Ok(Arc::clone(numbers));
        }
        let numbers: Arc<[i32]> = entries
            .as_string::<i32>()
            .iter()
            .map(|value| value.map_or(Ok(NO_NUMBER), |value| self.number(value)))
            .collect::<Result<_>>()?;
        self.remember(Arc::clone(entries), Arc::clone(&numbers));
        Ok(numbers)
    }

    /// For a few rows of a large dictionary, most of whose entries they do not use.
    fn numbers_by_row(&mut self, tags: &DictionaryArray<Int32Type>) -> Result<Int32Array> {
        let entries = tags.values().as_string::<i32>();
        let number = |key: Option<i32>| {
            let entry = key
                .map(|key| key as usize)
                .filter(|&entry| entries.is_valid(entry));
            entry.map(|entry| self.number(entries.value(entry))).transpose()
        };
        tags.keys().iter().map(number).collect()
    }

    fn number(&mut self, value: &str) -> Result<i32> {
        let hash = self.hasher.hash_one(value);
        let values = &self.values;
        let is_same = |&(other_hash, number): &(u64, i32)| {
            other_hash == hash && text(values, number) == value.as_bytes()
        };
        match self.numbers.entry(hash, is_same, |&(hash, _)| hash) {
            hashbrown::hash_table::Entry::Occupied(known) => Ok(known.get().1),
            hashbrown::hash_table::Entry::Vacant(new) => {
                let number = self.values.offsets_slice().len() - 1;
                let text_fits = i32::try_from(self.values.values_slice().len() + value.len()).is_ok();
                let number = i32::try_from(number).ok().filter(|_| text_fits).ok_or_else(|| {
                    exec_datafusion_err!("the values of a tag that is grouped by exceed 2 GiB")
                })?;
                new.insert((hash, number));
                self.values.append_value(value);
                self.finished = None;
                Ok(number)
            }
        }
    }

    fn remember(&mut self, entries: ArrayRef, numbers: Arc<[i32]>) {
        if self.remembered.len() < REMEMBERED_DICTIONARIES {
            self.remembered.push((entries, numbers));
        } else {
            self.remembered[self.next_forgotten] = (entries, numbers);
            self.next_forgotten = (self.next_forgotten + 1) % REMEMBERED_DICTIONARIES;
        }
    }

    fn all_values(&mut self) -> ArrayRef {
        let values = &self.values;
        let finished = self
            .finished
            .get_or_insert_with(|| Arc::new(values.finish_cloned()));
        Arc::clone(finished) as ArrayRef
    }
}

/// Whether two arrays of strings are the same memory. The batches of a file share their dictionary, but each has an array
/// of its own around it.
fn is_same_memory(one: &ArrayRef, other: &ArrayRef) -> bool {
    if Arc::ptr_eq(one, other) {
        return true;
    }
    let (one, other) = (one.as_string::<i32>(), other.as_string::<i32>());
    let nulls = |array: &StringArray| {
        array
            .nulls()
            .map(|nulls| (nulls.buffer().as_ptr(), nulls.offset()))
    };
    one.len() == other.len()
        && one.offsets().inner().inner().as_ptr() == other.offsets().inner().inner().as_ptr()
        && one.values().as_ptr() == other.values().as_ptr()
        && nulls(one) == nulls(other)
}

fn text(values: &StringBuilder, number: i32) -> &[u8] {
    let offsets = values.offsets_slice();
    let number = number as usize;
    &values.values_slice()[offsets[number] as usize..offsets[number + 1] as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(values: &[Option<&str>]) -> DictionaryArray<Int32Type> {
        values.iter().copied().collect()
    }

    #[test]
    fn equal_values_have_equal_numbers_in_all_batches() {
        let numbers = TagNumbers::default();
        let first = numbers
            .numbers(&tags(&[Some("a"), None, Some("b"), Some("a")]))
            .unwrap();
        assert_eq!(first, Int32Array::from(vec![Some(0), None, Some(1), Some(0)]));
        let second = numbers.numbers(&tags(&[Some("c"), Some("b")])).unwrap();
        assert_eq!(second, Int32Array::from(vec![2, 1]));

        let values = numbers
            .values(&Int32Array::from(vec![Some(2), None, Some(0)]))
            .unwrap();
        let texts: Vec<Option<&str>> = values
            .downcast_dict::<StringArray>()
            .unwrap()
            .into_iter()
            .collect();
        assert_eq!(texts, [Some("c"), None, Some("a")]);
    }

    #[test]
    fn a_null_entry_is_null() {
        let entries = Arc::new(StringArray::from(vec![Some("a"), None]));
        let tags = DictionaryArray::try_new(Int32Array::from(vec![Some(1), Some(0), None]), entries).unwrap();
        let numbers = TagNumbers::default().numbers(&tags).unwrap();
        assert_eq!(numbers, Int32Array::from(vec![None, Some(0), None]));
    }

    #[test]
    fn few_rows_of_a_large_dictionary_have_the_same_numbers() {
        let numbers = TagNumbers::default();
        let few = tags(&[
            Some("c"),
            None,
            Some("a"),
            Some("b"),
            Some("d"),
            Some("e"),
            Some("f"),
        ])
        .slice(0, 2);
        assert_eq!(
            numbers.numbers(&few).unwrap(),
            Int32Array::from(vec![Some(0), None])
        );
        let again = numbers
            .numbers(&tags(&[Some("a"), Some("x"), Some("c")]))
            .unwrap();
        assert_eq!(again, Int32Array::from(vec![1, 2, 0]));
    }

    #[test]
    fn a_dictionary_is_known_by_its_memory() {
        let numbers = TagNumbers::default();
        let first = tags(&[Some("a"), Some("b")]);
        let again: ArrayRef = Arc::new(StringArray::from(first.values().to_data()));
        let other: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        numbers.numbers(&first).unwrap();
        let state = numbers.state.lock();
        assert!(!Arc::ptr_eq(first.values(), &again));
        assert!(state.recall(&again).is_some());
        assert!(state.recall(&other).is_none());
        assert!(state.recall(&again.slice(0, 1)).is_none());
    }

    #[test]
    fn few_rows_do_not_carry_all_values() {
        let numbers = TagNumbers::default();
        let many: DictionaryArray<Int32Type> = (0..5000)
            .map(|value| value.to_string())
            .collect::<Vec<_>>()
            .iter()
            .map(|value| Some(value.as_str()))
            .collect();
        let all = numbers.numbers(&many).unwrap();
        assert_eq!(numbers.values(&all).unwrap().values().len(), 5000);
        let few = numbers
            .values(&Int32Array::from(vec![Some(4999), None, Some(7)]))
            .unwrap();
        assert_eq!(few.values().len(), 3);
        let texts: Vec<Option<&str>> = few.downcast_dict::<StringArray>().unwrap().into_iter().collect();
        assert_eq!(texts, [Some("4999"), None, Some("7")]);
    }
}
