//! What a crash of a plugin costs its callers: the worker process is killed, and its trigger called until it answers.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::triggers::{Plugin, Trigger, until_answers, until_answers_looking_every, with_triggers};
use super::{Findings, milliseconds, server_pid};
use crate::bench::measure::Measure;
use crate::bench::subject::Subject;
use crate::failure::{During, Failure};
use crate::process_info::descendants;
use crate::statistics::median;

const CRASHES: usize = 9;
/// A server may refuse calls while the worker is away; then this is between two of them.
const CALL_PAUSE: Duration = Duration::from_millis(1);

/// Measures on a server that has no other worker than that of this trigger.
pub(super) async fn measure(subject: &mut Subject) -> Result<Findings, Failure> {
    let trigger = Trigger::request(&subject.engine, "crash", Plugin::Request);
    let target = trigger.target();
    with_triggers(subject, &[trigger], async |subject| {
        until_answers(&mut subject.api, &target).await?;
        let mut samples_ms = Vec::new();
        let mut worker = only_worker(subject)?;
        for _ in 0..CRASHES {
            let killed = Instant::now();
            kill_process(worker, Signal::KILL).during("cannot kill the worker")?;
            until_answers_looking_every(&mut subject.api, &target, CALL_PAUSE).await?;
            samples_ms.push(milliseconds(killed.elapsed()));
            let successor = only_worker(subject)?;
            if successor == worker {
                return Err(Failure::new("the killed worker is still there"));
            }
            worker = successor;
        }
        let mut findings = Findings::default();
        findings.add(Measure::WorkerCrash, median(&mut samples_ms));
        Ok(findings)
    })
    .await
}

/// The process below the server.
fn only_worker(subject: &Subject) -> Result<Pid, Failure> {
    match descendants(server_pid(subject)?)[..] {
        [pid] => Ok(Pid::from_raw(pid as i32).expect("a process id is not zero")),
        ref pids => Err(Failure::new(format!(
            "the server must have one worker process, below it are {pids:?}"
        ))),
    }
}
