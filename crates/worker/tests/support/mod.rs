//! What the tests of worker processes share: a recorder of events, and workers written in plain Python.
#![allow(dead_code, reason = "every test binary uses another part")]

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tidemill_worker::{
    EnvironmentOptions, ExitReason, OutputStream, WorkerCommand, WorkerEvents, worker_environment,
};
use tidemill_worker_proto::{FromWorker, PROTOCOL_VERSION};
use tokio::sync::watch;

/// A test that waits longer than this has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    Message(FromWorker, Bytes),
    Stdout(String),
    Stderr(String),
    Exited(ExitReason),
}

/// Keeps all events in order.
pub(crate) struct Recorder {
    events: Mutex<Vec<Event>>,
    count: watch::Sender<usize>,
}

impl Recorder {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            events: Mutex::default(),
            count: watch::Sender::new(0),
        })
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().clone()
    }

    /// Waits for an event of which `choose` makes something.
    pub(crate) async fn wait_for<T>(&self, mut choose: impl FnMut(&Event) -> Option<T>) -> T {
        let mut count = self.count.subscribe();
        let search = async {
            loop {
                if let Some(found) = self.events.lock().iter().find_map(&mut choose) {
                    return found;
                }
                count.changed().await.expect("the recorder keeps the sender");
            }
        };
        let found = tokio::time::timeout(DEADLINE, search).await;
        found.unwrap_or_else(|_| panic!("no such event in {:?}", self.events()))
    }

    /// Waits for a line of standard output that begins with `prefix`, and gives what follows.
    pub(crate) async fn line(&self, prefix: &str) -> String {
        self.wait_for(|event| match event {
            Event::Stdout(line) => line.strip_prefix(prefix).map(str::to_owned),
            _ => None,
        })
        .await
    }

    pub(crate) async fn exit(&self) -> ExitReason {
        self.wait_for(|event| match event {
            Event::Exited(reason) => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    fn push(&self, event: Event) {
        self.events.lock().push(event);
        self.count.send_modify(|count| *count += 1);
    }
}

impl WorkerEvents for Recorder {
    fn message(&self, message: FromWorker, blob: Bytes) {
        self.push(Event::Message(message, blob));
    }

    fn output(&self, stream: OutputStream, line: &str) {
        self.push(match stream {
            OutputStream::Stdout => Event::Stdout(line.to_owned()),
            OutputStream::Stderr => Event::Stderr(line.to_owned()),
        });
    }

    fn exited(&self, reason: ExitReason) {
        self.push(Event::Exited(reason));
    }
}

/// The interpreter itself, not a script of a version manager that starts one.
pub(crate) fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let output = Command::new("python3")
            .args(["-c", "import sys; print(sys.executable)"])
            .output()
            .expect("these tests need python3");
        String::from_utf8_lossy(&output.stdout).trim().into()
    })
}

/// Speaks just enough of the protocol.
const PREAMBLE: &str = r#"
import faulthandler, os, signal, socket, struct, sys, time
faulthandler.register(signal.SIGUSR1, all_threads=True)
sock = socket.socket(fileno=int(sys.argv[2]))
def frame(head, blob=b""):
    sock.sendall(struct.pack("<II", 4 + len(head) + len(blob), len(head)) + head + blob)
def hello(version=VERSION):
    frame(bytes([0, version, 3]) + b"3.x")
def loaded():
    frame(bytes([1]))
def until_closed():
    while sock.recv(65536):
        pass
"#;

/// A worker whose program is `program`, after a preamble with the beginnings of the protocol.
pub(crate) fn fake_worker(program: &str) -> WorkerCommand {
    let environment = worker_environment(&EnvironmentOptions {
        virtual_env: "/nonexistent/venv".into(),
        plugin_dir: "/nonexistent".into(),
        passed: vec![],
        user: None,
    });
    let mut command = WorkerCommand::new(python(), "no-extension", environment, "test");
    command.bootstrap = format!("VERSION = {PROTOCOL_VERSION}{PREAMBLE}{program}");
    command.handshake_timeout = DEADLINE;
    command
}

/// Waits until a process is gone.
pub(crate) async fn wait_until_gone(pid: u32) {
    wait_until(&format!("process {pid} is gone"), || !is_running(pid)).await;
}

pub(crate) async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, poll)
        .await
        .unwrap_or_else(|_| panic!("not reached: {what}"));
}

/// Whether a process is there and more than a zombie that its new parent has not collected.
pub(crate) fn is_running(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").starts_with(" Z"))
}
