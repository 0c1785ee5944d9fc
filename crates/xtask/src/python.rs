//! Virtual environments for what tasks borrow from the package index.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::failure::{During, Failure};

/// A virtual environment with packages in it.
pub(crate) struct Venv {
    path: PathBuf,
}

impl Venv {
    /// Makes one at `path` and lets pip install packages in it.
    pub(crate) async fn make(path: PathBuf, packages: &[&str]) -> Result<Self, Failure> {
        run(
            "python3",
            [OsStr::new("-m"), OsStr::new("venv"), path.as_os_str()],
        )
        .await?;
        let venv = Venv { path };
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        venv.python(install.iter().chain(packages)).await?;
        Ok(venv)
    }

    /// The one at `path` where it was made completely by an earlier task, else a new one.
    pub(crate) async fn kept(path: PathBuf, packages: &[&str]) -> Result<Self, Failure> {
        let complete = path.join("complete");
        if complete.exists() {
            return Ok(Venv { path });
        }
        let _absent_at_first = fs::remove_dir_all(&path);
        let venv = Venv::make(path, packages).await?;
        fs::write(&complete, "").during(format!("cannot write {}", complete.display()))?;
        Ok(venv)
    }

    /// A program that a package has brought.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.path.join("bin").join(name)
    }

    /// Runs its Python to its end; gives what it printed.
    pub(crate) async fn python(
        &self,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<String, Failure> {
        run(self.program("python"), arguments).await
    }
}

/// Runs a command to its end; gives what it printed.
async fn run(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<String, Failure> {
    let program = program.as_ref();
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .during(format!("cannot start {}", program.display()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Failure::new(format!(
        "{} ended with {}: {}",
        Path::new(program).display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    )))
}
