//! `write`

use std::{
    fmt,
    fs::File,
    io::{self, Cursor, IsTerminal, Read, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use tidemill_client::{Client, Precision, WriteOptions};
use tokio::{
    sync::mpsc,
    task::{JoinSet, spawn_blocking},
};

use crate::{
    connection::{Connection, Database},
    environment,
    failure::CommandError,
    line_batches::{LineBatch, LineBatches},
    print,
};

const AFTER_HELP: &str = "\
Examples:
  tidemill write --database weather 'air,site=pier temperature=11.5'
  tidemill write --database weather --precision s --file air.lp
  zcat air.lp.gz | tidemill write --database weather --gzip";

/// Batches that are read ahead of the requests.
const READ_AHEAD: usize = 2;

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct WriteArgs {
    #[command(flatten)]
    database: Database,

    /// File with line protocol
    #[arg(short, long, value_name = "FILE", conflicts_with = "line_protocol")]
    file: Option<PathBuf>,

    /// Line protocol; read from standard input if it is given nowhere
    line_protocol: Vec<String>,

    /// Unit of the timestamps: auto, s, ms, us, ns
    #[arg(short, long, default_value = "auto")]
    precision: Precision,

    /// Keep the good lines of a request that has bad ones
    #[arg(long)]
    accept_partial: bool,

    /// Do not wait until the data is durable
    #[arg(long)]
    no_sync: bool,

    /// Compress requests
    #[arg(long)]
    gzip: bool,

    /// Largest request before compression, in bytes
    #[arg(long, default_value = "10485760", value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..))]
    max_request_size: u32,

    /// Requests that may be on their way at the same time
    #[arg(long, default_value = "32", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    max_concurrent_requests: u16,

    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,

    /// URL of the server to write to, where it is another than the host
    #[arg(long, env = environment::WRITE_HOST_URL, value_name = "URL")]
    write_host: Option<String>,

    #[command(flatten)]
    connection: Connection,
}

impl WriteArgs {
    pub(crate) async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client_of(self.write_host.as_deref())?;
        let source = self.source()?;
        let bytes_max = self.max_request_size as usize;
        let (sender, batches) = mpsc::channel(READ_AHEAD);
        let reading = spawn_blocking(move || read_batches(source, bytes_max, &sender));

        let started = Instant::now();
        let mut progress = Progress::new(!self.quiet && io::stderr().is_terminal());
        self.send_all(&client, batches, &mut progress).await?;
        reading
            .await
            .unwrap_or_else(|panic| Err(io::Error::other(panic)))
            .map_err(CommandError::stream("input"))?;
        if progress.totals.requests == 0 {
            return Err(CommandError::message("incoming write was empty"));
        }
        if !self.quiet {
            print::error(&progress.totals.summary(started.elapsed()));
        }
        Ok(())
    }

    fn source(&self) -> Result<Box<dyn Read + Send>, CommandError> {
        if let Some(path) = &self.file {
            let file = File::open(path).map_err(CommandError::file(path))?;
            return Ok(Box::new(file));
        }
        if !self.line_protocol.is_empty() {
            return Ok(Box::new(Cursor::new(self.line_protocol.join("\n"))));
        }
        if io::stdin().is_terminal() {
            return Err(CommandError::message(
                "no line protocol: give it as an argument, with --file, or on standard input",
            ));
        }
        Ok(Box::new(io::stdin()))
    }

    async fn send_all(
        &self,
        client: &Client,
        mut batches: mpsc::Receiver<LineBatch>,
        progress: &mut Progress,
    ) -> Result<(), CommandError> {
        let options = WriteOptions {
            precision: self.precision,
            accept_partial: self.accept_partial,
            no_sync: self.no_sync,
            gzip: self.gzip,
        };
        let mut requests = JoinSet::new();
        while let Some(batch) = batches.recv().await {
            if requests.len() >= usize::from(self.max_concurrent_requests) {
                finish_one(&mut requests, progress).await?;
            }
            let client = client.clone();
            let database = self.database.database.clone();
            requests.spawn(async move {
                let sent = Totals::of(&batch);
                client
                    .write_lp(&database, batch.bytes, &options)
                    .await
                    .map(|()| sent)
            });
        }
        while !requests.is_empty() {
            finish_one(&mut requests, progress).await?;
        }
        Ok(())
    }
}

type Sent = Result<Totals, tidemill_client::ClientError>;

async fn finish_one(requests: &mut JoinSet<Sent>, progress: &mut Progress) -> Result<(), CommandError> {
    if let Some(finished) = requests.join_next().await {
        let sent = finished.map_err(|panic| CommandError::message(panic.to_string()))?;
        progress.add(&sent?);
    }
    Ok(())
}

/// Ends early when nobody takes the batches any more.
fn read_batches(source: impl Read, bytes_max: usize, batches: &mpsc::Sender<LineBatch>) -> io::Result<()> {
    let mut lines = LineBatches::new(source, bytes_max);
    while let Some(batch) = lines.next_batch()? {
        if batches.blocking_send(batch).is_err() {
            break;
        }
    }
    Ok(())
}

/// What has been written.
#[derive(Debug, Default)]
struct Totals {
    requests: u64,
    lines: u64,
    bytes: u64,
}

impl Totals {
    fn of(batch: &LineBatch) -> Self {
        Self {
            requests: 1,
            lines: batch.lines,
            bytes: batch.bytes.len() as u64,
        }
    }

    fn summary(&self, elapsed: Duration) -> String {
        let seconds = elapsed.as_secs_f64().max(1e-6);
        let plural = if self.requests == 1 { "" } else { "s" };
        format!(
            "  {}: {} request{plural} ({:.2} requests/sec), {} lines ({:.0} lines/s), {} ({}/s)",
            Elapsed(elapsed),
            self.requests,
            self.requests as f64 / seconds,
            self.lines,
            self.lines as f64 / seconds,
            Size(self.bytes as f64),
            Size(self.bytes as f64 / seconds),
        )
    }
}

struct Elapsed(Duration);

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < Duration::from_secs(1) {
            write!(f, "{}ms", self.0.as_millis())
        } else {
            write!(f, "{:.1}s", self.0.as_secs_f64())
        }
    }
}

struct Size(f64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["KB", "MB", "GB", "TB"];
        if self.0 < 1000.0 {
            return write!(f, "{:.0}B", self.0);
        }
        let mut value = self.0 / 1000.0;
        let mut unit = 0;
        while value >= 1000.0 && unit + 1 < UNITS.len() {
            value /= 1000.0;
            unit += 1;
        }
        write!(f, "{value:.1}{}", UNITS[unit])
    }
}

/// Counts what has been written, and shows the count to a person who watches.
struct Progress {
    totals: Totals,
    is_shown: bool,
    started: Instant,
    shown: Instant,
}

impl Progress {
    const INTERVAL: Duration = Duration::from_millis(200);

    fn new(is_shown: bool) -> Self {
        let now = Instant::now();
        Self {
            totals: Totals::default(),
            is_shown,
            started: now,
            shown: now,
        }
    }

    fn add(&mut self, sent: &Totals) {
        self.totals.requests += sent.requests;
        self.totals.lines += sent.lines;
        self.totals.bytes += sent.bytes;
        if self.is_shown && self.shown.elapsed() >= Self::INTERVAL {
            self.shown = Instant::now();
            let summary = self.totals.summary(self.started.elapsed());
            // The next one, or the summary at the end, is written over it.
            let _ = write!(io::stderr().lock(), "{summary}\x1b[K\r");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_reads_as_users_know_it() {
        let totals = Totals {
            requests: 1,
            lines: 1,
            bytes: 38,
        };
        assert_eq!(
            totals.summary(Duration::from_millis(315)),
            "  315ms: 1 request (3.17 requests/sec), 1 lines (3 lines/s), 38B (121B/s)"
        );
        let totals = Totals {
            requests: 12,
            lines: 1_000_000,
            bytes: 120_000_000,
        };
        assert_eq!(
            totals.summary(Duration::from_secs(2)),
            "  2.0s: 12 requests (6.00 requests/sec), 1000000 lines (500000 lines/s), 120.0MB (60.0MB/s)"
        );
    }
}
