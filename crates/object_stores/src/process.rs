//! Who a process is, so that another one can tell whether it still runs.

use std::fmt;
use std::fs;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One run of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Made at its start.
    pub run: Uuid,
    /// Name of its machine.
    pub host: String,
    /// Its number there.
    pub pid: u32,
    /// What of the machine makes `pid` unambiguous: when it was booted, and which numbers a container sees. Empty where
    /// that is not known.
    machine: String,
    /// When the process began, in ticks of that machine; numbers of processes are used again.
    start_ticks: u64,
}

impl ProcessIdentity {
    /// This process.
    pub fn current() -> Self {
        let pid = std::process::id();
        Self {
            run: Uuid::new_v4(),
            host: host_name(),
            pid,
            machine: machine().unwrap_or_default(),
            start_ticks: start_ticks(pid).unwrap_or(0),
        }
    }

    /// Whether that process still runs, as far as this one can tell; `None`: it is on another machine or in another
    /// container.
    pub fn is_running(&self) -> Option<bool> {
        let here = machine()?;
        if here != self.machine {
            return None;
        }
        Some(start_ticks(self.pid).is_some_and(|ticks| ticks == self.start_ticks))
    }
}

impl fmt::Display for ProcessIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on host {}", self.pid, self.host)
    }
}

fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

fn machine() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let pids = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), pids.display()))
}

/// Field 22 of `/proc/PID/stat`; none: there is no such process, or only its exit status is left.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses, which may hold anything.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace();
    if matches!(fields.next(), Some("Z" | "X")) {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_recognised() {
        let this = ProcessIdentity::current();
        assert_eq!(this.is_running(), Some(true));
        assert!(!this.host.is_empty());
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let other = ProcessIdentity {
            pid: child.id(),
            start_ticks: start_ticks(child.id()).unwrap(),
            ..this.clone()
        };
        assert_eq!(other.is_running(), Some(true));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(other.is_running(), Some(false));
        let reused = ProcessIdentity {
            start_ticks: this.start_ticks + 1,
            ..this.clone()
        };
        assert_eq!(reused.is_running(), Some(false));
        let elsewhere = ProcessIdentity {
            machine: "another boot".to_owned(),
            ..this
        };
        assert_eq!(elsewhere.is_running(), None);
    }
}
