//! Services that answer with fixed messages, remember what they were asked, and fail on demand.
//!
//! Not here: any rule of the product.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use prost_types::{Duration, Timestamp};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::proto::v1;
use crate::proto::v1::agents_service_server::{AgentsService, AgentsServiceServer};
use crate::proto::v1::approvals_service_server::{ApprovalsService, ApprovalsServiceServer};
use crate::proto::v1::budget_service_server::{BudgetService, BudgetServiceServer};
use crate::proto::v1::evaluate_service_server::{EvaluateService, EvaluateServiceServer};
use crate::proto::v1::mandates_service_server::{MandatesService, MandatesServiceServer};
use crate::proto::v1::organization_service_server::{
    OrganizationService, OrganizationServiceServer,
};
use crate::proto::v1::transactions_service_server::{
    TransactionsService, TransactionsServiceServer,
};
use crate::proto::v1::webhooks_service_server::WebhooksServiceServer;

pub(super) const AGENT: &str = "0b8f4f0e-5a53-4b7e-9d3c-0d9f1b1c2d3e";

/// All services at once.
#[derive(Clone, Default)]
pub(super) struct Fake {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    failures: BTreeMap<&'static str, Status>,
    decision: Option<v1::Decision>,
    /// Pages a list has.
    pages: i32,
}

struct Seen {
    rpc: &'static str,
    metadata: MetadataMap,
    message: Box<dyn Any + Send>,
}

impl Fake {
    pub(super) fn router(&self) -> axum::Router {
        tonic::service::Routes::new(EvaluateServiceServer::new(self.clone()))
            .add_service(BudgetServiceServer::new(self.clone()))
            .add_service(ApprovalsServiceServer::new(self.clone()))
            .add_service(TransactionsServiceServer::new(self.clone()))
            .add_service(MandatesServiceServer::new(self.clone()))
            .add_service(AgentsServiceServer::new(self.clone()))
            .add_service(OrganizationServiceServer::new(self.clone()))
            .add_service(WebhooksServiceServer::new(self.clone()))
            .prepare()
            .into_axum_router()
    }

    /// Every later call of the RPC fails with the status.
    pub(super) fn fail(&self, rpc: &'static str, status: Status) {
        self.state.lock().unwrap().failures.insert(rpc, status);
    }

    pub(super) fn decide(&self, decision: v1::Decision) {
        self.state.lock().unwrap().decision = Some(decision);
    }

    pub(super) fn pages(&self, pages: i32) {
        self.state.lock().unwrap().pages = pages;
    }

    /// The RPCs that were called, in order.
    pub(super) fn called(&self) -> Vec<&'static str> {
        self.state.lock().unwrap().seen.iter().map(|seen| seen.rpc).collect()
    }

    /// The last message of the type.
    pub(super) fn last<M: Clone + 'static>(&self) -> M {
        let state = self.state.lock().unwrap();
        let messages = state.seen.iter().rev().map(|seen| seen.message.downcast_ref::<M>());
        messages.flatten().next().cloned().unwrap()
    }

    /// The metadata of the last call.
    pub(super) fn metadata(&self) -> MetadataMap {
        self.state.lock().unwrap().seen.last().unwrap().metadata.clone()
    }

    fn serve<M: Send + 'static, R>(
        &self,
        rpc: &'static str,
        request: Request<M>,
        answer: R,
    ) -> Result<Response<R>, Status> {
        let (metadata, _, message) = request.into_parts();
        let message = Box::new(message);
        let mut state = self.state.lock().unwrap();
        state.seen.push(Seen { rpc, metadata, message });
        if let Some(status) = state.failures.get(rpc) {
            return Err(status.clone());
        }
        let mut response = Response::new(answer);
        let metadata = response.metadata_mut();
        metadata.insert("x-request-id", "request-1".parse().unwrap());
        Ok(response)
    }

    fn decision(&self) -> i32 {
        self.state.lock().unwrap().decision.unwrap_or(v1::Decision::Approved).into()
    }

    fn next_page(&self, page: Option<&v1::PageRequest>) -> String {
        let number = page.map_or(0, |page| page.page_token.parse::<i32>().unwrap_or(0));
        let number = number.saturating_add(1);
        let more = number < self.state.lock().unwrap().pages;
        if more { number.to_string() } else { String::new() }
    }
}

fn time(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

pub(super) fn budget() -> v1::BudgetStatus {
    v1::BudgetStatus {
        total: 10_000,
        spent: 5_300,
        held: 200,
        remaining: 4_500,
        per_transaction: 1_000,
        currency: "EUR".into(),
        resets_at: time(1_767_225_600),
        over_committed: false,
    }
}

fn rule_results() -> Vec<v1::RuleResult> {
    vec![v1::RuleResult {
        rule_type: "budget_total".into(),
        passed: false,
        detail: "4500 of 10000 are left".into(),
        reason: v1::RejectionReason::BudgetExhausted.into(),
        limit: Some(10_000),
        actual: Some(5_500),
        remaining: Some(4_500),
        resets_at: time(1_767_225_600),
        retryable: true,
    }]
}

fn reasons() -> Vec<v1::Reason> {
    vec![v1::Reason {
        reason: v1::RejectionReason::BudgetExhausted.into(),
        rule_type: "budget_total".into(),
        detail: "4500 of 10000 are left".into(),
    }]
}

fn evaluated(decision: i32) -> v1::EvaluateResponse {
    v1::EvaluateResponse {
        decision,
        transaction_id: "tx_1".into(),
        mandate_id: "mdt_1".into(),
        mandate_version: 3,
        rule_results: rule_results(),
        reasons: reasons(),
        explanation: "because".into(),
        budget: Some(budget()),
        durability: v1::Durability::Strict.into(),
        evaluation_duration: Some(Duration { seconds: 0, nanos: 250_000 }),
        decided_at: time(1_767_000_000),
        replayed: false,
        state: match v1::Decision::try_from(decision) {
            Ok(v1::Decision::PendingApproval) => v1::TransactionState::PendingApproval,
            Ok(v1::Decision::Rejected) => v1::TransactionState::Rejected,
            Ok(v1::Decision::Approved | v1::Decision::Unspecified) | Err(_) => {
                v1::TransactionState::Approved
            }
        }
        .into(),
        expires_at: None,
    }
}

fn can_spend(decision: i32) -> v1::CanSpendResponse {
    v1::CanSpendResponse {
        decision,
        rule_results: rule_results(),
        reasons: reasons(),
        explanation: "because".into(),
        ..v1::CanSpendResponse::default()
    }
}

fn mandate(status: v1::MandateStatus) -> Option<v1::Mandate> {
    Some(v1::Mandate {
        id: "mdt_1".into(),
        agent_id: AGENT.into(),
        name: "Research".into(),
        version: 3,
        status: status.into(),
        budget: Some(v1::Budget {
            total: 10_000,
            per_transaction: 1_000,
            currency: "EUR".into(),
            reset: v1::Period::Monthly.into(),
            ..v1::Budget::default()
        }),
        budget_status: Some(budget()),
        rules: vec![v1::Rule {
            kind: Some(v1::rule::Kind::VendorAllowlist(v1::VendorAllowlistRule {
                vendors: vec!["api.openai.com".into()],
            })),
        }],
        valid_from: time(1_767_000_000),
        policy_hash: "00ff".into(),
        signature: "c2ln".into(),
        signing_key_id: "key-1".into(),
        created_at: time(1_767_000_000),
        updated_at: time(1_767_000_000),
        ..v1::Mandate::default()
    })
}

fn agent(status: v1::AgentStatus, with_mandate: bool) -> Option<v1::Agent> {
    Some(v1::Agent {
        id: AGENT.into(),
        name: "researcher".into(),
        description: "finds papers".into(),
        framework: v1::Framework::OpenaiAgents.into(),
        tags: vec!["lab".into()],
        status: status.into(),
        created_at: time(1_767_000_000),
        updated_at: time(1_767_000_000),
        mandate: mandate(v1::MandateStatus::Active).filter(|_| with_mandate),
        ..v1::Agent::default()
    })
}

fn transaction(state: v1::TransactionState) -> Option<v1::Transaction> {
    Some(v1::Transaction {
        id: "tx_1".into(),
        agent_id: AGENT.into(),
        mandate_id: "mdt_1".into(),
        mandate_version: 3,
        vendor: "https://API.openai.com/v1".into(),
        vendor_canonical: "api.openai.com".into(),
        amount: 500,
        currency: "EUR".into(),
        protocol: v1::Protocol::Direct.into(),
        decision: v1::Decision::Approved.into(),
        state: state.into(),
        rule_results: rule_results(),
        budget_before: 5_000,
        budget_after: 5_500,
        idempotency_key: "key-00000001".into(),
        created_at: time(1_767_000_000),
        updated_at: time(1_767_000_000),
        ..v1::Transaction::default()
    })
}

fn organization(frozen: bool) -> Option<v1::Organization> {
    Some(v1::Organization {
        id: "org_1".into(),
        name: "Lab".into(),
        slug: "lab".into(),
        default_currency: "CHF".into(),
        timezone: "Europe/Zagreb".into(),
        frozen,
        webhook_url: "https://example.com/hooks".into(),
        webhook_endpoint_id: "whe_1".into(),
        durability_floor: v1::Durability::Durable.into(),
        signing_keys: vec![v1::SigningKey {
            key_id: "key-1".into(),
            algorithm: "EdDSA".into(),
            public_key: "AAAA".into(),
        }],
        created_at: time(1_767_000_000),
        updated_at: time(1_767_000_000),
    })
}

fn api_key(revoked: bool) -> v1::ApiKey {
    v1::ApiKey {
        id: "key_1".into(),
        name: "ci".into(),
        prefix: "sk_abcd".into(),
        role: v1::Role::Agent.into(),
        agent_id: AGENT.into(),
        created_at: time(1_767_000_000),
        revoked_at: time(1_767_000_001).filter(|_| revoked),
        ..v1::ApiKey::default()
    }
}

/// Writes one service: a stream is empty, each other RPC remembers its request and answers with the
/// message.
macro_rules! service {
    ($service:ident
        $([$stream:ident: $kind:ident($asked:ident) -> $told:ident])?
        { $($rpc:ident($request:ident) -> $response:ident
        = |$fake:ident, $message:ident| $answer:expr;)* }) => {
        #[tonic::async_trait]
        impl $service for Fake {
            $(
                type $kind = futures::stream::Empty<Result<v1::$told, Status>>;

                async fn $stream(
                    &self,
                    _: Request<v1::$asked>,
                ) -> Result<Response<Self::$kind>, Status> {
                    Ok(Response::new(futures::stream::empty()))
                }
            )?
            $(async fn $rpc(
                &self,
                request: Request<v1::$request>,
            ) -> Result<Response<v1::$response>, Status> {
                let ($fake, $message) = (self, request.get_ref());
                let _ = ($fake, $message);
                let answer = $answer;
                self.serve(stringify!($rpc), request, answer)
            })*
        }
    };
}

service!(EvaluateService {
    evaluate(EvaluateRequest) -> EvaluateResponse = |fake, _m| evaluated(fake.decision());
    can_spend(CanSpendRequest) -> CanSpendResponse = |fake, _m| can_spend(fake.decision());
    lookup_decision(LookupDecisionRequest) -> LookupDecisionResponse
        = |_f, _m| v1::LookupDecisionResponse::default();
});

service!(BudgetService
[watch_budget: WatchBudgetStream(WatchBudgetRequest) -> WatchBudgetResponse]
{
    get_budget(GetBudgetRequest) -> GetBudgetResponse = |_f, _m| v1::GetBudgetResponse {
        budget: Some(budget()),
        ..v1::GetBudgetResponse::default()
    };
});

fn approval() -> Option<v1::Approval> {
    Some(v1::Approval {
        transaction: transaction(v1::TransactionState::PendingApproval),
        agent_name: "researcher".into(),
        mandate_name: "Research".into(),
        rule_type: "approval".into(),
        threshold: 400,
        approvals_required: 1,
        grants: vec![v1::Statement {
            api_key_id: "key_1".into(),
            comment: "fine".into(),
            created_at: time(1_767_000_001),
        }],
        budget_after: Some(budget()),
        request_hash: "00ff".into(),
        ..v1::Approval::default()
    })
}

service!(ApprovalsService {
    list_approvals(ListApprovalsRequest) -> ListApprovalsResponse = |_f, _m| {
        v1::ListApprovalsResponse {
            approvals: approval().into_iter().collect(),
            next_page_token: String::new(),
        }
    };
    get_approval(GetApprovalRequest) -> GetApprovalResponse
        = |_f, _m| v1::GetApprovalResponse { approval: approval() };
    approve_transaction(ApproveTransactionRequest) -> ApproveTransactionResponse
        = |_f, _m| v1::ApproveTransactionResponse { approval: approval() };
    deny_transaction(DenyTransactionRequest) -> DenyTransactionResponse
        = |_f, _m| v1::DenyTransactionResponse { approval: approval() };
});

service!(TransactionsService
[watch_transactions: WatchTransactionsStream(WatchTransactionsRequest)
    -> WatchTransactionsResponse]
{
    list_transactions(ListTransactionsRequest) -> ListTransactionsResponse = |_f, _m| {
        v1::ListTransactionsResponse {
            transactions: transaction(v1::TransactionState::Approved).into_iter().collect(),
            next_page_token: String::new(),
            total: Some(7),
        }
    };
    get_transaction(GetTransactionRequest) -> GetTransactionResponse = |_f, _m| {
        v1::GetTransactionResponse { transaction: transaction(v1::TransactionState::Approved) }
    };
    settle_transaction(SettleTransactionRequest) -> SettleTransactionResponse = |_f, _m| {
        let transaction = transaction(v1::TransactionState::Settled);
        v1::SettleTransactionResponse { transaction, budget: Some(budget()) }
    };
    void_transaction(VoidTransactionRequest) -> VoidTransactionResponse = |_f, _m| {
        let transaction = transaction(v1::TransactionState::Voided);
        v1::VoidTransactionResponse { transaction, budget: Some(budget()) }
    };
    refund_transaction(RefundTransactionRequest) -> RefundTransactionResponse = |_f, _m| {
        let transaction = transaction(v1::TransactionState::Refunded);
        v1::RefundTransactionResponse { transaction, budget: None }
    };
});

service!(MandatesService {
    create_mandate(CreateMandateRequest) -> CreateMandateResponse
        = |_f, _m| v1::CreateMandateResponse { mandate: mandate(v1::MandateStatus::Draft) };
    get_mandate(GetMandateRequest) -> GetMandateResponse
        = |_f, _m| v1::GetMandateResponse { mandate: mandate(v1::MandateStatus::Active) };
    list_mandates(ListMandatesRequest) -> ListMandatesResponse = |fake, message| {
        v1::ListMandatesResponse {
            mandates: mandate(v1::MandateStatus::Active).into_iter().collect(),
            next_page_token: fake.next_page(message.page.as_ref()),
        }
    };
    update_mandate(UpdateMandateRequest) -> UpdateMandateResponse
        = |_f, _m| v1::UpdateMandateResponse { mandate: mandate(v1::MandateStatus::Active) };
    update_budget(UpdateBudgetRequest) -> UpdateBudgetResponse
        = |_f, _m| v1::UpdateBudgetResponse { mandate: mandate(v1::MandateStatus::Active) };
    activate_mandate(ActivateMandateRequest) -> ActivateMandateResponse
        = |_f, _m| v1::ActivateMandateResponse { mandate: mandate(v1::MandateStatus::Active) };
    pause_mandate(PauseMandateRequest) -> PauseMandateResponse
        = |_f, _m| v1::PauseMandateResponse { mandate: mandate(v1::MandateStatus::Paused) };
    resume_mandate(ResumeMandateRequest) -> ResumeMandateResponse
        = |_f, _m| v1::ResumeMandateResponse { mandate: mandate(v1::MandateStatus::Active) };
    revoke_mandate(RevokeMandateRequest) -> RevokeMandateResponse
        = |_f, _m| v1::RevokeMandateResponse { mandate: mandate(v1::MandateStatus::Revoked) };
    delete_mandate(DeleteMandateRequest) -> DeleteMandateResponse
        = |_f, _m| v1::DeleteMandateResponse {};
    list_mandate_versions(ListMandateVersionsRequest) -> ListMandateVersionsResponse
        = |_f, _m| v1::ListMandateVersionsResponse::default();
    get_mandate_token(GetMandateTokenRequest) -> GetMandateTokenResponse = |_f, _m| {
        v1::GetMandateTokenResponse {
            token: "a.b.c".into(),
            mandate: mandate(v1::MandateStatus::Active),
            expires_at: time(1_767_003_600),
        }
    };
});

service!(AgentsService {
    register_agent(RegisterAgentRequest) -> RegisterAgentResponse
        = |_f, _m| v1::RegisterAgentResponse { agent: agent(v1::AgentStatus::Active, false) };
    get_agent(GetAgentRequest) -> GetAgentResponse = |_f, message| v1::GetAgentResponse {
        agent: agent(v1::AgentStatus::Active, message.include_mandate),
    };
    list_agents(ListAgentsRequest) -> ListAgentsResponse = |fake, message| {
        let agent = agent(v1::AgentStatus::Active, message.include_mandate);
        v1::ListAgentsResponse {
            agents: agent.into_iter().collect(),
            next_page_token: fake.next_page(message.page.as_ref()),
        }
    };
    update_agent(UpdateAgentRequest) -> UpdateAgentResponse
        = |_f, _m| v1::UpdateAgentResponse { agent: agent(v1::AgentStatus::Active, false) };
    suspend_agent(SuspendAgentRequest) -> SuspendAgentResponse
        = |_f, _m| v1::SuspendAgentResponse { agent: agent(v1::AgentStatus::Suspended, false) };
    resume_agent(ResumeAgentRequest) -> ResumeAgentResponse
        = |_f, _m| v1::ResumeAgentResponse { agent: agent(v1::AgentStatus::Active, false) };
    decommission_agent(DecommissionAgentRequest) -> DecommissionAgentResponse = |_f, _m| {
        let agent = agent(v1::AgentStatus::Decommissioned, false);
        v1::DecommissionAgentResponse { agent }
    };
});

service!(OrganizationService {
    get_organization(GetOrganizationRequest) -> GetOrganizationResponse
        = |_f, _m| v1::GetOrganizationResponse { organization: organization(false) };
    get_caller(GetCallerRequest) -> GetCallerResponse
        = |_f, _m| v1::GetCallerResponse::default();
    update_organization(UpdateOrganizationRequest) -> UpdateOrganizationResponse
        = |_f, _m| v1::UpdateOrganizationResponse { organization: organization(false) };
    freeze_organization(FreezeOrganizationRequest) -> FreezeOrganizationResponse
        = |_f, _m| v1::FreezeOrganizationResponse { organization: organization(true) };
    unfreeze_organization(UnfreezeOrganizationRequest) -> UnfreezeOrganizationResponse
        = |_f, _m| v1::UnfreezeOrganizationResponse { organization: organization(false) };
    create_api_key(CreateApiKeyRequest) -> CreateApiKeyResponse = |_f, _m| {
        v1::CreateApiKeyResponse { api_key: Some(api_key(false)), key: "sk_secret".into() }
    };
    list_api_keys(ListApiKeysRequest) -> ListApiKeysResponse = |_f, _m| {
        v1::ListApiKeysResponse {
            api_keys: vec![api_key(false)],
            next_page_token: String::new(),
        }
    };
    revoke_api_key(RevokeApiKeyRequest) -> RevokeApiKeyResponse
        = |_f, _m| v1::RevokeApiKeyResponse { api_key: Some(api_key(true)) };
});

mod webhooks;
