//! `POST /api/v3/write_lp`: statuses and bodies as clients know them (`spec/database.md` 1.4, 1.5).

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::Strategy;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use reqwest::Method;
use serde_json::json;

use crate::plain_server;

#[tokio::test]
async fn answers_of_the_write_endpoint() {
    let server = plain_server().await;
    let write = async |query: &str, body: &str| {
        let answer = server.post(&format!("/api/v3/write_lp{query}"), body).await;
        let body = if answer.body.is_empty() {
            json!(null)
        } else {
            answer.json()
        };
        (answer.status, body)
    };
    assert_eq!(write("?db=d", "cpu,host=a usage=1.5 1").await, (204, json!(null)));
    assert_eq!(
        write("", "cpu usage=1").await,
        (400, json!({"error": "missing query parameter 'db'"}))
    );
    assert_eq!(
        write("?precision=ns", "cpu usage=1").await,
        (400, json!({"error": "serde error: missing field `db`"}))
    );
    let (status, body) = write("?db=d&precision=foo", "cpu usage=1").await;
    assert_eq!(status, 400);
    let error = body["error"].as_str().unwrap();
    assert!(
        error.starts_with("serde error: unknown variant `foo`, expected one of `auto`, `s`"),
        "{error}"
    );
    let (_, body) = write("?db=d&accept_partial=yes", "cpu usage=1").await;
    assert_eq!(
        body,
        json!({"error": "serde error: provided string was not `true` or `false`"})
    );
    assert_eq!(
        write("?db=d", "\n# only a comment\n").await,
        (400, json!({"error": "incoming write was empty"}))
    );
    let (status, body) = write("?db=_internal", "cpu usage=1").await;
    assert_eq!(
        (status, body),
        (
            400,
            json!({"error": "db name did not start with a number or letter"})
        )
    );

    let conflict = "invalid column type for column 'usage', expected iox::column_type::field::float, got iox::column_type::field::string";
    let bad_line =
        json!({"error_message": conflict, "line_number": 3, "original_line": "cpu,host=b usage=\"bad\" 2"});
    let body = "\ncpu,host=a usage=2 2\ncpu,host=b usage=\"bad\" 2\ncpu,host=c usage=3 3";
    let partial = json!({"error": "partial write of line protocol occurred", "data": [bad_line]});
    assert_eq!(write("?db=d", body).await, (400, partial));
    let whole = json!({"error": "line protocol parsing error", "data": bad_line});
    assert_eq!(write("?db=d&accept_partial=false", body).await, (400, whole));
    assert_eq!(
        server
            .query("d", "SELECT host, usage FROM cpu ORDER BY host, time")
            .await,
        [
            json!({"host": "a", "usage": 1.5}),
            json!({"host": "a", "usage": 2.0}),
            json!({"host": "c", "usage": 3.0}),
        ]
    );
}

#[tokio::test]
async fn precisions_and_missing_timestamps() {
    let server = plain_server().await;
    for (precision, timestamp) in [
        ("s", 1_700_000_000_i64),
        ("ms", 1_700_000_000_000_i64),
        ("us", 1_700_000_000_000_000_i64),
        ("auto", 1_700_000_000_i64),
        ("second", 1_700_000_000_i64),
    ] {
        let lines = format!("t,p={precision} v=1 {timestamp}");
        let answer = server
            .post(&format!("/api/v3/write_lp?db=d&precision={precision}"), lines)
            .await;
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
    let rows = server.query("d", "SELECT DISTINCT time FROM t").await;
    assert_eq!(rows, [json!({"time": "2023-11-14T22:13:20"})]);
    server.write("d", "now v=1").await;
    let rows = server
        .query(
            "d",
            "SELECT count(*) AS n FROM now WHERE time > now() - INTERVAL '1 minute'",
        )
        .await;
    assert_eq!(rows, [json!({"n": 1})]);
}

#[tokio::test]
async fn gzip_and_size_limits() {
    let options = tidemill_testkit::ServerOptions {
        in_memory: true,
        without_plugins: true,
        arguments: vec!["--max-http-request-size".into(), "1000".into()],
        ..Default::default()
    };
    let server = tidemill_testkit::TestServer::start_with(crate::PROGRAM, options).await;
    let gzip = |text: &str| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let post = async |encoding: &str, body: Vec<u8>| {
        let request = server
            .request(Method::POST, "/api/v3/write_lp?db=d")
            .header("content-encoding", encoding);
        let answer = server.send(request.body(body)).await;
        (answer.status, answer.text())
    };
    // Two members, one after the other, are one body.
    let members = [gzip("m v=1 1\n"), gzip("m v=2 2\n")].concat();
    assert_eq!(post("gzip", members).await.0, 204);
    assert_eq!(
        server.query("d", "SELECT v FROM m ORDER BY time").await,
        [json!({"v": 1.0}), json!({"v": 2.0})]
    );
    let (status, text) = post("gzip", b"not gzip".to_vec()).await;
    assert!(
        status == 400 && text.contains("error decoding gzip stream"),
        "{status} {text}"
    );
    let (status, text) = post("br", vec![]).await;
    assert_eq!(
        (status, text.as_str()),
        (400, r#"{"error":"unacceptable content-encoding: br"}"#)
    );
    let too_large = (
        413,
        r#"{"error":"max request size (1000 bytes) exceeded"}"#.to_owned(),
    );
    assert_eq!(post("identity", vec![b' '; 1001]).await, too_large);
    assert_eq!(post("gzip", gzip(&" ".repeat(100_000))).await, too_large);
}

#[tokio::test]
async fn random_bodies_never_break_the_server() {
    let server = plain_server().await;
    let mut runner = TestRunner::deterministic();
    let almost_lines = "([a-c,= \\\\\"#\n0-9.tfiuT-]{0,40}\n?){0,6}";
    let strategies = [
        almost_lines,
        ".{0,200}",
        "(m,a=[a-z]{0,3} [a-d]=[0-9]{1,3}[iu]? ?[0-9]{0,20}\n){1,5}",
    ];
    for round in 0..1000 {
        let strategy = proptest::string::string_regex(strategies[round % strategies.len()]).unwrap();
        let body = strategy.new_tree(&mut runner).unwrap().current();
        let answer = server.post("/api/v3/write_lp?db=random", body.clone()).await;
        assert!(
            answer.status < 500,
            "{} {} for {body:?}",
            answer.status,
            answer.text()
        );
    }
    let answer = server
        .post("/api/v3/write_lp?db=random", vec![b'm', 0xff, 0xfe])
        .await;
    assert!(
        answer.status == 400 && answer.text().contains("body content is not valid utf8"),
        "{}",
        answer.text()
    );
    server.write("random", "alive v=1 1").await;
}
