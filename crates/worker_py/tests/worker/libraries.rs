//! What plugins do with installed packages. Where the interpreter under test has none of them, there is nothing to check;
//! point `TIDEMILL_TEST_PYTHON` at one with pyarrow, polars, numpy and flask.

use arrow::array::{DictionaryArray, Float64Array, Int64Array, TimestampNanosecondArray};
use arrow::datatypes::Int32Type;
use tidemill_worker_proto::{EntryPoint, FromWorker, ParamValue, ToWorker, Work};

use crate::harness::{Session, array, batch, request_work, stream_of, writes_work};

const ABSENT: &str = "absent";

/// A session with the plugin, unless one of the modules is not installed.
fn session_with(modules: &str, entry: EntryPoint, source: &str) -> Option<Session> {
    let mut probe = Session::with_plugin(
        EntryPoint::ScheduledCall,
        &format!(
            "
def process_scheduled_call(api, call_time, args):
    try:
        import {modules}
        api.info('present')
    except ImportError:
        api.info('{ABSENT}')
"
        ),
    );
    if probe.schedule().logged() == [ABSENT] {
        return None;
    }
    Some(Session::with_plugin(entry, source))
}

#[test]
fn arrow_libraries_read_without_a_copy() {
    let session = session_with(
        "pyarrow, polars",
        EntryPoint::Writes,
        "
import polars, pyarrow
def process_writes(api, table_batches, args):
    source = table_batches[0].to_arrow()
    table = pyarrow.table(source)
    table.validate(full=True)
    api.info(table.schema.names, [str(kind) for kind in table.schema.types], table.drop(['time']).to_pylist())
    api.info(polars.DataFrame(source).select('host', 'f').rows(), pyarrow.schema(source) == table.schema)
    api.info(pyarrow.table(api.query_arrow('q')).drop(['time']).to_pylist())
",
    );
    let Some(mut session) = session else { return };
    let tags: DictionaryArray<Int32Type> = vec![Some("a"), Some("b")].into_iter().collect();
    let one = batch(vec![
        ("host", array(tags)),
        ("f", array(Float64Array::from(vec![Some(1.5), None]))),
        ("time", array(TimestampNanosecondArray::from(vec![1, 2]))),
    ]);
    let other = batch(vec![
        ("g", array(Int64Array::from(vec![3]))),
        ("time", array(TimestampNanosecondArray::from(vec![3]))),
    ]);
    let (work, blob) = writes_work(&[("m", vec![one, other.clone()])]);
    let finished = session.run_answering(work, &blob, |message, _| {
        let FromWorker::Query { call, .. } = message else {
            panic!("{message:?}");
        };
        let part = stream_of(&other);
        vec![
            (ToWorker::QueryPart { call: *call }, part),
            (
                ToWorker::QueryDone {
                    call: *call,
                    outcome: Ok(()),
                },
                vec![],
            ),
        ]
    });
    let logged = finished.logged();
    assert!(
        logged[0].starts_with(
            "['host', 'f', 'g', 'time'] ['dictionary<values=string, indices=int32, ordered=0>', 'double', 'int64', 'timestamp[ns]']"
        ),
        "{logged:?}"
    );
    assert!(
        logged[0].contains("'host': 'b', 'f': None, 'g': None"),
        "{logged:?}"
    );
    assert_eq!(logged[1], "[('a', 1.5), ('b', None), (None, None)] True");
    assert!(logged[2] == "[{'g': 3}]", "{logged:?}");
}

#[test]
fn numpy_scalars_are_numbers() {
    let session = session_with(
        "numpy",
        EntryPoint::ScheduledCall,
        "
import numpy as np
def process_scheduled_call(api, call_time, args):
    line = LineBuilder('m').tag('t', np.float64(1.5)).int64_field('i', np.int64(-3)).uint64_field('u', np.uint8(3))
    line.float64_field('f', np.float64(2.5)).float64_field('g', np.float32(0.5)).float64_field('h', np.float64(4)).bool_field('b', np.bool_(True))
    api.info(line.time_ns(np.int64(5)).build())
    api.query('q', {'i': np.int64(-3), 'f': np.float32(0.5), 'd': np.float64(0.25), 'b': np.bool_(True), 's': np.str_('x')})
    api.write_sync('m f=1', no_sync=np.bool_(True))
",
    );
    let Some(mut session) = session else { return };
    let mut seen = Vec::new();
    let finished = session.run_answering(Work::Schedule { time_ns: 0 }, &[], |message, _| match message {
        FromWorker::Query { call, params, .. } => {
            seen.extend(params.iter().map(|(_, value)| value.clone()));
            vec![(
                ToWorker::QueryDone {
                    call: *call,
                    outcome: Ok(()),
                },
                vec![],
            )]
        }
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
    });
    assert_eq!(finished.logged(), ["m,t=1.5 i=-3i,u=3u,f=2.5,g=0.5,h=4.0,b=t 5"]);
    let expected = [
        ParamValue::Integer(-3),
        ParamValue::Float(0.5),
        ParamValue::Float(0.25),
        ParamValue::Boolean(true),
        ParamValue::String("x".into()),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn werkzeug_responses_are_answers() {
    let session = session_with(
        "werkzeug",
        EntryPoint::Request,
        "
import io
from werkzeug.wrappers import Response
from werkzeug.wsgi import FileWrapper

def lines(api):
    try:
        yield 'a,b\\n'
        yield '1,2\\n'
    finally:
        api.info('closed')

def process_request(api, parameters, headers, body, args):
    form = parameters['form']
    if form == 'stream':
        response = Response(lines(api), 202, mimetype='text/csv')
        response.headers.add('Set-Cookie', 'a=1')
        response.headers.add('Set-Cookie', 'b=2')
        response.call_on_close(lambda: api.info('response closed'))
        return response
    if form == 'passthrough':
        return Response(FileWrapper(io.BytesIO(b'x' * 20_000)), direct_passthrough=True, mimetype='text/plain')
    if form == 'tuple':
        return Response('made', content_type='text/plain'), 201, {'X': 'y'}
    return Response(b'raw')
",
    );
    let Some(mut session) = session else { return };
    let mut ask = |form| session.run(request_work(&[("form", form)], &[]), &[]);
    let streamed = ask("stream");
    assert_eq!(
        streamed.answered(),
        "202 [Content-Type: text/csv; charset=utf-8; Set-Cookie: a=1; Set-Cookie: b=2] a,b\n1,2\n"
    );
    assert_eq!(streamed.streamed.as_ref().unwrap().parts.len(), 2);
    assert_eq!(streamed.logged(), ["closed", "response closed"]);
    let passed = ask("passthrough");
    assert_eq!(passed.streamed.unwrap().parts.concat(), vec![b'x'; 20_000]);
    assert_eq!(
        ask("tuple").answered(),
        "201 [Content-Type: text/plain; Content-Length: 4; X: y] made"
    );
    assert_eq!(
        ask("bytes").answered(),
        "200 [Content-Type: text/plain; charset=utf-8; Content-Length: 3] raw"
    );
}

#[test]
fn flask_responses_are_answers() {
    let session = session_with(
        "flask",
        EntryPoint::Request,
        "
import flask, os
app = flask.Flask('x')
def process_request(api, parameters, headers, body, args):
    with app.test_request_context():
        if 'file' in parameters:
            return flask.send_file(__file__, mimetype='text/x-python', etag=False, last_modified=None)
        response = flask.make_response('tea', 418)
        response.headers.add('X', '1')
        response.headers.add('X', '2')
        return response
",
    );
    let Some(mut session) = session else { return };
    assert_eq!(
        session.request().answered(),
        "418 [Content-Type: text/html; charset=utf-8; Content-Length: 3; X: 1; X: 2] tea"
    );
    let finished = session.run(request_work(&[("file", "")], &[]), &[]);
    let answered = finished.answered();
    assert!(
        answered.starts_with("200 [") && answered.contains("return flask.send_file"),
        "{answered}"
    );
}
