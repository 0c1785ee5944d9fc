//! Triggers whose definition, table, module or packages are not what they should be, or change.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::process::Command;

use super::bed::{Bed, DATABASE};
use super::finding::{Finding, seconds};
use super::neighbours::now_ns;
use crate::api::{NewTrigger, create_trigger_request};
use crate::failure::{During, Failure};

const GOES_ON: Duration = Duration::from_secs(5);
const DERIVE_LIMIT: Duration = Duration::from_secs(10);

/// A trigger on a table that nobody has written yet: it must see the table's first row.
pub(super) async fn table_later(bed: &mut Bed) -> Result<Finding, Failure> {
    const ROWS: u64 = 1_000;
    let arguments = json!({ "into": "later_back" });
    let settings = json!({ "error_behavior": "retry" });
    bed.create("early", "derive.py", "table:later", settings, arguments)
        .await?;
    bed.go_on(Duration::from_secs(1)).await;
    let mut finding = Finding::default();
    let is_quiet = !bed.log_has("early", "rror").await?;
    finding.require(is_quiet, "the missing table is an error in the log");
    let written = Instant::now();
    for number in 0..ROWS {
        let line = format!("later,writer=w number={number}i {}", now_ns());
        bed.api.write(DATABASE, &line).await?;
    }
    require_derived(bed, &mut finding, "later_back", ROWS).await?;
    finding.tell(format!(
        "its first {ROWS} rows written and derived after {}",
        seconds(written.elapsed())
    ));
    bed.go_on(GOES_ON.saturating_sub(written.elapsed())).await;
    bed.delete(&mut finding, "early").await?;
    Ok(finding)
}

/// Requires that a table gets so many rows with as many different numbers.
async fn require_derived(
    bed: &mut Bed,
    finding: &mut Finding,
    table: &str,
    rows: u64,
) -> Result<Option<Duration>, Failure> {
    let counted = format!("SELECT count(*) AS n FROM {table}");
    let took = bed.until_number(&counted, rows, DERIVE_LIMIT).await?;
    let count = bed.number(&counted).await?;
    let distinct = bed
        .number(&format!("SELECT count(DISTINCT number) AS n FROM {table}"))
        .await?;
    finding.require(
        count == rows && distinct == rows,
        format!("of {rows} rows {distinct} were derived, in {count} rows"),
    );
    Ok(took)
}

/// Intervals of nothing are refused; the shortest that is allowed is kept up with.
pub(super) async fn intervals(bed: &mut Bed) -> Result<Finding, Failure> {
    let mut finding = Finding::default();
    for interval in ["0s", "0", "500us", "0.5ms", "999999ns"] {
        let trigger = NewTrigger {
            database: DATABASE,
            name: "ticker",
            plugin: "tick.py",
            specification: &format!("every:{interval}"),
            settings: json!({}),
            arguments: &Value::Null,
        };
        let request = create_trigger_request(bed.api.endpoint(), &trigger);
        let answer = bed.api.exchange(&request).await?;
        let is_json =
            serde_json::from_slice::<Value>(&answer.body).is_ok_and(|body| body["error"].is_string());
        finding.require(
            answer.status == 400 && is_json,
            format!("every:{interval} answered {}: {}", answer.status, answer.text()),
        );
    }
    finding.tell("below 1 ms: refused with 400");
    bed.create("ticker", "tick.py", "every:1ms", json!({}), Value::Null)
        .await?;
    bed.go_on(GOES_ON).await;
    let ticks = bed.number("SELECT count(*) AS n FROM ticks").await?;
    finding.tell(format!(
        "every:1ms: {:.0} runs/s",
        ticks as f64 / GOES_ON.as_secs_f64()
    ));
    finding.require(ticks > 0, "every:1ms does not run");
    bed.delete(&mut finding, "ticker").await?;
    Ok(finding)
}

/// A module that cannot be imported is repaired: with `retry`, rows written meanwhile wait for it.
pub(super) async fn broken_import(bed: &mut Bed) -> Result<Finding, Failure> {
    const ROWS: u64 = 500;
    let working = bed.plugin("derive.py")?;
    bed.put_plugin(
        "broken.py",
        &format!("import a_module_that_is_not_there\n{working}"),
    )?;
    let arguments = json!({ "into": "repaired_back" });
    let settings = json!({ "error_behavior": "retry" });
    bed.create("broken", "broken.py", "table:repaired", settings, arguments)
        .await?;
    let mut finding = Finding::default();
    let started = Instant::now();
    for number in 0..ROWS {
        let line = format!("repaired,writer=w number={number}i {}", now_ns());
        bed.api.write(DATABASE, &line).await?;
    }
    bed.go_on(GOES_ON.saturating_sub(started.elapsed())).await;
    for text in ["ModuleNotFoundError", "broken.py"] {
        let is_logged = bed.log_has("broken", text).await?;
        finding.require(is_logged, format!("the log does not say \"{text}\""));
    }
    bed.put_plugin("broken.py", &working)?;
    let took = require_derived(bed, &mut finding, "repaired_back", ROWS).await?;
    if let Some(took) = took {
        finding.tell(format!(
            "the log names the module and the file; {ROWS} rows that waited are derived {} after the file was repaired",
            seconds(took)
        ));
    }
    bed.delete(&mut finding, "broken").await?;
    Ok(finding)
}

/// A package is upgraded under a trigger that is called all the time: every call is answered, and soon by the new one.
pub(super) async fn package_upgrade(bed: &mut Bed) -> Result<Finding, Failure> {
    const TARGET: &str = "/api/v3/engine/version";
    if !bed.abilities.offline_packages() {
        return Ok(Finding::skipped(
            "this server's `install package` has no `--find-links` and `--offline`",
        ));
    }
    let wheels = bed.side_directory("wheels")?;
    let script = bed.plugin("make_wheels.py")?;
    let made = Command::new("python3")
        .args(["-c", &script])
        .arg(&wheels)
        .stdin(Stdio::null())
        .status()
        .await
        .during("cannot start python3")?;
    if !made.success() {
        return Err(Failure::new("the wheels could not be made"));
    }
    let wheels = wheels.display().to_string();
    let install = |version: &str| {
        let package = format!("tidemill_fault_package=={version}");
        [
            "install",
            "package",
            "--find-links",
            &wheels,
            "--offline",
            &package,
        ]
        .map(str::to_owned)
    };
    let run = async |bed: &Bed, version: &str| {
        let arguments = install(version);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        bed.command(&arguments).await
    };
    run(bed, "1.0").await?;
    bed.create(
        "version",
        "package_version.py",
        "request:version",
        json!({}),
        Value::Null,
    )
    .await?;
    bed.until_answers(TARGET, DERIVE_LIMIT).await?;
    let mut finding = Finding::default();
    let mut client = crate::api::Api::new(bed.api.endpoint().clone());
    let request = client.endpoint().get(TARGET);
    let calls = async {
        let started = Instant::now();
        let (mut others, mut calls, mut upgraded) = (Vec::new(), 0, None);
        while started.elapsed() < GOES_ON * 2 {
            let answer = client.exchange(&request).await?;
            calls += 1;
            match (answer.status, answer.text().as_str()) {
                (200, "1.0") if upgraded.is_none() => {}
                (200, "2.0") => upgraded = upgraded.or_else(|| Some(Instant::now())),
                (status, text) => others.push(format!("{status}: {text}")),
            }
            bed.go_on(Duration::from_millis(2)).await;
        }
        Ok::<_, Failure>((calls, others, upgraded))
    };
    let (calls, installed) = tokio::join!(calls, async { run(bed, "2.0").await.map(|_| Instant::now()) });
    let installed = installed?;
    let (calls, others, upgraded) = calls?;
    match upgraded {
        Some(upgraded) => finding.tell(format!(
            "{calls} calls meanwhile; the new version answers {} after its installation",
            seconds(upgraded.saturating_duration_since(installed))
        )),
        None => finding.require(false, "the new version does not answer"),
    }
    finding.require(
        others.is_empty(),
        format!(
            "{} of {calls} calls were not answered by either version, the first: {}",
            others.len(),
            others.first().map_or("", String::as_str)
        ),
    );
    bed.note_healthy_processes().await?;
    bed.delete(&mut finding, "version").await?;
    Ok(finding)
}
