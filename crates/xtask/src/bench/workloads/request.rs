//! Request triggers: how many calls they answer, where wanted beside what else serves Python functions over HTTP.

use serde_json::{Value, json};

use super::Findings;
use super::calls::{Calls, call};
use super::granian::Application;
use super::triggers::{Plugin, Trigger, until_answers, with_triggers};
use crate::bench::BenchOptions;
use crate::bench::measure::Measure;
use crate::bench::subject::Subject;
use crate::failure::{During, Failure};
use crate::http::{Connection, Endpoint};
use crate::statistics::median;

/// Servers that are compared take turns, so that what disturbs the machine disturbs all of them.
const COMPARED_ROUNDS: usize = 3;

/// A server that is called.
struct Contestant {
    endpoint: Endpoint,
    target: String,
    rounds: Vec<Calls>,
}

pub(super) async fn measure(subject: &mut Subject, options: &BenchOptions) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    let applications = if options.compare_granian {
        Application::start_all().await?
    } else {
        Vec::new()
    };
    let trigger = Trigger::request(&subject.engine, "request", Plugin::Request);
    let target = trigger.target();
    let contestants = with_triggers(subject, &[trigger], async |subject| {
        until_answers(&mut subject.api, &target).await?;
        let mut contestants = vec![Contestant::new(subject.api.endpoint(), target)];
        contestants.extend(
            applications
                .iter()
                .map(|application| Contestant::new(application.endpoint(), "/".to_owned())),
        );
        for contestant in &contestants {
            contestant.check_answer().await?;
        }
        let rounds = if contestants.len() > 1 { COMPARED_ROUNDS } else { 1 };
        for _ in 0..rounds {
            for contestant in &mut contestants {
                let calls = call(&contestant.endpoint, &contestant.target, options).await?;
                contestant.rounds.push(calls);
            }
        }
        Ok(contestants)
    })
    .await?;

    let Some((trigger, others)) = contestants.split_first() else {
        return Ok(findings);
    };
    let calls = Calls::median(&trigger.rounds);
    findings.add(Measure::RequestRate, calls.per_s);
    findings.add(Measure::RequestP50, calls.p50_ms);
    findings.add(Measure::RequestP99, calls.p99_ms);
    if let Some(application) = applications.first() {
        let versions = application.versions();
        findings.note(format!(
            "applications on Granian have one worker process: {versions}"
        ));
    }
    for (application, other) in applications.into_iter().zip(others) {
        let calls = Calls::median(&other.rounds);
        let measures = application.measures();
        findings.add(measures.rate, calls.per_s);
        findings.add(measures.p99, calls.p99_ms);
        findings.add(measures.ratio, trigger.times_faster_than(other));
        application.stop().await?;
    }
    Ok(findings)
}

impl Contestant {
    fn new(endpoint: &Endpoint, target: String) -> Self {
        Contestant {
            endpoint: endpoint.clone(),
            target,
            rounds: Vec::new(),
        }
    }

    /// All must do the same work.
    async fn check_answer(&self) -> Result<(), Failure> {
        let complaint = format!("no answer from {}", self.endpoint.url());
        let answer = Connection::open(&self.endpoint)
            .await
            .during(&complaint)?
            .exchange(&[&self.endpoint.get(&self.target)])
            .await
            .during(&complaint)?;
        let expected = json!({ "status": "ok", "answer": 42, "names": ["a", "b"] });
        if serde_json::from_slice::<Value>(&answer.body).is_ok_and(|body| body == expected) {
            return Ok(());
        }
        Err(Failure::new(format!(
            "{} must answer {expected}, it answered {}: {}",
            self.endpoint.url(),
            answer.status,
            answer.text()
        )))
    }

    /// The median over the rounds.
    fn times_faster_than(&self, other: &Contestant) -> f64 {
        let rounds = self.rounds.iter().zip(&other.rounds);
        median(&mut rounds.map(|(own, its)| own.per_s / its.per_s).collect::<Vec<_>>())
    }
}
