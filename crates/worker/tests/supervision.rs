//! Workers that misbehave, as seen by the server.

mod support;

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use support::{DEADLINE, Event, Recorder, fake_worker, is_running, wait_until_gone};
use tidemill_worker::{
    ExitReason, KillCause, LINE_BYTES_MAX, PluginUser, SandboxLevel, SandboxProfile, StartError, Worker,
    WorkerCommand,
};
use tidemill_worker_proto::{FromWorker, ToWorker};

async fn start(program: &str) -> (Worker, Arc<Recorder>) {
    let recorder = Recorder::new();
    let worker = Worker::start(fake_worker(program), recorder.clone())
        .await
        .expect("the worker starts");
    (worker, recorder)
}

async fn start_error(command: WorkerCommand) -> (StartError, Arc<Recorder>) {
    let recorder = Recorder::new();
    let error = Worker::start(command, recorder.clone())
        .await
        .expect_err("the worker does not start");
    let exited = recorder
        .events()
        .iter()
        .any(|event| matches!(event, Event::Exited(_)));
    assert!(!exited, "a failed start is no exit");
    (error, recorder)
}

fn exits(recorder: &Recorder) -> usize {
    recorder
        .events()
        .iter()
        .filter(|event| matches!(event, Event::Exited(_)))
        .count()
}

#[tokio::test]
async fn a_worker_that_ends_early_is_an_error_with_its_last_words() {
    let (error, recorder) = start_error(fake_worker(
        "print('no such module', file=sys.stderr); sys.exit(7)",
    ))
    .await;
    let StartError::Exited { reason, stderr } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*reason, ExitReason::Exited { code: 7 });
    assert_eq!(stderr, "no such module");
    assert_eq!(
        error.to_string(),
        "worker ended before it was ready (exited with code 7):\nno such module"
    );
    assert_eq!(recorder.events(), [Event::Stderr("no such module".into())]);
}

#[tokio::test]
async fn a_silent_worker_is_killed() {
    let mut command = fake_worker("print(os.getpid(), file=sys.stderr); time.sleep(600)");
    // Long enough for the line to be printed on a busy machine.
    command.handshake_timeout = Duration::from_secs(3);
    let (error, _) = start_error(command).await;
    let StartError::Silent { stderr, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(!is_running(stderr.parse().unwrap()));
}

#[tokio::test]
async fn what_is_not_the_protocol_is_refused() {
    let (error, _) = start_error(fake_worker("sock.sendall(bytes([255]) * 64); until_closed()")).await;
    assert!(matches!(error, StartError::Protocol { .. }), "{error:?}");
    let (error, _) = start_error(fake_worker("loaded(); until_closed()")).await;
    assert!(matches!(error, StartError::NoHello), "{error:?}");
    let (error, _) = start_error(fake_worker("hello(99); until_closed()")).await;
    assert!(matches!(error, StartError::Version { theirs: 99 }), "{error:?}");
    assert!(error.to_string().contains("protocol version 99"));
}

#[tokio::test]
async fn a_missing_interpreter_is_named() {
    let mut command = fake_worker("");
    command.python = "/nonexistent/python".into();
    let (error, _) = start_error(command).await;
    assert!(
        error
            .to_string()
            .starts_with("could not start /nonexistent/python"),
        "{error}"
    );
}

#[tokio::test]
async fn garbage_after_the_handshake_ends_the_worker() {
    let (worker, recorder) =
        start("hello(); loaded(); sock.sendall(bytes([255]) * 64); time.sleep(600)").await;
    let reason = recorder.exit().await;
    assert!(matches!(reason, ExitReason::ProtocolError { .. }), "{reason:?}");
    assert_eq!(worker.wait().await, reason);
    assert_eq!(exits(&recorder), 1);
    let loaded = Event::Message(FromWorker::Loaded, Bytes::new());
    assert_eq!(recorder.events()[0], loaded, "what came before is delivered");
    assert!(worker.send(ToWorker::Shutdown, Bytes::new()).is_err());
}

#[tokio::test]
async fn an_exit_is_reported_once_and_after_everything_else() {
    let program = "hello()\nfor _ in range(2000):\n    loaded()\n    print('line')\nos._exit(3)";
    let (worker, recorder) = start(program).await;
    assert_eq!(recorder.exit().await, ExitReason::Exited { code: 3 });
    let events = recorder.events();
    assert_eq!(events.len(), 4001);
    assert!(matches!(events.last(), Some(Event::Exited(_))));
    assert_eq!(worker.exit_reason(), Some(ExitReason::Exited { code: 3 }));
    assert!(!is_running(worker.pid()));
    assert_eq!(worker.resident_bytes(), None);
    worker.kill();
    worker.stop(DEADLINE).await;
    drop(worker);
    assert_eq!(exits(&recorder), 1);
}

#[tokio::test]
async fn signals_are_named() {
    let (worker, recorder) = start("hello(); os.kill(os.getpid(), signal.SIGSEGV); time.sleep(600)").await;
    let reason = recorder.exit().await;
    assert_eq!(
        reason,
        ExitReason::Signalled {
            signal: 11,
            name: "SIGSEGV"
        }
    );
    drop(worker);

    let (worker, recorder) = start("hello(); until_closed()").await;
    let pid = worker.pid().to_string();
    assert!(
        Command::new("kill")
            .args(["-9", &pid])
            .status()
            .unwrap()
            .success()
    );
    let reason = recorder.exit().await;
    assert_eq!(
        reason,
        ExitReason::Signalled {
            signal: 9,
            name: "SIGKILL"
        }
    );
}

const FORKS: &str = "
child = os.fork()
if child == 0:
    time.sleep(600)
print('child', child)
hello()
";

#[tokio::test]
async fn children_of_a_plugin_die_with_its_worker() {
    for end in [
        "until_closed()",
        "os._exit(5)",
        "os.kill(os.getpid(), signal.SIGKILL)",
    ] {
        let (worker, recorder) = start(&format!("{FORKS}\n{end}")).await;
        let child: u32 = recorder.line("child ").await.parse().unwrap();
        if end == "until_closed()" {
            assert!(is_running(child));
            worker.kill();
            assert_eq!(recorder.exit().await, ExitReason::Killed(KillCause::Requested));
        } else {
            recorder.exit().await;
        }
        wait_until_gone(child).await;
        assert!(!is_running(worker.pid()));
    }
}

#[tokio::test]
async fn what_has_left_the_group_is_gone_when_the_exit_is_reported() {
    // A daemon as they are made by the book, one without any environment, and one that is another process every 5 ms. All
    // but the second hold a lock.
    let lock = tempfile::NamedTempFile::new().unwrap();
    let program = format!(
        "
import fcntl, subprocess
lock = open('{}', 'w')
fcntl.flock(lock, fcntl.LOCK_EX)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print('daemon', os.getpid())
        time.sleep(600)
    os._exit(0)
if os.fork() == 0:
    os.setsid()
    print('restless', os.getpid())
    while True:
        if os.fork():
            os._exit(0)
        time.sleep(0.005)
bare = subprocess.Popen(['/bin/sleep', '600'], start_new_session=True, env={{}})
print('bare', bare.pid)
hello()
",
        lock.path().display()
    );
    for end in ["until_closed()", "sock.recv(1); os._exit(5)"] {
        let (worker, recorder) = start(&format!("{program}\n{end}")).await;
        recorder.line("restless ").await;
        let mut pids = Vec::new();
        for name in ["daemon ", "bare "] {
            pids.push(recorder.line(name).await.parse().unwrap());
        }
        assert!(pids.iter().all(|pid| is_running(*pid)));
        let started = Instant::now();
        if end.starts_with("until") {
            worker.kill();
        } else {
            worker.send(ToWorker::Shutdown, Bytes::new()).unwrap();
        }
        recorder.exit().await;
        assert!(started.elapsed() < Duration::from_secs(10));
        let left: Vec<u32> = pids.into_iter().filter(|pid| is_running(*pid)).collect();
        assert_eq!(left, [0; 0], "{end}");
        let free = rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        assert_eq!(free, Ok(()), "nobody holds the lock: {end}");
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::Unlock).unwrap();
    }
}

#[tokio::test]
async fn one_worker_s_orphans_are_not_another_s() {
    let program = "
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print('daemon', os.getpid())
        time.sleep(600)
    os._exit(0)
hello()
until_closed()
";
    let (first, first_recorder) = start(program).await;
    let (_second, second_recorder) = start(program).await;
    let first_daemon: u32 = first_recorder.line("daemon ").await.parse().unwrap();
    let second_daemon: u32 = second_recorder.line("daemon ").await.parse().unwrap();
    first.kill();
    first.wait().await;
    assert!(!is_running(first_daemon));
    assert!(is_running(second_daemon));
}

/// As root only: nobody else can start processes as another user.
#[tokio::test]
async fn a_worker_runs_as_another_user_with_all_that_others_have() {
    let Ok(user) = PluginUser::find("nobody") else {
        return;
    };
    let mut command = fake_worker(
        "hello()
status = dict(line.split(':', 1) for line in open('/proc/self/status'))
print('ids', os.getresuid() == (65534,) * 3, os.getresgid()[0] != 0, 0 not in os.getgroups())
print('privileges', int(status['CapEff'], 16), status['NoNewPrivs'].strip())
print('score', open('/proc/self/oom_score_adj').read().strip())
try:
    os.setuid(0)
except PermissionError:
    print('root refused')
import ctypes
death_signal = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(death_signal))
print('death', death_signal.value)
until_closed()",
    );
    // One that this user may execute, wherever the tests' own lies.
    command.python = "/usr/bin/python3".into();
    if !command.python.exists() {
        return;
    }
    command.user = Some(Arc::new(user));
    let recorder = Recorder::new();
    let worker = Worker::start(command, recorder.clone()).await.expect("it starts");
    assert_eq!(recorder.line("ids ").await, "True True True");
    assert_eq!(recorder.line("privileges ").await, "0 1");
    assert_eq!(recorder.line("score ").await, "1000");
    assert_eq!(recorder.line("root ").await, "refused");
    assert_eq!(recorder.line("death ").await, "9");
    worker.kill();
    assert_eq!(recorder.exit().await, ExitReason::Killed(KillCause::Requested));
}

#[tokio::test]
async fn a_worker_that_closes_its_connection_is_killed() {
    for closing in ["sock.close()", "os.closerange(0, 100)"] {
        let (_worker, recorder) = start(&format!("hello(); {closing}; time.sleep(600)")).await;
        let reason = recorder.exit().await;
        assert_eq!(reason, ExitReason::Killed(KillCause::ConnectionClosed));
    }
}

#[tokio::test]
async fn dropping_it_kills_it() {
    let (worker, recorder) = start("hello(); time.sleep(600)").await;
    let pid = worker.pid();
    drop(worker);
    assert_eq!(recorder.exit().await, ExitReason::Killed(KillCause::Dropped));
    assert!(!is_running(pid));
}

#[test]
fn the_end_of_the_runtime_kills_it() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (worker, _recorder) = runtime.block_on(start("hello(); time.sleep(600)"));
    let pid = worker.pid();
    drop(runtime);
    drop(worker);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(wait_until_gone(pid));
}

#[tokio::test]
async fn stopping_asks_first() {
    let (worker, recorder) = start("hello(); sock.recv(1); print('asked'); sys.exit(0)").await;
    worker.stop(DEADLINE).await;
    assert_eq!(recorder.exit().await, ExitReason::Exited { code: 0 });
    assert_eq!(recorder.events()[0], Event::Stdout("asked".into()));
}

#[tokio::test]
async fn a_worker_that_does_not_stop_leaves_its_stack() {
    let program = "
def stubborn():
    while True:
        pass
hello()
stubborn()
";
    let (worker, recorder) = start(program).await;
    worker.stop(Duration::from_millis(50)).await;
    assert_eq!(recorder.exit().await, ExitReason::Killed(KillCause::GraceExpired));
    let stack = recorder
        .events()
        .iter()
        .any(|event| matches!(event, Event::Stderr(line) if line.contains("in stubborn")));
    assert!(stack, "{:?}", recorder.events());
}

#[tokio::test]
async fn a_line_of_ten_megabytes_is_cut() {
    let program = "
sys.stdout.write('x' * 10_000_000 + '\\n')
print('after')
print('a warning', file=sys.stderr)
hello()
until_closed()
";
    let (worker, recorder) = start(program).await;
    // What was printed before the handshake is read to its end although the worker is gone.
    worker.kill();
    recorder.exit().await;
    let mut lines: Vec<String> = recorder
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Stdout(line) => Some(line),
            _ => None,
        })
        .collect();
    assert_eq!(lines.pop().as_deref(), Some("after"));
    let long = lines.pop().unwrap();
    assert!(long.len() < LINE_BYTES_MAX + 100);
    assert!(long.ends_with(&format!("[{} more bytes cut off]", 10_000_000 - LINE_BYTES_MAX)));
    assert!(recorder.events().contains(&Event::Stderr("a warning".into())));
}

#[tokio::test]
async fn a_worker_inherits_nothing_and_is_restrained() {
    let program = "
descriptors = os.listdir('/proc/self/fd')
# The listing itself needed one, which is closed now.
print('fds', *sorted(int(fd) for fd in descriptors if os.path.exists('/proc/self/fd/' + fd)))
print('socket', sys.argv[2])
status = dict(line.split(':', 1) for line in open('/proc/self/status'))
print('no_new_privs', status['NoNewPrivs'].strip())
print('oom', open('/proc/self/oom_score_adj').read().strip())
print('group', os.getpgid(0) == os.getpid())
print('stdin', os.readlink('/proc/self/fd/0'))
print('venv', os.environ['VIRTUAL_ENV'])
hello()
until_closed()
";
    // A file of the server that a worker must not see.
    let _secret = std::fs::File::open("/proc/self/status").unwrap();
    let (worker, recorder) = start(program).await;
    let socket = recorder.line("socket ").await;
    assert_eq!(recorder.line("fds ").await, format!("0 1 2 {socket}"));
    assert_eq!(recorder.line("no_new_privs ").await, "1");
    assert_eq!(recorder.line("oom ").await, "1000");
    assert_eq!(recorder.line("group ").await, "True");
    assert_eq!(recorder.line("stdin ").await, "/dev/null");
    assert_eq!(recorder.line("venv ").await, "/nonexistent/venv");
    assert!(worker.resident_bytes().unwrap() > 1 << 20);
    assert_eq!(worker.python_version(), "3.x");
}

#[tokio::test]
async fn large_frames_arrive_whole_in_both_directions() {
    let program = "
hello()
received = 0
expected = 50 * (8 + 1 + 3_000_000)
while received < expected:
    received += len(sock.recv(1 << 20))
for _ in range(50):
    frame(bytes([1]), b'y' * 3_000_000)
until_closed()
";
    let (worker, recorder) = start(program).await;
    let part = Bytes::from(vec![b'x'; 1_000_000]);
    for _ in 0..50 {
        worker.room().await.unwrap();
        worker
            .send_parts(ToWorker::Shutdown, vec![part.clone(), part.clone(), part.clone()])
            .unwrap();
    }
    let mut frames = 0;
    recorder
        .wait_for(|event| {
            if matches!(event, Event::Message(FromWorker::Loaded, blob) if blob.len() == 3_000_000) {
                frames += 1;
            }
            let all = frames == 50;
            if matches!(event, Event::Message(..)) && all {
                Some(())
            } else {
                None
            }
        })
        .await;
    assert_eq!(worker.queued_bytes(), 0);
}

#[tokio::test]
async fn the_sandbox_is_passed_and_what_came_of_it_is_kept() {
    let program = r#"
print('profile ' + sys.argv[3])
frame(bytes([0, VERSION, 3]) + b"3.x", b'{"reports":[{"measure":"network","state":"unsupported","note":"no filters"}]}')
until_closed()
"#;
    let mut command = fake_worker(program);
    command.sandbox = SandboxProfile {
        level: SandboxLevel::Strict,
        hidden_paths: vec!["/srv/data".into()],
        ..SandboxProfile::default()
    };
    let expected = command.sandbox.to_argument();
    let recorder = Recorder::new();
    let worker = Worker::start(command, recorder.clone()).await.unwrap();
    assert_eq!(recorder.line("profile ").await, expected);
    assert_eq!(worker.sandbox().to_string(), "unsupported: network (no filters)");
    assert_eq!(worker.sandbox().shortfalls().count(), 1);
}

#[tokio::test]
async fn a_worker_has_the_huge_pages_that_the_server_does_without() {
    // As the server does. Some kernels have none.
    let has_them = rustix::thread::disable_transparent_huge_pages(true).is_ok();
    let program = "
hello()
lines = [line.split()[1] for line in open('/proc/self/status') if line.startswith('THP_enabled')]
print('enabled', *lines)
until_closed()
";
    let (_worker, recorder) = start(program).await;
    let expected = if has_them { " 1" } else { " 0" };
    assert_eq!(recorder.line("enabled").await, expected);
}

/// Not a test: the server that the test below kills.
#[tokio::test]
#[ignore = "started by workers_die_with_the_server"]
async fn server_to_be_killed() {
    if std::env::var_os("TIDEMILL_TEST_VICTIM").is_none() {
        return;
    }
    let (worker, _recorder) = start("hello(); time.sleep(600)").await;
    println!("worker {}", worker.pid());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn workers_die_with_the_server() {
    let mut server = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "server_to_be_killed", "--nocapture"])
        .env("TIDEMILL_TEST_VICTIM", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(server.stdout.take().unwrap());
    let worker: u32 = stdout
        .lines()
        .find_map(|line| line.unwrap().split_once("worker ")?.1.parse().ok())
        .unwrap();
    assert!(is_running(worker));
    server.kill().unwrap();
    server.wait().unwrap();
    wait_until_gone(worker).await;
}
