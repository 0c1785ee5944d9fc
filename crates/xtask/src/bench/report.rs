//! The figures for people, as a table, and for programs, as JSON.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::BenchOptions;
use super::budget::Budget;
use super::load::Order;
use super::measure::Measure;
use super::workloads::Outcome;
use crate::machine::Machine;
use crate::workspace::Workspace;

/// Everything that one run of the bench found.
pub(crate) struct Report {
    machine: Machine,
    commit: Option<String>,
    taken_at_s: u64,
    load: Value,
    outcomes: Vec<Outcome>,
    /// Cores that others kept busy during the run, where that is known.
    bystander_cores: Option<f64>,
}

/// More than this makes figures worse than they are.
const BYSTANDER_CORES_QUIET: f64 = 0.1;

impl Report {
    pub(crate) fn new(workspace: &Workspace, options: &BenchOptions) -> Self {
        Report {
            machine: Machine::describe(),
            commit: workspace.commit(),
            taken_at_s: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            load: json!({
                "seed": options.seed,
                "rows": options.rows,
                "hosts": options.hosts,
                "batch_lines": options.batch_lines,
                "connections": options.connections,
                "order": match options.order { Order::Host => "host", Order::Time => "time" },
                "repeat": options.repeat,
            }),
            outcomes: Vec::new(),
            bystander_cores: None,
        }
    }

    pub(crate) fn set_bystander_cores(&mut self, cores: f64) {
        self.bystander_cores = Some(cores);
    }

    pub(crate) fn add(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    /// What went wrong, by server and workload.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.outcomes
            .iter()
            .flat_map(|outcome| {
                outcome
                    .problems
                    .iter()
                    .map(|problem| format!("{}: {problem}", outcome.subject))
            })
            .collect()
    }

    /// The figures of the first server that do not keep to their budget.
    pub(crate) fn missed_budgets(&self) -> Vec<String> {
        self.outcomes
            .first()
            .map_or_else(Vec::new, |outcome| missed(&outcome.figures))
    }

    /// The whole report; the keys of figures are those of [`Measure::meaning`].
    pub(crate) fn to_json(&self) -> String {
        let subjects: Vec<Value> = self
            .outcomes
            .iter()
            .map(|outcome| {
                json!({
                    "name": outcome.subject,
                    "figures": figures_json(outcome),
                    "notes": outcome.notes,
                    "problems": outcome.problems,
                })
            })
            .collect();
        let report = json!({
            "machine": self.machine,
            "commit": self.commit,
            "taken_at": self.taken_at_s,
            "load": self.load,
            "bystander_cores": self.bystander_cores,
            "subjects": subjects,
        });
        format!("{report:#}\n")
    }

    fn measures(&self) -> Vec<Measure> {
        let mut measures: Vec<Measure> = self
            .outcomes
            .iter()
            .flat_map(|outcome| outcome.figures.keys().copied())
            .collect();
        measures.sort_unstable();
        measures.dedup();
        measures
    }

    fn rows(&self) -> Vec<Vec<String>> {
        self.measures()
            .into_iter()
            .map(|measure| {
                let meaning = measure.meaning();
                let values: Vec<Option<f64>> = self
                    .outcomes
                    .iter()
                    .map(|outcome| outcome.figures.get(&measure).copied())
                    .collect();
                let mut row = vec![meaning.label.to_owned()];
                row.extend(
                    values
                        .iter()
                        .map(|value| value.map_or_else(String::new, |v| meaning.unit.text(v))),
                );
                if let [first, others @ ..] = &values[..] {
                    row.extend(
                        others
                            .iter()
                            .map(|other| ratio_text(meaning.budget, *first, *other)),
                    );
                }
                row.push(meaning.budget.text(meaning.unit));
                row.push(verdict(meaning.budget, values[0]).to_owned());
                row
            })
            .collect()
    }

    fn header(&self) -> Vec<String> {
        let mut header = vec![String::new()];
        if let [_] = self.outcomes[..] {
            header.push("measured".to_owned());
        } else {
            header.extend((1..=self.outcomes.len()).map(|number| format!("[{number}]")));
            header.extend((2..=self.outcomes.len()).map(|number| format!("[1] is better than [{number}]")));
        }
        header.extend(["budget".to_owned(), String::new()]);
        header
    }
}

fn figures_json(outcome: &Outcome) -> Map<String, Value> {
    outcome
        .figures
        .iter()
        .map(|(measure, value)| {
            let meaning = measure.meaning();
            let mut figure = json!({ "value": value, "unit": meaning.unit.to_string() });
            match meaning.budget {
                Budget::AtLeast(bound) => figure["at_least"] = json!(bound),
                Budget::AtMost(bound) => figure["at_most"] = json!(bound),
                Budget::NoneLessIsBetter | Budget::NoneMoreIsBetter => {}
            }
            (meaning.key.to_owned(), figure)
        })
        .collect()
}

fn ratio_text(budget: Budget, first: Option<f64>, other: Option<f64>) -> String {
    match (first, other) {
        (Some(first), Some(other)) if first > 0.0 && other > 0.0 => {
            format!("{:.2}x", budget.times_better(first, other))
        }
        _ => String::new(),
    }
}

fn missed(figures: &BTreeMap<Measure, f64>) -> Vec<String> {
    figures
        .iter()
        .filter_map(|(measure, value)| {
            let meaning = measure.meaning();
            let is_missed = meaning.budget.is_met(*value) == Some(false);
            is_missed.then(|| {
                let (value, bound) = (meaning.unit.text(*value), meaning.budget.text(meaning.unit));
                format!("{} is {value}, the budget is {bound}", meaning.key)
            })
        })
        .collect()
}

fn verdict(budget: Budget, value: Option<f64>) -> &'static str {
    match value.and_then(|value| budget.is_met(value)) {
        Some(true) => "ok",
        Some(false) => "MISSED",
        None => "",
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}", self.machine.in_a_line())?;
        writeln!(f, "commit {}", self.commit.as_deref().unwrap_or("unknown"))?;
        if let Some(cores) = self.bystander_cores {
            let warning = if cores > BYSTANDER_CORES_QUIET {
                ": the machine was not quiet"
            } else {
                ""
            };
            writeln!(f, "others kept {cores:.2} cores busy meanwhile{warning}")?;
        }
        for (position, outcome) in self.outcomes.iter().enumerate() {
            writeln!(f, "[{}] {}", position + 1, outcome.subject)?;
            for note in &outcome.notes {
                writeln!(f, "    {note}")?;
            }
        }
        writeln!(f)?;
        let mut lines = vec![self.header()];
        lines.extend(self.rows());
        write_aligned(f, &lines)
    }
}

/// The first column to the left, figures to the right, the verdict as it is.
fn write_aligned(f: &mut fmt::Formatter<'_>, lines: &[Vec<String>]) -> fmt::Result {
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            lines
                .iter()
                .map(|line| line[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for line in lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ if column + 1 == columns => cell.clone(),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        writeln!(f, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_a_budget_can_miss_it() {
        let figures = BTreeMap::from([
            (Measure::IngestRate, 449_999.0),
            (Measure::IngestBatchP99, 1e9),
            (Measure::PointP50, 2.0),
            (Measure::StartTriggers, 5.25),
        ]);
        assert_eq!(
            missed(&figures),
            [
                "ingest.rows_per_s is 449,999 rows/s, the budget is >= 450,000 rows/s",
                "triggers.start_s is 5.25 s, the budget is <= 5.00 s",
            ]
        );
    }
}
