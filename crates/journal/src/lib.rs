//! A journal: rows in the order in which they were appended, kept in an object store for a while.
//!
//! **It is** an append-only collection of Arrow record batches of one schema, whose first column is the time of a row.
//! It holds what a server says about itself: logs, finished runs, batches that could not be processed.
//! [`Journal::append`] takes rows into memory, where they are visible at once; [`Journal::run`] writes them out, merges
//! small objects into larger ones, and lets go of rows that are too old or too many.
//!
//! **It is not** a table: it sorts nothing, has no keys, and knows no SQL. It **never** makes its writers wait and never
//! tells them of a failure, for whoever reports must not be stopped by the report: what does not fit into memory while
//! the store fails is dropped, oldest first, and counted. Those who need to know use [`Journal::append_durably`].
//!
//! Invariants:
//!
//! - A crash loses nothing but rows that were not flushed, and no row is ever there twice.
//! - An object is written once, whole, and never changed. Its name says which flushes it holds, so a merge that a crash
//!   interrupts leaves no doubt about what counts: the newest object that holds a flush. Opening reads names only.
//! - An object is removed only after everything that it took the place of, so nothing comes back.
//! - Memory and store are bounded, by sizes that do not depend on how well the rows compress. A journal of any age has
//!   some dozens of objects.
//! - A damaged or foreign object is skipped and named in the log. It fails neither an opening nor a scan.

#![deny(unsafe_code, missing_docs)]

mod check;
mod codec;
mod config;
mod error;
mod folder;
mod journal;
mod layout;
mod merge_plan;
mod object;
mod object_name;
mod ordered;
mod recovery;
mod scan;
mod state;
mod unflushed;
mod upkeep;

pub use check::check_object;
pub use config::{Clock, JournalConfig};
pub use error::JournalError;
pub use journal::{Journal, Stored};
pub use ordered::{OrderedScan, Snapshot};
