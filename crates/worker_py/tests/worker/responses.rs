//! What `process_request` may return.

use tidemill_worker_proto::{EntryPoint, FailureKind};

use crate::harness::{Finished, Session};

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
    // The shape of werkzeug.Response, which need not be installed here.
    let werkzeug = "
class Headers:
    def items(self): return iter([('Content-Type', 'text/csv'), ('A', '1'), ('A', '2')])
class R:
    status_code = 202
    headers = Headers()
    direct_passthrough = True
    def get_data(self):
        assert not self.direct_passthrough
        return b'a,b'
return R()";
    check(werkzeug, "202 [Content-Type: text/csv; A: 1; A: 2] a,b");
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
    check_bad("yield 'a'\nraise KeyError('k')", "KeyError: 'k'");
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
