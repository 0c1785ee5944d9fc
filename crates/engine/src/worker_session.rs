//! One trigger's worker: started, loaded, given runs, watched, restarted with back-off (engine.md 0.10, 0.14).
//!
//! A session lives as long as its trigger runs; worker processes come and go in it. Runs are handed over without
//! waiting ([`Session::submit`]) and come back through the worker's reader task, which finds the waiting side under a lock
//! that is never held while anything waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tidemill_ingest::{TriggerKey, TriggerProgress};
use tidemill_triggers::{
    Backoff, ByteSize, CatchUp, PluginType, RetryPolicy, TriggerDefinition, TriggerSpec,
};
use tidemill_worker_proto::{
    EntryPoint, Failure, FailureKind, Load, LogLevel, OUTPUT_BYTES_MAX, Outcome, ResponseHead, RunId,
    ToWorker, Work,
};
use tokio::sync::{Notify, OnceCell, OwnedSemaphorePermit, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::crash_loop::{CrashLoop, DEATHS_MAX};
use crate::launcher::{LaunchError, WorkerHandle};
use crate::memory_limit::MemoryLimit;
use crate::pending_runs::{Completion, PendingRuns, RunEnd};
use crate::plugin_files::{PluginFileError, ResolvedPlugin};
use crate::plugin_logs::{LogText, TriggerLog};
use crate::python_launcher::PYTHON_LOOK_INTERVAL;
use crate::request_completion::{CLIENT_LEFT, RequestCompletion};
use crate::request_runner::{PluginBody, PluginResponse, REQUEST_PATH_PREFIX};
use crate::response_stream::response_stream;
use crate::server_log::ServerLog;
use crate::services::Services;
use crate::session_events::SessionEvents;
use crate::trigger_stats::TriggerStats;

/// How often deadlines are looked at while runs are in flight.
const DEADLINE_TICK_MAX: Duration = Duration::from_secs(1);
/// How often the memory of a process is looked at while no run is in flight and it does not grow.
const MEMORY_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Growth from one look to the next that counts as such.
const MEMORY_GROWTH_BYTES: u64 = 1 << 20;
/// How often a stopping session looks whether its last runs have ended.
const IDLE_TICK: Duration = Duration::from_millis(5);
/// How long a process whose packages have changed may wait for a moment without runs. After that, new runs are held back until
/// those that are in flight have ended.
const REPLACEMENT_PATIENCE: Duration = Duration::from_secs(5);
/// How long a worker that is being started may keep others waiting for their turn.
const START_TURN_MAX: Duration = Duration::from_secs(5);

/// What the worker of a trigger is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WorkerState {
    /// On its way.
    Starting,
    /// Takes runs.
    Ready,
    /// Not there; the next attempt is made at that instant.
    Down { reason: String, until: Instant },
    /// The trigger has stopped.
    Stopped,
}

/// The trigger was stopped; nothing more is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stopped;

/// A run to be handed to a worker.
pub(crate) struct Submission {
    pub(crate) run_id: String,
    pub(crate) work: Work,
    pub(crate) blob: Bytes,
    /// See [`PendingRuns::insert`].
    pub(crate) depth: u16,
    pub(crate) completion: Completion,
}

/// Why a run was not handed over.
pub(crate) enum Refusal {
    /// The process is being replaced. To be offered again when a worker is ready.
    Replacing(Box<Submission>),
    /// There is none. Who waits for the run is given back.
    Gone(Completion),
}

struct Slot {
    worker: Option<Arc<dyn WorkerHandle>>,
    /// The process ends as soon as no run is in flight: none is added.
    is_replaced: bool,
    pending: PendingRuns,
    /// Why the server ended the process itself.
    ended_because: Option<String>,
    /// Whether a run has returned since the process started.
    has_succeeded: bool,
}

/// The worker side of one running trigger.
pub(crate) struct Session {
    pub(crate) services: Arc<Services>,
    pub(crate) key: TriggerKey,
    pub(crate) definition: Arc<TriggerDefinition>,
    pub(crate) log: TriggerLog,
    pub(crate) stats: Arc<TriggerStats>,
    pub(crate) server_log: ServerLog,
    slot: Mutex<Slot>,
    state: watch::Sender<WorkerState>,
    /// Whether the supervisor looks at deadlines by itself; if not, a new run wakes it.
    watches_deadlines: AtomicBool,
    run_submitted: Notify,
    retry_now: Notify,
    /// Whether there was a process before.
    has_started: AtomicBool,
    /// The plugin, where it comes from a repository.
    fetched: OnceCell<ResolvedPlugin>,
}

/// How one worker process came to its end.
enum LifeEnd {
    Stopped,
    /// There is no Python.
    Unavailable(String),
    /// There was no process.
    NotStarted(String),
    /// The process ended, or had to be ended.
    Died(String),
    /// For another one, with the packages as they are now.
    Replaced,
}

impl Session {
    pub(crate) fn new(
        services: Arc<Services>,
        key: TriggerKey,
        definition: Arc<TriggerDefinition>,
    ) -> Arc<Self> {
        let observations = &services.observations;
        let database_log = observations.logs.of_database(key.database);
        let log_limit = definition.settings.log_limit.map(|limit| limit.0);
        let kept_bytes_per_second = log_limit.unwrap_or(services.config.log_bytes_per_second);
        let trigger_name = definition.trigger_name.as_str().into();
        let log = TriggerLog::new(trigger_name, database_log, kept_bytes_per_second);
        let stats = observations
            .triggers
            .of_trigger(key, &definition.trigger_name, &observations.runs);
        let slot = Slot {
            worker: None,
            is_replaced: false,
            pending: PendingRuns::default(),
            ended_because: None,
            has_succeeded: false,
        };
        Arc::new(Self {
            services,
            key,
            definition,
            log,
            stats,
            server_log: ServerLog::new(Instant::now()),
            slot: Mutex::new(slot),
            state: watch::Sender::new(WorkerState::Starting),
            watches_deadlines: AtomicBool::new(false),
            run_submitted: Notify::new(),
            retry_now: Notify::new(),
            has_started: AtomicBool::new(false),
            fetched: OnceCell::new(),
        })
    }

    /// Runs that may be in flight.
    pub(crate) fn concurrency(&self) -> usize {
        self.services.concurrency(&self.definition.settings)
    }

    /// Longest duration of a run.
    pub(crate) fn run_timeout(&self) -> Duration {
        let config = &self.services.config;
        let default = match self.definition.spec.plugin_type() {
            PluginType::Request => config.request_timeout,
            PluginType::WalRows | PluginType::Schedule => config.run_timeout,
        };
        self.definition.settings.run_timeout.unwrap_or(default)
    }

    /// Bytes that one run may give back.
    pub(crate) fn output_bytes_max(&self) -> u64 {
        let own = self.definition.settings.output_limit;
        let bytes_max = own.map_or(self.services.config.output_bytes_max, |limit| limit.0);
        bytes_max.min(OUTPUT_BYTES_MAX)
    }

    /// What becomes of missed instants.
    pub(crate) fn catch_up(&self) -> CatchUp {
        let own = self.definition.settings.catch_up;
        own.unwrap_or(self.services.config.catch_up)
    }

    fn memory_limit(&self) -> MemoryLimit {
        let own = self.definition.settings.memory_limit;
        let bytes_max = own.map(|limit| limit.0);
        MemoryLimit {
            bytes_max: bytes_max.or(self.services.config.worker_memory_bytes_max),
        }
    }

    /// What the worker is doing, now and from now on.
    pub(crate) fn states(&self) -> watch::Receiver<WorkerState> {
        self.state.subscribe()
    }

    pub(crate) fn is_ready(&self) -> bool {
        *self.state.borrow() == WorkerState::Ready
    }

    /// Whether a worker is on its way.
    pub(crate) fn is_starting(&self) -> bool {
        *self.state.borrow() == WorkerState::Starting
    }

    /// Waits until the state is one that `wanted` accepts.
    pub(crate) async fn wait_for(&self, wanted: impl FnMut(&WorkerState) -> bool) -> WorkerState {
        let mut states = self.state.subscribe();
        let state = states.wait_for(wanted).await.map(|state| state.clone());
        state.unwrap_or(WorkerState::Stopped)
    }

    /// Waits until a worker takes runs.
    pub(crate) async fn ready(&self) -> Result<(), Stopped> {
        if self.is_ready() {
            return Ok(());
        }
        match self
            .wait_for(|state| matches!(state, WorkerState::Ready | WorkerState::Stopped))
            .await
        {
            WorkerState::Ready => Ok(()),
            _ => Err(Stopped),
        }
    }

    /// Makes the next attempt to start a worker at once, where there is none now.
    pub(crate) fn retry_if_down(&self) {
        if matches!(*self.state.borrow(), WorkerState::Down { .. }) {
            self.retry_now.notify_one();
        }
    }

    /// Progress of a trigger whose position in the log means nothing: schedules and requests.
    pub(crate) fn progress_without_position(&self) -> TriggerProgress {
        let committed = *self.services.ingest.committed().borrow();
        TriggerProgress::through(self.key, committed)
    }

    /// Hands a run to the worker, and names it.
    pub(crate) fn submit(&self, submission: Submission) -> Result<RunId, Refusal> {
        let mut slot = self.slot.lock();
        if slot.is_replaced {
            return Err(Refusal::Replacing(Box::new(submission)));
        }
        let Submission {
            run_id,
            work,
            blob,
            depth,
            completion,
        } = submission;
        let Some(worker) = slot.worker.clone() else {
            return Err(Refusal::Gone(completion));
        };
        let run = slot.pending.insert(completion, depth, Instant::now());
        // Sent under the lock: synchronous runs reach the worker in the order of their numbers.
        if worker.send(ToWorker::Run { run, run_id, work }, blob).is_err() {
            let completion = slot.pending.remove(run).expect("the run was entered above");
            return Err(Refusal::Gone(completion));
        }
        drop(slot);
        if !self.watches_deadlines.swap(true, Ordering::AcqRel) {
            self.run_submitted.notify_one();
        }
        Ok(run)
    }

    /// The client of a request has left before its answer was complete: the run is told to end. Not a deadline: a plugin that
    /// takes no notice keeps its process until there is one.
    pub(crate) fn abandon(&self, run: RunId) {
        let mut slot = self.slot.lock();
        let newly = slot.pending.request(run).is_some_and(RequestCompletion::abandon);
        if newly && let Some(worker) = &slot.worker {
            let reason = CLIENT_LEFT.to_owned();
            let _ = worker.send(ToWorker::Cancel { run, reason }, Bytes::new());
        }
    }

    /// The worker begins to stream an answer.
    pub(crate) fn begin_response(self: &Arc<Self>, run: RunId, head: ResponseHead, part: &[u8]) {
        let (sender, stream) = response_stream(Arc::clone(self), run);
        let begun = {
            let mut slot = self.slot.lock();
            slot.pending
                .request(run)
                .and_then(|request| request.begin_stream(sender))
        };
        // Not under the lock: a client that has left drops the stream, which abandons the run.
        if let Some(reply) = begun {
            let _ = reply.send(Ok(PluginResponse {
                status: head.status,
                headers: head.headers,
                body: PluginBody::Stream(stream),
            }));
            self.continue_response(run, part);
        }
    }

    /// The worker goes on streaming an answer.
    pub(crate) fn continue_response(self: &Arc<Self>, run: RunId, part: &[u8]) {
        let bytes_max = self.definition.settings.output_limit.map(|limit| limit.0);
        let (completion, reason) = {
            let mut slot = self.slot.lock();
            let Some(request) = slot.pending.request(run) else {
                return;
            };
            let Err(excess) = request.push(part, bytes_max) else {
                return;
            };
            if let Some(worker) = &slot.worker {
                let reason = excess.to_string();
                let _ = worker.send(ToWorker::Cancel { run, reason }, Bytes::new());
            }
            (slot.pending.remove(run), excess.to_string())
        };
        if let Some(completion) = completion {
            self.complete(completion, RunEnd::Lost(reason));
        }
    }

    /// The client of a streamed answer has taken so much more of it.
    pub(crate) fn confirm_response(&self, run: RunId, bytes: usize) {
        if let Some(worker) = self.worker() {
            let bytes = bytes as u64;
            let _ = worker.send(ToWorker::ResponseTaken { run, bytes }, Bytes::new());
        }
    }

    /// Through how many triggers the rows have come that are written now, in a run or beside all.
    pub(crate) fn depth_of(&self, run: Option<RunId>) -> u16 {
        let depth = run.and_then(|run| self.slot.lock().pending.depth(run));
        depth.unwrap_or(1)
    }

    pub(crate) fn worker(&self) -> Option<Arc<dyn WorkerHandle>> {
        self.slot.lock().worker.clone()
    }

    /// How many runs are in flight.
    pub(crate) fn runs_in_flight(&self) -> usize {
        self.slot.lock().pending.len()
    }

    /// Whether no run is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.slot.lock().pending.is_empty()
    }

    /// The worker says that a run has ended.
    pub(crate) fn finish(self: &Arc<Self>, run: RunId, outcome: Outcome, blob: Bytes) {
        let completion = {
            let mut slot = self.slot.lock();
            slot.has_succeeded |= matches!(outcome, Outcome::Returned { .. });
            slot.pending.remove(run)
        };
        let Some(completion) = completion else { return };
        let end = match self.excess_output(&outcome, &blob) {
            Some(message) => RunEnd::Failed(Failure {
                kind: FailureKind::BadReturn,
                message,
                traceback: None,
            }),
            None => RunEnd::new(outcome, blob),
        };
        self.complete(completion, end);
    }

    /// What a run gives back too much. Its worker sees to that; but a plugin may do what it likes with its worker.
    fn excess_output(&self, outcome: &Outcome, blob: &Bytes) -> Option<String> {
        let Outcome::Returned { state, .. } = outcome else {
            return None;
        };
        let state_bytes = state.iter().filter_map(|change| change.value_bytes);
        let output_bytes = (blob.len() as u64).saturating_sub(state_bytes.fold(0, u64::saturating_add));
        self.check_output(output_bytes).err()
    }

    /// Refuses output that is too large.
    pub(crate) fn check_output(&self, bytes: u64) -> Result<(), String> {
        let bytes_max = self.output_bytes_max();
        if bytes <= bytes_max {
            return Ok(());
        }
        Err(format!(
            "{bytes} bytes exceed the trigger's output limit of {}",
            ByteSize(bytes_max)
        ))
    }

    /// The worker is gone, and what it was doing with it.
    pub(crate) fn lose_worker(self: &Arc<Self>, how: &str) {
        let (lost, reason) = {
            let mut slot = self.slot.lock();
            slot.worker = None;
            let reason = slot
                .ended_because
                .clone()
                .unwrap_or_else(|| format!("the plugin's process {how}"));
            (slot.pending.drain(), reason)
        };
        self.state.send_if_modified(|state| {
            let was_ready = *state == WorkerState::Ready;
            if was_ready {
                *state = WorkerState::Starting;
            }
            was_ready
        });
        for completion in lost {
            self.complete(completion, RunEnd::Lost(reason.clone()));
        }
    }

    fn complete(self: &Arc<Self>, completion: Completion, end: RunEnd) {
        match completion {
            // Nobody waits for the run of a trigger that was stopped.
            Completion::Run(waiting) => drop(waiting.send(end)),
            Completion::Request(request) => request.complete(self, end),
        }
    }

    /// Keeps a worker running until `stop`; then ends it within the grace period. Returns why there should be no further
    /// one, if its processes die again and again.
    pub(crate) async fn supervise(self: Arc<Self>, stop: CancellationToken) -> Option<String> {
        let policy = RetryPolicy {
            attempts_max: None,
            ..self.services.config.retry
        };
        let seed = (u64::from(self.key.database.0) << 32) | u64::from(self.key.trigger_id);
        let mut backoff = Backoff::new(policy, seed);
        let mut crash_loop = CrashLoop::default();
        let mut given_up = None;
        let mut reported = String::new();
        while !stop.is_cancelled() {
            self.state.send_replace(WorkerState::Starting);
            let began = Instant::now();
            let end = self.live(&stop).await;
            let has_succeeded = {
                let mut slot = self.slot.lock();
                slot.ended_because = None;
                std::mem::take(&mut slot.has_succeeded)
            };
            if has_succeeded {
                backoff.succeeded();
            }
            let (reason, without_python, is_over) = match end {
                LifeEnd::Stopped => break,
                LifeEnd::Replaced => continue,
                LifeEnd::Unavailable(reason) => (reason, true, false),
                LifeEnd::NotStarted(reason) => (reason, false, false),
                LifeEnd::Died(reason) => (reason, false, crash_loop.died(has_succeeded, began.elapsed())),
            };
            // An unchanged reason would fill the log of a trigger that waits for its plugin or for Python.
            if reason != reported || has_succeeded {
                self.log.error(reason.clone());
                tracing::warn!(
                    trigger = self.definition.trigger_name,
                    database = self.definition.database_name,
                    reason,
                    "trigger has no worker process"
                );
                reported.clone_from(&reason);
            }
            if is_over {
                given_up = Some(format!(
                    "{DEATHS_MAX} processes of the plugin have ended one after the other without a successful run, the \
                     last one because {reason}"
                ));
                break;
            }
            let delay = if without_python {
                PYTHON_LOOK_INTERVAL
            } else {
                backoff.failed().unwrap_or(policy.delay_max)
            };
            if delay.is_zero() {
                continue;
            }
            self.state.send_replace(WorkerState::Down {
                reason,
                until: Instant::now() + delay,
            });
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.retry_now.notified() => {}
                () = tokio::time::sleep(delay), if !without_python => {}
                () = self.services.launcher.available(), if without_python => {}
            }
        }
        if let Some(reason) = &given_up {
            let reason = format!("the trigger is disabled: {reason}");
            tracing::warn!(
                trigger = self.definition.trigger_name,
                database = self.definition.database_name,
                "{reason}"
            );
            self.log.error(reason);
        }
        self.state.send_replace(WorkerState::Stopped);
        given_up
    }

    /// Finds the plugin. Code from a repository stays the one that the trigger was started with (engine.md 6.1).
    async fn resolve_plugin(&self) -> Result<ResolvedPlugin, PluginFileError> {
        let name = &self.definition.plugin_filename;
        if !name.starts_with(tidemill_plugin_repo::PREFIX) {
            return self.services.resolve_plugin(name).await;
        }
        let fetch = async || {
            let plugin = self.services.resolve_plugin(name).await?;
            if let Some(outage) = &plugin.outage {
                self.log.warn(format!("{outage}; an earlier copy is used"));
            }
            Ok(plugin)
        };
        self.fetched.get_or_try_init(fetch).await.cloned()
    }

    /// The life of one worker process.
    async fn live(self: &Arc<Self>, stop: &CancellationToken) -> LifeEnd {
        let resolved = tokio::select! {
            () = stop.cancelled() => return LifeEnd::Stopped,
            resolved = self.resolve_plugin() => resolved,
        };
        let plugin = match resolved {
            Ok(plugin) => plugin,
            Err(error) => return LifeEnd::NotStarted(format!("Plugin error: {error}")),
        };
        let label = format!(
            "{}/{}",
            self.definition.database_name, self.definition.trigger_name
        );
        let events = Arc::new(SessionEvents::new(Arc::clone(self)));
        let mut environment_changes = self.services.environment_changes.subscribe();
        let launch = async {
            let turn = self.wait_for_turn().await;
            let launcher = &self.services.launcher;
            (
                turn,
                launcher
                    .launch(&label, self.memory_limit(), Arc::clone(&events) as _)
                    .await,
            )
        };
        let (turn, launched) = tokio::select! {
            () = stop.cancelled() => return LifeEnd::Stopped,
            launched = launch => launched,
        };
        let worker = match launched {
            Ok(worker) => worker,
            Err(error @ LaunchError::PythonUnavailable(_)) => return LifeEnd::Unavailable(error.to_string()),
            Err(LaunchError::Failed(reason)) => {
                return LifeEnd::NotStarted(format!("could not start a worker process: {reason}"));
            }
        };
        // From here on the process is ended by this function, whichever way it goes.
        {
            let mut slot = self.slot.lock();
            slot.worker = Some(Arc::clone(&worker));
            slot.is_replaced = false;
        }
        if self.has_started.swap(true, Ordering::Relaxed) {
            self.stats.restarts.add(1);
        }
        let grace = self.services.config.stop_grace;
        let until_killed = async {
            tokio::select! {
                reason = self.load_and_watch(&plugin, &events, worker.as_ref(), turn) => reason,
                reason = self.watch_memory(worker.as_ref()) => reason,
            }
        };
        let end = tokio::select! {
            biased;
            () = stop.cancelled() => {
                self.end_worker(worker.as_ref(), grace).await;
                LifeEnd::Stopped
            }
            reason = worker.wait() => LifeEnd::Died(format!("the plugin's process {reason}")),
            reason = until_killed => {
                self.slot.lock().ended_because = Some(reason.clone());
                self.stats.processes_killed.add(1);
                worker.kill().await;
                LifeEnd::Died(reason)
            }
            () = self.replaceable(&mut environment_changes) => {
                worker.stop(grace).await;
                LifeEnd::Replaced
            }
        };
        self.lose_worker("was stopped");
        end
    }

    /// Returns when packages were installed and, from then on, no run is in flight or added. A moment without runs is waited
    /// for a while first: once runs are held back, they wait for the longest that is in flight.
    async fn replaceable(&self, environment_changes: &mut watch::Receiver<u64>) {
        // A plugin that is being loaded is loaded first.
        if environment_changes.changed().await.is_err() || self.ready().await.is_err() {
            // The trigger has stopped, which the caller is told too.
            return std::future::pending().await;
        }
        let patience_ends = Instant::now() + REPLACEMENT_PATIENCE;
        loop {
            {
                let mut slot = self.slot.lock();
                let is_idle = slot.pending.is_empty();
                if !slot.is_replaced && (is_idle || Instant::now() >= patience_ends) {
                    slot.is_replaced = true;
                    // Under the lock: whoever is refused finds the state that it has to wait for the end of.
                    self.state.send_replace(WorkerState::Starting);
                    let text = "packages were installed, the plugin's process is started anew";
                    self.log.push(LogLevel::Info, LogText::Static(text));
                }
                if slot.is_replaced && is_idle {
                    return;
                }
            }
            tokio::time::sleep(IDLE_TICK).await;
        }
    }

    /// Looks at the memory of a process while its plugin is loaded, and now and then for what it does beside its runs.
    /// Returns when it must be killed.
    async fn watch_memory(&self, worker: &dyn WorkerHandle) -> String {
        let limit = self.memory_limit();
        let mut resident_bytes = 0;
        loop {
            let look = match limit.look(worker) {
                Ok(look) => look,
                Err(reason) => return reason,
            };
            let grows = look.resident_bytes > resident_bytes + MEMORY_GROWTH_BYTES;
            resident_bytes = look.resident_bytes;
            let interval = if grows {
                look.again_in
            } else {
                MEMORY_CHECK_INTERVAL
            };
            tokio::time::sleep(interval).await;
        }
    }

    /// Waits until there is a place for a worker that starts. It is given back when the answer is dropped, and at the
    /// latest after some seconds: a plugin that takes long to load must not keep the others from running.
    async fn wait_for_turn(&self) -> DropGuard {
        self.services.launcher.decided().await;
        let place = Arc::clone(&self.services.starts).acquire_owned().await;
        let place: Option<OwnedSemaphorePermit> = place.ok();
        let turn = CancellationToken::new();
        let over = turn.clone();
        tokio::spawn(async move {
            // Either way the turn is over.
            let _ = tokio::time::timeout(START_TURN_MAX, over.cancelled()).await;
            drop(place);
        });
        turn.drop_guard()
    }

    /// Ends the process within `grace`: first an exception in what still runs, then, where that is of no avail, a kill
    /// (engine.md 0.14).
    async fn end_worker(&self, worker: &dyn WorkerHandle, grace: Duration) {
        let runs = self.slot.lock().pending.cancel_all();
        for run in runs {
            let reason = "the trigger was stopped".to_owned();
            let _ = worker.send(ToWorker::Cancel { run, reason }, Bytes::new());
        }
        let idle = async {
            while !self.is_idle() {
                tokio::time::sleep(IDLE_TICK).await;
            }
        };
        if tokio::time::timeout(grace / 2, idle).await.is_ok() {
            worker.stop(grace / 2).await;
        } else {
            worker.kill().await;
        }
    }

    /// Loads the plugin, then looks after deadlines. Returns when the process must be killed, with the reason.
    async fn load_and_watch(
        &self,
        plugin: &ResolvedPlugin,
        events: &SessionEvents,
        worker: &dyn WorkerHandle,
        turn: DropGuard,
    ) -> String {
        let load_timeout = self.services.config.load_timeout;
        // A process that is gone is noticed by the caller.
        let _ = worker.send(ToWorker::Load(Box::new(self.load_message(plugin))), Bytes::new());
        if tokio::time::timeout(load_timeout, events.loaded()).await.is_err() {
            return format!(
                "the plugin was not loaded within {}",
                humantime::format_duration(load_timeout)
            );
        }
        drop(turn);
        self.state.send_replace(WorkerState::Ready);
        let run_timeout = self.run_timeout();
        let memory_limit = self.memory_limit();
        let mut memory_tick = Duration::ZERO;
        let reason = format!(
            "the run exceeded its time limit of {}",
            humantime::format_duration(run_timeout)
        );
        let grace = self.services.config.stop_grace;
        let tick = DEADLINE_TICK_MAX
            .min(run_timeout.min(grace) / 4)
            .max(Duration::from_millis(1));
        loop {
            if self.is_idle() {
                // In this order, so that a run submitted meanwhile leaves a notification behind.
                self.watches_deadlines.store(false, Ordering::Release);
                if self.is_idle() {
                    self.run_submitted.notified().await;
                }
            }
            tokio::time::sleep(tick.min(memory_tick)).await;
            let overdue = self
                .slot
                .lock()
                .pending
                .overdue(Instant::now(), run_timeout, grace);
            if overdue.kill {
                return reason;
            }
            match memory_limit.look(worker) {
                Ok(look) => memory_tick = look.again_in,
                Err(reason) => return reason,
            }
            for run in overdue.cancel {
                let _ = worker.send(
                    ToWorker::Cancel {
                        run,
                        reason: reason.clone(),
                    },
                    Bytes::new(),
                );
            }
        }
    }

    fn load_message(&self, plugin: &ResolvedPlugin) -> Load {
        Load {
            form: plugin.form,
            path: plugin.path.to_string_lossy().into_owned(),
            plugin_dir: plugin.plugin_dir.to_string_lossy().into_owned(),
            entry: entry_point(self.definition.spec.plugin_type()),
            trigger_name: self.definition.trigger_name.clone(),
            database: self.definition.database_name.clone(),
            arguments: self
                .definition
                .arguments
                .clone()
                .map(|arguments| arguments.into_iter().collect()),
            concurrency: u32::try_from(self.concurrency()).unwrap_or(u32::MAX),
            cache_ttl_default_ms: None,
            output_bytes_max: self.output_bytes_max(),
            request_path: match &self.definition.spec {
                TriggerSpec::Request { path } => Some(format!("{REQUEST_PATH_PREFIX}{path}")),
                _ => None,
            },
        }
    }
}

/// The function that a type of trigger calls.
pub(crate) fn entry_point(plugin_type: PluginType) -> EntryPoint {
    match plugin_type {
        PluginType::WalRows => EntryPoint::Writes,
        PluginType::Schedule => EntryPoint::ScheduledCall,
        PluginType::Request => EntryPoint::Request,
    }
}
