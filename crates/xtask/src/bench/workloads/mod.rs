//! The workloads, one file for those that belong together, and what they need in common.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::BenchOptions;
use super::measure::Measure;
use super::subject::{Address, Subject};
use crate::failure::Failure;
use crate::statistics::median;
use clap::ValueEnum;

mod calls;
mod compacting;
mod files;
mod granian;
mod hand_over;
mod history;
mod idle;
mod ingest;
mod latency;
mod lifecycle;
mod many_files;
mod many_rows;
mod parallel;
mod queries;
mod request;
mod rest;
mod triggers;
mod walk;
mod worker_crash;

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
    /// The same through `to_arrow()`; installs pyarrow in the server.
    Arrow,
    /// A request trigger called over several connections.
    Request,
    /// Two triggers that keep a core busy each.
    Parallel,
    /// Starting empty, with the rows, and after kill -9; servers of our own only.
    Start,
    /// The rows in compacted files: their size, the six queries, starting; servers of our own only.
    Files,
    /// Starting with 10,000 files; servers of our own only.
    ManyFiles,
    /// One host and one hour out of 30 days; servers of our own only.
    History,
    /// Ingest while files are compacted; servers of our own only.
    Compacting,
    /// Memory under 20 million rows; servers of our own only.
    ManyRows,
    /// A worker process killed; servers of our own only.
    WorkerCrash,
    /// Memory of an idle server and of idle triggers; servers of our own only.
    Idle,
    /// Starting with 100 triggers, and the CPU time they take when idle; servers of our own only.
    ManyTriggers,
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
            Workload::Walk => walk::measure_rows(subject, options).await,
            Workload::Arrow => walk::measure_arrow(subject, options).await,
            Workload::Request => request::measure(subject, options).await,
            Workload::Parallel => parallel::measure(subject).await,
            Workload::Start => lifecycle::measure_starts(our_program(subject)?, options).await,
            Workload::Files => files::measure(our_program(subject)?, options).await,
            Workload::ManyFiles => many_files::measure(our_program(subject)?).await,
            Workload::History => history::measure(our_program(subject)?, options).await,
            Workload::Compacting => compacting::measure(our_program(subject)?, options).await,
            Workload::ManyRows => many_rows::measure(our_program(subject)?, options).await,
            Workload::WorkerCrash => with_own_server(our_program(subject)?, worker_crash::measure).await,
            Workload::Idle => with_own_server(our_program(subject)?, idle::measure_memory).await,
            Workload::ManyTriggers => {
                with_own_server(our_program(subject)?, idle::measure_many_triggers).await
            }
        }
    }

    /// Whether it can only be measured on servers that the bench starts itself.
    fn starts_servers(self) -> bool {
        use Workload::{
            Compacting, Files, History, Idle, ManyFiles, ManyRows, ManyTriggers, Start, WorkerCrash,
        };
        matches!(
            self,
            Start | Files | ManyFiles | History | Compacting | ManyRows | WorkerCrash | Idle | ManyTriggers
        )
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
        if workload.starts_servers() && subject.program().is_none() {
            notes.push(format!(
                "{} needs a server that the bench starts itself",
                workload.name()
            ));
            continue;
        }
        for _ in 0..options.repeat {
            let started = Instant::now();
            match workload.measure(subject, options).await {
                Ok(findings) => {
                    for (measure, value) in findings.figures {
                        samples.entry(measure).or_default().push(value);
                    }
                    notes.extend(findings.notes);
                    eprintln!(
                        "  {:<13} {:>6.1} s",
                        workload.name(),
                        started.elapsed().as_secs_f64()
                    );
                }
                Err(failure) => {
                    eprintln!("  {:<13} failed: {failure}", workload.name());
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

fn our_program(subject: &Subject) -> Result<&Path, Failure> {
    subject
        .program()
        .ok_or_else(|| Failure::new("the server is not ours to start"))
}

/// A server that nothing else was done to, for the time of one measurement.
async fn with_own_server(
    program: &Path,
    measure: impl AsyncFnOnce(&mut Subject) -> Result<Findings, Failure>,
) -> Result<Findings, Failure> {
    let mut own = Subject::open(Address::Program(program.to_owned())).await?;
    let measured = measure(&mut own).await;
    own.close().await?;
    measured
}

fn server_pid(subject: &Subject) -> Result<u32, Failure> {
    subject.pid().ok_or_else(|| Failure::new("the server has ended"))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
