//! The last step before rows leave: what clients should not have to cope with.
//!
//! - Arrow's string views leave as `Utf8`, binary views as `Binary`.
//! - A dictionary that is much larger than its batch (ten rows of a table with a million hosts) leaves with the
//!   entries that the rows use, since encoders send all of them.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;

/// Dictionaries up to this size are sent whole.
const DICTIONARY_ENTRIES_KEPT: usize = 1024;

/// Prepares the batches of one answer.
pub(crate) struct Outgoing {
    schema: SchemaRef,
    has_views: bool,
}

impl Outgoing {
    /// For batches of `schema`.
    pub(crate) fn new(schema: &SchemaRef) -> Self {
        let fields: Fields = schema.fields().iter().map(plain_field).collect();
        let has_views = fields != *schema.fields();
        let schema = if has_views {
            Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
        } else {
            Arc::clone(schema)
        };
        Self { schema, has_views }
    }

    /// The schema of the answer.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// A batch in that schema.
    ///
    /// Errors: more text than one array of `Utf8` can hold.
    pub(crate) fn prepare(&self, batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
        if !self.has_views && !batch.columns().iter().any(has_idle_entries) {
            return Ok(batch);
        }
        let columns = batch.columns().iter().zip(self.schema.fields());
        let columns: Vec<ArrayRef> = columns
            .map(|(column, field)| prepare_column(column, field.data_type()))
            .collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
    }
}

fn prepare_column(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    match data_type {
        DataType::Dictionary(_, value_type) if has_idle_entries(column) => {
            cast(&cast(column, value_type)?, data_type)
        }
        _ => cast(column, data_type),
    }
}

/// True for a dictionary of which most entries cannot be in use.
fn has_idle_entries(column: &ArrayRef) -> bool {
    column.as_any_dictionary_opt().is_some_and(|dictionary| {
        let entry_count = dictionary.values().len();
        entry_count > DICTIONARY_ENTRIES_KEPT && entry_count > 2 * column.len()
    })
}

fn plain_field(field: &FieldRef) -> FieldRef {
    let data_type = plain_type(field.data_type());
    if data_type == *field.data_type() {
        return Arc::clone(field);
    }
    Arc::new(Field::clone(field).with_data_type(data_type))
}

fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::List(item) => DataType::List(plain_field(item)),
        DataType::LargeList(item) => DataType::LargeList(plain_field(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(plain_field(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(plain_field(entries), *sorted),
        DataType::Dictionary(key, value) => DataType::Dictionary(key.clone(), Box::new(plain_type(value))),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{DictionaryArray, Int64Array, StringArray, StringViewArray, StructArray};
    use datafusion::arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn views_are_replaced_at_any_depth() {
        let views: ArrayRef = Arc::new(StringViewArray::from(vec![Some("a"), None]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let fields: Fields = vec![Field::new("v", DataType::Utf8View, true)].into();
        let nested: ArrayRef = Arc::new(StructArray::new(fields, vec![Arc::clone(&views)], None));
        let batch = RecordBatch::try_from_iter([("s", views), ("n", numbers), ("t", nested)]).unwrap();

        let outgoing = Outgoing::new(&batch.schema());
        let types: Vec<String> = outgoing
            .schema()
            .fields()
            .iter()
            .map(|field| field.data_type().to_string())
            .collect();
        assert_eq!(types, ["Utf8", "Int64", "Struct(\"v\": Utf8)"]);
        let batch = outgoing.prepare(batch).unwrap();
        assert_eq!(batch.schema(), *outgoing.schema());
        assert_eq!(batch.column(0).as_string::<i32>().value(0), "a");
        assert!(batch.column(0).is_null(1));
    }

    #[test]
    fn without_views_nothing_is_copied() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let batch = RecordBatch::try_from_iter([("n", Arc::clone(&numbers))]).unwrap();
        let prepared = Outgoing::new(&batch.schema()).prepare(batch).unwrap();
        assert!(Arc::ptr_eq(prepared.column(0), &numbers));
    }

    #[test]
    fn a_large_dictionary_is_cut_to_what_is_used() {
        let hosts: Vec<String> = (0..5000).map(|host| format!("host_{host}")).collect();
        let all: DictionaryArray<Int32Type> = hosts.iter().map(|host| Some(host.as_str())).collect();
        let few: ArrayRef = Arc::new(all.slice(7, 2));
        let batch = RecordBatch::try_from_iter([("host", few)]).unwrap();
        let prepared = Outgoing::new(&batch.schema()).prepare(batch).unwrap();
        let hosts = prepared.column(0).as_dictionary::<Int32Type>();
        assert_eq!(hosts.values().len(), 2);
        let hosts: Vec<Option<&str>> = hosts
            .downcast_dict::<StringArray>()
            .unwrap()
            .into_iter()
            .collect();
        assert_eq!(hosts, [Some("host_7"), Some("host_8")]);
    }
}
