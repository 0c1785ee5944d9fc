//! The query engine over a real catalog and store.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "measurements are printed")]

mod budget;
mod damage;
mod file_points;
mod files;
mod model;
mod points;
mod sql;
mod support;
mod system_tables;
