//! Whole-program tests: the real binary, real Python, real plugins, over HTTP and the command line.

mod arrow_tables;
mod authoring;
mod backup;
mod dead_letters;
mod deletions;
mod documentation;
mod http_query;
mod http_write;
mod isolation;
mod limits;
mod memory_and_disk;
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
