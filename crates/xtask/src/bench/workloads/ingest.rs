//! Durable batches over several connections.

use std::time::{Duration, Instant};

use super::rest::{REST_CORES, cpu_seconds_at_rest};
use super::{Findings, milliseconds};
use crate::api::write_head;
use crate::bench::BenchOptions;
use crate::bench::load::RenderedLoad;
use crate::bench::measure::Measure;
use crate::bench::subject::Subject;
use crate::failure::{During, Failure};
use crate::http::{Connection, Endpoint};
use crate::statistics::percentile;

/// The table that queries read.
pub(super) const TABLE: &str = "cpu";

pub(super) async fn measure(subject: &mut Subject, options: &BenchOptions) -> Result<Findings, Failure> {
    // A second run over the same rows would overwrite instead of add: other work than the first.
    let table = if subject.rows_written.is_none() {
        TABLE.to_owned()
    } else {
        subject.new_table(TABLE)
    };
    let load = options.load().render(&table);
    let (rows, megabytes) = (load.rows as f64, load.bytes() as f64 / 1e6);
    // A server that has just started may still be making its environment, and what it puts off until after its answers
    // counts as well.
    let cpu_before_s = cpu_seconds_at_rest(subject.pid(), REST_CORES).await;
    let mut written = write_all(subject.api.endpoint(), &subject.data, load).await?;
    let cpu_after_s = cpu_seconds_at_rest(subject.pid(), REST_CORES).await;
    subject.rows_written.get_or_insert(options.rows as usize);

    let mut findings = Findings::default();
    let seconds = written.duration.as_secs_f64();
    findings.add(Measure::IngestRate, rows / seconds);
    findings.add(Measure::IngestBytesRate, megabytes / seconds);
    findings.add(Measure::IngestBatchP50, percentile(&mut written.batch_ms, 0.50));
    findings.add(Measure::IngestBatchP99, percentile(&mut written.batch_ms, 0.99));
    match (cpu_before_s, cpu_after_s) {
        (Some(before), Some(after)) => findings.add(Measure::IngestCpu, (after - before) / rows * 1e6),
        _ => findings.note("the server's CPU time is unknown; --pid names its process"),
    }
    Ok(findings)
}

/// Writes the table that queries read, unless that was done.
pub(super) async fn ensure_written(subject: &mut Subject, options: &BenchOptions) -> Result<usize, Failure> {
    if let Some(rows) = subject.rows_written {
        return Ok(rows);
    }
    let load = options.load().render(TABLE);
    write_all(subject.api.endpoint(), &subject.data, load).await?;
    cpu_seconds_at_rest(subject.pid(), REST_CORES).await;
    subject.rows_written = Some(options.rows as usize);
    Ok(options.rows as usize)
}

pub(super) struct Written {
    pub duration: Duration,
    /// How long each batch took to be answered.
    pub batch_ms: Vec<f64>,
}

/// Sends every body over the connection it was rendered for. Each must be answered 204.
pub(super) async fn write_all(
    endpoint: &Endpoint,
    database: &str,
    load: RenderedLoad,
) -> Result<Written, Failure> {
    let mut connections = Vec::new();
    for bodies in load.by_connection {
        let connection = Connection::open(endpoint).await.during("cannot connect")?;
        let heads = bodies
            .iter()
            .map(|body| write_head(endpoint, database, body.len()))
            .collect::<Vec<_>>();
        connections.push((connection, heads, bodies));
    }
    let started = Instant::now();
    let writers: Vec<_> = connections
        .into_iter()
        .map(|(connection, heads, bodies)| tokio::spawn(write_bodies(connection, heads, bodies)))
        .collect();
    let mut batch_ms = Vec::new();
    for writer in writers {
        batch_ms.extend(writer.await.during("a writer broke down")??);
    }
    Ok(Written {
        duration: started.elapsed(),
        batch_ms,
    })
}

async fn write_bodies(
    mut connection: Connection,
    heads: Vec<Vec<u8>>,
    bodies: Vec<Vec<u8>>,
) -> Result<Vec<f64>, Failure> {
    let mut batch_ms = Vec::with_capacity(bodies.len());
    for (head, body) in heads.iter().zip(&bodies) {
        let sent = Instant::now();
        let answer = connection
            .exchange(&[head, body])
            .await
            .during("a batch was not answered")?;
        batch_ms.push(milliseconds(sent.elapsed()));
        if answer.status != 204 {
            return Err(Failure::new(format!(
                "a batch was answered {}: {}",
                answer.status,
                answer.text()
            )));
        }
    }
    Ok(batch_ms)
}
