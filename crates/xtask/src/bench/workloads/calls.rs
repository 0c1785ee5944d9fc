//! Many calls of one HTTP address over several connections: the load on request triggers and what they are compared
//! with.

use std::time::{Duration, Instant};

use super::milliseconds;
use crate::bench::BenchOptions;
use crate::failure::{During, Failure};
use crate::http::{Connection, Endpoint};
use crate::statistics::{median, percentile};

const WARM_UP: Duration = Duration::from_millis(500);

/// What the calls of one address gave.
#[derive(Clone, Copy)]
pub(super) struct Calls {
    pub per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

impl Calls {
    /// The median of each figure.
    pub(super) fn median(rounds: &[Calls]) -> Calls {
        let of = |figure: fn(&Calls) -> f64| median(&mut rounds.iter().map(figure).collect::<Vec<_>>());
        Calls {
            per_s: of(|calls| calls.per_s),
            p50_ms: of(|calls| calls.p50_ms),
            p99_ms: of(|calls| calls.p99_ms),
        }
    }
}

/// Calls `target` again and again for the time that the options say, after a short while that does not count. Every
/// connection waits for its answer before it calls again, and every answer must be 200.
pub(super) async fn call(
    endpoint: &Endpoint,
    target: &str,
    options: &BenchOptions,
) -> Result<Calls, Failure> {
    let lasting = Duration::from_secs(options.seconds);
    call_for(endpoint, target, options.connections, WARM_UP).await?;
    let (duration, mut answer_ms) = call_for(endpoint, target, options.connections, lasting).await?;
    Ok(Calls {
        per_s: answer_ms.len() as f64 / duration.as_secs_f64(),
        p50_ms: percentile(&mut answer_ms, 0.50),
        p99_ms: percentile(&mut answer_ms, 0.99),
    })
}

/// How long it took in the end, and how long each answer took.
async fn call_for(
    endpoint: &Endpoint,
    target: &str,
    connections: u32,
    lasting: Duration,
) -> Result<(Duration, Vec<f64>), Failure> {
    let mut opened = Vec::new();
    for _ in 0..connections {
        opened.push(Connection::open(endpoint).await.during("cannot connect")?);
    }
    let request = endpoint.get(target);
    let started = Instant::now();
    let callers: Vec<_> = opened
        .into_iter()
        .map(|connection| tokio::spawn(call_until(connection, request.clone(), started + lasting)))
        .collect();
    let mut answer_ms = Vec::new();
    for caller in callers {
        answer_ms.extend(caller.await.during("a caller broke down")??);
    }
    Ok((started.elapsed(), answer_ms))
}

async fn call_until(mut connection: Connection, request: Vec<u8>, end: Instant) -> Result<Vec<f64>, Failure> {
    let mut answer_ms = Vec::new();
    while Instant::now() < end {
        let sent = Instant::now();
        let answer = connection
            .exchange(&[&request])
            .await
            .during("a call was not answered")?;
        answer_ms.push(milliseconds(sent.elapsed()));
        if answer.status != 200 {
            return Err(Failure::new(format!(
                "a call was answered {}: {}",
                answer.status,
                answer.text()
            )));
        }
    }
    Ok(answer_ms)
}
