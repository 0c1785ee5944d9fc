//! The program: a server (`serve`) and every command that talks to one. Installed a second time as `influxdb3`.
//!
//! It **is** arguments, environment variables, texts and exit codes (`spec/database.md` 2, `spec/engine.md` 9). It **is
//! not** a place for business rules: `serve` fills in a configuration, every other command sends requests.
//!
//! Invariants:
//! - Only results go to standard output; progress, questions and failures go to standard error.
//! - A command that fails prints `<Verb> command failed: <error>` and exits with 1; wrong usage exits with 2.

mod author_package;
mod commands;
mod confirm;
mod connection;
mod environment;
mod failure;
mod format;
mod line_batches;
mod plugin_source;
mod print;
mod progress_line;

use std::process::ExitCode;

/// The allocator of the server: far faster than the system's where many threads build and drop batches.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The number of mimalloc's option `purge_delay`, which its bindings do not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// So long memory that is free is kept from the system. What becomes files is freed by the hundred megabytes, mostly on
/// threads that sleep from then on: with the allocator's own second, a server that ingests has an eighth more than it uses.
/// `MIMALLOC_PURGE_DELAY` in the environment says otherwise.
const PURGE_DELAY_MS: std::ffi::c_long = 10;

fn main() -> ExitCode {
    // SAFETY: sets an integer, before there is another thread.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, PURGE_DELAY_MS) };
    if let Err(error) = environment::load_dotenv() {
        print::error(&error);
        return ExitCode::FAILURE;
    }
    commands::run()
}
