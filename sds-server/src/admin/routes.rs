//! The API's paths and their answers.

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::model::{Forget, NotHolding, Rescan, Trail};
use super::sources::Sources;

/// The greatest request has a few dozen bytes.
const MAX_BODY: usize = 64 * 1024;

/// Everything, for the admin socket.
pub(super) fn admin(sources: Sources) -> Router {
    Router::new()
        .route("/v1/status", get(async |State(s): State<Sources>| Json((s.status)())))
        .route("/v1/streams", get(async |State(s): State<Sources>| Json(json!({"streams": (s.streams)()}))))
        .route("/v1/holders/missing", post(missing))
        .route("/v1/holders/forget", post(forget))
        .route("/v1/entries", get(async |State(s): State<Sources>| Json((s.entries)())))
        .route("/v1/bundle", get(bundle))
        .route("/v1/entries/rescan", post(rescan))
        .route("/v1/explain/pid/{pid}", get(explain))
        .route("/v1/audit", post(audit))
        .with_state(sources.clone())
        .merge(probes(sources))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .fallback(async || problem(StatusCode::NOT_FOUND, "there is nothing here; is the CLI newer?"))
}

/// What holds no secret and no name of a workload, for loopback.
pub(super) fn probes(sources: Sources) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .with_state(sources)
}

/// The JSON of a request; what is wrong with it is said as every other problem is.
struct Asked<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Asked<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let asked = Json::from_request(request, state).await;
        asked
            .map(|Json(asked)| Self(asked))
            .map_err(|rejection: JsonRejection| problem(rejection.status(), &rejection.body_text()))
    }
}

async fn bundle(State(sources): State<Sources>) -> Response {
    match (sources.bundle)() {
        Some(bundle) => Json(bundle).into_response(),
        None => problem(StatusCode::SERVICE_UNAVAILABLE, "there is no bundle yet"),
    }
}

async fn rescan(State(sources): State<Sources>, Asked(request): Asked<Rescan>) -> Response {
    match (sources.rescan)(request).await {
        Ok(rescanned) => Json(rescanned).into_response(),
        Err(why) => problem(StatusCode::INTERNAL_SERVER_ERROR, &why),
    }
}

async fn missing(State(sources): State<Sources>, Asked(question): Asked<NotHolding>) -> Response {
    match (sources.missing)(question) {
        Ok(holders) => Json(holders).into_response(),
        Err(why) => problem(StatusCode::BAD_REQUEST, &why),
    }
}

async fn forget(State(sources): State<Sources>, Asked(request): Asked<Forget>) -> Response {
    match (sources.forget)(request).await {
        Ok(forgotten) => Json(forgotten).into_response(),
        Err(why) => problem(StatusCode::CONFLICT, &why),
    }
}

async fn explain(State(sources): State<Sources>, Path(pid): Path<u32>) -> Response {
    match (sources.explain)(pid).await {
        Ok(explained) => Json(explained).into_response(),
        Err(why) => problem(StatusCode::NOT_FOUND, &why),
    }
}

async fn audit(State(sources): State<Sources>, Asked(trail): Asked<Trail>) -> Response {
    match (sources.audit)(trail).await {
        Ok(records) => Json(records).into_response(),
        Err(why) => problem(StatusCode::INTERNAL_SERVER_ERROR, &why),
    }
}

async fn metrics(State(sources): State<Sources>) -> Response {
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (content_type, sources.metrics.render()).into_response()
}

async fn readyz(State(sources): State<Sources>) -> Response {
    match sources.readiness.pending() {
        pending if pending.is_empty() => "ready\n".into_response(),
        pending => {
            let text = format!("waiting for {}\n", pending.join(", "));
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

fn problem(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}
