//! What operators and their tools ask for: `/healthz`, `/readyz`, `/metrics`.
//!
//! Healthy means that the process serves; ready means that it can decide. Not here: the gRPC health
//! service, which says the same to gRPC clients (`serve`).

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::engine::Engine;

/// One recorder for the process: the metrics facade knows no other.
static RECORDER: Mutex<Option<PrometheusHandle>> = Mutex::new(None);

/// The process's metrics; the first call installs their recorder.
///
/// Servers that share a process, as in tests, share the recorder. The lock is held while it is
/// installed, so that none of two that start together is left with one that nothing reaches.
pub(super) fn recorder() -> anyhow::Result<PrometheusHandle> {
    let mut installed = RECORDER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*installed {
        return Ok(handle.clone());
    }
    let sizes = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];
    let seconds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];
    let lag = Matcher::Full("quetra_projector_lag_seconds".to_owned());
    let recorder = PrometheusBuilder::new().set_buckets(&sizes)?;
    let recorder = recorder.set_buckets_for_metric(lag, &seconds)?.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).context("another recorder is installed")?;
    Ok(installed.insert(handle).clone())
}

/// Keeps histograms small; must be called every few seconds.
pub(super) fn upkeep() {
    if let Some(handle) = &*RECORDER.lock().unwrap_or_else(PoisonError::into_inner) {
        handle.run_upkeep();
    }
}

pub(super) fn router(engine: Arc<Engine>, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready).with_state(engine))
        .route("/metrics", get(exposition).with_state(metrics))
}

async fn ready(State(engine): State<Arc<Engine>>) -> Response {
    match engine.ready().await {
        Ok(()) => "ready\n".into_response(),
        Err(why) => {
            let source = std::error::Error::source(&why).map(tracing::field::display);
            tracing::warn!(source, "not ready: {why}");
            (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response()
        }
    }
}

async fn exposition(State(metrics): State<PrometheusHandle>) -> Response {
    let media = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (media, metrics.render()).into_response()
}
