//! A server of the generated services that answers from constants and remembers what was created.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::proto::v1;
use crate::proto::v1::evaluate_service_server::{EvaluateService, EvaluateServiceServer};
use crate::proto::v1::mandates_service_server::{MandatesService, MandatesServiceServer};

/// What an agent might choose as a name.
pub(super) const HOSTILE_NAME: &str = "a\u{1b}[2J\n\u{202e}b";
/// The only agent.
pub(super) const AGENT: &str = "0198c0de-0000-7000-8000-000000000001";

type Created = Arc<Mutex<Option<v1::CreateMandateRequest>>>;

/// A running server; stopped when dropped.
pub(super) struct FakeServer {
    pub(super) url: String,
    pub(super) created: Created,
    _stop: oneshot::Sender<()>,
}

impl FakeServer {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let created = Created::default();
        let (stop, stopped) = oneshot::channel();
        let fake = Fake { created: Arc::clone(&created) };
        std::thread::spawn(move || serve(fake, listener, stopped));
        Self { url, created, _stop: stop }
    }
}

fn serve(fake: Fake, listener: TcpListener, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let (health_reporter, health) = tonic_health::server::health_reporter();
        health_reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
        tonic::transport::Server::builder()
            .add_service(MandatesServiceServer::with_interceptor(fake.clone(), authenticate))
            .add_service(EvaluateServiceServer::with_interceptor(fake, authenticate))
            .add_service(health)
            .serve_with_incoming_shutdown(
                tokio_stream::wrappers::TcpListenerStream::new(listener),
                async {
                    let _ = stopped.await;
                },
            )
            .await
            .unwrap();
    });
}

fn authenticate(request: Request<()>) -> Result<Request<()>, Status> {
    if request.metadata().get("authorization").is_some_and(|value| value == "Bearer sk_test") {
        return Ok(request);
    }
    let details = ErrorDetails::with_error_info("CREDENTIAL_INVALID", "quetra", []);
    Err(Status::with_error_details(Code::Unauthenticated, "the credential is not valid", details))
}

#[derive(Clone)]
struct Fake {
    created: Created,
}

/// A mandate with one rule of several kinds; `mdt_1` has the hostile name.
pub(super) fn mandate(id: &str) -> v1::Mandate {
    use v1::rule::Kind;
    let rules = [
        Kind::Category(v1::CategoryRule { allowed: vec!["research".to_owned()] }),
        Kind::VendorCap(v1::VendorCapRule {
            vendor: "a.com".to_owned(),
            amount: 7,
            period: v1::Period::Daily.into(),
        }),
        Kind::Custom(v1::CustomRule {
            engine: v1::CustomEngine::Cel.into(),
            expression: "amount < 100 && vendor != 'x: y'".to_owned(),
            description: String::new(),
        }),
    ];
    v1::Mandate {
        id: id.to_owned(),
        agent_id: AGENT.to_owned(),
        name: if id == "mdt_1" { HOSTILE_NAME } else { "research: yes" }.to_owned(),
        version: 1,
        status: v1::MandateStatus::Active.into(),
        budget: Some(v1::Budget {
            total: 10_000,
            per_transaction: 500,
            currency: "USD".to_owned(),
            reset: v1::Period::Daily.into(),
            ..Default::default()
        }),
        rules: rules.map(|kind| v1::Rule { kind: Some(kind) }).to_vec(),
        valid_from: Some(prost_types::Timestamp { seconds: 1_767_225_600, nanos: 0 }),
        ..Default::default()
    }
}

fn unimplemented<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not needed by these tests"))
}

#[tonic::async_trait]
impl MandatesService for Fake {
    async fn create_mandate(
        &self,
        request: Request<v1::CreateMandateRequest>,
    ) -> Result<Response<v1::CreateMandateResponse>, Status> {
        let request = request.into_inner();
        let wrong = request.rules.iter().any(|rule| {
            matches!(&rule.kind, Some(v1::rule::Kind::TimeWindow(window))
                if window.timezone == "Mars/Base")
        });
        if wrong {
            let mut details = ErrorDetails::with_error_info("INVALID_FIELDS", "quetra", []);
            details.add_bad_request_violation(
                "rules[1].time_window.timezone",
                "is not an IANA time zone",
            );
            details.add_bad_request_violation("budget.total", "is too small");
            let message = "2 fields are wrong";
            return Err(Status::with_error_details(Code::InvalidArgument, message, details));
        }
        *self.created.lock().unwrap() = Some(request);
        Ok(Response::new(v1::CreateMandateResponse { mandate: Some(mandate("mdt_3")) }))
    }

    async fn get_mandate(
        &self,
        request: Request<v1::GetMandateRequest>,
    ) -> Result<Response<v1::GetMandateResponse>, Status> {
        let mandate = Some(mandate(&request.into_inner().mandate_id));
        Ok(Response::new(v1::GetMandateResponse { mandate }))
    }

    async fn list_mandates(
        &self,
        request: Request<v1::ListMandatesRequest>,
    ) -> Result<Response<v1::ListMandatesResponse>, Status> {
        let token = request.into_inner().page.unwrap_or_default().page_token;
        let (id, next) = if token.is_empty() { ("mdt_1", "2") } else { ("mdt_2", "") };
        Ok(Response::new(v1::ListMandatesResponse {
            mandates: vec![mandate(id)],
            next_page_token: next.to_owned(),
        }))
    }

    async fn activate_mandate(
        &self,
        request: Request<v1::ActivateMandateRequest>,
    ) -> Result<Response<v1::ActivateMandateResponse>, Status> {
        let mandate = Some(mandate(&request.into_inner().mandate_id));
        Ok(Response::new(v1::ActivateMandateResponse { mandate }))
    }

    async fn update_mandate(
        &self,
        _: Request<v1::UpdateMandateRequest>,
    ) -> Result<Response<v1::UpdateMandateResponse>, Status> {
        unimplemented()
    }

    async fn update_budget(
        &self,
        _: Request<v1::UpdateBudgetRequest>,
    ) -> Result<Response<v1::UpdateBudgetResponse>, Status> {
        unimplemented()
    }

    async fn pause_mandate(
        &self,
        _: Request<v1::PauseMandateRequest>,
    ) -> Result<Response<v1::PauseMandateResponse>, Status> {
        unimplemented()
    }

    async fn resume_mandate(
        &self,
        _: Request<v1::ResumeMandateRequest>,
    ) -> Result<Response<v1::ResumeMandateResponse>, Status> {
        unimplemented()
    }

    async fn revoke_mandate(
        &self,
        _: Request<v1::RevokeMandateRequest>,
    ) -> Result<Response<v1::RevokeMandateResponse>, Status> {
        unimplemented()
    }

    async fn delete_mandate(
        &self,
        _: Request<v1::DeleteMandateRequest>,
    ) -> Result<Response<v1::DeleteMandateResponse>, Status> {
        unimplemented()
    }

    async fn list_mandate_versions(
        &self,
        _: Request<v1::ListMandateVersionsRequest>,
    ) -> Result<Response<v1::ListMandateVersionsResponse>, Status> {
        unimplemented()
    }

    async fn get_mandate_token(
        &self,
        _: Request<v1::GetMandateTokenRequest>,
    ) -> Result<Response<v1::GetMandateTokenResponse>, Status> {
        unimplemented()
    }
}

/// The vendor's name chooses the decision.
fn decision(vendor: &str) -> i32 {
    match vendor {
        "ok.com" => v1::Decision::Approved,
        "ask.com" => v1::Decision::PendingApproval,
        _ => v1::Decision::Rejected,
    }
    .into()
}

fn results() -> Vec<v1::RuleResult> {
    vec![v1::RuleResult { rule_type: "budget_total".to_owned(), ..Default::default() }]
}

#[tonic::async_trait]
impl EvaluateService for Fake {
    async fn evaluate(
        &self,
        request: Request<v1::EvaluateRequest>,
    ) -> Result<Response<v1::EvaluateResponse>, Status> {
        let request = request.into_inner();
        assert!(request.idempotency_key.len() >= 8, "the server never invents a key");
        Ok(Response::new(v1::EvaluateResponse {
            decision: decision(&request.vendor),
            rule_results: results(),
            ..Default::default()
        }))
    }

    async fn can_spend(
        &self,
        request: Request<v1::CanSpendRequest>,
    ) -> Result<Response<v1::CanSpendResponse>, Status> {
        Ok(Response::new(v1::CanSpendResponse {
            decision: decision(&request.into_inner().vendor),
            rule_results: results(),
            ..Default::default()
        }))
    }

    async fn lookup_decision(
        &self,
        _: Request<v1::LookupDecisionRequest>,
    ) -> Result<Response<v1::LookupDecisionResponse>, Status> {
        unimplemented()
    }
}
