//! What to take from a process, and the order in which it is taken.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::applied::{Applied, Measure, Outcome};
use crate::layout::Layout;
use crate::{domain, limits, syscalls};

/// How much is taken; see the crate's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Files, processes, system calls and the network are as without a sandbox.
    Off,
    /// Hidden paths, other processes and dangerous system calls are out of reach.
    #[default]
    Standard,
    /// The network is, too.
    Strict,
}

/// A text that is the name of no [`Level`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownLevel;

impl fmt::Display for UnknownLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the levels are off, standard and strict")
    }
}

impl std::error::Error for UnknownLevel {}

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            "standard" => Ok(Self::Standard),
            "strict" => Ok(Self::Strict),
            _ => Err(UnknownLevel),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Standard => "standard",
            Self::Strict => "strict",
        })
    }
}

/// What to take from a process. `no_new_privs` is always set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// What of the below is done beside the limits.
    pub level: Level,
    /// Files and directories to hide, absolute; they need not exist. The data directory, token files.
    #[serde(with = "crate::path_text")]
    pub hidden_paths: Vec<PathBuf>,
    /// Directories that stay open although they lie in a hidden one: the plugin directory, the virtual environment.
    #[serde(with = "crate::path_text")]
    pub visible_paths: Vec<PathBuf>,
    /// At least this OOM score adjustment, up to 1000. It is only ever raised.
    pub oom_score_adj: i32,
    /// At least this nice value, up to 19. It is only ever raised; 0 leaves it alone. With 5, the default, a plugin that computes
    /// gets a quarter of a processor that the server wants too (weights of 335 and 1024), and all of it otherwise; less would be
    /// felt by request triggers, whose answers wait for their process to get a turn.
    pub nice: i32,
    /// Resident memory that a plugin may use. What is set is `RLIMIT_DATA`, to [`reserved_bytes`](crate::reserved_bytes) more;
    /// whoever supervises the process has to watch what is resident.
    pub memory_limit_bytes: Option<u64>,
    /// The user that the process was started as (`--plugin-user`). This is checked, not changed: a user is changed before
    /// `exec`, or the process could not read its own `/proc/self` afterwards.
    pub uid: Option<u32>,
}

impl Default for Profile {
    /// The standard level, with nothing to hide and no memory limit.
    fn default() -> Self {
        Self {
            level: Level::default(),
            hidden_paths: Vec::new(),
            visible_paths: Vec::new(),
            oom_score_adj: 1000,
            nice: 5,
            memory_limit_bytes: None,
            uid: None,
        }
    }
}

/// A directory that is to stay open and has a hidden path below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nested {
    /// The directory, with symbolic links resolved.
    pub visible: PathBuf,
    /// The hidden path, with symbolic links resolved.
    pub hidden: PathBuf,
}

impl Profile {
    /// The profile as one argument of a command line, in ASCII or UTF-8.
    pub fn to_argument(&self) -> String {
        serde_json::to_string(self).expect("a structure of numbers, texts and lists has a JSON form")
    }

    /// Reads what [`to_argument`](Self::to_argument) has written. Absent fields have their default.
    pub fn from_argument(argument: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(argument)
    }

    /// Visible directories with hidden paths in them, which is an arrangement to refuse: such a directory cannot be listed, so
    /// Python finds no modules in it, and files that are written or replaced directly in it cannot be opened.
    pub fn nested(&self) -> Vec<Nested> {
        Layout::new(&self.hidden_paths, &self.visible_paths).nested()
    }

    /// Does all that the profile says to the calling process. To be called once, by the only thread, before foreign code is
    /// loaded; descriptors that are open stay usable. What the kernel does not have is reported, not fatal.
    pub fn apply(&self) -> Applied {
        let no_new_privs = limits::set_no_new_privs();
        let oom_score = limits::raise_oom_score(self.oom_score_adj);
        let nice = limits::raise_nice(self.nice);
        let memory_limit = limits::limit_memory(self.memory_limit_bytes);
        let user = limits::check_user(self.uid);
        let domain = domain::enter(self);
        // These come last: they would refuse what the steps before need.
        let capabilities = limits::give_up_capabilities(self.level);
        let filters = syscalls::filter(self.level, domain.landlock_abi);
        let mut steps = [
            (Measure::NoNewPrivs, no_new_privs),
            (Measure::OomScore, oom_score),
            (Measure::Nice, nice),
            (Measure::MemoryLimit, memory_limit),
            (Measure::User, user),
            (Measure::Capabilities, capabilities),
            (Measure::HiddenPaths, domain.hidden_paths),
            (Measure::OtherProcesses, domain.other_processes),
            (Measure::Signals, domain.signals),
            (Measure::SystemCalls, filters.system_calls),
            (Measure::Network, filters.network),
        ];
        if let Some(threads) = limits::threads_beside_this(Path::new("/proc/self/task")) {
            for (measure, outcome) in &mut steps {
                outcome.restrict_to_this_thread(*measure, threads);
            }
        }
        Applied {
            reports: steps
                .into_iter()
                .map(|(measure, outcome)| outcome.report(measure))
                .collect(),
        }
    }
}

impl Outcome {
    /// The kernel takes these from a thread and from what that thread starts, not from a process.
    fn restrict_to_this_thread(&mut self, measure: Measure, others: usize) {
        let is_of_the_process = matches!(measure, Measure::OomScore | Measure::MemoryLimit | Measure::User);
        if !is_of_the_process && self.state == crate::State::InForce {
            *self = Self::failed(format!("{others} threads were there before and are free"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::State;

    #[test]
    fn a_profile_survives_the_command_line() {
        let profile = Profile {
            level: Level::Strict,
            hidden_paths: vec!["/srv/data".into(), "/etc/a b/tökens".into()],
            visible_paths: vec!["/srv/data/plugins".into()],
            oom_score_adj: 900,
            nice: 3,
            memory_limit_bytes: Some(1 << 33),
            uid: Some(999),
        };
        assert_eq!(Profile::from_argument(&profile.to_argument()).unwrap(), profile);
        assert_eq!(
            profile.to_argument(),
            "{\"level\":\"strict\",\"hidden_paths\":[\"/srv/data\",\"/etc/a b/tökens\"],\
             \"visible_paths\":[\"/srv/data/plugins\"],\"oom_score_adj\":900,\"nice\":3,\
             \"memory_limit_bytes\":8589934592,\"uid\":999}"
        );
    }

    #[test]
    fn what_is_absent_has_its_default() {
        assert_eq!(Profile::from_argument("{}").unwrap(), Profile::default());
        assert!(Profile::from_argument("{\"levle\":\"strict\"}").is_err());
    }

    #[test]
    fn levels_have_names() {
        for level in [Level::Off, Level::Standard, Level::Strict] {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        assert_eq!("Strict".parse::<Level>(), Err(UnknownLevel));
        assert_eq!(Level::default(), Level::Standard);
    }

    #[test]
    fn other_threads_are_not_passed_over() {
        let mut filters = Outcome::in_force("");
        filters.restrict_to_this_thread(Measure::SystemCalls, 2);
        assert_eq!(filters.state, State::Failed);
        assert_eq!(filters.note, "2 threads were there before and are free");

        let mut memory = Outcome::in_force("1");
        memory.restrict_to_this_thread(Measure::MemoryLimit, 2);
        assert_eq!(memory.state, State::InForce);

        let mut network = Outcome::not_requested();
        network.restrict_to_this_thread(Measure::Network, 2);
        assert_eq!(network.state, State::NotRequested);
    }
}
