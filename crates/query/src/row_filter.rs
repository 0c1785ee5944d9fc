//! Predicates over the rows of a system table, evaluated inside the scan.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::Schema;
use datafusion::catalog::Session;
use datafusion::common::DFSchema;
use datafusion::common::cast::as_boolean_array;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::PhysicalExpr;

/// A conjunction of predicates, and the columns that are wanted of the rows that pass.
#[derive(Debug)]
pub(crate) struct RowFilter {
    /// Those that are wanted, then those that only predicates read.
    columns: Vec<usize>,
    wanted: usize,
    predicates: Vec<Arc<dyn PhysicalExpr>>,
}

impl RowFilter {
    /// Compiles predicates over rows of `schema`, of which the columns `wanted` are wanted.
    pub(crate) fn compile(
        predicates: &[Expr],
        wanted: &[usize],
        schema: &Schema,
        session: &dyn Session,
    ) -> Result<Self> {
        let mut columns = wanted.to_vec();
        for predicate in predicates {
            for column in predicate.column_refs() {
                let place = schema.index_of(&column.name)?;
                if !columns.contains(&place) {
                    columns.push(place);
                }
            }
        }
        let df_schema = DFSchema::try_from(schema.project(&columns)?)?;
        let compiled = predicates
            .iter()
            .map(|predicate| session.create_physical_expr(predicate.clone(), &df_schema));
        Ok(Self {
            predicates: compiled.collect::<Result<_>>()?,
            columns,
            wanted: wanted.len(),
        })
    }

    /// Whether every row passes.
    pub(crate) fn is_empty(&self) -> bool {
        self.predicates.is_empty()
    }

    pub(crate) fn predicates(&self) -> impl Iterator<Item = &Arc<dyn PhysicalExpr>> {
        self.predicates.iter()
    }

    /// The columns that [`Self::apply`] must be given, by their place in the schema.
    pub(crate) fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// The columns that it gives.
    pub(crate) fn wanted(&self) -> &[usize] {
        &self.columns[..self.wanted]
    }

    /// The rows that pass.
    pub(crate) fn apply(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let mut rows = rows.clone();
        for predicate in &self.predicates {
            let passes = predicate.evaluate(&rows)?.into_array(rows.num_rows())?;
            rows = filter_record_batch(&rows, as_boolean_array(&passes)?)?;
        }
        let wanted: Vec<usize> = (0..self.wanted).collect();
        Ok(rows.project(&wanted)?)
    }
}
