//! What `process_request` may return.

use tidemill_worker_proto::{
    EntryPoint, Failure, FailureKind, Frame, FromWorker, Outcome, RESPONSE_WINDOW_BYTES, ToWorker,
};

use crate::harness::{Finished, Session, request_work};

/// Runs a request whose function has this body.
fn answer(body: &str) -> Finished {
    let source = format!(
        "def process_request(api, parameters, headers, body, args):\n    {}\n",
        body.replace('\n', "\n    ")
    );
    Session::with_plugin(EntryPoint::Request, &source).request()
}

#[track_caller]
fn check(body: &str, expected: &str) {
    assert_eq!(answer(body).answered(), expected);
}

#[track_caller]
fn check_bad(body: &str, expected: &str) {
    let finished = answer(body);
    let failure = finished.failed();
    assert_eq!(
        (failure.kind, failure.message.as_str()),
        (FailureKind::BadReturn, expected)
    );
}

#[test]
fn plain_values() {
    check("return 'hi ü'", "200 [Content-Type: text/html] hi ü");
    check(
        "return {'a': [1, None, 'ü']}",
        r#"200 [Content-Type: application/json] {"a": [1, null, "\u00fc"]}"#,
    );
    check(
        "return [1.5, float('nan')]",
        "200 [Content-Type: application/json] [1.5, NaN]",
    );
    check(
        "import collections\nreturn collections.OrderedDict(a=1)",
        r#"200 [Content-Type: application/json] {"a": 1}"#,
    );
    check(
        "return b'\\x00raw'",
        "200 [Content-Type: application/octet-stream] \0raw",
    );
    check(
        "return bytearray(b'ab')",
        "200 [Content-Type: application/octet-stream] ab",
    );
}

#[test]
fn tuples() {
    check("return ('a',)", "200 [Content-Type: text/html] a");
    check("return 'a', 201", "201 [Content-Type: text/html] a");
    check(
        "return {'a': 1}, 404, {'X': 'y'}",
        r#"404 [Content-Type: application/json; X: y] {"a": 1}"#,
    );
    check("return 'a', {'X': 'y'}", "200 [Content-Type: text/html; X: y] a");
    check(
        "return 'a', 200, {'content-type': 'text/csv'}",
        "200 [content-type: text/csv] a",
    );
    check(
        "return 'a', {'Set-Cookie': ['a=1', 'b=2']}",
        "200 [Content-Type: text/html; Set-Cookie: a=1; Set-Cookie: b=2] a",
    );
    check("return 3, 200", "200 [Content-Type: text/plain] 3");
    check("return None, 204", "204 [Content-Type: text/plain] None");
    check(
        "return b'hi', 200",
        "200 [Content-Type: application/octet-stream] hi",
    );
    check(
        "return 'a', {'X': 'caf\u{e9}'}",
        "200 [Content-Type: text/html; X: caf\u{e9}] a",
    );
    check("return 'a', 'ignored'", "200 [Content-Type: text/html] a");
    check("return 'a', 200.0", "200 [Content-Type: text/html] a");
    check(
        "import http\nreturn 'a', http.HTTPStatus.CREATED",
        "201 [Content-Type: text/html] a",
    );
    check(
        "return (x for x in ['a', 'b']), 202",
        "202 [Content-Type: text/html] ab",
    );
    check("return (1, 2, 3, 'a')", "200 [Content-Type: text/html] a");
    check("return ()", "200 [Content-Type: text/html] ");
}

#[test]
fn iterables() {
    check(
        "yield 'a'\nyield b'b\\xff'\nyield 3\nyield 'c'",
        "200 [Content-Type: text/html] ab\u{fffd}c",
    );
    check("return {'only'}", "200 [Content-Type: text/html] only");
    check(
        "return frozenset([b'only'])",
        "200 [Content-Type: text/html] only",
    );
    check("return range(3)", "200 [Content-Type: text/html] ");
    check(
        "async def items():\n    yield 'x'\n    yield b'y'\nreturn items()",
        "200 [Content-Type: text/html] xy",
    );
}

#[test]
fn response_objects() {
    let marked = "
class R:
    status_code = 418
    headers = {'X': 'y'}
    def get_data(self): return 'tea'
    def __flask_response__(self): return True
return R()";
    check(marked, "418 [X: y] tea");
    check(
        &marked.replace("return R()", "return R(), 200, {'x': 'z'}"),
        "200 [x: z] tea",
    );
    // The shape of werkzeug.Response, which need not be installed here.
    let werkzeug = "
class Headers:
    def items(self): return iter([('Content-Type', 'text/csv'), ('A', '1'), ('A', '2')])
class R:
    status_code = 202
    headers = Headers()
    is_streamed = False
    def get_data(self): return b'a,b'
return R()";
    check(werkzeug, "202 [Content-Type: text/csv; A: 1; A: 2] a,b");
}

/// What is streamed of a request whose function has this body, with what the worker is told meanwhile.
#[test]
fn generators_are_streamed_item_by_item() {
    for body in [
        "yield 'a'\nyield b'\\xff'\nyield 7\nyield ''\nyield bytearray(b'c')",
        "return iter(['a', b'\\xff', 7, '', memoryview(b'c')])",
        "async def items():\n    for item in ['a', b'\\xff', 7, '', 'c']: yield item\nreturn items()",
    ] {
        let finished = answer(body);
        assert_eq!(finished.returned(), None, "{body}");
        let streamed = finished.streamed.expect(body);
        assert_eq!(streamed.head.status, 200);
        assert_eq!(streamed.parts, [&b"a"[..], b"\xff", b"c"], "{body}");
    }
    // An empty first item makes the head leave.
    let finished = answer("yield ''\nyield 'a'");
    assert_eq!(finished.streamed.unwrap().parts, [&b""[..], b"a"]);
    // What has no items is not streamed.
    let finished = answer("return iter([]), 202, {'Content-Type': 'text/csv'}");
    assert!(finished.streamed.is_none());
    assert_eq!(finished.answered(), "202 [Content-Type: text/csv] ");
}

#[test]
fn an_item_leaves_before_the_next_is_made() {
    let source = "
import threading
go_on = threading.Event()
def process_request(api, parameters, headers, body, args):
    if 'go' in parameters:
        go_on.set()
        return 'gone'
    yield 'first'
    assert go_on.wait(30)
    yield 'second'
";
    // The same function is a generator for both: also what it returns is streamed.
    let source = source.replace("return 'gone'", "yield 'gone'\n        return");
    let mut session = Session::start();
    session.write_file("plugin.py", &source);
    let mut load = session.load_of(EntryPoint::Request, "plugin.py");
    load.concurrency = 2;
    assert_eq!(session.load(load), FromWorker::Loaded);
    let streaming = session.begin(request_work(&[], &[]), &[]);
    let frame = session.next();
    assert!(
        matches!(&frame.head, FromWorker::ResponseBegun { run, .. } if *run == streaming),
        "{frame:?}"
    );
    assert_eq!(frame.blob, "first");
    // Another run is not in its way, and lets it go on.
    session.begin(request_work(&[("go", "")], &[]), &[]);
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let frame = session.next();
        match frame.head {
            FromWorker::ResponseBegun { .. } | FromWorker::ResponsePart { .. } => {
                seen.push(String::from_utf8(frame.blob.to_vec()).unwrap());
            }
            FromWorker::Finished { outcome, .. } => {
                assert!(matches!(outcome, Outcome::Returned { .. }), "{outcome:?}");
                seen.push("end".to_owned());
            }
            other => panic!("{other:?}"),
        }
    }
    seen.sort();
    assert_eq!(seen, ["end", "end", "gone", "second"]);
}

#[test]
fn a_generator_waits_while_nobody_takes_its_items() {
    let mut session = Session::with_plugin(
        EntryPoint::Request,
        "
made = 0
def process_request(api, parameters, headers, body, args):
    global made
    for _ in range(64):
        made += 1
        yield b'x' * 100_000
    yield str(made)
",
    );
    let run = session.begin(request_work(&[], &[]), &[]);
    let mut received = Vec::new();
    let mut untaken = 0;
    loop {
        // Everything that may come without our taking it; only then is some taken.
        let Frame { head, blob } = session.next();
        received.extend_from_slice(&blob);
        untaken += blob.len();
        assert!(untaken <= RESPONSE_WINDOW_BYTES, "{untaken}");
        if untaken + 100_000 > RESPONSE_WINDOW_BYTES {
            let bytes = untaken as u64;
            session.send(&ToWorker::ResponseTaken { run, bytes }, &[]);
            untaken = 0;
        }
        match head {
            FromWorker::ResponseBegun { .. } | FromWorker::ResponsePart { .. } => {}
            FromWorker::Finished { outcome, .. } => {
                assert!(matches!(outcome, Outcome::Returned { .. }), "{outcome:?}");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(received.len(), 64 * 100_000 + 2);
    assert!(received.ends_with(b"64"));
}

#[test]
fn a_long_item_is_sent_in_parts() {
    let finished = answer("yield 'x' * 3_000_000\nyield 'y'");
    let parts = finished.streamed.unwrap().parts;
    let longest = parts.iter().map(bytes::Bytes::len).max().unwrap();
    assert!(longest <= RESPONSE_WINDOW_BYTES, "{longest}");
    let whole = parts.concat();
    assert!(whole.len() == 3_000_001 && whole.ends_with(b"xy"));
}

#[test]
fn a_failing_generator_fails_its_run_and_its_writes() {
    let finished = answer("api.write('m f=1')\nyield 'a'\nraise KeyError('k')");
    let failure = finished.failed();
    assert_eq!(failure.message, "KeyError: 'k'");
    assert!(
        failure
            .traceback
            .as_ref()
            .unwrap()
            .contains("raise KeyError('k')")
    );
    assert_eq!(finished.streamed.unwrap().parts, [&b"a"[..]]);
    let finished = answer("api.write('m f=1')\nyield 'a'\napi.write('m f=2')");
    assert_eq!(finished.written(), [(None, "m f=1\nm f=2".to_owned())]);
}

/// Streams until the first item has come, cancels the run, and gives what it logged until its end.
fn cancelled(concurrency: u32, body: &str) -> (Failure, Vec<String>) {
    let mut session = Session::start();
    let source = format!(
        "import asyncio, time\n{}",
        body.replace("PARAMETERS", "api, parameters, headers, body, args")
    );
    session.write_file("plugin.py", &source);
    let mut load = session.load_of(EntryPoint::Request, "plugin.py");
    load.concurrency = concurrency;
    assert_eq!(session.load(load), FromWorker::Loaded);
    // With more than one thread, the run is not on the main one.
    let blocker = (concurrency > 1).then(|| session.begin(request_work(&[("block", "")], &[]), &[]));
    let mut logs = Vec::new();
    if blocker.is_some() {
        while !matches!(session.next().head, FromWorker::Log { .. }) {}
    }
    let run = session.begin(request_work(&[], &[]), &[]);
    while !matches!(&session.next().head, FromWorker::ResponseBegun { run: begun, .. } if *begun == run) {}
    let reason = "the client has left".to_owned();
    session.send(&ToWorker::Cancel { run, reason }, &[]);
    loop {
        match session.next().head {
            FromWorker::Finished {
                run: ended,
                outcome: Outcome::Failed(failure),
            } if ended == run => return (failure, logs),
            FromWorker::Log { text, .. } => logs.push(text),
            FromWorker::ResponsePart { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_cancelled_stream_runs_its_finally_blocks() {
    let waiting_for_the_client = "
def process_request(PARAMETERS):
    try:
        while True: yield b'x' * 50_000
    finally:
        api.info('closed')
";
    let (failure, logs) = cancelled(1, waiting_for_the_client);
    assert_eq!(
        (failure.message.as_str(), logs),
        ("RunTimeout: the client has left", vec!["closed".to_owned()])
    );
    let asleep = waiting_for_the_client.replace("yield b'x' * 50_000", "yield b'x'; time.sleep(60)");
    assert_eq!(cancelled(1, &asleep).1, ["closed"]);
    let asynchronous = "
async def events(api):
    try:
        while True:
            yield 'x'
            await asyncio.sleep(60)
    finally:
        api.info('closed')
def process_request(PARAMETERS):
    if 'block' in parameters:
        api.info('blocking')
        time.sleep(60)
    return events(api)
";
    for concurrency in [1, 2] {
        let (failure, logs) = cancelled(concurrency, asynchronous);
        assert_eq!(
            (failure.message.as_str(), logs),
            ("RunTimeout: the client has left", vec!["closed".to_owned()]),
            "{concurrency}"
        );
    }
}

#[test]
fn the_request_itself_is_there_for_whoever_asks() {
    let mut session = Session::with_plugin(
        EntryPoint::Request,
        "
def process_request(api, parameters, headers, body, args):
    request = api.request
    return [request.method, request.path, request.query_string, request.headers, headers]
",
    );
    let work = request_work(&[], &[("x-a", "1"), ("x-a", "2")]);
    assert_eq!(
        session.run(work, &[]).answered(),
        r#"200 [Content-Type: application/json] ["PATCH", "/api/v3/engine/p", "a=1&b", [["x-a", "1"], ["x-a", "2"]], {"x-a": "2"}]"#
    );
    let mut scheduled = Session::with_plugin(
        EntryPoint::ScheduledCall,
        "def process_scheduled_call(api, call_time, args): api.info(api.request)\n",
    );
    assert_eq!(scheduled.schedule().logged(), ["None"]);
}

#[test]
fn what_is_no_answer() {
    check_bad("return None", "Unsupported return type from Python function");
    check_bad("return 5", "Unsupported return type from Python function");
    check_bad(
        "return 200, {'X': 'y'}, 'body'",
        "expected a dictionary in header item",
    );
    check_bad(
        "return {'a': {1}}",
        "TypeError: Object of type set is not JSON serializable",
    );
    check_bad("return 'a', 99", "ValueError: 99 is not an HTTP status");
    check_bad("return 'a', 600", "ValueError: 600 is not an HTTP status");
    check_bad("return 'a', 101", "ValueError: 101 is not an HTTP status");
    check_bad(
        "return 'a', {'bad name': 'x'}",
        "ValueError: \"bad name\" cannot be the name of a header",
    );
    check_bad(
        "return 'a', {'': 'x'}",
        "ValueError: \"\" cannot be the name of a header",
    );
    check_bad(
        "return 'a', {'X': ['fine', 'a\\r\\nSet-Cookie: b']}",
        "ValueError: the value of header X has characters that a header cannot carry: \"a\\r\\nSet-Cookie: b\"",
    );
    // Before the first item nothing has left, so it is an answer like any other.
    check_bad("raise KeyError('k')\nyield 'a'", "KeyError: 'k'");
    assert!(
        answer("return 'a', -1")
            .failed()
            .message
            .starts_with("OverflowError: ")
    );
    assert!(
        answer("return '\\ud800'")
            .failed()
            .message
            .starts_with("UnicodeEncodeError: ")
    );
}
