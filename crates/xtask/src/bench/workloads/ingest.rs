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
use tokio::time::sleep;

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
    written.require_no_refusal()?;
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

/// A batch that was refused so long is not written.
const REFUSED_MAX: Duration = Duration::from_mins(1);
/// Where a refusal does not say when to try again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

pub(super) struct Written {
    pub duration: Duration,
    /// How long each batch took to be answered, the waiting after refusals included.
    pub batch_ms: Vec<f64>,
    /// How often a batch was answered 503 and sent again.
    pub refusals: usize,
    /// What was sent.
    pub load: RenderedLoad,
}

impl Written {
    /// A rate with pauses in it says nothing about the server.
    pub(super) fn require_no_refusal(&self) -> Result<(), Failure> {
        match self.refusals {
            0 => Ok(()),
            refusals => Err(Failure::new(format!("{refusals} batches were answered 503"))),
        }
    }
}

/// Sends every body over the connection it was rendered for. Each must be answered 204; one that is answered 503 is sent
/// again when the answer says so.
pub(super) async fn write_all(
    endpoint: &Endpoint,
    database: &str,
    load: RenderedLoad,
) -> Result<Written, Failure> {
    let mut writers = Vec::new();
    for bodies in load.by_connection {
        let connection = Connection::open(endpoint).await.during("cannot connect")?;
        let heads: Vec<Vec<u8>> = bodies
            .iter()
            .map(|body| write_head(endpoint, database, body.len()))
            .collect();
        writers.push(Writer {
            connection,
            heads,
            bodies,
            batch_ms: Vec::new(),
            refusals: 0,
        });
    }
    let started = Instant::now();
    let tasks: Vec<_> = writers
        .into_iter()
        .map(|writer| tokio::spawn(writer.write()))
        .collect();
    let mut written = Written {
        duration: Duration::ZERO,
        batch_ms: Vec::new(),
        refusals: 0,
        load: RenderedLoad {
            by_connection: Vec::new(),
            rows: load.rows,
        },
    };
    for task in tasks {
        let writer = task.await.during("a writer broke down")??;
        written.batch_ms.extend(writer.batch_ms);
        written.refusals += writer.refusals;
        written.load.by_connection.push(writer.bodies);
    }
    written.duration = started.elapsed();
    Ok(written)
}

/// One connection and what is sent over it.
struct Writer {
    connection: Connection,
    heads: Vec<Vec<u8>>,
    bodies: Vec<Vec<u8>>,
    batch_ms: Vec<f64>,
    refusals: usize,
}

impl Writer {
    async fn write(mut self) -> Result<Self, Failure> {
        self.batch_ms.reserve(self.bodies.len());
        for (head, body) in self.heads.iter().zip(&self.bodies) {
            let sent = Instant::now();
            loop {
                let answer = self
                    .connection
                    .exchange(&[head, body])
                    .await
                    .during("a batch was not answered")?;
                if answer.status == 204 {
                    break;
                }
                if answer.status != 503 || sent.elapsed() > REFUSED_MAX {
                    let (status, text) = (answer.status, answer.text());
                    return Err(Failure::new(format!("a batch was answered {status}: {text}")));
                }
                self.refusals += 1;
                sleep(answer.retry_after_s.map_or(RETRY_AFTER, Duration::from_secs)).await;
            }
            self.batch_ms.push(milliseconds(sent.elapsed()));
        }
        Ok(self)
    }
}

/// What came of [`write_rounds`].
#[derive(Default)]
pub(super) struct Rounds {
    pub rows: usize,
    /// Of writing alone, without what comes between two rounds.
    pub duration: Duration,
    pub refusals: usize,
}

/// Sends a load again and again, each time with times that are later by `delay_s`.
pub(super) async fn write_rounds(
    endpoint: &Endpoint,
    database: &str,
    mut load: RenderedLoad,
    rounds: usize,
    delay_s: u64,
) -> Result<Rounds, Failure> {
    let mut sum = Rounds::default();
    for round in 0..rounds {
        if round > 0 {
            load.delay(delay_s);
        }
        let written = write_all(endpoint, database, load).await?;
        sum.rows += written.load.rows;
        sum.duration += written.duration;
        sum.refusals += written.refusals;
        load = written.load;
    }
    Ok(sum)
}
