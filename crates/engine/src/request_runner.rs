//! Request triggers: from an HTTP request to the plugin's answer (engine.md 1.5, 2.5 to 2.8).
//!
//! This is the path with the least time to spend: a request is entered in a table and queued to the worker, and the
//! worker's reader task answers it. No task is spawned and no lock is held while anything waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::RwLock;
use tidemill_ingest::TriggerProgress;
use tidemill_worker_proto::{Failure, FailureKind, LogLevel, RequestHead, ResponseHead, Work};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::effects::{self, RunEffects};
use crate::pending_runs::{Completion, RunEnd};
use crate::plugin_logs::{LogText, now_ns};
use crate::plugin_state;
use crate::run_history::{RunRecord, RunStatus};
use crate::worker_session::{Refusal, Session, Submission, WorkerState};

/// How long a client should wait when all places in the queue are taken.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often a stopping trigger looks whether its last requests are answered.
const DRAIN_TICK: Duration = Duration::from_millis(5);

/// An HTTP request as a plugin sees it.
#[derive(Debug, Clone, Default)]
pub struct PluginRequest {
    /// Decoded query parameters in order.
    pub query_parameters: Vec<(String, String)>,
    /// Lower-case header names without `authorization`.
    pub headers: Vec<(String, String)>,
    /// The body, decompressed.
    pub body: Bytes,
}

/// A plugin's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginResponse {
    /// HTTP status, 100 to 599.
    pub status: u16,
    /// Headers in order; a name may repeat. Not checked for what HTTP allows.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// Why a request has no answer of the plugin (engine.md 2.8).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No trigger has this path.
    #[error("not found")]
    NotFound,
    /// The queue is full, or the worker process is not there at the moment.
    #[error("{reason}")]
    Busy {
        /// Which of the two, for people.
        reason: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// No answer within the time limit.
    #[error("the request was not answered within {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    /// The plugin or its write-back failed; the text is the plugin's.
    #[error("{0}")]
    Failed(String),
    /// The trigger was stopped while the request waited.
    #[error("Processing engine error: request handler for trigger down")]
    Down,
}

impl RequestError {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::Busy { .. } => 503,
            Self::TimedOut(_) => 504,
            Self::Failed(_) | Self::Down => 500,
        }
    }

    /// The body of the answer: JSON `{"error": …}`.
    pub fn body(&self) -> String {
        serde_json::json!({ "error": self.to_string() }).to_string()
    }

    /// The value of `Retry-After`, where there is one.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }
}

/// Which trigger answers which path. Paths are unique over all databases.
#[derive(Default)]
pub(crate) struct RequestRoutes {
    by_path: RwLock<HashMap<String, Arc<RequestRoute>>>,
}

impl RequestRoutes {
    pub(crate) fn find(&self, path: &str) -> Option<Arc<RequestRoute>> {
        self.by_path.read().get(path).cloned()
    }

    pub(crate) fn insert(&self, path: &str, route: Arc<RequestRoute>) {
        self.by_path.write().insert(path.to_owned(), route);
    }

    /// Takes a route away, unless another trigger has taken the path over.
    pub(crate) fn remove(&self, path: &str, route: &Arc<RequestRoute>) {
        let mut by_path = self.by_path.write();
        if by_path
            .get(path)
            .is_some_and(|present| Arc::ptr_eq(present, route))
        {
            by_path.remove(path);
        }
    }
}

/// A request trigger that runs.
pub(crate) struct RequestRoute {
    session: Arc<Session>,
    in_flight: Arc<InFlight>,
    run_id_prefix: String,
    requests: AtomicU64,
}

/// The requests to one trigger that wait or run.
#[derive(Default)]
struct InFlight {
    requests: AtomicUsize,
    body_bytes: AtomicUsize,
}

/// A place among the requests that wait or run; given back when dropped.
struct Place {
    in_flight: Arc<InFlight>,
    body_bytes: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.in_flight.requests.fetch_sub(1, Ordering::AcqRel);
        self.in_flight
            .body_bytes
            .fetch_sub(self.body_bytes, Ordering::AcqRel);
    }
}

impl RequestRoute {
    pub(crate) fn new(session: Arc<Session>) -> Arc<Self> {
        let key = session.key;
        let run_id_prefix = format!("r-{}-{}-{:x}", key.database.0, key.trigger_id, now_ns());
        Arc::new(Self {
            session,
            in_flight: Arc::default(),
            run_id_prefix,
            requests: AtomicU64::new(0),
        })
    }

    /// Leaves the route in place until `stop`, then takes it away and waits for those that were accepted, no longer than the grace period.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        routes: &RequestRoutes,
        path: &str,
        stop: &CancellationToken,
    ) {
        stop.cancelled().await;
        routes.remove(path, self);
        let drained = async {
            while !self.session.is_idle() {
                tokio::time::sleep(DRAIN_TICK).await;
            }
        };
        // What is not answered by then is answered when its process ends.
        let _ = tokio::time::timeout(self.session.services.config.stop_grace, drained).await;
    }

    /// Runs the plugin for one request.
    pub(crate) async fn handle(&self, request: PluginRequest) -> Result<PluginResponse, RequestError> {
        let answer = self.run(request).await;
        if matches!(answer, Err(RequestError::Busy { .. })) {
            self.session.stats.refused_requests.add(1);
        }
        answer
    }

    async fn run(&self, request: PluginRequest) -> Result<PluginResponse, RequestError> {
        let place = self.take_place(request.body.len())?;
        let started = Instant::now();
        let (reply, answer) = oneshot::channel();
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let run_id = format!("{}-{number}", self.run_id_prefix);
        let PluginRequest {
            query_parameters,
            headers,
            body,
        } = request;
        let work = Work::Request(RequestHead {
            query_parameters,
            headers,
        });
        let mut record = RunRecord::begin(Arc::clone(&self.session.stats), run_id.clone(), 0);
        record.hand_over();
        let completion = RequestCompletion {
            reply: Some(reply),
            started,
            record: Box::new(record),
            lines_written: 0,
            _place: place,
        };
        let mut submission = Submission {
            run_id,
            work,
            blob: body,
            depth: 1,
            completion: Completion::Request(completion),
        };
        self.wait_for_worker().await?;
        self.session.log.push(
            LogLevel::Info,
            LogText::Static("starting execution of request plugin."),
        );
        loop {
            match self.session.submit(submission) {
                Ok(()) => return answer.await.unwrap_or(Err(RequestError::Down)),
                Err(Refusal::Replacing(refused)) => {
                    submission = *refused;
                    self.wait_for_worker().await?;
                }
                Err(Refusal::Gone) => {
                    let reason = "the plugin's process has just ended".to_owned();
                    return Err(RequestError::Busy {
                        reason,
                        retry_after: RETRY_AFTER,
                    });
                }
            }
        }
    }

    /// Takes a place for a request with a body of that length; the bodies of all that wait are in memory, here or in the
    /// worker.
    fn take_place(&self, body_bytes: usize) -> Result<Place, RequestError> {
        let config = &self.session.services.config;
        let requests_before = self.in_flight.requests.fetch_add(1, Ordering::AcqRel);
        let bytes_before = self.in_flight.body_bytes.fetch_add(body_bytes, Ordering::AcqRel);
        let place = Place {
            in_flight: Arc::clone(&self.in_flight),
            body_bytes,
        };
        let too_long = bytes_before > 0 && bytes_before + body_bytes > config.request_queue_bytes_max;
        if too_long || requests_before >= config.request_queue_max {
            let reason = format!("{requests_before} requests to this trigger are waiting already");
            return Err(RequestError::Busy {
                reason,
                retry_after: RETRY_AFTER,
            });
        }
        Ok(place)
    }

    async fn wait_for_worker(&self) -> Result<(), RequestError> {
        if self.session.is_ready() {
            return Ok(());
        }
        let time_limit = self.session.run_timeout();
        let settled = self.session.wait_for(|state| *state != WorkerState::Starting);
        match tokio::time::timeout(time_limit, settled).await {
            Err(_) => Err(RequestError::TimedOut(time_limit)),
            Ok(WorkerState::Ready) => Ok(()),
            Ok(WorkerState::Down { reason, until }) => {
                let retry_after = until.saturating_duration_since(Instant::now()).max(RETRY_AFTER);
                Err(RequestError::Busy { reason, retry_after })
            }
            Ok(WorkerState::Starting | WorkerState::Stopped) => Err(RequestError::Down),
        }
    }
}

/// A client that waits for the end of a run.
pub(crate) struct RequestCompletion {
    /// `None` once the client has its answer.
    reply: Option<oneshot::Sender<Result<PluginResponse, RequestError>>>,
    started: Instant,
    record: Box<RunRecord>,
    lines_written: usize,
    _place: Place,
}

impl RequestCompletion {
    /// The client has waited long enough; the run goes on until it is stopped.
    pub(crate) fn time_out(&mut self, time_limit: Duration) {
        if let Some(reply) = self.reply.take() {
            // A client that has left misses nothing.
            let _ = reply.send(Err(RequestError::TimedOut(time_limit)));
        }
    }

    /// Answers the client. Called from the worker's reader task: what takes time is moved to a task of its own. A run's
    /// writes are committed also when its client has left.
    pub(crate) fn complete(mut self, session: &Arc<Session>, end: RunEnd) {
        let (writes, state, response, blob) = match end {
            RunEnd::Returned {
                writes,
                state,
                response: Some(response),
                blob,
            } => (writes, state, response, blob),
            RunEnd::Returned { response: None, .. } => {
                return self.fail(session, "the worker sent no response".to_owned(), None);
            }
            RunEnd::Failed(failure) => {
                let (text, traceback) = failure_text(failure);
                return self.fail(session, text, traceback);
            }
            RunEnd::Lost(reason) => {
                self.record.fail_as(RunStatus::Killed, &reason);
                return self.fail(session, reason, None);
            }
        };
        let database = &session.definition.database_name;
        let Some(effects) = RunEffects::split(writes, state, blob, database) else {
            return self.fail(
                session,
                "the worker sent lengths that do not fit".to_owned(),
                None,
            );
        };
        if effects.is_empty() {
            return self.succeed(session, response, effects.body);
        }
        if let Err(text) = plugin_state::check_keys(effects.state.iter().map(|change| &change.key)) {
            return self.fail(session, text, None);
        }
        let session = Arc::clone(session);
        tokio::spawn(async move {
            let RunEffects { lines, state, body } = effects;
            let progress = TriggerProgress {
                state,
                ..session.progress_without_position()
            };
            match effects::commit(&session.services.ingest, lines, progress, 1).await {
                Ok(lines) => {
                    self.lines_written = lines;
                    self.succeed(&session, response, body);
                }
                Err(text) => self.fail(&session, text, None),
            }
        });
    }

    fn succeed(mut self, session: &Session, response: ResponseHead, body: Bytes) {
        self.record.succeed(self.lines_written);
        session
            .log
            .push(LogLevel::Info, LogText::Finished(self.started.elapsed()));
        if let Some(reply) = self.reply {
            let ResponseHead { status, headers } = response;
            let _ = reply.send(Ok(PluginResponse {
                status,
                headers,
                body,
            }));
        }
    }

    fn fail(mut self, session: &Session, text: String, traceback: Option<String>) {
        if !self.record.has_failed() {
            self.record.fail_as(RunStatus::Failed, &text);
        }
        session.log.error(format!("error running request plugin: {text}"));
        if let Some(traceback) = traceback {
            session.log.error(traceback);
        }
        if let Some(reply) = self.reply {
            let _ = reply.send(Err(RequestError::Failed(text)));
        }
    }
}

/// The text of a failed run in the answer to its client, and the traceback.
fn failure_text(failure: Failure) -> (String, Option<String>) {
    let text = match failure.kind {
        FailureKind::Raised => format!("Python function call failed: {}", failure.message),
        FailureKind::Load | FailureKind::MissingFunction | FailureKind::BadReturn => failure.message,
    };
    (text, failure.traceback)
}
