//! `/api/v3/backup`: everything that the node stores, as one stream. Not in `InfluxDB`.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use http::header::CONTENT_TYPE;
use object_store::path::Path;
use tidemill_backup::export::{Holds, LogSource, Node, export};
use tidemill_backup::stream;
use tidemill_engine::stored_folders;
use tidemill_ingest::SnapshotStep;
use tracing::{info, warn};

use crate::error::ApiError;
use crate::state::{AppState, now_ns};

/// Takes a backup. Everything that was answered before is in it.
pub(crate) async fn backup(State(state): State<Arc<AppState>>) -> Result<Response, ApiError> {
    let created_ns = now_ns();
    // Rows in files are smaller than in the log, and a restored node starts faster. The log has them if this fails.
    if let SnapshotStep::Failed(error) = state.ingest.snapshot_now(created_ns).await {
        warn!(%error, "a backup begins without a snapshot");
    }
    let storage = Arc::clone(state.ingest.storage());
    let holds = Holds {
        log: Box::new(state.ingest.hold_log().await),
        folders: Box::new(state.engine.hold_dead_letters()),
    };
    let node = Node {
        objects: Arc::clone(storage.files().objects()),
        node_id: storage.node_id().to_owned(),
        manifest: Arc::new(move || storage.manifest().state()),
        log: Arc::clone(&state.ingest) as Arc<dyn LogSource>,
        folders: stored_folders().map(|folder| Path::from(folder.name)).to_vec(),
    };
    let stream = export(node, holds, created_ns).await?;
    info!("a backup is taken");
    let body = Body::from_stream(stream.map(Ok::<_, Infallible>));
    Ok(([(CONTENT_TYPE, stream::CONTENT_TYPE)], body).into_response())
}
