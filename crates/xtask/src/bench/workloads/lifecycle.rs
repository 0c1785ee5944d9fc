//! Starting, stopping, and doing nothing. These need servers that nothing else was done to, so they start their own.

use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use super::{Findings, Plugin, Trigger, ingest, milliseconds, queries, trigger_target};
use super::{until_trigger_answers, with_triggers};
use crate::bench::BenchOptions;
use crate::bench::api::Api;
use crate::bench::measure::Measure;
use crate::bench::subject::{Address, OwnServer, Subject};
use crate::failure::Failure;
use crate::process_info::{Memory, descendants, memory};
use crate::server::Server;

const DATABASE: &str = "bench";
/// What a process does right after its start should be over by then.
const SETTLING: Duration = Duration::from_secs(2);
const IDLE_TRIGGERS: usize = 4;
const MEBIBYTE: f64 = (1 << 20) as f64;
const NOT_OURS: &str = "start times and idle memory need a server that the bench starts itself";

pub(super) async fn measure_starts(subject: &Subject, options: &BenchOptions) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    let Some(program) = subject.program() else {
        findings.note(NOT_OURS);
        return Ok(findings);
    };
    let stopped = OwnServer::start(program).await?;
    findings.add(
        Measure::StartEmpty,
        milliseconds(stopped.server.time_to_healthy()),
    );
    write_rows(&stopped.server, options).await?;
    let (stop_time, restarted) = stopped.restart_after_stop().await?;
    findings.add(Measure::StopTime, milliseconds(stop_time));
    findings.add(
        Measure::StartAfterStop,
        milliseconds(restarted.server.time_to_healthy()),
    );
    check_rows(&restarted.server, options).await?;
    restarted.server.stop().await?;

    let killed = OwnServer::start(program).await?;
    write_rows(&killed.server, options).await?;
    let restarted = killed.restart_after_kill().await?;
    findings.add(
        Measure::StartAfterKill,
        milliseconds(restarted.server.time_to_healthy()),
    );
    check_rows(&restarted.server, options).await?;
    restarted.server.stop().await?;
    Ok(findings)
}

async fn write_rows(server: &Server, options: &BenchOptions) -> Result<(), Failure> {
    Api::new(server.endpoint().clone())
        .create_database(DATABASE)
        .await?;
    let load = options.load().render(ingest::TABLE);
    ingest::write_all(server.endpoint(), DATABASE, load)
        .await
        .map(drop)
}

async fn check_rows(server: &Server, options: &BenchOptions) -> Result<(), Failure> {
    let answer = Api::new(server.endpoint().clone())
        .query(DATABASE, &queries::count_sql())
        .await?;
    queries::check_count(&answer, options.rows as usize)
}

pub(super) async fn measure_idle(subject: &Subject) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    let Some(program) = subject.program() else {
        findings.note(NOT_OURS);
        return Ok(findings);
    };
    let mut idle = Subject::open(Address::Program(program.to_owned())).await?;
    sleep(SETTLING).await;
    let server_bytes = memory(server_pid(&idle)?).resident_bytes;
    findings.add(Measure::IdleServer, server_bytes as f64 / MEBIBYTE);

    let workers = memory_of_idle_triggers(&mut idle).await?;
    idle.close().await?;
    let each = |bytes: u64| bytes as f64 / MEBIBYTE / IDLE_TRIGGERS as f64;
    findings.add(Measure::IdleTrigger, each(workers.proportional_bytes));
    findings.note(format!(
        "an idle trigger's resident size is {:.1} MiB",
        each(workers.resident_bytes)
    ));
    Ok(findings)
}

/// The memory of all worker processes together. Each trigger was called once, so that its plugin is loaded.
async fn memory_of_idle_triggers(subject: &mut Subject) -> Result<Memory, Failure> {
    let database = subject.engine.clone();
    let names: Vec<String> = (0..IDLE_TRIGGERS)
        .map(|number| format!("{database}_idle_{number}"))
        .collect();
    let specifications: Vec<String> = names.iter().map(|name| format!("request:{name}")).collect();
    let triggers: Vec<Trigger<'_>> = names
        .iter()
        .zip(&specifications)
        .map(|(name, specification)| Trigger {
            database: &database,
            name,
            plugin: Plugin::Request,
            specification,
            arguments: Value::Null,
        })
        .collect();
    with_triggers(subject, &triggers, async |subject| {
        for name in &names {
            until_trigger_answers(subject, &trigger_target(name)).await?;
        }
        sleep(SETTLING).await;
        let total =
            descendants(server_pid(subject)?)
                .into_iter()
                .map(memory)
                .fold(Memory::default(), |sum, one| Memory {
                    resident_bytes: sum.resident_bytes + one.resident_bytes,
                    proportional_bytes: sum.proportional_bytes + one.proportional_bytes,
                });
        Ok(total)
    })
    .await
}

fn server_pid(subject: &Subject) -> Result<u32, Failure> {
    subject.pid().ok_or_else(|| Failure::new("the server has ended"))
}
