//! SQL over what the store holds, through DataFusion.
//!
//! It is: a session for each query over names of the catalog, a scan of files and memory buffer that yields every point
//! once, system tables, parameters, and the one place where DataFusion's errors become ours. It is not: a parser of
//! SQL, a cache of results, a writer. It never changes the catalog or the store, and does not know HTTP, nor how files
//! are written or cached.
//!
//! Invariants:
//! - The last write of a point wins, field by field, whatever is projected or filtered: predicates that are applied
//!   before deduplication are functions of a point's key (tags and time) and of nothing else.
//! - All scans of one table within a query read the same snapshot, and everything applied before the query began is
//!   in it.
//! - An answer is whole or ends in an error; dropping it stops the work.
//! - Strings and tags reach the client as `Utf8` and `Dictionary(Int32, Utf8)`, times as nanoseconds without a zone.
#![deny(unsafe_code)]

mod answer;
mod bounded_functions;
mod buffer_part;
mod buffer_points;
mod buffer_scan;
mod catalog_tables;
mod complexity;
mod counts;
mod deduplicate;
mod described_files;
mod engine;
mod error;
mod file_bytes;
mod file_columns;
mod file_plan;
mod file_scan;
mod functions;
mod grouped_tags;
mod in_times;
mod intervals;
mod key_filter;
mod last_write_wins;
mod layout;
mod merge;
mod namespace;
mod outgoing;
mod params;
mod row_count;
mod row_deletes;
mod row_filter;
mod scan_plan;
mod session;
mod statement;
mod store_table;
mod system;
mod system_scan;
mod tag_numbers;
mod time_filter;
mod time_shares;
mod unchecked_files;
mod yield_after_joins;

pub use answer::{BatchStream, QueryOutput};
pub use counts::QueryCounts;
pub use engine::QueryEngine;
pub use error::{QueryError, QueryErrorKind};
pub use params::{ParamValue, Params};
pub use session::QueryConfig;
pub use system::{SystemRows, SystemScan, SystemTables};
