//! The route table (`spec/database.md` 1.1, 1.3).

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tidemill_engine::REQUEST_PATH_PREFIX;

use crate::error::ApiError;
use crate::state::AppState;
use crate::{backup, configure, deletes, health, metrics, packages, plugin_requests, plugins, query, write};

const TRIGGER: &str = "/api/v3/configure/processing_engine_trigger";
const ENVIRONMENT: &str = "/api/v3/configure/plugin_environment";
const CLUSTER_UUID: HeaderName = HeaderName::from_static("cluster-uuid");

pub(crate) fn router(state: Arc<AppState>) -> Router {
    Router::new()
        .route("/health", get(health::health))
        .route("/api/v1/health", get(health::health))
        .route("/metrics", get(metrics::metrics))
        .route("/ping", get(health::ping).post(health::ping))
        .route("/api/v3/write_lp", post(write::write_lp))
        .route("/write", post(write::write_v1))
        .route("/api/v2/write", post(write::write_v2))
        .route("/api/v3/delete", post(deletes::delete_rows))
        .route("/api/v2/delete", post(deletes::delete_rows_v2))
        .route("/api/v3/query_sql", get(query::get_sql).post(query::post_sql))
        .route(
            "/api/v3/configure/database",
            get(configure::list_databases)
                .post(configure::create_database)
                .put(configure::update_database)
                .delete(configure::delete_database),
        )
        .route(
            "/api/v3/configure/database/retention_period",
            post(configure::set_retention_period).delete(configure::clear_retention_period),
        )
        .route(
            "/api/v3/configure/database/undelete",
            post(configure::undelete_database),
        )
        .route(
            "/api/v3/configure/table",
            post(configure::create_table)
                .put(configure::update_table)
                .delete(configure::delete_table),
        )
        .route(
            "/api/v3/configure/table/undelete",
            post(configure::undelete_table),
        )
        .route(
            TRIGGER,
            post(plugins::create_trigger)
                .put(plugins::update_trigger)
                .delete(plugins::delete_trigger),
        )
        .route(&format!("{TRIGGER}/enable"), post(plugins::enable_trigger))
        .route(&format!("{TRIGGER}/disable"), post(plugins::disable_trigger))
        .route(&format!("{TRIGGER}/record"), post(plugins::start_recording))
        .route(&format!("{TRIGGER}/record/next"), post(plugins::record_next))
        .route(
            &format!("{TRIGGER}/dead_letters/replay"),
            post(plugins::replay_dead_letters),
        )
        .route(
            &format!("{TRIGGER}/dead_letters/drop"),
            post(plugins::drop_dead_letters),
        )
        .route(
            &format!("{ENVIRONMENT}/install_packages"),
            post(packages::install_packages),
        )
        .route(
            &format!("{ENVIRONMENT}/install_requirements"),
            post(packages::install_requirements),
        )
        .route(&format!("{ENVIRONMENT}/packages"), get(packages::list))
        .route("/api/v3/backup", post(backup::backup))
        .route("/api/v3/plugin_test/wal", post(plugins::test_wal))
        .route("/api/v3/plugin_test/schedule", post(plugins::test_schedule))
        .route("/api/v3/plugin_test/request", post(plugins::test_request))
        .route(
            "/api/v3/plugins/files",
            post(plugins::upload_file).put(plugins::update_file),
        )
        .route(
            "/api/v3/plugins/directory",
            post(plugins::upload_directory).put(plugins::replace_directory),
        )
        .route(
            &format!("{REQUEST_PATH_PREFIX}{{*path}}"),
            // Which methods, the trigger says.
            any(plugin_requests::handle),
        )
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        // Bodies are limited where they are read, with the texts that clients know.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(Arc::clone(&state), common_headers))
        .with_state(state)
}

async fn not_found() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "Not found")
}

async fn method_not_allowed() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
}

/// Answers preflight requests and puts on every answer what every answer carries.
async fn common_headers(State(state): State<Arc<AppState>>, request: Request, next: Next) -> Response {
    let mut response = if request.method() == Method::OPTIONS {
        preflight()
    } else {
        next.run(request).await
    };
    state.metrics.responded(response.status());
    let succeeded = response.status().is_success();
    let headers = response.headers_mut();
    headers.insert(CLUSTER_UUID, state.cluster_uuid.clone());
    if succeeded {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    response
}

fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}
