//! Fewer and larger files: what is rewritten when, and how. Also what else is done to files in the background: those
//! whose rows have expired or were deleted are removed, and objects that hold no data any more.

mod background;
mod compactor;
mod cuts;
mod error;
mod garbage;
mod history;
mod overlap;
mod paced_objects;
mod plan;
mod policy;
mod run;
#[cfg(test)]
mod simulation;
mod throttle;
mod time_histogram;

pub use background::{BackgroundCompaction, CompactionConfig};
pub use compactor::Compactor;
pub use error::CompactionError;
pub use history::{CompactionRecord, CompactionStats};
pub use plan::CompactionReason;
pub use policy::CompactionPolicy;
