//! What is really in force.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that a profile takes from a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Programs with the set-user-id bit give no other user's rights.
    NoNewPrivs,
    /// Short of memory, the kernel takes this process before others.
    OomScore,
    /// Other processes come first on a busy machine.
    Nice,
    /// Allocations fail beyond a limit.
    MemoryLimit,
    /// The process runs as the user that it was meant to run as.
    User,
    /// What root may do to the machine and past the measures below is given up; files and sockets are as before.
    Capabilities,
    /// Hidden paths are out of reach.
    HiddenPaths,
    /// Memory, environment and files of processes outside the sandbox are out of reach.
    OtherProcesses,
    /// Signals to processes outside the sandbox are refused.
    Signals,
    /// System calls that no plugin needs fail.
    SystemCalls,
    /// There are no sockets but Unix sockets.
    Network,
}

impl Measure {
    /// The name in texts and tables, for example `hidden_paths`.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoNewPrivs => "no_new_privs",
            Self::OomScore => "oom_score",
            Self::Nice => "nice",
            Self::MemoryLimit => "memory_limit",
            Self::User => "user",
            Self::Capabilities => "capabilities",
            Self::HiddenPaths => "hidden_paths",
            Self::OtherProcesses => "other_processes",
            Self::Signals => "signals",
            Self::SystemCalls => "system_calls",
            Self::Network => "network",
        }
    }
}

/// What has become of a measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The profile does not ask for it.
    NotRequested,
    /// It holds, for the process and all that it will start.
    InForce,
    /// This kernel does not have it.
    Unsupported,
    /// It should have worked and did not.
    Failed,
}

/// A measure and what has become of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which measure.
    pub measure: Measure,
    /// What has become of it.
    pub state: State,
    /// In force: the value or what to know about it, may be empty. Unsupported or failed: the reason.
    pub note: String,
}

/// What [`Profile::apply`](crate::Profile::apply) has achieved: one report a measure. Its `Display` is one line for a table:
/// `in force: no_new_privs, oom_score (1000); unsupported: signals (…)`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// One report a measure, in the order of [`Measure`].
    pub reports: Vec<Report>,
}

impl Applied {
    /// The report as text for the supervising process.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a list of names and texts has a JSON form")
    }

    /// Reads what [`to_json`](Self::to_json) has written.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// What has become of a measure.
    pub fn state(&self, measure: Measure) -> State {
        let report = self.reports.iter().find(|report| report.measure == measure);
        report.map_or(State::NotRequested, |report| report.state)
    }

    /// What was asked for and is not in force.
    pub fn shortfalls(&self) -> impl Iterator<Item = &Report> {
        self.reports
            .iter()
            .filter(|report| matches!(report.state, State::Unsupported | State::Failed))
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = [
            (State::InForce, "in force"),
            (State::Unsupported, "unsupported"),
            (State::Failed, "failed"),
        ];
        let mut is_first_group = true;
        for (state, title) in groups {
            let mut separator = title;
            for report in self.reports.iter().filter(|report| report.state == state) {
                if separator == title {
                    let before = if is_first_group { "" } else { "; " };
                    write!(f, "{before}{title}: ")?;
                    is_first_group = false;
                } else {
                    f.write_str(separator)?;
                }
                separator = ", ";
                f.write_str(report.measure.name())?;
                if !report.note.is_empty() {
                    write!(f, " ({})", report.note)?;
                }
            }
        }
        Ok(())
    }
}

/// What a step says of itself: the state and the note of its report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) state: State,
    pub(crate) note: String,
}

impl Outcome {
    pub(crate) fn not_requested() -> Self {
        Self::new(State::NotRequested, "")
    }

    pub(crate) fn in_force(note: impl Into<String>) -> Self {
        Self::new(State::InForce, note)
    }

    pub(crate) fn unsupported(reason: impl Into<String>) -> Self {
        Self::new(State::Unsupported, reason)
    }

    pub(crate) fn failed(reason: impl Into<String>) -> Self {
        Self::new(State::Failed, reason)
    }

    fn new(state: State, note: impl Into<String>) -> Self {
        let note = note.into();
        Self { state, note }
    }

    pub(crate) fn report(self, measure: Measure) -> Report {
        Report {
            measure,
            state: self.state,
            note: self.note,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_groups_by_state() {
        let applied = Applied {
            reports: vec![
                Outcome::in_force("").report(Measure::NoNewPrivs),
                Outcome::failed("read-only /proc").report(Measure::OomScore),
                Outcome::not_requested().report(Measure::Nice),
                Outcome::in_force("5 MiB").report(Measure::MemoryLimit),
                Outcome::unsupported("no Landlock").report(Measure::HiddenPaths),
            ],
        };
        assert_eq!(
            applied.to_string(),
            "in force: no_new_privs, memory_limit (5 MiB); unsupported: hidden_paths (no Landlock); \
             failed: oom_score (read-only /proc)"
        );
        let shortfalls: Vec<Measure> = applied.shortfalls().map(|report| report.measure).collect();
        assert_eq!(shortfalls, [Measure::OomScore, Measure::HiddenPaths]);
        assert_eq!(applied.state(Measure::Nice), State::NotRequested);
        assert_eq!(Applied::from_json(applied.to_json().as_bytes()).unwrap(), applied);
        assert_eq!(applied.state(Measure::Network), State::NotRequested);
    }

    #[test]
    fn of_nothing_there_is_nothing_to_say() {
        assert_eq!(Applied::default().to_string(), "");
    }
}
