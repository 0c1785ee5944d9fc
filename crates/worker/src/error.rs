//! Errors of starting and feeding a worker.

use std::{io, path::PathBuf, time::Duration};

use tidemill_worker_proto::{PROTOCOL_VERSION, ProtocolError};

use crate::ExitReason;

/// Why a worker did not become ready. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The process could not be started; the interpreter is missing or cannot be executed.
    #[error("could not start {}: {source}", python.display())]
    Spawn {
        /// The interpreter.
        python: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The process ended before its first message.
    #[error("worker ended before it was ready ({reason}){}", indented(stderr))]
    Exited {
        /// How it ended.
        reason: ExitReason,
        /// The last lines of its standard error.
        stderr: String,
    },
    /// No first message within the deadline; the process was killed.
    #[error("worker did not report within {}{}", humantime::format_duration(*timeout), indented(stderr))]
    Silent {
        /// The deadline.
        timeout: Duration,
        /// The last lines of its standard error.
        stderr: String,
    },
    /// The first bytes were not a message; the process was killed.
    #[error("worker did not speak the protocol: {error}{}", indented(stderr))]
    Protocol {
        /// What was wrong with them.
        error: ProtocolError,
        /// The last lines of its standard error.
        stderr: String,
    },
    /// The first message was not `Hello`; the process was killed.
    #[error("worker's first message was not its version")]
    NoHello,
    /// The extension module belongs to another version of the server; the process was killed.
    #[error(
        "worker speaks protocol version {theirs}, this server speaks {PROTOCOL_VERSION}: \
         the extension module and the server are not of one installation"
    )]
    Version {
        /// What the worker said.
        theirs: u32,
    },
    /// The supervision itself failed, for example for lack of file descriptors.
    #[error("could not watch the worker: {0}")]
    Supervision(#[from] io::Error),
}

fn indented(stderr: &str) -> String {
    if stderr.is_empty() {
        return String::new();
    }
    format!(":\n{stderr}")
}

/// The worker has ended or is ending; nothing more can be sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the worker is gone")]
pub struct Gone;
