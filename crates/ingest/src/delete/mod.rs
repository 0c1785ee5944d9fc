//! Deletes of rows by time and tags: from names and a text to ids and values, and into the log.

mod instant;
mod predicate;
mod request;
mod resolve;

pub use instant::{InstantError, parse_instant};
pub use predicate::PredicateError;
pub use request::{DeleteError, DeleteRequest};
