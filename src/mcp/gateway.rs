//! The way to the server: one type for the channel inside the process and the one over a network.
//!
//! Not here: credentials, which each call brings (`caller`).

use std::fmt;

use tonic::codegen::StdError;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

use crate::proto::v1::agents_service_client::AgentsServiceClient;
use crate::proto::v1::budget_service_client::BudgetServiceClient;
use crate::proto::v1::evaluate_service_client::EvaluateServiceClient;
use crate::proto::v1::mandates_service_client::MandatesServiceClient;
use crate::proto::v1::organization_service_client::OrganizationServiceClient;
use crate::proto::v1::transactions_service_client::TransactionsServiceClient;

/// Bytes of the largest answer that is read: a page of agents with the longest rules.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

type Request = http::Request<tonic::body::Body>;
type Response = http::Response<tonic::body::Body>;

/// What carries the calls.
pub(super) type Wire = BoxCloneSyncService<Request, Response, WireError>;

/// The channel failed; inside the process none does.
///
/// A type of its own, because futures that hold a boxed error cannot be proved to be `Send`.
#[derive(Debug, thiserror::Error)]
#[error("the call did not reach the server")]
pub(super) struct WireError(#[source] StdError);

/// The gRPC services of a server. Cheap to clone.
#[derive(Clone)]
pub struct Gateway(Wire);

impl fmt::Debug for Gateway {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Gateway")
    }
}

/// Writes the client of one service.
macro_rules! client {
    ($name:ident, $client:ident) => {
        pub(super) fn $name(&self) -> $client<Wire> {
            $client::new(self.0.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
        }
    };
}

impl Gateway {
    /// Over a channel, or over the services themselves in the same process.
    pub fn new<S, B>(services: S) -> Self
    where
        S: Service<Request, Response = http::Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<StdError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<StdError>,
    {
        let services = services
            .map_response(|response: http::Response<B>| response.map(tonic::body::Body::new))
            .map_err(|error| WireError(error.into()));
        Self(BoxCloneSyncService::new(services))
    }

    client!(agents, AgentsServiceClient);
    client!(budget, BudgetServiceClient);
    client!(evaluate, EvaluateServiceClient);
    client!(mandates, MandatesServiceClient);
    client!(organization, OrganizationServiceClient);
    client!(transactions, TransactionsServiceClient);
}
