//! Executes jobs: one loop a thread, which gives the interpreter lock back only when there is nothing to do.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyList, PyTuple};
use tidemill_worker_proto::{
    EntryPoint, Failure, FailureKind, FromWorker, Load, Outcome, RunId, TableWrites, Work,
};

use crate::api::PluginApi;
use crate::collected::Collected;
use crate::exit::{DONE, exit_now};
use crate::failure::{RunError, literal};
use crate::plugin::{Entry, Plugin};
use crate::python_types;
use crate::queue::{Arrival, Job, RunJob};
use crate::request;
use crate::response::{Answer, Body, Response, answer};
use crate::runs::ActiveRun;
use crate::tables::TableSource;
use crate::worker::Worker;

/// Answers wait at most this long for more of them, and then leave with them in one write.
pub(crate) const FLUSH_INTERVAL: Duration = Duration::from_micros(150);

/// Executes jobs for ever on the calling thread.
pub(crate) fn run_executor(py: Python<'_>, worker: &Arc<Worker>) -> ! {
    let mut flushed = Instant::now();
    let mut arrival = Arrival::Awake;
    loop {
        if worker.output.is_full() {
            py.detach(|| worker.output.wait_for_room());
        }
        let Some(job) = worker.queue.try_pop(arrival) else {
            // While the lock is still held: whoever waits for it would be woken first, and the answers would wait for that.
            worker.output.flush();
            arrival = py.detach(|| worker.queue.wait());
            flushed = Instant::now();
            continue;
        };
        arrival = Arrival::Awake;
        if flushed.elapsed() > FLUSH_INTERVAL {
            worker.output.flush();
            flushed = Instant::now();
        } else {
            // The job may take long: what is ready must not wait for it.
            worker.output.flush_soon();
        }
        // From its place in the queue a run goes to the active ones without the lock being given back in between: so whoever
        // interrupts it, with that lock, finds it in one of the two.
        match job {
            Job::Load(load) => execute_load(py, worker, *load),
            Job::Run(run) => execute_run(py, worker, *run),
        }
    }
}

fn execute_load(py: Python<'_>, worker: &Arc<Worker>, load: Load) {
    let message = match try_load(py, worker, load) {
        Ok(()) => FromWorker::Loaded,
        Err(failure) => FromWorker::LoadFailed(failure),
    };
    send(worker, &message, &[]);
}

fn try_load(py: Python<'_>, worker: &Arc<Worker>, load: Load) -> Result<(), Failure> {
    let replaced = worker.plugin.lock().take();
    let prepared = replaced
        .map_or(Ok(()), |replaced| replaced.remove(py))
        .and_then(|()| Plugin::new(py, &worker.python, load));
    let plugin = Arc::new(prepared.map_err(|error| literal(FailureKind::Load, error.to_string()))?);
    *worker.plugin.lock() = Some(Arc::clone(&plugin));
    plugin.entry(py, &worker.python, Instant::now()).map(drop)
}

fn execute_run(py: Python<'_>, worker: &Arc<Worker>, mut job: RunJob) {
    let active = worker.runs.begin(py, job.run, job.run_id.clone());
    let plugin = worker.plugin.lock().clone();
    let executors_max = plugin.as_ref().map_or(1, |plugin| plugin.load.concurrency);
    if worker.executors.begin_run(executors_max) {
        add_executor(py, worker);
    }
    let result = match &plugin {
        Some(plugin) => call_guarded(py, worker, plugin, &active, &mut job),
        None => Err(RunError::Failed(literal(
            FailureKind::Load,
            "no plugin is loaded".to_owned(),
        ))),
    };
    if worker.is_forked() {
        // The plugin has forked, and both processes have come back. The run is the parent's to end.
        exit_now(DONE);
    }
    // Before anything else happens in Python: what interrupts the run must not hit what describes its failure.
    worker.runs.end(py, &active);
    worker.executors.end_run();
    let collected = active.close();
    let result = match (result, &plugin) {
        (Err(RunError::Failed(failure)), _) => Err(failure),
        (Err(error), Some(plugin)) => Err(error.into_failure(&worker.python, plugin.owns(py))),
        (Err(error), None) => Err(literal(FailureKind::Load, error.to_string())),
        (Ok(response), _) => Ok(response),
    };
    let output_bytes_max = plugin.map_or(u64::MAX, |plugin| plugin.load.output_bytes_max);
    let result = result.and_then(|response| within_limit(response, &collected, output_bytes_max));
    finish(worker, job.run, result, &collected);
}

/// Starts a thread that executes runs beside this one.
fn add_executor(py: Python<'_>, worker: &Arc<Worker>) {
    let shared = Arc::clone(worker);
    let run = move |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| -> PyResult<()> {
        run_executor(args.py(), &shared)
    };
    let name = format!("plugin-run-{}", worker.executors.count());
    let started = PyCFunction::new_closure(py, None, None, run)
        .and_then(|target| worker.python.start_thread(target.into_any(), &name));
    if let Err(error) = started {
        // No thread to be had: there is at least this one. Standard error is the plugin's log.
        worker.executors.remove();
        error.write_unraisable(py, None);
    }
}

/// A panic in here is a defect of ours; it fails the run, not the process.
fn call_guarded(
    py: Python<'_>,
    worker: &Arc<Worker>,
    plugin: &Arc<Plugin>,
    active: &Arc<ActiveRun>,
    job: &mut RunJob,
) -> Result<Option<Response>, RunError> {
    let call = AssertUnwindSafe(|| call_plugin(py, worker, plugin, active, job));
    std::panic::catch_unwind(call).unwrap_or_else(|_| {
        let text = "internal error in the worker; its standard error says more";
        Err(RunError::Failed(literal(FailureKind::Raised, text.to_owned())))
    })
}

fn call_plugin(
    py: Python<'_>,
    worker: &Arc<Worker>,
    plugin: &Arc<Plugin>,
    active: &Arc<ActiveRun>,
    job: &mut RunJob,
) -> Result<Option<Response>, RunError> {
    let entry = plugin
        .entry(py, &worker.python, job.received)
        .map_err(RunError::Failed)?;
    let args = plugin.arguments(py).map_err(RunError::Raised)?;
    let (request_arguments, request) = match &mut job.work {
        Work::Request(head) => {
            let arguments = request::arguments(py, head, &job.blob).map_err(RunError::Raised)?;
            (Some(arguments), Some(std::mem::take(head)))
        }
        _ => (None, None),
    };
    let api = PluginApi::new(
        Arc::clone(worker),
        Arc::clone(plugin),
        Arc::clone(active),
        args.clone(),
        request,
    );
    let api = Bound::new(py, api).map_err(RunError::Raised)?;
    let returned = match (&job.work, &entry) {
        (Work::Writes { tables }, Entry::Function(function)) => {
            call_with_batches(worker, function, api, args, tables, &job.blob)
        }
        (Work::Writes { tables }, Entry::OnWrite(function)) => {
            call_by_table(worker, plugin, function, &api, tables, &job.blob)
        }
        (Work::Schedule { time_ns }, Entry::Function(function)) => {
            python_types::naive_utc(py, *time_ns).and_then(|call_time| function.call1((api, call_time, args)))
        }
        (Work::Request(_), Entry::Function(function)) => {
            let (parameters, headers, body) = request_arguments.expect("every request has them");
            function.call1((api, parameters, headers, body, args))
        }
        (_, Entry::OnWrite(_)) => {
            return Err(RunError::NotAnAnswer("on_write is only called with written rows"));
        }
    };
    let returned = returned
        .and_then(|returned| awaited(worker, returned))
        .map_err(RunError::Raised)?;
    if plugin.load.entry != EntryPoint::Request {
        return Ok(None);
    }
    match answer(&returned)? {
        Answer::Whole(response) => Ok(Some(response)),
        Answer::Streamed(streamed) => streamed.send(py, worker, active),
    }
}

fn call_with_batches<'py>(
    worker: &Worker,
    function: &Bound<'py, PyAny>,
    api: Bound<'py, PluginApi>,
    args: Option<Bound<'py, PyDict>>,
    tables: &[TableWrites],
    blob: &Bytes,
) -> PyResult<Bound<'py, PyAny>> {
    let py = function.py();
    let batches = PyList::empty(py);
    for (table, source) in sources(tables, blob) {
        batches.append(worker.python.new_table_batch(py, &table.table_name, source)?)?;
    }
    function.call1((api, batches, args))
}

fn call_by_table<'py>(
    worker: &Worker,
    plugin: &Plugin,
    function: &Bound<'py, PyAny>,
    api: &Bound<'py, PluginApi>,
    tables: &[TableWrites],
    blob: &Bytes,
) -> PyResult<Bound<'py, PyAny>> {
    let py = function.py();
    for (table, source) in sources(tables, blob) {
        let rows = source.rows(py)?;
        let returned = function.call1((api, &plugin.load.database, &table.table_name, rows))?;
        awaited(worker, returned)?;
    }
    Ok(py.None().into_bound(py))
}

/// The tables of a run, each with its part of the blob. Lengths beyond the blob give streams that do not decode.
fn sources<'a>(
    tables: &'a [TableWrites],
    blob: &'a Bytes,
) -> impl Iterator<Item = (&'a TableWrites, TableSource)> {
    let mut rest = blob.clone();
    tables.iter().map(move |table| {
        let streams = table.stream_bytes.iter().map(|bytes| {
            let bytes = usize::try_from(*bytes).unwrap_or(usize::MAX).min(rest.len());
            rest.split_to(bytes)
        });
        (table, TableSource::new(&table.table_name, streams.collect()))
    })
}

/// The value itself, or what it gives when it is awaited (`async def`).
fn awaited<'py>(worker: &Worker, returned: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = returned.py();
    if returned.is_none() || !returned.hasattr(intern!(py, "__await__"))? {
        return Ok(returned);
    }
    worker.python.wait_for(returned)
}

/// Refuses what the server would.
fn within_limit(
    response: Option<Response>,
    collected: &Collected,
    bytes_max: u64,
) -> Result<Option<Response>, Failure> {
    let body_bytes = response
        .as_ref()
        .map_or(0, |response| response.body.bytes().len());
    let lines_bytes: usize = collected.bodies().map(<[u8]>::len).sum();
    let bytes = (body_bytes + lines_bytes) as u64;
    if bytes > bytes_max {
        let text = format!(
            "the run exceeds the trigger's output limit of {bytes_max} bytes: its answer has {body_bytes}, the lines that \
             it writes have {lines_bytes}"
        );
        return Err(literal(FailureKind::BadReturn, text));
    }
    Ok(response)
}

/// Sends the end of a run: what it collected if it returned, and its answer, unless that has been streamed.
fn finish(worker: &Worker, run: RunId, result: Result<Option<Response>, Failure>, collected: &Collected) {
    let (outcome, body) = match result {
        Ok(response) => {
            let (head, body) = response.map(|response| (response.head, response.body)).unzip();
            let writes = collected.heads();
            (
                Outcome::Returned {
                    writes,
                    state: collected.state_heads(),
                    response: head,
                },
                body,
            )
        }
        Err(failure) => {
            return send(
                worker,
                &FromWorker::Finished {
                    run,
                    outcome: Outcome::Failed(failure),
                },
                &[],
            );
        }
    };
    let blob: Vec<&[u8]> = collected.bodies().chain(body.as_ref().map(Body::bytes)).collect();
    send(worker, &FromWorker::Finished { run, outcome }, &blob);
}

fn send(worker: &Worker, message: &FromWorker, blob: &[&[u8]]) {
    let Err(error) = worker.output.push(message, blob) else {
        return;
    };
    if let FromWorker::Finished { run, .. } = message {
        let failure = literal(
            FailureKind::BadReturn,
            format!("the result of the run is too large: {error}"),
        );
        let outcome = Outcome::Failed(failure);
        let short = FromWorker::Finished { run: *run, outcome };
        worker
            .output
            .push(&short, &[])
            .expect("a short text fits a frame");
    }
}
