//! A server of its own on one set of data, which is ended in every way and started again.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tidemill_write_model::{Writer, first_line};

use super::{Clients, Trial};
use crate::api::{Api, NewTrigger};
use crate::failure::{During, Failure};
use crate::plugin_files::copy_plugins;
use crate::server::{Server, ServerSetup};

pub(super) const DATABASE: &str = "faults";
/// What the writers write.
pub(super) const TABLE: &str = "points";
/// What a trigger derives from it, row by row.
pub(super) const DERIVED: &str = "derived";

/// A server, and what outlives it.
pub(super) struct Site {
    /// `None` between its end and its next start.
    server: Option<Server>,
    setup: ServerSetup,
    slowest_start: Duration,
    /// `None` when it is to be kept.
    directory: Option<TempDir>,
}

impl Site {
    /// No server runs yet.
    pub(super) fn make(trial: &Trial<'_>) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new()
            .prefix("tidemill-storage-faults-")
            .tempdir()
            .during("cannot make a temporary directory")?;
        let setup = ServerSetup::new(trial.program.to_owned(), "faults", directory.path())?;
        copy_plugins(trial.plugins, &setup.plugin_dir())?;
        Ok(Site {
            server: None,
            setup,
            slowest_start: Duration::ZERO,
            directory: Some(directory),
        })
    }

    /// For what a fault needs beside the server.
    pub(super) fn directory(&self) -> &Path {
        self.directory
            .as_ref()
            .expect("it is kept only when the fault is over")
            .path()
    }

    pub(super) fn data_dir(&self) -> PathBuf {
        self.setup.data_dir()
    }

    /// Where the data are from the next start on.
    pub(super) fn set_data_dir(&mut self, data_dir: PathBuf) {
        self.setup.set_data_dir(data_dir);
    }

    /// Where the objects are from the next start on.
    pub(super) fn set_object_store(&mut self, arguments: Vec<OsString>) {
        self.setup.set_object_store(arguments);
    }

    /// Starts a server with these arguments, which must not be there.
    pub(super) async fn start(&mut self, arguments: Vec<String>) -> Result<(), Failure> {
        self.setup.set_arguments(arguments);
        let starting = Instant::now();
        self.server = Some(self.setup.start().await?);
        self.slowest_start = self.slowest_start.max(starting.elapsed());
        Ok(())
    }

    /// The longest that a start has taken so far.
    pub(super) fn slowest_start(&self) -> Duration {
        self.slowest_start
    }

    /// `kill -9`.
    pub(super) async fn kill(&mut self) -> Result<(), Failure> {
        self.running()?;
        let server = self.server.take().expect("it was there a line ago");
        server.kill().await
    }

    /// SIGTERM.
    pub(super) async fn stop(&mut self) -> Result<(), Failure> {
        self.running()?;
        let server = self.server.take().expect("it was there a line ago");
        server.stop().await.map(drop)
    }

    fn running(&self) -> Result<&Server, Failure> {
        let server = self.server.as_ref();
        server.ok_or_else(|| Failure::new("the server is not running"))
    }

    pub(super) fn pid(&self) -> Result<u32, Failure> {
        self.running()?.pid()
    }

    pub(super) fn api(&self) -> Result<Api, Failure> {
        Ok(Api::new(self.running()?.endpoint().clone()))
    }

    /// Makes the database and a table with every column.
    pub(super) async fn make_table(&self) -> Result<(), Failure> {
        let mut api = self.api()?;
        api.create_database(DATABASE).await?;
        api.write(DATABASE, &first_line(TABLE)).await
    }

    /// Makes the trigger that derives a row from every row written from now on.
    pub(super) async fn make_trigger(&self) -> Result<(), Failure> {
        let arguments: Value = json!({ "into": DERIVED });
        let trigger = NewTrigger {
            database: DATABASE,
            name: "derive",
            plugin: "derive_batches.py",
            specification: &format!("table:{TABLE}"),
            settings: json!({ "error_behavior": "retry" }),
            arguments: &arguments,
        };
        self.api()?.create_trigger(&trigger).await
    }

    /// Sets writers to work, each with batches of so many rows.
    pub(super) fn write(&self, writers: Vec<Writer>, batch_rows: u64) -> Result<Clients, Failure> {
        let endpoint = self.running()?.endpoint();
        Ok(Clients::start(endpoint, writers, batch_rows))
    }

    /// Keeps the files, for somebody to look at, and says where they are.
    pub(super) fn keep(mut self) {
        eprintln!("the end of the server's log:\n{}", self.setup.log_tail());
        drop(self.server.take());
        if let Some(directory) = self.directory.take() {
            eprintln!("its log and data are kept in {}", directory.keep().display());
        }
    }
}
