//! Fetching from real repositories into a real cache.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cache_dir;
mod file;
mod http;
mod server;
