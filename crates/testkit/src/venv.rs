//! One virtual environment for all tests: making one takes seconds.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use rustix::fs::{FlockOperation, flock};

/// A virtual environment that tests may use but must not change, made at the first call.
///
/// It lies beside the test programs and is kept between runs. Processes that want it at the same time wait for the
/// first one to have made it.
pub fn shared_venv() -> PathBuf {
    let test_program = std::env::current_exe().expect("a test knows its own path");
    let folder = test_program
        .parent()
        .expect("a program lies in a folder")
        .join("testkit");
    fs::create_dir_all(&folder).expect("target folder is writable");
    let lock = File::create(folder.join("venv.lock")).expect("target folder is writable");
    flock(&lock, FlockOperation::LockExclusive).expect("flock works on the target folder");
    let venv = folder.join("venv");
    let complete = folder.join("venv.complete");
    if !complete.exists() || !venv.join("bin/python").exists() {
        let _ = fs::remove_dir_all(&venv);
        let status = Command::new("python3")
            .args(["-m", "venv", "--without-pip"])
            .arg(&venv)
            .status();
        let status = status.expect("python3 is installed: the tests need Python 3.10 or newer");
        assert!(
            status.success(),
            "python3 -m venv failed: install the venv module (python3-venv)"
        );
        File::create(&complete).expect("target folder is writable");
    }
    venv
}
