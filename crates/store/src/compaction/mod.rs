//! Fewer and larger files: what is rewritten when, and how.

mod cuts;
mod overlap;
mod plan;
mod policy;
#[cfg(test)]
mod simulation;
mod time_histogram;

pub use plan::CompactionReason;
pub use policy::CompactionPolicy;
