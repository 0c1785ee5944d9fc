//! Answers made by the real Flask and Werkzeug, from the package index (`spec/engine.md` 0.27).

use std::path::Path;
use std::process::Command;

use serde_json::json;
use tidemill_testkit::{ServerOptions, TestServer};

use crate::PROGRAM;

const ANSWERS: &str = r#"
import io

import flask
from werkzeug.wrappers import Response
from werkzeug.wsgi import FileWrapper

app = flask.Flask("answers")


def lines(influxdb3_local):
    try:
        yield "a,b\n"
        yield "1,2\n"
    finally:
        influxdb3_local.info("lines closed")


def process_request(influxdb3_local, query_parameters, request_headers, request_body, args=None):
    with app.test_request_context():
        match query_parameters["form"]:
            case "flask":
                response = flask.make_response("tea ü", 418)
                response.set_cookie("a", "1")
                response.set_cookie("b", "2")
                return response
            case "json":
                return flask.jsonify(error="none"), 404
            case "file":
                return flask.send_file(io.BytesIO(b"x" * 300_000), mimetype="application/x-test")
            case "stream":
                response = Response(lines(influxdb3_local), 202, mimetype="text/csv")
                response.call_on_close(lambda: influxdb3_local.info("response closed"))
                return response
            case "passthrough":
                body = FileWrapper(io.BytesIO(b"y" * 300_000))
                return Response(body, direct_passthrough=True, mimetype="text/plain")
            case "bytes":
                return Response(b"\x00\xff", mimetype="application/octet-stream")
"#;

/// A virtual environment with Flask; `None` where there is no package index.
fn flask_venv(folder: &Path) -> Option<()> {
    let run = |program: &Path, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).arg(folder).output();
        output.expect("Python with venv and pip is installed")
    };
    let made = run(Path::new("python3"), &["-m", "venv"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let pip = Command::new(folder.join("bin/python"))
        .args(["-m", "pip", "install", "--quiet", "--retries", "0", "flask"])
        .output()
        .expect("the environment has pip");
    pip.status.success().then_some(())
}

#[tokio::test]
async fn responses_of_flask_and_werkzeug_are_answers() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let venv = folder.path().join("venv");
    if flask_venv(&venv).is_none() {
        eprintln!("SKIPPED responses_of_flask_and_werkzeug_are_answers: flask cannot be installed here");
        return;
    }
    let options = ServerOptions {
        own_venv: true,
        arguments: vec![
            "--virtual-env-location".to_owned(),
            venv.to_str().expect("a path in UTF-8").to_owned(),
        ],
        ..ServerOptions::default()
    };
    let server = TestServer::start_with(PROGRAM, options).await;
    server.put_plugin("answers.py", ANSWERS);
    server.create_database("d").await;
    server
        .create_trigger("d", "answers", "answers.py", "request:answers", json!({}))
        .await;
    let ask = async |form: &str| server.get(&format!("/api/v3/engine/answers?form={form}")).await;

    let flask = ask("flask").await;
    assert_eq!((flask.status, flask.text().as_str()), (418, "tea ü"));
    assert_eq!(flask.header("content-type"), Some("text/html; charset=utf-8"));
    let cookies = flask.headers.iter().filter(|(name, _)| name == "set-cookie");
    assert_eq!(cookies.count(), 2);

    let json = ask("json").await;
    assert_eq!((json.status, json.json()), (404, json!({"error": "none"})));
    assert_eq!(json.header("content-type"), Some("application/json"));

    let file = ask("file").await;
    assert_eq!((file.status, file.body), (200, vec![b'x'; 300_000]));

    let stream = ask("stream").await;
    assert_eq!((stream.status, stream.text().as_str()), (202, "a,b\n1,2\n"));
    assert_eq!(stream.header("content-type"), Some("text/csv; charset=utf-8"));
    let log = server.plugin_log("d", "answers").await;
    for line in ["INFO: lines closed", "INFO: response closed"] {
        assert!(log.contains(&line.to_owned()), "{log:#?}");
    }
    assert_eq!(ask("passthrough").await.body, vec![b'y'; 300_000]);
    assert_eq!(ask("bytes").await.body, [0x00, 0xff]);
}
