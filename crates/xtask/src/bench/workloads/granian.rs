//! Granian, a server of Python web applications, with the applications that request triggers are compared with. It is
//! installed by pip into a virtual environment of its own, which goes when the comparison ends.

use std::fs;
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
use crate::http::{Endpoint, free_port};
use crate::python::Venv;
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
    venv: Venv,
    versions: String,
}

impl Environment {
    async fn make() -> Result<Self, Failure> {
        let directory = tempfile::Builder::new()
            .prefix("tidemill-bench-granian-")
            .tempdir()
            .during("cannot make a temporary directory")?;
        let venv = Venv::make(directory.path().join("venv"), &PACKAGES).await?;
        let versions = venv.python(["-c", VERSIONS].iter().chain(&PACKAGES)).await?;
        for kind in &KINDS {
            let file = directory.path().join(kind.module).with_extension("py");
            fs::write(&file, kind.source).during(format!("cannot write {}", file.display()))?;
        }
        Ok(Environment {
            directory,
            venv,
            versions: versions.trim().to_owned(),
        })
    }

    fn granian(&self) -> Command {
        Command::new(self.venv.program("granian"))
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
