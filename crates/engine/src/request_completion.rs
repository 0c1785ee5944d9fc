//! How the run of a request ends for its client: answered in one piece or by a stream, failed, too late, or without anybody who
//! waits (engine.md 2.8).

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidemill_ingest::TriggerProgress;
use tidemill_worker_proto::{Failure, FailureKind, LogLevel, ResponseHead};
use tokio::sync::oneshot;

use crate::effects::{self, RunEffects};
use crate::pending_runs::RunEnd;
use crate::plugin_logs::LogText;
use crate::plugin_state;
use crate::request_runner::{Place, PluginBody, PluginResponse, RequestError};
use crate::response_stream::{BrokenAnswer, Excess, ResponseSender};
use crate::run_history::{RunRecord, RunStatus};
use crate::worker_session::Session;

/// Why a run is ended whose client has left.
pub(crate) const CLIENT_LEFT: &str = "the client has left";

pub(crate) type Reply = oneshot::Sender<Result<PluginResponse, RequestError>>;

/// A client that waits for the end of a run.
pub(crate) struct RequestCompletion {
    /// `None` once the client has its answer, or the beginning of it.
    reply: Option<Reply>,
    /// The answer, if it is streamed.
    stream: Option<ResponseSender>,
    started: Instant,
    record: Box<RunRecord>,
    lines_written: usize,
    /// The client has left.
    is_abandoned: bool,
    pub(crate) place: Place,
}

impl RequestCompletion {
    /// A client that has begun to wait.
    pub(crate) fn new(reply: Reply, started: Instant, record: RunRecord, place: Place) -> Self {
        Self {
            reply: Some(reply),
            stream: None,
            started,
            record: Box::new(record),
            lines_written: 0,
            is_abandoned: false,
            place,
        }
    }

    /// The client has waited long enough; the run goes on until it is stopped.
    pub(crate) fn time_out(&mut self, time_limit: Duration) {
        if let Some(reply) = self.reply.take() {
            // A client that has left misses nothing.
            let _ = reply.send(Err(RequestError::TimedOut(time_limit)));
        }
    }

    /// The client has left. Answers whether that is news.
    pub(crate) fn abandon(&mut self) -> bool {
        !std::mem::replace(&mut self.is_abandoned, true)
    }

    /// The answer is to be streamed. Gives back whom to send its beginning to, unless nobody waits for it.
    pub(crate) fn begin_stream(&mut self, sender: ResponseSender) -> Option<Reply> {
        let reply = self.reply.take()?;
        self.stream = Some(sender);
        Some(reply)
    }

    /// More of the streamed answer has come.
    pub(crate) fn push(&mut self, part: &[u8], bytes_max: Option<u64>) -> Result<(), Excess> {
        match &mut self.stream {
            Some(stream) => stream.push(part, bytes_max),
            None => Ok(()),
        }
    }

    /// Answers the client. Called from the worker's reader task: what takes time is moved to a task of its own. A run's
    /// writes are committed also when its client has left; a streamed answer ends when they are.
    pub(crate) fn complete(mut self, session: &Arc<Session>, end: RunEnd) {
        let (writes, state, response, blob) = match end {
            RunEnd::Returned {
                writes,
                state,
                response,
                blob,
            } => (writes, state, response, blob),
            RunEnd::Failed(failure) if self.is_abandoned && failure.message.ends_with(CLIENT_LEFT) => {
                self.record.abandon();
                let text =
                    LogText::Static("the client left before the answer was complete; the run was ended.");
                return session.log.push(LogLevel::Info, text);
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
        if response.is_none() && self.stream.is_none() && self.reply.is_some() {
            return self.fail(session, "the worker sent no response".to_owned(), None);
        }
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

    fn succeed(mut self, session: &Session, response: Option<ResponseHead>, body: Bytes) {
        self.record.succeed(self.lines_written);
        session
            .log
            .push(LogLevel::Info, LogText::Finished(self.started.elapsed()));
        let (stream, reply) = self.leave();
        if let Some(stream) = stream {
            stream.end(Ok(()));
        } else if let Some((reply, ResponseHead { status, headers })) = reply.zip(response) {
            let _ = reply.send(Ok(PluginResponse {
                status,
                headers,
                body: PluginBody::Whole(body),
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
        let (stream, reply) = self.leave();
        if let Some(stream) = stream {
            stream.end(Err(BrokenAnswer));
        } else if let Some(reply) = reply {
            let _ = reply.send(Err(RequestError::Failed(text)));
        }
    }

    /// Gives its place back and counts the run: before the client knows, so that its next request finds the place free.
    fn leave(self) -> (Option<ResponseSender>, Option<Reply>) {
        (self.stream, self.reply)
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
