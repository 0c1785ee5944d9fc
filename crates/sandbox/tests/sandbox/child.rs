//! Starts Python in a sandbox.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tidemill_sandbox::{Applied, Level, Measure, Profile, State};

/// The program that applies a profile to itself and becomes another.
pub(crate) const SANDBOXED: &str = env!("CARGO_BIN_EXE_sandboxed");

/// `attempt` prints what came of a call: `ok`, or the name of the error.
const PRELUDE: &str = r#"
import ctypes, errno, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)

def attempt(name, action, *arguments, **named):
    try:
        action(*arguments, **named)
        print(name, "ok")
    except OSError as error:
        print(name, errno.errorcode[error.errno])
    except Exception as error:
        print(name, type(error).__name__)

def read(path):
    with open(path, "rb") as file:
        return file.read()

def write(path):
    with open(path, "wb") as file:
        file.write(b"changed")

def call(number, *arguments):
    if libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments)) == -1:
        raise OSError(ctypes.get_errno(), "")
"#;

/// What a sandboxed script has done.
pub(crate) struct Ended {
    pub(crate) applied: Applied,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Whether this kernel lacks the measure. Then the report has to give a reason; otherwise it has to be in force.
    pub(crate) fn lacks(&self, measure: Measure) -> bool {
        let reports = &self.applied.reports;
        let report = reports.iter().find(|report| report.measure == measure).unwrap();
        if report.state == State::Unsupported {
            assert_ne!(report.note, "", "{report:?}");
            return true;
        }
        assert_eq!(report.state, State::InForce, "{report:?}");
        false
    }

    #[track_caller]
    pub(crate) fn check(&self, expected: &str) {
        let lines: String = expected
            .trim()
            .lines()
            .map(|line| format!("{}\n", line.trim()))
            .collect();
        assert_eq!(self.stdout, lines, "{}", self.stderr);
    }
}

pub(crate) fn python() -> &'static str {
    let system = "/usr/bin/python3";
    if Path::new(system).exists() {
        system
    } else {
        "python3"
    }
}

pub(crate) fn command(profile: &Profile, script: &str) -> Command {
    let mut command = Command::new(SANDBOXED);
    command
        .arg(profile.to_argument())
        .args([python(), "-u", "-c", &format!("{PRELUDE}\n{script}")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub(crate) fn finish(child: Child) -> Ended {
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{}: {stderr}", output.status);
    let (report, stderr) = stderr.split_once('\n').unwrap();
    Ended {
        applied: serde_json::from_str(report).unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: stderr.to_owned(),
    }
}

/// Runs a script to its end.
pub(crate) fn run(profile: &Profile, script: &str) -> Ended {
    finish(command(profile, script).spawn().unwrap())
}

/// Runs a script; when it stands in the sandbox, but before it does anything, `meanwhile`.
pub(crate) fn run_with(profile: &Profile, script: &str, meanwhile: impl FnOnce()) -> Ended {
    const READY: &str = "ready\n";
    let script = format!("print('ready'); sys.stdin.readline()\n{script}");
    let mut child = command(profile, &script).stdin(Stdio::piped()).spawn().unwrap();
    let mut first = [0; READY.len()];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(first, READY.as_bytes());
    meanwhile();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    finish(child)
}

/// A server's directories: `data/secret` is what to hide, everything else is what to leave.
pub(crate) struct Place {
    _dir: TempDir,
    pub(crate) root: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The other side of the comparison: what the sandbox sees has no links in it.
        let root = std::fs::canonicalize(dir.path()).unwrap();
        for directory in ["data/sub", "plugins", "other"] {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        for file in [
            "data/secret",
            "data/sub/secret",
            "plugins/code.py",
            "other/file",
            "beside",
        ] {
            std::fs::write(root.join(file), file).unwrap();
        }
        Self { _dir: dir, root }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A profile that hides `data`.
    pub(crate) fn profile(&self) -> Profile {
        self.hiding(&["data"])
    }

    pub(crate) fn hiding(&self, names: &[&str]) -> Profile {
        Profile {
            level: Level::Standard,
            hidden_paths: names.iter().map(|name| self.path(name)).collect(),
            ..Profile::default()
        }
    }

    /// A script that starts in the root of the place.
    pub(crate) fn script(&self, script: &str) -> String {
        format!("os.chdir('{}')\n{script}", self.root.display())
    }
}
