//! What a user does once: put plugins into the plugin directory, install a package, create a database and triggers.

use super::command_line::{CommandLine, DATABASE};
use super::presentation;
use crate::failure::Failure;

/// Above this share of used memory an alert is raised; every machine that can run the demo is above it.
const ALERT_ARGUMENTS: &str = "table=memory,field=used_percent,threshold=0.1";

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
