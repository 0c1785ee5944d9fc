//! `table_batches`: shapes, types, order, laziness.

use arrow::array::{
    BooleanArray, DictionaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::Int32Type;
use tidemill_worker_proto::EntryPoint;

use crate::harness::{Session, array, batch, writes_work};

fn tags(values: &[Option<&str>]) -> DictionaryArray<Int32Type> {
    values.iter().copied().collect()
}

fn all_types() -> RecordBatch {
    batch(vec![
        ("host", array(tags(&[Some("a"), Some("b"), Some("a")]))),
        ("room", array(tags(&[Some("x"), None, None]))),
        (
            "f",
            array(Float64Array::from(vec![Some(1.5), Some(f64::INFINITY), None])),
        ),
        ("i", array(Int64Array::from(vec![Some(i64::MIN), None, Some(1)]))),
        ("u", array(UInt64Array::from(vec![Some(u64::MAX), Some(0), None]))),
        ("s", array(StringArray::from(vec![Some("süß"), Some(""), None]))),
        (
            "b",
            array(BooleanArray::from(vec![Some(true), Some(false), None])),
        ),
        ("time", array(TimestampNanosecondArray::from(vec![1, 2, 3]))),
    ])
}

const LOG_ROWS: &str = "
def process_writes(api, table_batches, args):
    assert type(table_batches) is list
    for batch in table_batches:
        assert isinstance(batch, dict)
        rows = batch['rows']
        assert type(rows) is list and all(type(row) is dict for row in rows)
        api.info(batch['table_name'], *rows)
";

#[test]
fn a_row_has_what_was_written_in_order() {
    let mut session = Session::with_plugin(EntryPoint::Writes, LOG_ROWS);
    let (work, blob) = writes_work(&[("m", vec![all_types()])]);
    let finished = session.run(work, &blob);
    assert_eq!(
        finished.logged(),
        [
            "m {'host': 'a', 'room': 'x', 'f': 1.5, 'i': -9223372036854775808, 'u': 18446744073709551615, 's': 'süß', \
          'b': True, 'time': 1} {'host': 'b', 'f': inf, 'u': 0, 's': '', 'b': False, 'time': 2} \
          {'host': 'a', 'i': 1, 'time': 3}"
        ]
    );
}

#[test]
fn streams_of_one_table_are_joined_and_tables_stay_in_order() {
    let mut session = Session::with_plugin(EntryPoint::Writes, LOG_ROWS);
    let one = batch(vec![
        ("f", array(Float64Array::from(vec![1.0]))),
        ("time", array(TimestampNanosecondArray::from(vec![1]))),
    ]);
    let other = batch(vec![
        ("g", array(Int64Array::from(vec![2]))),
        ("time", array(TimestampNanosecondArray::from(vec![2]))),
    ]);
    let (work, blob) = writes_work(&[
        ("z", vec![one.clone(), other.clone()]),
        ("a", vec![other]),
        ("e", vec![]),
    ]);
    let finished = session.run(work, &blob);
    assert_eq!(
        finished.logged(),
        [
            "z {'f': 1.0, 'time': 1} {'g': 2, 'time': 2}",
            "a {'g': 2, 'time': 2}",
            "e"
        ]
    );
}

#[test]
fn more_columns_with_nulls_than_a_bit_set_holds() {
    let mut session = Session::with_plugin(
        EntryPoint::Writes,
        "
def process_writes(api, table_batches, args):
    api.info([sorted(row.items()) for row in table_batches[0]['rows']] == [
        sorted([(f'c{n}', n) for n in range(100) if (n + row) % 3] + [('time', row)]) for row in range(600)])
    api.info(list(table_batches[0]['rows'][1])[-1])
",
    );
    let names: Vec<String> = (0..100).map(|column| format!("c{column}")).collect();
    let mut columns = Vec::new();
    for (column, name) in names.iter().enumerate() {
        let values = (0..600).map(|row| ((column + row) % 3 > 0).then_some(column as i64));
        columns.push((name.as_str(), array(values.collect::<Int64Array>())));
    }
    columns.push((
        "time",
        array((0..600).map(Some).collect::<TimestampNanosecondArray>()),
    ));
    let (work, blob) = writes_work(&[("m", vec![batch(columns)])]);
    assert_eq!(session.run(work, &blob).logged(), ["True", "time"]);
}

#[test]
fn a_batch_behaves_as_the_dictionary_that_it_is() {
    let mut session = Session::with_plugin(
        EntryPoint::Writes,
        "
import copy, json, pickle
def process_writes(api, table_batches, args):
    def check(look):
        batch = type(table_batches[0])('m', table_batches[0]._source)
        assert 'rows' not in dict.keys(batch)
        return look(batch)
    rows = table_batches[0]['rows']
    whole = {'table_name': 'm', 'rows': rows}
    looks = [
        lambda b: b['rows'] == rows, lambda b: b.get('rows') == rows, lambda b: b.get('x', 7) == 7, lambda b: 'rows' in b,
        lambda b: 'x' not in b, lambda b: list(b) == ['table_name', 'rows'], lambda b: len(b) == 2, lambda b: dict(b) == whole,
        lambda b: {**b} == whole, lambda b: b == whole, lambda b: whole == b, lambda b: b.copy() == whole, lambda b: repr(b) == repr(whole),
        lambda b: list(b.items()) == list(whole.items()), lambda b: list(b.values()) == ['m', rows], lambda b: json.loads(json.dumps(b)) == whole,
        lambda b: copy.deepcopy(b) == whole, lambda b: copy.copy(b) == whole, lambda b: pickle.loads(pickle.dumps(b)) == whole,
        lambda b: b.pop('rows') == rows and 'rows' not in b and b.get('rows') is None, lambda b: b.setdefault('rows', 1) == rows,
        lambda b: (b | {'x': 1}) == {**whole, 'x': 1}, lambda b: list(reversed(b)) == ['rows', 'table_name'],
        lambda b: b.update(x=1) is None and b['x'] == 1 and b['rows'] == rows, lambda b: bool(b), lambda b: not b.clear() and not b,
    ]
    for number, look in enumerate(looks):
        if check(look) is not True:
            api.error('look', number)
    b = table_batches[0]
    match b:
        case {'table_name': name, 'rows': matched}:
            api.info(name, matched is b['rows'], b['rows'] is b.get('rows'))
    try:
        b['other']
    except KeyError as error:
        api.info(repr(error))
",
    );
    let (work, blob) = writes_work(&[("m", vec![all_types()])]);
    assert_eq!(
        session.run(work, &blob).logged(),
        ["m True True", "KeyError('other')"]
    );
}

#[test]
fn arrow_without_pyarrow_is_two_capsules() {
    let mut session = Session::with_plugin(
        EntryPoint::Writes,
        "
def process_writes(api, table_batches, args):
    table = table_batches[0].to_arrow()
    api.info(len(table), type(table.__arrow_c_stream__()).__name__, 'arrow_array_stream' in repr(table.__arrow_c_stream__(None)))
    api.info('arrow_schema' in repr(table.__arrow_c_schema__()), dict.__contains__(table_batches[0], 'rows'))
    api.info(table.rows()[2:])
",
    );
    let narrow = batch(vec![
        ("f", array(Float64Array::from(vec![9.0]))),
        ("new", array(Int64Array::from(vec![4]))),
        ("time", array(TimestampNanosecondArray::from(vec![4]))),
    ]);
    let (work, blob) = writes_work(&[("m", vec![all_types(), narrow])]);
    assert_eq!(
        session.run(work, &blob).logged(),
        [
            "4 PyCapsule True",
            "True False",
            "[{'host': 'a', 'room': None, 'f': None, 'i': 1, 'u': None, 's': None, 'b': None, 'new': None, 'time': 3}, \
             {'host': None, 'room': None, 'f': 9.0, 'i': None, 'u': None, 's': None, 'b': None, 'new': 4, 'time': 4}]",
        ]
    );
}

#[test]
fn a_broken_stream_is_an_exception_of_the_run() {
    let mut session = Session::with_plugin(EntryPoint::Writes, LOG_ROWS);
    let (work, mut blob) = writes_work(&[("m", vec![all_types()])]);
    blob.truncate(blob.len() / 2);
    let finished = session.run(work, &blob);
    assert!(
        finished.failed().message.starts_with("ValueError: "),
        "{finished:?}"
    );
}
