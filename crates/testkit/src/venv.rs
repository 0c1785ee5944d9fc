//! Virtual environments that tests share.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};

/// The virtual environment of plain Python that the servers of all tests share, made when it is first asked for.
///
/// It lies beside the test programs and is kept between runs. Processes that want it at the same time wait for the
/// first one to have made it.
pub fn shared_venv() -> PathBuf {
    let made = kept_venv("venv", |venv| {
        make(venv, &["--without-pip"]);
        true
    });
    made.expect("a plain environment needs nothing that could be missing")
}

/// A virtual environment with packages of the package index, kept like the shared one.
///
/// `None` where they cannot be installed, which is said on standard error: a test without them shows nothing. It is tried once
/// a process.
pub fn venv_with(packages: &[&str]) -> Option<PathBuf> {
    static TRIED: Mutex<BTreeMap<String, Option<PathBuf>>> = Mutex::new(BTreeMap::new());
    let name = format!("venv-{}", packages.join("-"));
    let mut tried = TRIED.lock().unwrap_or_else(PoisonError::into_inner);
    let venv = tried.entry(name.clone()).or_insert_with(|| {
        kept_venv(&name, |venv| {
            make(venv, &[]);
            let output = Command::new(venv.join("bin/python"))
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
                .args(packages)
                .output()
                .expect("the environment has a Python");
            if !output.status.success() {
                say_skipped(packages, &String::from_utf8_lossy(&output.stderr));
            }
            output.status.success()
        })
    });
    venv.clone()
}

/// Past the capture of tests' output, which a test that passes does not show.
fn say_skipped(packages: &[&str], reason: &str) {
    let packages = packages.join(" ");
    let message = format!(
        "SKIPPED: tests that need the Python packages {packages} show nothing on this machine, pip cannot install them:\n{reason}\
         They come from the package index: allow access to it, or name one that can be reached in PIP_INDEX_URL.\n"
    );
    // Nobody to tell it to is no reason to fail.
    let _ = std::io::stderr().write_all(message.as_bytes());
}

/// The environment of that name, made by `make` unless it is there already. `make` tells whether it could.
fn kept_venv(name: &str, make: impl FnOnce(&Path) -> bool) -> Option<PathBuf> {
    let test_program = std::env::current_exe().expect("a test knows its own path");
    let folder = test_program
        .parent()
        .expect("a program lies in a folder")
        .join("testkit");
    fs::create_dir_all(&folder).expect("target folder is writable");
    let lock = File::create(folder.join(format!("{name}.lock"))).expect("target folder is writable");
    flock(&lock, FlockOperation::LockExclusive).expect("flock works on the target folder");
    let venv = folder.join(name);
    let complete = folder.join(format!("{name}.complete"));
    if !complete.exists() || !venv.join("bin/python").exists() {
        let _ = fs::remove_dir_all(&venv);
        if !make(&venv) {
            return None;
        }
        File::create(&complete).expect("target folder is writable");
    }
    Some(venv)
}

fn make(venv: &Path, arguments: &[&str]) {
    let status = Command::new("python3")
        .args(["-m", "venv"])
        .args(arguments)
        .arg(venv)
        .status();
    let status = status.expect("python3 is installed: the tests need Python 3.10 or newer");
    assert!(
        status.success(),
        "python3 -m venv failed: install the venv module (python3-venv)"
    );
}
