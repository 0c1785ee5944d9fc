//! What every trigger's task needs of the rest of the server.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidemill_catalog::Catalog;
use tidemill_ingest::{Ingest, Lsn, TriggerKey};
use tidemill_plugin_repo::PREFIX;
use tidemill_query::QueryEngine;
use tidemill_triggers::{Position, StartAt, TriggerSettings};
use tidemill_worker_proto::PluginForm;
use tokio::sync::{Semaphore, watch};

use crate::EngineConfig;
use crate::clock::Clock;
use crate::dead_letters::DeadLetters;
use crate::error::EngineError;
use crate::global_cache::GlobalCache;
use crate::launcher::Launcher;
use crate::observations::Observations;
use crate::plugin_files::{PluginFileError, PluginFiles, ResolvedPlugin};

/// Shared by all triggers.
pub(crate) struct Services {
    pub(crate) config: EngineConfig,
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) query: Arc<QueryEngine>,
    pub(crate) observations: Arc<Observations>,
    pub(crate) dead_letters: Arc<DeadLetters>,
    pub(crate) launcher: Arc<dyn Launcher>,
    /// By which schedules go.
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) files: PluginFiles,
    pub(crate) global_cache: Arc<GlobalCache>,
    /// How far data-write triggers that were stopped had read. The log may learn of it only later.
    pub(crate) positions: Mutex<HashMap<TriggerKey, Position>>,
    /// The places for worker processes that are being started.
    pub(crate) starts: Arc<Semaphore>,
    /// Counts the changes of the packages that plugins import.
    pub(crate) environment_changes: watch::Sender<u64>,
}

impl Services {
    pub(crate) fn catalog(&self) -> &Arc<Catalog> {
        self.ingest.catalog()
    }

    /// Finds a plugin: in the plugin directory, off the async threads, or in the repository (engine.md 6.1).
    pub(crate) async fn resolve_plugin(
        &self,
        plugin_filename: &str,
    ) -> Result<ResolvedPlugin, PluginFileError> {
        let Some(path) = plugin_filename.strip_prefix(PREFIX) else {
            return self.with_files(plugin_filename, PluginFiles::resolve).await;
        };
        let plugin_dir = self.with_files(plugin_filename, PluginFiles::directory).await?;
        let repository = &self.config.plugin_repository;
        let repository = repository.as_ref().ok_or(PluginFileError::NotConfigured)?;
        let fetched = repository.fetch(path).await?;
        Ok(ResolvedPlugin {
            form: PluginForm::SingleFile,
            path: fetched.file,
            plugin_dir,
            outage: fetched.outage,
        })
    }

    /// Runs of a trigger that may be in flight.
    pub(crate) fn concurrency(&self, settings: &TriggerSettings) -> usize {
        if !settings.run_async {
            return 1;
        }
        let own = settings.async_concurrency_limit;
        own.map_or(self.config.async_concurrency_max, |limit| limit.get().into())
            .max(1)
    }

    /// The newest record that somebody who starts there is not shown.
    pub(crate) async fn start_position(&self, start_at: StartAt) -> Result<Lsn, EngineError> {
        match start_at {
            StartAt::Now => Ok(*self.ingest.committed().borrow()),
            StartAt::Beginning => Ok(self.ingest.log_start()),
            StartAt::Time(time) => {
                let time_ns = time.timestamp_nanos_opt().ok_or_else(|| {
                    EngineError::Invalid(format!(
                        "start_at {time} is outside the times that can be written"
                    ))
                })?;
                let found = self.ingest.position_before(time_ns).await;
                found.map_err(|error| EngineError::Log(error.to_string()))
            }
        }
    }

    /// Does something with a plugin's files, off the async threads.
    pub(crate) async fn with_files<T: Send + 'static>(
        &self,
        plugin_filename: &str,
        action: impl FnOnce(&PluginFiles, &str) -> Result<T, PluginFileError> + Send + 'static,
    ) -> Result<T, PluginFileError> {
        let files = self.files.clone();
        let name = plugin_filename.to_owned();
        let done = tokio::task::spawn_blocking(move || action(&files, &name)).await;
        done.unwrap_or_else(|_| {
            Err(PluginFileError::Unreadable(
                plugin_filename.to_owned(),
                std::io::ErrorKind::Interrupted,
            ))
        })
    }
}
