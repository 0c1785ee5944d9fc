//! Where things are: the sources, what cargo builds from them, and their commit.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::failure::{During, Failure};

/// The checkout that this task works on.
pub(crate) struct Workspace {
    root: PathBuf,
    target_dir: PathBuf,
}

impl Workspace {
    /// Asks cargo where the workspace and its target directory are, since both can be configured in many places.
    pub(crate) fn locate() -> Result<Self, Failure> {
        let manifest_dir =
            env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let output = cargo()
            .args(["metadata", "--format-version", "1", "--no-deps"])
            .current_dir(manifest_dir)
            .output()
            .during("cannot start cargo metadata")?;
        if !output.status.success() {
            return Err(Failure::new(format!(
                "cargo metadata failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )));
        }
        let metadata: Value =
            serde_json::from_slice(&output.stdout).during("cannot read the output of cargo metadata")?;
        let path = |key: &str| {
            metadata[key]
                .as_str()
                .map(PathBuf::from)
                .ok_or_else(|| Failure::new(format!("the output of cargo metadata has no {key}")))
        };
        Ok(Workspace {
            root: path("workspace_root")?,
            target_dir: path("target_directory")?,
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the release profile puts programs and the worker extension.
    pub(crate) fn release_dir(&self) -> PathBuf {
        self.target_dir.join("release")
    }

    /// Where tasks keep what they need again.
    pub(crate) fn kept_dir(&self) -> PathBuf {
        self.target_dir.join("xtask")
    }

    /// The built program.
    pub(crate) fn program(&self) -> PathBuf {
        self.release_dir().join("tidemill")
    }

    /// The same program under the name that existing scripts use.
    pub(crate) fn program_as_influxdb3(&self) -> PathBuf {
        self.release_dir().join("influxdb3")
    }

    /// The example plugins.
    pub(crate) fn plugins(&self) -> PathBuf {
        self.root.join("plugins")
    }

    /// The plugins that do harm.
    pub(crate) fn fault_plugins(&self) -> PathBuf {
        self.root.join("crates/xtask/fault_plugins")
    }

    /// The commit that is checked out, with `-dirty` where files differ from it; `None` outside a repository.
    pub(crate) fn commit(&self) -> Option<String> {
        let output = Command::new("git")
            .args(["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"])
            .current_dir(&self.root)
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let commit = text.trim();
        (output.status.success() && !commit.is_empty()).then(|| commit.to_owned())
    }
}

/// The cargo that runs this task, or the one in the search path, as if a user had started it: build scripts that look at
/// what cargo says of this task's own package would otherwise build half of the dependencies anew.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_MANIFEST_") || text.starts_with("CARGO_PKG_") {
            command.env_remove(&name);
        }
    }
    command
}
