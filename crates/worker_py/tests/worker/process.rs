//! The process: its end, interruptions, threads, output.

use std::io::Write;
use std::time::Duration;

use tidemill_worker_proto::{EntryPoint, FailureKind, FromWorker, Outcome, RunId, ToWorker, Work};

use crate::harness::{Finished, Session, request_work};

/// An end that is prompt also on a busy machine.
const PROMPT: Duration = Duration::from_secs(5);

fn schedule(body: &str) -> Session {
    let source = format!(
        "import sys, threading, time\nstate = {{}}\ndef process_scheduled_call(api, call_time, args):\n    {}\n",
        body.replace('\n', "\n    ")
    );
    Session::with_plugin(EntryPoint::ScheduledCall, &source)
}

/// Begins a run and waits until it says that it is there.
fn begin(session: &mut Session) -> RunId {
    begin_work(session, Work::Schedule { time_ns: 0 })
}

fn begin_work(session: &mut Session, work: Work) -> RunId {
    let run = session.begin(work, &[]);
    loop {
        match session.next().head {
            FromWorker::Log { text, .. } if text == "here" => return run,
            // Calls of runs that wait for answers which never come.
            FromWorker::Log { .. } | FromWorker::Query { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn cancel(session: &mut Session, run: RunId) -> Finished {
    session.send(
        &ToWorker::Cancel {
            run,
            reason: "run-timeout of 1s exceeded".to_owned(),
        },
        &[],
    );
    session.finish(run, |_, _| vec![])
}

#[track_caller]
fn check_ended(session: Session) {
    let (status, took) = session.close();
    assert_eq!(status.code(), Some(0));
    assert!(took < PROMPT, "{took:?}");
}

#[test]
fn the_process_ends_with_its_connection() {
    check_ended(Session::start());
    check_ended(Session::with_plugin(
        EntryPoint::Request,
        "def process_request(*args): return ''",
    ));
    for body in [
        "api.info('here')\nwhile True: pass",
        "api.info('here')\ntime.sleep(1000)",
        "api.info('here')\napi.query('unanswered')",
        // A thread that Python would wait for, and an exit handler that never returns.
        "import atexit\natexit.register(time.sleep, 1000)\nthreading.Thread(target=lambda: time.sleep(1000)).start()\napi.info('here')\nthreading.Event().wait()",
        "import ctypes\napi.info('here')\nctypes.PyDLL(None).sleep(1000)",
    ] {
        let mut session = schedule(body);
        begin(&mut session);
        check_ended(session);
    }
}

#[test]
fn the_process_ends_on_shutdown() {
    let mut session = schedule("api.info('here')\nwhile True: pass");
    begin(&mut session);
    session.send(&ToWorker::Shutdown, &[]);
    let (status, took) = session.wait_for_exit();
    assert_eq!(status.code(), Some(0));
    assert!(took < PROMPT, "{took:?}");
}

#[test]
fn a_run_can_be_interrupted_wherever_it_is() {
    for wait in [
        "while True: pass",
        "time.sleep(1000)",
        "api.query('unanswered')",
        "threading.Event().wait()",
        "threading.Lock().acquire() and state.setdefault('l', threading.Lock()).acquire() and state['l'].acquire()",
    ] {
        let mut session = schedule(&format!(
            "if state.setdefault('runs', 0):\n    return api.info('next')\nstate['runs'] = 1\napi.info('here')\n{wait}"
        ));
        let run = begin(&mut session);
        let failure = cancel(&mut session, run).failed().clone();
        assert_eq!(failure.kind, FailureKind::Raised, "{wait}");
        assert_eq!(
            failure.message, "RunTimeout: run-timeout of 1s exceeded",
            "{wait}"
        );
        let traceback = failure.traceback.unwrap();
        assert!(
            traceback.contains("in process_scheduled_call"),
            "{wait}: {traceback}"
        );
        assert_eq!(session.schedule().logged(), ["next"], "{wait}");
    }
}

#[test]
fn an_interruption_can_be_caught_and_comes_once() {
    let mut session = schedule(
        "
try:
    api.info('here')
    api.query('unanswered')
except TimeoutError as error:
    api.info(type(error).__name__, error)
for _ in range(100000): pass
time.sleep(0)
api.write('m f=1')",
    );
    let run = begin(&mut session);
    let finished = cancel(&mut session, run);
    assert_eq!(finished.logged(), ["RunTimeout run-timeout of 1s exceeded"]);
    assert_eq!(finished.written().len(), 1);
}

#[test]
fn a_query_is_abandoned_with_its_run() {
    let mut session = schedule("api.info('here')\napi.query('long')");
    let run = session.begin(Work::Schedule { time_ns: 0 }, &[]);
    let asked = loop {
        if let FromWorker::Query { call, .. } = session.next().head {
            break call;
        }
    };
    let reason = "enough".to_owned();
    session.send(&ToWorker::Cancel { run, reason }, &[]);
    let mut abandoned = Vec::new();
    let finished = session.finish(run, |message, _| {
        if let FromWorker::AbandonQuery { call } = message {
            abandoned.push(*call);
        }
        vec![]
    });
    assert_eq!(finished.failed().message, "RunTimeout: enough");
    assert_eq!(abandoned, [asked]);
}

#[test]
fn a_run_that_has_ended_or_not_begun_is_not_hit() {
    let mut session = schedule("api.info('here')\nif state.get('wait'):\n    api.query('q')");
    session.send(
        &ToWorker::Cancel {
            run: RunId(77),
            reason: "never was".to_owned(),
        },
        &[],
    );
    for _ in 0..200 {
        let run = session.begin(Work::Schedule { time_ns: 0 }, &[]);
        session.send(
            &ToWorker::Cancel {
                run,
                reason: "late".to_owned(),
            },
            &[],
        );
        let finished = session.finish(run, |_, _| vec![]);
        if let Outcome::Failed(failure) = &finished.outcome {
            assert_eq!(failure.message, "RunTimeout: late");
        }
        session.schedule().returned();
    }

    let mut session = schedule("api.info('here')\napi.query('q')");
    let first = begin(&mut session);
    let second = session.begin(Work::Schedule { time_ns: 0 }, &[]);
    // The first run goes on while the second, which waits behind it, is answered for.
    let failure = cancel(&mut session, second).failed().clone();
    assert_eq!(failure.message, "RunTimeout: run-timeout of 1s exceeded");
    cancel(&mut session, first).failed();
}

fn concurrent(entry: EntryPoint, concurrency: u32, source: &str) -> Session {
    let mut session = Session::start();
    session.write_file("plugin.py", source);
    let mut load = session.load_of(entry, "plugin.py");
    load.concurrency = concurrency;
    assert_eq!(session.load(load), FromWorker::Loaded);
    session
}

/// Waits for the ends of runs in whatever order.
fn finish_all(session: &mut Session, mut count: usize) -> Vec<Finished> {
    let mut ended = Vec::new();
    while count > 0 {
        let frame = session.next();
        if let FromWorker::Finished { outcome, .. } = frame.head {
            ended.push(Finished {
                outcome,
                blob: frame.blob,
                logs: vec![],
                streamed: None,
            });
            count -= 1;
        }
    }
    ended
}

#[test]
fn asynchronous_runs_go_on_at_the_same_time_on_threads_of_their_own() {
    let mut session = concurrent(
        EntryPoint::Request,
        4,
        "
import asyncio, threading
barrier = threading.Barrier(4)
local = threading.local()
async def loop_id(): return id(asyncio.get_running_loop())
def process_request(api, parameters, headers, body, args):
    barrier.wait(60)
    assert not hasattr(local, 'busy')
    local.busy = True
    asyncio.run(loop_id())
    barrier.wait(60)
    del local.busy
    thread = threading.current_thread()
    return thread.name + ' ' + type(thread).__name__
",
    );
    for _ in 0..3 {
        for _ in 0..4 {
            session.begin(request_work(&[], &[]), &[]);
        }
        let mut names: Vec<String> = finish_all(&mut session, 4)
            .iter()
            .map(Finished::answered)
            .collect();
        names.sort();
        let expected = [
            "MainThread _MainThread",
            "plugin-run-2 Thread",
            "plugin-run-3 Thread",
            "plugin-run-4 Thread",
        ];
        assert_eq!(
            names,
            expected.map(|name| format!("200 [Content-Type: text/html] {name}"))
        );
    }
}

#[test]
fn coroutines_have_a_loop_a_thread() {
    let mut session = concurrent(
        EntryPoint::Request,
        2,
        "
import asyncio, threading
barrier = threading.Barrier(2)
async def process_request(api, parameters, headers, body, args):
    barrier.wait(60)
    await asyncio.sleep(0)
    return str(id(asyncio.get_running_loop()))
",
    );
    let mut seen = Vec::new();
    for _ in 0..2 {
        session.begin(request_work(&[], &[]), &[]);
        session.begin(request_work(&[], &[]), &[]);
        let mut loops: Vec<String> = finish_all(&mut session, 2)
            .iter()
            .map(Finished::answered)
            .collect();
        loops.sort();
        assert_ne!(loops[0], loops[1]);
        seen.push(loops);
    }
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn a_run_on_another_thread_can_be_interrupted() {
    let mut session = concurrent(
        EntryPoint::Request,
        3,
        "
def process_request(api, parameters, headers, body, args):
    if 'wait' not in parameters:
        return 'quick'
    api.info('here')
    if parameters['wait'] == 'spin':
        while True: pass
    api.query('unanswered')
",
    );
    let mut runs = Vec::new();
    for wait in ["query", "spin"] {
        runs.push(begin_work(&mut session, request_work(&[("wait", wait)], &[])));
    }
    assert_eq!(
        session.request().answered(),
        "200 [Content-Type: text/html] quick"
    );
    for run in runs {
        assert_eq!(
            cancel(&mut session, run).failed().message,
            "RunTimeout: run-timeout of 1s exceeded"
        );
    }
    for _ in 0..10 {
        assert_eq!(
            session.request().answered(),
            "200 [Content-Type: text/html] quick"
        );
    }
}

#[test]
fn a_forked_process_has_no_part_in_the_connection() {
    // The child comes back from the function too, as in a plugin that forgets to end it.
    let mut session = schedule(
        "
import os
if state.get('child') is not None:
    return api.info('status', os.waitpid(state['child'], 0)[1])
reader, writer = os.pipe()
state['child'] = os.fork()
if state['child'] == 0:
    for call in (lambda: api.info('from the child'), lambda: api.query('q'), lambda: api.write_sync('m f=1', True)):
        try:
            call()
        except RuntimeError as error:
            os.write(writer, str(error).split(':')[0].encode() + b'; ')
    return
os.close(writer)
said = b''
while chunk := os.read(reader, 1000):
    said += chunk
api.info(said.decode())",
    );
    let refused = "influxdb3_local cannot be used in a forked process; ";
    assert_eq!(session.schedule().logged(), [refused.repeat(3)]);
    assert_eq!(session.schedule().logged(), ["status 0"]);
}

#[test]
fn multiprocessing_works_in_a_plugin() {
    let mut session = Session::with_plugin(
        EntryPoint::ScheduledCall,
        "
import multiprocessing

def square(number):
    return number * number

def process_scheduled_call(api, call_time, args):
    with multiprocessing.get_context('fork').Pool(2) as pool:
        api.info(pool.map(square, [1, 2, 3]))
",
    );
    for _ in 0..2 {
        assert_eq!(session.schedule().logged(), ["[1, 4, 9]"]);
    }
}

#[test]
fn output_is_whole_lines_and_takes_any_character() {
    let mut session = schedule(
        "print('a', 'ü', '\\ud800')\nprint('no end', end='')\nprint('err', file=sys.stderr)\nsys.stdout.flush()",
    );
    session.schedule().returned();
    let (stdout, stderr) = session.output();
    assert_eq!(stdout, "a ü \\ud800\nno end");
    assert_eq!(stderr, "err\n");
}

#[test]
fn the_stack_can_be_had_by_a_signal() {
    let mut session = schedule("api.info('here')\nwhile not state.get('x'):\n    time.sleep(0.001)");
    begin(&mut session);
    let pid = rustix::process::Pid::from_raw(session.pid().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::USR1).unwrap();
    // A signal that is delivered to a process is so when the process next does anything, as an interruption makes it.
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let run = RunId(1);
    cancel(&mut session, run).failed();
    let (_, stderr) = session.output();
    assert!(
        stderr.contains("most recent call first") && stderr.contains("in process_scheduled_call"),
        "{stderr}"
    );
}

#[test]
fn results_larger_than_the_sockets_buffer_arrive_in_order() {
    let mut session = Session::with_plugin(
        EntryPoint::Request,
        "
def process_request(api, parameters, headers, body, args):
    for number in range(2000):
        api.info(str(number) * 1000)
    return b'x' * (20 << 20)
",
    );
    let runs: Vec<RunId> = (0..3)
        .map(|_| session.begin(request_work(&[], &[]), &[]))
        .collect();
    for run in runs {
        let finished = session.finish(run, |_, _| vec![]);
        assert_eq!(finished.blob.len(), 20 << 20);
        let logged = finished.logged();
        assert_eq!(logged.len(), 2000);
        assert!(
            logged
                .iter()
                .enumerate()
                .all(|(number, text)| *text == number.to_string().repeat(1000))
        );
    }
}

#[test]
fn a_log_leaves_while_its_run_goes_on() {
    let mut session = schedule("api.info('here')\nwhile True: pass");
    let run = begin(&mut session);
    cancel(&mut session, run).failed();
}

#[test]
fn nonsense_on_the_connection_ends_the_process_with_a_word() {
    let mut session = Session::start();
    session
        .stream()
        .write_all(&[9, 0, 0, 0, 5, 0, 0, 0, 255, 255, 255, 255, 255])
        .unwrap();
    let (status, _) = session.wait_for_exit();
    assert_eq!(status.code(), Some(70));
    let (_, stderr) = session.output();
    assert!(
        stderr.starts_with("broken connection to the server: malformed message: "),
        "{stderr}"
    );
}
