//! What goes over the wire, as seen by a server that keeps the bytes.

use std::{
    collections::BTreeMap,
    io::Read,
    num::NonZeroU32,
    sync::{Arc, Mutex},
};

use flate2::read::MultiGzDecoder;
use tidemill_client::{
    Client, ClientError, CreateTable, CreateTrigger, DeleteRows, Field, FileContent, Install, PluginFile,
    Precision, QueryRequest, TestSchedule, UpdateTrigger, Wanted, WriteOptions,
};
use tidemill_triggers::{StartAt, TriggerSettings};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// A server that answers one request a connection with the same answer, and keeps what it was asked.
struct Recorder {
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

#[derive(Debug, Clone)]
struct Request {
    /// Method and target.
    line: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Request {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Recorder {
    async fn start(status: &'static str, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = read_request(&mut stream).await;
                kept.lock().expect("no panic holds the lock").push(request);
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { url, requests }
    }

    fn client(&self) -> Client {
        Client::builder(&self.url)
            .token(Some("apiv3_secret".to_owned()))
            .build()
            .expect("a client")
    }

    fn last(&self) -> Request {
        let requests = self.requests.lock().expect("no panic holds the lock");
        requests.last().expect("a request").clone()
    }
}

async fn read_request(stream: &mut tokio::net::TcpStream) -> Request {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        assert!(stream.read_buf(&mut bytes).await.expect("a request") > 0);
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut lines = head.lines();
    let line = lines
        .next()
        .unwrap_or_default()
        .trim_end_matches(" HTTP/1.1")
        .to_owned();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers
        .get("content-length")
        .map_or(0, |text| text.parse().expect("a length"));
    let mut body = bytes.split_off(head_end + 4);
    while body.len() < length {
        assert!(stream.read_buf(&mut body).await.expect("a body") > 0);
    }
    Request { line, headers, body }
}

const OPTIONS: WriteOptions = WriteOptions {
    precision: Precision::Auto,
    accept_partial: true,
    no_sync: false,
    gzip: false,
};

#[tokio::test]
async fn writes() {
    let server = Recorder::start("204 No Content", "").await;
    let client = server.client();
    client.write_lp("my db", "m f=1".into(), &OPTIONS).await.unwrap();
    let request = server.last();
    assert_eq!(
        request.line,
        "POST /api/v3/write_lp?db=my+db&precision=auto&accept_partial=true&no_sync=false"
    );
    assert_eq!(request.headers["authorization"], "Bearer apiv3_secret");
    assert_eq!(request.text(), "m f=1");

    let options = WriteOptions {
        precision: Precision::Second,
        accept_partial: false,
        no_sync: true,
        gzip: true,
    };
    client.write_lp("db", "m f=2".into(), &options).await.unwrap();
    let request = server.last();
    assert!(
        request
            .line
            .ends_with("precision=second&accept_partial=false&no_sync=true")
    );
    assert_eq!(request.headers["content-encoding"], "gzip");
    let mut plain = String::new();
    MultiGzDecoder::new(&request.body[..])
        .read_to_string(&mut plain)
        .unwrap();
    assert_eq!(plain, "m f=2");
}

#[tokio::test]
async fn queries() {
    let server = Recorder::start("200 OK", "[{\"a\":1}]").await;
    let mut query = QueryRequest {
        database: "db".into(),
        query: "SELECT 1".into(),
        format: "json".into(),
        params: serde_json::Map::new(),
    };
    let answer = server.client().query_sql(&query).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "[{\"a\":1}]");
    let request = server.last();
    assert_eq!(request.line, "POST /api/v3/query_sql");
    assert_eq!(request.text(), r#"{"db":"db","q":"SELECT 1","format":"json"}"#);

    query.params.insert("host".into(), "a".into());
    server.client().query_sql(&query).await.unwrap();
    assert!(server.last().text().ends_with(r#","params":{"host":"a"}}"#));
}

#[tokio::test]
async fn databases_and_tables() {
    let server = Recorder::start("200 OK", "").await;
    let client = server.client();
    client.create_database("a", None).await.unwrap();
    assert_eq!(server.last().text(), r#"{"db":"a"}"#);
    client.create_database("a", Some("30d")).await.unwrap();
    assert_eq!(server.last().text(), r#"{"db":"a","retention_period":"30d"}"#);
    client.update_database("a", None).await.unwrap();
    assert_eq!(server.last().line, "PUT /api/v3/configure/database");
    assert_eq!(server.last().text(), r#"{"db":"a","retention_period":null}"#);
    client.list_databases("csv", true).await.unwrap();
    assert_eq!(
        server.last().line,
        "GET /api/v3/configure/database?format=csv&show_deleted=true"
    );
    client.delete_database("a", None).await.unwrap();
    assert_eq!(server.last().line, "DELETE /api/v3/configure/database?db=a");
    client.delete_database("a", Some("now")).await.unwrap();
    assert_eq!(
        server.last().line,
        "DELETE /api/v3/configure/database?db=a&hard_delete_at=now"
    );

    let table = CreateTable {
        db: "a".into(),
        table: "t".into(),
        tags: vec!["host".into()],
        fields: vec![Field {
            name: "f".into(),
            field_type: "float64".into(),
        }],
        retention_period: None,
    };
    client.create_table(&table).await.unwrap();
    assert_eq!(
        server.last().text(),
        r#"{"db":"a","table":"t","tags":["host"],"fields":[{"name":"f","type":"float64"}]}"#
    );
    client.delete_table("a", "t", None).await.unwrap();
    assert_eq!(server.last().line, "DELETE /api/v3/configure/table?db=a&table=t");
    client.update_table("a", "t", Some("infinite")).await.unwrap();
    assert_eq!(server.last().line, "PUT /api/v3/configure/table");
    assert_eq!(
        server.last().text(),
        r#"{"db":"a","retention_period":"infinite","table":"t"}"#
    );
}

#[tokio::test]
async fn rows_that_go_and_what_comes_back() {
    let server = Recorder::start("204 No Content", "").await;
    let rows = DeleteRows {
        db: "a".into(),
        table: "t".into(),
        start: Some("-5".into()),
        stop: None,
        predicate: Some("host = 'a'".into()),
    };
    server.client().delete_rows(&rows).await.unwrap();
    assert_eq!(server.last().line, "POST /api/v3/delete");
    assert_eq!(
        server.last().text(),
        r#"{"db":"a","table":"t","start":"-5","predicate":"host = 'a'"}"#
    );
    let server = Recorder::start("200 OK", r#"{"db":"a","table":"t"}"#).await;
    let client = server.client();
    assert_eq!(client.undelete_database("a-2", None).await.unwrap(), "a");
    assert_eq!(server.last().line, "POST /api/v3/configure/database/undelete");
    assert_eq!(server.last().text(), r#"{"db":"a-2","new_name":null}"#);
    assert_eq!(client.undelete_table("a", "t-2", Some("t")).await.unwrap(), "t");
    assert_eq!(server.last().line, "POST /api/v3/configure/table/undelete");
    assert_eq!(server.last().text(), r#"{"db":"a","new_name":"t","table":"t-2"}"#);
}

#[tokio::test]
async fn triggers_and_plugins() {
    let server = Recorder::start("200 OK", "").await;
    let client = server.client();
    let trigger = CreateTrigger {
        db: "a".into(),
        trigger_name: "t".into(),
        plugin_filename: "p.py".into(),
        trigger_specification: "all_tables".into(),
        trigger_settings: TriggerSettings {
            max_attempts: NonZeroU32::new(3),
            ..TriggerSettings::default()
        },
        trigger_arguments: None,
        disabled: false,
        start_at: Some(StartAt::Beginning),
    };
    client.create_trigger(&trigger).await.unwrap();
    let request = server.last();
    assert_eq!(request.line, "POST /api/v3/configure/processing_engine_trigger");
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(
        request.text(),
        concat!(
            r#"{"db":"a","trigger_name":"t","plugin_filename":"p.py","trigger_specification":"all_tables","#,
            r#""trigger_settings":{"run_async":false,"error_behavior":"log","max_attempts":3},"#,
            r#""trigger_arguments":null,"disabled":false,"start_at":"beginning"}"#
        )
    );
    let change = UpdateTrigger {
        db: "a".into(),
        trigger_name: "t".into(),
        trigger_settings: serde_json::from_str(r#"{"max_attempts":null,"run_async":true}"#).unwrap(),
        ..UpdateTrigger::default()
    };
    client.update_trigger(&change).await.unwrap();
    assert_eq!(
        server.last().line,
        "PUT /api/v3/configure/processing_engine_trigger"
    );
    assert_eq!(
        server.last().text(),
        r#"{"db":"a","trigger_name":"t","trigger_settings":{"max_attempts":null,"run_async":true}}"#
    );
    client.delete_trigger("a", "t", true).await.unwrap();
    assert_eq!(
        server.last().line,
        "DELETE /api/v3/configure/processing_engine_trigger?db=a&trigger_name=t&force=true"
    );
    client.enable_trigger("a", "t").await.unwrap();
    assert_eq!(
        server.last().line,
        "POST /api/v3/configure/processing_engine_trigger/enable?db=a&trigger_name=t"
    );
    client.disable_trigger("a", "t").await.unwrap();
    assert!(server.last().line.contains("/disable?"));

    let pass = FileContent::Text("pass".into());
    client.upload_plugin_file("p.py", &pass).await.unwrap();
    assert_eq!(server.last().line, "POST /api/v3/plugins/files");
    client.update_plugin_file("a", "t", &pass).await.unwrap();
    assert_eq!(server.last().line, "PUT /api/v3/plugins/files?db=a");
    assert_eq!(server.last().text(), r#"{"plugin_name":"t","content":"pass"}"#);
    let file = PluginFile {
        relative_path: "__init__.py".into(),
        content: pass,
    };
    let image = PluginFile {
        relative_path: "a.png".into(),
        content: FileContent::from(vec![0, 255]),
    };
    let files = [file, image];
    let expected = concat!(
        r#"[{"content":"pass","relative_path":"__init__.py"},"#,
        r#"{"content_base64":"AP8=","relative_path":"a.png"}]"#
    );
    client.replace_plugin_directory("a", "t", &files).await.unwrap();
    assert_eq!(server.last().line, "PUT /api/v3/plugins/directory?db=a");
    assert_eq!(
        server.last().text(),
        format!(r#"{{"files":{expected},"plugin_name":"t"}}"#)
    );
    client.upload_plugin_directory("p", &files).await.unwrap();
    assert_eq!(server.last().line, "POST /api/v3/plugins/directory");
    assert_eq!(
        server.last().text(),
        format!(r#"{{"files":{expected},"plugin_name":"p"}}"#)
    );

    let mut install = Install {
        wanted: Wanted::Packages(vec!["numpy".to_owned()]),
        find_links: Vec::new(),
        offline: false,
    };
    client.install(&install, |_| {}).await.unwrap();
    assert_eq!(server.last().text(), r#"{"packages":["numpy"]}"#);
    install = Install {
        wanted: Wanted::Requirements("/r.txt".to_owned()),
        find_links: vec!["/srv/wheels".to_owned()],
        offline: true,
    };
    client.install(&install, |_| {}).await.unwrap();
    assert_eq!(
        server.last().text(),
        r#"{"requirements_location":"/r.txt","find_links":["/srv/wheels"],"offline":true}"#
    );
}

#[tokio::test]
async fn an_installation_tells_what_is_going_on_and_how_it_ended() {
    let install = Install {
        wanted: Wanted::Packages(vec!["numpy".to_owned()]),
        find_links: Vec::new(),
        offline: false,
    };
    let check = async |body: &'static str| {
        let status = "200 OK\r\ncontent-type: application/x-ndjson";
        let server = Recorder::start(status, body).await;
        let mut lines = Vec::new();
        let client = server.client();
        let installed = client.install(&install, |line| lines.push(line.to_owned()));
        let installed = installed.await.map_err(|error| error.to_string());
        assert_eq!(server.last().headers["accept"], "application/x-ndjson");
        (installed, lines)
    };
    assert_eq!(
        check("{\"line\":\"one\"}\n{\"line\":\"two\"}\n{\"installed\":true}\n").await,
        (Ok(()), vec!["one".to_owned(), "two".to_owned()])
    );
    assert_eq!(
        check("{\"line\":\"one\"}\n{\"error\":\"no such package\"}\n").await,
        (Err("no such package".to_owned()), vec!["one".to_owned()])
    );
    let (installed, _) = check("{\"line\":\"one\"}\n").await;
    assert!(installed.unwrap_err().contains("did not say"));
}

#[tokio::test]
async fn dead_letters() {
    let server = Recorder::start("200 OK", r#"{"replayed":2,"failed":1}"#).await;
    let replayed = server.client().replay_dead_letters("a", "t", None).await.unwrap();
    assert_eq!((replayed.replayed, replayed.failed), (2, 1));
    let request = server.last();
    assert_eq!(
        request.line,
        "POST /api/v3/configure/processing_engine_trigger/dead_letters/replay"
    );
    assert_eq!(request.text(), r#"{"db":"a","run_ids":null,"trigger_name":"t"}"#);

    let server = Recorder::start("200 OK", r#"{"dropped":1}"#).await;
    let run_ids = ["w-1".to_owned()];
    let client = server.client();
    let dropped = client.drop_dead_letters("a", "t", Some(&run_ids)).await.unwrap();
    assert_eq!(dropped.dropped, 1);
    let request = server.last();
    assert_eq!(
        request.line,
        "POST /api/v3/configure/processing_engine_trigger/dead_letters/drop"
    );
    assert_eq!(
        request.text(),
        r#"{"db":"a","run_ids":["w-1"],"trigger_name":"t"}"#
    );
}

#[tokio::test]
async fn dry_runs_give_a_report() {
    let body = r#"{"trigger_time":null,"log_lines":["INFO: x"],"database_writes":{},"errors":[]}"#;
    let server = Recorder::start("200 OK", body).await;
    let test = TestSchedule {
        filename: "p.py".into(),
        database: "a".into(),
        schedule: None,
        cache_name: None,
        input_arguments: None,
    };
    let report = server.client().test_schedule(&test).await.unwrap();
    assert_eq!(report.log_lines, ["INFO: x"]);
    assert_eq!(report.trigger_time, Some(None));
    assert_eq!(server.last().text(), r#"{"filename":"p.py","database":"a"}"#);
}

#[tokio::test]
async fn a_path_of_the_host_stands_before_all_paths() {
    let server = Recorder::start("200 OK", "OK").await;
    let client = Client::builder(format!("{}/prefix/", server.url))
        .build()
        .unwrap();
    client.health().await.unwrap();
    assert_eq!(server.last().line, "GET /prefix/health");
    assert!(!server.last().headers.contains_key("authorization"));
}

#[tokio::test]
async fn errors_carry_status_and_text() {
    let server = Recorder::start("404 Not Found", "{\"error\":\"database not found\"}").await;
    let error = server.client().create_database("a", None).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "server responded with error [404 Not Found]: {\"error\":\"database not found\"}"
    );

    let server = Recorder::start("301 Moved Permanently", "").await;
    let error = server.client().health().await.unwrap_err();
    assert!(
        matches!(error, ClientError::Http { .. }),
        "a redirect is not followed"
    );

    let server = Recorder::start("200 OK", "not json").await;
    let error = server.client().ping().await.unwrap_err();
    assert!(matches!(error, ClientError::Answer(_)), "{error}");

    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let error = Client::builder(&url)
        .build()
        .unwrap()
        .health()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(&format!("no answer from {url}: Connection refused")),
        "{error}"
    );
}
