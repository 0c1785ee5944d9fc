//! How data goes, and how it comes back.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Client, ClientError};

/// Rows of a table to be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeleteRows {
    /// Database of the table.
    pub db: String,
    /// The table.
    pub table: String,
    /// First instant, a time or nanoseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Last instant, included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<String>,
    /// Conditions on tags and time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicate: Option<String>,
}

#[derive(Deserialize)]
struct RestoredDatabase {
    db: String,
}

#[derive(Deserialize)]
struct RestoredTable {
    table: String,
}

impl Client {
    /// Deletes rows. Returns when they are gone from answers.
    pub async fn delete_rows(&self, rows: &DeleteRows) -> Result<(), ClientError> {
        self.send_json(Method::POST, "/api/v3/delete", rows).await
    }

    /// Sets the retention period of a table: a duration, or `infinite`; `None` keeps its rows as long as its database says.
    pub async fn update_table(
        &self,
        database: &str,
        table: &str,
        retention_period: Option<&str>,
    ) -> Result<(), ClientError> {
        let body = json!({ "db": database, "table": table, "retention_period": retention_period });
        self.send_json(Method::PUT, "/api/v3/configure/table", &body)
            .await
    }

    /// Takes back the deletion of a database, under the name it had or another. Returns the name it has then.
    pub async fn undelete_database(&self, name: &str, new_name: Option<&str>) -> Result<String, ClientError> {
        let body = json!({ "db": name, "new_name": new_name });
        let restored: RestoredDatabase = self
            .ask_json("/api/v3/configure/database/undelete", &body)
            .await?;
        Ok(restored.db)
    }

    /// Takes back the deletion of a table, under the name it had or another. Returns the name it has then.
    pub async fn undelete_table(
        &self,
        database: &str,
        name: &str,
        new_name: Option<&str>,
    ) -> Result<String, ClientError> {
        let body = json!({ "db": database, "table": name, "new_name": new_name });
        let restored: RestoredTable = self.ask_json("/api/v3/configure/table/undelete", &body).await?;
        Ok(restored.table)
    }
}
