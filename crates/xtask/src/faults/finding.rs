//! What came of one fault: sentences for people, and checks that are met or not.

use std::fmt::Display;
use std::time::Duration;

/// What a fault's own measurement found.
#[derive(Default)]
pub(super) struct Finding {
    sentences: Vec<String>,
    violations: Vec<String>,
    /// Why it could not be tried with this server.
    skipped: Option<String>,
}

impl Finding {
    /// The server does not have what the fault needs.
    pub(super) fn skipped(reason: impl Into<String>) -> Self {
        Finding {
            skipped: Some(reason.into()),
            ..Finding::default()
        }
    }

    /// Something worth telling.
    pub(super) fn tell(&mut self, sentence: impl Into<String>) {
        self.sentences.push(sentence.into());
    }

    /// Something that must be so; where it is not, the fault counts as failed with `violation` as the reason.
    pub(super) fn require(&mut self, is_met: bool, violation: impl Into<String>) {
        if !is_met {
            self.violations.push(violation.into());
        }
    }

    /// A duration that has a limit, told and required.
    pub(super) fn within(&mut self, what: impl Display, took: Duration, limit: Duration) {
        self.tell(format!("{what} after {}", seconds(took)));
        self.require(
            took <= limit,
            format!("{what} after {}, more than {}", seconds(took), seconds(limit)),
        );
    }

    /// A value that has an upper limit.
    pub(super) fn at_most(&mut self, what: impl Display, value: f64, limit: f64, unit: &str) {
        self.require(
            value <= limit,
            format!("{what}: {value:.1} {unit}, more than {limit:.0} {unit}"),
        );
    }

    pub(super) fn sentences(&self) -> &[String] {
        &self.sentences
    }

    pub(super) fn violations(&self) -> &[String] {
        &self.violations
    }

    pub(super) fn skip_reason(&self) -> Option<&str> {
        self.skipped.as_deref()
    }

    /// Adds what was found elsewhere.
    pub(super) fn merge(&mut self, other: Finding) {
        self.sentences.extend(other.sentences);
        self.violations.extend(other.violations);
        self.skipped = self.skipped.take().or(other.skipped);
    }
}

/// `0.25 s`, and `12 s` from ten seconds on.
pub(super) fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 10.0 {
        format!("{seconds:.2} s")
    } else {
        format!("{seconds:.0} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_too_long_is_told_and_is_a_violation() {
        let mut finding = Finding::default();
        let limit = Duration::from_secs(5);
        finding.within("disabled", Duration::from_millis(250), limit);
        finding.within("deleted", Duration::from_secs(12), limit);
        assert_eq!(
            finding.sentences(),
            ["disabled after 0.25 s", "deleted after 12 s"]
        );
        assert_eq!(finding.violations(), ["deleted after 12 s, more than 5.00 s"]);
    }
}
