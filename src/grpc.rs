//! The gRPC face of the server: how requests are read, answered and refused.
//!
//! Handlers stay thin: they translate a message, call the engine and translate the answer. Not
//! here: who may do what and what a call does (the engine), and the port itself (`serve`).

use std::sync::Arc;

use prost::Message;
use tonic::service::Routes;

use crate::crypto::short_digest;
use crate::engine::Engine;
use crate::engine::receipts::Idempotency;
use crate::ledger::Durability;
use crate::proto::v1;
use crate::serve::{MESSAGE_BYTES_MAX, REPLY_BYTES_MAX};

pub mod access;
pub mod agents;
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

/// The services of the product, as health knows them.
pub const SERVICE_NAMES: [&str; 6] = [
    "quetra.v1.AgentsService",
    "quetra.v1.BudgetService",
    "quetra.v1.EvaluateService",
    "quetra.v1.MandatesService",
    "quetra.v1.OrganizationService",
    "quetra.v1.TransactionsService",
];

/// Every service of the product, without health, reflection and the access check.
#[must_use]
pub fn services(engine: &Arc<Engine>, durability: Durability) -> Routes {
    use v1::agents_service_server::AgentsServiceServer;
    use v1::budget_service_server::BudgetServiceServer;
    use v1::evaluate_service_server::EvaluateServiceServer;
    use v1::mandates_service_server::MandatesServiceServer;
    use v1::organization_service_server::OrganizationServiceServer;
    use v1::transactions_service_server::TransactionsServiceServer;

    // Every service has the same limits; the servers are of different types.
    macro_rules! limited {
        ($server:ident, $api:expr) => {
            $server::new($api)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(REPLY_BYTES_MAX)
        };
    }
    let own = || Arc::clone(engine);
    Routes::new(limited!(EvaluateServiceServer, evaluate::EvaluateApi::new(own(), durability)))
        .add_service(limited!(BudgetServiceServer, budget::BudgetApi::new(own())))
        .add_service(limited!(TransactionsServiceServer, transactions::TransactionsApi::new(own())))
        .add_service(limited!(MandatesServiceServer, mandates::MandatesApi::new(own())))
        .add_service(limited!(AgentsServiceServer, agents::AgentsApi::new(own())))
        .add_service(limited!(OrganizationServiceServer, organization::OrganizationApi::new(own())))
}

/// How a mutation is told from a repetition of it: the method and every field of the request.
fn idempotency(key: &str, method: &str, request: &impl Message) -> Idempotency {
    let bytes = request.encode_to_vec();
    Idempotency {
        key: Some(key.to_owned()).filter(|key| !key.is_empty()),
        request_hash: short_digest(&[method.as_bytes(), &bytes]),
    }
}
