//! Which rows of a batch a delete removes.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::Int32Type;
use foldhash::fast::RandomState;
use hashbrown::HashSet;
use tidemill_catalog::ColumnId;

use crate::{RowDelete, TagCondition};

impl RowDelete {
    /// Which of some rows this delete removes, given that all of them are earlier in the log: one bit a row, in the order
    /// of `times` (nanoseconds since the epoch). `column` gives the values of a tag, `Dictionary(Int32, Utf8)` of the same
    /// length, or `None` where no row has it. Answers `None` when the delete removes none of them.
    ///
    /// # Panics
    /// When a tag is of another type or length, which breaks the promise of the catalog.
    pub fn removed_rows<'a>(
        &self,
        times: &[i64],
        column: impl Fn(ColumnId) -> Option<&'a ArrayRef>,
    ) -> Option<BooleanBuffer> {
        let span = self.time_first..=self.time_last;
        let mut removed = BooleanBuffer::collect_bool(times.len(), |row| span.contains(&times[row]));
        for condition in &self.conditions {
            if removed.count_set_bits() == 0 {
                return None;
            }
            removed = &removed & &condition.satisfied_by(column(condition.column)?);
        }
        (removed.count_set_bits() > 0).then_some(removed)
    }
}

impl TagCondition {
    /// Each value of the dictionary is compared once, whatever the number of rows.
    fn satisfied_by(&self, tag: &ArrayRef) -> BooleanBuffer {
        let tag = tag.as_dictionary::<Int32Type>();
        let listed: HashSet<&str, RandomState> = self.values.iter().map(AsRef::as_ref).collect();
        let satisfies =
            |value: Option<&str>| value.is_some_and(|value| listed.contains(value) != self.negated);
        let values = tag.values().as_string::<i32>();
        let value_satisfies: Vec<bool> = values.iter().map(satisfies).collect();
        let keys = tag.keys();
        BooleanBuffer::collect_bool(keys.len(), |row| {
            // A key under a null may be anything.
            keys.is_valid(row) && value_satisfies[keys.value(row) as usize]
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{DictionaryArray, Int32Array, StringArray};
    use proptest::prelude::*;
    use tidemill_catalog::{DatabaseId, TableId};

    use super::*;

    fn delete(time: (i64, i64), conditions: Vec<(u16, bool, &[&str])>) -> RowDelete {
        let condition = |(column, negated, values): (u16, bool, &[&str])| TagCondition {
            column: ColumnId(column),
            negated,
            values: values.iter().map(|value| Arc::from(*value)).collect(),
        };
        RowDelete {
            lsn: 9,
            database: DatabaseId(1),
            table: TableId(1),
            time_first: time.0,
            time_last: time.1,
            conditions: conditions.into_iter().map(condition).collect(),
        }
    }

    fn removed(delete: &RowDelete, times: &[i64], tags: &[(u16, ArrayRef)]) -> Vec<usize> {
        let column = |id: ColumnId| tags.iter().find(|tag| tag.0 == id.0).map(|tag| &tag.1);
        let rows = delete.removed_rows(times, column);
        rows.map(|rows| rows.set_indices().collect()).unwrap_or_default()
    }

    #[test]
    fn a_row_without_the_tag_satisfies_neither_form() {
        // Null by key, and null by value.
        let values: StringArray = [Some("a"), None, Some("b")].into_iter().collect();
        let keys = Int32Array::from(vec![Some(0), None, Some(1), Some(2)]);
        let tag: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(values)));
        let tags = [(3, tag)];
        let times = [1, 2, 3, 4];
        assert_eq!(
            removed(&delete((0, 9), vec![(3, false, &["a"])]), &times, &tags),
            [0]
        );
        assert_eq!(
            removed(&delete((0, 9), vec![(3, true, &["a"])]), &times, &tags),
            [3]
        );
        assert!(removed(&delete((0, 9), vec![(4, true, &["a"])]), &times, &tags).is_empty());
        assert_eq!(removed(&delete((2, 3), Vec::new()), &times, &tags), [1, 2]);
        assert!(removed(&delete((5, 9), Vec::new()), &times, &tags).is_empty());
    }

    /// Time and two tags.
    type AnyRow = (i64, Option<u8>, Option<u8>);

    proptest! {
        #[test]
        fn all_conditions_hold_for_the_removed_rows_and_for_no_others(
            rows in prop::collection::vec((0i64..20, prop::option::of(0u8..4), prop::option::of(0u8..4)), 1..60),
            time in (0i64..20, 0i64..20),
            conditions in prop::collection::vec((0usize..2, any::<bool>(), prop::collection::vec(0u8..5, 1..4)), 0..3),
        ) {
            let text = |value: u8| format!("v{value}");
            let times: Vec<i64> = rows.iter().map(|row| row.0).collect();
            let tag = |of: fn(&AnyRow) -> Option<u8>| -> ArrayRef {
                let values: Vec<Option<String>> = rows.iter().map(|row| of(row).map(text)).collect();
                let tags: DictionaryArray<Int32Type> = values.iter().map(Option::as_deref).collect();
                Arc::new(tags)
            };
            let tags = [(0, tag(|row| row.1)), (1, tag(|row| row.2))];
            let delete = RowDelete {
                conditions: conditions
                    .iter()
                    .map(|(column, negated, values)| TagCondition {
                        column: ColumnId(*column as u16),
                        negated: *negated,
                        values: values.iter().map(|value| text(*value).into()).collect(),
                    })
                    .collect(),
                ..delete(time, Vec::new())
            };
            let expected: Vec<usize> = (0..rows.len())
                .filter(|row| {
                    let (at, first, second) = rows[*row];
                    (time.0..=time.1).contains(&at)
                        && conditions.iter().all(|(column, negated, values)| {
                            let value = if *column == 0 { first } else { second };
                            value.is_some_and(|value| values.contains(&value) != *negated)
                        })
                })
                .collect();
            prop_assert_eq!(removed(&delete, &times, &tags), expected);
        }
    }
}
