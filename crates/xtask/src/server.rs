//! A server started by a task: from the command line a user would type until the process is gone.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::failure::{During, Failure};
use crate::http::{Connection, Endpoint};

/// A server that does not answer by then never will.
const START_DEADLINE: Duration = Duration::from_mins(1);
/// Longer than the 30 s that the server gives its open connections.
const STOP_DEADLINE: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(1);
const LOG_LINES_SHOWN: usize = 30;

/// How a server is started, as often as wanted, always on the same data.
pub(crate) struct ServerSetup {
    program: PathBuf,
    node_id: &'static str,
    directory: PathBuf,
    data_dir: PathBuf,
    object_store: Vec<OsString>,
    arguments: Vec<String>,
}

impl ServerSetup {
    /// Data, plugins and log go below `directory`, which must exist.
    pub(crate) fn new(program: PathBuf, node_id: &'static str, directory: &Path) -> Result<Self, Failure> {
        let data_dir = directory.join("data");
        let setup = ServerSetup {
            program,
            node_id,
            directory: directory.to_owned(),
            object_store: file_store(&data_dir),
            data_dir,
            arguments: Vec::new(),
        };
        for folder in [setup.data_dir(), setup.plugin_dir()] {
            fs::create_dir_all(&folder).during(format!("cannot make {}", folder.display()))?;
        }
        Ok(setup)
    }

    /// Gives every server that is started from now on these arguments too.
    pub(crate) fn set_arguments(&mut self, arguments: Vec<String>) {
        self.arguments = arguments;
    }

    /// Data go here, which must exist, from the next start on.
    pub(crate) fn set_data_dir(&mut self, data_dir: PathBuf) {
        self.object_store = file_store(&data_dir);
        self.data_dir = data_dir;
    }

    /// Objects go where these arguments say, from the next start on.
    pub(crate) fn set_object_store(&mut self, arguments: Vec<OsString>) {
        self.object_store = arguments;
    }

    /// Where a server has its files, unless [`ServerSetup::set_object_store`] was called.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.data_dir.clone()
    }

    pub(crate) fn plugin_dir(&self) -> PathBuf {
        self.directory.join("plugins")
    }

    /// Everything that servers of this setup have printed.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.directory.join("server.log")
    }

    /// The end of the log, for a message about what went wrong.
    pub(crate) fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    /// Starts a server and waits until `/health` says that it serves.
    pub(crate) async fn start(&self) -> Result<Server, Failure> {
        let address_file = self.directory.join("address");
        let _absent_at_first_start = fs::remove_file(&address_file);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .during(format!("cannot open {}", self.log_path().display()))?;
        let mut command = Command::new(&self.program);
        command
            .args(["serve", "--node-id", self.node_id])
            .args(&self.object_store)
            .arg("--plugin-dir")
            .arg(self.plugin_dir())
            .args([
                "--without-auth",
                "--http-bind",
                "127.0.0.1:0",
                "--tcp-listener-file-path",
            ])
            .arg(&address_file)
            .args(&self.arguments)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().during("cannot share the log file")?)
            .stderr(log)
            // Ctrl-C is for the task, which then ends the server in order.
            .process_group(0)
            .kill_on_drop(true);
        without_our_settings(&mut command);
        let started = Instant::now();
        let child = command
            .spawn()
            .during(format!("cannot start {}", self.program.display()))?;
        let mut server = Server {
            child,
            endpoint: None,
            started,
            time_to_healthy: Duration::ZERO,
        };
        let healthy = timeout(START_DEADLINE, server.until_healthy(&address_file)).await;
        match healthy {
            Ok(Ok(endpoint)) => server.endpoint = Some(endpoint),
            Ok(Err(failure)) => return Err(self.with_log(&failure)),
            Err(_) => {
                let seconds = START_DEADLINE.as_secs();
                return Err(self.with_log(&Failure::new(format!("no answer to /health within {seconds} s"))));
            }
        }
        server.time_to_healthy = started.elapsed();
        Ok(server)
    }

    fn with_log(&self, failure: &Failure) -> Failure {
        Failure::new(format!(
            "{failure}; the end of the server's log:\n{}",
            self.log_tail()
        ))
    }
}

fn file_store(data_dir: &Path) -> Vec<OsString> {
    vec![
        "--object-store".into(),
        "file".into(),
        "--data-dir".into(),
        data_dir.into(),
    ]
}

/// Takes away the variables by which the user's own server or environment is configured; ours must not touch either.
pub(crate) fn without_our_settings(command: &mut Command) {
    command.env_remove("VIRTUAL_ENV");
    for (name, _) in env::vars_os() {
        let known = name
            .to_str()
            .is_some_and(|n| n.starts_with("INFLUXDB3_") || n.starts_with("TIDEMILL_"));
        if known {
            command.env_remove(name);
        }
    }
}

/// A running server. Dropping it kills it; [`Server::stop`] is the orderly end.
pub(crate) struct Server {
    child: Child,
    endpoint: Option<Endpoint>,
    started: Instant,
    time_to_healthy: Duration,
}

impl Server {
    pub(crate) fn endpoint(&self) -> &Endpoint {
        self.endpoint
            .as_ref()
            .expect("set before `start` hands the server out")
    }

    /// Right before the process was started.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// From starting the process until `/health` answered 200.
    pub(crate) fn time_to_healthy(&self) -> Duration {
        self.time_to_healthy
    }

    pub(crate) fn pid(&self) -> Result<u32, Failure> {
        self.child
            .id()
            .ok_or_else(|| Failure::new("the server has ended"))
    }

    /// How the server ended where it did so by itself.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGTERM, then waits. A server that does not stop in time is killed, and that is a failure.
    pub(crate) async fn stop(mut self) -> Result<Duration, Failure> {
        let asked = Instant::now();
        self.signal(Signal::TERM)?;
        let Ok(status) = timeout(STOP_DEADLINE, self.child.wait()).await else {
            self.kill().await?;
            let seconds = STOP_DEADLINE.as_secs();
            return Err(Failure::new(format!(
                "the server did not stop within {seconds} s of SIGTERM"
            )));
        };
        let status = status.during("cannot wait for the server")?;
        if status.success() {
            Ok(asked.elapsed())
        } else {
            Err(Failure::new(format!(
                "the server ended with {status} after SIGTERM"
            )))
        }
    }

    /// SIGKILL: the end that a power cut would be.
    pub(crate) async fn kill(mut self) -> Result<(), Failure> {
        self.child.kill().await.during("cannot kill the server")
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let pid = Pid::from_raw(self.pid()? as i32).expect("a process id is not zero");
        kill_process(pid, signal).during("cannot signal the server")
    }

    async fn until_healthy(&mut self, address_file: &Path) -> Result<Endpoint, Failure> {
        loop {
            if let Some(status) = self.ended() {
                return Err(Failure::new(format!(
                    "the server ended with {status} while it started"
                )));
            }
            if let Some(endpoint) = read_address(address_file)
                && is_healthy(&endpoint).await
            {
                return Ok(endpoint);
            }
            sleep(POLL).await;
        }
    }
}

/// `None` until the server has written the whole address.
fn read_address(file: &Path) -> Option<Endpoint> {
    let text = fs::read_to_string(file).ok()?;
    let address = text.trim();
    // The file holds `host:port`; port 0 means that it is not known yet.
    let port = address
        .rsplit(':')
        .next()?
        .parse::<u16>()
        .ok()
        .filter(|port| *port != 0)?;
    Endpoint::parse(&format!("http://127.0.0.1:{port}"), None).ok()
}

async fn is_healthy(endpoint: &Endpoint) -> bool {
    let Ok(mut connection) = Connection::open(endpoint).await else {
        return false;
    };
    connection
        .exchange(&[&endpoint.get("/health")])
        .await
        .is_ok_and(|answer| answer.is_success())
}
