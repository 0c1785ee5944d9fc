//! Queries, whose answers may be larger than memory.

use bytes::Bytes;
use serde::Serialize;

use crate::{ClientError, client::transport};

/// A query.
#[derive(Debug, Clone, Serialize)]
pub struct QueryRequest {
    /// Database to query.
    #[serde(rename = "db")]
    pub database: String,
    /// Query text.
    #[serde(rename = "q")]
    pub query: String,
    /// Format of the answer: `pretty`, `json`, `jsonl`, `csv` or `parquet`.
    pub format: String,
    /// Values of `$name` parameters.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub params: serde_json::Map<String, serde_json::Value>,
}

/// The answer to a query, in the format that was asked for.
#[derive(Debug)]
pub struct QueryAnswer {
    response: reqwest::Response,
}

impl QueryAnswer {
    pub(crate) fn new(response: reqwest::Response) -> Self {
        Self { response }
    }

    /// The next bytes of the answer, `None` at its end. An answer that breaks off is an error.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        let url = self.response.url().clone();
        self.response
            .chunk()
            .await
            .map_err(|error| transport(&url, &error))
    }

    /// The whole answer as text; bytes that are not UTF-8 become replacement characters.
    pub async fn text(mut self) -> Result<String, ClientError> {
        let mut all = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(String::from_utf8_lossy(&all).into_owned())
    }
}
