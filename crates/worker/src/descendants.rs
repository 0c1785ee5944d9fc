//! Processes that outlive whoever started them: found and ended with the worker or the tool that they come from.
//!
//! A process group is easily left (`setsid`). What no process leaves is its mark: before it executes anything, the founder of
//! a family limits its file locks to a number that nobody else has. All its descendants inherit that, whatever becomes of their
//! group, session, environment and parents, and it limits nothing: the kernel has not looked at this limit since Linux 2.4.25.
//!
//! The server is a subreaper: a process whose parent has ended becomes a child of the server. So what is left of a family is
//! among the server's children, if need be after its own parents were killed; and since only the server can collect a
//! child of its, the number of a child is never somebody else's.

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustix::process::{Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions};

/// The first mark. No limit that somebody sets on purpose has this size.
const MARK_FIRST: u64 = 1 << 40;
/// How often what is left of a family is looked for while it is being ended.
const PASS_INTERVAL: Duration = Duration::from_millis(2);
/// A family that starts processes faster than they are killed is left to the next pass after this time.
const END_MAX: Duration = Duration::from_secs(5);

/// The families that live, and the process that each descends from.
static FAMILIES: Mutex<BTreeMap<Mark, Pid>> = Mutex::new(BTreeMap::new());

/// What the members of a family have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark(u64);

impl Mark {
    /// Of families that cannot be told from others.
    const NONE: Self = Self(0);

    /// Puts the mark on the calling process and all that it will start. Async-signal-safe.
    pub(crate) fn put(self) {
        if self == Self::NONE {
            return;
        }
        let both = Rlimit {
            current: Some(self.0),
            maximum: Some(self.0),
        };
        // Without it the process is still ended with its group.
        let _ = rustix::process::setrlimit(Resource::Locks, both);
    }

    fn of(pid: Pid) -> Option<Self> {
        let limits = fs::read_to_string(format!("/proc/{}/limits", pid.as_raw_nonzero())).ok()?;
        Self::parse(&limits)
    }

    fn parse(limits: &str) -> Option<Self> {
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max file locks"))?;
        let number = line.split_whitespace().next()?.parse().ok()?;
        (number >= MARK_FIRST).then_some(Self(number))
    }
}

/// A process and all that descend from it. What is left of them is ended with [`Family::end`], or in the background when the
/// family is dropped.
#[derive(Debug)]
pub(crate) struct Family {
    mark: Mark,
}

impl Family {
    /// Starts the founder, which `start` has to put the mark on. `pid` gives its number.
    pub(crate) fn found<T>(
        start: impl FnOnce(Mark) -> io::Result<T>,
        pid: impl FnOnce(&T) -> Option<Pid>,
    ) -> io::Result<(Self, T)> {
        static NEXT: AtomicU64 = AtomicU64::new(MARK_FIRST);
        if !adopts_orphans() {
            let mark = Mark::NONE;
            return Ok((Self { mark }, start(mark)?));
        }
        // Held while the process starts, so that nobody takes it for an orphan before it is known as the founder.
        let mut families = FAMILIES.lock();
        let mark = Mark(NEXT.fetch_add(1, Ordering::Relaxed));
        let started = start(mark)?;
        if let Some(pid) = pid(&started) {
            families.insert(mark, pid);
        }
        Ok((Self { mark }, started))
    }

    /// To be called when the founder was collected: ends what is left of the family. Blocks for some milliseconds where
    /// something is left, at most for [`END_MAX`].
    pub(crate) fn end(self) {
        FAMILIES.lock().remove(&self.mark);
        std::mem::forget(self);
        end_orphans();
    }
}

impl Drop for Family {
    /// The founder may still be there, killed; then it ends like its descendants.
    fn drop(&mut self) {
        FAMILIES.lock().remove(&self.mark);
        // Without a thread to be had, the next family that ends takes these along.
        let _ = std::thread::Builder::new().spawn(end_orphans);
    }
}

/// Whether there is anything that can leave orphans.
pub(crate) fn has_families() -> bool {
    !FAMILIES.lock().is_empty()
}

/// Collects orphans that have ended by themselves while their family lives on. Cheap where no child has ended.
pub(crate) fn collect_ended() {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if matches!(rustix::process::waitid(WaitId::All, options), Ok(Some(_))) {
        pass();
    }
}

/// Becomes the one that orphans come to, at the first call. Where there are no marks to tell them by, nobody does.
fn adopts_orphans() -> bool {
    static ADOPTS: OnceLock<bool> = OnceLock::new();
    *ADOPTS.get_or_init(|| {
        if rustix::process::getrlimit(Resource::Locks).maximum.is_some() {
            tracing::warn!(
                "processes that a plugin leaves behind cannot be found, since the number of file locks is limited; start the \
                 server without that limit (ulimit -x unlimited)"
            );
            return false;
        }
        let adopted = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        if let Err(error) = adopted {
            tracing::warn!(%error, "processes that a plugin leaves behind cannot be found");
        }
        adopted.is_ok()
    })
}

fn end_orphans() {
    let began = Instant::now();
    while pass() > 0 {
        if began.elapsed() > END_MAX {
            tracing::warn!(
                "a plugin's processes start others faster than they can be ended; trying on in the background"
            );
            return;
        }
        std::thread::sleep(PASS_INTERVAL);
    }
}

/// Kills the orphans of families that have ended, and collects whoever of the families has ended. Gives the number of those
/// that were found of ended families: as long as there are some, there may be descendants of theirs.
fn pass() -> usize {
    if !adopts_orphans() {
        return 0;
    }
    let families = FAMILIES.lock();
    // They are collected by whoever started them.
    let founders: HashSet<Pid> = families.values().copied().collect();
    let mut found = 0;
    for child in children().into_iter().filter(|child| !founders.contains(child)) {
        let Some(mark) = Mark::of(child) else { continue };
        let lives = families.contains_key(&mark);
        let ended =
            rustix::process::waitid(WaitId::Pid(child), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        if !lives {
            found += 1;
            if matches!(ended, Ok(None)) {
                // It fails only for a process that has just ended.
                let _ = rustix::process::kill_process(child, Signal::KILL);
            }
        }
    }
    found
}

/// The children of this process.
fn children() -> Vec<Pid> {
    static HAS_LISTS: OnceLock<bool> = OnceLock::new();
    if *HAS_LISTS.get_or_init(|| fs::exists("/proc/thread-self/children").unwrap_or(false)) {
        children_by_thread()
    } else {
        children_among_all()
    }
}

/// The kernel keeps them by the thread that they were started by; orphans come to any.
fn children_by_thread() -> Vec<Pid> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(parse_pid).collect::<Vec<_>>())
        .collect()
}

/// For kernels without these lists.
fn children_among_all() -> Vec<Pid> {
    let own = rustix::process::getpid();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| parse_pid(entry.file_name().to_str()?));
    pids.filter(|pid| parent_of(*pid) == Some(own)).collect()
}

fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name may have spaces and parentheses in it; behind it stand the state and the parent.
    let (_, behind_name) = stat.rsplit_once(')')?;
    parse_pid(behind_name.split_whitespace().nth(1)?)
}

fn parse_pid(text: &str) -> Option<Pid> {
    text.parse().ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        os::unix::process::CommandExt,
        process::{Child, Command, Stdio},
    };

    use super::*;

    #[test]
    fn a_mark_is_read_from_the_limits() {
        let limits = |locks: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max address space         unlimited            unlimited            bytes     \n\
                 Max file locks            {locks}            {locks}            locks     \n"
            )
        };
        assert_eq!(Mark::parse(&limits("unlimited")), None);
        assert_eq!(Mark::parse(&limits("1024")), None);
        assert_eq!(Mark::parse(&limits("1099511627783")), Some(Mark(MARK_FIRST + 7)));
        assert_eq!(Mark::parse(""), None);
    }

    fn found(script: &str) -> (Family, Child) {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped());
        let start = |mark: Mark| {
            // SAFETY: one system call.
            unsafe {
                command.pre_exec(move || {
                    mark.put();
                    Ok(())
                });
            }
            command.spawn()
        };
        Family::found(start, |child| Some(Pid::from_child(child))).unwrap()
    }

    fn first_line(child: &mut Child) -> String {
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        line.trim().to_owned()
    }

    #[test]
    fn both_ways_to_find_children_agree() {
        let (family, mut child) = found("echo ready; exec sleep 1000");
        assert_eq!(first_line(&mut child), "ready");
        let pid = Pid::from_child(&child);
        assert!(children_by_thread().contains(&pid));
        assert!(children_among_all().contains(&pid));
        assert_eq!(Mark::of(pid), Some(family.mark));
        child.kill().unwrap();
        child.wait().unwrap();
        family.end();
    }

    #[test]
    fn a_chain_of_processes_without_environment_and_session_ends_with_its_family() {
        let script =
            "setsid env -i /bin/sh -c 'setsid sleep 1000 & echo $!; exec sleep 1000' & sleep 0.2; wait $!";
        let (family, mut child) = found(script);
        let grandchild = parse_pid(&first_line(&mut child)).unwrap();
        assert_eq!(Mark::of(grandchild), Some(family.mark));
        child.kill().unwrap();
        child.wait().unwrap();
        family.end();
        assert_eq!(Mark::of(grandchild), None, "it is gone");
    }

    #[test]
    fn an_orphan_of_a_living_family_lives_and_is_collected_when_it_ends() {
        let (family, mut child) = found("(sh -c 'echo $$; read line' <&3 &) 3<&0; exec sleep 1000");
        let orphan = parse_pid(&first_line(&mut child)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        // It reads the end of its input and ends, and does not stay as a zombie of ours.
        while Mark::of(orphan).is_some() {
            assert!(Instant::now() < deadline);
            collect_ended();
            std::thread::sleep(PASS_INTERVAL);
        }
        assert!(child.try_wait().unwrap().is_none(), "the founder lives");
        child.kill().unwrap();
        child.wait().unwrap();
        family.end();
    }
}
