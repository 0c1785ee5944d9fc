//! Request triggers: what a plugin is given and every form of its answer (`spec/engine.md` 2.5 to 2.8, 0.27).

use reqwest::Method;
use serde_json::json;
use tidemill_testkit::TestServer;

use crate::server;

const ANSWERS: &str = r#"
def process_request(influxdb3_local, query_parameters, request_headers, request_body, args=None):
    form = query_parameters.get("form")
    if form == "echo":
        return {"query": query_parameters, "body": request_body.decode(), "header": request_headers["x-test"],
                "secret": "authorization" in request_headers, "bytes": isinstance(request_body, bytes), "args": args}
    if form == "str": return "<b>hi</b>"
    if form == "list": return [1, "ü", None]
    if form == "status": return {"made": True}, 201
    if form == "headers": return "plain", 202, {"Content-Type": "text/plain", "X-Answer": "42"}
    if form == "headers_second": return ["x"], {"X-Answer": "7"}
    if form == "bytes": return b"\x00\xff"
    if form == "generator": return (part for part in ["a", "b", "c"])
    if form == "none": return None
    if form == "raise": raise KeyError("missing")
    if form == "order": return (200, {"X": "y"}, "body")
    if form == "exit": raise SystemExit(3)
"#;

async fn ask(server: &TestServer, query: &str) -> (u16, String, String) {
    let answer = server.get(&format!("/api/v3/engine/answers?form={query}")).await;
    (
        answer.status,
        answer.header("content-type").unwrap_or_default().to_owned(),
        answer.text(),
    )
}

#[tokio::test]
async fn every_form_of_answer() {
    let server = server().await;
    server.put_plugin("answers.py", ANSWERS);
    server.create_database("d").await;
    server
        .create_trigger("d", "answers", "answers.py", "request:answers", json!({}))
        .await;
    let answer =
        |status: u16, content_type: &str, body: &str| (status, content_type.to_owned(), body.to_owned());

    let request = server.request(
        Method::POST,
        "/api/v3/engine/answers?form=echo&a=1&a=2&plus=x+y%20z&flag",
    );
    let request = request
        .header("X-Test", "v")
        .header("Authorization", "Bearer secret")
        .body("payload");
    assert_eq!(
        server.send(request).await.json(),
        json!({
            "query": {"form": "echo", "a": "2", "plus": "x y z", "flag": ""},
            "body": "payload", "header": "v", "secret": false, "bytes": true, "args": null,
        })
    );
    assert_eq!(ask(&server, "str").await, answer(200, "text/html", "<b>hi</b>"));
    assert_eq!(
        ask(&server, "list").await,
        answer(200, "application/json", "[1, \"\\u00fc\", null]")
    );
    assert_eq!(
        ask(&server, "status").await,
        answer(201, "application/json", "{\"made\": true}")
    );
    assert_eq!(ask(&server, "headers").await, answer(202, "text/plain", "plain"));
    assert_eq!(
        ask(&server, "headers_second").await,
        answer(200, "application/json", "[\"x\"]")
    );
    let headers = server.get("/api/v3/engine/answers?form=headers").await;
    assert_eq!(headers.header("x-answer"), Some("42"));
    assert_eq!(
        server.get("/api/v3/engine/answers?form=bytes").await.body,
        [0x00, 0xff]
    );
    assert_eq!(ask(&server, "generator").await.2, "abc");
    for (form, expected) in [
        ("none", "Unsupported return type from Python function"),
        ("raise", "Python function call failed: KeyError: 'missing'"),
        ("exit", "Python function call failed: SystemExit: 3"),
    ] {
        let (status, content_type, body) = ask(&server, form).await;
        assert_eq!(
            (status, content_type.as_str()),
            (500, "application/json"),
            "{form}: {body}"
        );
        let error: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(error["error"], expected, "{form}");
    }
    assert_eq!(ask(&server, "order").await.0, 500);
    let unknown = server.get("/api/v3/engine/nothing").await;
    assert_eq!(
        (unknown.status, unknown.json()),
        (404, json!({"error": "not found"}))
    );
    assert_eq!(
        server
            .send(server.request(Method::DELETE, "/api/v3/engine/answers"))
            .await
            .status,
        405
    );
}

#[tokio::test]
async fn paths_are_unique_and_freed() {
    let server = server().await;
    server.put_plugin("one.py", "def process_request(*a): return 'one'\n");
    server.put_plugin("two.py", "def process_request(*a): return 'two'\n");
    server.create_database("d").await;
    server.create_database("e").await;
    server
        .create_trigger("d", "one", "one.py", "request:a/b", json!({}))
        .await;
    assert_eq!(server.get("/api/v3/engine/a/b").await.text(), "one");
    let body = json!({"db": "e", "trigger_name": "two", "plugin_filename": "two.py", "trigger_specification": "request:a/b", "disabled": false});
    assert_eq!(
        server
            .post_json("/api/v3/configure/processing_engine_trigger", &body)
            .await
            .status,
        409
    );
    let delete = "/api/v3/configure/processing_engine_trigger?db=d&trigger_name=one";
    let answer = server.send(server.request(Method::DELETE, delete)).await;
    let running = "Cannot delete running plugin one. Disable it first or use --force.";
    assert_eq!((answer.status, answer.json()), (409, json!({"error": running})));
    assert_eq!(
        server
            .send(server.request(Method::DELETE, &format!("{delete}&force=true")))
            .await
            .status,
        200
    );
    assert_eq!(server.get("/api/v3/engine/a/b").await.status, 404);
    assert_eq!(
        server
            .post_json("/api/v3/configure/processing_engine_trigger", &body)
            .await
            .status,
        200
    );
    assert_eq!(server.get("/api/v3/engine/a/b").await.text(), "two");
}

#[tokio::test]
async fn a_trigger_may_call_another_one() {
    let server = server().await;
    server.put_plugin("inner.py", "def process_request(*a): return {'inner': True}\n");
    server.put_plugin(
        "outer.py",
        "import json, urllib.request\n\
         def process_request(influxdb3_local, query_parameters, *rest):\n    \
             with urllib.request.urlopen(query_parameters['url'], timeout=10) as answer:\n        \
                 return {'outer': json.load(answer)}\n",
    );
    server.create_database("d").await;
    server
        .create_trigger("d", "inner", "inner.py", "request:inner", json!({}))
        .await;
    server
        .create_trigger("d", "outer", "outer.py", "request:outer", json!({}))
        .await;
    let url = format!("{}/api/v3/engine/inner", server.url());
    let answer = server
        .send(
            server
                .request(Method::GET, "/api/v3/engine/outer")
                .query(&[("url", url)]),
        )
        .await;
    assert_eq!(answer.json(), json!({"outer": {"inner": true}}));
}
