//! The port as clients see it, over a real loopback listener.

mod grpc;
mod json;
mod life;
mod web;

use crate::grpc::{MESSAGE_BYTES_MAX, REPLY_BYTES_MAX};
use std::sync::atomic::AtomicUsize;

use prost::Message;
use tokio::sync::oneshot;
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::*;
use crate::grpc::status::refusal;
use crate::proto::v1::evaluate_service_server::{EvaluateService, EvaluateServiceServer};
use crate::proto::v1::{
    CanSpendRequest, CanSpendResponse, Decision, ErrorReason, EvaluateRequest, EvaluateResponse,
    LookupDecisionRequest, LookupDecisionResponse, RuleResult,
};

const EVALUATE: &str = "/quetra.v1.EvaluateService/Evaluate";
const LOOKUP: &str = "/quetra.v1.EvaluateService/LookupDecision";

/// A service that counts what reaches it.
#[derive(Debug, Clone, Default)]
struct Api {
    reached: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl EvaluateService for Api {
    async fn evaluate(
        &self,
        request: tonic::Request<EvaluateRequest>,
    ) -> Result<tonic::Response<EvaluateResponse>, Status> {
        self.reached.fetch_add(1, Ordering::SeqCst);
        assert!(request.remote_addr().is_some());
        assert!(request.metadata().get("x-request-id").is_some());
        let request = request.into_inner();
        match request.vendor.as_str() {
            "panic.example" => panic!("asked to"),
            "slow.example" => sleep(Duration::from_millis(300)).await,
            "stuck.example" => sleep(Duration::from_secs(600)).await,
            _ => {}
        }
        Ok(tonic::Response::new(EvaluateResponse {
            decision: Decision::Approved.into(),
            transaction_id: "tx_1".to_owned(),
            mandate_version: 9_007_199_254_740_993,
            rule_results: vec![RuleResult {
                rule_type: "budget_total".to_owned(),
                passed: true,
                remaining: Some(0),
                ..RuleResult::default()
            }],
            explanation: request.vendor,
            decided_at: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 500_000_000 }),
            ..EvaluateResponse::default()
        }))
    }

    async fn can_spend(
        &self,
        _: tonic::Request<CanSpendRequest>,
    ) -> Result<tonic::Response<CanSpendResponse>, Status> {
        Err(Status::internal("a bare error"))
    }

    async fn lookup_decision(
        &self,
        _: tonic::Request<LookupDecisionRequest>,
    ) -> Result<tonic::Response<LookupDecisionResponse>, Status> {
        let why = "nothing was decided with this key";
        Err(refusal(Code::NotFound, ErrorReason::NotFound, why)
            .with("kind", "decision")
            .retry_after(Duration::from_millis(1500))
            .status())
    }
}

struct Server {
    address: SocketAddr,
    reached: Arc<AtomicUsize>,
    health: tonic_health::server::HealthReporter,
    stop: Option<oneshot::Sender<()>>,
    tasks: JoinSet<io::Result<()>>,
}

impl Server {
    async fn start() -> Self {
        Self::start_with(FrontSettings::default(), ServeLimits::default()).await
    }

    async fn start_with(settings: FrontSettings, limits: ServeLimits) -> Self {
        let api = Api::default();
        let reached = Arc::clone(&api.reached);
        let service = EvaluateServiceServer::new(api)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(REPLY_BYTES_MAX);
        let (routes, health) = standard_services(Routes::new(service)).await.unwrap();
        let other = axum::Router::new()
            .route("/healthz", axum::routing::get(|| async { "ok" }))
            .route("/panic", axum::routing::get(|| async { panics() }))
            .route("/echo", axum::routing::post(|body: bytes::Bytes| async { body }));
        let front = front(routes.into_axum_router(), other, &settings).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, front, limits, async {
            let _ = stopped.await;
        }));
        Self { address, reached, health, stop: Some(stop), tasks }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn reached(&self) -> usize {
        self.reached.load(Ordering::SeqCst)
    }
}

fn panics() -> &'static str {
    panic!("asked to")
}

fn spend() -> EvaluateRequest {
    EvaluateRequest {
        agent_id: "agent".to_owned(),
        amount: Some(200),
        currency: "USD".to_owned(),
        vendor: "firecrawl.dev".to_owned(),
        idempotency_key: "key-0001".to_owned(),
        ..EvaluateRequest::default()
    }
}

fn spend_at(vendor: &str) -> EvaluateRequest {
    EvaluateRequest { vendor: vendor.to_owned(), ..spend() }
}

/// A message with its head, as gRPC frames it.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    frame
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}
