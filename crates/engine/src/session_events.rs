//! What the worker of a running trigger says, routed to whom it concerns.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tidemill_worker::{ExitReason, OutputStream, WorkerEvents};
use tidemill_worker_proto::{Failure, FromWorker, LogLevel, ToWorker};
use tokio::sync::Notify;

use crate::plugin_calls::{PluginQuery, RunningQueries, write_now};
use crate::plugin_logs::LogText;
use crate::plugin_state;
use crate::worker_session::Session;

/// The events of one worker process of a session.
pub(crate) struct SessionEvents {
    session: Arc<Session>,
    loaded: Notify,
    queries: Arc<RunningQueries>,
    last_load_failure: Mutex<Option<String>>,
}

impl SessionEvents {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self {
            session,
            loaded: Notify::new(),
            queries: Arc::default(),
            last_load_failure: Mutex::new(None),
        }
    }

    /// Returns when the plugin was loaded or has failed to load. Either way runs can be given: each tries again.
    pub(crate) async fn loaded(&self) {
        self.loaded.notified().await;
    }

    fn load_failed(&self, failure: Failure) {
        let Failure {
            message, traceback, ..
        } = failure;
        // The same failure comes again with every run until the file is mended.
        let mut last = self.last_load_failure.lock();
        if last.as_deref() != Some(&message) {
            self.session.log.error(format!(
                "error loading plugin: {}",
                traceback.as_deref().unwrap_or(&message)
            ));
            *last = Some(message);
        }
        self.loaded.notify_one();
    }

    fn log(&self, level: LogLevel, text: String) {
        self.session
            .server_log
            .log(&self.session.definition, level, &text, Instant::now());
        self.session.log.push(level, LogText::bounded(text));
    }
}

impl WorkerEvents for SessionEvents {
    fn message(&self, message: FromWorker, blob: Bytes) {
        let default_database = || self.session.definition.database_name.clone();
        match message {
            FromWorker::Finished { run, outcome } => self.session.finish(run, outcome, blob),
            FromWorker::Log { level, text, .. } => self.log(level, text),
            FromWorker::Query {
                call,
                database,
                sql,
                params,
                ..
            } => {
                let Some(worker) = self.session.worker() else {
                    return;
                };
                let query = PluginQuery {
                    call,
                    database: database.unwrap_or_else(default_database),
                    sql,
                    params,
                };
                let query_engine = Arc::clone(&self.session.services.query);
                self.queries.begin(query_engine, worker, query);
            }
            FromWorker::AbandonQuery { call } => self.queries.abandon(call),
            FromWorker::Write {
                call,
                run,
                database,
                no_sync,
            } => {
                let Some(worker) = self.session.worker() else {
                    return;
                };
                let database = database.unwrap_or_else(default_database);
                let ingest = Arc::clone(&self.session.services.ingest);
                let depth = self.session.depth_of(run);
                if let Err(refusal) = self.session.check_output(blob.len() as u64) {
                    let outcome = Err(refusal);
                    let _ = worker.send(ToWorker::WriteDone { call, outcome }, Bytes::new());
                    return;
                }
                tokio::spawn(async move {
                    let outcome = write_now(&ingest, database, blob, no_sync, depth).await;
                    // The worker may have ended meanwhile; the write stands.
                    let _ = worker.send(ToWorker::WriteDone { call, outcome }, Bytes::new());
                });
            }
            FromWorker::GlobalCache { call, operation } => {
                let cache = &self.session.services.global_cache;
                let (reply, value) = cache.operate(operation, &blob, Instant::now());
                if let Some(worker) = self.session.worker() {
                    let _ = worker.send(ToWorker::CacheDone { call, reply }, value);
                }
            }
            FromWorker::State { call, operation } => {
                let Some(worker) = self.session.worker() else {
                    return;
                };
                let (ingest, key) = (Arc::clone(&self.session.services.ingest), self.session.key);
                tokio::spawn(async move {
                    let (reply, value) = plugin_state::operate(&ingest, key, operation, blob).await;
                    let _ = worker.send(ToWorker::StateDone { call, reply }, value);
                });
            }
            FromWorker::ResponseBegun { run, response } => self.session.begin_response(run, response, &blob),
            FromWorker::ResponsePart { run } => self.session.continue_response(run, &blob),
            FromWorker::Loaded => {
                *self.last_load_failure.lock() = None;
                self.loaded.notify_one();
            }
            FromWorker::LoadFailed(failure) => self.load_failed(failure),
            // Only the first message may be one, and that has been read.
            FromWorker::Hello { .. } => {}
        }
    }

    fn output(&self, stream: OutputStream, line: &str) {
        let level = match stream {
            OutputStream::Stdout => LogLevel::Info,
            OutputStream::Stderr => LogLevel::Warn,
        };
        // Not to the server's own log: what plugins print has no bound.
        self.session.log.push(level, LogText::bounded(line.to_owned()));
    }

    fn exited(&self, reason: ExitReason) {
        self.session.lose_worker(&reason.to_string());
    }
}
