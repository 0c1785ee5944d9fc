//! Granian, a server of Python web applications, with the applications that request triggers are compared with. It is
//! installed by pip into a virtual environment of its own, which goes when the comparison ends.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::api::Api;
use crate::bench::measure::Measure;
use crate::failure::{During, Failure};
use crate::http::Endpoint;
use crate::waiting::wait_until;

/// uvloop is what Granian recommends for speed, and takes when it is there.
const PACKAGES: [&str; 3] = ["granian", "uvloop", "fastapi"];
const VERSIONS: &str = "from importlib.metadata import version; import sys; \
                        print(', '.join(f'{name} {version(name)}' for name in sys.argv[1:]))";
const START_LIMIT: Duration = Duration::from_secs(30);
const START_PAUSE: Duration = Duration::from_millis(20);

/// What Granian serves: through which interface, from which module.
struct Kind {
    interface: &'static str,
    module: &'static str,
    source: &'static str,
    measures: Measures,
}

/// Where an application's figures go.
#[derive(Clone, Copy)]
pub(super) struct Measures {
    pub rate: Measure,
    pub p99: Measure,
    pub ratio: Measure,
}

static KINDS: [Kind; 2] = [
    Kind {
        interface: "rsgi",
        module: "rsgi_application",
        source: include_str!("../../../bench_peers/rsgi_application.py"),
        measures: Measures {
            rate: Measure::RsgiRate,
            p99: Measure::RsgiP99,
            ratio: Measure::RsgiRatio,
        },
    },
    Kind {
        interface: "asgi",
        module: "fastapi_application",
        source: include_str!("../../../bench_peers/fastapi_application.py"),
        measures: Measures {
            rate: Measure::FastApiRate,
            p99: Measure::FastApiP99,
            ratio: Measure::FastApiRatio,
        },
    },
];

/// A virtual environment with Granian in it.
struct Environment {
    directory: TempDir,
    versions: String,
}

impl Environment {
    async fn make() -> Result<Self, Failure> {
        let directory = tempfile::Builder::new()
            .prefix("tidemill-bench-granian-")
            .tempdir()
            .during("cannot make a temporary directory")?;
        let venv = directory.path().join("venv");
        run(
            "python3",
            [OsStr::new("-m"), OsStr::new("venv"), venv.as_os_str()],
        )
        .await?;
        let python = venv.join("bin/python");
        run(
            &python,
            ["-m", "pip", "install", "--quiet"].iter().chain(&PACKAGES),
        )
        .await?;
        let versions = run(&python, ["-c", VERSIONS].iter().chain(&PACKAGES)).await?;
        for kind in &KINDS {
            let file = directory.path().join(kind.module).with_extension("py");
            fs::write(&file, kind.source).during(format!("cannot write {}", file.display()))?;
        }
        Ok(Environment {
            directory,
            versions: versions.trim().to_owned(),
        })
    }

    fn granian(&self) -> Command {
        Command::new(self.directory.path().join("venv/bin/granian"))
    }

    fn log_path(&self, kind: &Kind) -> std::path::PathBuf {
        self.directory.path().join(kind.module).with_extension("log")
    }
}

/// An application that Granian serves with one worker process. Dropping it kills all its processes.
pub(super) struct Application {
    kind: &'static Kind,
    endpoint: Endpoint,
    child: Child,
    /// The leader of the group that Granian and its worker process are in.
    group: Pid,
    environment: Rc<Environment>,
}

impl Application {
    /// Installs Granian and starts every application. They answer when this returns.
    pub(super) async fn start_all() -> Result<Vec<Self>, Failure> {
        let environment = Rc::new(Environment::make().await?);
        let mut applications = Vec::new();
        for kind in &KINDS {
            applications.push(Self::start(kind, Rc::clone(&environment)).await?);
        }
        Ok(applications)
    }

    async fn start(kind: &'static Kind, environment: Rc<Environment>) -> Result<Self, Failure> {
        let port = free_port()?;
        let log_path = environment.log_path(kind);
        let log = fs::File::create(&log_path).during(format!("cannot make {}", log_path.display()))?;
        let child = environment
            .granian()
            .args(["--interface", kind.interface, "--workers", "1", "--no-access-log"])
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .arg(format!("{}:application", kind.module))
            .current_dir(environment.directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().during("cannot share the log file")?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .during("cannot start granian")?;
        let group = child
            .id()
            .and_then(|id| Pid::from_raw(id as i32))
            .ok_or_else(|| Failure::new("granian ended as soon as it was started"))?;
        let mut application = Application {
            kind,
            endpoint: Endpoint::parse(&format!("http://127.0.0.1:{port}"), None)?,
            child,
            group,
            environment,
        };
        application.until_answers(&log_path).await?;
        Ok(application)
    }

    async fn until_answers(&mut self, log_path: &Path) -> Result<(), Failure> {
        let mut api = Api::new(self.endpoint.clone());
        let request = self.endpoint.get("/");
        let answers = wait_until(START_LIMIT, START_PAUSE, async || {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(Failure::new(format!("granian ended with {status}")));
            }
            Ok(api
                .exchange(&request)
                .await
                .is_ok_and(|answer| answer.is_success()))
        })
        .await;
        let reason = match answers {
            Ok(true) => return Ok(()),
            Ok(false) => format!("granian did not answer within {} s", START_LIMIT.as_secs()),
            Err(failure) => failure.to_string(),
        };
        let log = fs::read_to_string(log_path).unwrap_or_default();
        Err(Failure::new(format!("{reason}; its log:\n{log}")))
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn measures(&self) -> Measures {
        self.kind.measures
    }

    /// What the application runs on, for the reader of the figures.
    pub(super) fn versions(&self) -> &str {
        &self.environment.versions
    }

    /// Kills the application and waits until it is gone.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        self.kill();
        self.child
            .wait()
            .await
            .during("cannot wait for granian")
            .map(drop)
    }

    /// The whole group, since a worker process may outlive its parent. There is nothing to be lost.
    fn kill(&self) {
        // Without an id the process was waited for, and its group's number may be somebody else's by now.
        if self.child.id().is_some() {
            let _gone_already = kill_process_group(self.group, Signal::KILL);
        }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end; gives what it printed.
async fn run(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<String, Failure> {
    let program = program.as_ref();
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .during(format!("cannot start {}", program.display()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Failure::new(format!(
        "{} ended with {}: {}",
        program.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    )))
}

/// A port that was free a moment ago; Granian cannot be asked for the one it took.
fn free_port() -> Result<u16, Failure> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .during("cannot find a free port")
}
