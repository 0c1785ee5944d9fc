//! From a column of the table to the column of one file.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{exec_err, internal_err};
use datafusion::error::Result;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr_adapter::{PhysicalExprAdapter, PhysicalExprAdapterFactory};
use datafusion::physical_plan::PhysicalExpr;
use datafusion::scalar::ScalarValue;

/// Finds columns by name; one that a file does not have is null in it.
///
/// DataFusion's own adapter puts a cast around every column whose field differs in as little as its metadata, and behind
/// a cast neither bloom filters nor the page index are used. Here a column has its type or the file is damaged.
#[derive(Debug)]
pub(crate) struct ColumnsByName;

impl PhysicalExprAdapterFactory for ColumnsByName {
    fn create(
        &self,
        logical_file_schema: SchemaRef,
        physical_file_schema: SchemaRef,
    ) -> Result<Arc<dyn PhysicalExprAdapter>> {
        Ok(Arc::new(FileColumns {
            table: logical_file_schema,
            file: physical_file_schema,
        }))
    }
}

#[derive(Debug)]
struct FileColumns {
    table: SchemaRef,
    file: SchemaRef,
}

impl PhysicalExprAdapter for FileColumns {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        expr.transform_up(|expr| {
            let Some(column) = expr.downcast_ref::<Column>() else {
                return Ok(Transformed::no(expr));
            };
            Ok(Transformed::yes(self.column(column.name())?))
        })
        .data()
    }
}

impl FileColumns {
    fn column(&self, name: &str) -> Result<Arc<dyn PhysicalExpr>> {
        let Some(wanted) = field(&self.table, name) else {
            return internal_err!("column '{name}' is none of the table's that are read");
        };
        let Some((position, present)) = self.file.column_with_name(name) else {
            if !wanted.is_nullable() {
                return exec_err!("the file has no column '{name}'");
            }
            let null = ScalarValue::try_new_null(wanted.data_type())?;
            let metadata = Some(FieldMetadata::from(wanted));
            return Ok(Arc::new(Literal::new_with_metadata(null, metadata)));
        };
        if present.data_type() != wanted.data_type() {
            return exec_err!(
                "column '{name}' of the file is {} instead of {}",
                present.data_type(),
                wanted.data_type()
            );
        }
        Ok(Arc::new(Column::new(name, position)))
    }
}

fn field<'a>(schema: &'a Schema, name: &str) -> Option<&'a Field> {
    schema.column_with_name(name).map(|(_, field)| field)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::DataType;
    use datafusion::physical_expr::expressions::{IsNullExpr, col};

    use super::*;

    fn tag() -> DataType {
        DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
    }

    #[test]
    fn columns_are_found_and_missing_ones_are_null() {
        let table = Schema::new(vec![
            Field::new("h", tag(), true),
            Field::new("v", DataType::Float64, true),
        ]);
        let metadata = [("PARQUET:field_id".to_owned(), "3".to_owned())].into();
        let file = Schema::new(vec![
            Field::new("w", DataType::Int64, true),
            Field::new("v", DataType::Float64, true).with_metadata(metadata),
        ]);
        let rewrite = |column: &str, file: &Schema| {
            let adapter = ColumnsByName
                .create(Arc::new(table.clone()), Arc::new(file.clone()))
                .unwrap();
            let expr = Arc::new(IsNullExpr::new(col(column, &table).unwrap()));
            adapter.rewrite(expr).map(|expr| expr.to_string())
        };
        assert_eq!(rewrite("v", &file).unwrap(), "v@1 IS NULL");
        assert_eq!(rewrite("h", &file).unwrap(), "NULL IS NULL");
        let other = Schema::new(vec![Field::new("v", DataType::Int64, true)]);
        assert!(
            rewrite("v", &other)
                .unwrap_err()
                .to_string()
                .contains("column 'v'")
        );
    }
}
