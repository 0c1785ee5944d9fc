//! The calls of the HTTP interface that measuring needs, beside the ones that are measured.

use std::io;

use serde_json::{Map, Value, json};

use crate::failure::{During, Failure};
use crate::http::{Answer, Connection, Endpoint};

/// One connection to a server, opened again where the server has closed it.
pub(crate) struct Api {
    endpoint: Endpoint,
    connection: Option<Connection>,
}

/// A row of a query's answer.
pub(crate) type Row = Map<String, Value>;

/// What a trigger is created from.
pub(crate) struct NewTrigger<'a> {
    pub database: &'a str,
    pub name: &'a str,
    pub plugin: &'a str,
    pub specification: &'a str,
    pub settings: Value,
    pub arguments: &'a Value,
}

impl Api {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Api {
            endpoint,
            connection: None,
        }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends a rendered request, whatever the answer; once more where a kept connection turned out to be closed.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<Answer, Failure> {
        if let Some(connection) = self.connection.as_mut() {
            match connection.exchange(&[request]).await {
                Ok(answer) => return Ok(answer),
                Err(_) => self.connection = None,
            }
        }
        self.exchange_anew(request)
            .await
            .during(format!("no answer from {}", self.endpoint.url()))
    }

    async fn exchange_anew(&mut self, request: &[u8]) -> io::Result<Answer> {
        let mut connection = Connection::open(&self.endpoint).await?;
        let answer = connection.exchange(&[request]).await?;
        self.connection = Some(connection);
        Ok(answer)
    }

    async fn expect_success(&mut self, what: &str, request: &[u8]) -> Result<Answer, Failure> {
        let answer = self.exchange(request).await?;
        if answer.is_success() {
            return Ok(answer);
        }
        Err(Failure::new(format!(
            "{what} answered {}: {}",
            answer.status,
            answer.text()
        )))
    }

    pub(crate) async fn create_database(&mut self, name: &str) -> Result<(), Failure> {
        let request = self
            .endpoint
            .json("POST", "/api/v3/configure/database", &json!({ "db": name }));
        self.expect_success("creating a database", &request)
            .await
            .map(drop)
    }

    pub(crate) async fn delete_database(&mut self, name: &str) -> Result<(), Failure> {
        let target = format!("/api/v3/configure/database?db={name}&hard_delete_at=now");
        let request = self.endpoint.head("DELETE", &target, "", 0);
        self.expect_success("deleting a database", &request)
            .await
            .map(drop)
    }

    pub(crate) async fn upload_plugin(&mut self, file: &str, content: &str) -> Result<(), Failure> {
        let body = json!({ "plugin_name": file, "content": content });
        let request = self.endpoint.json("POST", "/api/v3/plugins/files", &body);
        self.expect_success("uploading a plugin", &request)
            .await
            .map(drop)
    }

    /// Installs a Python package in the environment of the plugins.
    pub(crate) async fn install_package(&mut self, name: &str) -> Result<(), Failure> {
        let target = "/api/v3/configure/plugin_environment/install_packages";
        let request = self.endpoint.json("POST", target, &json!({ "packages": [name] }));
        self.expect_success("installing a package", &request)
            .await
            .map(drop)
    }

    pub(crate) async fn create_trigger(&mut self, trigger: &NewTrigger<'_>) -> Result<(), Failure> {
        let request = create_trigger_request(&self.endpoint, trigger);
        self.expect_success("creating a trigger", &request)
            .await
            .map(drop)
    }

    pub(crate) async fn disable_trigger(&mut self, database: &str, name: &str) -> Result<(), Failure> {
        self.switch_trigger("disable", database, name).await
    }

    pub(crate) async fn enable_trigger(&mut self, database: &str, name: &str) -> Result<(), Failure> {
        self.switch_trigger("enable", database, name).await
    }

    async fn switch_trigger(&mut self, to: &str, database: &str, name: &str) -> Result<(), Failure> {
        let target =
            format!("/api/v3/configure/processing_engine_trigger/{to}?db={database}&trigger_name={name}");
        let request = self.endpoint.head("POST", &target, "", 0);
        self.expect_success(&format!("{to} trigger {name}"), &request)
            .await
            .map(drop)
    }

    pub(crate) async fn delete_trigger(&mut self, database: &str, name: &str) -> Result<(), Failure> {
        let target = format!(
            "/api/v3/configure/processing_engine_trigger?db={database}&trigger_name={name}&force=true"
        );
        let request = self.endpoint.head("DELETE", &target, "", 0);
        self.expect_success("deleting a trigger", &request)
            .await
            .map(drop)
    }

    /// Writes line protocol durably.
    pub(crate) async fn write(&mut self, database: &str, lines: &str) -> Result<(), Failure> {
        let mut request = write_head(&self.endpoint, database, lines.len());
        request.extend_from_slice(lines.as_bytes());
        self.expect_success("writing", &request).await.map(drop)
    }

    /// The rows of a query.
    pub(crate) async fn query(&mut self, database: &str, sql: &str) -> Result<Vec<Row>, Failure> {
        let request = query_request(&self.endpoint, database, sql);
        let answer = self.expect_success(sql, &request).await?;
        serde_json::from_slice(&answer.body).during(format!("cannot read the answer to {sql}"))
    }

    /// The rows of a query; none where the table does not exist yet.
    pub(crate) async fn query_or_nothing(&mut self, database: &str, sql: &str) -> Result<Vec<Row>, Failure> {
        let answer = self
            .exchange(&query_request(&self.endpoint, database, sql))
            .await?;
        if answer.is_success() {
            return serde_json::from_slice(&answer.body).during(format!("cannot read the answer to {sql}"));
        }
        let text = answer.text();
        if text.contains("not found") {
            return Ok(Vec::new());
        }
        Err(Failure::new(format!("{sql} answered {}: {text}", answer.status)))
    }

    /// What the plugins of a database logged last, for a message about what went wrong.
    pub(crate) async fn plugin_log(&mut self, database: &str) -> String {
        let sql = "SELECT trigger_name, log_level, log_text FROM system.processing_engine_logs \
                   WHERE log_level <> 'INFO' ORDER BY event_time DESC LIMIT 5";
        match self.query(database, sql).await {
            Ok(rows) => rows
                .into_iter()
                .map(|row| Value::Object(row).to_string())
                .collect::<Vec<_>>()
                .join("; "),
            Err(failure) => failure.to_string(),
        }
    }
}

/// A whole request that creates an enabled trigger.
pub(crate) fn create_trigger_request(endpoint: &Endpoint, trigger: &NewTrigger<'_>) -> Vec<u8> {
    let body = json!({
        "db": trigger.database,
        "trigger_name": trigger.name,
        "plugin_filename": trigger.plugin,
        "trigger_specification": trigger.specification,
        "trigger_settings": trigger.settings,
        "trigger_arguments": trigger.arguments,
        "disabled": false,
    });
    endpoint.json("POST", "/api/v3/configure/processing_engine_trigger", &body)
}

/// The head of a durable write of `body_bytes` bytes with timestamps in nanoseconds.
pub(crate) fn write_head(endpoint: &Endpoint, database: &str, body_bytes: usize) -> Vec<u8> {
    let target = format!("/api/v3/write_lp?db={database}&precision=nanosecond");
    endpoint.head("POST", &target, "text/plain", body_bytes)
}

/// A whole query request.
pub(crate) fn query_request(endpoint: &Endpoint, database: &str, sql: &str) -> Vec<u8> {
    endpoint.json(
        "POST",
        "/api/v3/query_sql",
        &json!({ "db": database, "q": sql, "format": "json" }),
    )
}
