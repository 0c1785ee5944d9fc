//! The routes over a real catalog, log, store and query engine, most of them without a socket.

mod bodies;
mod configuration;
mod connections;
mod deletes;
mod deletions;
mod queries;
mod system_tables;
mod writes;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use serde_json::Value;
use tidemill_catalog::{Catalog, Limits};
use tidemill_engine::{DeadLetters, Engine, EngineConfig, Observations};
use tidemill_ingest::{Ingest, IngestConfig, SnapshotConfig};
use tidemill_query::{QueryConfig, QueryEngine};
use tidemill_store::compaction::{CompactionPolicy, Compactor};
use tidemill_store::{FileStoreConfig, Storage, StoreConfig};
use tidemill_wal::{ObjectMedium, WalConfig};
use tower::ServiceExt;
use uuid::Uuid;

use crate::DeletionConfig;
use crate::body::BodyLimits;
use crate::routes::router;
use crate::state::AppState;
use crate::system::{NodeInfo, NodeTables, StorageTables};

/// Largest request body of a test server.
const BODY_BYTES_MAX: usize = 100_000;

/// A server without a socket and without plugins, which forgets everything.
struct Server {
    router: Router,
}

/// An answer, read to its end.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Status and JSON body, null for none.
    fn outcome(&self) -> (u16, Value) {
        let body = if self.body.is_empty() {
            Value::Null
        } else {
            assert_eq!(
                self.headers["content-type"],
                "application/json",
                "{}",
                self.text()
            );
            self.json()
        };
        (self.status.as_u16(), body)
    }
}

impl Server {
    async fn start() -> Self {
        Self::with_limits(Limits::default()).await
    }

    async fn with_limits(limits: Limits) -> Self {
        Self::with(limits, SnapshotConfig::default()).await
    }

    async fn with(limits: Limits, snapshot: SnapshotConfig) -> Self {
        Self::on(Arc::new(InMemory::new()), limits, snapshot).await
    }

    async fn on(objects: Arc<dyn ObjectStore>, limits: Limits, snapshot: SnapshotConfig) -> Self {
        let catalog = Arc::new(Catalog::open(Arc::clone(&objects), "test", limits).await.unwrap());
        let dead_letters = Arc::new(DeadLetters::new(Arc::clone(&objects), "test"));
        let (opening, runtime) = (Arc::clone(&catalog), tokio::runtime::Handle::current());
        let storage = Storage::open(
            StoreConfig::default(),
            FileStoreConfig::default(),
            Arc::clone(&objects),
            "test",
        );
        let storage = Arc::new(storage.await.unwrap());
        let compacted = Arc::clone(&storage);
        let open = move || {
            let medium = Box::new(ObjectMedium::new(objects, "test/wal", runtime));
            let config = IngestConfig {
                wal: WalConfig::default(),
                tail_bytes_max: 1 << 20,
                snapshot,
            };
            Ingest::open(medium, config, opening, storage)
        };
        let ingest = Arc::new(tokio::task::spawn_blocking(open).await.unwrap().unwrap());
        let storage_tables = StorageTables::new(Arc::clone(&catalog), Arc::clone(&ingest));
        let node = NodeInfo {
            node_id: "test".to_owned(),
            instance_id: Uuid::nil().to_string(),
            core_count: 2,
            started_ns: 1,
            settings: "{}".to_owned(),
        };
        let query = Arc::new(QueryEngine::new(
            Arc::clone(&catalog),
            Arc::clone(ingest.store()),
            Arc::clone(ingest.storage().files()),
            vec![Arc::new(storage_tables), Arc::new(NodeTables::new(node))],
            QueryConfig::default(),
        ));
        let engine = Engine::start(
            EngineConfig::default(),
            Arc::clone(&ingest),
            Arc::clone(&query),
            Arc::new(Observations::new(10)),
            dead_letters,
            None,
        )
        .await;
        let compactor = Compactor::new(compacted, Arc::clone(&catalog), CompactionPolicy::default());
        let state = AppState {
            catalog,
            ingest,
            query,
            engine,
            compactor: Arc::new(compactor),
            metrics: crate::metrics::ServerMetrics::new(),
            object_store: Arc::default(),
            hard_delete_default: DeletionConfig::default().hard_delete_default,
            bodies: BodyLimits::new(BODY_BYTES_MAX, 1 << 20),
            process_id: Uuid::nil(),
            cluster_uuid: HeaderValue::from_static("cluster"),
        };
        Self {
            router: router(Arc::new(state)),
        }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        Answer {
            status: head.status,
            headers: head.headers,
            body: body.collect().await.unwrap().to_bytes().to_vec(),
        }
    }

    async fn request(&self, method: Method, path: &str, body: impl Into<Body>) -> Answer {
        let request = Request::builder().method(method).uri(path);
        self.send(request.body(body.into()).unwrap()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, Body::empty()).await
    }

    async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.request(Method::POST, path, body).await
    }

    async fn post_json(&self, path: &str, body: &Value) -> Answer {
        let request = Request::post(path).header("content-type", "application/json");
        self.send(request.body(body.to_string().into()).unwrap()).await
    }

    /// The rows of a query.
    async fn rows(&self, database: &str, sql: &str) -> Value {
        let answer = self
            .post_json(
                "/api/v3/query_sql",
                &serde_json::json!({ "db": database, "q": sql }),
            )
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }
}
