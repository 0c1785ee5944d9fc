//! How a worker ended.

use std::{fmt, os::unix::process::ExitStatusExt, process::ExitStatus};

use rustix::process::Signal;
use tidemill_worker_proto::EXIT_CONNECTION_CLOSED;

/// How a worker ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitReason {
    /// By itself, or as asked for by `Shutdown`.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// By a signal that the server did not send: a segmentation fault, the kernel short of memory, an operator.
    Signalled {
        /// Number of the signal.
        signal: i32,
        /// Its name, for example `SIGSEGV`; `unknown signal` for one without.
        name: &'static str,
    },
    /// It sent what is not a frame, or was to be sent what does not fit one, and was killed for it.
    ProtocolError {
        /// What was wrong.
        error: String,
    },
    /// The server killed it.
    Killed(KillCause),
}

/// Why the server killed a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KillCause {
    /// [`Worker::kill`](crate::Worker::kill) or [`Worker::dump_stacks_and_kill`](crate::Worker::dump_stacks_and_kill).
    Requested,
    /// The grace period of [`Worker::stop`](crate::Worker::stop) ran out.
    GraceExpired,
    /// The [`Worker`](crate::Worker) was dropped.
    Dropped,
    /// It closed its end of the socket and went on running.
    ConnectionClosed,
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited {
                code: EXIT_CONNECTION_CLOSED,
            } => f.write_str("ended, since the plugin has closed its connection to the server"),
            Self::Exited { code } => write!(f, "exited with code {code}"),
            Self::Signalled { signal, name } => write!(f, "ended by signal {signal}, {name}"),
            Self::ProtocolError { error } => write!(f, "killed for breaking the protocol: {error}"),
            Self::Killed(cause) => write!(f, "killed: {cause}"),
        }
    }
}

impl fmt::Display for KillCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requested => "the server asked for it",
            Self::GraceExpired => "it did not stop within its grace period",
            Self::Dropped => "it was no longer needed",
            Self::ConnectionClosed => "it closed its connection to the server",
        })
    }
}

/// Why this crate sent the signal that ends a worker.
#[derive(Debug, Clone)]
pub(crate) enum OurCause {
    Kill(KillCause),
    Protocol(String),
}

/// Joins what the system reports with what we did. An exit code wins over a cause: the worker was faster than we.
pub(crate) fn exit_reason(status: ExitStatus, cause: Option<OurCause>) -> ExitReason {
    let Some(signal) = status.signal() else {
        return ExitReason::Exited {
            // A status has either a signal or a code; -1 cannot be mistaken for one.
            code: status.code().unwrap_or(-1),
        };
    };
    match cause {
        Some(OurCause::Kill(cause)) => ExitReason::Killed(cause),
        Some(OurCause::Protocol(error)) => ExitReason::ProtocolError { error },
        None => ExitReason::Signalled {
            signal,
            name: signal_name(signal),
        },
    }
}

fn signal_name(signal: i32) -> &'static str {
    const NAMES: [(Signal, &str); 16] = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::TERM, "SIGTERM"),
        (Signal::SYS, "SIGSYS"),
    ];
    NAMES
        .iter()
        .find(|(known, _)| known.as_raw() == signal)
        .map_or("unknown signal", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_wins_over_a_cause_and_a_cause_over_a_signal() {
        let exited = ExitStatus::from_raw(3 << 8);
        let killed = ExitStatus::from_raw(9);
        let cause = Some(OurCause::Kill(KillCause::Requested));
        assert_eq!(exit_reason(exited, cause.clone()), ExitReason::Exited { code: 3 });
        assert_eq!(
            exit_reason(killed, cause),
            ExitReason::Killed(KillCause::Requested)
        );
        let reason = exit_reason(ExitStatus::from_raw(11), None);
        assert_eq!(reason.to_string(), "ended by signal 11, SIGSEGV");
    }
}
