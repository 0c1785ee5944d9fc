//! What a server and its triggers take while they do nothing, and how long many triggers take to start.

use std::time::Duration;

use tokio::time::sleep;

use super::rest::{REST_CORES, cpu_seconds_at_rest};
use super::triggers::{Plugin, Trigger, until_all_answer, with_triggers};
use super::{Findings, server_pid};
use crate::bench::measure::Measure;
use crate::bench::subject::Subject;
use crate::failure::Failure;
use crate::process_info::{Memory, RunTimes, descendants, memory};

/// For what comes a little after a process seems to be at rest.
const SETTLING: Duration = Duration::from_secs(2);
/// For how long idleness is watched. What is counted is exact, so it need only hold what happens every few seconds.
const IDLENESS: Duration = Duration::from_secs(10);
const MEASURED_MEMORIES: usize = 4;
const MANY_TRIGGERS: usize = 100;
const MEBIBYTE: f64 = (1 << 20) as f64;

/// Measures on a server that nothing was done to.
pub(super) async fn measure_memory(subject: &mut Subject) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    settle(subject).await;
    let server = memory(server_pid(subject)?);
    findings.add(Measure::IdleServer, server.resident_bytes as f64 / MEBIBYTE);
    findings.note(format!(
        "of the idle server's resident size {:.1} MiB are allocated, the rest is mapped files",
        server.anonymous_bytes as f64 / MEBIBYTE
    ));

    let triggers = request_triggers(subject, MEASURED_MEMORIES);
    let workers = with_triggers(subject, &triggers, async |subject| {
        until_all_answer(&subject.api, &triggers).await?;
        settle(subject).await;
        let processes = descendants(server_pid(subject)?);
        Ok(processes.into_iter().map(memory).sum::<Memory>())
    })
    .await?;
    let each = |bytes: u64| bytes as f64 / MEBIBYTE / MEASURED_MEMORIES as f64;
    findings.add(Measure::IdleTrigger, each(workers.proportional_bytes));
    findings.note(format!(
        "an idle trigger's resident size is {:.1} MiB",
        each(workers.resident_bytes)
    ));
    Ok(findings)
}

/// Measures on a server that nothing was done to.
pub(super) async fn measure_many_triggers(subject: &mut Subject) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    let server_alone = idle_cpu_ms_per_minute(subject).await?;
    findings.add(Measure::IdleServerCpu, server_alone);

    let triggers = request_triggers(subject, MANY_TRIGGERS);
    with_triggers(subject, &triggers, async |subject| {
        until_all_answer(&subject.api, &triggers).await?;
        let started = subject.restart().await?;
        until_all_answer(&subject.api, &triggers).await?;
        findings.add(Measure::StartTriggers, started.elapsed().as_secs_f64());

        let with_triggers = idle_cpu_ms_per_minute(subject).await?;
        let each = (with_triggers - server_alone) / MANY_TRIGGERS as f64;
        findings.add(Measure::IdleTriggerCpu, each.max(0.0));
        findings.note(format!(
            "a server with {MANY_TRIGGERS} idle triggers takes {with_triggers:.1} ms of CPU a minute in all"
        ));
        Ok(())
    })
    .await?;
    Ok(findings)
}

fn request_triggers(subject: &Subject, count: usize) -> Vec<Trigger> {
    (0..count)
        .map(|number| Trigger::request(&subject.engine, &format!("idle_{number}"), Plugin::Request))
        .collect()
}

/// What starting a server or a trigger entails is over after this.
async fn settle(subject: &Subject) {
    cpu_seconds_at_rest(subject.pid(), REST_CORES).await;
    sleep(SETTLING).await;
}

/// Of the server and its workers together.
async fn idle_cpu_ms_per_minute(subject: &Subject) -> Result<f64, Failure> {
    let pid = server_pid(subject)?;
    settle(subject).await;
    let before = RunTimes::of_tree(pid);
    sleep(IDLENESS).await;
    let spent_ms = RunTimes::of_tree(pid).ms_since(&before);
    Ok(spent_ms * 60.0 / IDLENESS.as_secs_f64())
}
