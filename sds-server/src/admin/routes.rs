//! The API's paths and their answers.

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
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

async fn bundle(State(sources): State<Sources>) -> Response {
    match (sources.bundle)() {
        Some(bundle) => Json(bundle).into_response(),
        None => problem(StatusCode::SERVICE_UNAVAILABLE, "there is no bundle yet"),
    }
}

async fn rescan(State(sources): State<Sources>, request: Result<Json<Rescan>, JsonRejection>) -> Response {
    let request = match request {
        Ok(Json(request)) => request,
        Err(rejection) => return problem(rejection.status(), &rejection.body_text()),
    };
    match (sources.rescan)(request).await {
        Ok(rescanned) => Json(rescanned).into_response(),
        Err(why) => problem(StatusCode::INTERNAL_SERVER_ERROR, &why),
    }
}

async fn missing(
    State(sources): State<Sources>,
    question: Result<Json<NotHolding>, JsonRejection>,
) -> Response {
    let question = match question {
        Ok(Json(question)) => question,
        Err(rejection) => return problem(rejection.status(), &rejection.body_text()),
    };
    match (sources.missing)(question) {
        Ok(holders) => Json(holders).into_response(),
        Err(why) => problem(StatusCode::BAD_REQUEST, &why),
    }
}

async fn forget(State(sources): State<Sources>, request: Result<Json<Forget>, JsonRejection>) -> Response {
    let request = match request {
        Ok(Json(request)) => request,
        Err(rejection) => return problem(rejection.status(), &rejection.body_text()),
    };
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

async fn audit(State(sources): State<Sources>, trail: Result<Json<Trail>, JsonRejection>) -> Response {
    let trail = match trail {
        Ok(Json(trail)) => trail,
        Err(rejection) => return problem(rejection.status(), &rejection.body_text()),
    };
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
