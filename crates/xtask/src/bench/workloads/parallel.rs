//! Whether two triggers use two cores.

use std::time::{Duration, Instant};

use super::Findings;
use super::triggers::{Plugin, Trigger, until_answers, with_triggers};
use crate::bench::measure::Measure;
use crate::bench::subject::Subject;
use crate::failure::{During, Failure};
use crate::http::{Connection, Endpoint};
use crate::statistics::median;

/// One call should keep a core busy for so long.
const BURN: Duration = Duration::from_millis(700);
const BURN_ROUNDS_TRIED: u64 = 1_000_000;
const RUNS: usize = 5;

pub(super) async fn measure(subject: &mut Subject) -> Result<Findings, Failure> {
    let triggers = ["burn_a", "burn_b"].map(|name| Trigger::request(&subject.engine, name, Plugin::Burn));
    with_triggers(subject, &triggers, async |subject| {
        let target = |trigger: &Trigger, rounds: u64| format!("{}?rounds={rounds}", trigger.target());
        for trigger in &triggers {
            until_answers(&mut subject.api, &target(trigger, 1)).await?;
        }
        let endpoint = subject.api.endpoint().clone();
        let tried = burn(&endpoint, &target(&triggers[0], BURN_ROUNDS_TRIED)).await?;
        let rounds = (BURN_ROUNDS_TRIED as f64 * BURN.as_secs_f64() / tried.as_secs_f64()) as u64;
        let targets = triggers.each_ref().map(|trigger| target(trigger, rounds));

        let mut ratios = Vec::new();
        for _ in 0..RUNS {
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
