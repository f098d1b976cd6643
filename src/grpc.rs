//! The gRPC face of the server: how requests are read, answered and refused.
//!
//! Handlers stay thin: they translate a message, call the engine and translate the answer. Not
//! here: who may do what and what a call does (the engine), and the port itself (`serve`).

use std::sync::Arc;

use futures::stream::BoxStream;
use prost::Message;
use tonic::Status;
use tonic::service::Routes;

use self::status::status_of;
use crate::engine::receipts::Idempotency;
use crate::engine::{Engine, EngineResult};
use crate::proto::v1::agents_service_server::{self, AgentsServiceServer};
use crate::proto::v1::approvals_service_server::{self, ApprovalsServiceServer};
use crate::proto::v1::audit_service_server::{self, AuditServiceServer};
use crate::proto::v1::budget_service_server::{self, BudgetServiceServer};
use crate::proto::v1::evaluate_service_server::{self, EvaluateServiceServer};
use crate::proto::v1::mandates_service_server::{self, MandatesServiceServer};
use crate::proto::v1::organization_service_server::{self, OrganizationServiceServer};
use crate::proto::v1::transactions_service_server::{self, TransactionsServiceServer};
use crate::proto::v1::webhooks_service_server::{self, WebhooksServiceServer};

pub mod access;
pub mod agents;
pub mod approvals;
pub mod audit;
pub mod budget;
pub mod codec;
mod convert;
pub mod evaluate;
pub mod mandates;
mod meaning;
pub mod organization;
pub(crate) mod schema;
pub mod status;
pub mod transactions;
pub(crate) mod trial;
pub mod webhooks;

/// Bytes of the largest request message; pass it to `max_decoding_message_size` of every service.
///
/// tonic reserves the length that a message claims to have as soon as its head arrives, so this
/// times the streams is what a connection can make the server reserve.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// Bytes of the largest reply message; pass it to `max_encoding_message_size` of every service.
pub const REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The services of the product, as health knows them.
pub const SERVICE_NAMES: [&str; 9] = [
    agents_service_server::SERVICE_NAME,
    approvals_service_server::SERVICE_NAME,
    audit_service_server::SERVICE_NAME,
    budget_service_server::SERVICE_NAME,
    evaluate_service_server::SERVICE_NAME,
    mandates_service_server::SERVICE_NAME,
    organization_service_server::SERVICE_NAME,
    transactions_service_server::SERVICE_NAME,
    webhooks_service_server::SERVICE_NAME,
];

/// Every service of the product, without health, reflection and the access check.
#[must_use]
pub fn services(engine: &Arc<Engine>) -> Routes {
    // Every service has the same limits; the servers are of different types.
    macro_rules! limited {
        ($server:ident, $api:expr) => {
            $server::new($api)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(REPLY_BYTES_MAX)
        };
    }
    let own = || Arc::clone(engine);
    Routes::new(limited!(EvaluateServiceServer, evaluate::EvaluateApi::new(own())))
        .add_service(limited!(AuditServiceServer, audit::AuditApi::new(own())))
        .add_service(limited!(BudgetServiceServer, budget::BudgetApi::new(own())))
        .add_service(limited!(TransactionsServiceServer, transactions::TransactionsApi::new(own())))
        .add_service(limited!(ApprovalsServiceServer, approvals::ApprovalsApi::new(own())))
        .add_service(limited!(MandatesServiceServer, mandates::MandatesApi::new(own())))
        .add_service(limited!(AgentsServiceServer, agents::AgentsApi::new(own())))
        .add_service(limited!(OrganizationServiceServer, organization::OrganizationApi::new(own())))
        .add_service(limited!(WebhooksServiceServer, webhooks::WebhooksApi::new(own())))
}

/// A stream of replies.
type Replies<T> = BoxStream<'static, Result<T, Status>>;

/// Turns what gives the next reply, again and again, into a stream that ends with the first error,
/// or when there is none.
fn replies<S, T, F>(state: S, next: impl Fn(S) -> F + Send + 'static) -> Replies<T>
where
    S: Send + 'static,
    T: Send + 'static,
    F: Future<Output = (S, EngineResult<Option<T>>)> + Send + 'static,
{
    let stream = futures::stream::unfold((Some(state), next), |(state, next)| async move {
        let (state, reply) = next(state?).await;
        let state = Some(state).filter(|_| reply.is_ok());
        Some((reply.transpose()?.map_err(status_of), (state, next)))
    });
    Box::pin(stream)
}

/// How a mutation is told from a repetition of it: the method and every field of the request.
fn idempotency(key: &str, method: &str, request: &impl Message) -> Idempotency {
    Idempotency::of(key, method, &request.encode_to_vec())
}
