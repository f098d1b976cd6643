//! The table of paths: the router is built from it, and the OpenAPI document is checked against it.
//!
//! Not here: what the handlers do.

use std::pin::Pin;

use axum::routing::MethodFilter;

use super::answer::Answer;
use super::call::Call;
use super::failure::Failure;
use super::{agents, approvals, gateway, mandates, organization, transactions, webhooks};

/// What a handler gives back.
pub(super) type Outcome = Result<Answer, Failure>;

/// A handler, in the one shape all of them have.
pub(super) type Handler = fn(Call) -> Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// One path and method.
pub(super) struct Route {
    /// The method.
    pub(super) verb: Verb,
    /// The path below the base, with its id in braces.
    pub(super) path: &'static str,
    /// What serves it.
    pub(super) run: Handler,
}

/// The methods in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    Post,
    Patch,
    Delete,
}

impl Verb {
    /// The method as the router knows it.
    pub(super) fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Patch => MethodFilter::PATCH,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

/// Writes one row: `route!(Post, "/agents", agents::register)`.
macro_rules! route {
    ($verb:ident, $path:literal, $handler:path) => {
        Route { verb: Verb::$verb, path: $path, run: |call| Box::pin($handler(call)) }
    };
}

/// Every path and method that is served.
pub(super) fn table() -> Vec<Route> {
    vec![
        route!(Post, "/agents", agents::register),
        route!(Get, "/agents", agents::list),
        route!(Get, "/agents/{id}", agents::get),
        route!(Patch, "/agents/{id}", agents::update),
        route!(Delete, "/agents/{id}", agents::decommission),
        route!(Post, "/agents/{id}/suspend", agents::suspend),
        route!(Post, "/agents/{id}/resume", agents::resume),
        route!(Post, "/mandates", mandates::create),
        route!(Get, "/mandates", mandates::list),
        route!(Get, "/mandates/{id}", mandates::get),
        route!(Patch, "/mandates/{id}", mandates::update),
        route!(Delete, "/mandates/{id}", mandates::delete),
        route!(Patch, "/mandates/{id}/budget", mandates::update_budget),
        route!(Post, "/mandates/{id}/activate", mandates::activate),
        route!(Post, "/mandates/{id}/pause", mandates::pause),
        route!(Post, "/mandates/{id}/resume", mandates::resume),
        route!(Post, "/mandates/{id}/revoke", mandates::revoke),
        route!(Post, "/gateway/evaluate", gateway::evaluate),
        route!(Post, "/gateway/can-spend", gateway::can_spend),
        route!(Get, "/gateway/mandate-token", gateway::mandate_token),
        route!(Get, "/transactions", transactions::list),
        route!(Get, "/transactions/{id}", transactions::get),
        route!(Post, "/transactions/{id}/settle", transactions::settle),
        route!(Post, "/transactions/{id}/void", transactions::void),
        route!(Post, "/transactions/{id}/refund", transactions::refund),
        route!(Get, "/approvals", approvals::list),
        route!(Get, "/approvals/{id}", approvals::get),
        route!(Post, "/approvals/{id}/approve", approvals::approve),
        route!(Post, "/approvals/{id}/deny", approvals::deny),
        route!(Get, "/organization", organization::get),
        route!(Patch, "/organization", organization::update),
        route!(Post, "/organization/freeze", organization::freeze),
        route!(Post, "/organization/unfreeze", organization::unfreeze),
        route!(Post, "/organization/webhook-secret/rotate", organization::rotate_webhook_secret),
        route!(Post, "/webhooks", webhooks::create),
        route!(Get, "/webhooks", webhooks::list),
        route!(Get, "/webhooks/{id}", webhooks::get),
        route!(Patch, "/webhooks/{id}", webhooks::update),
        route!(Delete, "/webhooks/{id}", webhooks::delete),
        route!(Post, "/webhooks/{id}/rotate-secret", webhooks::rotate),
        route!(Post, "/webhooks/{id}/test", webhooks::test),
        route!(Post, "/webhooks/{id}/redeliver", webhooks::redeliver_range),
        route!(Get, "/webhooks/deliveries", webhooks::deliveries),
        route!(Get, "/webhooks/deliveries/{id}", webhooks::get_delivery),
        route!(Post, "/webhooks/deliveries/{id}/redeliver", webhooks::redeliver),
        route!(Post, "/api-keys", organization::create_key),
        route!(Get, "/api-keys", organization::list_keys),
        route!(Delete, "/api-keys/{id}", organization::revoke_key),
    ]
}
