//! How a command fails.

use std::{fmt, io, path::PathBuf, process::ExitCode};

use tidemill_client::ClientError;

use crate::print;

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// A request failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file of this machine cannot be read or written.
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// Standard input or output cannot be read or written.
    #[error("{stream}: {source}")]
    Stream { stream: &'static str, source: io::Error },
    /// The server ended with an error, or did not start.
    #[error(transparent)]
    Serve(#[from] tidemill_server::ServeError),
    /// A backup cannot be taken or restored.
    #[error(transparent)]
    Backup(#[from] tidemill_backup::BackupError),
    /// Nothing can be said about what a node stores.
    #[error(transparent)]
    Verify(#[from] tidemill_backup::verify::VerifyError),
    /// Options that do not go together, which the parser cannot know.
    #[error("{0}")]
    Usage(String),
    /// Anything that needs no more than its text.
    #[error("{0}")]
    Message(String),
}

impl CommandError {
    pub(crate) fn message(text: impl Into<String>) -> Self {
        Self::Message(text.into())
    }

    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |source| Self::File { path, source }
    }

    pub(crate) fn stream(stream: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Stream { stream, source }
    }

    /// Whether whoever read our output has gone, as `head` does: no reason to complain.
    fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Stream { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// What was asked for, as the text of a failure names it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verb {
    Backup,
    Create,
    Delete,
    Disable,
    Drop,
    Enable,
    Install,
    Logs,
    Query,
    Record,
    Replay,
    Restore,
    Serve,
    Show,
    Test,
    Undelete,
    Update,
    Verify,
    Write,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Reports how a command ended.
pub(crate) fn exit_code(verb: Verb, result: Result<(), CommandError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        // As the parser says it.
        Err(CommandError::Usage(text)) => {
            print::error(&format!("error: {text}\n\nFor more information, try '--help'."));
            ExitCode::from(2)
        }
        Err(error) => {
            print::error(&format!("{verb} command failed: {error}"));
            ExitCode::FAILURE
        }
    }
}
