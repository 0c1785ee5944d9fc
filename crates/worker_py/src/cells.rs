//! Arrow values as Python objects, for every Arrow type (`spec/engine.md` 0.25).
//!
//! | Arrow | Python |
//! |---|---|
//! | all integers; timestamps of any unit, as nanoseconds | `int` |
//! | all floats | `float` |
//! | all string layouts, dictionaries and run ends of them | `str` |
//! | all binary layouts | `bytes` |
//! | dates; times of day, cut to microseconds | `datetime.date`, `datetime.time` |
//! | durations, cut to microseconds | `datetime.timedelta` |
//! | intervals | a named tuple `Interval(months, days, nanoseconds)` |
//! | decimals | `decimal.Decimal` |
//! | lists; structs and maps; unions | `list`; `dict`; the value that is there |

use std::cell::OnceCell;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, GenericListViewArray, MapArray,
    OffsetSizeTrait, RunArray, StructArray, UnionArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    ArrowNativeType, ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type,
    Decimal128Type, Decimal256Type, DecimalType, DurationMicrosecondType, DurationMillisecondType,
    DurationNanosecondType, DurationSecondType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType,
    RunEndIndexType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType,
    TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use pyo3::BoundObject;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyList, PyString};

use crate::python_types;

type Object<'py> = Bound<'py, PyAny>;

/// Makes the object of a row that is not null.
type Cells<'py> = Box<dyn Fn(usize) -> PyResult<Object<'py>> + 'py>;

/// The days from the first of Python's calendar to the epoch.
const EPOCH_ORDINAL: i64 = 719_163;
const NANOSECONDS_PER_SECOND: i64 = 1_000_000_000;
const MILLISECONDS_PER_DAY: i64 = 86_400_000;

/// An array whose values can be had as Python objects.
pub(crate) struct Column<'py> {
    py: Python<'py>,
    cells: Cells<'py>,
    nulls: Option<NullBuffer>,
}

impl<'py> Column<'py> {
    /// Prepares the conversion of an array; nothing is converted yet.
    pub(crate) fn new(py: Python<'py>, array: &ArrayRef) -> PyResult<Self> {
        Ok(Self {
            py,
            cells: cells(py, array)?,
            nulls: array.logical_nulls().filter(|nulls| nulls.null_count() > 0),
        })
    }

    /// Which rows are null, if any is.
    pub(crate) fn nulls(&self) -> Option<&NullBuffer> {
        self.nulls.as_ref()
    }

    /// The object of a row that is not null.
    pub(crate) fn get(&self, row: usize) -> PyResult<Object<'py>> {
        (self.cells)(row)
    }

    /// The object of a row, `None` for null.
    pub(crate) fn get_or_none(&self, row: usize) -> PyResult<Object<'py>> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return Ok(self.py.None().into_bound(self.py));
        }
        self.get(row)
    }

    fn list(&self, rows: std::ops::Range<usize>) -> PyResult<Object<'py>> {
        let list = PyList::empty(self.py);
        for row in rows {
            list.append(self.get_or_none(row)?)?;
        }
        Ok(list.into_any())
    }
}

fn cells<'py>(py: Python<'py>, array: &ArrayRef) -> PyResult<Cells<'py>> {
    Ok(match array.data_type() {
        DataType::Null => Box::new(move |_| Ok(py.None().into_bound(py))),
        DataType::Boolean => {
            let values = array.as_boolean().values().clone();
            Box::new(move |row| Ok(PyBool::new(py, values.value(row)).to_owned().into_any()))
        }
        DataType::Int8 => integers::<Int8Type>(py, array),
        DataType::Int16 => integers::<Int16Type>(py, array),
        DataType::Int32 => integers::<Int32Type>(py, array),
        DataType::Int64 => integers::<Int64Type>(py, array),
        DataType::UInt8 => integers::<UInt8Type>(py, array),
        DataType::UInt16 => integers::<UInt16Type>(py, array),
        DataType::UInt32 => integers::<UInt32Type>(py, array),
        DataType::UInt64 => {
            let values = array.as_primitive::<UInt64Type>().values().clone();
            Box::new(move |row| integer(py, values[row]))
        }
        DataType::Float16 => floats::<Float16Type>(py, array, |value| f64::from(value.to_f32())),
        DataType::Float32 => floats::<Float32Type>(py, array, f64::from),
        DataType::Float64 => floats::<Float64Type>(py, array, |value| value),
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => timestamps::<TimestampSecondType>(py, array, NANOSECONDS_PER_SECOND),
            TimeUnit::Millisecond => timestamps::<TimestampMillisecondType>(py, array, 1_000_000),
            TimeUnit::Microsecond => timestamps::<TimestampMicrosecondType>(py, array, 1_000),
            TimeUnit::Nanosecond => integers::<TimestampNanosecondType>(py, array),
        },
        DataType::Date32 => {
            let values = array.as_primitive::<Date32Type>().values().clone();
            Box::new(move |row| date(py, i64::from(values[row])))
        }
        DataType::Date64 => {
            let values = array.as_primitive::<Date64Type>().values().clone();
            Box::new(move |row| date(py, values[row].div_euclid(MILLISECONDS_PER_DAY)))
        }
        DataType::Time32(TimeUnit::Second) => times::<Time32SecondType>(py, array, 1_000_000, 1),
        DataType::Time32(_) => times::<Time32MillisecondType>(py, array, 1_000, 1),
        DataType::Time64(TimeUnit::Microsecond) => times::<Time64MicrosecondType>(py, array, 1, 1),
        DataType::Time64(_) => times::<Time64NanosecondType>(py, array, 1, 1_000),
        DataType::Duration(unit) => match unit {
            TimeUnit::Second => durations::<DurationSecondType>(py, array, 1_000_000, 1),
            TimeUnit::Millisecond => durations::<DurationMillisecondType>(py, array, 1_000, 1),
            TimeUnit::Microsecond => durations::<DurationMicrosecondType>(py, array, 1, 1),
            TimeUnit::Nanosecond => durations::<DurationNanosecondType>(py, array, 1, 1_000),
        },
        DataType::Interval(unit) => intervals(py, array, *unit),
        DataType::Utf8 => strings::<i32>(py, array),
        DataType::LargeUtf8 => strings::<i64>(py, array),
        DataType::Utf8View => {
            let values = array.as_string_view().clone();
            Box::new(move |row| Ok(PyString::new(py, values.value(row)).into_any()))
        }
        DataType::Binary => binaries::<i32>(py, array),
        DataType::LargeBinary => binaries::<i64>(py, array),
        DataType::BinaryView => {
            let values = array.as_binary_view().clone();
            Box::new(move |row| Ok(PyBytes::new(py, values.value(row)).into_any()))
        }
        DataType::FixedSizeBinary(_) => {
            let values = array.as_fixed_size_binary().clone();
            Box::new(move |row| Ok(PyBytes::new(py, values.value(row)).into_any()))
        }
        DataType::Decimal32(..) => decimals::<Decimal32Type>(py, array),
        DataType::Decimal64(..) => decimals::<Decimal64Type>(py, array),
        DataType::Decimal128(..) => decimals::<Decimal128Type>(py, array),
        DataType::Decimal256(..) => decimals::<Decimal256Type>(py, array),
        DataType::List(_) => lists(py, array.as_list::<i32>())?,
        DataType::LargeList(_) => lists(py, array.as_list::<i64>())?,
        DataType::ListView(_) => list_views(py, array.as_list_view::<i32>())?,
        DataType::LargeListView(_) => list_views(py, array.as_list_view::<i64>())?,
        DataType::FixedSizeList(..) => fixed_size_lists(py, array.as_fixed_size_list())?,
        DataType::Struct(_) => structs(py, array.as_struct())?,
        DataType::Map(..) => maps(py, array.as_map())?,
        DataType::Union(..) => unions(py, array.as_union())?,
        DataType::Dictionary(..) => dictionaries(py, array)?,
        DataType::RunEndEncoded(ends, _) => match ends.data_type() {
            DataType::Int16 => runs::<Int16Type>(py, array)?,
            DataType::Int32 => runs::<Int32Type>(py, array)?,
            _ => runs::<Int64Type>(py, array)?,
        },
    })
}

fn integer<'py, T>(py: Python<'py>, value: T) -> PyResult<Object<'py>>
where
    T: IntoPyObject<'py>,
    PyErr: From<T::Error>,
{
    Ok(value.into_pyobject(py)?.into_any().into_bound())
}

fn integers<'py, T>(py: Python<'py>, array: &ArrayRef) -> Cells<'py>
where
    T: ArrowPrimitiveType,
    T::Native: Into<i64>,
{
    let values = array.as_primitive::<T>().values().clone();
    Box::new(move |row| integer(py, values[row].into()))
}

fn floats<'py, T: ArrowPrimitiveType>(
    py: Python<'py>,
    array: &ArrayRef,
    widen: fn(T::Native) -> f64,
) -> Cells<'py> {
    let values = array.as_primitive::<T>().values().clone();
    Box::new(move |row| Ok(PyFloat::new(py, widen(values[row])).into_any()))
}

/// Nanoseconds, also where they do not fit 64 bits.
fn timestamps<'py, T>(py: Python<'py>, array: &ArrayRef, nanoseconds: i64) -> Cells<'py>
where
    T: ArrowPrimitiveType<Native = i64>,
{
    let values = array.as_primitive::<T>().values().clone();
    Box::new(move |row| match values[row].checked_mul(nanoseconds) {
        Some(value) => integer(py, value),
        None => Ok(integer(py, values[row])?.mul(nanoseconds)?),
    })
}

fn date(py: Python<'_>, days: i64) -> PyResult<Object<'_>> {
    python_types::date(py)?.call_method1("fromordinal", (days + EPOCH_ORDINAL,))
}

/// Times of day, of which each unit is `multiply / divide` microseconds.
fn times<'py, T>(py: Python<'py>, array: &ArrayRef, multiply: i64, divide: i64) -> Cells<'py>
where
    T: ArrowPrimitiveType,
    T::Native: Into<i64>,
{
    let values = array.as_primitive::<T>().values().clone();
    Box::new(move |row| {
        let microseconds: i64 = values[row].into() * multiply / divide;
        let seconds = microseconds / 1_000_000;
        let parts = (
            seconds / 3_600,
            seconds / 60 % 60,
            seconds % 60,
            microseconds % 1_000_000,
        );
        python_types::time(py)?.call1(parts)
    })
}

/// Durations, of which each unit is `multiply / divide` microseconds.
fn durations<'py, T>(py: Python<'py>, array: &ArrayRef, multiply: i64, divide: i64) -> Cells<'py>
where
    T: ArrowPrimitiveType<Native = i64>,
{
    let values = array.as_primitive::<T>().values().clone();
    let units_per_second = 1_000_000 * divide / multiply;
    Box::new(move |row| {
        let seconds = values[row].div_euclid(units_per_second);
        let microseconds = values[row].rem_euclid(units_per_second) * multiply / divide;
        python_types::timedelta(py)?.call1((0, seconds, microseconds))
    })
}

fn intervals<'py>(py: Python<'py>, array: &ArrayRef, unit: IntervalUnit) -> Cells<'py> {
    match unit {
        IntervalUnit::YearMonth => {
            let values = array.as_primitive::<IntervalYearMonthType>().values().clone();
            Box::new(move |row| python_types::interval(py)?.call1((values[row], 0, 0)))
        }
        IntervalUnit::DayTime => {
            let values = array.as_primitive::<IntervalDayTimeType>().values().clone();
            Box::new(move |row| {
                let value = values[row];
                python_types::interval(py)?.call1((0, value.days, i64::from(value.milliseconds) * 1_000_000))
            })
        }
        IntervalUnit::MonthDayNano => {
            let values = array.as_primitive::<IntervalMonthDayNanoType>().values().clone();
            Box::new(move |row| {
                let value = values[row];
                python_types::interval(py)?.call1((value.months, value.days, value.nanoseconds))
            })
        }
    }
}

fn strings<'py, O: OffsetSizeTrait>(py: Python<'py>, array: &ArrayRef) -> Cells<'py> {
    let values = array.as_string::<O>().clone();
    Box::new(move |row| Ok(PyString::new(py, values.value(row)).into_any()))
}

fn binaries<'py, O: OffsetSizeTrait>(py: Python<'py>, array: &ArrayRef) -> Cells<'py> {
    let values = array.as_binary::<O>().clone();
    Box::new(move |row| Ok(PyBytes::new(py, values.value(row)).into_any()))
}

fn decimals<'py, T: DecimalType>(py: Python<'py>, array: &ArrayRef) -> Cells<'py> {
    let values = array.as_primitive::<T>().clone();
    Box::new(move |row| python_types::decimal(py)?.call1((values.value_as_string(row),)))
}

fn lists<'py, O: OffsetSizeTrait>(py: Python<'py>, array: &GenericListArray<O>) -> PyResult<Cells<'py>> {
    let values = Column::new(py, array.values())?;
    let offsets = array.offsets().clone();
    Ok(Box::new(move |row| {
        values.list(offsets[row].as_usize()..offsets[row + 1].as_usize())
    }))
}

fn list_views<'py, O: OffsetSizeTrait>(
    py: Python<'py>,
    array: &GenericListViewArray<O>,
) -> PyResult<Cells<'py>> {
    let values = Column::new(py, array.values())?;
    let (offsets, sizes) = (array.offsets().clone(), array.sizes().clone());
    Ok(Box::new(move |row| {
        let start = offsets[row].as_usize();
        values.list(start..start + sizes[row].as_usize())
    }))
}

fn fixed_size_lists<'py>(py: Python<'py>, array: &FixedSizeListArray) -> PyResult<Cells<'py>> {
    let values = Column::new(py, array.values())?;
    let array = array.clone();
    Ok(Box::new(move |row| {
        let start = array.value_offset(row) as usize;
        values.list(start..start + array.value_length() as usize)
    }))
}

fn structs<'py>(py: Python<'py>, array: &StructArray) -> PyResult<Cells<'py>> {
    let mut fields = Vec::with_capacity(array.num_columns());
    for (field, values) in array.fields().iter().zip(array.columns()) {
        fields.push((PyString::intern(py, field.name()), Column::new(py, values)?));
    }
    Ok(Box::new(move |row| {
        let dict = PyDict::new(py);
        for (name, values) in &fields {
            dict.set_item(name, values.get_or_none(row)?)?;
        }
        Ok(dict.into_any())
    }))
}

fn maps<'py>(py: Python<'py>, array: &MapArray) -> PyResult<Cells<'py>> {
    let keys = Column::new(py, array.keys())?;
    let values = Column::new(py, array.values())?;
    let offsets = array.offsets().clone();
    Ok(Box::new(move |row| {
        let dict = PyDict::new(py);
        for entry in offsets[row].as_usize()..offsets[row + 1].as_usize() {
            dict.set_item(keys.get_or_none(entry)?, values.get_or_none(entry)?)?;
        }
        Ok(dict.into_any())
    }))
}

fn unions<'py>(py: Python<'py>, array: &UnionArray) -> PyResult<Cells<'py>> {
    let DataType::Union(fields, _) = array.data_type() else {
        return Err(PyValueError::new_err("union array of another type"));
    };
    let mut members = Vec::with_capacity(fields.len());
    for (type_id, _) in fields.iter() {
        members.push((type_id, Column::new(py, array.child(type_id))?));
    }
    let array = array.clone();
    Ok(Box::new(move |row| {
        let type_id = array.type_id(row);
        match members.iter().find(|(known, _)| *known == type_id) {
            Some((_, member)) => member.get_or_none(array.value_offset(row)),
            None => Err(PyValueError::new_err(format!("union has no member {type_id}"))),
        }
    }))
}

/// Each value of the dictionary becomes one object, made when it is first met and shared by all rows that have it.
fn dictionaries<'py>(py: Python<'py>, array: &ArrayRef) -> PyResult<Cells<'py>> {
    let dictionary = array.as_any_dictionary();
    if dictionary.values().is_empty() {
        return Ok(Box::new(move |_| Ok(py.None().into_bound(py))));
    }
    let values = Column::new(py, dictionary.values())?;
    let made: Vec<OnceCell<Object<'py>>> = vec![OnceCell::new(); dictionary.values().len()];
    let keys = dictionary.normalized_keys();
    Ok(Box::new(move |row| {
        let key = keys[row];
        if let Some(object) = made[key].get() {
            return Ok(object.clone());
        }
        let object = values.get_or_none(key)?;
        Ok(made[key].get_or_init(|| object).clone())
    }))
}

fn runs<'py, R: RunEndIndexType>(py: Python<'py>, array: &ArrayRef) -> PyResult<Cells<'py>> {
    let Some(array) = array.as_any().downcast_ref::<RunArray<R>>() else {
        return Err(PyValueError::new_err("run-end encoded array of another type"));
    };
    let values = Column::new(py, array.values())?;
    let array = array.clone();
    Ok(Box::new(move |row| {
        values.get_or_none(array.get_physical_index(row))
    }))
}
