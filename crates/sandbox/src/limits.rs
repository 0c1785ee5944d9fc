//! What every level does: limits that the kernel has had for long.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::applied::Outcome;
use crate::profile::Level;

/// What root keeps: to get at files of others, to change users, to kill, and ports and packets. The rest is for administration
/// of the machine; some of it would open what the other measures close (with `CAP_PERFMON`, the environment of every process).
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID);

const OOM_SCORE_FILE: &str = "/proc/self/oom_score_adj";

/// What allocators map at once, whatever is used of it: the one of pyarrow takes a gigabyte when it is imported.
const RESERVED_AT_ONCE_BYTES: u64 = 1 << 30;

/// What numeric libraries map for each thread of theirs, of which they have one a processor: a stack and a buffer. The one of
/// numpy takes 40 MiB.
const RESERVED_PER_THREAD_BYTES: u64 = 128 << 20;

/// What `RLIMIT_DATA` allows beyond the memory limit, on this machine. The kernel counts what is mapped, not what is used, and
/// libraries map far more than they use; some crash where they may not.
pub fn reserved_bytes() -> u64 {
    // Not the share of the processors that a container may use: libraries do not look at that.
    let processors = rustix::thread::sched_getaffinity(None).map_or(1, |set| u64::from(set.count()));
    RESERVED_AT_ONCE_BYTES + processors * RESERVED_PER_THREAD_BYTES
}

pub(crate) fn set_no_new_privs() -> Outcome {
    match rustix::thread::set_no_new_privs(true).and_then(|()| rustix::thread::no_new_privs()) {
        Ok(true) => Outcome::in_force(""),
        Ok(false) => Outcome::failed("the kernel says that it is not set"),
        Err(error) => Outcome::failed(error.to_string()),
    }
}

pub(crate) fn raise_oom_score(adjustment: i32) -> Outcome {
    let wanted = adjustment.min(1000);
    let current = match oom_score() {
        Ok(current) => current,
        Err(error) => return Outcome::failed(format!("cannot read {OOM_SCORE_FILE}: {error}")),
    };
    if current < wanted
        && let Err(error) = fs::write(OOM_SCORE_FILE, wanted.to_string())
    {
        return Outcome::failed(format!("cannot write {OOM_SCORE_FILE}: {error}"));
    }
    match oom_score() {
        Ok(now) if now >= wanted => Outcome::in_force(now.to_string()),
        Ok(now) => Outcome::failed(format!("it is {now} instead of {wanted}")),
        Err(error) => Outcome::failed(format!("cannot read {OOM_SCORE_FILE}: {error}")),
    }
}

fn oom_score() -> std::io::Result<i32> {
    let text = fs::read_to_string(OOM_SCORE_FILE)?;
    text.trim().parse().map_err(std::io::Error::other)
}

pub(crate) fn raise_nice(nice: i32) -> Outcome {
    let wanted = nice.min(19);
    if wanted <= 0 {
        return Outcome::not_requested();
    }
    let raised = rustix::process::getpriority_process(None).and_then(|current| {
        if current < wanted {
            rustix::process::setpriority_process(None, wanted)?;
        }
        rustix::process::getpriority_process(None)
    });
    match raised {
        Ok(now) if now >= wanted => Outcome::in_force(now.to_string()),
        Ok(now) => Outcome::failed(format!("it is {now} instead of {wanted}")),
        Err(error) => Outcome::failed(error.to_string()),
    }
}

pub(crate) fn limit_memory(resident_bytes: Option<u64>) -> Outcome {
    let Some(resident_bytes) = resident_bytes else {
        return Outcome::not_requested();
    };
    let wanted = resident_bytes.saturating_add(reserved_bytes());
    // A lower limit that somebody has set is none of ours to raise.
    let inherited = rustix::process::getrlimit(Resource::Data);
    let limit = inherited
        .current
        .unwrap_or(u64::MAX)
        .min(inherited.maximum.unwrap_or(u64::MAX))
        .min(wanted);
    let both = Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    match rustix::process::setrlimit(Resource::Data, both) {
        Ok(()) => Outcome::in_force(format!("RLIMIT_DATA {limit}")),
        Err(error) => Outcome::failed(format!("RLIMIT_DATA: {error}")),
    }
}

pub(crate) fn check_user(uid: Option<u32>) -> Outcome {
    let Some(wanted) = uid else {
        return Outcome::not_requested();
    };
    let (mut real, mut effective, mut saved) = (0, 0, 0);
    // SAFETY: the call writes three numbers to places that are there.
    if unsafe { libc::getresuid(&raw mut real, &raw mut effective, &raw mut saved) } != 0 {
        return Outcome::failed(std::io::Error::last_os_error().to_string());
    }
    if [real, effective, saved] == [wanted; 3] {
        return Outcome::in_force(wanted.to_string());
    }
    Outcome::failed(format!(
        "it runs as {real}, {effective}, {saved} (real, effective, saved) instead of {wanted}"
    ))
}

/// Gives up what is not [`KEPT`]. With `no_new_privs` no program that is started gets it back.
pub(crate) fn give_up_capabilities(level: Level) -> Outcome {
    if level == Level::Off {
        return Outcome::not_requested();
    }
    let given_up = rustix::thread::capabilities(None).and_then(|held| {
        let kept = CapabilitySets {
            effective: held.effective & KEPT,
            permitted: held.permitted & KEPT,
            inheritable: held.inheritable & KEPT,
        };
        rustix::thread::set_capabilities(None, kept)?;
        rustix::thread::capabilities(None)
    });
    match given_up {
        Ok(held) if KEPT.contains(held.permitted | held.effective) => Outcome::in_force(""),
        Ok(held) => Outcome::failed(format!("still held: {:#x}", (held.permitted & !KEPT).bits())),
        Err(error) => Outcome::failed(error.to_string()),
    }
}

/// How many threads the process has beside the calling one, if any. Where that cannot be known, none are assumed.
pub(crate) fn threads_beside_this(task_dir: &Path) -> Option<usize> {
    let threads = fs::read_dir(task_dir).ok()?.count();
    (threads > 1).then(|| threads - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::State;

    #[test]
    fn what_is_not_asked_for_is_not_done() {
        assert_eq!(raise_nice(0).state, State::NotRequested);
        assert_eq!(raise_nice(-5).state, State::NotRequested);
        assert_eq!(limit_memory(None).state, State::NotRequested);
        assert_eq!(check_user(None).state, State::NotRequested);
    }

    #[test]
    fn another_user_is_a_failure() {
        let own = rustix::process::getuid().as_raw();
        assert_eq!(check_user(Some(own)).state, State::InForce);
        assert_eq!(check_user(Some(own + 1)).state, State::Failed);
    }

    #[test]
    fn a_single_thread_is_alone() {
        let tasks = tempfile::tempdir().unwrap();
        fs::create_dir(tasks.path().join("1")).unwrap();
        assert_eq!(threads_beside_this(tasks.path()), None);
        fs::create_dir(tasks.path().join("2")).unwrap();
        fs::create_dir(tasks.path().join("3")).unwrap();
        assert_eq!(threads_beside_this(tasks.path()), Some(2));
    }
}
