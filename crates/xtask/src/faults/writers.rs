//! Clients that write numbered rows to a server that is killed again and again, and keep account of what was answered.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::neighbours::now_ns;
use crate::api::write_head;
use crate::failure::{During, Failure};
use crate::http::{Connection, Endpoint};

const PAUSE: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(20);

/// A row: who wrote it and its number.
pub(super) type RowId = (u32, u64);

/// What the writers know of their rows.
#[derive(Default)]
pub(super) struct Account {
    /// Rows whose write was answered.
    pub acknowledged: BTreeSet<RowId>,
    /// Rows whose write was neither answered nor refused: they may be there or not.
    pub uncertain: BTreeSet<RowId>,
    /// What else was answered; nothing else may be.
    pub refused: Vec<String>,
    /// Milliseconds until an answer.
    pub answered_ms: Vec<f64>,
}

impl Account {
    fn merge(&mut self, other: Account) {
        self.acknowledged.extend(other.acknowledged);
        self.uncertain.extend(other.uncertain);
        self.refused.extend(other.refused);
        self.answered_ms.extend(other.answered_ms);
    }
}

/// Writers at work.
pub(super) struct Writers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Account>,
}

impl Writers {
    /// Starts `count` writers. They write where `server` says, and wait while it says nowhere.
    pub(super) fn start(
        count: u32,
        database: &'static str,
        table: &'static str,
        server: &watch::Receiver<Option<Endpoint>>,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for writer in 0..count {
            let (server, stop) = (server.clone(), Arc::clone(&stop));
            tasks.spawn(write(writer, database, table, server, stop));
        }
        Writers { stop, tasks }
    }

    /// Lets each finish its row; the account of all.
    pub(super) async fn finish(mut self) -> Result<Account, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let mut account = Account::default();
        while let Some(of_one) = self.tasks.join_next().await {
            account.merge(of_one.during("a writer broke down")?);
        }
        Ok(account)
    }
}

async fn write(
    writer: u32,
    database: &str,
    table: &str,
    mut server: watch::Receiver<Option<Endpoint>>,
    stop: Arc<AtomicBool>,
) -> Account {
    let mut account = Account::default();
    let mut connection = None;
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let Some(endpoint) = server.borrow_and_update().clone() else {
            // Whoever kills the server also ends the writers: it is there again before they are stopped.
            if server.changed().await.is_err() {
                break;
            }
            continue;
        };
        let opened = match connection.take() {
            Some(open) => Ok(open),
            None => Connection::open(&endpoint).await,
        };
        let Ok(open) = opened else {
            // Nothing was sent: the row is not used up.
            sleep(PAUSE).await;
            continue;
        };
        number += 1;
        let sent = Instant::now();
        let row = (writer, number);
        match timeout(PATIENCE, send(open, &endpoint, database, table, row)).await {
            Ok(Ok((open, status, text))) => {
                connection = Some(open);
                if (200..300).contains(&status) {
                    account.acknowledged.insert(row);
                    account.answered_ms.push(sent.elapsed().as_secs_f64() * 1000.0);
                } else {
                    account.uncertain.insert(row);
                    account.refused.push(format!("{status}: {text}"));
                }
            }
            Ok(Err(_)) => {
                account.uncertain.insert(row);
            }
            Err(_) => {
                account.uncertain.insert(row);
                account
                    .refused
                    .push(format!("no answer within {} s", PATIENCE.as_secs()));
            }
        }
        sleep(PAUSE).await;
    }
    account
}

async fn send(
    mut connection: Connection,
    endpoint: &Endpoint,
    database: &str,
    table: &str,
    (writer, number): RowId,
) -> std::io::Result<(Connection, u16, String)> {
    let line = format!("{table},writer={writer} number={number}i {}", now_ns());
    let head = write_head(endpoint, database, line.len());
    let answer = connection.exchange(&[&head, line.as_bytes()]).await?;
    Ok((connection, answer.status, answer.text()))
}
