//! The server under measurement: one that we start in a temporary directory, or one that is running already.

use std::fmt::{self, Display};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use crate::api::Api;
use crate::failure::{During, Failure};
use crate::http::Endpoint;
use crate::server::{Server, ServerSetup};

const NODE_ID: &str = "bench";

/// Which server to measure.
#[derive(Clone)]
pub(crate) enum Address {
    /// Start this program.
    Program(PathBuf),
    /// Use a server that runs already.
    Running {
        url: String,
        token: Option<String>,
        pid: Option<u32>,
    },
}

impl Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Program(path) => path.display().fmt(f),
            Address::Running { url, .. } => url.fmt(f),
        }
    }
}

/// A server of our own and the directory it lives in.
pub(crate) struct OwnServer {
    // Before the directory, so that the server ends before its files go.
    pub server: Server,
    pub setup: ServerSetup,
    /// Removed with all its files when this goes.
    directory: TempDir,
}

impl OwnServer {
    /// A server with nothing in it.
    pub(crate) async fn start(program: &Path) -> Result<Self, Failure> {
        OwnServer::start_with(program, Vec::new()).await
    }

    /// A server with nothing in it and these arguments beside the usual ones.
    pub(crate) async fn start_with(program: &Path, arguments: Vec<String>) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new()
            .prefix("tidemill-bench-")
            .tempdir()
            .during("cannot make a temporary directory")?;
        let mut setup = ServerSetup::new(program.to_owned(), NODE_ID, directory.path())?;
        setup.set_arguments(arguments);
        let server = setup.start().await?;
        Ok(OwnServer {
            server,
            setup,
            directory,
        })
    }

    /// SIGTERM, and a new server on the same data; with the time that stopping took.
    pub(crate) async fn restart_after_stop(self) -> Result<(Duration, Self), Failure> {
        let OwnServer {
            server,
            setup,
            directory,
        } = self;
        let stop_time = server.stop().await?;
        let server = setup.start().await?;
        Ok((
            stop_time,
            OwnServer {
                server,
                setup,
                directory,
            },
        ))
    }

    /// SIGTERM, and a new server on the same data with these arguments beside the usual ones.
    pub(crate) async fn restart_with(mut self, arguments: Vec<String>) -> Result<Self, Failure> {
        self.setup.set_arguments(arguments);
        let (_, restarted) = self.restart_after_stop().await?;
        Ok(restarted)
    }

    /// A client of it.
    pub(crate) fn api(&self) -> Api {
        Api::new(self.server.endpoint().clone())
    }

    /// SIGKILL, and a new server on the same data.
    pub(crate) async fn restart_after_kill(self) -> Result<Self, Failure> {
        let OwnServer {
            server,
            setup,
            directory,
        } = self;
        server.kill().await?;
        let server = setup.start().await?;
        Ok(OwnServer {
            server,
            setup,
            directory,
        })
    }
}

/// A server with databases for this run.
pub(crate) struct Subject {
    address: Address,
    own: Option<OwnServer>,
    pub api: Api,
    /// The big table `cpu`; no trigger, so that it is written and queried undisturbed.
    pub data: String,
    /// Where triggers are.
    pub engine: String,
    /// Rows in the table `cpu`, once it was written.
    pub rows_written: Option<usize>,
    /// Tables that repetitions of a workload have used.
    tables_used: u32,
}

impl Subject {
    pub(crate) async fn open(address: Address) -> Result<Self, Failure> {
        let (own, endpoint) = match &address {
            Address::Program(program) => {
                let own = OwnServer::start(program).await?;
                let endpoint = own.server.endpoint().clone();
                (Some(own), endpoint)
            }
            Address::Running { url, token, .. } => (None, Endpoint::parse(url, token.clone())?),
        };
        let mut api = Api::new(endpoint);
        // A server that runs already may hold the data of an earlier run.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .during("the clock is before 1970")?
            .as_secs();
        let (data, engine) = (format!("bench_{now}_data"), format!("bench_{now}_engine"));
        for database in [&data, &engine] {
            api.create_database(database).await?;
        }
        Ok(Subject {
            address,
            own,
            api,
            data,
            engine,
            rows_written: None,
            tables_used: 0,
        })
    }

    /// Removes what the run has left, where it would stay.
    pub(crate) async fn close(mut self) -> Result<(), Failure> {
        if let Some(own) = self.own {
            return own.server.stop().await.map(drop);
        }
        for database in [&self.data, &self.engine] {
            self.api.delete_database(database).await?;
        }
        Ok(())
    }

    /// Stops the server and starts a new one on the same data; when that was started.
    pub(crate) async fn restart(&mut self) -> Result<Instant, Failure> {
        let own = self
            .own
            .take()
            .ok_or_else(|| Failure::new("a server that the bench did not start cannot be restarted"))?;
        let (_, own) = own.restart_after_stop().await?;
        let started = own.server.started();
        self.api = Api::new(own.server.endpoint().clone());
        self.own = Some(own);
        Ok(started)
    }

    pub(crate) fn name(&self) -> String {
        self.address.to_string()
    }

    /// The program to start further servers from; `None` where the server is not ours to start.
    pub(crate) fn program(&self) -> Option<&Path> {
        match &self.address {
            Address::Program(path) => Some(path),
            Address::Running { .. } => None,
        }
    }

    /// Where the server keeps its files; `None` where the server is not ours.
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.own.as_ref().map(|own| own.directory.path())
    }

    /// The server's process id where it is known.
    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.address {
            Address::Running { pid, .. } => *pid,
            Address::Program(_) => self.own.as_ref()?.server.pid().ok(),
        }
    }

    /// A name that no table of this run has: the same workload may run again.
    pub(crate) fn new_table(&mut self, prefix: &str) -> String {
        self.tables_used += 1;
        format!("{prefix}_{}", self.tables_used)
    }

    /// Puts a plugin where the server finds it.
    pub(crate) async fn install_plugin(&mut self, file: &str, content: &str) -> Result<(), Failure> {
        match &self.own {
            Some(own) => {
                let path = own.setup.plugin_dir().join(file);
                fs::write(&path, content).during(format!("cannot write {}", path.display()))
            }
            None => self.api.upload_plugin(file, content).await,
        }
    }
}
