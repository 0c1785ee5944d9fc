//! The engine: which triggers run, and everything that clients can ask for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex as BlockingMutex;
use tidemill_catalog::{CatalogError, CatalogState, Transaction};
use tidemill_ingest::{Ingest, TriggerKey};
use tidemill_query::QueryEngine;
use tidemill_triggers::{Backoff, TriggerDefinition, TriggerSpec};
use tidemill_worker::{
    InstallError, InstallRequest, InstalledPackage, Packages, PythonEnvironment, machine_memory_bytes,
};
use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::EngineConfig;
use crate::clock::{Clock, SystemClock};
use crate::dead_letters::DeadLetters;
use crate::error::{EngineError, trigger_change_failed};
use crate::global_cache::GlobalCache;
use crate::held_removals::RemovalsHeld;
use crate::launcher::Launcher;
use crate::observations::Observations;
use crate::plugin_files::PluginFiles;
use crate::python_launcher::PythonLauncher;
use crate::recording::{RecordedRun, RecordingHead, Recordings};
use crate::request_runner::{RequestError, RequestRoutes, RequestTrigger};
use crate::requests::{
    CreateTrigger, DirectoryFile, RecordNext, ReplaceDirectory, StartRecording, TestReport, TestRequest,
    TestSchedule, TestWal, UpdateFile, UpdateTrigger, UploadDirectory, UploadFile,
};
use crate::schedule_runner::ScheduleStart;
use crate::services::Services;
use crate::test_runs::TestRuns;
use crate::trigger_report::TriggerReport;
use crate::trigger_task::{DisableRequest, RunningTrigger};
use crate::worker_session::Session;

/// Longest reason that is kept with a disabled trigger, in bytes.
const REASON_BYTES_MAX: usize = 4096;

/// The place of one trigger: what runs of it, under the lock that serialises starting and stopping it.
#[derive(Default)]
struct Place {
    running: Mutex<Option<RunningTrigger>>,
}

/// Where workers and time come from; tests have their own.
pub(crate) struct Machine {
    pub(crate) launcher: Arc<dyn Launcher>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) packages: Option<Packages>,
}

/// The processing engine of a server.
pub struct Engine {
    pub(crate) services: Arc<Services>,
    packages: Option<Packages>,
    routes: Arc<RequestRoutes>,
    places: BlockingMutex<HashMap<TriggerKey, Arc<Place>>>,
    tests: TestRuns,
    recordings: Recordings,
    disable: mpsc::UnboundedSender<DisableRequest>,
    shutdown: CancellationToken,
}

impl Engine {
    /// Starts all enabled triggers; their worker processes come up in the background, and what goes wrong there is in
    /// their logs. `python` is `None` where the server has no plugin directory.
    pub async fn start(
        config: EngineConfig,
        ingest: Arc<Ingest>,
        query: Arc<QueryEngine>,
        observations: Arc<Observations>,
        dead_letters: Arc<DeadLetters>,
        python: Option<PythonEnvironment>,
    ) -> Arc<Self> {
        let launcher = PythonLauncher::new(
            python.clone(),
            config.plugin_dir.clone(),
            config.passed_variables.clone(),
            config.sandbox.clone(),
            config.plugin_user.clone(),
        );
        let packages = python.zip(config.plugin_dir.clone());
        let packages =
            packages.map(|(python, plugin_dir)| Packages::new(python, config.package_manager, plugin_dir));
        let machine = Machine {
            launcher: Arc::new(launcher),
            clock: Arc::new(SystemClock),
            packages,
        };
        Self::start_with(config, ingest, query, observations, dead_letters, machine).await
    }

    /// Starts the engine on a machine of any kind.
    pub(crate) async fn start_with(
        config: EngineConfig,
        ingest: Arc<Ingest>,
        query: Arc<QueryEngine>,
        observations: Arc<Observations>,
        dead_letters: Arc<DeadLetters>,
        machine: Machine,
    ) -> Arc<Self> {
        let Machine {
            launcher,
            clock,
            packages,
        } = machine;
        let config = EngineConfig {
            worker_memory_bytes_max: config
                .worker_memory_bytes_max
                .or_else(|| machine_memory_bytes().map(|bytes| bytes / 2)),
            ..config
        };
        let files = PluginFiles::new(config.plugin_dir.clone());
        let global_cache = Arc::new(GlobalCache::new(None));
        let services = Arc::new(Services {
            config,
            ingest,
            query,
            observations,
            dead_letters,
            launcher,
            clock,
            files,
            global_cache,
            positions: BlockingMutex::default(),
            starts: Arc::new(Semaphore::new(starts_max())),
            environment_changes: packages
                .as_ref()
                .map_or_else(|| watch::Sender::new(0), Packages::changes),
        });
        let (disable, disable_requests) = mpsc::unbounded_channel();
        let engine = Arc::new(Self {
            tests: TestRuns::new(Arc::clone(&services)),
            recordings: Recordings::new(Arc::clone(&services)),
            services,
            packages,
            routes: Arc::default(),
            places: BlockingMutex::default(),
            disable,
            shutdown: CancellationToken::new(),
        });
        // Before the triggers are looked at, so that no change falls between.
        let changes = engine.services.catalog().changes();
        for (key, _) in enabled_triggers(&engine.services.catalog().state()) {
            engine.settle_from(key, ScheduleStart::Continued).await;
        }
        tokio::spawn(Arc::clone(&engine).follow_catalog(changes, disable_requests));
        engine
    }

    /// Creates a trigger and, unless it is disabled, starts it. The checks and their order are those of engine.md 8.3.
    pub async fn create_trigger(&self, request: CreateTrigger) -> Result<(), EngineError> {
        let restriction = &self.services.config.restrict_plugin_triggers_to;
        if !restriction.is_empty() {
            let plugin_type = TriggerSpec::parse(&request.trigger_specification)?.plugin_type();
            if !restriction.contains(&plugin_type) {
                return Err(EngineError::RestrictedType(plugin_type));
            }
        }
        self.services
            .resolve_plugin(&request.plugin_filename)
            .await
            .map_err(EngineError::Plugin)?;
        let spec = TriggerSpec::parse(&request.trigger_specification)?;
        request.trigger_settings.check_for(spec.plugin_type())?;
        let start_at = request.start_at.unwrap_or_default();
        start_at.check_for(spec.plugin_type())?;
        let created_at_lsn = self.services.start_position(start_at).await?.0;
        let trigger_name = request.trigger_name.clone();
        let definition = TriggerDefinition {
            trigger_id: 0,
            trigger_name: request.trigger_name,
            plugin_filename: request.plugin_filename,
            database_name: request.db.clone(),
            spec,
            settings: request.trigger_settings,
            arguments: request.trigger_arguments,
            disabled: request.disabled,
            disabled_reason: None,
            created_at_lsn,
        };
        let create =
            |transaction: &mut Transaction| transaction.create_trigger(&request.db, definition).map(|_| ());
        let key = self.change_trigger(&request.db, &trigger_name, create).await?;
        self.settle(key).await;
        Ok(())
    }

    /// Changes a trigger. One that runs is stopped and started anew with what has changed; its position stays.
    pub async fn update_trigger(&self, request: UpdateTrigger) -> Result<(), EngineError> {
        if let Some(plugin_filename) = &request.plugin_filename {
            let resolved = self.services.resolve_plugin(plugin_filename).await;
            resolved.map_err(EngineError::Plugin)?;
        }
        let (db, trigger_name) = (request.db.clone(), request.trigger_name.clone());
        if let Some((_, definition)) = find_trigger(&self.services.catalog().state(), &db, &trigger_name) {
            request
                .trigger_settings
                .check_for(definition.spec.plugin_type())?;
        }
        let update = |transaction: &mut Transaction| {
            transaction.update_trigger(&db, &trigger_name, |definition| request.apply(definition))
        };
        let key = self.change_trigger(&db, &trigger_name, update).await?;
        self.settle(key).await;
        Ok(())
    }

    /// Deletes a trigger, an enabled one only with `force`. What runs of it is stopped, if need be by killing it.
    pub async fn delete_trigger(&self, db: &str, trigger_name: &str, force: bool) -> Result<(), EngineError> {
        let deleted = self.services.catalog().transact(|transaction| {
            let found = find_trigger(transaction.state(), db, trigger_name).map(|(key, _)| key);
            transaction.delete_trigger(db, trigger_name, force)?;
            Ok(found)
        });
        let deleted = deleted
            .await
            .map_err(|error| trigger_change_failed(error, trigger_name))?;
        if let Some(key) = deleted {
            self.settle(key).await;
            self.places.lock().remove(&key);
            self.services.positions.lock().remove(&key);
            self.services.observations.triggers.forget(key);
            self.services.ingest.forget_cursor(key);
            self.services.dead_letters.forget(key).await;
        }
        Ok(())
    }

    /// Keeps the objects of all dead letters in place, also of those that are settled meanwhile.
    pub fn hold_dead_letters(&self) -> RemovalsHeld {
        self.services.dead_letters.hold_removals()
    }

    /// Enables a trigger. One that is enabled and waits for Python or its plugin, or has ended, tries again at once.
    pub async fn enable_trigger(&self, db: &str, trigger_name: &str) -> Result<(), EngineError> {
        let key = self.set_disabled(db, trigger_name, false).await?;
        self.settle(key).await;
        if let Some(running) = self.place(key).running.lock().await.as_ref() {
            running.retry_if_down();
            if running.has_ended() {
                running.begin_stop();
            }
        }
        // Starts anew what has ended.
        self.settle(key).await;
        Ok(())
    }

    /// Disables a trigger. What runs of it is stopped, if need be by killing it; a run that did not end is repeated when
    /// the trigger is enabled.
    pub async fn disable_trigger(&self, db: &str, trigger_name: &str) -> Result<(), EngineError> {
        let key = self.set_disabled(db, trigger_name, true).await?;
        self.settle(key).await;
        Ok(())
    }

    /// The request trigger with that path, the part of the raw URI path after [`REQUEST_PATH_PREFIX`](crate::REQUEST_PATH_PREFIX), if it answers this method.
    pub fn request_trigger(&self, path: &str, method: &str) -> Result<RequestTrigger, RequestError> {
        RequestTrigger::find(&self.routes, path, method)
    }

    /// Runs `process_writes` of a plugin without writing anything.
    pub async fn test_wal(&self, test: TestWal) -> Result<TestReport, EngineError> {
        self.tests.wal(test).await
    }

    /// Runs `process_scheduled_call` of a plugin without writing anything.
    pub async fn test_schedule(&self, test: TestSchedule) -> Result<TestReport, EngineError> {
        self.tests.schedule(test).await
    }

    /// Runs `process_request` of a plugin without writing anything.
    pub async fn test_request(&self, test: TestRequest) -> Result<TestReport, EngineError> {
        self.tests.request(test).await
    }

    /// Begins a recording of what a trigger on writes is given.
    pub async fn start_recording(&self, request: &StartRecording) -> Result<RecordingHead, EngineError> {
        self.recordings.start(request).await
    }

    /// The next part of a recording. Waits for something to be written, at most as long as is asked for.
    pub async fn record_next(&self, request: &RecordNext) -> Result<RecordedRun, EngineError> {
        tokio::select! {
            () = self.shutdown.cancelled() => Err(EngineError::ShuttingDown),
            next = self.recordings.next(request) => next,
        }
    }

    /// Reports on all triggers, by database and name.
    pub fn trigger_reports(&self) -> Vec<TriggerReport> {
        let state = self.services.catalog().state();
        let mut databases: Vec<_> = state
            .databases()
            .filter(|database| database.deleted.is_none())
            .collect();
        databases.sort_by(|first, second| first.name.cmp(&second.name));
        let (ingest, observations) = (&self.services.ingest, &self.services.observations);
        databases
            .into_iter()
            .flat_map(|database| TriggerReport::of_database(ingest, observations, database))
            .collect()
    }

    /// Puts a file into the plugin directory. A trigger that uses it runs the new code from its next run on.
    pub async fn upload_file(&self, request: UploadFile) -> Result<(), EngineError> {
        let UploadFile { plugin_name, content } = request;
        let uploaded = self
            .services
            .with_files(&plugin_name, move |files, name| files.upload(name, &content.0));
        uploaded.await.map_err(EngineError::PluginFile)?;
        self.retry_workers();
        Ok(())
    }

    /// Replaces the file of a trigger's plugin, or the `__init__.py` of its package.
    pub async fn update_file(&self, request: UpdateFile) -> Result<(), EngineError> {
        let UpdateFile {
            plugin_name,
            content,
            db,
        } = request;
        let plugin_filename = self.plugin_of_trigger(&plugin_name, db.as_deref())?;
        let updated = self.services.with_files(&plugin_filename, move |files, name| {
            files.update(name, &content.0)
        });
        updated.await.map_err(EngineError::PluginFile)?;
        self.retry_workers();
        Ok(())
    }

    /// Puts a directory into the plugin directory in one step: what was in its place is gone.
    pub async fn upload_directory(&self, request: UploadDirectory) -> Result<(), EngineError> {
        self.put_directory(&request.plugin_name, request.files).await
    }

    /// Replaces the directory of a trigger's plugin in one step.
    pub async fn replace_directory(&self, request: ReplaceDirectory) -> Result<(), EngineError> {
        let plugin_filename = self.plugin_of_trigger(&request.plugin_name, request.db.as_deref())?;
        self.put_directory(&plugin_filename, request.files).await
    }

    async fn put_directory(
        &self,
        plugin_filename: &str,
        files: Vec<DirectoryFile>,
    ) -> Result<(), EngineError> {
        let content: Vec<_> = files
            .into_iter()
            .map(|file| (file.relative_path, file.content))
            .collect();
        let replaced = self.services.with_files(plugin_filename, move |files, name| {
            files.replace_directory(name, &content)
        });
        replaced.await.map_err(EngineError::PluginFile)?;
        self.retry_workers();
        Ok(())
    }

    /// Installs packages into the environment of all plugins. What is going on is given to `on_line` as it comes. Processes
    /// of triggers that run are replaced when no run is in flight in them. Dropping the future stops the installation.
    pub async fn install(
        &self,
        request: InstallRequest,
        mut on_line: impl FnMut(&str) + Send + 'static,
    ) -> Result<(), EngineError> {
        let packages = self.packages()?;
        let note = move |line: &str| {
            tracing::info!(target: "tidemill::packages", "{line}");
            on_line(line);
        };
        packages.install(request, note).await.map_err(install_failed)?;
        self.retry_workers();
        Ok(())
    }

    /// The packages of the environment of all plugins, by name.
    pub async fn installed_packages(&self) -> Result<Vec<InstalledPackage>, EngineError> {
        self.packages()?.list().await.map_err(install_failed)
    }

    /// Stops all triggers. Takes at most two grace periods, whatever their plugins do.
    pub async fn shutdown(&self) {
        self.shutdown.cancel();
        let keys: Vec<TriggerKey> = self.places.lock().keys().copied().collect();
        let stops = keys.into_iter().map(|key| self.settle(key));
        tokio::join!(futures::future::join_all(stops), self.tests.shutdown());
    }

    /// Starts workers at once that wait for their next attempt: what they lacked may be there now.
    fn retry_workers(&self) {
        let places: Vec<Arc<Place>> = self.places.lock().values().cloned().collect();
        for place in places {
            // A trigger that is being started or stopped needs no help.
            if let Ok(running) = place.running.try_lock()
                && let Some(running) = running.as_ref()
            {
                running.retry_if_down();
            }
        }
    }

    fn packages(&self) -> Result<&Packages, EngineError> {
        let without_plugin_dir = || "Plugin environment management is disabled".to_owned();
        self.packages
            .as_ref()
            .ok_or_else(|| EngineError::PackagesUnavailable(without_plugin_dir()))
    }

    async fn set_disabled(
        &self,
        db: &str,
        trigger_name: &str,
        disabled: bool,
    ) -> Result<TriggerKey, EngineError> {
        self.change_trigger(db, trigger_name, |transaction| {
            transaction.set_trigger_disabled(db, trigger_name, disabled, None)
        })
        .await
    }

    /// Makes a change after which the trigger is in the catalog, and gives its key.
    async fn change_trigger(
        &self,
        db: &str,
        trigger_name: &str,
        change: impl FnOnce(&mut Transaction) -> Result<(), CatalogError>,
    ) -> Result<TriggerKey, EngineError> {
        let changed = self.services.catalog().transact(|transaction| {
            change(transaction)?;
            Ok(find_trigger(transaction.state(), db, trigger_name).map(|(key, _)| key))
        });
        changed
            .await
            .map_err(|error| trigger_change_failed(error, trigger_name))?
            .ok_or_else(|| EngineError::TriggerNotFound(trigger_name.to_owned()))
    }

    fn plugin_of_trigger(&self, trigger_name: &str, db: Option<&str>) -> Result<String, EngineError> {
        let state = self.services.catalog().state();
        let found = match db {
            Some(db) => find_trigger(&state, db, trigger_name).map(|(_, definition)| definition),
            None => state
                .databases()
                .find_map(|database| database.trigger(trigger_name).cloned()),
        };
        let plugin_filename = found.map(|definition| definition.plugin_filename.clone());
        plugin_filename.ok_or_else(|| EngineError::PluginOfTriggerNotFound(trigger_name.to_owned()))
    }

    pub(crate) fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// What a trigger runs in, if it does.
    pub(crate) async fn session(&self, key: TriggerKey) -> Option<Arc<Session>> {
        let place = self.place(key);
        let running = place.running.lock().await;
        let running = running.as_ref().filter(|running| !running.is_stopping())?;
        Some(Arc::clone(&running.session))
    }

    fn place(&self, key: TriggerKey) -> Arc<Place> {
        Arc::clone(self.places.lock().entry(key).or_default())
    }

    /// Brings what runs of a trigger in line with the catalog: the only place that starts and stops triggers.
    async fn settle(&self, key: TriggerKey) {
        self.settle_from(key, ScheduleStart::Fresh).await;
    }

    /// The same; a schedule that was not running begins as `start` says.
    async fn settle_from(&self, key: TriggerKey, mut start: ScheduleStart) {
        let place = self.place(key);
        let mut running = place.running.lock().await;
        let wanted = if self.shutdown.is_cancelled() {
            None
        } else {
            self.wanted(key)
        };
        if let Some(present) = running.as_mut() {
            if !present.is_stopping() && wanted.as_ref() == Some(&present.definition) {
                return;
            }
            // It stays in its place until it has stopped: if our caller gives up (its client has left), the next one
            // waits for the end too, and never do two of one trigger run at once.
            present.stop().await;
            if let Some(wanted) = &wanted
                && keeps_schedule(&present.definition, wanted)
            {
                start = ScheduleStart::Continued;
            }
            *running = None;
        }
        *running = wanted.map(|definition| {
            let (services, routes) = (Arc::clone(&self.services), Arc::clone(&self.routes));
            RunningTrigger::start(services, routes, key, definition, start, self.disable.clone())
        });
    }

    /// The definition of a trigger that should run.
    fn wanted(&self, key: TriggerKey) -> Option<Arc<TriggerDefinition>> {
        let state = self.services.catalog().state();
        let database = state
            .database_by_id(key.database)
            .filter(|database| database.deleted.is_none())?;
        database
            .triggers()
            .find(|trigger| trigger.trigger_id == key.trigger_id && !trigger.disabled)
            .cloned()
    }

    /// Settles triggers whose definition or database changes behind the engine's back, and records those that disabled
    /// themselves. Ends with the engine.
    async fn follow_catalog(
        self: Arc<Self>,
        mut changes: watch::Receiver<u64>,
        mut disable_requests: mpsc::UnboundedReceiver<DisableRequest>,
    ) {
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.forget_deleted_databases();
                    for key in self.unsettled() {
                        let engine = Arc::clone(&self);
                        // Each on its own: stopping one that hangs takes its grace period.
                        tokio::spawn(async move { engine.settle(key).await });
                    }
                }
                Some(request) = disable_requests.recv() => {
                    tokio::spawn(Arc::clone(&self).disable_by_itself(request));
                }
            }
        }
    }

    fn forget_deleted_databases(&self) {
        let catalog = self.services.catalog();
        // The state is asked for with what is observed locked: so it knows every database that something is observed of.
        self.services.observations.retain(|database| {
            let state = catalog.state();
            state
                .database_by_id(database)
                .is_some_and(|database| database.deleted.is_none())
        });
    }

    /// The triggers that may not run as the catalog says.
    fn unsettled(&self) -> Vec<TriggerKey> {
        let wanted = enabled_triggers(&self.services.catalog().state());
        let mut unsettled = Vec::new();
        let places = self.places.lock();
        for (key, definition) in &wanted {
            let runs_as_wanted = places.get(key).is_some_and(|place| {
                // A place whose lock is taken is being settled, perhaps by an older state of the catalog.
                place.running.try_lock().is_ok_and(|running| {
                    running
                        .as_ref()
                        .is_some_and(|running| Arc::ptr_eq(&running.definition, definition))
                })
            });
            if !runs_as_wanted {
                unsettled.push(*key);
            }
        }
        for (key, place) in places.iter().filter(|(key, _)| !wanted.contains_key(*key)) {
            if place.running.try_lock().map_or(true, |running| running.is_some()) {
                unsettled.push(*key);
            }
        }
        unsettled
    }

    /// Disables a trigger on behalf of its error behaviour. Not given up until the catalog has it.
    async fn disable_by_itself(self: Arc<Self>, request: DisableRequest) {
        let DisableRequest { key, mut reason } = request;
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        let mut backoff = Backoff::new(self.services.config.retry, u64::from(key.trigger_id));
        loop {
            let recorded = self.services.catalog().transact(|transaction| {
                let state = transaction.state();
                let found = state.database_by_id(key.database).and_then(|database| {
                    let trigger = database
                        .triggers()
                        .find(|trigger| trigger.trigger_id == key.trigger_id)?;
                    Some((database.name.clone(), trigger.trigger_name.clone()))
                });
                // It may have been deleted meanwhile.
                found.map_or(Ok(()), |(database, name)| {
                    transaction.set_trigger_disabled(&database, &name, true, Some(reason.clone()))
                })
            });
            match recorded.await {
                Ok(()) => break,
                Err(error) => {
                    let delay = backoff.failed().unwrap_or(Duration::from_mins(1));
                    tracing::error!(%error, ?delay, "could not record that a trigger is disabled, will try again");
                    tokio::select! {
                        () = self.shutdown.cancelled() => return,
                        () = tokio::time::sleep(delay) => {}
                    }
                }
            }
        }
        self.settle(key).await;
    }
}

/// Whether a changed trigger goes on with the instants after the last one that it has run. With another schedule, or if it
/// did not catch up on anything so far, there is nothing to go on with.
fn keeps_schedule(before: &TriggerDefinition, after: &TriggerDefinition) -> bool {
    before.spec == after.spec && before.settings.catch_up == after.settings.catch_up
}

/// How many worker processes may be on their way at once: starting them is work for the processor, and a server with
/// hundreds of triggers must answer while it comes up.
fn starts_max() -> usize {
    2 * std::thread::available_parallelism().map_or(2, usize::from)
}

/// The triggers that should run.
fn enabled_triggers(state: &CatalogState) -> HashMap<TriggerKey, Arc<TriggerDefinition>> {
    let live = state.databases().filter(|database| database.deleted.is_none());
    let triggers = live.flat_map(|database| {
        let enabled = database.triggers().filter(|trigger| !trigger.disabled);
        enabled.map(|trigger| {
            (
                TriggerKey {
                    database: database.id,
                    trigger_id: trigger.trigger_id,
                },
                Arc::clone(trigger),
            )
        })
    });
    triggers.collect()
}

pub(crate) fn find_trigger(
    state: &CatalogState,
    db: &str,
    trigger_name: &str,
) -> Option<(TriggerKey, Arc<TriggerDefinition>)> {
    let database = state.database(db)?;
    let trigger = database.trigger(trigger_name)?;
    Some((
        TriggerKey {
            database: database.id,
            trigger_id: trigger.trigger_id,
        },
        Arc::clone(trigger),
    ))
}

fn install_failed(error: InstallError) -> EngineError {
    match error {
        InstallError::Disabled => EngineError::PackagesDisabled,
        InstallError::Unavailable(_)
        | InstallError::Tool { .. }
        | InstallError::Unreadable(_)
        | InstallError::List(_)
        | InstallError::Interrupted(_) => EngineError::PackagesUnavailable(error.to_string()),
        InstallError::Failed { ref output, .. } => EngineError::InstallFailed {
            reason: error.to_string(),
            output: output.clone(),
        },
        other => EngineError::InvalidInstall(other.to_string()),
    }
}
