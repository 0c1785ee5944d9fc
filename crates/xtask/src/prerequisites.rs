//! What a machine needs beside Rust: a C compiler for a few dependencies, and a Python that can make virtual
//! environments.

use std::process::{Command, Stdio};

use crate::compile::run_visibly;
use crate::failure::Failure;

/// The oldest Python whose stable interface the worker extension uses.
const PYTHON_MIN: (u32, u32) = (3, 10);

/// Prints the version, and fails where the modules that make an environment are missing. Debian ships `venv` without
/// `ensurepip`, so both are asked for.
const PYTHON_PROBE: &str =
    "import sys; print('%d.%d' % sys.version_info[:2]); sys.stdout.flush(); import ensurepip, venv";

/// Makes sure that everything is there. Missing packages are installed where we are root and have apt-get, else named.
pub(crate) fn ensure() -> Result<(), Failure> {
    let missing = missing_packages()?;
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !(rustix::process::geteuid().is_root() && starts(Command::new("apt-get").arg("--version"))) {
        return Err(Failure::new(format!(
            "this machine lacks some packages; on Debian or Ubuntu: sudo apt-get install {list}"
        )));
    }
    eprintln!("installing what is missing: {list}");
    run_visibly(Command::new("apt-get").arg("update"))?;
    run_visibly(
        Command::new("apt-get")
            .args(["install", "--yes", "--no-install-recommends"])
            .args(&missing)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )?;
    let still_missing = missing_packages()?;
    if still_missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "installed {list}, but what {} should provide is still not found; is another python3 or cc first in PATH?",
        still_missing.join(" ")
    )))
}

/// The apt packages that would provide what is not there.
fn missing_packages() -> Result<Vec<&'static str>, Failure> {
    let mut packages = Vec::new();
    if !starts(Command::new("cc").arg("--version")) {
        packages.push("build-essential");
    }
    match probe_python() {
        Python::Usable => {}
        Python::WithoutVenv => packages.push("python3-venv"),
        Python::Absent => packages.extend(["python3", "python3-venv"]),
        Python::TooOld(version) => {
            let (major, minor) = PYTHON_MIN;
            return Err(Failure::new(format!(
                "python3 is {version}, needed is {major}.{minor} or newer: install one and put it first in PATH"
            )));
        }
    }
    Ok(packages)
}

enum Python {
    Usable,
    WithoutVenv,
    TooOld(String),
    Absent,
}

fn probe_python() -> Python {
    let Ok(output) = Command::new("python3").args(["-c", PYTHON_PROBE]).output() else {
        return Python::Absent;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.trim();
    let Some((major, minor)) = version.split_once('.') else {
        return Python::Absent;
    };
    let (Ok(major), Ok(minor)) = (major.parse::<u32>(), minor.parse::<u32>()) else {
        return Python::Absent;
    };
    if (major, minor) < PYTHON_MIN {
        Python::TooOld(version.to_owned())
    } else if output.status.success() {
        Python::Usable
    } else {
        Python::WithoutVenv
    }
}

fn starts(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}
