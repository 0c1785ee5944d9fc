//! Request triggers as HTTP sees them: methods, headers, bodies, bounds, and several processes behind one path
//! (`spec/engine.md` 0.10, 0.17, 2.5, 2.8).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tidemill_testkit::{ServerOptions, TestServer, eventually};

use crate::{PROGRAM, server};

const ECHO: &str = r#"
def process_request(influxdb3_local, query_parameters, request_headers, request_body, args=None):
    request = influxdb3_local.request
    return {
        "method": request.method,
        "path": request.path,
        "query": request.query_string,
        "headers": [pair for pair in request.headers if pair[0].startswith("x-") or pair[0] == "authorization"],
        "dict": request_headers.get("x-many"),
        "bytes": len(request_body),
    }, {"X-Echo": "grün", "X-Twice": ["1", "2"]}
"#;

async fn with_echo(settings: Value) -> TestServer {
    let server = server().await;
    server.put_plugin("echo.py", ECHO);
    server.create_database("d").await;
    let more = json!({"trigger_settings": settings});
    server
        .create_trigger("d", "echo", "echo.py", "request:a/echo", more)
        .await;
    server
}

#[tokio::test]
async fn methods_and_headers_reach_the_plugin_as_they_are() {
    let server = with_echo(json!({})).await;
    let url = "/api/v3/engine/a/echo?b=1&b=%20&c";
    let request = server.request(Method::POST, url).body("payload");
    let request = request
        .header("X-Many", "1")
        .header("X-Many", "2")
        .header("Authorization", "Bearer secret");
    let latin_1 = reqwest::header::HeaderValue::from_bytes(b"gr\xfcn").unwrap();
    let answer = server.send(request.header("X-Latin", latin_1)).await;
    assert_eq!(
        answer.json(),
        json!({
            "method": "POST", "path": "/api/v3/engine/a/echo", "query": "b=1&b=%20&c",
            "headers": [["x-many", "1"], ["x-many", "2"], ["x-latin", "grün"]],
            "dict": "2", "bytes": 7,
        })
    );
    assert_eq!(answer.header("x-echo"), Some("grün"));
    let twice = answer.headers.iter().filter(|(name, _)| name == "x-twice");
    assert_eq!(
        twice.map(|(_, value)| value.as_str()).collect::<Vec<_>>(),
        ["1", "2"]
    );

    let head = server.send(server.request(Method::HEAD, url)).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-type"), Some("application/json"));
    for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::TRACE] {
        let refused = server.send(server.request(method, url)).await;
        assert_eq!(
            (refused.status, refused.header("allow"), refused.json()),
            (
                405,
                Some("GET, POST, HEAD"),
                json!({"error": "Method not allowed"})
            )
        );
    }
    let unknown = server
        .send(server.request(Method::PUT, "/api/v3/engine/none"))
        .await;
    assert_eq!(unknown.status, 404);

    let update =
        json!({"db": "d", "trigger_name": "echo", "trigger_settings": {"methods": ["PUT", "DELETE"]}});
    let trigger = "/api/v3/configure/processing_engine_trigger";
    let updated = server
        .send(server.request(Method::PUT, trigger).json(&update))
        .await;
    assert_eq!(updated.status, 200, "{}", updated.text());
    for method in [Method::PUT, Method::DELETE] {
        let answer = server.send(server.request(method.clone(), url)).await;
        assert_eq!(answer.json()["method"], method.as_str());
    }
    let refused = server.get(url).await;
    assert_eq!(
        (refused.status, refused.header("allow")),
        (405, Some("PUT, DELETE"))
    );
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let server = with_echo(json!({"workers": 2})).await;
    let create = async |specification: &str, settings: Value| {
        let body = json!({
            "db": "d", "trigger_name": "t", "plugin_filename": "echo.py", "disabled": false,
            "trigger_specification": specification, "trigger_settings": settings,
        });
        let refused = server
            .post_json("/api/v3/configure/processing_engine_trigger", &body)
            .await;
        (
            refused.status,
            refused.json()["error"].as_str().unwrap_or_default().to_owned(),
        )
    };
    for (specification, settings, text) in [
        ("request:t", json!({"workers": 65}), "65 workers are too many"),
        (
            "request:t",
            json!({"methods": "BREW"}),
            "unknown HTTP method 'BREW'",
        ),
        (
            "every:1h",
            json!({"workers": 2}),
            "the setting 'workers' is for HTTP endpoints",
        ),
    ] {
        let (status, error) = create(specification, settings).await;
        assert!(status == 400 && error.contains(text), "{status} {error}");
    }
}

#[tokio::test]
async fn several_processes_answer_at_the_same_time() {
    let server = server().await;
    server.put_plugin(
        "pair.py",
        r#"
import os
import time


def process_request(influxdb3_local, query_parameters, request_headers, request_body, args=None):
    if "die" in query_parameters:
        os._exit(1)
    if "id" not in query_parameters:
        return str(os.getpid())
    cache, own, met = influxdb3_local.cache, query_parameters["id"], query_parameters["round"]
    cache.put(met + own, os.getpid(), use_global=True)
    for _ in range(100):
        other = cache.get(met + ("2" if own == "1" else "1"), use_global=True)
        if other is not None:
            return [os.getpid(), other]
        time.sleep(0.01)
    return "alone", 500
"#,
    );
    server.create_database("d").await;
    let more = json!({"trigger_settings": {"workers": 2}});
    server
        .create_trigger("d", "pair", "pair.py", "request:pair", more)
        .await;
    // Runs of one process come one after the other: together they are only with two, once both have started.
    let mut round = 0;
    let meet = async || {
        round += 1;
        let paths = [1, 2].map(|id| format!("/api/v3/engine/pair?id={id}&round={round}-"));
        let (first, second) = tokio::join!(server.get(&paths[0]), server.get(&paths[1]));
        (first.status == 200 && second.status == 200).then(|| (first.json(), second.json()))
    };
    let (first, second) = eventually("two processes answer", meet).await;
    assert!(first[0] != first[1], "{first} {second}");
    assert_eq!([&first[0], &first[1]], [&second[1], &second[0]]);
    // While one comes back, the other answers.
    assert_eq!(server.get("/api/v3/engine/pair?die=1").await.status, 500);
    for _ in 0..20 {
        assert_eq!(server.get("/api/v3/engine/pair").await.status, 200);
    }
}

#[tokio::test]
async fn two_hundred_requests_to_a_sleeping_trigger_hurt_nobody() {
    let options = ServerOptions {
        arguments: vec!["--run-timeout".to_owned(), "2s".to_owned()],
        ..ServerOptions::default()
    };
    let server = TestServer::start_with(PROGRAM, options).await;
    server.put_plugin(
        "sleep.py",
        "import time\ndef process_request(l, q, *a):\n    if 'awake' in q: return 'awake'\n    \
         l.info('asleep')\n    time.sleep(600)\n",
    );
    server.put_plugin("good.py", "def process_request(*a): return 'well'\n");
    server.create_database("d").await;
    server
        .create_trigger("d", "sleep", "sleep.py", "request:sleep", json!({}))
        .await;
    server
        .create_trigger("d", "good", "good.py", "request:good", json!({}))
        .await;
    assert_eq!(server.get("/api/v3/engine/good").await.text(), "well");
    let requests: Vec<_> = (0..200)
        .map(|_| tokio::spawn(server.request(Method::GET, "/api/v3/engine/sleep").send()))
        .collect();
    let asleep = async || {
        let log = server.plugin_log("d", "sleep").await;
        log.contains(&"INFO: asleep".to_owned()).then_some(())
    };
    eventually("the first one runs", asleep).await;
    let begun = Instant::now();
    for time in 1..=20 {
        server.write("d", &format!("m v=1 {time}")).await;
        assert_eq!(server.get("/api/v3/engine/good").await.text(), "well");
    }
    assert_eq!(
        server.query("d", "SELECT count(*) AS n FROM m").await,
        [json!({"n": 20})]
    );
    // Not a measurement: the requests above keep nothing waiting for their deadline.
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    for request in requests {
        let answer = request.await.unwrap().expect("an answer");
        assert_eq!(answer.status(), 504);
        assert_eq!(answer.headers()["content-type"], "application/json");
        let body: Value = answer.json().await.expect("JSON");
        assert_eq!(body, json!({"error": "the request was not answered within 2s"}));
    }
    let awake = async || (server.get("/api/v3/engine/sleep?awake").await.text() == "awake").then_some(());
    eventually("the trigger answers again", awake).await;
}

/// Sends a request as it stands and gives the answer up to its end.
fn raw(
    server: &TestServer,
    head: &str,
    send_body: impl FnOnce(&mut TcpStream) -> std::io::Result<()>,
) -> String {
    let mut stream = TcpStream::connect(server.address()).expect("the server listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a timeout can be set");
    stream.write_all(head.as_bytes()).expect("the head is taken");
    // A server that has refused a body need not take it.
    let _ = send_body(&mut stream);
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while !answer.windows(4).any(|window| window == b"\r\n\r\n") {
        let read = stream.read(&mut chunk).expect("an answer");
        assert!(
            read > 0,
            "the connection ended: {}",
            String::from_utf8_lossy(&answer)
        );
        answer.extend_from_slice(&chunk[..read]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_too_large_are_refused_early() {
    let server = with_echo(json!({})).await;
    let head = "POST /api/v3/engine/a/echo HTTP/1.1\r\nHost: localhost\r\n";
    let announced = format!("{head}Content-Length: 1073741824\r\nExpect: 100-continue\r\n\r\n");
    let answer = raw(&server, &announced, |_| Ok(()));
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    let chunk = [b"100000\r\n", &vec![b'x'; 1 << 20][..], b"\r\n"].concat();
    let too_long = |stream: &mut TcpStream| {
        for _ in 0..11 {
            stream.write_all(&chunk)?;
        }
        stream.write_all(b"0\r\n\r\n")
    };
    let answer = raw(&server, &chunked, too_long);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let answer = raw(&server, &chunked, |stream| {
        stream.write_all(&chunk)?;
        stream.write_all(b"0\r\n\r\n")
    });
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("\"bytes\": 1048576"),
        "{answer}"
    );
}
