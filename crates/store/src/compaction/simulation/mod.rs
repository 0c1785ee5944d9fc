//! The planner against years of ingest, without files: what is rewritten how often, and what is left.

mod properties;
mod table;
mod workloads;
