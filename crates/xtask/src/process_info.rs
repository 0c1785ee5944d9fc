//! What the kernel says about processes: CPU time and memory of a server and everything it started.

use std::collections::HashMap;
use std::fs;
use std::iter::Sum;

/// Ticks per second in `/proc/PID/stat`: fixed at 100 by the kernel's interface on every architecture we build for.
pub(crate) const TICKS_PER_SECOND: f64 = 100.0;

/// Memory of one process or several, in bytes.
#[derive(Clone, Copy, Default)]
#[expect(clippy::struct_field_names, reason = "units stand last in names")]
pub(crate) struct Memory {
    /// Resident pages; those shared with other processes count in each.
    pub resident_bytes: u64,
    /// Resident pages where a page shared by n processes counts 1/n.
    pub proportional_bytes: u64,
    /// Resident pages that no file stands behind: what the process has allocated.
    pub anonymous_bytes: u64,
}

impl Sum for Memory {
    fn sum<I: Iterator<Item = Memory>>(processes: I) -> Self {
        processes.fold(Memory::default(), |sum, one| Memory {
            resident_bytes: sum.resident_bytes + one.resident_bytes,
            proportional_bytes: sum.proportional_bytes + one.proportional_bytes,
            anonymous_bytes: sum.anonymous_bytes + one.anonymous_bytes,
        })
    }
}

/// CPU seconds, user and system, of `pid`, its living descendants and the children they have waited for.
pub(crate) fn cpu_seconds_of_tree(pid: u32) -> f64 {
    let ticks: u64 = tree(pid)
        .into_iter()
        .filter_map(|pid| Some(stat(pid)?.ticks))
        .sum();
    ticks as f64 / TICKS_PER_SECOND
}

/// How long each thread of some processes has run, in nanoseconds: finer than the ticks of [`cpu_seconds_of_tree`].
pub(crate) struct RunTimes(HashMap<u32, u64>);

impl RunTimes {
    /// Of the living threads of `pid` and of its descendants.
    pub(crate) fn of_tree(pid: u32) -> Self {
        RunTimes(tree(pid).into_iter().flat_map(run_times).collect())
    }

    /// What was run since `earlier`, in milliseconds, without what threads did that have ended since.
    pub(crate) fn ms_since(&self, earlier: &RunTimes) -> f64 {
        let nanoseconds: u64 = self
            .0
            .iter()
            .map(|(thread, run)| run.saturating_sub(earlier.0.get(thread).copied().unwrap_or(0)))
            .sum();
        nanoseconds as f64 / 1e6
    }
}

/// Thread ids and run times; none where the process is gone.
fn run_times(pid: u32) -> Vec<(u32, u64)> {
    fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|thread| {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            let run = text.split_whitespace().next()?.parse().ok()?;
            Some((thread.file_name().to_str()?.parse().ok()?, run))
        })
        .collect()
}

/// Memory of one process; zero where it is gone.
pub(crate) fn memory(pid: u32) -> Memory {
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
        return Memory::default();
    };
    let kibibytes = |name: &str| {
        text.lines()
            .find_map(|line| {
                line.strip_prefix(name)?
                    .split_whitespace()
                    .next()?
                    .parse::<u64>()
                    .ok()
            })
            .unwrap_or(0)
    };
    Memory {
        resident_bytes: kibibytes("Rss:") * 1024,
        proportional_bytes: kibibytes("Pss:") * 1024,
        anonymous_bytes: kibibytes("Anonymous:") * 1024,
    }
}

/// Resident bytes of one process, zero where it is gone: cheaper than [`memory`], and holds nothing up in the process.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    status_bytes(pid, "VmRSS:")
}

/// The most resident bytes that a process has had so far, zero where it is gone.
pub(crate) fn peak_resident_bytes(pid: u32) -> u64 {
    status_bytes(pid, "VmHWM:")
}

fn status_bytes(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes: Option<u64> = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// Whether a process is there and has not ended.
pub(crate) fn is_alive(pid: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // proc(5): the state follows the program's name; Z has ended and waits for its parent.
    text.rfind(')')
        .and_then(|name_end| text[name_end + 1..].split_whitespace().next())
        .is_some_and(|state| state != "Z" && state != "X")
}

/// The processes below `pid`, not `pid` itself.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    tree(pid).split_off(1)
}

/// `pid` first, then everything below it.
fn tree(pid: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|child| Some((child, stat(child)?.parent)))
        .collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(
            parents
                .iter()
                .filter(|(_, of)| *of == parent)
                .map(|(child, _)| *child),
        );
        next += 1;
    }
    found
}

struct Stat {
    parent: u32,
    ticks: u64,
}

/// `None` where the process is gone. Fields are counted from behind the program's name, which may hold spaces.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
    // proc(5): state, ppid, … utime stime cutime cstime are fields 14 to 17 of the whole line.
    let ticks = fields
        .get(11..15)?
        .iter()
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        ticks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_sees_itself() {
        let own = std::process::id();
        assert!(memory(own).resident_bytes > 0);
        assert!(memory(own).proportional_bytes <= memory(own).resident_bytes);
        assert!(resident_bytes(own) > 0);
        assert!(peak_resident_bytes(own) > 0);
        assert!(is_alive(own));
        let before = RunTimes::of_tree(own);
        while RunTimes::of_tree(own).ms_since(&before) <= 0.0 {}
        assert_eq!(tree(own)[0], own);
    }

    #[test]
    fn children_are_found() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("sleep starts");
        let found = descendants(std::process::id());
        child.kill().expect("our own child");
        child.wait().expect("our own child");
        assert!(found.contains(&child.id()));
        assert!(!is_alive(child.id()));
    }
}
