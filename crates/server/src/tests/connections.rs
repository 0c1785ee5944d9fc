//! Connections over a real socket, and clients that treat them badly.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::{BODY_BYTES_MAX, Server};
use crate::connections::{ConnectionLimits, serve};

const SOON: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_secs(20);

fn limits() -> ConnectionLimits {
    ConnectionLimits {
        connections_max: 10,
        head_max: LATE,
        write_stall_max: LATE,
        ping_interval: LATE,
    }
}

struct Listening {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    served: JoinHandle<()>,
}

impl Listening {
    async fn start(router: Router, limits: ConnectionLimits, drain_timeout: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let served = tokio::spawn(serve(listener, router, limits, stopped, drain_timeout));
        Self {
            address,
            stop,
            served,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// What comes until the connection ends.
async fn rest(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(LATE, stream.read_to_end(&mut rest)).await;
    read.expect("the connection ends in time").unwrap();
    String::from_utf8(rest).unwrap()
}

/// Reads until an answer with this short body has come.
async fn until(stream: &mut TcpStream, end: &str) {
    let mut read = String::new();
    while !read.ends_with(end) {
        let byte = tokio::time::timeout(LATE, stream.read_u8()).await;
        read.push(byte.expect("the answer comes in time").unwrap().into());
    }
}

fn hello() -> Router {
    Router::new().route("/", get(async || "hello"))
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test]
async fn silence_ends_a_connection() {
    let limits = ConnectionLimits {
        head_max: SOON,
        ..limits()
    };
    let server = Listening::start(hello(), limits, LATE).await;
    let mut silent = server.connect().await;
    assert_eq!(rest(&mut silent).await, "");
    let mut slow = server.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\nhos").await.unwrap();
    let answer = rest(&mut slow).await;
    assert!(!answer.contains("200"), "{answer}");
    let mut idle = server.connect().await;
    idle.write_all(REQUEST).await.unwrap();
    assert!(rest(&mut idle).await.ends_with("hello"));
}

#[tokio::test]
async fn a_slow_answer_is_not_silence() {
    let limits = ConnectionLimits {
        head_max: SOON,
        write_stall_max: SOON,
        ..limits()
    };
    let slow = async || {
        tokio::time::sleep(SOON * 4).await;
        "slow"
    };
    let server = Listening::start(Router::new().route("/", get(slow)), limits, LATE).await;
    let mut client = server.connect().await;
    client.write_all(REQUEST).await.unwrap();
    assert!(rest(&mut client).await.ends_with("slow"));
}

#[tokio::test]
async fn more_connections_than_there_may_be_wait() {
    let limits = ConnectionLimits {
        connections_max: 1,
        ..limits()
    };
    let server = Listening::start(hello(), limits, LATE).await;
    let mut first = server.connect().await;
    first.write_all(REQUEST).await.unwrap();
    until(&mut first, "hello").await;
    let mut second = server.connect().await;
    second.write_all(REQUEST).await.unwrap();
    let early = tokio::time::timeout(SOON, second.read_u8()).await;
    assert!(early.is_err(), "the second is not answered beside the first");
    drop(first);
    until(&mut second, "hello").await;
}

#[tokio::test]
async fn a_stop_lets_requests_finish_and_closes_idle_connections() {
    let (begun, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = {
        let (begun, finish) = (Arc::clone(&begun), Arc::clone(&finish));
        move || async move {
            begun.notify_one();
            finish.notified().await;
            "finished"
        }
    };
    let router = hello().route("/slow", get(slow));
    let server = Listening::start(router, limits(), LATE).await;
    let mut idle = server.connect().await;
    idle.write_all(REQUEST).await.unwrap();
    until(&mut idle, "hello").await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    begun.notified().await;

    server.stop.send_replace(true);
    assert_eq!(rest(&mut idle).await, "");
    finish.notify_one();
    assert!(rest(&mut busy).await.ends_with("finished"));
    server.served.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let begun = Arc::new(Notify::new());
    let endless = {
        let begun = Arc::clone(&begun);
        move || async move {
            begun.notify_one();
            std::future::pending::<&str>().await
        }
    };
    let server = Listening::start(Router::new().route("/", get(endless)), limits(), SOON).await;
    let mut busy = server.connect().await;
    busy.write_all(REQUEST).await.unwrap();
    begun.notified().await;
    server.stop.send_replace(true);
    server.served.await.unwrap();
    assert_eq!(rest(&mut busy).await, "");
}

#[tokio::test]
async fn a_client_in_the_middle_of_a_body_that_is_too_large_learns_so() {
    let router = Server::start().await.router;
    let server = Listening::start(router, limits(), LATE).await;
    let body = vec![b'x'; 100 * BODY_BYTES_MAX];
    for path in ["/api/v3/write_lp?db=d", "/write?db=d", "/api/v2/write"] {
        let mut client = server.connect().await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&body).await.unwrap();
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{path}: {answer}");
        assert!(path.ends_with("v2/write") || answer.contains(" 413 "), "{answer}");
    }
}

#[tokio::test]
async fn both_versions_of_http_are_spoken_on_one_port() {
    let server = Listening::start(hello(), limits(), LATE).await;
    let mut client = server.connect().await;
    // The preface and an empty SETTINGS frame; the server answers with its SETTINGS frame (type 4).
    client
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let mut frame = [0; 9];
    client.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[3], 4);
}
