//! Functions that can make much out of little, kept within bounds.
//!
//! The memory pool counts what operators hold, not what one call of a function makes: `range(0, 100000000000)` or
//! `repeat('x', 2000000000)` would take the memory of the whole machine and the server with it. These functions are
//! wrapped: how large the result of a call would be is worked out first, and too large a one is refused.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::compute::kernels::length::length;
use datafusion::arrow::datatypes::{
    DataType, FieldRef, Float64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use datafusion::common::resources_err;
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// Bytes that one call, which is for one batch of rows, may make.
const RESULT_BYTES_MAX: f64 = (256 << 20) as f64;
/// A number in a list; also the least that any value counts.
const VALUE_BYTES: f64 = 8.0;
/// The longest character.
const CHARACTER_BYTES: f64 = 4.0;
const SECONDS_PER_DAY: f64 = 86_400.0;
/// The shortest month, since a shorter step makes more values.
const DAYS_PER_MONTH: f64 = 28.0;

/// How large a result is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Growth {
    /// The first argument, as many times as the second says.
    Repeat,
    /// As many characters as the second argument says.
    PadText,
    /// As many elements as the second argument says, each like the third.
    PadList,
    /// The first argument with every occurrence of the second replaced by the third.
    Replace,
    /// The values from the first argument to the second in steps of the third; one argument alone is the end.
    Range,
}

const FUNCTIONS: [(&str, Growth); 8] = [
    ("repeat", Growth::Repeat),
    ("array_repeat", Growth::Repeat),
    ("lpad", Growth::PadText),
    ("rpad", Growth::PadText),
    ("array_resize", Growth::PadList),
    ("replace", Growth::Replace),
    ("range", Growth::Range),
    ("generate_series", Growth::Range),
];

/// Puts bounds on the functions of `registry` that need them.
pub(crate) fn bound(registry: &mut dyn FunctionRegistry) -> Result<()> {
    for (name, growth) in FUNCTIONS {
        let function = registry.udf(name)?;
        registry.register_udf(Arc::new(ScalarUDF::new_from_impl(BoundedFunction {
            function,
            growth,
        })))?;
    }
    Ok(())
}

/// A function with a bound on its result; the same function in every other respect.
#[derive(Debug, PartialEq, Eq, Hash)]
struct BoundedFunction {
    function: Arc<ScalarUDF>,
    growth: Growth,
}

impl ScalarUDFImpl for BoundedFunction {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        self.function.aliases()
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn coerce_types(&self, argument_types: &[DataType]) -> Result<Vec<DataType>> {
        self.function.coerce_types(argument_types)
    }

    fn return_type(&self, argument_types: &[DataType]) -> Result<DataType> {
        self.function.return_type(argument_types)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        self.function.return_field_from_args(arguments)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if self.growth.result_bytes(&arguments)? > RESULT_BYTES_MAX {
            return resources_err!(
                "the result of {} would be larger than {} MiB",
                self.name(),
                RESULT_BYTES_MAX / f64::from(1 << 20)
            );
        }
        self.function.invoke_with_args(arguments)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.function.documentation()
    }
}

impl Growth {
    /// An upper bound of the bytes of a result, of all rows together.
    fn result_bytes(self, arguments: &ScalarFunctionArgs) -> Result<f64> {
        let is_constant = |value: &ColumnarValue| matches!(value, ColumnarValue::Scalar(_));
        let row_count = if arguments.args.iter().all(is_constant) {
            1
        } else {
            arguments.number_rows
        };
        let columns = arguments.args.iter().map(|value| value.to_array(row_count));
        let columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
        Ok(match (self, &columns[..]) {
            (Self::Repeat, [value, count]) => {
                sum([bytes(value)?, counts(count)?], |[bytes, count]| bytes * count)
            }
            (Self::PadText, [_, count, ..]) => sum([counts(count)?], |[count]| count * CHARACTER_BYTES),
            (Self::PadList, [_, count]) => sum([counts(count)?], |[count]| count * VALUE_BYTES),
            (Self::PadList, [_, count, value]) => {
                sum([counts(count)?, bytes(value)?], |[count, bytes]| count * bytes)
            }
            (Self::Replace, [text, from, to]) => {
                sum([bytes(text)?, bytes(from)?, bytes(to)?], |[text, from, to]| {
                    text + (text / from.max(1.0) + 1.0) * to
                })
            }
            (Self::Range, [end]) => sum([numbers(end)?], |[end]| end.abs() * VALUE_BYTES),
            (Self::Range, [start, end]) => sum([numbers(start)?, numbers(end)?], |[start, end]| {
                (end - start).abs() * VALUE_BYTES
            }),
            (Self::Range, [start, end, step]) => {
                sum(
                    [numbers(start)?, numbers(end)?, numbers(step)?],
                    |[start, end, step]| {
                        // The function itself has an error for a step of zero.
                        if step == 0.0 {
                            0.0
                        } else {
                            (end - start).abs() / step.abs() * VALUE_BYTES
                        }
                    },
                )
            }
            // The function itself has an error for a wrong number of arguments.
            _ => 0.0,
        })
    }
}

/// The sum of `of_row` over all rows. A row with a null has a null as its result.
fn sum<const N: usize>(columns: [Vec<f64>; N], of_row: impl Fn([f64; N]) -> f64) -> f64 {
    let row_count = columns.iter().map(Vec::len).min().unwrap_or(0);
    (0..row_count)
        .map(|row| of_row(std::array::from_fn(|column| columns[column][row])))
        .filter(|bytes| !bytes.is_nan())
        .sum()
}

/// Each value as a number, of times and intervals their seconds; NaN for null.
fn numbers(column: &ArrayRef) -> Result<Vec<f64>> {
    let numbers = match column.data_type() {
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let intervals = column.as_primitive::<IntervalMonthDayNanoType>();
            let seconds = intervals.iter().map(|interval| {
                interval.map_or(f64::NAN, |interval| {
                    let days = f64::from(interval.months) * DAYS_PER_MONTH + f64::from(interval.days);
                    days * SECONDS_PER_DAY + interval.nanoseconds as f64 / 1e9
                })
            });
            return Ok(seconds.collect());
        }
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => {
            let seconds = cast(column, &DataType::Timestamp(TimeUnit::Second, None))?;
            cast(&seconds, &DataType::Int64)?
        }
        _ => Arc::clone(column),
    };
    let numbers = cast(&numbers, &DataType::Float64)?;
    let numbers = numbers.as_primitive::<Float64Type>();
    Ok(numbers.iter().map(|number| number.unwrap_or(f64::NAN)).collect())
}

/// Each value as a number of things, none below zero.
fn counts(column: &ArrayRef) -> Result<Vec<f64>> {
    let mut counts = numbers(column)?;
    for count in &mut counts {
        // Keeps NaN, which `max` would not.
        if *count < 0.0 {
            *count = 0.0;
        }
    }
    Ok(counts)
}

/// The bytes of each value: exact for text, the whole column for what is nested.
fn bytes(column: &ArrayRef) -> Result<Vec<f64>> {
    match column.data_type() {
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView => numbers(&length(column)?),
        data_type if data_type.is_nested() || matches!(data_type, DataType::Dictionary(..)) => {
            Ok(vec![column.get_array_memory_size() as f64; column.len()])
        }
        _ => Ok(vec![VALUE_BYTES; column.len()]),
    }
}
