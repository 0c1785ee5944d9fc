//! The processing engine: runs triggers.
//!
//! It **is** the only place where triggers, worker processes, the write path and queries meet: it starts and stops
//! triggers, reads the log behind the commit for them, hands runs to their workers, answers what plugins ask for, and
//! commits what they wrote. It **is not** an interpreter, a parser, a log or a server: it knows no Python, no HTTP and no
//! files other than plugins.
//!
//! ```text
//! trigger_task: one task a trigger
//!   ├─ worker_session: its worker process, supervised; session_events: what the worker says
//!   └─ writes_runner | schedule_runner | request_runner: when to run, and on what
//!        └─ run_execution → error_behavior: attempts, and what becomes of failures
//! ```
//!
//! Invariants:
//! - Nothing that a plugin does delays anything but its own trigger: no lock is held while a worker is waited for, every
//!   wait for a worker has a deadline, and stopping a trigger takes at most two grace periods.
//! - A trigger's position moves only over runs that have finished, and the writes of a run are committed in one record
//!   with its position.
//! - What runs follows the catalog: one function ([`Engine`]'s `settle`) starts and stops triggers, and it does nothing
//!   else than make them agree.

mod allowance;
mod captured_writes;
mod clock;
mod config;
mod crash_loop;
mod dead_letter_requests;
mod dead_letters;
mod effects;
mod engine;
mod error;
mod error_behavior;
mod file_content;
mod global_cache;
mod held_removals;
mod journals;
mod kept_rows;
mod launcher;
mod memory_limit;
mod observations;
mod pending_runs;
mod plugin_calls;
mod plugin_files;
mod plugin_logs;
mod plugin_state;
mod python_launcher;
mod recording;
mod request_completion;
mod request_runner;
mod requests;
mod response_stream;
mod row_batches;
mod run_execution;
mod run_history;
mod schedule_runner;
mod server_log;
mod services;
mod session_events;
mod stored_folders;
mod system_tables;
mod test_runs;
mod test_worker;
#[cfg(test)]
mod tests;
mod trigger_report;
mod trigger_stats;
mod trigger_task;
mod worker_session;
mod writes_runner;

pub use config::EngineConfig;
pub use dead_letter_requests::{Dropped, Replayed, SelectDeadLetters};
pub use dead_letters::DeadLetters;
pub use engine::Engine;
pub use error::{EngineError, EngineErrorKind};
pub use file_content::FileContent;
pub use held_removals::RemovalsHeld;
pub use journals::Journals;
pub use observations::Observations;
pub use plugin_files::PluginFileError;
pub use recording::{RecordedRun, RecordingHead};
pub use request_runner::{
    PluginBody, PluginRequest, PluginResponse, REQUEST_PATH_PREFIX, RequestError, RequestTrigger,
};
pub use requests::{
    CreateTrigger, DirectoryFile, InstallPackages, InstallRequirements, RecordNext, ReplaceDirectory,
    StartRecording, TestReport, TestRequest, TestResponse, TestSchedule, TestWal, TriggerTime, UpdateFile,
    UpdateTrigger, UploadDirectory, UploadFile,
};
pub use response_stream::{BrokenAnswer, ResponseStream};
pub use run_history::RunStatus;
pub use stored_folders::{StoredFolder, stored_folders};
pub use system_tables::EngineTables;
pub use tidemill_worker_proto::RequestMethod;
pub use trigger_report::{TriggerReport, TriggerState};
