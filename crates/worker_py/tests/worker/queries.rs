//! `query`, `query_arrow`, parameters and conversions.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, BooleanArray, Date32Array, Date64Array, Decimal32Array,
    Decimal64Array, Decimal128Array, Decimal256Array, DictionaryArray, DurationMicrosecondArray,
    DurationMillisecondArray, DurationNanosecondArray, DurationSecondArray, FixedSizeBinaryArray,
    FixedSizeListArray, Float16Array, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
    Int64Array, IntervalDayTimeArray, IntervalMonthDayNanoArray, IntervalYearMonthArray, LargeBinaryArray,
    LargeListArray, LargeListViewArray, LargeStringArray, ListArray, ListViewArray, MapBuilder, NullArray,
    RecordBatch, RunArray, StringArray, StringBuilder, StringViewArray, StructArray, Time32MillisecondArray,
    Time32SecondArray, Time64MicrosecondArray, Time64NanosecondArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt8Array, UInt16Array,
    UInt32Array, UInt64Array, UnionArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    Field, Float64Type, Int8Type, Int32Type, IntervalDayTime, IntervalMonthDayNano, UnionFields, i256,
};
use bytes::Bytes;
use tidemill_worker_proto::{EntryPoint, FromWorker, ParamValue, ToWorker};

use crate::harness::{Answers, Finished, Session, array, batch, stream_of};

/// Answers a query with one part a batch.
fn result(message: &FromWorker, batches: &[RecordBatch]) -> Answers {
    let FromWorker::Query { call, .. } = message else {
        panic!("{message:?}");
    };
    let mut answers: Answers = batches
        .iter()
        .map(|batch| (ToWorker::QueryPart { call: *call }, stream_of(batch)))
        .collect();
    answers.push((
        ToWorker::QueryDone {
            call: *call,
            outcome: Ok(()),
        },
        vec![],
    ));
    answers
}

fn run(body: &str, answer: impl FnMut(&FromWorker, &Bytes) -> Answers) -> Finished {
    let source = format!(
        "import datetime\ndef process_scheduled_call(api, call_time, args):\n    {}\n",
        body.replace('\n', "\n    ")
    );
    let mut session = Session::with_plugin(EntryPoint::ScheduledCall, &source);
    session.run_answering(tidemill_worker_proto::Work::Schedule { time_ns: 0 }, &[], answer)
}

/// Checks what the values of one column become, each as `repr`.
#[track_caller]
fn check(column: ArrayRef, expected: &[&str]) {
    let data = batch(vec![("v", column)]);
    let finished = run(
        "for row in api.query('q'):\n    api.info(repr(row['v']))",
        |message, _| result(message, std::slice::from_ref(&data)),
    );
    assert_eq!(
        finished.logged(),
        expected,
        "{:?}",
        data.schema().field(0).data_type()
    );
}

#[test]
fn numbers() {
    check(array(Int8Array::from(vec![Some(-128), None])), &["-128", "None"]);
    check(array(Int16Array::from(vec![-5])), &["-5"]);
    check(array(Int32Array::from(vec![7])), &["7"]);
    check(array(Int64Array::from(vec![i64::MAX])), &["9223372036854775807"]);
    check(array(UInt8Array::from(vec![255])), &["255"]);
    check(array(UInt16Array::from(vec![65535])), &["65535"]);
    check(array(UInt32Array::from(vec![u32::MAX])), &["4294967295"]);
    check(
        array(UInt64Array::from(vec![Some(u64::MAX), None])),
        &["18446744073709551615", "None"],
    );
    check(array(Float16Array::from(vec![half(1.5)])), &["1.5"]);
    check(array(Float32Array::from(vec![0.5])), &["0.5"]);
    check(
        array(Float64Array::from(vec![Some(0.1), None, Some(f64::NAN)])),
        &["0.1", "None", "nan"],
    );
    check(
        array(BooleanArray::from(vec![Some(true), Some(false), None])),
        &["True", "False", "None"],
    );
    check(array(NullArray::new(2)), &["None", "None"]);
    check(
        array(
            Decimal128Array::from(vec![Some(-12_345), None])
                .with_precision_and_scale(10, 2)
                .unwrap(),
        ),
        &["Decimal('-123.45')", "None"],
    );
    check(
        array(
            Decimal32Array::from(vec![5])
                .with_precision_and_scale(5, 1)
                .unwrap(),
        ),
        &["Decimal('0.5')"],
    );
    check(
        array(
            Decimal64Array::from(vec![5])
                .with_precision_and_scale(5, 0)
                .unwrap(),
        ),
        &["Decimal('5')"],
    );
    check(
        array(
            Decimal256Array::from(vec![i256::from_i128(1)])
                .with_precision_and_scale(50, 3)
                .unwrap(),
        ),
        &["Decimal('0.001')"],
    );
}

fn half(value: f32) -> <arrow::datatypes::Float16Type as arrow::datatypes::ArrowPrimitiveType>::Native {
    <arrow::datatypes::Float16Type as arrow::datatypes::ArrowPrimitiveType>::Native::from_f32(value)
}

#[test]
fn texts_and_bytes() {
    check(array(StringArray::from(vec![Some("ä"), None])), &["'ä'", "None"]);
    check(array(LargeStringArray::from(vec!["x"])), &["'x'"]);
    check(
        array(StringViewArray::from(vec![
            "short",
            "a text that is longer than twelve bytes",
        ])),
        &["'short'", "'a text that is longer than twelve bytes'"],
    );
    check(
        array(BinaryArray::from(vec![&b"\x00\xff"[..]])),
        &[r"b'\x00\xff'"],
    );
    check(array(LargeBinaryArray::from(vec![&b"a"[..]])), &["b'a'"]);
    check(array(BinaryViewArray::from(vec![&b"a"[..]])), &["b'a'"]);
    check(
        array(FixedSizeBinaryArray::try_from_iter([[1_u8, 2]].iter()).unwrap()),
        &[r"b'\x01\x02'"],
    );
    let tags: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("b"), Some("a")].into_iter().collect();
    check(array(tags), &["'a'", "None", "'b'", "'a'"]);
    let nulls: DictionaryArray<Int32Type> = vec![None::<&str>, None].into_iter().collect();
    check(array(nulls), &["None", "None"]);
    let small = DictionaryArray::<Int8Type>::new(
        Int8Array::from(vec![1, 0]),
        array(Int64Array::from(vec![Some(10), None])),
    );
    check(array(small), &["None", "10"]);
    let runs =
        RunArray::<Int32Type>::try_new(&Int32Array::from(vec![2, 3]), &StringArray::from(vec!["r", "s"]))
            .unwrap();
    check(array(runs), &["'r'", "'r'", "'s'"]);
}

#[test]
fn moments() {
    check(
        array(TimestampNanosecondArray::from(vec![Some(-1), None])),
        &["-1", "None"],
    );
    check(array(TimestampMicrosecondArray::from(vec![5])), &["5000"]);
    check(
        array(TimestampMillisecondArray::from(vec![5]).with_timezone("UTC")),
        &["5000000"],
    );
    check(
        array(TimestampSecondArray::from(vec![5, i64::MAX])),
        &["5000000000", "9223372036854775807000000000"],
    );
    check(
        array(Date32Array::from(vec![0, -1, 20_000])),
        &[
            "datetime.date(1970, 1, 1)",
            "datetime.date(1969, 12, 31)",
            "datetime.date(2024, 10, 4)",
        ],
    );
    check(
        array(Date64Array::from(vec![-1])),
        &["datetime.date(1969, 12, 31)"],
    );
    check(
        array(Time32SecondArray::from(vec![3_661])),
        &["datetime.time(1, 1, 1)"],
    );
    check(
        array(Time32MillisecondArray::from(vec![1])),
        &["datetime.time(0, 0, 0, 1000)"],
    );
    check(
        array(Time64MicrosecondArray::from(vec![86_399_999_999])),
        &["datetime.time(23, 59, 59, 999999)"],
    );
    check(
        array(Time64NanosecondArray::from(vec![1_999])),
        &["datetime.time(0, 0, 0, 1)"],
    );
    check(
        array(DurationMillisecondArray::from(vec![-1])),
        &["datetime.timedelta(days=-1, seconds=86399, microseconds=999000)"],
    );
    check(
        array(DurationSecondArray::from(vec![90_000])),
        &["datetime.timedelta(days=1, seconds=3600)"],
    );
    check(
        array(DurationMicrosecondArray::from(vec![7])),
        &["datetime.timedelta(microseconds=7)"],
    );
    check(
        array(DurationNanosecondArray::from(vec![1_500_000_000])),
        &["datetime.timedelta(seconds=1, microseconds=500000)"],
    );
    check(
        array(IntervalYearMonthArray::from(vec![14])),
        &["Interval(months=14, days=0, nanoseconds=0)"],
    );
    check(
        array(IntervalDayTimeArray::from(vec![IntervalDayTime::new(2, 3)])),
        &["Interval(months=0, days=2, nanoseconds=3000000)"],
    );
    check(
        array(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(
            1, 2, 3,
        )])),
        &["Interval(months=1, days=2, nanoseconds=3)"],
    );
}

#[test]
fn nested_values() {
    let lists = vec![Some(vec![Some(1.5), None]), None, Some(vec![])];
    check(
        array(ListArray::from_iter_primitive::<Float64Type, _, _>(lists.clone())),
        &["[1.5, None]", "None", "[]"],
    );
    check(
        array(LargeListArray::from_iter_primitive::<Float64Type, _, _>(lists)),
        &["[1.5, None]", "None", "[]"],
    );
    let pairs = vec![Some(vec![Some(1), Some(2)]), Some(vec![Some(3), None])];
    check(
        array(FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
            pairs, 2,
        )),
        &["[1, 2]", "[3, None]"],
    );
    let item = Arc::new(Field::new("item", arrow::datatypes::DataType::Int64, true));
    let items = array(Int64Array::from(vec![Some(1), None, Some(3)]));
    // The views overlap, and stand in another order than their values.
    check(
        array(ListViewArray::new(
            Arc::clone(&item),
            ScalarBuffer::from(vec![1, 0, 0]),
            ScalarBuffer::from(vec![2, 2, 0]),
            Arc::clone(&items),
            Some(vec![true, true, false].into()),
        )),
        &["[None, 3]", "[1, None]", "None"],
    );
    check(
        array(LargeListViewArray::new(
            item,
            ScalarBuffer::from(vec![2_i64]),
            ScalarBuffer::from(vec![1_i64]),
            items,
            None,
        )),
        &["[3]"],
    );
    let structs = StructArray::from(vec![
        (
            Arc::new(Field::new("a", arrow::datatypes::DataType::Int64, true)),
            array(Int64Array::from(vec![Some(1), None])),
        ),
        (
            Arc::new(Field::new("b", arrow::datatypes::DataType::Utf8, true)),
            array(StringArray::from(vec!["x", "y"])),
        ),
    ]);
    check(array(structs), &["{'a': 1, 'b': 'x'}", "{'a': None, 'b': 'y'}"]);
    let mut maps = MapBuilder::new(None, StringBuilder::new(), Int64Array::builder(2));
    maps.keys().append_value("k");
    maps.values().append_value(5);
    maps.append(true).unwrap();
    maps.append(false).unwrap();
    check(array(maps.finish()), &["{'k': 5}", "None"]);
    let fields = UnionFields::from_fields([
        Field::new("i", arrow::datatypes::DataType::Int64, true),
        Field::new("s", arrow::datatypes::DataType::Utf8, true),
    ]);
    let union = UnionArray::try_new(
        fields,
        ScalarBuffer::from(vec![0_i8, 1]),
        None,
        vec![
            array(Int64Array::from(vec![4, 0])),
            array(StringArray::from(vec!["", "s"])),
        ],
    );
    check(array(union.unwrap()), &["4", "'s'"]);
    let fields = UnionFields::from_fields([
        Field::new("i", arrow::datatypes::DataType::Int64, true),
        Field::new("s", arrow::datatypes::DataType::Utf8, true),
    ]);
    let dense = UnionArray::try_new(
        fields,
        ScalarBuffer::from(vec![1_i8, 0, 1]),
        Some(ScalarBuffer::from(vec![1, 0, 0])),
        vec![
            array(Int64Array::from(vec![None])),
            array(StringArray::from(vec!["s0", "s1"])),
        ],
    );
    check(array(dense.unwrap()), &["'s1'", "None", "'s0'"]);
    // Dictionaries and run ends of anything, within anything.
    let words: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("a")].into_iter().collect();
    let lists = ListArray::new(
        Arc::new(Field::new("item", words.data_type().clone(), true)),
        OffsetBuffer::from_lengths([2, 1]),
        array(words),
        None,
    );
    check(array(lists.clone()), &["['a', None]", "['a']"]);
    let dictionary = DictionaryArray::<Int8Type>::new(Int8Array::from(vec![1, 0]), array(lists));
    check(array(dictionary), &["['a']", "['a', None]"]);
    let runs = RunArray::<Int32Type>::try_new(
        &Int32Array::from(vec![1, 3]),
        &TimestampSecondArray::from(vec![Some(1), None]),
    );
    check(array(runs.unwrap()), &["1000000000", "None", "None"]);
}

#[test]
fn rows_have_every_column_and_parts_are_joined() {
    let part = |values: Vec<Option<i64>>| {
        batch(vec![
            ("a", array(Int64Array::from(values.clone()))),
            ("b", array(Int64Array::from(values))),
        ])
    };
    let finished = run("api.info(api.query('SELECT 1'))", |message, _| {
        assert!(
            matches!(message, FromWorker::Query { database: None, sql, params, .. } if sql == "SELECT 1" && params.is_empty())
        );
        result(message, &[part(vec![Some(1)]), part(vec![None, Some(3)])])
    });
    assert_eq!(
        finished.logged(),
        ["[{'a': 1, 'b': 1}, {'a': None, 'b': None}, {'a': 3, 'b': 3}]"]
    );
    let finished = run("api.info(api.query('q'))", |message, _| result(message, &[]));
    assert_eq!(finished.logged(), ["[]"]);
    let twice = RecordBatch::try_new(
        Arc::new(arrow::datatypes::Schema::new(vec![
            Field::new("a", arrow::datatypes::DataType::Int64, true),
            Field::new("b", arrow::datatypes::DataType::Int64, true),
            Field::new("a", arrow::datatypes::DataType::Int64, true),
        ])),
        [Some(1), Some(2), None]
            .map(|value| array(Int64Array::from(vec![value])))
            .to_vec(),
    );
    let twice = twice.unwrap();
    let finished = run("api.info(api.query('q'))", |message, _| {
        result(message, std::slice::from_ref(&twice))
    });
    assert_eq!(finished.logged(), ["[{'a': None, 'b': 2}]"]);
}

#[test]
fn parameters_of_every_type() {
    let mut seen = Vec::new();
    let finished = run(
        "
class Index:
    def __index__(self): return 9
utc = datetime.timezone.utc
api.query('q', {'s': 'x', 'i': -1, 'u': 2**64 - 1, 'f': 0.5, 'b': True, 'n': None, 'y': b'\\x01', 'a': bytearray(b'z'), 'x': Index(),
    't': datetime.datetime(1970, 1, 1, 0, 0, 0, 1), 'z': datetime.datetime(1970, 1, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))}, 'other')
api.query('q', args=None, database='tides')
api.query(query='q', args={})
for bad in ({'a': [1]}, {1: 'x'}, {'a': 2**64}, {'a': datetime.datetime.max}, [1]):
    try:
        api.query('q', bad)
    except (TypeError, OverflowError) as error:
        api.info(type(error).__name__, error)",
        |message, _| {
            let FromWorker::Query { database, params, .. } = message else {
                panic!("{message:?}");
            };
            seen.push((database.clone(), params.clone()));
            result(message, &[])
        },
    );
    let expected: Vec<(String, ParamValue)> = vec![
        ("s".into(), ParamValue::String("x".into())),
        ("i".into(), ParamValue::Integer(-1)),
        ("u".into(), ParamValue::UInteger(u64::MAX)),
        ("f".into(), ParamValue::Float(0.5)),
        ("b".into(), ParamValue::Boolean(true)),
        ("n".into(), ParamValue::Null),
        ("y".into(), ParamValue::Bytes(vec![1])),
        ("a".into(), ParamValue::Bytes(b"z".to_vec())),
        ("x".into(), ParamValue::Integer(9)),
        ("t".into(), ParamValue::TimestampNs(1_000)),
        ("z".into(), ParamValue::TimestampNs(0)),
    ];
    assert_eq!(
        finished.logged()[..4],
        [
            "TypeError query parameter 'a' has unsupported type list: use str, int, float, bool, None, bytes or datetime",
            "TypeError query parameter names must be str, not int",
            "OverflowError query parameter 'a' does not fit 64 bits",
            "OverflowError query parameter 'a' is outside of the years 1677 to 2262",
        ]
    );
    assert!(finished.logged()[4].starts_with("TypeError "));
    assert_eq!(
        seen,
        [
            (Some("other".to_owned()), expected),
            (None, vec![]),
            (None, vec![])
        ]
    );
}

#[test]
fn a_failed_query_raises_query_error() {
    let finished = run(
        "
try:
    api.query('SELECT foo FROM not_here')
except Exception as error:
    api.info(type(error).__name__, type(error).__mro__[1] is Exception, error)
api.query('again')",
        |message, _| {
            let FromWorker::Query { call, .. } = message else {
                panic!("{message:?}");
            };
            let outcome = Err("error: no such table".to_owned());
            vec![(ToWorker::QueryDone { call: *call, outcome }, vec![])]
        },
    );
    assert_eq!(finished.logs[0].1, "QueryError True error: no such table");
    assert_eq!(finished.failed().message, "QueryError: error: no such table");
}

#[test]
fn arrow_results() {
    let data = batch(vec![("a", array(Int64Array::from(vec![1, 2])))]);
    let finished = run(
        "
table = api.query_arrow('q')
api.info(len(table), table.rows(), 'arrow_array_stream' in repr(table.__arrow_c_stream__()))",
        |message, _| result(message, std::slice::from_ref(&data)),
    );
    assert_eq!(finished.logged(), ["2 [{'a': 1}, {'a': 2}] True"]);
}
