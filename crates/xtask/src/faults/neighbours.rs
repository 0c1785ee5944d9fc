//! What others do with a server while a fault goes on: writes, queries, requests to a healthy trigger. They run in a
//! thread of their own, so that what the fault itself needs does not hold them up, and they keep their pace: a request that
//! has to wait for the one before it counts from when it was due.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::api::{Api, query_request, write_head};
use crate::disk::watch_sync_ms;
use crate::failure::{During, Failure};
use crate::http::{Answer, Endpoint};
use crate::process_info::resident_bytes;
use crate::statistics::percentile;

/// Slow enough that a machine short of cores does not let writes queue up behind each other.
const WRITE_EVERY: Duration = Duration::from_millis(20);
/// Rows of one write.
pub(super) const WRITE_ROWS: u64 = 10;
const QUERY_EVERY: Duration = Duration::from_millis(40);
const REQUEST_EVERY: Duration = Duration::from_millis(40);
const MEMORY_EVERY: Duration = Duration::from_millis(50);
/// Who has no answer by then gives up, and is counted.
const PATIENCE: Duration = Duration::from_secs(20);
const ERRORS_KEPT: usize = 3;

/// The table that the neighbours write, and the one that a healthy trigger derives from it.
pub(super) const SOURCE: &str = "rows_written";
pub(super) const DERIVED: &str = "rows_derived";

/// Neighbours at work.
pub(super) struct Neighbours {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Observed, Failure>>,
    disk: JoinHandle<Result<Vec<f64>, Failure>>,
}

/// What they have noticed.
pub(super) struct Observed {
    pub writes: Series,
    pub queries: Series,
    pub requests: Series,
    /// Milliseconds of durable appends beside the server, on the same disk.
    pub disk_ms: Vec<f64>,
    pub server_bytes_before: u64,
    pub server_bytes_max: u64,
}

/// The answers to one kind of request.
#[derive(Default)]
pub(super) struct Series {
    milliseconds: Vec<f64>,
    failures: usize,
    /// The first few of them.
    errors: Vec<String>,
}

impl Series {
    pub(super) fn answered(&self) -> usize {
        self.milliseconds.len() - self.failures
    }

    pub(super) fn failures(&self) -> usize {
        self.failures
    }

    pub(super) fn errors(&self) -> &[String] {
        &self.errors
    }

    /// Milliseconds until an answer, by share of the answers (1 for the slowest); failed ones count as long as they took.
    /// Where nothing was answered, that takes for ever.
    pub(super) fn milliseconds(&self, share: f64) -> f64 {
        if self.milliseconds.is_empty() {
            return f64::INFINITY;
        }
        let mut sorted = self.milliseconds.clone();
        percentile(&mut sorted, share)
    }

    fn add(&mut self, took: Duration, result: Result<(), String>) {
        self.milliseconds.push(took.as_secs_f64() * 1000.0);
        if let Err(error) = result {
            self.failures += 1;
            if self.errors.len() < ERRORS_KEPT {
                self.errors.push(error);
            }
        }
    }
}

impl Neighbours {
    /// Sets them to work on a server; `writer` marks the rows they write, `target` is a healthy request trigger, `disk` a
    /// directory on the server's disk.
    pub(super) fn start(
        endpoint: &Endpoint,
        disk: PathBuf,
        server_pid: u32,
        database: &'static str,
        writer: String,
        target: String,
    ) -> Result<Self, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let (endpoint, told_to_stop) = (endpoint.clone(), Arc::clone(&stop));
        let thread = thread::Builder::new()
            .name("neighbours".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .during("cannot start a runtime")?;
                let work = work(&endpoint, server_pid, database, &writer, &target, &told_to_stop);
                Ok(runtime.block_on(work))
            })
            .during("cannot start a thread")?;
        let told_to_stop = Arc::clone(&stop);
        let disk = thread::Builder::new()
            .name("disk".to_owned())
            .spawn(move || watch_sync_ms(&disk, WRITE_EVERY, &told_to_stop))
            .during("cannot start a thread")?;
        Ok(Neighbours { stop, thread, disk })
    }

    /// Lets each finish what it has begun. Waits on this thread, at most as long as the neighbours' patience.
    pub(super) fn finish(self) -> Result<Observed, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let broke_down = |_| Failure::new("the neighbours broke down");
        let mut observed = self.thread.join().map_err(broke_down)??;
        observed.disk_ms = self.disk.join().map_err(broke_down)??;
        Ok(observed)
    }
}

async fn work(
    endpoint: &Endpoint,
    server_pid: u32,
    database: &str,
    writer: &str,
    target: &str,
    stop: &AtomicBool,
) -> Observed {
    let sql = format!("SELECT count(*) AS n, max(number) AS last FROM {SOURCE} WHERE writer = '{writer}'");
    let query = query_request(endpoint, database, &sql);
    let request = endpoint.get(target);
    let server_bytes_before = resident_bytes(server_pid);
    let (writes, queries, requests, server_bytes_max) = tokio::join!(
        repeat(endpoint, WRITE_EVERY, stop, |number| rows(
            endpoint, database, writer, number
        )),
        repeat(endpoint, QUERY_EVERY, stop, |_| query.clone()),
        repeat(endpoint, REQUEST_EVERY, stop, |_| request.clone()),
        memory_max(server_pid, stop),
    );
    Observed {
        writes,
        queries,
        requests,
        disk_ms: Vec::new(),
        server_bytes_before,
        server_bytes_max,
    }
}

/// The write request of that number: rows whose times are now, each a nanosecond apart.
fn rows(endpoint: &Endpoint, database: &str, writer: &str, request: u64) -> Vec<u8> {
    let now_ns = now_ns();
    let lines: String = (0..WRITE_ROWS)
        .map(|row| {
            let number = request * WRITE_ROWS + row;
            format!(
                "{SOURCE},writer={writer} number={number}i {}\n",
                now_ns + u128::from(row)
            )
        })
        .collect();
    let mut request = write_head(endpoint, database, lines.len());
    request.extend_from_slice(lines.as_bytes());
    request
}

pub(super) fn now_ns() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970")
        .as_nanos()
}

/// Sends one request after the other over one connection, at a pace.
async fn repeat(
    endpoint: &Endpoint,
    period: Duration,
    stop: &AtomicBool,
    render: impl Fn(u64) -> Vec<u8>,
) -> Series {
    let mut api = Api::new(endpoint.clone());
    let mut series = Series::default();
    let mut due_times = interval(period);
    due_times.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut last_answer: Option<Instant> = None;
    for number in 0.. {
        let due = due_times.tick().await;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let request = render(number);
        // A timer that fires late is not the server's fault; an answer that kept the next request waiting is.
        let from = match last_answer {
            Some(answered) if answered > due => due,
            _ => Instant::now(),
        };
        let result = match timeout(PATIENCE, api.exchange(&request)).await {
            Ok(Ok(answer)) => success(&answer),
            Ok(Err(failure)) => Err(failure.to_string()),
            Err(_) => {
                api = Api::new(endpoint.clone());
                Err(format!("no answer within {} s", PATIENCE.as_secs()))
            }
        };
        let answered = Instant::now();
        series.add(answered - from, result);
        last_answer = Some(answered);
    }
    series
}

fn success(answer: &Answer) -> Result<(), String> {
    if answer.is_success() {
        Ok(())
    } else {
        Err(format!("{}: {}", answer.status, answer.text()))
    }
}

async fn memory_max(pid: u32, stop: &AtomicBool) -> u64 {
    let mut ticks = interval(MEMORY_EVERY);
    let mut bytes_max = 0;
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        bytes_max = bytes_max.max(resident_bytes(pid));
    }
    bytes_max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_and_the_first_are_kept() {
        let mut series = Series::default();
        for number in 0..10_u64 {
            let result = if number < 6 {
                Err(format!("error {number}"))
            } else {
                Ok(())
            };
            series.add(Duration::from_millis(number + 1), result);
        }
        assert_eq!((series.answered(), series.failures()), (4, 6));
        assert_eq!(series.errors(), ["error 0", "error 1", "error 2"]);
        assert!((series.milliseconds(0.5) - 5.0).abs() < 1e-9);
        assert!((series.milliseconds(1.0) - 10.0).abs() < 1e-9);
    }
}
