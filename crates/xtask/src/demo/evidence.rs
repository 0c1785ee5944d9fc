//! What must have been seen before the demo may call itself a success.

use std::time::Duration;

use serde_json::Value;

use super::command_line::CommandLine;
use crate::failure::Failure;
use crate::http::{Answer, Connection, Endpoint};

/// Each part becomes true once and stays so.
#[derive(Default)]
pub(crate) struct Evidence {
    sampled_rows: bool,
    derived_rows: bool,
    alert_row: bool,
    status_json: bool,
    status_page: bool,
    /// Why the last look did not succeed.
    last_problem: Option<String>,
}

impl Evidence {
    pub(crate) fn is_complete(&self) -> bool {
        self.missing().is_empty()
    }

    /// Looks for what was not seen yet.
    pub(crate) async fn gather(&mut self, endpoint: &Endpoint, command_line: &CommandLine) {
        if let Err(failure) = self.look(endpoint, command_line).await {
            self.last_problem = Some(failure.to_string());
        }
    }

    /// What did not come, and the last problem met while looking for it.
    pub(crate) fn failure(&self, waited: Duration) -> Failure {
        let problem = self
            .last_problem
            .as_deref()
            .map(|text| format!("; last problem: {text}"))
            .unwrap_or_default();
        Failure::new(format!(
            "after {:.0} s still missing: {}{problem}",
            waited.as_secs_f64(),
            self.missing().join(", ")
        ))
    }

    fn missing(&self) -> Vec<&'static str> {
        [
            (self.sampled_rows, "rows that system_metrics samples"),
            (self.derived_rows, "rows that minute_stats derives"),
            (self.alert_row, "an alert row of minute_stats"),
            (self.status_json, "the JSON of live_status"),
            (self.status_page, "the page of live_status"),
        ]
        .into_iter()
        .filter_map(|(seen, name)| (!seen).then_some(name))
        .collect()
    }

    async fn look(&mut self, endpoint: &Endpoint, command_line: &CommandLine) -> Result<(), Failure> {
        if !self.sampled_rows {
            self.sampled_rows = has_rows(command_line, "SELECT time FROM cpu LIMIT 1").await?;
        }
        if !self.derived_rows {
            let derived = "SELECT time FROM cpu_1m WHERE usage_percent_count > 0 LIMIT 1";
            self.derived_rows = has_rows(command_line, derived).await?;
        }
        if !self.alert_row {
            self.alert_row =
                has_rows(command_line, "SELECT message FROM alerts WHERE value > threshold").await?;
        }
        if !self.status_json {
            let answer = get(endpoint, "/api/v3/engine/status").await?;
            let state: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            self.status_json = state["cpu"].as_array().is_some_and(|points| !points.is_empty());
        }
        if !self.status_page {
            self.status_page = get(endpoint, "/api/v3/engine/status?view=page")
                .await?
                .text()
                .contains("<svg");
        }
        Ok(())
    }
}

async fn has_rows(command_line: &CommandLine, sql: &str) -> Result<bool, Failure> {
    Ok(!command_line.query_rows(sql).await?.is_empty())
}

async fn get(endpoint: &Endpoint, target: &str) -> Result<Answer, Failure> {
    let exchanged = async {
        Connection::open(endpoint)
            .await?
            .exchange(&[&endpoint.get(target)])
            .await
    }
    .await;
    match exchanged {
        Ok(answer) if answer.is_success() => Ok(answer),
        Ok(answer) => Err(Failure::new(format!(
            "GET {target} answered {}: {}",
            answer.status,
            answer.text()
        ))),
        Err(error) => Err(Failure::new(format!("GET {target}: {error}"))),
    }
}
