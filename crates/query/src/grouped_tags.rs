//! Grouping by tags, made fast.
//!
//! DataFusion groups by dictionaries by spelling the text of every row out. This rule has it group by the *number* of
//! the tag's value, a plain integer, and puts the value back into the few rows that come out:
//! `tag_value(Aggregate(tag_number(host)))`. The two functions share one numbering and exist only in such plans.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int32Type};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result, internal_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    Aggregate, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Projection, ReturnFieldArgs,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use crate::tag_numbers::TagNumbers;

/// The optimizer rule. It must run after filters were pushed down, since it hides the tags from them.
#[derive(Debug)]
pub(crate) struct GroupByTagNumbers;

impl OptimizerRule for GroupByTagNumbers {
    fn name(&self) -> &'static str {
        "group_by_tag_numbers"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Aggregate(aggregate) => number_tags(aggregate),
            plan => Ok(Transformed::no(plan)),
        }
    }
}

fn number_tags(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let is_tag = |expr: &Expr| -> Result<bool> {
        Ok(!matches!(expr, Expr::GroupingSet(_)) && is_tag_type(&expr.get_type(aggregate.input.schema())?))
    };
    let tags = aggregate
        .group_expr
        .iter()
        .map(is_tag)
        .collect::<Result<Vec<_>>>()?;
    if !tags.contains(&true) {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }

    let mut group_expr = Vec::with_capacity(tags.len());
    let mut output_expr = Vec::with_capacity(aggregate.schema.fields().len());
    for (position, (qualifier, field)) in aggregate.schema.iter().enumerate() {
        let grouped = aggregate.group_expr.get(position);
        match grouped {
            Some(expr) if tags[position] => {
                let numbers = Arc::new(TagNumbers::default());
                let number = call(
                    TagNumber {
                        numbers: Arc::clone(&numbers),
                        signature: signature(),
                    },
                    expr.clone().unalias(),
                );
                let column = Expr::Column(Column::new_unqualified(number.schema_name().to_string()));
                let value = call(
                    TagValue {
                        numbers,
                        field: Arc::clone(field),
                        signature: signature(),
                    },
                    column,
                );
                output_expr.push(value.alias_qualified(qualifier.cloned(), field.name()));
                group_expr.push(number);
            }
            other => {
                output_expr.push(Expr::Column(Column::from((qualifier, field))));
                group_expr.extend(other.cloned());
            }
        }
    }
    let numbered = Aggregate::try_new(aggregate.input, group_expr, aggregate.aggr_expr)?;
    let output = Projection::try_new(output_expr, Arc::new(LogicalPlan::Aggregate(numbered)))?;
    Ok(Transformed::yes(LogicalPlan::Projection(output)))
}

fn is_tag_type(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Dictionary(key, value) if **key == DataType::Int32 && **value == DataType::Utf8)
}

fn call(function: impl ScalarUDFImpl + 'static, argument: Expr) -> Expr {
    let function = Arc::new(ScalarUDF::new_from_impl(function));
    Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![argument]))
}

/// Both functions are put into plans after types were checked.
fn signature() -> Signature {
    Signature::any(1, Volatility::Immutable)
}

/// From a tag's value to its number.
#[derive(Debug)]
struct TagNumber {
    numbers: Arc<TagNumbers>,
    signature: Signature,
}

impl ScalarUDFImpl for TagNumber {
    fn name(&self) -> &'static str {
        "tag_number"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _argument_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let tags = ColumnarValue::values_to_arrays(&arguments.args)?;
        let Some(tags) = tags[0].as_dictionary_opt::<Int32Type>() else {
            return internal_err!("tag_number of {}", tags[0].data_type());
        };
        Ok(ColumnarValue::Array(Arc::new(self.numbers.numbers(tags)?)))
    }
}

/// From a number back to the tag's value.
#[derive(Debug)]
struct TagValue {
    numbers: Arc<TagNumbers>,
    /// The column as it was before the rule.
    field: FieldRef,
    signature: Signature,
}

impl ScalarUDFImpl for TagValue {
    fn name(&self) -> &'static str {
        "tag_value"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _argument_types: &[DataType]) -> Result<DataType> {
        Ok(self.field.data_type().clone())
    }

    fn return_field_from_args(&self, _arguments: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::clone(&self.field).with_name(self.name())))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let numbers = ColumnarValue::values_to_arrays(&arguments.args)?;
        let Some(numbers) = numbers[0].as_primitive_opt::<Int32Type>() else {
            return internal_err!("tag_value of {}", numbers[0].data_type());
        };
        Ok(ColumnarValue::Array(Arc::new(self.numbers.values(numbers)?)))
    }
}

/// Functions are the same if they share the numbering.
macro_rules! identity_by_numbering {
    ($function:ty) => {
        impl PartialEq for $function {
            fn eq(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.numbers, &other.numbers)
            }
        }

        impl Eq for $function {}

        impl Hash for $function {
            fn hash<H: Hasher>(&self, state: &mut H) {
                Arc::as_ptr(&self.numbers).hash(state);
            }
        }
    };
}

identity_by_numbering!(TagNumber);
identity_by_numbering!(TagValue);
