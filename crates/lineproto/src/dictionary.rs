//! The values of one tag column, each stored once.

use std::borrow::Cow;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// Distinct strings numbered in the order of their first appearance.
#[derive(Debug, Default)]
pub(crate) struct Dictionary<'a> {
    values: Vec<Cow<'a, str>>,
    keys: HashTable<u32>,
    /// Neighbouring lines often share a value.
    last_key: u32,
}

impl<'a> Dictionary<'a> {
    /// The key of `value`, and whether it is new.
    pub(crate) fn intern(&mut self, hasher: &RandomState, value: Cow<'a, str>) -> (u32, bool) {
        if self.values.get(self.last_key as usize) == Some(&value) {
            return (self.last_key, false);
        }
        let hash = hasher.hash_one(&value);
        if let Some(&key) = self.keys.find(hash, |&key| self.values[key as usize] == value) {
            self.last_key = key;
            return (key, false);
        }
        let key = self.values.len() as u32;
        self.values.push(value);
        let values = &self.values;
        self.keys
            .insert_unique(hash, key, |&key| hasher.hash_one(&values[key as usize]));
        self.last_key = key;
        (key, true)
    }

    /// Forgets the value that was added last.
    pub(crate) fn pop(&mut self, hasher: &RandomState) {
        if let Some(value) = self.values.pop() {
            let last = self.values.len() as u32;
            if let Ok(entry) = self.keys.find_entry(hasher.hash_one(&value), |&key| key == last) {
                entry.remove();
            }
        }
    }

    /// The values in the order of their keys.
    pub(crate) fn values(&self) -> &[Cow<'a, str>] {
        &self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_numbered_and_forgotten() {
        let hasher = RandomState::default();
        let mut dictionary = Dictionary::default();
        assert_eq!(dictionary.intern(&hasher, "a".into()), (0, true));
        assert_eq!(dictionary.intern(&hasher, "b".into()), (1, true));
        assert_eq!(dictionary.intern(&hasher, "a".into()), (0, false));
        assert_eq!(dictionary.intern(&hasher, "b".into()), (1, false));
        dictionary.pop(&hasher);
        assert_eq!(dictionary.intern(&hasher, "c".into()), (1, true));
        assert_eq!(dictionary.intern(&hasher, "b".into()), (2, true));
        assert_eq!(dictionary.values(), ["a", "c", "b"]);
    }
}
