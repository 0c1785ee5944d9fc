//! Request triggers: how many calls they answer, and whether two of them use two cores.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Findings, Plugin, Trigger, milliseconds, trigger_target, until_trigger_answers, with_triggers};
use crate::bench::BenchOptions;
use crate::bench::measure::Measure;
use crate::bench::statistics::{median, percentile};
use crate::bench::subject::Subject;
use crate::failure::{During, Failure};
use crate::http::{Connection, Endpoint};

const WARM_UP: Duration = Duration::from_millis(500);

pub(super) async fn measure_rate(subject: &mut Subject, options: &BenchOptions) -> Result<Findings, Failure> {
    let database = subject.engine.clone();
    let path = format!("{database}_request");
    let trigger = Trigger {
        database: &database,
        name: "request",
        plugin: Plugin::Request,
        specification: &format!("request:{path}"),
        arguments: Value::Null,
    };
    with_triggers(subject, &[trigger], async |subject| {
        let target = trigger_target(&path);
        until_trigger_answers(subject, &target).await?;
        let endpoint = subject.api.endpoint();
        call(endpoint, &target, options.connections, WARM_UP).await?;
        let mut called = call(
            endpoint,
            &target,
            options.connections,
            Duration::from_secs(options.seconds),
        )
        .await?;
        let mut findings = Findings::default();
        findings.add(
            Measure::RequestRate,
            called.answer_ms.len() as f64 / called.duration.as_secs_f64(),
        );
        findings.add(Measure::RequestP50, percentile(&mut called.answer_ms, 0.50));
        findings.add(Measure::RequestP99, percentile(&mut called.answer_ms, 0.99));
        Ok(findings)
    })
    .await
}

struct Called {
    duration: Duration,
    answer_ms: Vec<f64>,
}

async fn call(
    endpoint: &Endpoint,
    target: &str,
    connections: u32,
    lasting: Duration,
) -> Result<Called, Failure> {
    let mut opened = Vec::new();
    for _ in 0..connections {
        opened.push(Connection::open(endpoint).await.during("cannot connect")?);
    }
    let request = endpoint.get(target);
    let started = Instant::now();
    let callers: Vec<_> = opened
        .into_iter()
        .map(|connection| tokio::spawn(call_until(connection, request.clone(), started + lasting)))
        .collect();
    let mut answer_ms = Vec::new();
    for caller in callers {
        answer_ms.extend(caller.await.during("a caller broke down")??);
    }
    Ok(Called {
        duration: started.elapsed(),
        answer_ms,
    })
}

async fn call_until(mut connection: Connection, request: Vec<u8>, end: Instant) -> Result<Vec<f64>, Failure> {
    let mut answer_ms = Vec::new();
    while Instant::now() < end {
        let sent = Instant::now();
        let answer = connection
            .exchange(&[&request])
            .await
            .during("a call was not answered")?;
        answer_ms.push(milliseconds(sent.elapsed()));
        if answer.status != 200 {
            return Err(Failure::new(format!(
                "a call was answered {}: {}",
                answer.status,
                answer.text()
            )));
        }
    }
    Ok(answer_ms)
}

/// One call should keep a core busy for so long.
const BURN: Duration = Duration::from_millis(700);
const BURN_ROUNDS_TRIED: u64 = 1_000_000;
const PARALLEL_RUNS: usize = 5;

pub(super) async fn measure_parallelism(subject: &mut Subject) -> Result<Findings, Failure> {
    let database = subject.engine.clone();
    let paths = [format!("{database}_burn_a"), format!("{database}_burn_b")];
    let specifications = paths.each_ref().map(|path| format!("request:{path}"));
    let trigger = |name, specification| Trigger {
        database: &database,
        name,
        plugin: Plugin::Burn,
        specification,
        arguments: Value::Null,
    };
    let triggers = [
        trigger("burn_a", &specifications[0]),
        trigger("burn_b", &specifications[1]),
    ];
    with_triggers(subject, &triggers, async |subject| {
        let target = |path: &str, rounds: u64| format!("{}?rounds={rounds}", trigger_target(path));
        for path in &paths {
            until_trigger_answers(subject, &target(path, 1)).await?;
        }
        let endpoint = subject.api.endpoint().clone();
        let tried = burn(&endpoint, &target(&paths[0], BURN_ROUNDS_TRIED)).await?;
        let rounds = (BURN_ROUNDS_TRIED as f64 * BURN.as_secs_f64() / tried.as_secs_f64()) as u64;
        let targets = paths.each_ref().map(|path| target(path, rounds));

        let mut ratios = Vec::new();
        for _ in 0..PARALLEL_RUNS {
            let in_turn = burn(&endpoint, &targets[0]).await? + burn(&endpoint, &targets[1]).await?;
            let started = Instant::now();
            tokio::try_join!(burn(&endpoint, &targets[0]), burn(&endpoint, &targets[1]))?;
            ratios.push(in_turn.as_secs_f64() / started.elapsed().as_secs_f64());
        }
        let mut findings = Findings::default();
        findings.add(Measure::ParallelRatio, median(&mut ratios));
        Ok(findings)
    })
    .await
}

/// One call on a connection of its own.
async fn burn(endpoint: &Endpoint, target: &str) -> Result<Duration, Failure> {
    let mut connection = Connection::open(endpoint).await.during("cannot connect")?;
    let started = Instant::now();
    let answer = connection
        .exchange(&[&endpoint.get(target)])
        .await
        .during("a call was not answered")?;
    if answer.is_success() {
        return Ok(started.elapsed());
    }
    Err(Failure::new(format!(
        "{target} answered {}: {}",
        answer.status,
        answer.text()
    )))
}
