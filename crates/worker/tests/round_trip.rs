//! The real extension module behind the real protocol; runs where both have been built.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "shown with the test")]

mod support;

use std::{fs, sync::Arc, time::Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use support::{DEADLINE, python};
use tempfile::TempDir;
use tidemill_worker::{
    EnvironmentOptions, ExitReason, KillCause, OutputStream, Worker, WorkerCommand, WorkerEvents,
    extension_path, worker_environment,
};
use tidemill_worker_proto::{
    EntryPoint, FromWorker, Load, LogLevel, Outcome, PluginForm, RequestHead, RequestMethod, RunId, ToWorker,
    Work,
};
use tokio::sync::mpsc;

const REQUESTS: u64 = 10_000;
/// Requests in flight at once, as of so many connections.
const IN_FLIGHT: u64 = 8;

/// Hands messages to the test.
struct Forward {
    messages: mpsc::UnboundedSender<(FromWorker, Bytes)>,
    printed: Mutex<Vec<String>>,
}

impl WorkerEvents for Forward {
    fn message(&self, message: FromWorker, blob: Bytes) {
        let _ = self.messages.send((message, blob));
    }

    fn output(&self, _: OutputStream, line: &str) {
        self.printed.lock().push(line.to_owned());
    }

    fn exited(&self, _: ExitReason) {}
}

/// A worker with a loaded request plugin.
struct Loaded {
    worker: Worker,
    messages: mpsc::UnboundedReceiver<(FromWorker, Bytes)>,
    events: Arc<Forward>,
    _folder: TempDir,
}

impl Loaded {
    /// `None` where the extension has not been built.
    async fn start(plugin: &str) -> Option<Self> {
        let extension = match extension_path() {
            Ok(extension) => extension,
            Err(error) => {
                eprintln!("skipped: {error}");
                return None;
            }
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("answer.py");
        fs::write(&path, plugin).expect("the folder is writable");
        let environment = worker_environment(&EnvironmentOptions {
            virtual_env: folder.path().join("venv"),
            plugin_dir: folder.path().to_owned(),
            passed: vec![],
            user: None,
        });
        let (sender, mut messages) = mpsc::unbounded_channel();
        let events = Arc::new(Forward {
            messages: sender,
            printed: Mutex::default(),
        });
        let command = WorkerCommand::new(python(), extension, environment, "round trip");
        let started = Instant::now();
        let worker = Worker::start(command, events.clone())
            .await
            .expect("the worker starts");
        println!("started in {:?}", started.elapsed());
        let sandbox = worker.sandbox().to_string();
        assert!(sandbox.starts_with("in force: no_new_privs"), "{sandbox}");

        let load = Load {
            form: PluginForm::SingleFile,
            path: path.display().to_string(),
            plugin_dir: folder.path().display().to_string(),
            entry: EntryPoint::Request,
            trigger_name: "answer".into(),
            database: "db".into(),
            arguments: None,
            concurrency: 1,
            cache_ttl_default_ms: None,
            output_bytes_max: 1 << 20,
            request_path: None,
        };
        worker
            .send(ToWorker::Load(Box::new(load)), Bytes::new())
            .expect("the worker runs");
        let loaded = messages.recv().await.map(|(message, _)| message);
        assert_eq!(loaded, Some(FromWorker::Loaded), "{:?}", events.printed.lock());
        Some(Self {
            worker,
            messages,
            events,
            _folder: folder,
        })
    }

    async fn next(&mut self) -> (FromWorker, Bytes) {
        let next = tokio::time::timeout(DEADLINE, self.messages.recv()).await;
        next.expect("a message in time").expect("the worker runs")
    }

    fn request(&self, run: u64) {
        let message = ToWorker::Run {
            run: RunId(run),
            run_id: String::new(),
            work: Work::Request(RequestHead {
                method: RequestMethod::Delete,
                query_string: "q=1".to_owned(),
                query_parameters: vec![("name".into(), "ebb".into())],
                headers: vec![("host".into(), "localhost".into())],
            }),
        };
        self.worker.send(message, Bytes::new()).expect("the worker runs");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_go_through_a_real_worker() {
    let plugin = "
def process_request(influxdb3_local, query_parameters, request_headers, request_body, args=None):
    return {'status': 'ok', 'name': query_parameters.get('name')}
";
    let Some(mut loaded) = Loaded::start(plugin).await else {
        return;
    };
    let started = Instant::now();
    for run in 0..IN_FLIGHT {
        loaded.request(run);
    }
    let mut finished = 0;
    while finished < REQUESTS {
        let (message, body) = loaded.next().await;
        let FromWorker::Finished { outcome, .. } = message else {
            continue;
        };
        let Outcome::Returned { response, .. } = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(response.unwrap().status, 200);
        assert_eq!(&body[..], br#"{"status": "ok", "name": "ebb"}"#);
        finished += 1;
        if finished + IN_FLIGHT <= REQUESTS {
            loaded.request(finished + IN_FLIGHT - 1);
        }
    }
    let elapsed = started.elapsed();
    println!(
        "{REQUESTS} requests in {elapsed:?}: {:.0} requests/s",
        REQUESTS as f64 / elapsed.as_secs_f64()
    );
    loaded.worker.stop(DEADLINE).await;
    assert_eq!(loaded.worker.wait().await, ExitReason::Exited { code: 0 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_plugin_is_killed_and_leaves_its_stack() {
    let plugin = "
def process_request(influxdb3_local, *request):
    influxdb3_local.info('here')
    while True:
        pass
";
    let Some(mut loaded) = Loaded::start(plugin).await else {
        return;
    };
    loaded.request(0);
    loop {
        let (message, _) = loaded.next().await;
        let is_hanging =
            matches!(&message, FromWorker::Log { level: LogLevel::Info, text, .. } if text == "here");
        if is_hanging {
            break;
        }
    }
    loaded.worker.dump_stacks_and_kill().await;
    let reason = loaded.worker.wait().await;
    assert_eq!(reason, ExitReason::Killed(KillCause::Requested));
    let printed = loaded.events.printed.lock().join("\n");
    assert!(
        printed.contains("answer.py\", line ") && printed.contains(" in process_request"),
        "{printed}"
    );
}
