//! What a user does once: put plugins into the plugin directory, install a package, create a database and triggers.

use std::fs;
use std::path::Path;

use super::command_line::{CommandLine, DATABASE};
use super::presentation;
use crate::failure::{During, Failure};

/// Above this share of used memory an alert is raised; every machine that can run the demo is above it.
const ALERT_ARGUMENTS: &str = "table=memory,field=used_percent,threshold=0.1";

/// Copies the example plugins, folders included.
pub(crate) fn copy_plugins(from: &Path, to: &Path) -> Result<(), Failure> {
    let entries = fs::read_dir(from).during(format!("cannot read {}", from.display()))?;
    for entry in entries {
        let entry = entry.during(format!("cannot read {}", from.display()))?;
        let source = entry.path();
        let target = to.join(entry.file_name());
        let is_plugin_code = source.extension().is_some_and(|extension| extension == "py");
        if source.is_dir() && entry.file_name() != "__pycache__" {
            fs::create_dir_all(&target).during(format!("cannot make {}", target.display()))?;
            copy_plugins(&source, &target)?;
        } else if is_plugin_code {
            fs::copy(&source, &target).during(format!("cannot copy {}", source.display()))?;
        }
    }
    Ok(())
}

/// Leaves three running triggers behind.
pub(crate) async fn create_everything(command_line: &CommandLine) -> Result<(), Failure> {
    presentation::step("installing the package psutil into the plugins' environment");
    command_line.run_shown(&["install", "package", "psutil"]).await?;

    presentation::step("creating a database and three triggers");
    let create_trigger = ["create", "trigger", "--database", DATABASE, "--path"];
    command_line.run_shown(&["create", "database", DATABASE]).await?;
    for rest in [
        &["live_status", "--trigger-spec", "request:status", "live_status"][..],
        &[
            "minute_stats.py",
            "--trigger-spec",
            "all_tables",
            "--trigger-arguments",
            ALERT_ARGUMENTS,
            "minute_stats",
        ],
        &["system_metrics", "--trigger-spec", "every:1s", "sample_system"],
    ] {
        command_line
            .run_shown(&[&create_trigger[..], rest].concat())
            .await?;
    }
    Ok(())
}
