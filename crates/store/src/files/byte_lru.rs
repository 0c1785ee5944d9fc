//! A map that is bounded by the bytes of its values.

use std::collections::BTreeMap;
use std::ops::RangeBounds;

/// Ordered by key; when its values are too large together, the least recently used ones go.
#[derive(Debug)]
pub(crate) struct ByteLru<K, V> {
    entries: BTreeMap<K, Entry<V>>,
    /// Keys by when they were last used.
    by_use: BTreeMap<u64, K>,
    next_use: u64,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    bytes: usize,
    last_use: u64,
}

impl<K: Ord + Copy, V: Clone> ByteLru<K, V> {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            by_use: BTreeMap::new(),
            next_use: 0,
            bytes: 0,
            bytes_max,
        }
    }

    /// Bytes of all values.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The value of the greatest key in `range`, if `is_wanted`; that counts as a use.
    pub(crate) fn get_last(
        &mut self,
        range: impl RangeBounds<K>,
        is_wanted: impl FnOnce(&K, &V) -> bool,
    ) -> Option<(K, V)> {
        let (key, entry) = self.entries.range_mut(range).next_back()?;
        if !is_wanted(key, &entry.value) {
            return None;
        }
        self.by_use.remove(&entry.last_use);
        entry.last_use = self.next_use;
        self.by_use.insert(self.next_use, *key);
        self.next_use += 1;
        Some((*key, entry.value.clone()))
    }

    /// Puts a value in the place of what the key had; one that alone is too large is not kept.
    pub(crate) fn insert(&mut self, key: K, value: V, bytes: usize) {
        self.remove(&key);
        if bytes > self.bytes_max {
            return;
        }
        while self.bytes + bytes > self.bytes_max {
            let Some((_, oldest)) = self.by_use.pop_first() else {
                break;
            };
            self.remove(&oldest);
        }
        let last_use = self.next_use;
        self.next_use += 1;
        self.bytes += bytes;
        self.by_use.insert(last_use, key);
        self.entries.insert(
            key,
            Entry {
                value,
                bytes,
                last_use,
            },
        );
    }

    /// Forgets all keys in `range`.
    pub(crate) fn remove_range(&mut self, range: impl RangeBounds<K>) {
        let keys: Vec<K> = self.entries.range(range).map(|(key, _)| *key).collect();
        for key in keys {
            self.remove(&key);
        }
    }

    fn remove(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.by_use.remove(&entry.last_use);
            self.bytes -= entry.bytes;
        }
    }
}
