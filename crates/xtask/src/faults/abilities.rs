//! What a program can do, by its own help: a fault that needs an option the program does not have is skipped.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::failure::{During, Failure};
use crate::server::without_our_settings;

/// The texts of `--help`.
pub(super) struct Abilities {
    serve: String,
    create_trigger: String,
    install_package: String,
}

impl Abilities {
    pub(super) async fn of(program: &Path) -> Result<Self, Failure> {
        Ok(Abilities {
            serve: help(program, &["serve"]).await?,
            create_trigger: help(program, &["create", "trigger"]).await?,
            install_package: help(program, &["install", "package"]).await?,
        })
    }

    /// Whether runs have a time limit of their trigger's own.
    pub(super) fn run_timeout(&self) -> bool {
        self.create_trigger.contains("--run-timeout")
    }

    pub(super) fn memory_limit(&self) -> bool {
        self.create_trigger.contains("--memory-limit")
    }

    pub(super) fn trigger_depth_max(&self) -> bool {
        self.serve.contains("--max-trigger-depth")
    }

    pub(super) fn offline_packages(&self) -> bool {
        self.install_package.contains("--find-links") && self.install_package.contains("--offline")
    }
}

async fn help(program: &Path, command: &[&str]) -> Result<String, Failure> {
    let mut process = Command::new(program);
    without_our_settings(&mut process);
    let output = process
        .args(command)
        .arg("--help")
        .stdin(Stdio::null())
        .output()
        .await
        .during(format!("cannot start {}", program.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
