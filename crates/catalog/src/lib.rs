//! The catalog: which databases, tables, columns and triggers there are, and what they are called.
//!
//! It is an append-only log of small records in the object store with periodic checkpoints, and the state they add up
//! to in memory. It is not a store of data, and it never knows HTTP, SQL, line protocol or Python: it keeps names,
//! types and definitions, and enforces the rules on them.
//!
//! Invariants:
//! - A state is immutable. Readers take it without a lock and keep it as long as they like.
//! - A change becomes visible only after its record is durable, and all of a transaction becomes visible at once.
//! - Transactions are serialised; a record that another process wrote is an error, never overwritten.
//! - Ids are never reused. A column keeps its name, kind and type for good. Every table has `time`.
//! - Start-up reads one checkpoint and a bounded tail, whatever the catalog's age.
#![deny(unsafe_code)]

mod catalog;
mod error;
mod ids;
mod limits;
mod names;
mod operation;
mod paged_map;
mod recorded;
mod schema;
mod state;
mod transaction;

pub use catalog::Catalog;
pub use error::CatalogError;
pub use ids::{ColumnId, DatabaseId, TableId};
pub use limits::Limits;
pub use names::{
    DATABASE_NAME_BYTES_MAX, DatabaseNameError, INTERNAL_DATABASE, NAME_BYTES_MAX, Strictness, TIME_COLUMN,
    is_reserved_column, validate_database_name,
};
pub use schema::{Column, Database, Deletion, KEPT_FOR_EVER_NS, Table};
pub use state::CatalogState;
pub use transaction::{Savepoint, Transaction};
