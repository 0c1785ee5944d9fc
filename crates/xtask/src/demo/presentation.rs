//! What the user of the demo sees.

use super::command_line::{CommandLine, DATABASE};
use crate::failure::Failure;
use crate::http::Endpoint;

/// Tables worth showing: a title and the query behind it.
const DERIVED: [(&str, &str); 3] = [
    (
        "CPU by minute, derived from the samples as they were written",
        "SELECT time AS minute, usage_percent_count AS samples, round(usage_percent_min, 1) AS min, \
         round(usage_percent_mean, 1) AS mean, round(usage_percent_max, 1) AS max \
         FROM cpu_1m WHERE cpu = 'total' ORDER BY time DESC LIMIT 5",
    ),
    (
        "memory by minute",
        "SELECT time AS minute, used_percent_count AS samples, round(used_percent_min, 1) AS min, \
         round(used_percent_mean, 1) AS mean, round(used_percent_max, 1) AS max \
         FROM memory_1m ORDER BY time DESC LIMIT 5",
    ),
    (
        "alerts",
        "SELECT time, message FROM alerts ORDER BY time DESC LIMIT 5",
    ),
];

/// A new part of the work begins.
pub(crate) fn step(title: &str) {
    println!("\n» {title}");
}

/// Something worth knowing about the part at hand.
pub(crate) fn detail(text: &str) {
    println!("  {text}");
}

pub(crate) fn line(text: &str) {
    println!("\n{text}");
}

/// A command that is about to run, as a user would type it.
pub(crate) fn command(arguments: &[&str]) {
    println!("  $ influxdb3 {}", arguments.join(" "));
}

/// The tables of what was derived so far, through the command line.
pub(crate) async fn derived(command_line: &CommandLine) -> Result<(), Failure> {
    for (title, sql) in DERIVED {
        println!("\n{title}\n{}", command_line.query_pretty(sql).await?.trim_end());
    }
    Ok(())
}

/// Addresses and commands to go on with.
pub(crate) fn what_to_try(endpoint: &Endpoint, command_line: &CommandLine) {
    let url = endpoint.url();
    let program = command_line.typed_name();
    println!(
        "
live page   {url}/api/v3/engine/status?view=page
as JSON     {url}/api/v3/engine/status

to play with, in another terminal:

  export INFLUXDB3_HOST_URL={url}
  {program} query --database {DATABASE} \"SELECT * FROM memory ORDER BY time DESC LIMIT 5\"
  {program} query --database {DATABASE} \"SELECT trigger_name, log_text FROM system.processing_engine_logs LIMIT 20\"
  {program} show system --database {DATABASE} table processing_engine_triggers
  {program} write --database {DATABASE} \"memory,host=other used_percent=99\"
  {program} query --database {DATABASE} \"SELECT time, host, message FROM alerts\"
  {program} disable trigger --database {DATABASE} sample_system"
    );
}
