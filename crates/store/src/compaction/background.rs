//! Compaction by itself, on a thread that lets all others go first.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidemill_catalog::Catalog;
use tokio::sync::watch;

use crate::Storage;
use crate::compaction::throttle::{MachineProbe, Throttle};
use crate::compaction::{CompactionPolicy, Compactor};
use crate::priority::{LOWEST, lower_priority};

/// How often files are looked at when there is nothing to do.
const POLL: Duration = Duration::from_secs(1);
/// The manifest gets a checkpoint so often if it has changed.
const CHECKPOINT_EVERY: Duration = Duration::from_mins(10);

/// How compaction runs.
#[derive(Debug, Clone, PartialEq)]
pub struct CompactionConfig {
    /// What it aims at.
    pub policy: CompactionPolicy,
    /// Part of one core that it takes while the machine is busy; where cores are idle it takes more. 0: files are removed
    /// when their rows have expired or were deleted, and otherwise stay as they are.
    pub cpu_share: f64,
    /// Bytes that it reads and writes in a second at most.
    pub io_bytes_per_second: u64,
    /// Files whose rows have expired are looked for at least so often.
    pub retention_check_interval: Duration,
    /// The first time that files are listed to find those that an earlier process did not finish, after the start.
    pub sweep_after: Duration,
    /// And then so often.
    pub sweep_every: Duration,
}

impl Default for CompactionConfig {
    /// A quarter of a core, 100 MB/s, 30 minutes, 5 minutes, a day.
    fn default() -> Self {
        Self {
            policy: CompactionPolicy::default(),
            cpu_share: 0.25,
            io_bytes_per_second: 100_000_000,
            retention_check_interval: Duration::from_mins(30),
            sweep_after: Duration::from_mins(5),
            sweep_every: Duration::from_hours(24),
        }
    }
}

/// Compaction that runs until this is dropped or [stopped](Self::stop), or another process has taken over, which
/// [`Storage::is_overtaken`] says then.
pub struct BackgroundCompaction {
    compactor: Arc<Compactor>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl BackgroundCompaction {
    /// Starts the thread. Must be called inside the server's tokio runtime, on which requests to the object store are made.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(
        storage: Arc<Storage>,
        catalog: Arc<Catalog>,
        config: CompactionConfig,
    ) -> std::io::Result<Self> {
        let probe = MachineProbe::new();
        let on_start = probe.clone();
        let on_stop = probe.clone();
        // Files are encoded on threads that the runtime has beside this one.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .thread_name("compaction-io")
            .max_blocking_threads(2)
            .on_thread_start(move || {
                lower_priority(LOWEST);
                on_start.register();
            })
            .on_thread_stop(move || on_stop.unregister())
            .build()?;
        let throttle = Throttle::new(
            config.cpu_share,
            config.io_bytes_per_second,
            Box::new(probe.clone()),
        );
        let compactor = Arc::new(Compactor::new(storage, catalog, config.policy.clone()).throttled(
            Arc::new(throttle),
            tokio::runtime::Handle::current(),
            &config,
        ));
        let (stop, stopped) = watch::channel(false);
        let running = Arc::clone(&compactor);
        let thread = std::thread::Builder::new()
            .name("compaction".to_owned())
            .spawn(move || {
                lower_priority(LOWEST);
                probe.register();
                runtime.block_on(run(running, config, stopped));
                probe.unregister();
            })?;
        Ok(Self {
            compactor,
            stop,
            thread: Some(thread),
        })
    }

    /// What it did and does.
    pub fn compactor(&self) -> &Arc<Compactor> {
        &self.compactor
    }

    /// Stops; a job that is being done is given up and leaves nothing that is read. Returns when the thread has ended.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let thread = self.thread.take();
        let joined = tokio::task::spawn_blocking(move || thread.map(JoinHandle::join)).await;
        if !matches!(joined, Ok(None | Some(Ok(())))) {
            tracing::error!("compaction ended in a panic");
        }
    }
}

impl Drop for BackgroundCompaction {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

async fn run(compactor: Arc<Compactor>, config: CompactionConfig, mut stopped: watch::Receiver<bool>) {
    let mut due = Due {
        sweep: Instant::now() + config.sweep_after,
        checkpoint: Instant::now() + CHECKPOINT_EVERY,
        checkpoint_sequence: 0,
    };
    loop {
        let step = async {
            let goes_on = step(&compactor, &config, &mut due).await;
            if goes_on == Some(false) {
                tokio::time::sleep(POLL).await;
            }
            goes_on
        };
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            goes_on = step => if goes_on.is_none() {
                return;
            }
        }
    }
}

struct Due {
    sweep: Instant,
    checkpoint: Instant,
    checkpoint_sequence: u64,
}

/// Does what is due. Returns whether there is more to do at once; `None` when another process has taken over.
async fn step(compactor: &Compactor, config: &CompactionConfig, due: &mut Due) -> Option<bool> {
    let mut is_busy = false;
    match compactor.compact_once(now_ns()).await {
        Ok(done) => is_busy |= done.is_some(),
        Err(error) if error.is_conflict() => {
            tracing::error!(%error, "compaction ends");
            return None;
        }
        Err(error) => tracing::warn!(%error, "compaction failed, will be tried again"),
    }
    match compactor.collect_garbage_once().await {
        Ok(_) => {}
        Err(error) if error.is_conflict() => {
            tracing::error!(%error, "compaction ends");
            return None;
        }
        Err(error) => tracing::warn!(%error, "replaced files could not be removed, will be tried again"),
    }
    if Instant::now() >= due.sweep {
        due.sweep = Instant::now() + config.sweep_every;
        if let Err(error) = compactor.sweep_orphans_once().await {
            tracing::warn!(%error, "unfinished files could not be removed");
        }
    }
    if Instant::now() >= due.checkpoint {
        due.checkpoint = Instant::now() + CHECKPOINT_EVERY;
        let sequence = compactor.storage.manifest().sequence();
        if sequence != due.checkpoint_sequence {
            due.checkpoint_sequence = sequence;
            compactor.checkpoint_once().await;
        }
    }
    Some(is_busy)
}

fn now_ns() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)
}
