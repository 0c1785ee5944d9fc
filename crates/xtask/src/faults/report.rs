//! The table, on the terminal as it grows and in a file for the documentation.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::bed::STOP_LIMIT;
use super::fault::Fault;
use super::finding::Finding;
use super::limits::{
    DERIVE_P99_MS_MAX, Noticed, QUERY_P99_MS_MAX, REQUEST_P99_MS_MAX, SERVER_GROWTH_MIB_MAX, WRITE_MS_MAX,
    WRITE_P50_MS_MAX, WRITE_P99_MS_MAX,
};
use crate::failure::{During, Failure};
use crate::machine::Machine;
use crate::workspace::Workspace;

/// One fault and what came of it.
pub(super) struct Row {
    pub fault: Fault,
    pub finding: Finding,
    /// `None` where the fault was not tried, or took the server with it.
    pub noticed: Option<Noticed>,
}

impl Row {
    fn verdict(&self) -> &'static str {
        if !self.finding.violations().is_empty() {
            "**FAILED**"
        } else if self.finding.skip_reason().is_some() {
            "skipped"
        } else {
            "ok"
        }
    }

    /// What became of it, or why it was not tried.
    fn outcome(&self) -> String {
        let violations = self.finding.violations().iter().map(|text| format!("**{text}**"));
        let sentences = self.finding.sentences().iter().cloned();
        let skipped = self.finding.skip_reason().map(str::to_owned);
        violations
            .chain(skipped)
            .chain(sentences)
            .collect::<Vec<_>>()
            .join("; ")
    }

    fn figures(&self) -> [String; 6] {
        let Some(noticed) = &self.noticed else {
            return std::array::from_fn(|_| "–".to_owned());
        };
        [
            format!(
                "{:.1} / {:.1} / {:.0}",
                noticed.write_p50_ms, noticed.write_p99_ms, noticed.write_max_ms
            ),
            format!("{:.1} / {:.0}", noticed.disk_p99_ms, noticed.disk_max_ms),
            format!("{:.1}", noticed.query_p99_ms),
            format!("{:.1}", noticed.request_p99_ms),
            format!("{} in {:.0} ms", noticed.rows, noticed.derive_p99_ms),
            format!("{:.0}", noticed.server_growth_mib),
        ]
    }

    /// Shows it on the terminal.
    pub(super) fn print(&self, took: Duration) {
        let [writes, disk, queries, requests, derived, grew] = self.figures();
        println!(
            "{:<28} {:<10} {:>5.1} s   writes {writes} ms, disk {disk} ms, queries {queries} ms, requests {requests} ms, derived {derived}, server +{grew} MiB",
            self.fault.name(),
            self.verdict().trim_matches('*'),
            took.as_secs_f64(),
        );
        for violation in self.finding.violations() {
            println!("    FAILED: {violation}");
        }
        for sentence in self
            .finding
            .skip_reason()
            .into_iter()
            .chain(self.finding.sentences().iter().map(String::as_str))
        {
            println!("    {sentence}");
        }
    }
}

/// Everything that one run of the task found.
pub(super) struct Report {
    machine: Machine,
    version: String,
    commit: Option<String>,
    date: String,
    rows: Vec<Row>,
    afterwards: Finding,
    bystander_cores: f64,
}

impl Report {
    pub(super) fn new(workspace: &Workspace, program: &Path) -> Result<Self, Failure> {
        Ok(Report {
            machine: Machine::describe(),
            version: first_line_of(Command::new(program).arg("--version"))?,
            commit: workspace.commit(),
            date: first_line_of(Command::new("date").args(["-u", "+%Y-%m-%d"]))?,
            rows: Vec::new(),
            afterwards: Finding::default(),
            bystander_cores: 0.0,
        })
    }

    pub(super) fn set_bystander_cores(&mut self, cores: f64) {
        self.bystander_cores = cores;
    }

    pub(super) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// What can only be seen when everything is over.
    pub(super) fn add_afterwards(&mut self, finding: Finding) {
        self.afterwards.merge(finding);
    }

    /// The limits that were not kept, by fault.
    pub(super) fn violations(&self) -> Vec<String> {
        let of_rows = self.rows.iter().flat_map(|row| {
            let violations = row.finding.violations().iter();
            violations.map(|violation| format!("{}: {violation}", row.fault.name()))
        });
        of_rows
            .chain(self.afterwards.violations().iter().cloned())
            .collect()
    }

    /// The page for the documentation.
    pub(super) fn to_markdown(&self) -> String {
        let mut page = self.introduction();
        page.push_str(
            "\n| Fault | | Writes: p50 / p99 / max, ms | Disk: p99 / max, ms | Queries: p99, ms | Requests: p99, ms \
             | Rows derived, p99 | Server, MiB | What became of it |\n|---|---|---|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            let cells = [
                vec![row.fault.title(), row.verdict().to_owned()],
                row.figures().to_vec(),
                vec![row.outcome()],
            ];
            let cells: Vec<String> = cells.concat().iter().map(|cell| in_a_cell(cell)).collect();
            let _infallible = writeln!(page, "| {} |", cells.join(" | "));
        }
        for violation in self.afterwards.violations() {
            let _infallible = writeln!(page, "\n**{violation}**");
        }
        page
    }

    fn introduction(&self) -> String {
        let commit = self.commit.as_deref().unwrap_or("unknown");
        format!(
            "# Faults

Each fault is brought about on a real server, release build, through the interfaces that everybody has. Meanwhile others go on: a durable
write of ten rows every 20 ms, a query and a request to a healthy trigger every 40 ms each, and a healthy synchronous trigger that
derives a row from every row written. The figures say what these others noticed; the last column says what became of the faulty
trigger.

This page is written by `cargo xtask faults --markdown docs/faults.md`; `--only NAME` tries one fault, `--help` lists their names.

{version}, commit {commit}, {date}. {machine}; plugins, server and load share it, and others kept {bystanders:.2} cores busy.

A fault is **ok** where

- writes are answered in {WRITE_P50_MS_MAX:.0} ms (p50), {WRITE_P99_MS_MAX:.0} ms (p99), at most {WRITE_MS_MAX:.0} ms, the last two beyond what a bare append with `fdatasync` on the same disk took at the same time (column Disk); queries in {QUERY_P99_MS_MAX:.0} ms and requests to the healthy trigger in {REQUEST_P99_MS_MAX:.0} ms (p99); an answer that kept the next request waiting counts there too;
- none of them fails;
- every row that was acknowledged is there, and derived exactly once, p99 within {DERIVE_P99_MS_MAX:.0} ms;
- the server is the same process as before and has not grown by more than {SERVER_GROWTH_MIB_MAX:.0} MiB;
- `disable` and `delete --force` are done, with all processes of the trigger gone, within {stop} s, and what the last column tells is as it should be.

Where there are no figures the server itself is what is harmed: it is one of the fault's own. There, clients write batches that make new points
and change earlier ones, and a model of what was acknowledged says which points there must be, with which values; \"agree\" means that count and
checksums are equal, and at the end every value of every point. A batch whose answer was cut off must be there whole or not at all.
",
            version = self.version,
            date = self.date,
            machine = self.machine.in_a_line(),
            bystanders = self.bystander_cores,
            stop = STOP_LIMIT.as_secs(),
        )
    }
}

/// Text without what would end a cell of a table.
fn in_a_cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn first_line_of(command: &mut Command) -> Result<String, Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().during(format!("cannot start {name}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(finding: Finding) -> Row {
        Row {
            fault: Fault::Orphans,
            finding,
            noticed: None,
        }
    }

    #[test]
    fn a_violation_stands_before_what_else_is_told() {
        let mut finding = Finding::default();
        finding.tell("2 children ended with it");
        assert_eq!(row(finding).verdict(), "ok");

        let mut finding = Finding::default();
        finding.tell("2 children ended with it");
        finding.require(false, "1 child outlives it");
        let row = row(finding);
        assert_eq!(row.verdict(), "**FAILED**");
        assert_eq!(row.outcome(), "**1 child outlives it**; 2 children ended with it");
    }

    #[test]
    fn what_was_not_tried_is_not_ok() {
        let row = row(Finding::skipped("no limit"));
        assert_eq!((row.verdict(), row.outcome()), ("skipped", "no limit".to_owned()));
    }

    #[test]
    fn text_stays_in_its_cell() {
        assert_eq!(in_a_cell("a|b\nc"), "a\\|b c");
    }
}
