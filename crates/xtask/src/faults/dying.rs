//! Plugins that end their process, leave things behind, or take the ground from under it.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::bed::{Bed, DATABASE, STOP_LIMIT};
use super::finding::{Finding, seconds};
use super::neighbours::SOURCE;
use crate::api::Api;
use crate::failure::{During, Failure};
use crate::process_info::is_alive;
use crate::waiting::wait_until;

const GOES_ON: Duration = Duration::from_secs(5);
/// A plugin that did not do harm this time answers again by then.
const RECOVERY_LIMIT: Duration = Duration::from_secs(10);
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Dies in every run; `cause` is what the log must say about it.
pub(super) async fn death(bed: &mut Bed, how: &str, causes: &[&str]) -> Result<Finding, Failure> {
    let file = format!("die_{how}.py");
    bed.put_plugin(&file, &bed.plugin("die.py")?)?;
    let specification = format!("table:{SOURCE}");
    let arguments = json!({ "how": how });
    bed.create("mortal", &file, &specification, json!({}), arguments)
        .await?;
    bed.until_started("mortal").await?;
    let mut finding = Finding::default();
    bed.go_on(GOES_ON).await;
    for cause in causes {
        let is_logged = bed.log_has("mortal", cause).await?;
        finding.require(is_logged, format!("the log does not say \"{cause}\""));
    }
    let deaths = bed
        .number(
            "SELECT count(*) AS n FROM system.processing_engine_logs \
             WHERE trigger_name = 'mortal' AND strpos(log_text, 'error executing wal plugin') > 0",
        )
        .await?;
    finding.tell(format!(
        "{deaths} deaths in {}, the log says \"{}\"",
        seconds(GOES_ON),
        causes.join("\" and \"")
    ));
    let is_disabled = bed
        .number(
            "SELECT count(*) AS n FROM system.processing_engine_triggers \
             WHERE trigger_name = 'mortal' AND disabled",
        )
        .await?
        > 0;
    if is_disabled {
        finding.tell("disabled as a crash loop");
    } else {
        bed.disable(&mut finding, "mortal").await?;
    }
    bed.put_plugin(&file, &bed.plugin("repaired.py")?)?;
    bed.api.enable_trigger(DATABASE, "mortal").await?;
    match bed.until_logged("mortal", "repaired", RECOVERY_LIMIT).await? {
        Some(took) => finding.tell(format!("repaired and enabled, it runs after {}", seconds(took))),
        None => finding.require(false, "repaired and enabled, it does not run"),
    }
    bed.delete(&mut finding, "mortal").await?;
    Ok(finding)
}

/// Ways to leave that are not errors in Python's eyes. Each call must be answered, and so must the next.
pub(super) async fn exits(bed: &mut Bed) -> Result<Finding, Failure> {
    leave(
        bed,
        &[
            ("sys_exit", 500),
            ("keyboard_interrupt", 500),
            ("system_exit_in_a_thread", 200),
            // Nobody sits at a terminal: the signal means nothing to a worker.
            ("interrupted_main", 200),
            ("sigint", 200),
        ],
    )
    .await
}

/// The socket to the server, the standard streams, everything.
pub(super) async fn closed_descriptors(bed: &mut Bed) -> Result<Finding, Failure> {
    leave(bed, &[("close_descriptors", 500)]).await
}

async fn leave(bed: &mut Bed, ways: &[(&str, u16)]) -> Result<Finding, Failure> {
    const TARGET: &str = "/api/v3/engine/leaver";
    bed.create("leaver", "leave.py", "request:leaver", json!({}), Value::Null)
        .await?;
    bed.until_answers(TARGET, RECOVERY_LIMIT).await?;
    let mut finding = Finding::default();
    for (how, expected) in ways {
        let request = bed.api.endpoint().get(&format!("{TARGET}?how={how}"));
        let asked = Instant::now();
        let Ok(answer) = timeout(ANSWER_LIMIT, bed.api.exchange(&request)).await else {
            bed.api = Api::new(bed.api.endpoint().clone());
            finding.require(
                false,
                format!("{how}: no answer within {}", seconds(ANSWER_LIMIT)),
            );
            continue;
        };
        let status = answer?.status;
        let took = asked.elapsed();
        finding.require(
            status == *expected,
            format!("{how}: answered {status} rather than {expected}"),
        );
        finding.require(
            took <= STOP_LIMIT,
            format!("{how}: answered after {}", seconds(took)),
        );
        let back = bed.until_answers(TARGET, RECOVERY_LIMIT).await?;
        finding.tell(format!(
            "{how}: {status} after {}, the next call is answered after {}",
            seconds(took),
            seconds(back)
        ));
    }
    bed.go_on(Duration::from_secs(3)).await;
    bed.delete(&mut finding, "leaver").await?;
    Ok(finding)
}

/// Children that ignore SIGTERM, some of which have left the process group: none may outlive its trigger.
pub(super) async fn orphans(bed: &mut Bed) -> Result<Finding, Failure> {
    const TARGET: &str = "/api/v3/engine/orphans";
    bed.create("orphans", "orphans.py", "request:orphans", json!({}), Value::Null)
        .await?;
    bed.until_answers(TARGET, RECOVERY_LIMIT).await?;
    let request = bed.api.endpoint().get(&format!("{TARGET}?start=1"));
    let answer = bed.api.exchange(&request).await?;
    let children: Value = serde_json::from_slice(&answer.body)
        .during(format!("the plugin could not start children: {}", answer.text()))?;
    let pids = |kind: &str| -> Vec<u32> {
        let list = children[kind].as_array().into_iter().flatten();
        list.filter_map(|pid| Some(pid.as_u64()? as u32)).collect()
    };
    let (group, daemons) = (pids("group"), pids("daemon"));
    let mut finding = Finding::default();
    finding.require(
        group.iter().chain(&daemons).all(|pid| is_alive(*pid)),
        "the children did not start",
    );
    bed.go_on(GOES_ON).await;
    bed.delete(&mut finding, "orphans").await?;
    for (kind, pids) in [
        ("in its process group", group),
        ("that left its process group", daemons),
    ] {
        let gone = wait_until(STOP_LIMIT, Duration::from_millis(20), async || {
            Ok(!pids.iter().any(|pid| is_alive(*pid)))
        })
        .await?;
        let count = pids.len();
        if gone {
            finding.tell(format!("{count} children {kind} ended with it"));
        } else {
            finding.require(false, format!("children {kind} outlive it"));
        }
        for pid in pids.into_iter().filter(|pid| is_alive(*pid)) {
            let pid = Pid::from_raw(pid as i32).expect("a process id is not zero");
            kill_process(pid, Signal::KILL).during("cannot kill a child of the plugin")?;
        }
    }
    Ok(finding)
}
