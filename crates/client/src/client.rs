//! One method an endpoint.

use std::{error::Error, io::Write, time::Duration};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use reqwest::{
    Method, RequestBuilder, Response,
    header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tidemill_triggers::StartAt;
use url::Url;

use crate::{
    ClientBuilder, ClientError, CreateTable, CreateTrigger, DroppedLetters, FileContent, Install, Ping,
    PluginFile, QueryAnswer, QueryRequest, RecordedLine, ReplayedLetters, TestReport, TestRequest,
    TestSchedule, TestWal, UpdateTrigger, Wanted, WriteOptions,
    error::{chain, root_cause},
    requests::InstallProgress,
};

const DATABASE: &str = "/api/v3/configure/database";
const TABLE: &str = "/api/v3/configure/table";
const TRIGGER: &str = "/api/v3/configure/processing_engine_trigger";
const ENVIRONMENT: &str = "/api/v3/configure/plugin_environment";
/// One JSON object a line about what is going on.
const PROGRESS_TYPE: &str = "application/x-ndjson";
const PLUGIN_FILES: &str = "/api/v3/plugins/files";
const PLUGIN_DIRECTORY: &str = "/api/v3/plugins/directory";

/// A client of one server. Cheap to clone; connections are shared and kept open.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
}

impl Client {
    /// Sets up a client, see [`ClientBuilder::new`].
    pub fn builder(host: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(host)
    }

    pub(crate) fn new(http: reqwest::Client, base: Url) -> Self {
        Self { http, base }
    }

    /// Writes line protocol.
    pub async fn write_lp(
        &self,
        database: &str,
        lines: Bytes,
        options: &WriteOptions,
    ) -> Result<(), ClientError> {
        let parameters = [
            ("db", database),
            ("precision", &options.precision.to_string()),
            ("accept_partial", flag(options.accept_partial)),
            ("no_sync", flag(options.no_sync)),
        ];
        let mut request = self
            .request(Method::POST, "/api/v3/write_lp")
            .query(&parameters)
            .header(CONTENT_TYPE, "text/plain; charset=utf-8");
        if options.gzip {
            request = request.header(CONTENT_ENCODING, "gzip").body(compressed(&lines)?);
        } else {
            request = request.body(lines);
        }
        self.send(request).await.map(drop)
    }

    /// Runs a SQL query.
    pub async fn query_sql(&self, query: &QueryRequest) -> Result<QueryAnswer, ClientError> {
        let request = self.request(Method::POST, "/api/v3/query_sql").json(query);
        self.send(request).await.map(QueryAnswer::new)
    }

    /// Runs an `InfluxQL` query of one statement.
    pub async fn query_influxql(&self, query: &QueryRequest) -> Result<QueryAnswer, ClientError> {
        let request = self.request(Method::POST, "/api/v3/query_influxql").json(query);
        self.send(request).await.map(QueryAnswer::new)
    }

    /// Creates a database, with a retention period such as `30d` or without.
    pub async fn create_database(
        &self,
        name: &str,
        retention_period: Option<&str>,
    ) -> Result<(), ClientError> {
        let mut body = json!({ "db": name });
        if let Some(period) = retention_period {
            body["retention_period"] = period.into();
        }
        self.send_json(Method::POST, DATABASE, &body).await
    }

    /// Sets the retention period of a database; `None` keeps its data for ever.
    pub async fn update_database(
        &self,
        name: &str,
        retention_period: Option<&str>,
    ) -> Result<(), ClientError> {
        let body = json!({ "db": name, "retention_period": retention_period });
        self.send_json(Method::PUT, DATABASE, &body).await
    }

    /// Lists databases in a format of queries other than `parquet`.
    pub async fn list_databases(&self, format: &str, show_deleted: bool) -> Result<QueryAnswer, ClientError> {
        let request = self
            .request(Method::GET, DATABASE)
            .query(&[("format", format), ("show_deleted", flag(show_deleted))]);
        self.send(request).await.map(QueryAnswer::new)
    }

    /// Deletes a database. `hard_delete_at` is `never`, `now`, `default` or an RFC 3339 time.
    pub async fn delete_database(&self, name: &str, hard_delete_at: Option<&str>) -> Result<(), ClientError> {
        let mut parameters = vec![("db", name)];
        parameters.extend(hard_delete_at.map(|at| ("hard_delete_at", at)));
        let request = self.request(Method::DELETE, DATABASE).query(&parameters);
        self.send(request).await.map(drop)
    }

    /// Creates a table.
    pub async fn create_table(&self, table: &CreateTable) -> Result<(), ClientError> {
        self.send_json(Method::POST, TABLE, table).await
    }

    /// Deletes a table. `hard_delete_at` is as for [`Client::delete_database`].
    pub async fn delete_table(
        &self,
        database: &str,
        table: &str,
        hard_delete_at: Option<&str>,
    ) -> Result<(), ClientError> {
        let mut parameters = vec![("db", database), ("table", table)];
        parameters.extend(hard_delete_at.map(|at| ("hard_delete_at", at)));
        let request = self.request(Method::DELETE, TABLE).query(&parameters);
        self.send(request).await.map(drop)
    }

    /// Creates a trigger.
    pub async fn create_trigger(&self, trigger: &CreateTrigger) -> Result<(), ClientError> {
        self.send_json(Method::POST, TRIGGER, trigger).await
    }

    /// Changes a trigger.
    pub async fn update_trigger(&self, change: &UpdateTrigger) -> Result<(), ClientError> {
        self.send_json(Method::PUT, TRIGGER, change).await
    }

    /// Deletes a trigger; one that is enabled only with `force`.
    pub async fn delete_trigger(&self, database: &str, name: &str, force: bool) -> Result<(), ClientError> {
        let parameters = [("db", database), ("trigger_name", name), ("force", flag(force))];
        let request = self.request(Method::DELETE, TRIGGER).query(&parameters);
        self.send(request).await.map(drop)
    }

    /// Enables a trigger.
    pub async fn enable_trigger(&self, database: &str, name: &str) -> Result<(), ClientError> {
        self.switch_trigger("enable", database, name).await
    }

    /// Disables a trigger.
    pub async fn disable_trigger(&self, database: &str, name: &str) -> Result<(), ClientError> {
        self.switch_trigger("disable", database, name).await
    }

    async fn switch_trigger(&self, action: &str, database: &str, name: &str) -> Result<(), ClientError> {
        let request = self
            .request(Method::POST, &format!("{TRIGGER}/{action}"))
            .query(&[("db", database), ("trigger_name", name)]);
        self.send(request).await.map(drop)
    }

    /// Runs dead letters of a trigger again: those with these run ids, or all.
    pub async fn replay_dead_letters(
        &self,
        database: &str,
        trigger_name: &str,
        run_ids: Option<&[String]>,
    ) -> Result<ReplayedLetters, ClientError> {
        let body = json!({ "db": database, "trigger_name": trigger_name, "run_ids": run_ids });
        self.ask_json(&format!("{TRIGGER}/dead_letters/replay"), &body)
            .await
    }

    /// Forgets dead letters of a trigger: those with these run ids, or all.
    pub async fn drop_dead_letters(
        &self,
        database: &str,
        trigger_name: &str,
        run_ids: Option<&[String]>,
    ) -> Result<DroppedLetters, ClientError> {
        let body = json!({ "db": database, "trigger_name": trigger_name, "run_ids": run_ids });
        self.ask_json(&format!("{TRIGGER}/dead_letters/drop"), &body)
            .await
    }

    /// Begins a recording of what a trigger is given: its first line, and where to go on.
    pub async fn start_recording(
        &self,
        database: &str,
        trigger_name: &str,
        start_at: StartAt,
    ) -> Result<RecordedLine, ClientError> {
        let body = json!({ "db": database, "trigger_name": trigger_name, "start_at": start_at });
        self.recorded_line(&format!("{TRIGGER}/record"), &body).await
    }

    /// The next line of a recording, after a position. Waits for something to be written, at most this long.
    pub async fn record_next(
        &self,
        database: &str,
        trigger_name: &str,
        after: u64,
        wait: Duration,
    ) -> Result<RecordedLine, ClientError> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let body =
            json!({ "db": database, "trigger_name": trigger_name, "after": after, "wait_ms": wait_ms });
        self.recorded_line(&format!("{TRIGGER}/record/next"), &body).await
    }

    async fn recorded_line(&self, path: &str, body: &impl Serialize) -> Result<RecordedLine, ClientError> {
        let response = self.send(self.request(Method::POST, path).json(body)).await?;
        let text = response
            .text()
            .await
            .map_err(|error| transport(&self.base, &error))?;
        RecordedLine::new(text)
    }

    /// Puts a file into the plugin directory of the server; `plugin_name` is its path there.
    pub async fn upload_plugin_file(
        &self,
        plugin_name: &str,
        content: &FileContent,
    ) -> Result<(), ClientError> {
        let body = NamedFile { plugin_name, content };
        self.send_json(Method::POST, PLUGIN_FILES, &body).await
    }

    /// Puts a directory into the plugin directory of the server, in one step; `plugin_name` is its path there.
    pub async fn upload_plugin_directory(
        &self,
        plugin_name: &str,
        files: &[PluginFile],
    ) -> Result<(), ClientError> {
        let body = json!({ "plugin_name": plugin_name, "files": files });
        self.send_json(Method::POST, PLUGIN_DIRECTORY, &body).await
    }

    /// Replaces the file of a trigger's plugin.
    pub async fn update_plugin_file(
        &self,
        database: &str,
        trigger_name: &str,
        content: &FileContent,
    ) -> Result<(), ClientError> {
        let body = NamedFile {
            plugin_name: trigger_name,
            content,
        };
        let request = self
            .request(Method::PUT, PLUGIN_FILES)
            .query(&[("db", database)])
            .json(&body);
        self.send(request).await.map(drop)
    }

    /// Replaces all files of a trigger's plugin at once.
    pub async fn replace_plugin_directory(
        &self,
        database: &str,
        trigger_name: &str,
        files: &[PluginFile],
    ) -> Result<(), ClientError> {
        let body = json!({ "plugin_name": trigger_name, "files": files });
        let request = self
            .request(Method::PUT, PLUGIN_DIRECTORY)
            .query(&[("db", database)])
            .json(&body);
        self.send(request).await.map(drop)
    }

    /// Installs packages for plugins. What the server tells of it is given to `on_line` as it comes.
    pub async fn install(&self, install: &Install, mut on_line: impl FnMut(&str)) -> Result<(), ClientError> {
        let endpoint = match install.wanted {
            Wanted::Packages(_) => "install_packages",
            Wanted::Requirements(_) => "install_requirements",
        };
        let request = self
            .request(Method::POST, &format!("{ENVIRONMENT}/{endpoint}"))
            .header(ACCEPT, PROGRESS_TYPE)
            .json(install);
        let response = self.send(request).await?;
        let content_type = response.headers().get(CONTENT_TYPE);
        if content_type.is_none_or(|content_type| content_type != PROGRESS_TYPE) {
            // A server that says nothing before it is done.
            return Ok(());
        }
        let mut answer = QueryAnswer::new(response);
        let mut unread = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            unread.extend_from_slice(&chunk);
            while let Some(end) = unread.iter().position(|&byte| byte == b'\n') {
                match serde_json::from_slice(&unread[..end])? {
                    InstallProgress::Line(line) => on_line(&line),
                    InstallProgress::Error(error) => return Err(ClientError::Install(error)),
                    InstallProgress::Installed(_) => return Ok(()),
                }
                unread.drain(..=end);
            }
        }
        Err(ClientError::Install(
            "the server did not say how the installation ended".to_owned(),
        ))
    }

    /// Takes a backup of everything that the server stores, as a stream in the server's format for that.
    pub async fn backup(&self) -> Result<QueryAnswer, ClientError> {
        let request = self.request(Method::POST, "/api/v3/backup");
        self.send(request).await.map(QueryAnswer::new)
    }

    /// Lists the packages of the plugins' environment in a format of queries.
    pub async fn list_packages(&self, format: &str) -> Result<QueryAnswer, ClientError> {
        let request = self
            .request(Method::GET, &format!("{ENVIRONMENT}/packages"))
            .query(&[("format", format)]);
        self.send(request).await.map(QueryAnswer::new)
    }

    /// Tries a data-write plugin.
    pub async fn test_wal(&self, test: &TestWal) -> Result<TestReport, ClientError> {
        self.ask_json("/api/v3/plugin_test/wal", test).await
    }

    /// Tries a schedule plugin.
    pub async fn test_schedule(&self, test: &TestSchedule) -> Result<TestReport, ClientError> {
        self.ask_json("/api/v3/plugin_test/schedule", test).await
    }

    /// Tries a request plugin.
    pub async fn test_request(&self, test: &TestRequest) -> Result<TestReport, ClientError> {
        self.ask_json("/api/v3/plugin_test/request", test).await
    }

    /// Asks who answers.
    pub async fn ping(&self) -> Result<Ping, ClientError> {
        let request = self.request(Method::GET, "/ping");
        self.read_json(self.send(request).await?).await
    }

    /// Asks whether the server is up.
    pub async fn health(&self) -> Result<(), ClientError> {
        let request = self.request(Method::GET, "/health");
        self.send(request).await.map(drop)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        self.http.request(method, url)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request
            .send()
            .await
            .map_err(|error| transport(&self.base, &error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        // The status is known whatever becomes of the text.
        let body = response.text().await.unwrap_or_default();
        Err(ClientError::Http { status, body })
    }

    pub(crate) async fn send_json(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<(), ClientError> {
        self.send(self.request(method, path).json(body)).await.map(drop)
    }

    pub(crate) async fn ask_json<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let response = self.send(self.request(Method::POST, path).json(body)).await?;
        self.read_json(response).await
    }

    async fn read_json<T: DeserializeOwned>(&self, response: Response) -> Result<T, ClientError> {
        let bytes = response
            .bytes()
            .await
            .map_err(|error| transport(&self.base, &error))?;
        Ok(serde_json::from_slice(&bytes)?)
    }
}

/// A file and where it belongs.
#[derive(Serialize)]
struct NamedFile<'a> {
    plugin_name: &'a str,
    #[serde(flatten)]
    content: &'a FileContent,
}

fn flag(on: bool) -> &'static str {
    if on { "true" } else { "false" }
}

fn compressed(bytes: &[u8]) -> Result<Vec<u8>, ClientError> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::default());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// Names the server, not the whole URL, which may be long and would be said twice.
pub(crate) fn transport(url: &Url, error: &reqwest::Error) -> ClientError {
    let reason = if error.is_connect() {
        // What lies between only says in four ways that it could not connect.
        root_cause(error)
    } else {
        error.source().map_or_else(|| error.to_string(), chain)
    };
    ClientError::Transport {
        url: url.origin().ascii_serialization(),
        reason,
    }
}
