//! Clients that write the batches of a model until they are told to stop or the server is gone.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidemill_write_model::Writer;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::site::{DATABASE, TABLE};
use crate::api::write_head;
use crate::failure::{During, Failure};
use crate::http::{Answer, Connection, Endpoint};
use crate::waiting::wait_until;

/// Between two attempts, whatever the answer says: the fault may be over sooner.
const RETRY_MAX: Duration = Duration::from_millis(200);
/// A request that is not answered by then is sent again.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_PAUSE: Duration = Duration::from_millis(10);
const EXAMPLES: usize = 3;
/// Between two batches: the model and its questions must stay affordable.
const PAUSE: Duration = Duration::from_millis(10);

/// Clients at work.
pub(super) struct Clients {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    tasks: JoinSet<Account>,
    writers: u64,
}

#[derive(Default)]
struct Counts {
    acknowledged: AtomicU64,
    refused: AtomicU64,
    /// Clients whose last answer was a refusal.
    turned_away: AtomicU64,
}

/// What came of their work.
#[derive(Default)]
pub(super) struct Account {
    /// In the order of their ids. A batch in doubt is one whose answer was cut off, or that was refused last.
    pub writers: Vec<Writer>,
    /// Answers that were refusals.
    pub refused: u64,
    /// The first few of them.
    pub refusals: Vec<String>,
    /// Milliseconds until a batch was acknowledged, all its attempts together.
    pub answered_ms: Vec<f64>,
}

impl Account {
    fn merge(&mut self, other: Account) {
        self.writers.extend(other.writers);
        self.refused += other.refused;
        self.refusals.extend(other.refusals);
        self.refusals.truncate(EXAMPLES);
        self.answered_ms.extend(other.answered_ms);
    }
}

impl Clients {
    /// One for each writer. A batch that is refused is sent again until it is acknowledged; when the server is gone, its
    /// client ends.
    pub(super) fn start(endpoint: &Endpoint, writers: Vec<Writer>, batch_rows: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let counts = Arc::new(Counts::default());
        let count = writers.len() as u64;
        let mut tasks = JoinSet::new();
        for writer in writers {
            let client = Client {
                endpoint: endpoint.clone(),
                stop: Arc::clone(&stop),
                counts: Arc::clone(&counts),
                account: Account::default(),
                is_turned_away: false,
            };
            tasks.spawn(client.write(writer, batch_rows));
        }
        Clients {
            stop,
            counts,
            tasks,
            writers: count,
        }
    }

    /// Waits until so many more batches were acknowledged; how long that took, or `None` where they were not.
    pub(super) async fn until_acknowledged(&self, batches: u64, limit: Duration) -> Option<Duration> {
        let before = self.counts.acknowledged.load(Ordering::Relaxed);
        let enough = || self.counts.acknowledged.load(Ordering::Relaxed) >= before + batches;
        self.until(limit, enough).await
    }

    /// Waits until nobody can write; how long that took, or `None` where some still can.
    pub(super) async fn until_all_refused(&self, limit: Duration) -> Option<Duration> {
        let all = || self.counts.turned_away.load(Ordering::Relaxed) == self.writers;
        self.until(limit, all).await
    }

    async fn until(&self, limit: Duration, is_reached: impl Fn() -> bool) -> Option<Duration> {
        let started = Instant::now();
        let reached = wait_until(limit, LOOK_PAUSE, async || Ok(is_reached())).await;
        matches!(reached, Ok(true)).then(|| started.elapsed())
    }

    /// Lets each have its answer, and waits for those whose server is gone.
    pub(super) async fn finish(mut self) -> Result<Account, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let mut account = Account::default();
        while let Some(of_one) = self.tasks.join_next().await {
            account.merge(of_one.during("a client broke down")?);
        }
        account.writers.sort_unstable_by_key(Writer::id);
        Ok(account)
    }
}

struct Client {
    endpoint: Endpoint,
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    account: Account,
    is_turned_away: bool,
}

impl Client {
    async fn write(mut self, mut writer: Writer, batch_rows: u64) -> Account {
        let mut connection = None;
        while !self.stop.load(Ordering::Relaxed) {
            if writer.in_doubt().is_none() {
                writer.next_batch(TABLE, batch_rows);
            }
            let Some(batch) = writer.in_doubt() else { continue };
            let sent = Instant::now();
            let is_acknowledged = self.send_until_acknowledged(&mut connection, &batch.lines).await;
            if !is_acknowledged {
                break;
            }
            writer.settle(true);
            self.counts.acknowledged.fetch_add(1, Ordering::Relaxed);
            self.account
                .answered_ms
                .push(sent.elapsed().as_secs_f64() * 1000.0);
            sleep(PAUSE).await;
        }
        self.account.writers.push(writer);
        self.account
    }

    /// False where the server is gone or the client was told to stop meanwhile.
    async fn send_until_acknowledged(&mut self, connection: &mut Option<Connection>, lines: &str) -> bool {
        loop {
            let open = match connection.take() {
                Some(open) => open,
                None => match Connection::open(&self.endpoint).await {
                    Ok(open) => open,
                    Err(_) => return false,
                },
            };
            let refusal = match timeout(PATIENCE, send(open, &self.endpoint, lines)).await {
                Ok(Ok((open, answer))) => {
                    *connection = Some(open);
                    if answer.is_success() {
                        self.turned_away(false);
                        return true;
                    }
                    format!("{}: {}", answer.status, answer.text())
                }
                Ok(Err(_)) => return false,
                Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
            };
            self.turned_away(true);
            self.account.refused += 1;
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            if self.account.refusals.len() < EXAMPLES {
                self.account.refusals.push(refusal);
            }
            if self.stop.load(Ordering::Relaxed) {
                return false;
            }
            sleep(RETRY_MAX).await;
        }
    }

    fn turned_away(&mut self, now: bool) {
        match (self.is_turned_away, now) {
            (false, true) => self.counts.turned_away.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.counts.turned_away.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
        self.is_turned_away = now;
    }
}

async fn send(
    mut connection: Connection,
    endpoint: &Endpoint,
    lines: &str,
) -> io::Result<(Connection, Answer)> {
    let head = write_head(endpoint, DATABASE, lines.len());
    let answer = connection.exchange(&[&head, lines.as_bytes()]).await?;
    Ok((connection, answer))
}
