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
#[derive(Clone, Copy)]
pub(super) struct Route {
    /// The method.
    pub(super) verb: Verb,
    /// The path below the base, with its id in braces.
    pub(super) path: &'static str,
    /// The RPC that its caller must be allowed to call.
    pub(super) rpc: &'static str,
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

/// Writes one row: `route!(Post, "/agents", Agents::RegisterAgent, agents::register)`.
macro_rules! route {
    ($verb:ident, $path:literal, $service:ident::$method:ident, $handler:path) => {
        Route {
            verb: Verb::$verb,
            path: $path,
            rpc: concat!("/quetra.v1.", stringify!($service), "Service/", stringify!($method)),
            run: |call| Box::pin($handler(call)),
        }
    };
}

/// Every path and method that is served.
pub(super) fn table() -> Vec<Route> {
    [spending(), managing()].concat()
}

/// Agents and their mandates, and what they spend.
fn spending() -> Vec<Route> {
    vec![
        route!(Post, "/agents", Agents::RegisterAgent, agents::register),
        route!(Get, "/agents", Agents::ListAgents, agents::list),
        route!(Get, "/agents/{id}", Agents::GetAgent, agents::get),
        route!(Patch, "/agents/{id}", Agents::UpdateAgent, agents::update),
        route!(Delete, "/agents/{id}", Agents::DecommissionAgent, agents::decommission),
        route!(Post, "/agents/{id}/suspend", Agents::SuspendAgent, agents::suspend),
        route!(Post, "/agents/{id}/resume", Agents::ResumeAgent, agents::resume),
        route!(Post, "/mandates", Mandates::CreateMandate, mandates::create),
        route!(Get, "/mandates", Mandates::ListMandates, mandates::list),
        route!(Get, "/mandates/{id}", Mandates::GetMandate, mandates::get),
        route!(Patch, "/mandates/{id}", Mandates::UpdateMandate, mandates::update),
        route!(Delete, "/mandates/{id}", Mandates::DeleteMandate, mandates::delete),
        route!(Patch, "/mandates/{id}/budget", Mandates::UpdateBudget, mandates::update_budget),
        route!(Post, "/mandates/{id}/activate", Mandates::ActivateMandate, mandates::activate),
        route!(Post, "/mandates/{id}/pause", Mandates::PauseMandate, mandates::pause),
        route!(Post, "/mandates/{id}/resume", Mandates::ResumeMandate, mandates::resume),
        route!(Post, "/mandates/{id}/revoke", Mandates::RevokeMandate, mandates::revoke),
        route!(Post, "/gateway/evaluate", Evaluate::Evaluate, gateway::evaluate),
        route!(Post, "/gateway/can-spend", Evaluate::CanSpend, gateway::can_spend),
        route!(Get, "/gateway/mandate-token", Mandates::GetMandateToken, gateway::mandate_token),
        route!(Get, "/transactions", Transactions::ListTransactions, transactions::list),
        route!(Get, "/transactions/{id}", Transactions::GetTransaction, transactions::get),
        route!(
            Post,
            "/transactions/{id}/settle",
            Transactions::SettleTransaction,
            transactions::settle
        ),
        route!(Post, "/transactions/{id}/void", Transactions::VoidTransaction, transactions::void),
        route!(
            Post,
            "/transactions/{id}/refund",
            Transactions::RefundTransaction,
            transactions::refund
        ),
        route!(Get, "/approvals", Approvals::ListApprovals, approvals::list),
        route!(Get, "/approvals/{id}", Approvals::GetApproval, approvals::get),
        route!(Post, "/approvals/{id}/approve", Approvals::ApproveTransaction, approvals::approve),
        route!(Post, "/approvals/{id}/deny", Approvals::DenyTransaction, approvals::deny),
    ]
}

/// The organization, whom it tells what happens, and its keys.
fn managing() -> Vec<Route> {
    vec![
        route!(Get, "/organization", Organization::GetOrganization, organization::get),
        route!(Patch, "/organization", Organization::UpdateOrganization, organization::update),
        route!(
            Post,
            "/organization/freeze",
            Organization::FreezeOrganization,
            organization::freeze
        ),
        route!(
            Post,
            "/organization/unfreeze",
            Organization::UnfreezeOrganization,
            organization::unfreeze
        ),
        route!(
            Post,
            "/organization/webhook-secret/rotate",
            Webhooks::RotateWebhookSecret,
            organization::rotate_webhook_secret
        ),
        route!(Post, "/webhooks", Webhooks::CreateWebhookEndpoint, webhooks::create),
        route!(Get, "/webhooks", Webhooks::ListWebhookEndpoints, webhooks::list),
        route!(Get, "/webhooks/{id}", Webhooks::GetWebhookEndpoint, webhooks::get),
        route!(Patch, "/webhooks/{id}", Webhooks::UpdateWebhookEndpoint, webhooks::update),
        route!(Delete, "/webhooks/{id}", Webhooks::DeleteWebhookEndpoint, webhooks::delete),
        route!(
            Post,
            "/webhooks/{id}/rotate-secret",
            Webhooks::RotateWebhookSecret,
            webhooks::rotate
        ),
        route!(Post, "/webhooks/{id}/test", Webhooks::SendTestWebhook, webhooks::test),
        route!(
            Post,
            "/webhooks/{id}/redeliver",
            Webhooks::RedeliverWebhookRange,
            webhooks::redeliver_range
        ),
        route!(Get, "/webhooks/deliveries", Webhooks::ListWebhookDeliveries, webhooks::deliveries),
        route!(
            Get,
            "/webhooks/deliveries/{id}",
            Webhooks::GetWebhookDelivery,
            webhooks::get_delivery
        ),
        route!(
            Post,
            "/webhooks/deliveries/{id}/redeliver",
            Webhooks::RedeliverWebhook,
            webhooks::redeliver
        ),
        route!(Post, "/api-keys", Organization::CreateApiKey, organization::create_key),
        route!(Get, "/api-keys", Organization::ListApiKeys, organization::list_keys),
        route!(Delete, "/api-keys/{id}", Organization::RevokeApiKey, organization::revoke_key),
    ]
}
