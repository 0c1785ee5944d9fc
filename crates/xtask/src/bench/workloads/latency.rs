//! How long one point takes: to be durable, and to come back as a row that a trigger derived.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::triggers::{FIRST_ANSWER_LIMIT, Plugin, Trigger, with_triggers};
use super::{Findings, milliseconds};
use crate::api::write_head;
use crate::bench::measure::Measure;
use crate::bench::subject::Subject;
use crate::disk;
use crate::failure::Failure;
use crate::statistics::percentile;

const POINTS: usize = 500;
const POINTS_MIN: usize = 5;
/// A slow server is measured with fewer points.
const TIME_MAX: Duration = Duration::from_secs(20);
/// Between two looks for the derived row; what it adds to the figure is at most this.
const LOOK_PAUSE: Duration = Duration::from_micros(250);

pub(super) async fn measure_points(subject: &mut Subject) -> Result<Findings, Failure> {
    let table = subject.new_table("point");
    let mut samples_ms = Vec::new();
    let started = Instant::now();
    while wants_more(&samples_ms, started) {
        let lines = format!("{table},host=a value=1.5 {}", now_ns());
        let mut request = write_head(subject.api.endpoint(), &subject.engine, lines.len());
        request.extend_from_slice(lines.as_bytes());
        let sent = Instant::now();
        let answer = subject.api.exchange(&request).await?;
        samples_ms.push(milliseconds(sent.elapsed()));
        if answer.status != 204 {
            return Err(Failure::new(format!(
                "a point was answered {}: {}",
                answer.status,
                answer.text()
            )));
        }
    }
    // The first point makes the table, which is another kind of work.
    samples_ms.remove(0);
    let mut findings = Findings::default();
    let p50_ms = percentile(&mut samples_ms, 0.50);
    findings.add(Measure::PointP50, p50_ms);
    findings.add(Measure::PointP99, percentile(&mut samples_ms, 0.99));
    if let Some(directory) = subject.directory() {
        let sync_ms = disk::sync_ms(directory)?;
        findings.add(Measure::DiskSync, sync_ms);
        if p50_ms < sync_ms {
            findings.note("points were answered sooner than the disk alone ever syncs: were they durable?");
        }
    }
    Ok(findings)
}

pub(super) async fn measure_derived_rows(subject: &mut Subject) -> Result<Findings, Failure> {
    let trigger = Trigger {
        database: subject.engine.clone(),
        name: "derive".to_owned(),
        plugin: Plugin::Derive,
        specification: "table:derive_in".to_owned(),
        arguments: Value::Null,
    };
    with_triggers(subject, &[trigger], async |subject| {
        derive_one(subject, FIRST_ANSWER_LIMIT).await?;
        let mut samples_ms = Vec::new();
        let started = Instant::now();
        while wants_more(&samples_ms, started) {
            samples_ms.push(milliseconds(derive_one(subject, TIME_MAX).await?));
        }
        let mut findings = Findings::default();
        findings.add(Measure::DeriveP50, percentile(&mut samples_ms, 0.50));
        findings.add(Measure::DeriveP99, percentile(&mut samples_ms, 0.99));
        Ok(findings)
    })
    .await
}

fn wants_more(samples_ms: &[f64], started: Instant) -> bool {
    samples_ms.len() <= POINTS_MIN || (samples_ms.len() <= POINTS && started.elapsed() < TIME_MAX)
}

/// Writes a point and looks for its derived row until a query shows it.
async fn derive_one(subject: &mut Subject, limit: Duration) -> Result<Duration, Failure> {
    let number = now_ns();
    let database = subject.engine.clone();
    let sql = format!("SELECT number FROM derive_out WHERE number = {number}");
    let started = Instant::now();
    subject
        .api
        .write(&database, &format!("derive_in number={number}i {number}"))
        .await?;
    while subject.api.query_or_nothing(&database, &sql).await?.is_empty() {
        if started.elapsed() > limit {
            return Err(Failure::new(format!(
                "no derived row within {} s",
                limit.as_secs()
            )));
        }
        // The runtime's own clock knows whole milliseconds only, and nothing else runs here meanwhile.
        std::thread::sleep(LOOK_PAUSE);
    }
    Ok(started.elapsed())
}

fn now_ns() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos())
}
