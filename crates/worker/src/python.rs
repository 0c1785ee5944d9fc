//! What an interpreter says about itself.

use std::{
    env, fmt, io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use tokio::{process::Command, time::timeout};

use crate::PluginUser;

/// The oldest version that workers run on; that of the extension's stable ABI.
pub(crate) const OLDEST: (u32, u32) = (3, 10);

const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Prints the version and whether virtual environments can be made, one a line; kept to what Python 2 understands too.
const PROBE: &str = "
import sys
print('%d.%d.%d' % tuple(sys.version_info[:3]))
try:
    import venv, ensurepip
    print('yes')
except ImportError:
    print('no')
";

/// Version of an interpreter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PythonVersion {
    /// 3
    pub major: u32,
    /// Such as 13 of 3.13.
    pub minor: u32,
    /// Such as 2 of 3.13.2.
    pub micro: u32,
}

impl PythonVersion {
    pub(crate) fn is_supported(self) -> bool {
        (self.major, self.minor) >= OLDEST
    }

    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.trim().split('.').map(|number| number.parse().ok());
        let version = Self {
            major: numbers.next()??,
            minor: numbers.next()??,
            micro: numbers.next()??,
        };
        numbers.next().is_none().then_some(version)
    }
}

impl fmt::Display for PythonVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// An interpreter that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) version: PythonVersion,
    /// Whether its venv and ensurepip modules are there.
    pub(crate) has_venv: bool,
}

/// Runs an interpreter, as a user, and asks.
pub(crate) async fn probe(python: &Path, user: Option<&Arc<PluginUser>>) -> io::Result<Probe> {
    let mut command = Command::new(python);
    command.args(["-I", "-c", PROBE]).env_remove("PYTHONHOME");
    let output = answer(command, user).await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let version = lines.next().and_then(PythonVersion::parse).ok_or_else(|| {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.lines().last().unwrap_or_default().trim().to_owned();
        io::Error::other(format!(
            "it does not tell its version ({}): {last}",
            output.status
        ))
    })?;
    Ok(Probe {
        version,
        has_venv: lines.next() == Some("yes"),
    })
}

/// What a program that says little prints.
pub(crate) async fn answer(
    mut command: Command,
    user: Option<&Arc<PluginUser>>,
) -> io::Result<std::process::Output> {
    if let Some(user) = user.cloned() {
        // SAFETY: between fork and exec only system calls are made, on values that were prepared before.
        unsafe {
            command.pre_exec(move || Ok(user.become_it()?));
        }
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    timeout(ANSWER_TIMEOUT, command.output())
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it does not answer"))?
}

/// Interpreters from which a virtual environment may be made, best first: that of the environment the operator has
/// active, one that was installed together with the program, those on the search path.
pub(crate) fn base_candidates() -> Vec<PathBuf> {
    let mut candidates = Vec::new();
    if let Some(active) = env::var_os("VIRTUAL_ENV").filter(|path| !path.is_empty()) {
        candidates.push(Path::new(&active).join("bin/python3"));
    }
    if let Ok(executable) = env::current_exe()
        && let Some(directory) = executable.parent()
    {
        candidates.push(directory.join("python/bin/python3"));
        candidates.push(directory.join("../lib/tidemill/python/bin/python3"));
    }
    candidates.retain(|candidate| candidate.exists());
    let names = [
        "python3",
        "python3.14",
        "python3.13",
        "python3.12",
        "python3.11",
        "python3.10",
    ];
    // All of a name: the first may be closed to the user of plugins.
    candidates.extend(names.iter().flat_map(|name| all_on_path(name)));
    candidates
}

/// The first executable file of this name on the search path.
pub(crate) fn find_on_path(name: &str) -> Option<PathBuf> {
    all_on_path(name).into_iter().next()
}

fn all_on_path(name: &str) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|directory| directory.join(name))
        .filter(|candidate| is_executable(candidate))
        .collect()
}

pub(crate) fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        let version = PythonVersion::parse("3.10.0\n").unwrap();
        assert!(version.is_supported());
        assert!(PythonVersion::parse("3.9.18").unwrap() < version);
        assert!(!PythonVersion::parse("3.9.18").unwrap().is_supported());
        assert!(!PythonVersion::parse("2.7.18").unwrap().is_supported());
        assert_eq!(PythonVersion::parse("3.10"), None);
        assert_eq!(PythonVersion::parse("three"), None);
    }

    #[tokio::test]
    async fn an_interpreter_tells_its_version_and_others_are_errors() {
        let python = find_on_path("python3").expect("these tests need python3");
        assert!(probe(&python, None).await.unwrap().version.major == 3);
        assert!(probe(Path::new("/nonexistent"), None).await.is_err());
        let error = probe(Path::new("/bin/false"), None).await.unwrap_err();
        assert!(error.to_string().contains("does not tell its version"), "{error}");
    }
}
