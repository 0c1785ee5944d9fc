//! Predicates over tags and time, evaluated inside the scan.
//!
//! They are functions of a point's key, so applying them before deduplication cannot change which write wins. A
//! predicate on one tag is evaluated once per dictionary entry instead of once per row, and a batch whose dictionary
//! holds nothing that passes is skipped without looking at its rows.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, Int32Array, RecordBatch, RecordBatchOptions,
};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{Int32Type, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::DFSchema;
use datafusion::common::cast::as_boolean_array;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::PhysicalExpr;
use tidemill_lineproto::ColumnType;

use crate::buffer_part::BufferPart;
use crate::intervals::Intervals;
use crate::layout::TableLayout;

/// A conjunction of predicates over tags and time.
#[derive(Debug, Default)]
pub(crate) struct KeyFilter {
    conjuncts: Vec<Conjunct>,
}

#[derive(Debug)]
struct Conjunct {
    predicate: Arc<dyn PhysicalExpr>,
    /// The columns that the predicate reads, in the order of `schema`.
    columns: Vec<usize>,
    schema: SchemaRef,
    /// The predicate reads one tag and nothing else.
    on_one_tag: bool,
}

/// True if the predicate can be evaluated in a scan: it reads tags and time only, and the same row always gives the
/// same answer.
pub(crate) fn is_key_predicate(predicate: &Expr, layout: &TableLayout) -> bool {
    is_row_predicate(predicate)
        && predicate
            .column_refs()
            .iter()
            .all(|column| layout.key_column(&column.name).is_some())
}

/// True if the predicate looks at nothing but one row, and the same row always gives the same answer.
pub(crate) fn is_row_predicate(predicate: &Expr) -> bool {
    use datafusion::common::tree_node::TreeNode;
    let needs_more_than_the_row = predicate.exists(|node| {
        Ok(matches!(
            node,
            Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::SetComparison(_)
                | Expr::ScalarSubquery(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::ScalarVariable(..)
                | Expr::Placeholder(_)
        ))
    });
    matches!(needs_more_than_the_row, Ok(false)) && !predicate.is_volatile()
}

impl KeyFilter {
    /// Compiles predicates that [`is_key_predicate`] holds for.
    pub(crate) fn compile(predicates: &[&Expr], layout: &TableLayout, session: &dyn Session) -> Result<Self> {
        let conjuncts = predicates
            .iter()
            .map(|predicate| Conjunct::compile(predicate, layout, session));
        Ok(Self {
            conjuncts: conjuncts.collect::<Result<_>>()?,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.conjuncts.is_empty()
    }

    pub(crate) fn predicates(&self) -> impl Iterator<Item = &Arc<dyn PhysicalExpr>> {
        self.conjuncts.iter().map(|conjunct| &conjunct.predicate)
    }

    /// The rows of a run that are meant by it and pass this filter.
    pub(crate) fn rows(&self, part: &BufferPart, layout: &TableLayout) -> Result<Rows> {
        let mut rows = match part.keep() {
            None => Rows::All,
            Some(keep) => rows_within(part, keep, layout),
        };
        for conjunct in &self.conjuncts {
            if matches!(rows, Rows::None) {
                break;
            }
            rows = rows.and(conjunct.rows(part, layout)?);
        }
        Ok(rows)
    }
}

impl Conjunct {
    fn compile(predicate: &Expr, layout: &TableLayout, session: &dyn Session) -> Result<Self> {
        let mut columns: Vec<usize> = predicate
            .column_refs()
            .iter()
            .filter_map(|column| layout.key_column(&column.name))
            .collect();
        columns.sort_unstable();
        columns.dedup();
        let schema = layout.project(&columns);
        let df_schema = DFSchema::try_from(Arc::clone(&schema))?;
        let predicate = session.create_physical_expr(predicate.clone(), &df_schema)?;
        let on_one_tag =
            matches!(columns[..], [column] if layout.column(column).column_type == ColumnType::Tag);
        Ok(Self {
            predicate,
            columns,
            schema,
            on_one_tag,
        })
    }

    fn rows(&self, part: &BufferPart, layout: &TableLayout) -> Result<Rows> {
        let columns: Vec<ArrayRef> = self
            .columns
            .iter()
            .map(|&column| part.column(layout, column))
            .collect();
        if self.on_one_tag
            && let Some(tag) = columns[0].as_dictionary_opt::<Int32Type>()
            && tag.values().len() < tag.len()
            // An entry that no row uses may be one that the predicate fails on.
            && let Ok(rows) = self.rows_by_entry(tag)
        {
            return Ok(rows);
        }
        let passes = self.evaluate(columns, part.row_count_max())?;
        Ok(Rows::of_mask(true_values(&passes)))
    }

    /// Evaluates the predicate for every dictionary entry and for null, then looks the rows' keys up.
    fn rows_by_entry(&self, tag: &DictionaryArray<Int32Type>) -> Result<Rows> {
        let entry_count = tag.values().len();
        let null_entry = entry_count;
        let entry_keys: Int32Array = (0..entry_count as i32).map(Some).chain([None]).collect();
        let entries = DictionaryArray::try_new(entry_keys, Arc::clone(tag.values()))?;
        let passes = true_values(&self.evaluate(vec![Arc::new(entries)], entry_count + 1)?);
        let passing_count = passes.count_set_bits();
        if passing_count == 0 {
            return Ok(Rows::None);
        }
        if passing_count == entry_count + 1 {
            return Ok(Rows::All);
        }
        let keys = tag.keys();
        let values = keys.values();
        let mask = match keys.nulls() {
            None => BooleanBuffer::collect_bool(keys.len(), |row| passes.value(values[row] as usize)),
            Some(nulls) => BooleanBuffer::collect_bool(keys.len(), |row| {
                passes.value(if nulls.is_null(row) {
                    null_entry
                } else {
                    values[row] as usize
                })
            }),
        };
        Ok(Rows::of_mask(mask))
    }

    fn evaluate(&self, columns: Vec<ArrayRef>, row_count: usize) -> Result<BooleanArray> {
        let options = RecordBatchOptions::new().with_row_count(Some(row_count));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        let passes = self.predicate.evaluate(&batch)?.into_array(row_count)?;
        Ok(as_boolean_array(&passes)?.clone())
    }
}

fn rows_within(part: &BufferPart, keep: &Intervals, layout: &TableLayout) -> Rows {
    let times = part.times(layout);
    let times = times.values();
    Rows::of_mask(match keep.as_slice() {
        [only] => BooleanBuffer::collect_bool(times.len(), |row| only.contains(times[row])),
        _ => BooleanBuffer::collect_bool(times.len(), |row| keep.contains(times[row])),
    })
}

/// SQL's null is not true.
fn true_values(passes: &BooleanArray) -> BooleanBuffer {
    match passes.nulls() {
        Some(nulls) if nulls.null_count() > 0 => passes.values() & nulls.inner(),
        _ => passes.values().clone(),
    }
}

/// Some of the rows of a run.
#[derive(Debug)]
pub(crate) enum Rows {
    All,
    None,
    /// A bit a row; at least one is set and one is not.
    Some(BooleanBuffer),
}

impl Rows {
    fn of_mask(mask: BooleanBuffer) -> Self {
        match mask.count_set_bits() {
            0 => Self::None,
            count if count == mask.len() => Self::All,
            _ => Self::Some(mask),
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, _) | (_, Self::None) => Self::None,
            (Self::All, rows) | (rows, Self::All) => rows,
            (Self::Some(a), Self::Some(b)) => Self::of_mask(&a & &b),
        }
    }
}
