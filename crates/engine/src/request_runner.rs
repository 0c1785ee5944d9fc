//! Request triggers: from an HTTP request to the plugin's answer (engine.md 1.5, 2.5 to 2.8).
//!
//! This is the path with the least time to spend: a request is entered in a table and queued to the worker, and the
//! worker's reader task answers it. No task is spawned and no lock is held while anything waits.
//!
//! A trigger may have several processes, each with a session of its own; the bounds of the queue hold for all of them together.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::RwLock;
use tidemill_triggers::Methods;
use tidemill_worker_proto::{LogLevel, RequestHead, RequestMethod, RunId, Work};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::EngineConfig;
use crate::pending_runs::Completion;
use crate::plugin_logs::{LogText, now_ns};
use crate::request_completion::RequestCompletion;
use crate::response_stream::ResponseStream;
use crate::run_history::RunRecord;
use crate::worker_session::{Refusal, Session, Submission, WorkerState};

/// What stands before the path of a request trigger in a URL.
pub const REQUEST_PATH_PREFIX: &str = "/api/v3/engine/";

/// How long a client should wait when all places in the queue are taken.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often a stopping trigger looks whether its last requests are answered.
const DRAIN_TICK: Duration = Duration::from_millis(5);

/// An HTTP request as a plugin sees it.
#[derive(Debug, Clone, Default)]
pub struct PluginRequest {
    /// Its method.
    pub method: RequestMethod,
    /// The query string as it came.
    pub query_string: String,
    /// Decoded query parameters in order.
    pub query_parameters: Vec<(String, String)>,
    /// Lower-case header names without `authorization`.
    pub headers: Vec<(String, String)>,
    /// The body, decompressed.
    pub body: Bytes,
}

/// A plugin's answer.
#[derive(Debug)]
pub struct PluginResponse {
    /// HTTP status, 200 to 599.
    pub status: u16,
    /// Headers in order; a name may repeat. A worker has checked them, which a plugin may have tampered with.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: PluginBody,
}

/// The body of a plugin's answer.
#[derive(Debug)]
pub enum PluginBody {
    /// All of it.
    Whole(Bytes),
    /// It comes while the plugin makes it.
    Stream(ResponseStream),
}

/// Why a request has no answer of the plugin (engine.md 2.8).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No trigger has this path.
    #[error("not found")]
    NotFound,
    /// The trigger with this path does not answer this method.
    #[error("Method not allowed")]
    MethodNotAllowed {
        /// What it answers, as in the header `Allow`.
        allowed: String,
    },
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
            Self::MethodNotAllowed { .. } => 405,
            Self::Busy { .. } => 503,
            Self::TimedOut(_) => 504,
            Self::Failed(_) | Self::Down => 500,
        }
    }

    /// The body of the answer: JSON `{"error": …}`.
    pub fn body(&self) -> String {
        serde_json::json!({ "error": self.to_string() }).to_string()
    }

    /// The value of `Allow`, where there is one.
    pub fn allow(&self) -> Option<&str> {
        match self {
            Self::MethodNotAllowed { allowed } => Some(allowed),
            _ => None,
        }
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
    /// One a process; never empty.
    sessions: Vec<Arc<Session>>,
    methods: Methods,
    in_flight: Arc<InFlight>,
    run_id_prefix: String,
    requests: AtomicU64,
}

/// The requests to one trigger that wait or run.
struct InFlight {
    requests: AtomicUsize,
    body_bytes: AtomicUsize,
    by_session: Vec<AtomicUsize>,
}

/// A place among the requests that wait or run; given back when dropped.
pub(crate) struct Place {
    in_flight: Arc<InFlight>,
    body_bytes: usize,
    /// The session that has the request.
    session: Option<usize>,
}

impl Place {
    /// Counts the request as one of that session.
    fn move_to(&mut self, session: usize) {
        self.leave_session();
        self.in_flight.by_session[session].fetch_add(1, Ordering::AcqRel);
        self.session = Some(session);
    }

    fn leave_session(&mut self) {
        if let Some(session) = self.session.take() {
            self.in_flight.by_session[session].fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave_session();
        self.in_flight.requests.fetch_sub(1, Ordering::AcqRel);
        self.in_flight
            .body_bytes
            .fetch_sub(self.body_bytes, Ordering::AcqRel);
    }
}

/// Abandons a run whose client does not wait for its answer any more.
struct Waiting<'a> {
    session: &'a Session,
    run: RunId,
    is_answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.session.abandon(self.run);
        }
    }
}

impl RequestRoute {
    /// The sessions are those of one trigger, at least one.
    pub(crate) fn new(sessions: Vec<Arc<Session>>) -> Arc<Self> {
        let first = &sessions[0];
        let key = first.key;
        let in_flight = InFlight {
            requests: AtomicUsize::new(0),
            body_bytes: AtomicUsize::new(0),
            by_session: sessions.iter().map(|_| AtomicUsize::new(0)).collect(),
        };
        Arc::new(Self {
            methods: first.definition.settings.methods.unwrap_or_default(),
            sessions,
            in_flight: Arc::new(in_flight),
            run_id_prefix: format!("r-{}-{}-{:x}", key.database.0, key.trigger_id, now_ns()),
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
            while !self.sessions.iter().all(|session| session.is_idle()) {
                tokio::time::sleep(DRAIN_TICK).await;
            }
        };
        // What is not answered by then is answered when its process ends.
        let _ = tokio::time::timeout(self.config().stop_grace, drained).await;
    }

    fn config(&self) -> &EngineConfig {
        &self.sessions[0].services.config
    }

    /// The method of a request, if the trigger answers it. `HEAD` is `GET` without the body of the answer.
    fn accepted(&self, method: &str) -> Result<RequestMethod, RequestError> {
        let method = RequestMethod::from_name(method).filter(|method| {
            let is_head = *method == RequestMethod::Head;
            self.methods.contains(method.name()) || (is_head && self.methods.contains("GET"))
        });
        method.ok_or_else(|| {
            let mut allowed: Vec<&str> = self.methods.names().collect();
            if self.methods.contains("GET") && !self.methods.contains("HEAD") {
                allowed.push("HEAD");
            }
            RequestError::MethodNotAllowed {
                allowed: allowed.join(", "),
            }
        })
    }

    /// Runs the plugin for one request. Dropped before it has answered, it ends the run.
    pub(crate) async fn handle(&self, request: PluginRequest) -> Result<PluginResponse, RequestError> {
        let answer = self.run(request).await;
        if matches!(answer, Err(RequestError::Busy { .. })) {
            self.sessions[0].stats.refused_requests.add(1);
        }
        answer
    }

    async fn run(&self, request: PluginRequest) -> Result<PluginResponse, RequestError> {
        let place = self.take_place(request.body.len())?;
        let started = Instant::now();
        let mut chosen = self.ready_session(None).await?;
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let run_id = format!("{}-{number}", self.run_id_prefix);
        let PluginRequest {
            method,
            query_string,
            query_parameters,
            headers,
            body,
        } = request;
        let work = Work::Request(RequestHead {
            method,
            query_string,
            query_parameters,
            headers,
        });
        let stats = Arc::clone(&self.sessions[chosen].stats);
        let mut record = RunRecord::begin(stats, run_id.clone(), 0);
        record.hand_over();
        let (reply, answer) = oneshot::channel();
        let completion = RequestCompletion::new(reply, started, record, place);
        // Kept for another try only where there is another process to try.
        let mut other_tries = self.sessions.len() - 1;
        let spare = (other_tries > 0).then(|| (run_id.clone(), work.clone(), body.clone()));
        let mut submission = Submission {
            run_id,
            work,
            blob: body,
            depth: 1,
            completion: Completion::Request(completion),
        };
        self.sessions[chosen].log.push(
            LogLevel::Info,
            LogText::Static("starting execution of request plugin."),
        );
        loop {
            let session = &self.sessions[chosen];
            if let Some(request) = submission.completion.request() {
                request.place.move_to(chosen);
            }
            match session.submit(submission) {
                Ok(run) => {
                    let mut waiting = Waiting {
                        session,
                        run,
                        is_answered: false,
                    };
                    let answer = answer.await.unwrap_or(Err(RequestError::Down));
                    waiting.is_answered = true;
                    return answer;
                }
                Err(Refusal::Replacing(refused)) => submission = *refused,
                Err(Refusal::Gone(completion)) => {
                    let spare = spare.clone().filter(|_| other_tries > 0);
                    let Some((run_id, work, blob)) = spare else {
                        let reason = "the plugin's process has just ended".to_owned();
                        return Err(RequestError::Busy {
                            reason,
                            retry_after: RETRY_AFTER,
                        });
                    };
                    other_tries -= 1;
                    submission = Submission {
                        run_id,
                        work,
                        blob,
                        depth: 1,
                        completion,
                    };
                }
            }
            chosen = self.ready_session(Some(chosen)).await?;
        }
    }

    /// Takes a place for a request with a body of that length; the bodies of all that wait are in memory, here or in the
    /// worker.
    fn take_place(&self, body_bytes: usize) -> Result<Place, RequestError> {
        let config = self.config();
        let requests_before = self.in_flight.requests.fetch_add(1, Ordering::AcqRel);
        let bytes_before = self.in_flight.body_bytes.fetch_add(body_bytes, Ordering::AcqRel);
        let place = Place {
            in_flight: Arc::clone(&self.in_flight),
            body_bytes,
            session: None,
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

    /// The session that takes runs and has the fewest, if there is one; the one that has just refused a run only if there is no
    /// other.
    fn least_busy(&self, refused_by: Option<usize>) -> Option<usize> {
        let ready = (0..self.sessions.len()).filter(|index| self.sessions[*index].is_ready());
        ready.min_by_key(|index| {
            let runs = self.in_flight.by_session[*index].load(Ordering::Acquire);
            (Some(*index) == refused_by, runs)
        })
    }

    /// Waits for a session that takes runs, as long as one may still come up.
    async fn ready_session(&self, refused_by: Option<usize>) -> Result<usize, RequestError> {
        if let Some(ready) = self.least_busy(refused_by) {
            return Ok(ready);
        }
        let time_limit = self.sessions[0].run_timeout();
        tokio::time::timeout(time_limit, self.settled(refused_by))
            .await
            .unwrap_or(Err(RequestError::TimedOut(time_limit)))
    }

    async fn settled(&self, refused_by: Option<usize>) -> Result<usize, RequestError> {
        loop {
            let starting = self.sessions.iter().filter(|session| session.is_starting());
            let settling: Vec<_> = starting
                .map(|session| Box::pin(session.wait_for(|state| *state != WorkerState::Starting)))
                .collect();
            let last = if settling.is_empty() {
                self.sessions[0].wait_for(|_| true).await
            } else {
                futures::future::select_all(settling).await.0
            };
            if let Some(ready) = self.least_busy(refused_by) {
                return Ok(ready);
            }
            if self.sessions.iter().any(|session| session.is_starting()) {
                continue;
            }
            return Err(match last {
                WorkerState::Down { reason, until } => {
                    let retry_after = until.saturating_duration_since(Instant::now()).max(RETRY_AFTER);
                    RequestError::Busy { reason, retry_after }
                }
                // It was ready for a moment.
                WorkerState::Starting | WorkerState::Ready => continue,
                WorkerState::Stopped => RequestError::Down,
            });
        }
    }
}

/// A path and the trigger that answers it: what is known before a request's body has been read.
pub struct RequestTrigger {
    route: Arc<RequestRoute>,
    method: RequestMethod,
}

impl RequestTrigger {
    pub(crate) fn find(routes: &RequestRoutes, path: &str, method: &str) -> Result<Self, RequestError> {
        let route = routes.find(path).ok_or(RequestError::NotFound)?;
        let method = route.accepted(method)?;
        Ok(Self { route, method })
    }

    /// The method of the request.
    pub fn method(&self) -> RequestMethod {
        self.method
    }

    /// How many of the trigger's processes take requests.
    #[cfg(test)]
    pub(crate) fn ready_processes(&self) -> usize {
        let sessions = self.route.sessions.iter();
        sessions.filter(|session| session.is_ready()).count()
    }

    /// Runs the plugin. Dropped before it has answered, it ends the run; what the run has written at once stays.
    pub async fn handle(&self, request: PluginRequest) -> Result<PluginResponse, RequestError> {
        self.route.handle(request).await
    }
}
