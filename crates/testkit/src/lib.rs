//! Real servers for tests: the built program, on a free port, in a temporary folder, with real Python.
//!
//! It **is** a way to start, kill and restart a server, to talk to it over HTTP and through the command line, and to wait
//! for a condition; and an object store in memory that fails on demand. Only tests depend on it.
//!
//! Invariants:
//! - Nothing is left running: a server ends with its [`TestServer`], with SIGKILL if need be.
//! - Waiting has a deadline and says what it waited for; nothing sleeps to synchronise.

mod faulty_store;
mod fixtures;
mod s3_server;
mod server;
mod venv;
mod wait;

pub use faulty_store::{Fault, FaultyStore};
pub use fixtures::{load_objects, save_objects};
pub use s3_server::S3Server;
pub use server::{Answer, CommandOutput, ServerOptions, TestServer};
pub use venv::{shared_venv, venv_with};
pub use wait::{WAIT_MAX, eventually};
