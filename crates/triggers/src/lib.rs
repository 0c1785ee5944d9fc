//! What a trigger is and how it moves: specifications, schedules, retries and cursors as plain state machines.
//!
//! This crate is: the parser of trigger specifications (`table:`, `all_tables`, `every:`, `cron:`, `request:`)
//! and of trigger arguments, the definition that the catalog keeps, the arithmetic of schedules, the back-off
//! between attempts, and the cursor of a trigger in the log.
//!
//! It never: starts a process, opens a socket, reads a clock, sleeps or draws from a global random source. Time
//! and seeds come in as arguments, so every behaviour here can be replayed in a test.
//!
//! Invariants:
//! - A [`TriggerSpec`] that exists is valid: it can be rendered, and parsing the rendering gives the same value.
//! - A [`Scheduler`] runs no instant before its time and, unless told to catch up on all, never two in one go: a stall
//!   does not become a burst.
//! - A [`Cursor`] only moves forward, and only over runs that have finished; it starts no run over what is finished.

mod arguments;
mod backoff;
mod byte_size;
mod cron;
mod cursor;
mod definition;
mod methods;
mod position;
mod schedule;
mod scheduler;
mod setting_scope;
mod settings;
mod settings_patch;
mod spec;
mod start_at;

pub use arguments::{ArgumentsError, parse_trigger_arguments};
pub use backoff::{Backoff, RetryPolicy};
pub use byte_size::{ByteSize, ByteSizeError};
pub use cron::{CronError, CronSchedule};
pub use cursor::{Cursor, RunTicket};
pub use definition::TriggerDefinition;
pub use methods::{Methods, UnknownMethod};
pub use position::{LogRange, Position};
pub use schedule::Schedule;
pub use scheduler::{CATCH_UP_MAX, Scheduler, Step};
pub use setting_scope::SettingError;
pub use settings::{
    CatchUp, ErrorBehavior, OUTPUT_LIMIT_MAX, RunTimeoutError, TriggerSettings, UnknownCatchUp,
    UnknownErrorBehavior, WORKERS_MAX, parse_run_timeout,
};
pub use settings_patch::SettingsPatch;
pub use spec::{PluginType, SpecError, TriggerSpec};
pub use start_at::{StartAt, StartAtError};
