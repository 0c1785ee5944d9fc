//! `query()` inside a plugin: from the call until the rows are dictionaries.

use serde_json::{Value, json};

use super::triggers::{Plugin, Trigger, until_answers, with_triggers};
use super::{Findings, ingest};
use crate::bench::BenchOptions;
use crate::bench::measure::Measure;
use crate::bench::subject::Subject;
use crate::failure::{During, Failure};
use crate::statistics::median;

const ROWS: usize = 100_000;
const COLUMNS: u64 = 21;
const RUNS: usize = 7;

pub(super) async fn measure(subject: &mut Subject, options: &BenchOptions) -> Result<Findings, Failure> {
    let rows = ingest::ensure_written(subject, options).await?.min(ROWS);
    let trigger = Trigger {
        arguments: json!({ "rows": rows.to_string() }),
        ..Trigger::request(&subject.data, "hand_over", Plugin::HandOver)
    };
    let target = trigger.target();
    with_triggers(subject, &[trigger], async |subject| {
        until_answers(&mut subject.api, &target).await?;
        let request = subject.api.endpoint().get(&target);
        let mut samples_ms = Vec::new();
        for _ in 0..RUNS {
            let answer = subject.api.exchange(&request).await?;
            let report: Value =
                serde_json::from_slice(&answer.body).during("cannot read the plugin's report")?;
            if report["rows"] != rows || report["columns"] != COLUMNS {
                return Err(Failure::new(format!(
                    "the plugin must see {rows} rows x 21 columns: {}",
                    answer.text()
                )));
            }
            let seconds = report["seconds"].as_f64().unwrap_or_default();
            samples_ms.push(seconds * 1000.0);
        }
        let mut findings = Findings::default();
        findings.add(Measure::HandOver, median(&mut samples_ms));
        if rows != ROWS {
            findings.note(format!(
                "query() handed over {rows} rows only, for want of more (--rows)"
            ));
        }
        Ok(findings)
    })
    .await
}
