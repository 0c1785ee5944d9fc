//! Arrow tables as the argument of `write` and its relatives: those of the worker itself. What other packages make is in
//! `libraries`; what becomes of each type is tested where the lines are made, in `tidemill-lineproto`.

use arrow::array::{
    DictionaryArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::datatypes::Int32Type;
use tidemill_worker_proto::{EntryPoint, FromWorker, ToWorker};

use crate::harness::{Answers, Session, array, batch, stream_of, writes_work};

/// Two streams of one table, with different columns.
fn written() -> [RecordBatch; 2] {
    let hosts: DictionaryArray<Int32Type> = vec![Some("a b"), None].into_iter().collect();
    [
        batch(vec![
            ("host", array(hosts)),
            ("f", array(Float64Array::from(vec![Some(1.5), Some(f64::MAX)]))),
            ("time", array(TimestampNanosecondArray::from(vec![1, 2]))),
        ]),
        batch(vec![
            ("s", array(StringArray::from(vec!["x \"y\""]))),
            ("n", array(Int64Array::from(vec![3]))),
            ("time", array(TimestampNanosecondArray::from(vec![3]))),
        ]),
    ]
}

fn run(body: &str, mut answer: impl FnMut(&FromWorker) -> Answers) -> crate::harness::Finished {
    let source = format!(
        "def process_writes(api, batches, args):\n    table = batches[0].to_arrow()\n    {}\n",
        body.replace('\n', "\n    ")
    );
    let mut session = Session::with_plugin(EntryPoint::Writes, &source);
    let (work, blob) = writes_work(&[("m", written().to_vec())]);
    session.run_answering(work, &blob, |message, _| answer(message))
}

fn nobody(message: &FromWorker) -> Answers {
    panic!("{message:?}")
}

#[test]
fn a_batch_is_written_as_it_came() {
    let finished = run(
        "
api.write_to_db('copy', table)
api.write('after f=1')
api.write(table, table='other', tags=['s'])",
        nobody,
    );
    let max = format!("{:?}", f64::MAX);
    assert_eq!(
        finished.written(),
        [
            (
                Some("copy".to_owned()),
                format!("m,host=a\\ b f=1.5 1\nm f={max} 2\nm s=\"x \\\"y\\\"\",n=3i 3\n")
            ),
            (
                None,
                format!("after f=1\nother host=\"a b\",f=1.5 1\nother f={max} 2\nother,s=x\\ \"y\" n=3i 3\n")
            ),
        ]
    );
}

#[test]
fn a_result_of_a_query_is_written() {
    let result = written()[0].slice(0, 1);
    let answer = move |message: &FromWorker| match message {
        FromWorker::Query { call, .. } => vec![
            (ToWorker::QueryPart { call: *call }, stream_of(&result)),
            (
                ToWorker::QueryDone {
                    call: *call,
                    outcome: Ok(()),
                },
                vec![],
            ),
        ],
        FromWorker::Write {
            call, no_sync: true, ..
        } => vec![(
            ToWorker::WriteDone {
                call: *call,
                outcome: Ok(()),
            },
            vec![],
        )],
        other => panic!("{other:?}"),
    };
    let finished = run(
        "
found = api.query_arrow('q')
api.write(found, table='means')
api.write_sync(found, table='now', no_sync=True)
try:
    api.write(found)
except TypeError as error:
    api.info(error)",
        answer,
    );
    assert_eq!(
        finished.logged(),
        ["an Arrow table does not say which table its rows belong to: pass table="]
    );
    let lines = "means,host=a\\ b f=1.5 1\n".to_owned();
    assert_eq!(finished.written(), [(None, lines)]);
}

#[test]
fn what_cannot_be_written_is_an_exception_of_the_call() {
    let finished = run(
        "
class Broken:
    def __arrow_c_stream__(self, requested_schema=None):
        return 5
class Named:
    def __init__(self, capsule): self.capsule = capsule
    def __arrow_c_stream__(self, requested_schema=None):
        return self.capsule
used = Named(table.__arrow_c_stream__())
api.write(used, table='once')
for written, keywords in (
    (table, {'time': 'when'}),
    (table, {'tags': ['f']}),
    (table, {'tags': 'host'}),
    (table, {'table': ''}),
    (used, {'table': 'm'}),
    (Named(table.__arrow_c_schema__()), {'table': 'm'}),
    (Broken(), {'table': 'm'}),
    ('m f=1', {'table': 'm'}),
    ('m f=1', {'time': None}),
    ([table], {}),
):
    try:
        api.write(written, **keywords)
    except Exception as error:
        api.info(type(error).__name__, str(error).split(' at 0x')[0])",
        nobody,
    );
    let logged = finished.logged();
    let begins = [
        "ValueError the table has no column 'when': name the one that holds the times with time=",
        "ValueError column 'f' is of type Float64, and a tag is text or an integer: cast it",
        "TypeError ",
        "ValueError the table name \"\" cannot be written: it is empty",
        "ValueError C Data interface error: input stream is already released",
        "ValueError ",
        "TypeError ",
        "TypeError table=, tags= and time= are for Arrow tables only",
        "TypeError table=, tags= and time= are for Arrow tables only",
        "AttributeError ",
    ];
    assert_eq!(logged.len(), begins.len(), "{logged:#?}");
    for (text, begin) in logged.iter().zip(begins) {
        assert!(text.starts_with(begin), "{text}");
    }
    assert_eq!(finished.written().len(), 1);
}

#[test]
fn a_table_without_rows_is_nothing() {
    let empty = written()[0].slice(0, 0);
    let mut session = Session::with_plugin(
        EntryPoint::Writes,
        "def process_writes(api, batches, args):\n    api.write(batches[0].to_arrow())\n    api.write_sync(batches[0].to_arrow(), False)\n",
    );
    let (work, blob) = writes_work(&[("m", vec![empty])]);
    assert_eq!(session.run(work, &blob).written(), []);
}
