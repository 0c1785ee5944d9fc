//! Triggers for the time of one measurement, and the plugins behind them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::LocalSet;

use crate::api::{Api, NewTrigger};
use crate::bench::subject::Subject;
use crate::failure::{During, Failure};
use crate::waiting::wait_until;

/// Long enough for an environment to be made and a worker to start.
pub(super) const FIRST_ANSWER_LIMIT: Duration = Duration::from_mins(2);
const CALL_PAUSE: Duration = Duration::from_millis(20);

/// The plugins that workloads put into the server.
#[derive(Clone, Copy)]
pub(super) enum Plugin {
    Burn,
    Derive,
    HandOver,
    Request,
    Walk,
}

impl Plugin {
    fn file(self) -> &'static str {
        match self {
            Plugin::Burn => "bench_burn.py",
            Plugin::Derive => "bench_derive.py",
            Plugin::HandOver => "bench_handover.py",
            Plugin::Request => "bench_request.py",
            Plugin::Walk => "bench_walk.py",
        }
    }

    fn content(self) -> &'static str {
        match self {
            Plugin::Burn => include_str!("../../../bench_plugins/bench_burn.py"),
            Plugin::Derive => include_str!("../../../bench_plugins/bench_derive.py"),
            Plugin::HandOver => include_str!("../../../bench_plugins/bench_handover.py"),
            Plugin::Request => include_str!("../../../bench_plugins/bench_request.py"),
            Plugin::Walk => include_str!("../../../bench_plugins/bench_walk.py"),
        }
    }
}

/// A trigger to create.
pub(super) struct Trigger {
    pub database: String,
    pub name: String,
    pub plugin: Plugin,
    pub specification: String,
    pub arguments: Value,
}

impl Trigger {
    /// A request trigger without arguments.
    pub(super) fn request(database: &str, name: &str, plugin: Plugin) -> Self {
        Trigger {
            database: database.to_owned(),
            name: name.to_owned(),
            plugin,
            specification: format!("request:{}", request_path(database, name)),
            arguments: Value::Null,
        }
    }

    /// What to ask for when calling a trigger made by [`Trigger::request`].
    pub(super) fn target(&self) -> String {
        format!("/api/v3/engine/{}", request_path(&self.database, &self.name))
    }
}

/// Paths are shared by all databases of a server.
fn request_path(database: &str, name: &str) -> String {
    format!("{database}_{name}")
}

/// Creates the triggers, measures, and deletes them, whatever the measurement gave. Where it failed, the failure says
/// what the plugins logged.
pub(super) async fn with_triggers<T>(
    subject: &mut Subject,
    triggers: &[Trigger],
    measure: impl AsyncFnOnce(&mut Subject) -> Result<T, Failure>,
) -> Result<T, Failure> {
    for trigger in triggers {
        subject
            .install_plugin(trigger.plugin.file(), trigger.plugin.content())
            .await?;
        subject
            .api
            .create_trigger(&NewTrigger {
                database: &trigger.database,
                name: &trigger.name,
                plugin: trigger.plugin.file(),
                specification: &trigger.specification,
                settings: json!({ "run_async": false, "error_behavior": "log" }),
                arguments: &trigger.arguments,
            })
            .await?;
    }
    let mut measured = measure(subject).await;
    if let (Err(failure), Some(trigger)) = (&measured, triggers.first()) {
        let log = subject.api.plugin_log(&trigger.database).await;
        measured = Err(Failure::new(format!("{failure}; the plugins' log: {log}")));
    }
    for trigger in triggers {
        subject
            .api
            .delete_trigger(&trigger.database, &trigger.name)
            .await?;
    }
    measured
}

/// Calls a request trigger until it answers 200: its worker is then up.
pub(super) async fn until_answers(api: &mut Api, target: &str) -> Result<(), Failure> {
    until_answers_looking_every(api, target, CALL_PAUSE).await
}

/// [`until_answers`] with a pause of one's own between two calls.
pub(super) async fn until_answers_looking_every(
    api: &mut Api,
    target: &str,
    pause: Duration,
) -> Result<(), Failure> {
    let request = api.endpoint().get(target);
    let mut last = String::new();
    let answered = wait_until(FIRST_ANSWER_LIMIT, pause, async || {
        let answer = api.exchange(&request).await?;
        last = format!("{}: {}", answer.status, answer.text());
        Ok(answer.is_success())
    })
    .await?;
    if answered {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "{target} never answered 200, at last {last}"
        )))
    }
}

/// Calls all of them at once, each over a connection of its own, until each has answered 200.
pub(super) async fn until_all_answer(api: &Api, triggers: &[Trigger]) -> Result<(), Failure> {
    let calls = LocalSet::new();
    let callers: Vec<_> = triggers
        .iter()
        .map(|trigger| {
            let (mut api, target) = (Api::new(api.endpoint().clone()), trigger.target());
            calls.spawn_local(async move { until_answers(&mut api, &target).await })
        })
        .collect();
    calls.await;
    for caller in callers {
        caller.await.during("a caller broke down")??;
    }
    Ok(())
}
