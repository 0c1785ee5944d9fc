//! Request triggers: answers, errors and the bounds of the queue.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use tidemill_worker_proto::Work;

use super::fake_python::{Action, FakePython};
use super::{Server, trigger};
use crate::{EngineErrorKind, PluginBody, PluginRequest, PluginResponse, RequestError};

fn request(name: &str) -> PluginRequest {
    PluginRequest {
        query_parameters: vec![("name".to_owned(), name.to_owned())],
        ..PluginRequest::default()
    }
}

impl Server {
    async fn ask(&self, path: &str, request: PluginRequest) -> Result<PluginResponse, RequestError> {
        self.engine.handle_request(path, request).await
    }
}

/// The body of an answer that came in one piece.
fn whole(answer: &PluginResponse) -> &[u8] {
    match &answer.body {
        PluginBody::Whole(body) => body,
        PluginBody::Stream(_) => panic!("the answer is streamed"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_answered_and_logged() {
    let python = FakePython::new(|call| {
        let Work::Request(head) = &call.work else {
            panic!("not a request")
        };
        if head.query_parameters[0].1 == "bad" {
            Action::Raise("no")
        } else {
            Action::Respond(201, "hello")
        }
    });
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "request:a/b").await;
    let answer = server.ask("a/b", request("good")).await.unwrap();
    assert_eq!((answer.status, whole(&answer)), (201, &b"hello"[..]));
    let error = server.ask("a/b", request("bad")).await.unwrap_err();
    assert_eq!(error.status(), 500);
    assert_eq!(
        error.body(),
        r#"{"error":"Python function call failed: ValueError: no"}"#
    );
    assert_eq!(
        server.log("db").await,
        [
            "INFO starting execution of request plugin.",
            "INFO finished execution in",
            "INFO starting execution of request plugin.",
            "ERROR error running request plugin: Python function call failed: ValueError: no",
        ]
    );
    for path in ["a", "a/b/", "A/B", "", "/a/b"] {
        let error = server.ask(path, request("x")).await.unwrap_err();
        assert_eq!(
            (error.status(), error.body().as_str()),
            (404, r#"{"error":"not found"}"#),
            "{path}"
        );
    }
    server.engine.disable_trigger("db", "t").await.unwrap();
    assert_eq!(
        server.ask("a/b", request("x")).await.unwrap_err(),
        RequestError::NotFound
    );
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_belongs_to_one_trigger() {
    let python = FakePython::new(|_| Action::Respond(200, ""));
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.write("other", "cpu x=0 1").await;
    server.create("t", "request:path").await;
    let mut second = trigger("u", "request:path");
    second.db = "other".to_owned();
    let error = server.engine.create_trigger(second).await.unwrap_err();
    assert_eq!(error.kind(), EngineErrorKind::Conflict, "{error}");
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_queue_the_answer_is_503_and_after_the_deadline_504() {
    let python = FakePython::new(|_| Action::Hang);
    let server = Server::start_with(&python, |config| {
        config.request_queue_max = 3;
        config.request_timeout = Duration::from_millis(300);
    });
    let server = server.await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "request:slow").await;
    let waiting = (0..3).map(|_| {
        let engine = server.engine.clone();
        tokio::spawn(async move { engine.handle_request("slow", request("x")).await })
    });
    let waiting: Vec<_> = waiting.collect();
    python.calls(1).await;
    let mut busy = server.ask("slow", request("x")).await.unwrap_err();
    while matches!(busy, RequestError::TimedOut(_)) {
        busy = server.ask("slow", request("x")).await.unwrap_err();
    }
    for answer in waiting {
        let status = answer.await.unwrap().unwrap_err().status();
        assert!(status == 504 || status == 503 || status == 500, "{status}");
    }
    assert!(busy.status() == 503 && busy.retry_after().is_some(), "{busy}");
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_wait_are_bounded_together() {
    let python = FakePython::new(|_| Action::HangUntilCancelled);
    let server = Server::start_with(&python, |config| config.request_queue_bytes_max = 10).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "request:p").await;
    let with_body = |length: usize| PluginRequest {
        body: vec![b'x'; length].into(),
        ..PluginRequest::default()
    };
    let engine = server.engine.clone();
    // Alone it may be longer than the bound.
    let waiting = tokio::spawn(async move { engine.handle_request("p", with_body(11)).await });
    python.calls(1).await;
    let busy = server.ask("p", with_body(1)).await.unwrap_err();
    assert_eq!(busy.status(), 503);
    server.engine.disable_trigger("db", "t").await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap_err().status(), 500);
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_fails_its_requests_and_the_next_is_answered() {
    let python = FakePython::new(|call| {
        if call.number == 0 {
            Action::Exit(3)
        } else {
            Action::Respond(200, "back")
        }
    });
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "request:p").await;
    let error = server.ask("p", request("x")).await.unwrap_err();
    assert_eq!(
        error,
        RequestError::Failed("the plugin's process exited with code 3".to_owned())
    );
    let answer = loop {
        match server.ask("p", request("x")).await {
            Ok(answer) => break answer,
            Err(error) => assert!(
                matches!(error, RequestError::Busy { .. } | RequestError::Down),
                "{error}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    assert_eq!(whole(&answer), b"back");
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_python_the_answer_says_what_to_install() {
    let python = FakePython::new(|_| Action::Respond(200, "ok"));
    python.available.store(false, Ordering::SeqCst);
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "request:p").await;
    let error = server.ask("p", request("x")).await.unwrap_err();
    assert_eq!(
        (error.status(), error.to_string().as_str()),
        (503, "python_unavailable: install python3")
    );
    server
        .expect_log("db", "ERROR python_unavailable: install python3")
        .await;

    python.available.store(true, Ordering::SeqCst);
    server.engine.enable_trigger("db", "t").await.unwrap();
    while server.ask("p", request("x")).await.is_err() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    server.engine.shutdown().await;
}

/// A busy trigger gets a new process too, and nobody notices: neither who waits nor who comes meanwhile is turned away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_is_replaced_when_packages_change_and_no_request_is_lost() {
    let python = FakePython::new(|_| Action::Respond(200, "hello"));
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "request:path").await;
    server.engine.handle_request("path", request("x")).await.unwrap();
    assert_eq!(python.launches.load(Ordering::SeqCst), 1);
    let clients = (0..8).map(|_| {
        let engine = std::sync::Arc::clone(&server.engine);
        let python = std::sync::Arc::clone(&python);
        tokio::spawn(async move {
            while python.launches.load(Ordering::SeqCst) < 3 {
                engine.handle_request("path", request("x")).await.unwrap();
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    for launches in 2..=3 {
        server
            .engine
            .services
            .environment_changes
            .send_modify(|count| *count += 1);
        python.until_launched(launches).await;
    }
    for client in clients {
        client.await.unwrap();
    }
    server.engine.handle_request("path", request("x")).await.unwrap();
    server.engine.shutdown().await;
}

/// A run that is in flight ends before its process does, however long it takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_in_flight_is_not_cut_short_by_a_change_of_packages() {
    let python = FakePython::new(|call| match call.number {
        0 => Action::HangUntilCancelled,
        _ => Action::Respond(200, "anew"),
    });
    let server = Server::start_with(&python, |config| {
        config.request_timeout = Duration::from_secs(1);
    });
    let server = server.await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "request:path").await;
    let slow = {
        let engine = std::sync::Arc::clone(&server.engine);
        tokio::spawn(async move { engine.handle_request("path", request("x")).await })
    };
    python.calls(1).await;
    server
        .engine
        .services
        .environment_changes
        .send_modify(|count| *count += 1);
    assert_eq!(
        slow.await.unwrap().unwrap_err(),
        RequestError::TimedOut(Duration::from_secs(1))
    );
    python.until_launched(2).await;
    let answer = server.engine.handle_request("path", request("x")).await.unwrap();
    assert_eq!(whole(&answer), b"anew");
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_are_those_that_the_trigger_asks_for() {
    let python = FakePython::new(|call| {
        let Work::Request(head) = &call.work else {
            panic!("not a request")
        };
        Action::Respond(200, head.method.name())
    });
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "request:p").await;
    let mut other = trigger("u", "request:q");
    other.trigger_settings.methods = Some("PUT,DELETE".parse().unwrap());
    server.engine.create_trigger(other).await.unwrap();
    for (path, accepted, allowed) in [
        ("p", &["GET", "HEAD", "POST"][..], "GET, POST, HEAD"),
        ("q", &["PUT", "DELETE"][..], "PUT, DELETE"),
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "BREW", "get"] {
            match server.engine.request_trigger(path, method) {
                Ok(found) => {
                    assert!(accepted.contains(&method), "{path} {method}");
                    let request = PluginRequest {
                        method: found.method(),
                        ..PluginRequest::default()
                    };
                    let answer = found.handle(request).await.unwrap();
                    assert_eq!(whole(&answer), method.as_bytes());
                }
                Err(error) => {
                    assert!(!accepted.contains(&method), "{path} {method}");
                    assert_eq!((error.status(), error.allow()), (405, Some(allowed)));
                }
            }
        }
    }
    let mut misplaced = trigger("v", "every:1h");
    misplaced.trigger_settings.methods = Some("PUT".parse().unwrap());
    let error = server.engine.create_trigger(misplaced).await.unwrap_err();
    assert_eq!(error.kind(), EngineErrorKind::Invalid, "{error}");
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_ends_its_run_and_frees_its_place() {
    let python = FakePython::new(|call| match call.number {
        0 => Action::HangUntilCancelled,
        1 => Action::StreamUntilCancelled("begun"),
        _ => Action::Respond(200, "free"),
    });
    let server = Server::start_with(&python, |config| config.request_queue_max = 1).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "request:p").await;

    let engine = server.engine.clone();
    let waiting = tokio::spawn(async move { engine.handle_request("p", request("x")).await });
    python.calls(1).await;
    waiting.abort();
    // The place is free as soon as the run has ended, long before any deadline.
    let streaming = loop {
        match server.ask("p", request("x")).await {
            Ok(answer) => break answer,
            Err(error) => assert_eq!(error.status(), 503, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    let PluginBody::Stream(mut stream) = streaming.body else {
        panic!("not streamed")
    };
    assert_eq!(&stream.next().await.unwrap().unwrap()[..], b"begun");
    assert_eq!(server.ask("p", request("x")).await.unwrap_err().status(), 503);
    drop(stream);
    while server.ask("p", request("x")).await.is_err() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let left = "INFO the client left before the answer was complete; the run was ended.";
    let log = server.log("db").await;
    assert_eq!(log.iter().filter(|line| *line == left).count(), 2, "{log:?}");
    assert!(log.iter().all(|line| line.starts_with("INFO")), "{log:?}");
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_after_its_writes_and_breaks_where_they_fail() {
    let python = FakePython::new(|call| match call.number {
        0 => Action::Stream("whole", "derived v=1 7"),
        1 => Action::Stream("refused", "not a line"),
        _ => Action::Stream("longer than the limit of it", ""),
    });
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    let mut limited = trigger("t", "request:p");
    limited.trigger_settings.output_limit = Some(tidemill_triggers::ByteSize(20));
    server.engine.create_trigger(limited).await.unwrap();
    let streamed = async || {
        let answer = server.ask("p", request("x")).await.unwrap();
        let PluginBody::Stream(stream) = answer.body else {
            panic!("not streamed")
        };
        let parts: Vec<_> = stream.collect().await;
        let is_whole = parts.iter().all(Result::is_ok);
        let bytes: Vec<u8> = parts.into_iter().flatten().flatten().collect();
        (String::from_utf8(bytes).unwrap(), is_whole)
    };
    assert_eq!(streamed().await, ("whole".to_owned(), true));
    // No waiting: the writes came before the end.
    assert_eq!(server.query("db", "SELECT v FROM derived").await, ["1.0"]);
    assert_eq!(streamed().await, ("refused".to_owned(), false));
    assert_eq!(streamed().await, (String::new(), false));
    let log = server.log("db").await;
    let limit =
        "ERROR error running request plugin: the answer exceeds the trigger's output limit of 20 bytes";
    assert_eq!(log.last().map(String::as_str), Some(limit), "{log:?}");
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_ignores_the_window_is_cut_off() {
    let python = FakePython::new(|_| Action::Flood);
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    server.create("t", "request:p").await;
    let answer = server.ask("p", request("x")).await.unwrap();
    let error =
        "ERROR error running request plugin: the plugin's process sends more of its answer than is taken";
    server.expect_log("db", error).await;
    drop(answer);
    server.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_processes_share_a_path() {
    let python = FakePython::new(|call| {
        let Work::Request(head) = &call.work else {
            panic!("not a request")
        };
        match head.query_parameters[0].1.as_str() {
            "hang" => Action::HangUntilCancelled,
            "die" => Action::Exit(3),
            _ => Action::Respond(200, "ok"),
        }
    });
    let server = Server::start(&python).await;
    server.write("db", "cpu x=0 1").await;
    let mut double = trigger("t", "request:p");
    double.trigger_settings.workers = std::num::NonZeroU16::new(2);
    server.engine.create_trigger(double).await.unwrap();
    while server
        .engine
        .request_trigger("p", "GET")
        .unwrap()
        .ready_processes()
        < 2
    {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(whole(&server.ask("p", request("x")).await.unwrap()), b"ok");

    // One process is taken; all others go to the other one.
    let engine = server.engine.clone();
    let hanging = tokio::spawn(async move { engine.handle_request("p", request("hang")).await });
    python.calls(2).await;
    for _ in 0..10 {
        assert_eq!(whole(&server.ask("p", request("x")).await.unwrap()), b"ok");
    }
    hanging.abort();
    assert!(hanging.await.unwrap_err().is_cancelled());
    // The one that dies fails its own request only: the rest are answered at once by the other, without waiting for it to
    // come back.
    assert_eq!(server.ask("p", request("die")).await.unwrap_err().status(), 500);
    for _ in 0..10 {
        assert_eq!(whole(&server.ask("p", request("x")).await.unwrap()), b"ok");
    }
    server.engine.disable_trigger("db", "t").await.unwrap();
    assert_eq!(
        server.ask("p", request("x")).await.unwrap_err(),
        RequestError::NotFound
    );
    server.engine.shutdown().await;
}
