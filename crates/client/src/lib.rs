//! The HTTP client that the command line talks to a server with.
//!
//! It **is** one method an endpoint (`spec/database.md` 1, `spec/engine.md` 8): it builds the request, sends it once and
//! gives the answer or says why there is none. It **is not** a library for applications: it does not batch, retry or
//! parse query results.
//!
//! Invariants:
//! - A request is sent at most once; redirects are not followed, since they would carry the token elsewhere.
//! - An answer with an error status is a [`ClientError::Http`] that carries the body as it came.

mod builder;
mod client;
mod error;
mod lifecycle;
mod precision;
mod query;
mod recording;
mod requests;

pub use builder::ClientBuilder;
pub use client::Client;
pub use error::ClientError;
pub use lifecycle::DeleteRows;
pub use precision::{Precision, UnknownPrecision};
pub use query::{QueryAnswer, QueryRequest};
pub use recording::RecordedLine;
pub use requests::{
    CreateTable, CreateTrigger, DroppedLetters, Field, FileContent, Install, Ping, PluginFile,
    ReplayedLetters, TestReport, TestRequest, TestResponse, TestSchedule, TestWal, UpdateTrigger, Wanted,
    WriteOptions,
};
