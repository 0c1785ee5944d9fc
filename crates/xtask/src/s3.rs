//! An object store that speaks the protocol of S3, on this machine: moto from the package index, and a gate before it that
//! can be shut.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::api::Api;
use crate::failure::{During, Failure};
use crate::http::{Endpoint, free_port};
use crate::python::Venv;
use crate::waiting::wait_until;
use crate::workspace::Workspace;

const PACKAGES: [&str; 1] = ["moto[s3,server]"];
const BUCKET: &str = "tidemill";
const START_LIMIT: Duration = Duration::from_secs(30);
const START_PAUSE: Duration = Duration::from_millis(20);

/// The object store, with one empty bucket in its memory. Dropping it kills it.
pub(crate) struct S3 {
    gate: Gate,
    _server: Child,
}

impl S3 {
    /// Starts one, its log in `directory`. The first time on a machine pip installs it.
    pub(crate) async fn start(workspace: &Workspace, directory: &Path) -> Result<Self, Failure> {
        let venv = Venv::kept(workspace.kept_dir().join("moto"), &PACKAGES).await?;
        let port = free_port()?;
        let log_path = directory.join("s3.log");
        let log = File::create(&log_path).during(format!("cannot make {}", log_path.display()))?;
        let mut server = Command::new(venv.program("moto_server"))
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().during("cannot share the log file")?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .during("cannot start moto_server")?;
        let endpoint = Endpoint::parse(&format!("http://127.0.0.1:{port}"), None)?;
        let mut api = Api::new(endpoint.clone());
        let make_bucket = endpoint.head("PUT", &format!("/{BUCKET}"), "", 0);
        let is_made = wait_until(START_LIMIT, START_PAUSE, async || {
            if let Some(status) = server.try_wait().during("cannot wait for moto_server")? {
                let log = std::fs::read_to_string(&log_path).unwrap_or_default();
                return Err(Failure::new(format!("moto_server ended with {status}: {log}")));
            }
            let answer = api.exchange(&make_bucket).await;
            Ok(answer.is_ok_and(|answer| answer.is_success()))
        })
        .await?;
        if !is_made {
            return Err(Failure::new("moto_server does not make a bucket"));
        }
        Ok(S3 {
            gate: Gate::open(port).await?,
            _server: server,
        })
    }

    /// What tells a server to keep its objects there.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let endpoint = format!("http://127.0.0.1:{}", self.gate.port);
        [
            "--object-store",
            "s3",
            "--bucket",
            BUCKET,
            "--aws-endpoint",
            &endpoint,
            "--aws-allow-http",
            "--aws-access-key-id",
            "test",
            "--aws-secret-access-key",
            "test",
        ]
        .map(OsString::from)
        .into()
    }

    /// Ends every connection and takes no new ones.
    pub(crate) fn shut(&self) {
        self.gate.is_open.send_replace(false);
    }

    /// Takes connections again.
    pub(crate) fn reopen(&self) {
        self.gate.is_open.send_replace(true);
    }
}

/// Hands connections on while it is open.
struct Gate {
    port: u16,
    is_open: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Gate {
    async fn open(to_port: u16) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .during("cannot listen for connections to the object store")?;
        let port = listener
            .local_addr()
            .during("a socket without an address")?
            .port();
        let is_open = watch::Sender::new(true);
        let task = tokio::spawn(hand_on(listener, to_port, is_open.subscribe()));
        Ok(Gate { port, is_open, task })
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn hand_on(listener: TcpListener, to_port: u16, is_open: watch::Receiver<bool>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let mut is_open = is_open.clone();
        if !*is_open.borrow_and_update() {
            // Dropped: whoever called sees its connection end.
            continue;
        }
        tokio::spawn(async move {
            let Ok(mut store) = TcpStream::connect(("127.0.0.1", to_port)).await else {
                return;
            };
            tokio::select! {
                _ = copy_bidirectional(&mut client, &mut store) => {}
                _ = is_open.wait_for(|is_open| !is_open) => {}
            }
        });
    }
}
