//! A running server and ways to talk to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::venv::shared_venv;
use crate::wait::{WAIT_MAX, eventually};

/// How a test server differs from the usual one (file store, plugins on, shared virtual environment).
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// `--object-store memory` instead of files.
    pub in_memory: bool,
    /// Instead of files: the arguments that say where objects go.
    pub object_store: Option<Vec<String>>,
    /// No `--plugin-dir`.
    pub without_plugins: bool,
    /// Instead of the shared one: the server makes a virtual environment of its own.
    pub own_venv: bool,
    /// More arguments for `serve`.
    pub arguments: Vec<String>,
    /// More environment variables.
    pub environment: Vec<(String, String)>,
}

/// A server process in a temporary folder. Dropping it kills the process and removes the folder.
#[derive(Debug)]
pub struct TestServer {
    program: PathBuf,
    options: ServerOptions,
    folder: TempDir,
    process: Option<Child>,
    address: String,
    http: Client,
}

/// An HTTP answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics with the body where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }

    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    }
}

/// What a command of the command line did.
#[derive(Debug, Clone)]
pub struct CommandOutput {
    /// Its exit code.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it printed to standard error.
    pub stderr: String,
}

impl TestServer {
    /// Starts `program` (a test has it in `env!("CARGO_BIN_EXE_tidemill")`) and waits until it is healthy.
    pub async fn start(program: impl Into<PathBuf>) -> Self {
        Self::start_with(program, ServerOptions::default()).await
    }

    /// Starts a server with other options.
    pub async fn start_with(program: impl Into<PathBuf>, options: ServerOptions) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("tidemill-test-")
            .tempdir()
            .expect("temporary folder");
        fs::create_dir(folder.path().join("plugins")).expect("temporary folder is writable");
        let mut server = Self {
            program: program.into(),
            options,
            folder,
            process: None,
            address: String::new(),
            http: Client::new(),
        };
        server.launch().await;
        server
    }

    async fn launch(&mut self) {
        let listener_file = self.folder.path().join("address");
        let _ = fs::remove_file(&listener_file);
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("log file");
        let mut command = Command::new(&self.program);
        command.args([
            "serve",
            "--node-id",
            "test",
            "--http-bind",
            "127.0.0.1:0",
            "--without-auth",
        ]);
        command.arg("--tcp-listener-file-path").arg(&listener_file);
        if let Some(arguments) = &self.options.object_store {
            command.args(arguments);
        } else if self.options.in_memory {
            command.args(["--object-store", "memory"]);
        } else {
            command
                .args(["--object-store", "file", "--data-dir"])
                .arg(self.data_dir());
        }
        if !self.options.without_plugins {
            command.arg("--plugin-dir").arg(self.plugin_dir());
            if !self.options.own_venv {
                command.arg("--virtual-env-location").arg(shared_venv());
            }
        }
        command.args(&self.options.arguments);
        command.envs(self.options.environment.iter().map(|(name, value)| (name, value)));
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log file"))
            .stderr(log);
        self.process = Some(command.spawn().expect("the program starts"));
        let deadline = Instant::now() + WAIT_MAX;
        self.address = loop {
            if let Ok(address) = fs::read_to_string(&listener_file) {
                break address;
            }
            let process = self.process.as_mut().expect("just started");
            if let Some(status) = process.try_wait().expect("child can be waited for") {
                panic!("server ended with {status}:\n{}", self.log());
            }
            assert!(
                Instant::now() < deadline,
                "server does not listen:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        // Connections to the former process are of no use.
        self.http = Client::new();
        eventually("server is healthy", async || {
            (self.get("/health").await.status == 200).then_some(())
        })
        .await;
    }

    /// Base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where plugins lie.
    pub fn plugin_dir(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    /// Where data lies.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("server runs").id()
    }

    /// Ends the server with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // An error means that it is gone already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Ends the server with SIGTERM and returns its exit code.
    pub async fn stop(&mut self) -> i32 {
        let mut process = self.process.take().expect("server runs");
        let pid = Pid::from_child(&process);
        kill_process(pid, Signal::TERM).expect("server can be signalled");
        let status = eventually("server stops after SIGTERM", async || {
            process.try_wait().expect("wait")
        })
        .await;
        status.code().unwrap_or(-1)
    }

    /// Waits until the server ends by itself and returns its exit code.
    pub async fn ended(&mut self) -> i32 {
        let mut process = self.process.take().expect("server runs");
        let status = eventually("server ends", async || process.try_wait().expect("wait")).await;
        status.code().unwrap_or(-1)
    }

    /// Stops the process where it is: connections stay open and nothing is answered.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("server runs");
        kill_process(Pid::from_child(process), signal).expect("server can be signalled");
    }

    /// Starts the server again on the same data, after [`kill`](Self::kill) or [`stop`](Self::stop).
    pub async fn restart(&mut self) {
        assert!(self.process.is_none(), "server still runs");
        self.launch().await;
    }

    /// Puts a plugin file (or a file of a package) into the plugin directory.
    pub fn put_plugin(&self, name: &str, content: &str) -> PathBuf {
        let path = self.plugin_dir().join(name);
        fs::create_dir_all(path.parent().expect("file has a folder")).expect("plugin folder is writable");
        fs::write(&path, content).expect("plugin folder is writable");
        path
    }

    /// Sends a request and reads the answer.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        let answer = request
            .send()
            .await
            .unwrap_or_else(|error| panic!("request failed: {error:?}\n{}", self.log()));
        let headers = answer.headers().iter();
        let headers =
            headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()));
        Answer {
            status: answer.status().as_u16(),
            headers: headers.collect(),
            body: answer.bytes().await.expect("answer is complete").to_vec(),
        }
    }

    /// A request to a path (which may carry a query string).
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url()))
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// `POST` of bytes.
    pub async fn post(&self, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.send(self.request(Method::POST, path).body(body.into()))
            .await
    }

    /// `POST` of JSON.
    pub async fn post_json(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// Writes line protocol durably (timestamps in nanoseconds); panics if it is not wholly accepted.
    pub async fn write(&self, database: &str, lines: &str) {
        let answer = self
            .post(&format!("/api/v3/write_lp?db={database}&precision=ns"), lines)
            .await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "write: {}", answer.text());
    }

    /// Rows of a query as JSON objects; panics if it fails.
    pub async fn query(&self, database: &str, sql: &str) -> Vec<Value> {
        let answer = self.try_query(database, sql).await;
        assert_eq!(answer.status, StatusCode::OK, "query {sql}: {}", answer.text());
        answer.json().as_array().expect("an array of rows").clone()
    }

    /// Sends a query whatever comes of it.
    pub async fn try_query(&self, database: &str, sql: &str) -> Answer {
        self.post_json(
            "/api/v3/query_sql",
            &json!({ "db": database, "q": sql, "format": "json" }),
        )
        .await
    }

    /// Creates an enabled trigger; panics if it is refused. `more` is merged into the request.
    pub async fn create_trigger(
        &self,
        database: &str,
        name: &str,
        plugin: &str,
        specification: &str,
        more: Value,
    ) {
        let mut body = json!({
            "db": database,
            "trigger_name": name,
            "plugin_filename": plugin,
            "trigger_specification": specification,
            "trigger_settings": { "run_async": false, "error_behavior": "log" },
            "disabled": false,
        });
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        let answer = self
            .post_json("/api/v3/configure/processing_engine_trigger", &body)
            .await;
        assert_eq!(
            answer.status,
            StatusCode::OK,
            "create trigger {name}: {}",
            answer.text()
        );
    }

    /// Creates a database; panics if it is refused.
    pub async fn create_database(&self, name: &str) {
        let answer = self
            .post_json("/api/v3/configure/database", &json!({ "db": name }))
            .await;
        assert_eq!(
            answer.status,
            StatusCode::OK,
            "create database {name}: {}",
            answer.text()
        );
    }

    /// Log lines of a trigger as `LEVEL: text`, in order.
    pub async fn plugin_log(&self, database: &str, trigger: &str) -> Vec<String> {
        let sql = format!(
            "SELECT log_level, log_text FROM system.processing_engine_logs WHERE trigger_name = '{trigger}' ORDER BY event_time"
        );
        let rows = self.query(database, &sql).await;
        let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
        rows.iter()
            .map(|row| format!("{}: {}", text(row, "log_level"), text(row, "log_text")))
            .collect()
    }

    /// Runs a command of the command line against this server.
    pub async fn command(&self, arguments: &[&str]) -> CommandOutput {
        self.command_in(self.folder.path(), arguments).await
    }

    /// Runs a command in a folder.
    pub async fn command_in(&self, folder: &Path, arguments: &[&str]) -> CommandOutput {
        let output = tokio::process::Command::new(&self.program)
            .args(arguments)
            .current_dir(folder)
            .env("INFLUXDB3_HOST_URL", self.url())
            .stdin(Stdio::null())
            .output()
            .await
            .expect("the program starts");
        CommandOutput {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            // What the server said is the first thing one wants to know about a failed test.
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            for line in tail.iter().rev() {
                #[expect(clippy::print_stderr, reason = "shown with the failed test")]
                {
                    eprintln!("server: {line}");
                }
            }
        }
    }
}
