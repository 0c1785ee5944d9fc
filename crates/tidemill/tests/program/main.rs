//! Whole-program tests: the real binary, real Python, real plugins, over HTTP and the command line.

mod arrow_tables;
mod authoring;
mod backup;
mod dead_letters;
mod deletions;
mod documentation;
mod formats;
mod http_query;
mod http_write;
mod isolation;
mod kept_in_s3;
mod limits;
mod memory_and_disk;
mod node_ids;
mod observability;
mod packages;
mod plugin_api;
mod plugin_repository;
mod plugin_state;
mod plugin_user;
mod python_package;
mod recordings;
mod recovery;
mod request_http;
mod request_libraries;
mod request_streams;
mod request_triggers;
mod s3;
mod schedules;
mod stopping;
mod storage_kill;
mod storage_tables;
mod trigger_lifecycle;
mod write_triggers;

use tidemill_testkit::{ServerOptions, TestServer};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidemill");

/// A server with plugins, on files.
async fn server() -> TestServer {
    TestServer::start(PROGRAM).await
}

/// A server without plugins, in memory.
async fn plain_server() -> TestServer {
    let options = ServerOptions {
        in_memory: true,
        without_plugins: true,
        ..ServerOptions::default()
    };
    TestServer::start_with(PROGRAM, options).await
}

/// A server without plugins whose objects are where these arguments say.
async fn server_on(storage: Vec<String>, more: &[&str]) -> TestServer {
    let options = ServerOptions {
        without_plugins: true,
        object_store: Some(storage),
        arguments: more.iter().map(|argument| (*argument).to_owned()).collect(),
        ..ServerOptions::default()
    };
    TestServer::start_with(PROGRAM, options).await
}

/// A server that is expected to refuse: how it ends, and what it says.
async fn refused(storage: &[String]) -> (i32, String) {
    let node = [
        "--node-id",
        "test",
        "--http-bind",
        "127.0.0.1:0",
        "--without-auth",
    ];
    let output = tokio::process::Command::new(PROGRAM)
        .arg("serve")
        .args(node)
        .args(storage)
        .output()
        .await
        .expect("the program starts");
    let said = [output.stdout, output.stderr].concat();
    let code = output.status.code().unwrap_or(-1);
    (code, String::from_utf8_lossy(&said).into_owned())
}
