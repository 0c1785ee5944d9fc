//! Sending a rendered load over its connections, once or again and again.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::load::RenderedLoad;
use crate::api::write_head;
use crate::failure::{During, Failure};
use crate::http::{Connection, Endpoint};

/// A batch that was refused so long is not written.
const REFUSED_MAX: Duration = Duration::from_mins(1);
/// Where a refusal does not say when to try again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What came of [`write_all`].
pub(crate) struct Written {
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
    pub(crate) fn require_no_refusal(&self) -> Result<(), Failure> {
        match self.refusals {
            0 => Ok(()),
            refusals => Err(Failure::new(format!("{refusals} batches were answered 503"))),
        }
    }
}

/// Sends every body over the connection it was rendered for. Each must be answered 204; one that is answered 503 is sent
/// again when the answer says so.
pub(crate) async fn write_all(
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
            self.batch_ms.push(sent.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(self)
    }
}

/// What came of [`write_rounds`].
#[derive(Default)]
pub(crate) struct Rounds {
    pub rows: usize,
    /// Of writing alone, without what comes between two rounds.
    pub duration: Duration,
    pub refusals: usize,
}

/// Sends a load again and again, each time with times that are later by `delay_s`.
pub(crate) async fn write_rounds(
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
