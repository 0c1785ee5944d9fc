//! The workloads, one file for those that belong together, and what they need in common.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use tokio::time::sleep;

use super::BenchOptions;
use super::api::NewTrigger;
use super::measure::Measure;
use super::statistics::median;
use super::subject::Subject;
use crate::failure::Failure;

mod hand_over;
mod ingest;
mod latency;
mod lifecycle;
mod queries;
mod request;
mod walk;

/// Something that can be measured by itself; they run in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Durable batches over several connections.
    Ingest,
    /// The six queries over the rows just written.
    Queries,
    /// `query()` inside a plugin.
    HandOver,
    /// One durable point at a time.
    Point,
    /// From a point to the row that a trigger derives from it.
    Derive,
    /// A data-write plugin that looks at every row.
    Walk,
    /// A request trigger called over several connections.
    Request,
    /// Two triggers that keep a core busy each.
    Parallel,
    /// Starting empty, with the rows, and after kill -9; servers of our own only.
    Start,
    /// Memory of an idle server and of idle triggers; servers of our own only.
    Idle,
}

impl Workload {
    fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    async fn measure(self, subject: &mut Subject, options: &BenchOptions) -> Result<Findings, Failure> {
        match self {
            Workload::Ingest => ingest::measure(subject, options).await,
            Workload::Queries => queries::measure(subject, options).await,
            Workload::HandOver => hand_over::measure(subject, options).await,
            Workload::Point => latency::measure_points(subject).await,
            Workload::Derive => latency::measure_derived_rows(subject).await,
            Workload::Walk => walk::measure(subject, options).await,
            Workload::Request => request::measure_rate(subject, options).await,
            Workload::Parallel => request::measure_parallelism(subject).await,
            Workload::Start => lifecycle::measure_starts(subject, options).await,
            Workload::Idle => lifecycle::measure_idle(subject).await,
        }
    }
}

/// What one run of a workload found.
#[derive(Default)]
pub(crate) struct Findings {
    figures: Vec<(Measure, f64)>,
    notes: Vec<String>,
}

impl Findings {
    fn add(&mut self, measure: Measure, value: f64) {
        self.figures.push((measure, value));
    }

    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

/// What was found about one server.
pub(crate) struct Outcome {
    pub subject: String,
    /// Medians over the repetitions.
    pub figures: BTreeMap<Measure, f64>,
    pub notes: Vec<String>,
    pub problems: Vec<String>,
}

/// Runs the chosen workloads; one that fails does not keep the others from running.
pub(crate) async fn run(subject: &mut Subject, options: &BenchOptions) -> Outcome {
    let mut samples: BTreeMap<Measure, Vec<f64>> = BTreeMap::new();
    let mut notes = Vec::new();
    let mut problems = Vec::new();
    for workload in options.workloads() {
        for _ in 0..options.repeat {
            let started = Instant::now();
            match workload.measure(subject, options).await {
                Ok(findings) => {
                    for (measure, value) in findings.figures {
                        samples.entry(measure).or_default().push(value);
                    }
                    notes.extend(findings.notes);
                    eprintln!(
                        "  {:<10} {:>6.1} s",
                        workload.name(),
                        started.elapsed().as_secs_f64()
                    );
                }
                Err(failure) => {
                    eprintln!("  {:<10} failed: {failure}", workload.name());
                    problems.push(format!("{}: {failure}", workload.name()));
                    break;
                }
            }
        }
    }
    notes.dedup();
    let figures = samples
        .into_iter()
        .map(|(measure, mut values)| (measure, median(&mut values)))
        .collect();
    Outcome {
        subject: subject.name(),
        figures,
        notes,
        problems,
    }
}

/// The plugins that workloads put into the server.
#[derive(Clone, Copy)]
enum Plugin {
    Burn,
    Derive,
    HandOver,
    Request,
    Walk,
}

impl Plugin {
    fn file(self) -> &'static str {
        match self {
            Plugin::Burn => "bench_burn.py",
            Plugin::Derive => "bench_derive.py",
            Plugin::HandOver => "bench_handover.py",
            Plugin::Request => "bench_request.py",
            Plugin::Walk => "bench_walk.py",
        }
    }

    fn content(self) -> &'static str {
        match self {
            Plugin::Burn => include_str!("../../../bench_plugins/bench_burn.py"),
            Plugin::Derive => include_str!("../../../bench_plugins/bench_derive.py"),
            Plugin::HandOver => include_str!("../../../bench_plugins/bench_handover.py"),
            Plugin::Request => include_str!("../../../bench_plugins/bench_request.py"),
            Plugin::Walk => include_str!("../../../bench_plugins/bench_walk.py"),
        }
    }
}

/// A trigger for the time of one measurement.
struct Trigger<'a> {
    database: &'a str,
    name: &'a str,
    plugin: Plugin,
    specification: &'a str,
    arguments: serde_json::Value,
}

/// Creates the triggers, measures, and deletes them, whatever the measurement gave. Where it failed, the failure says
/// what the plugins logged.
async fn with_triggers<T>(
    subject: &mut Subject,
    triggers: &[Trigger<'_>],
    measure: impl AsyncFnOnce(&mut Subject) -> Result<T, Failure>,
) -> Result<T, Failure> {
    for trigger in triggers {
        subject
            .install_plugin(trigger.plugin.file(), trigger.plugin.content())
            .await?;
        subject
            .api
            .create_trigger(&NewTrigger {
                database: trigger.database,
                name: trigger.name,
                plugin: trigger.plugin.file(),
                specification: trigger.specification,
                arguments: trigger.arguments.clone(),
            })
            .await?;
    }
    let mut measured = measure(subject).await;
    if let (Err(failure), Some(trigger)) = (&measured, triggers.first()) {
        let log = subject.api.plugin_log(trigger.database).await;
        measured = Err(Failure::new(format!("{failure}; the plugins' log: {log}")));
    }
    for trigger in triggers {
        subject.api.delete_trigger(trigger.database, trigger.name).await?;
    }
    measured
}

/// The path of the request trigger `path`.
fn trigger_target(path: &str) -> String {
    format!("/api/v3/engine/{path}")
}

/// Long enough for an environment to be made and a worker to start.
const FIRST_ANSWER_LIMIT: Duration = Duration::from_mins(2);

/// Calls a request trigger until it answers 200: its worker is then up.
async fn until_trigger_answers(subject: &mut Subject, target: &str) -> Result<(), Failure> {
    let request = subject.api.endpoint().get(target);
    let mut last = String::new();
    let answered = wait_until(FIRST_ANSWER_LIMIT, Duration::from_millis(20), async || {
        let answer = subject.api.exchange(&request).await?;
        last = format!("{}: {}", answer.status, answer.text());
        Ok(answer.is_success())
    })
    .await?;
    if answered {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "{target} never answered 200, at last {last}"
        )))
    }
}

/// Checks again and again; false where the limit has passed.
async fn wait_until(
    limit: Duration,
    pause: Duration,
    mut is_reached: impl AsyncFnMut() -> Result<bool, Failure>,
) -> Result<bool, Failure> {
    let started = Instant::now();
    while started.elapsed() < limit {
        if is_reached().await? {
            return Ok(true);
        }
        sleep(pause).await;
    }
    Ok(false)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
