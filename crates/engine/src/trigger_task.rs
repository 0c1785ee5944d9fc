//! A trigger that runs: its task, from start to end.

use std::num::NonZeroU16;
use std::sync::Arc;

use tidemill_triggers::{PluginType, TriggerDefinition, TriggerSpec};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::request_runner::{RequestRoute, RequestRoutes};
use crate::schedule_runner::ScheduleStart;
use crate::services::Services;
use crate::worker_session::Session;
use crate::{schedule_runner, writes_runner};
use tidemill_ingest::TriggerKey;

/// Why the runner of a trigger has returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunnerExit {
    /// It was told to.
    Stopped,
    /// There is nothing more to run, now or later.
    Ended,
    /// A run failed and the trigger's error behaviour is `disable`, or its processes die again and again.
    Disable(String),
}

/// A trigger that has disabled itself; to be recorded in the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DisableRequest {
    pub(crate) key: TriggerKey,
    pub(crate) reason: String,
}

/// A started trigger.
pub(crate) struct RunningTrigger {
    pub(crate) definition: Arc<TriggerDefinition>,
    pub(crate) session: Arc<Session>,
    /// Of a request trigger with several processes: those beside the first.
    pub(crate) more_sessions: Vec<Arc<Session>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl RunningTrigger {
    /// Starts a trigger. Its worker process comes up in the background.
    pub(crate) fn start(
        services: Arc<Services>,
        routes: Arc<RequestRoutes>,
        key: TriggerKey,
        definition: Arc<TriggerDefinition>,
        schedule_start: ScheduleStart,
        disable: mpsc::UnboundedSender<DisableRequest>,
    ) -> Self {
        let session = Session::new(Arc::clone(&services), key, Arc::clone(&definition));
        let is_request = matches!(definition.spec, TriggerSpec::Request { .. });
        let workers = definition.settings.workers.filter(|_| is_request);
        let more_sessions: Vec<_> = (1..workers.map_or(1, NonZeroU16::get))
            .map(|_| Session::new(Arc::clone(&services), key, Arc::clone(&definition)))
            .collect();
        let sessions = std::iter::once(&session).chain(&more_sessions);
        session.stats.follow(sessions);
        let stop = CancellationToken::new();
        // The path answers as soon as the trigger counts as started.
        let route = match &definition.spec {
            TriggerSpec::Request { path } => {
                let mut sessions = vec![Arc::clone(&session)];
                sessions.extend(more_sessions.iter().cloned());
                let route = RequestRoute::new(sessions);
                routes.insert(path, Arc::clone(&route));
                Some(route)
            }
            _ => None,
        };
        let parts = Parts {
            session: Arc::clone(&session),
            more_sessions: more_sessions.clone(),
            route,
            routes,
            schedule_start,
        };
        let task = tokio::spawn(run(parts, stop.clone(), disable));
        Self {
            definition,
            session,
            more_sessions,
            stop,
            task,
        }
    }

    /// Makes the next attempt to start workers at once, where there are none now.
    pub(crate) fn retry_if_down(&self) {
        self.session.retry_if_down();
        for session in &self.more_sessions {
            session.retry_if_down();
        }
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Tells it to stop, without waiting.
    pub(crate) fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Whether it was told to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Stops the trigger: at most two grace periods, whatever the plugin does. May be given up and called again; once it
    /// has returned, there is nothing left to call it on.
    pub(crate) async fn stop(&mut self) {
        self.begin_stop();
        if let Err(error) = (&mut self.task).await {
            tracing::error!(trigger = self.definition.trigger_name, %error, "the task of a trigger has failed");
        }
    }
}

/// What the task of a trigger works with.
struct Parts {
    session: Arc<Session>,
    /// Those beside it, of a request trigger with several processes.
    more_sessions: Vec<Arc<Session>>,
    /// Of a request trigger.
    route: Option<Arc<RequestRoute>>,
    routes: Arc<RequestRoutes>,
    schedule_start: ScheduleStart,
}

async fn run(parts: Parts, stop: CancellationToken, disable: mpsc::UnboundedSender<DisableRequest>) {
    let Parts {
        session,
        more_sessions,
        route,
        routes,
        schedule_start,
    } = parts;
    let end_worker = CancellationToken::new();
    // Cancelled also when there is no worker any more, and never will be.
    let runner_stop = stop.child_token();
    let supervisors: Vec<_> = std::iter::once(Arc::clone(&session))
        .chain(more_sessions)
        .map(|session| {
            let (end_worker, runner_stop) = (end_worker.clone(), runner_stop.clone());
            tokio::spawn(async move {
                let given_up = session.supervise(end_worker).await;
                if given_up.is_some() {
                    runner_stop.cancel();
                }
                given_up
            })
        })
        .collect();
    let mut exit = match (&session.definition.spec, route) {
        (TriggerSpec::Request { path }, Some(route)) => {
            route.serve(&routes, path, &runner_stop).await;
            RunnerExit::Stopped
        }
        (spec, _) => match spec.plugin_type() {
            PluginType::Schedule => schedule_runner::run(&session, schedule_start, &runner_stop).await,
            _ => writes_runner::run(&session, &runner_stop).await,
        },
    };
    end_worker.cancel();
    for supervisor in supervisors {
        match supervisor.await {
            Ok(Some(reason)) if !stop.is_cancelled() => exit = RunnerExit::Disable(reason),
            Ok(_) => {}
            Err(error) => {
                tracing::error!(trigger = session.definition.trigger_name, %error, "the supervisor of a trigger has failed");
            }
        }
    }
    if let RunnerExit::Disable(reason) = exit {
        // The receiver is gone only when the engine is.
        let _ = disable.send(DisableRequest {
            key: session.key,
            reason,
        });
    }
}
