//! One table while it is being filled: its names, columns and rows.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, TimestampNanosecondArray};
use foldhash::fast::RandomState;

use crate::field_column::{FieldColumn, Push};
use crate::key::{Key, field_key, name_text, tag_key};
use crate::names::Names;
use crate::reject::Reject;
use crate::source::{Source, Span, find_unescaped};
use crate::tag_column::{TagColumn, keys_of_sets};
use crate::tag_set::{TagRef, TagSets};
use crate::value::{Value, field_value};
use crate::{ColumnType, ParsedColumn, ParsedTable};

/// What a line has added to a table besides its values; undone from the last to the first if the line is
/// rejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Addition {
    Name,
    TagColumn,
    FieldColumn,
    TagValue { column: u32 },
}

/// What the lines of one table have filled so far.
#[derive(Debug)]
pub(crate) struct TableBuilder<'a> {
    /// The measurement, unescaped.
    pub(crate) name: Cow<'a, str>,
    pub(crate) name_hash: u64,
    names: Names<'a>,
    tags: Vec<TagColumn<'a>>,
    fields: Vec<FieldColumn<'a>>,
    /// The fields that the line in hand has set.
    touched: Vec<u32>,
    /// What the line in hand has added.
    additions: Vec<Addition>,
    times: Vec<i64>,
    line_numbers: Vec<u32>,
    tag_set_of_row: Vec<u32>,
    tag_set_first_row: Vec<u32>,
    /// The tag sets by their number in this table, as indexes into the body's [`TagSets`].
    tag_sets: Vec<u32>,
    time_min: i64,
    time_max: i64,
}

/// The part of a line that is the same for all fields.
#[derive(Clone, Copy)]
pub(crate) struct LineScope<'s, 'a> {
    pub(crate) source: Source<'a>,
    pub(crate) hasher: &'s RandomState,
    /// The line's tags, sorted by column.
    pub(crate) tags: &'s [TagRef],
}

/// The fields of a line, behind which the rest of it is still to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FieldsEnd {
    pub(crate) at: usize,
    /// Newlines in quoted strings.
    pub(crate) newlines: u32,
}

impl<'a> TableBuilder<'a> {
    pub(crate) fn new(name: Cow<'a, str>, name_hash: u64) -> Self {
        Self {
            name,
            name_hash,
            names: Names::default(),
            tags: Vec::new(),
            fields: Vec::new(),
            touched: Vec::new(),
            additions: Vec::new(),
            times: Vec::new(),
            line_numbers: Vec::new(),
            tag_set_of_row: Vec::new(),
            tag_set_first_row: Vec::new(),
            tag_sets: Vec::new(),
            time_min: i64::MAX,
            time_max: i64::MIN,
        }
    }

    pub(crate) fn row_count(&self) -> usize {
        self.times.len()
    }

    /// Tag and field columns.
    #[inline]
    pub(crate) fn column_count(&self) -> usize {
        self.tags.len() + self.fields.len()
    }

    /// Reads the tags in `tags` (the text between the measurement's comma and the end of the tag set) into
    /// `refs`. `read_number` is another one for each call. On an error the caller rolls back.
    pub(crate) fn read_tags(
        &mut self,
        source: Source<'a>,
        hasher: &RandomState,
        tags: Span,
        read_number: u64,
        refs: &mut Vec<TagRef>,
    ) -> Result<(), Reject> {
        let mut at = tags.start;
        let mut expected = 0;
        loop {
            let (column, value_start) = match self.tags.get(expected) {
                Some(tag) if tag.key.is_at(source.bytes, at) => (expected, at + tag.key.len_with_equals()),
                _ => {
                    let key = tag_key(
                        source,
                        Span {
                            start: at,
                            end: tags.end,
                        },
                    )?;
                    (self.tag_column(source, hasher, key)? as usize, key.end + 1)
                }
            };
            let value_len = find_unescaped(&source.bytes[value_start..tags.end], |byte| byte == b',');
            let value = Span {
                start: value_start,
                end: value_start + value_len,
            };
            if value.len() == 0 {
                return Err(Reject::NoTagValue { at: value.start });
            }
            let value_text = name_text(source, value)?;
            let tag = &mut self.tags[column];
            if tag.last_read == read_number {
                return Err(Reject::DuplicateTag {
                    key: Span {
                        start: at,
                        end: value.start - 1,
                    },
                });
            }
            tag.last_read = read_number;
            let (key, is_new) = tag.dictionary.intern(hasher, value_text);
            if is_new {
                self.additions.push(Addition::TagValue {
                    column: column as u32,
                });
            }
            refs.push(TagRef {
                column: column as u32,
                key,
            });
            if value.end == tags.end {
                return Ok(());
            }
            at = value.end + 1;
            expected = column + 1;
        }
    }

    /// Reads the fields from `start` into the columns, as the values of the next row. On an error the caller
    /// rolls back.
    #[inline]
    pub(crate) fn read_fields(
        &mut self,
        scope: LineScope<'_, 'a>,
        start: usize,
    ) -> Result<FieldsEnd, Reject> {
        let source = scope.source;
        let row = self.times.len();
        let mut at = start;
        let mut newlines = 0;
        let mut expected = 0;
        let mut previous = None;
        loop {
            let (predicted, value_start) = match self.predicted_field(source.bytes, at, expected) {
                Some((column, len)) => (Some(column), at + len),
                None => match field_key(source, at)? {
                    Some(key) => (None, key.end + 1),
                    None => return Err(no_field(start, at)),
                },
            };
            let Some((value, value_end)) = field_value(&source, value_start)? else {
                return Err(no_field(start, at));
            };
            if let Value::String {
                newlines: in_string, ..
            } = value
            {
                newlines += in_string;
            }
            let column = match predicted {
                Some(column)
                    if !self.fields[column].contended
                        && self.fields[column].push(row, value, &source) == Push::Done =>
                {
                    column
                }
                _ => self.push_looked_up(
                    scope,
                    Span {
                        start: at,
                        end: value_start - 1,
                    },
                    value,
                    if predicted.is_some() { None } else { previous },
                )?,
            };
            self.touched.push(column as u32);
            expected = self.fields[column].next as usize;
            previous = Some(column);
            at = value_end;
            if source.byte(at) != b',' {
                return Ok(FieldsEnd { at, newlines });
            }
            at += 1;
        }
    }

    /// The field column whose key is at `at`, and the length of the key with its equals sign, if it is
    /// `expected` or one of the columns that usually come next.
    #[inline]
    fn predicted_field(&self, bytes: &[u8], at: usize, expected: usize) -> Option<(usize, usize)> {
        const FIELDS_SKIPPED_MAX: usize = 3;
        let mut column = expected;
        for _ in 0..=FIELDS_SKIPPED_MAX {
            let field = self.fields.get(column)?;
            if field.key.is_at(bytes, at) {
                return Some((column, field.key.len_with_equals()));
            }
            column = field.next as usize;
        }
        None
    }

    /// Sets the value of a field that was not predicted, or not in this type. It is expected after `previous`
    /// from now on.
    #[inline(never)]
    fn push_looked_up(
        &mut self,
        scope: LineScope<'_, 'a>,
        key: Span,
        value: Value,
        previous: Option<usize>,
    ) -> Result<usize, Reject> {
        let column = self.field_column(scope, key, value)?;
        if let Some(previous) = previous {
            self.fields[previous].next = column as u32;
        }
        match self.fields[column].push(self.times.len(), value, &scope.source) {
            Push::Done => Ok(column),
            Push::Duplicate => Err(Reject::DuplicateField { key }),
            // The type is right, so that the strings of the column are full.
            Push::Refused => Err(Reject::MemoryExhausted),
        }
    }

    /// The column of the field `key` with the type of `value`, made if there is none.
    fn field_column(&mut self, scope: LineScope<'_, 'a>, key: Span, value: Value) -> Result<usize, Reject> {
        let source = scope.source;
        let column_type = value.column_type();
        let name = self.name(source, scope.hasher, key, column_type)?;
        let row = self.times.len();
        let columns = self.names.get(name);
        if columns
            .fields()
            .any(|column| self.fields[column as usize].len() > row)
        {
            return Err(Reject::DuplicateField { key });
        }
        let is_tag_of_line = |tag: u32| {
            scope
                .tags
                .binary_search_by_key(&tag, |tag_ref| tag_ref.column)
                .is_ok()
        };
        if columns.tag.is_some_and(is_tag_of_line) {
            return Err(Reject::TypeConflict {
                key,
                expected: ColumnType::Tag,
                got: column_type,
            });
        }
        if let Some(column) = columns.field(column_type) {
            self.fields[column as usize].key = Key::new(source, key);
            return Ok(column as usize);
        }
        let column = self.fields.len();
        let mut field = FieldColumn::new(Key::new(source, key), name, column as u32 + 1, value);
        field.contended = columns.tag.is_some();
        for other in columns.fields() {
            self.fields[other as usize].contended = true;
            field.contended = true;
        }
        self.fields.push(field);
        self.names
            .get_mut(name)
            .set_field(column_type, Some(column as u32));
        self.additions.push(Addition::FieldColumn);
        Ok(column)
    }

    /// The column of the tag `key`, made if there is none.
    fn tag_column(&mut self, source: Source<'a>, hasher: &RandomState, key: Span) -> Result<u32, Reject> {
        let name = self.name(source, hasher, key, ColumnType::Tag)?;
        if let Some(column) = self.names.get(name).tag {
            self.tags[column as usize].key = Key::new(source, key);
            return Ok(column);
        }
        let column = self.tags.len() as u32;
        self.tags.push(TagColumn::new(Key::new(source, key), name));
        for field in self.names.get(name).fields() {
            self.fields[field as usize].contended = true;
        }
        self.names.get_mut(name).tag = Some(column);
        self.additions.push(Addition::TagColumn);
        Ok(column)
    }

    /// The index of the name that `key` spells, added if it is new. `column_type` is what it is to be used
    /// for.
    fn name(
        &mut self,
        source: Source<'a>,
        hasher: &RandomState,
        key: Span,
        column_type: ColumnType,
    ) -> Result<u32, Reject> {
        let text = name_text(source, key)?;
        match &*text {
            "time" => {
                return Err(Reject::TypeConflict {
                    key,
                    expected: ColumnType::Time,
                    got: column_type,
                });
            }
            "__chunk_order" => return Err(Reject::ReservedName { key }),
            _ => {}
        }
        let (name, is_new) = self.names.intern(hasher, text);
        if is_new {
            self.additions.push(Addition::Name);
        }
        Ok(name)
    }

    /// Whether the line in hand has added anything besides values.
    #[inline]
    pub(crate) fn has_additions(&self) -> bool {
        !self.additions.is_empty()
    }

    /// Field columns that the line in hand has added.
    pub(crate) fn columns_added(&self) -> usize {
        let is_column =
            |addition: &&Addition| matches!(addition, Addition::FieldColumn | Addition::TagColumn);
        self.additions.iter().filter(is_column).count()
    }

    /// Makes the values of the line in hand a row.
    #[inline]
    pub(crate) fn accept(
        &mut self,
        tag_sets: &mut TagSets<'a>,
        tag_set: u32,
        time_ns: i64,
        line_number: usize,
    ) {
        let row = self.times.len() as u32;
        let number = tag_sets.accept(tag_set, || {
            self.tag_sets.push(tag_set);
            self.tag_set_first_row.push(row);
            self.tag_set_first_row.len() as u32 - 1
        });
        self.tag_set_of_row.push(number);
        self.times.push(time_ns);
        self.line_numbers
            .push(u32::try_from(line_number).unwrap_or(u32::MAX));
        self.time_min = self.time_min.min(time_ns);
        self.time_max = self.time_max.max(time_ns);
        self.touched.clear();
        self.additions.clear();
    }

    /// Removes everything that the line in hand has left.
    #[cold]
    pub(crate) fn roll_back(&mut self, hasher: &RandomState) {
        let row = self.times.len();
        for column in self.touched.drain(..) {
            self.fields[column as usize].truncate(row);
        }
        while let Some(addition) = self.additions.pop() {
            match addition {
                Addition::Name => self.names.pop(),
                Addition::TagColumn => {
                    if let Some(tag) = self.tags.pop() {
                        self.names.get_mut(tag.name).tag = None;
                    }
                }
                Addition::FieldColumn => {
                    if let Some(field) = self.fields.pop() {
                        self.names
                            .get_mut(field.name)
                            .set_field(field.column_type(), None);
                    }
                }
                Addition::TagValue { column } => self.tags[column as usize].dictionary.pop(hasher),
            }
        }
    }

    /// The table as arrays. It has at least one row.
    pub(crate) fn finish(self, tag_sets: &TagSets<'a>) -> ParsedTable {
        let row_count = self.times.len();
        let mut columns = Vec::with_capacity(self.column_count() + 1);
        let keys = keys_of_sets(&self.tag_sets, self.tags.len(), tag_sets);
        for (tag, keys) in self.tags.iter().zip(keys) {
            columns.push(ParsedColumn {
                name: self.names.get(tag.name).text.clone().into_owned(),
                column_type: ColumnType::Tag,
                array: tag.finish(&keys, &self.tag_set_of_row),
            });
        }
        for field in self.fields {
            columns.push(ParsedColumn {
                name: self.names.get(field.name).text.clone().into_owned(),
                column_type: field.column_type(),
                array: field.finish(row_count),
            });
        }
        columns.push(ParsedColumn {
            name: "time".to_owned(),
            column_type: ColumnType::Time,
            array: Arc::new(TimestampNanosecondArray::from(self.times)),
        });
        debug_assert!(columns.iter().all(|column| column.array.len() == row_count));
        ParsedTable {
            name: self.name.into_owned(),
            columns,
            row_count,
            line_numbers: self.line_numbers,
            tag_set_of_row: self.tag_set_of_row,
            tag_set_first_row: self.tag_set_first_row,
            time_min: self.time_min,
            time_max: self.time_max,
        }
    }
}

/// What is wrong with a line whose fields begin at `start` if there is no field at `at`.
#[cold]
fn no_field(start: usize, at: usize) -> Reject {
    if at == start {
        Reject::NoFields
    } else {
        Reject::TrailingContent { at: at - 1 }
    }
}
