//! The names of one table's columns, and which columns have them.

use std::borrow::Cow;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::ColumnType;

/// A name and the columns that have it: at most one tag column, and one field column of each type.
#[derive(Debug)]
pub(crate) struct Name<'a> {
    pub(crate) text: Cow<'a, str>,
    hash: u64,
    pub(crate) tag: Option<u32>,
    fields: [Option<u32>; 5],
}

impl Name<'_> {
    /// The field column of a type.
    pub(crate) fn field(&self, column_type: ColumnType) -> Option<u32> {
        self.fields[field_index(column_type)]
    }

    pub(crate) fn set_field(&mut self, column_type: ColumnType, column: Option<u32>) {
        self.fields[field_index(column_type)] = column;
    }

    /// The field columns of all types.
    pub(crate) fn fields(&self) -> impl Iterator<Item = u32> {
        self.fields.into_iter().flatten()
    }
}

fn field_index(column_type: ColumnType) -> usize {
    match column_type {
        ColumnType::Float => 0,
        ColumnType::Integer => 1,
        ColumnType::UInteger => 2,
        ColumnType::Boolean => 3,
        // Tags and the time are no fields, and nobody asks for them here.
        ColumnType::String | ColumnType::Tag | ColumnType::Time => 4,
    }
}

/// All names of a table, numbered in the order of their first appearance.
#[derive(Debug, Default)]
pub(crate) struct Names<'a> {
    names: Vec<Name<'a>>,
    by_text: HashTable<u32>,
}

impl<'a> Names<'a> {
    /// The number of a name, and whether it is new.
    pub(crate) fn intern(&mut self, hasher: &RandomState, text: Cow<'a, str>) -> (u32, bool) {
        let hash = hasher.hash_one(&text);
        if let Some(&name) = self
            .by_text
            .find(hash, |&name| self.names[name as usize].text == text)
        {
            return (name, false);
        }
        let name = self.names.len() as u32;
        self.names.push(Name {
            text,
            hash,
            tag: None,
            fields: [None; 5],
        });
        let names = &self.names;
        self.by_text
            .insert_unique(hash, name, |&name| names[name as usize].hash);
        (name, true)
    }

    /// Forgets the name that was added last.
    pub(crate) fn pop(&mut self) {
        if let Some(name) = self.names.pop() {
            let last = self.names.len() as u32;
            if let Ok(entry) = self.by_text.find_entry(name.hash, |&other| other == last) {
                entry.remove();
            }
        }
    }

    pub(crate) fn get(&self, name: u32) -> &Name<'a> {
        &self.names[name as usize]
    }

    pub(crate) fn get_mut(&mut self, name: u32) -> &mut Name<'a> {
        &mut self.names[name as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbered_and_forgotten() {
        let hasher = RandomState::default();
        let mut names = Names::default();
        assert_eq!(names.intern(&hasher, "a".into()), (0, true));
        assert_eq!(names.intern(&hasher, "b".into()), (1, true));
        assert_eq!(names.intern(&hasher, "a".into()), (0, false));
        names.pop();
        assert_eq!(names.intern(&hasher, "c".into()), (1, true));
        assert_eq!(names.intern(&hasher, "b".into()), (2, true));
        assert_eq!(names.get(1).text, "c");
    }

    #[test]
    fn a_name_has_a_column_of_each_type() {
        let hasher = RandomState::default();
        let mut names = Names::default();
        names.intern(&hasher, "a".into());
        let name = names.get_mut(0);
        name.set_field(ColumnType::String, Some(3));
        name.set_field(ColumnType::Float, Some(7));
        assert_eq!(name.field(ColumnType::Float), Some(7));
        assert_eq!(name.field(ColumnType::Integer), None);
        assert_eq!(name.fields().collect::<Vec<_>>(), [7, 3]);
    }
}
