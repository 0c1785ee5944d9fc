//! The distinct spellings of measurement and tags in a body, each parsed once.

use std::hash::Hasher;
use std::ops::Range;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::source::Source;

/// One tag of a tag set: the tag column of the table and the key of the value in its dictionary.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct TagRef {
    pub(crate) column: u32,
    pub(crate) key: u32,
}

/// A spelling of measurement and tags.
#[derive(Debug)]
struct TagSet<'a> {
    spelling: &'a [u8],
    hash: u64,
    table: u32,
    tags: Range<usize>,
    /// The number of the tag set in its table, once a row has it.
    number: Option<u32>,
    /// The tag set of the line that came after this one's the last time.
    next: u32,
}

/// All spellings of measurement and tags in a body.
#[derive(Debug, Default)]
pub(crate) struct TagSets<'a> {
    sets: Vec<TagSet<'a>>,
    /// The tags of all sets, each set's sorted by column.
    tags: Vec<TagRef>,
    by_spelling: HashTable<u32>,
    /// The tag set of the last accepted line.
    last: u32,
}

impl<'a> TagSets<'a> {
    /// The tag set that the last line's was followed by before, if the body reads so at `start`, and the
    /// offset of the space behind it.
    #[inline]
    pub(crate) fn predicted(&self, source: &Source<'a>, start: usize) -> Option<(u32, usize)> {
        let next = self.sets.get(self.last as usize)?.next;
        let spelling = self.sets.get(next as usize)?.spelling;
        let end = start + spelling.len();
        // A spelling ends before an unescaped space, so that the space behind it is unescaped here too.
        (source.byte(end) == b' ' && source.bytes[start..end] == *spelling).then_some((next, end))
    }

    /// The hash under which a spelling is kept.
    #[inline]
    pub(crate) fn hash(hasher: &RandomState, spelling: &[u8]) -> u64 {
        let mut hasher = std::hash::BuildHasher::build_hasher(hasher);
        hasher.write(spelling);
        hasher.finish()
    }

    #[inline]
    pub(crate) fn find(&self, hash: u64, spelling: &[u8]) -> Option<u32> {
        self.by_spelling
            .find(hash, |&set| self.sets[set as usize].spelling == spelling)
            .copied()
    }

    /// Adds a spelling that is not known yet.
    pub(crate) fn push(&mut self, hash: u64, spelling: &'a [u8], table: u32, tags: &[TagRef]) -> u32 {
        let first_tag = self.tags.len();
        self.tags.extend_from_slice(tags);
        if !tags.is_sorted() {
            self.tags[first_tag..].sort_unstable();
        }
        let set = self.sets.len() as u32;
        self.sets.push(TagSet {
            spelling,
            hash,
            table,
            tags: first_tag..self.tags.len(),
            number: None,
            next: set,
        });
        let sets = &self.sets;
        self.by_spelling
            .insert_unique(hash, set, |&set| sets[set as usize].hash);
        set
    }

    /// Forgets the spelling that was added last.
    pub(crate) fn pop(&mut self) {
        if let Some(removed) = self.sets.pop() {
            self.tags.truncate(removed.tags.start);
            let last = self.sets.len() as u32;
            if let Ok(entry) = self.by_spelling.find_entry(removed.hash, |&set| set == last) {
                entry.remove();
            }
        }
    }

    #[inline]
    pub(crate) fn table(&self, set: u32) -> u32 {
        self.sets[set as usize].table
    }

    /// The tags of a set, sorted by column.
    #[inline]
    pub(crate) fn tags(&self, set: u32) -> &[TagRef] {
        &self.tags[self.sets[set as usize].tags.clone()]
    }

    /// Notes that the next accepted line has tag set `set`. `new_number` numbers it within its table if it
    /// has no number yet.
    #[inline]
    pub(crate) fn accept(&mut self, set: u32, new_number: impl FnOnce() -> u32) -> u32 {
        if let Some(last) = self.sets.get_mut(self.last as usize) {
            last.next = set;
        }
        self.last = set;
        *self.sets[set as usize].number.get_or_insert_with(new_number)
    }
}
