//! Why a task failed, in words for the person who started it.

use std::fmt::{self, Display};

/// A message that says what happened, to what, and where it helps what to do now.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Failure(message.into())
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says during what an error happened; an I/O error alone names no path and no server.
pub(crate) trait During<T> {
    /// The error as a [`Failure`] that begins with `what`.
    fn during(self, what: impl Display) -> Result<T, Failure>;
}

impl<T, E: Display> During<T> for Result<T, E> {
    fn during(self, what: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure(format!("{what}: {error}")))
    }
}
