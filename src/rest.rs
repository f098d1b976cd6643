//! The published REST paths, each one a client of the gRPC API in the same process.
//!
//! A handler turns JSON into a message, makes the call a gRPC client would make, and turns the
//! answer into JSON. Authentication, validation and limits are therefore exactly those of gRPC.
//!
//! Not here: the JSON forms (`crate::forms`), any decision, any state, CORS, tracing, and the
//! payment paths (x402, ACP, Stripe), which have no service yet.

mod agents;
mod answer;
mod approvals;
mod call;
mod decode;
mod failure;
mod fields;
mod gateway;
mod mandates;
mod organization;
mod page;
mod query;
mod routes;
mod transactions;
mod tree;
mod webhooks;

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{any, get, on};
use http::header;
use tokio::time::timeout;

use self::call::Call;
use self::failure::Failure;
use self::routes::Route;

/// Where the paths begin.
const BASE: &str = "/api/v1";
const BASE_SLASH: &str = "/api/v1/";

/// Bytes of a request body; the largest mandate the rules allow is far below it.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// How long what may take.
#[derive(Clone, Copy)]
struct Times {
    /// A body to arrive.
    arrival: Duration,
    /// All of it: a little less than the port waits, which has only words for it.
    answer: Duration,
}

const TIMES: Times = Times { arrival: Duration::from_secs(10), answer: Duration::from_secs(29) };

/// The description of every path, served at `/openapi.json`.
const OPENAPI: &str = include_str!("rest/openapi.json");

/// Serves `/api/v1` and `/openapi.json` by calling `grpc`, the router of the gRPC services.
///
/// Unknown paths below `/api/v1` answer 404 in JSON; all others are left to the caller, so the
/// result can be merged with other routers.
pub fn router(grpc: axum::Router) -> axum::Router {
    router_within(grpc, TIMES)
}

fn router_within(grpc: axum::Router, times: Times) -> axum::Router {
    let mut api = axum::Router::new();
    for route in routes::table() {
        let (path, filter) = (route.path, route.verb.filter());
        let handler = move |State(grpc), path, request| serve((grpc, times), route, path, request);
        api = api.route(path, on(filter, handler));
    }
    let api = api.fallback(unknown_path).method_not_allowed_fallback(wrong_method).with_state(grpc);
    axum::Router::new()
        .nest(BASE, api)
        .route(BASE, any(unknown_path))
        .route(BASE_SLASH, any(unknown_path))
        .route("/openapi.json", get(openapi).fallback(wrong_method))
}

async fn serve(
    (grpc, times): (axum::Router, Times),
    Route { rpc, run, .. }: Route,
    path: Result<Path<BTreeMap<String, String>>, PathRejection>,
    request: Request,
) -> Response {
    let mut call = Call::new(grpc, &request);
    let (request_id, caller) = (call.request_id(), call.caller());
    let outcome = timeout(times.answer, async {
        call.receive(path, request, times.arrival).await?;
        run(call).await
    });
    let mut response = match outcome.await.unwrap_or_else(|_elapsed| Err(Failure::too_slow())) {
        Ok(answer) => answer.into_response(),
        // What is wrong with a request is for those who may make it.
        Err(failure) if failure.is_ours() => {
            caller.refusal(rpc).await.unwrap_or(failure).into_response()
        }
        Err(failure) => failure.into_response(),
    };
    if let Some(id) = request_id.get() {
        response.headers_mut().insert(call::REQUEST_ID, id.clone());
    }
    response
}

async fn unknown_path() -> Response {
    Failure::unknown_path().into_response()
}

async fn wrong_method() -> Response {
    Failure::wrong_method().into_response()
}

async fn openapi() -> Response {
    let mut response = Response::new(OPENAPI.into());
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests;
