//! `ApprovalsService`: what waits for a person, who may answer, and what an answer cannot override.
//!
//! `approvals/holds.rs` has the end of time and settlements beyond it, `races.rs` everything at
//! once. Not here: settling, voiding and refunding as such (`transactions`).

mod holds;
mod races;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use quetra::clock::{Clock, ManualClock};
use quetra::proto::v1::{self, Decision, TransactionState as State};
use tonic::{Code, Response, Status};

use crate::harness::{Clients, Engine, FAST, STRICT, Server, ask, budget, on_all, refused, unique};

on_all! {
    a_person_approves_and_the_agent_learns_of_it;
    a_denial_gives_the_money_back_and_says_why;
    an_approval_in_time_counts_and_a_late_one_is_refused;
    nothing_that_stands_is_overridden;
    it_takes_as_many_as_the_mandate_asks_for;
}

/// A server on an engine, by a clock that the test moves.
async fn start(engine: Engine) -> (Server, Clients, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Timestamp::now()));
    let server = Server::on_with(engine, |_| {}, clock.clone()).await;
    let admin = server.admin().await;
    (server, admin, clock)
}

fn rule(approvals_required: i32, approvers: &[&str]) -> v1::Rule {
    let rule = v1::ApprovalRule {
        threshold: 10_000,
        approver_roles: approvers.iter().map(|text| (*text).to_owned()).collect(),
        timeout_minutes: 60,
        approvals_required,
    };
    v1::Rule { kind: Some(v1::rule::Kind::Approval(rule)) }
}

/// An agent that must ask above $100, and a key of its own.
async fn spender(server: &Server, admin: &mut Clients, rule: v1::Rule) -> (String, Clients) {
    let (agent_id, _) = admin.agent_with_mandate(budget(100_000, 50_000), vec![rule]).await;
    let (_, key) = key(admin, v1::Role::Agent, &agent_id).await;
    let agent = server.with_key(&key).await;
    (agent_id, agent)
}

async fn key(admin: &mut Clients, role: v1::Role, agent_id: &str) -> (String, String) {
    let request = v1::CreateApiKeyRequest {
        name: format!("key {}", unique()),
        role: role.into(),
        agent_id: agent_id.to_owned(),
        ..Default::default()
    };
    let made = admin.organization.create_api_key(request).await.unwrap().into_inner();
    (made.api_key.unwrap().id, made.key)
}

/// Short names for the calls of these tests.
impl Clients {
    async fn approve(
        &mut self,
        id: &str,
    ) -> Result<Response<v1::ApproveTransactionResponse>, Status> {
        let request = v1::ApproveTransactionRequest {
            transaction_id: id.to_owned(),
            comment: "as agreed".to_owned(),
            ..Default::default()
        };
        self.approvals.approve_transaction(request).await
    }

    async fn deny(&mut self, id: &str) -> Result<Response<v1::DenyTransactionResponse>, Status> {
        let request = v1::DenyTransactionRequest {
            transaction_id: id.to_owned(),
            comment: "too dear".to_owned(),
            ..Default::default()
        };
        self.approvals.deny_transaction(request).await
    }

    async fn approval(&mut self, id: &str) -> v1::Approval {
        let request = v1::GetApprovalRequest { transaction_id: id.to_owned() };
        self.approvals.get_approval(request).await.unwrap().into_inner().approval.unwrap()
    }

    async fn now(&mut self, id: &str) -> v1::Transaction {
        self.after(id, 0).await
    }

    async fn after(&mut self, id: &str, wait_seconds: i32) -> v1::Transaction {
        let request = v1::GetTransactionRequest { transaction_id: id.to_owned(), wait_seconds };
        let found = self.transactions.get_transaction(request).await.unwrap().into_inner();
        found.transaction.unwrap()
    }

    /// Spent and held of an agent's budget.
    pub(crate) async fn committed(&mut self, agent_id: &str) -> (i64, i64) {
        let request = v1::GetBudgetRequest { agent_id: agent_id.to_owned(), ..Default::default() };
        let status = self.budget.get_budget(request).await.unwrap().into_inner().budget.unwrap();
        (status.spent, status.held)
    }
}

async fn a_person_approves_and_the_agent_learns_of_it(engine: Engine) {
    let (server, mut admin, _) = start(engine).await;
    let (agent_id, mut agent) = spender(&server, &mut admin, rule(1, &[])).await;
    let mut request = ask(&agent_id, 25_000);
    request.vendor = "https://Firecrawl.dev/pricing".to_owned();
    request.description = "a crawl of the catalogue".to_owned();
    let asked = agent.spend(request.clone()).await;
    assert_eq!(asked.decision(), Decision::PendingApproval);
    assert_eq!(asked.state(), State::PendingApproval);
    assert!(asked.expires_at.is_some());
    let id = asked.transaction_id.clone();

    let listed = admin.approvals.list_approvals(v1::ListApprovalsRequest::default()).await;
    let listed = listed.unwrap().into_inner().approvals;
    let shown = admin.approval(&id).await;
    assert_eq!(listed, std::slice::from_ref(&shown));
    let transaction = shown.transaction.unwrap();
    assert_eq!((transaction.amount, transaction.currency.as_str()), (25_000, "USD"));
    assert_eq!(transaction.vendor, "https://Firecrawl.dev/pricing");
    assert_eq!(transaction.vendor_canonical, "firecrawl.dev");
    assert_eq!(transaction.description, "a crawl of the catalogue");
    assert_eq!((shown.threshold, shown.approvals_required), (10_000, 1));
    assert!(shown.may_answer && shown.grants.is_empty() && !shown.agent_name.is_empty());
    let after = shown.budget_after.unwrap();
    assert_eq!((after.spent, after.held, after.remaining), (25_000, 0, 75_000));
    assert_eq!(admin.committed(&agent_id).await, (0, 25_000));

    // The agent waits while the person decides.
    let mut waiting = agent.clone();
    let waited = tokio::spawn({
        let id = id.clone();
        async move { waiting.after(&id, 9).await }
    });
    let wrong = v1::ApproveTransactionRequest {
        transaction_id: id.clone(),
        request_hash: "00".repeat(16),
        ..Default::default()
    };
    let answer = refused(admin.approvals.approve_transaction(wrong).await, "REQUEST_MISMATCH");
    assert_eq!(answer.code, Code::FailedPrecondition);
    let right = v1::ApproveTransactionRequest {
        transaction_id: id.clone(),
        comment: "as agreed".to_owned(),
        request_hash: shown.request_hash,
    };
    let approved = admin.approvals.approve_transaction(right).await.unwrap().into_inner();
    let approved = approved.approval.unwrap();
    assert_eq!(approved.transaction.as_ref().unwrap().state(), State::Approved);
    assert_eq!(approved.grants.len(), 1);
    assert_eq!(approved.grants[0].comment, "as agreed");
    assert_eq!(waited.await.unwrap().state(), State::Approved);
    assert_eq!(admin.committed(&agent_id).await, (25_000, 0));

    // The same key again tells what became of it; once approved is enough.
    let again = agent.spend(request).await;
    assert!(again.replayed);
    assert_eq!((again.decision(), again.state()), (Decision::PendingApproval, State::Approved));
    let repeated = admin.approve(&id).await.unwrap().into_inner().approval.unwrap();
    assert_eq!(repeated.grants, approved.grants);
    let settle = v1::SettleTransactionRequest { transaction_id: id.clone(), amount: Some(23_140) };
    let settled = agent.transactions.settle_transaction(settle).await.unwrap().into_inner();
    assert_eq!(settled.transaction.unwrap().state(), State::Settled);
    assert_eq!(admin.committed(&agent_id).await, (23_140, 0));
    server.stop().await;
}

async fn a_denial_gives_the_money_back_and_says_why(engine: Engine) {
    let (server, mut admin, _) = start(engine).await;
    let (agent_id, mut agent) = spender(&server, &mut admin, rule(1, &[])).await;
    let id = agent.spend(ask(&agent_id, 25_000)).await.transaction_id;
    let denied = admin.deny(&id).await.unwrap().into_inner().approval.unwrap();
    assert_eq!(denied.denial.unwrap().comment, "too dear");
    assert_eq!(admin.committed(&agent_id).await, (0, 0));
    let seen = agent.now(&id).await;
    assert_eq!((seen.state(), seen.denial_comment.as_str()), (State::Denied, "too dear"));
    assert_eq!(admin.deny(&id).await.unwrap().into_inner().approval.unwrap().grants, []);
    let answer = refused(admin.approve(&id).await, "TRANSACTION_WRONG_STATE");
    assert_eq!(answer.says("state"), "denied");
    let settle = v1::SettleTransactionRequest { transaction_id: id.clone(), amount: Some(1) };
    let settled = agent.transactions.settle_transaction(settle).await;
    assert_eq!(refused(settled, "TRANSACTION_WRONG_STATE").says("state"), "denied");
    // Withdrawn is another outcome than voided.
    let id = agent.spend(ask(&agent_id, 25_000)).await.transaction_id;
    let void = v1::VoidTransactionRequest { transaction_id: id.clone() };
    agent.transactions.void_transaction(void).await.unwrap();
    assert_eq!(agent.now(&id).await.state(), State::Withdrawn);
    let answer = refused(admin.approve(&id).await, "TRANSACTION_WRONG_STATE");
    assert_eq!(answer.says("state"), "withdrawn");
    assert_eq!(admin.committed(&agent_id).await, (0, 0));
    server.stop().await;
}

async fn an_approval_in_time_counts_and_a_late_one_is_refused(engine: Engine) {
    let (server, mut admin, clock) = start(engine).await;
    let (agent_id, mut agent) = spender(&server, &mut admin, rule(1, &[])).await;
    let first = agent.spend(ask(&agent_id, 25_000)).await.transaction_id;
    let second = agent.spend(ask(&agent_id, 25_000)).await.transaction_id;
    let begun = clock.now();
    clock.set(begun + SignedDuration::from_mins(60) - SignedDuration::from_millis(1));
    admin.approve(&first).await.unwrap();
    clock.set(begun + SignedDuration::from_mins(60));
    // Whether or not anybody has written it down yet.
    for answer in [
        refused(admin.approve(&second).await, "TRANSACTION_WRONG_STATE"),
        refused(admin.deny(&second).await, "TRANSACTION_WRONG_STATE"),
    ] {
        assert_eq!(answer.says("state"), "timeout");
    }
    assert_eq!(agent.after(&second, 9).await.state(), State::Timeout);
    assert_eq!(admin.committed(&agent_id).await, (25_000, 0));
    let waits =
        v1::ListApprovalsRequest { state: State::PendingApproval.into(), ..Default::default() };
    let waits = admin.approvals.list_approvals(waits).await.unwrap().into_inner().approvals;
    assert_eq!(waits, []);
    server.stop().await;
}

/// What stands against an approval, by the words of `RejectionReason`.
async fn stands(admin: &mut Clients, id: &str, reason: &str) {
    let answer = refused(admin.approve(id).await, "STANDING_LIMIT");
    assert_eq!((answer.code, answer.says("reason")), (Code::FailedPrecondition, reason));
    assert_eq!(admin.now(id).await.state(), State::PendingApproval);
}

async fn nothing_that_stands_is_overridden(engine: Engine) {
    let (server, mut admin, _) = start(engine).await;
    let limits = budget(100_000, 50_000);
    let (agent_id, mandate_id) = admin.agent_with_mandate(limits, vec![rule(1, &[])]).await;
    let id = admin.spend(ask(&agent_id, 25_000)).await.transaction_id;
    let (_, text) = key(&mut admin, v1::Role::Admin, "").await;
    let mut other = server.with_key(&text).await;
    let org = &mut admin.organization.clone();
    org.freeze_organization(v1::FreezeOrganizationRequest {}).await.unwrap();
    stands(&mut other, &id, "ORGANIZATION_FROZEN").await;
    org.unfreeze_organization(v1::UnfreezeOrganizationRequest {}).await.unwrap();
    let suspend = v1::SuspendAgentRequest { agent_id: agent_id.clone() };
    admin.agents.suspend_agent(suspend).await.unwrap();
    stands(&mut other, &id, "AGENT_NOT_ACTIVE").await;
    let resume = v1::ResumeAgentRequest { agent_id: agent_id.clone() };
    admin.agents.resume_agent(resume).await.unwrap();
    let pause = v1::PauseMandateRequest { mandate_id: mandate_id.clone() };
    admin.mandates.pause_mandate(pause).await.unwrap();
    stands(&mut other, &id, "MANDATE_PAUSED").await;
    let resume = v1::ResumeMandateRequest { mandate_id: mandate_id.clone() };
    admin.mandates.resume_mandate(resume).await.unwrap();
    for (total, ceiling, reason) in
        [(24_999, 24_999, "BUDGET_PER_TX_EXCEEDED"), (30_000, 24_999, "BUDGET_PER_TX_EXCEEDED")]
    {
        let lower = v1::UpdateBudgetRequest {
            mandate_id: mandate_id.clone(),
            total: Some(total),
            per_transaction: Some(ceiling),
            ..Default::default()
        };
        admin.mandates.update_budget(lower).await.unwrap();
        stands(&mut other, &id, reason).await;
    }
    // With another spend on top, the lowered total has no room for both.
    let raise = v1::UpdateBudgetRequest {
        mandate_id: mandate_id.clone(),
        total: Some(100_000),
        per_transaction: Some(50_000),
        ..Default::default()
    };
    admin.mandates.update_budget(raise).await.unwrap();
    let first = admin.spend(ask(&agent_id, 9_000)).await;
    assert_eq!(first.decision(), Decision::Approved);
    let lower = |total| v1::UpdateBudgetRequest {
        mandate_id: mandate_id.clone(),
        total: Some(total),
        per_transaction: Some(25_000),
        ..Default::default()
    };
    admin.mandates.update_budget(lower(33_999)).await.unwrap();
    stands(&mut other, &id, "BUDGET_EXHAUSTED").await;
    admin.mandates.update_budget(lower(34_000)).await.unwrap();
    other.approve(&id).await.unwrap();
    assert_eq!(admin.committed(&agent_id).await, (34_000, 0));
    // What was revoked stays so.
    admin.mandates.update_budget(lower(90_000)).await.unwrap();
    let last = admin.spend(ask(&agent_id, 20_000)).await.transaction_id;
    let revoke = v1::RevokeMandateRequest { mandate_id, ..Default::default() };
    admin.mandates.revoke_mandate(revoke).await.unwrap();
    stands(&mut other, &last, "MANDATE_REVOKED").await;
    other.deny(&last).await.unwrap();
    server.stop().await;
}

async fn it_takes_as_many_as_the_mandate_asks_for(engine: Engine) {
    let (server, mut admin, _) = start(engine).await;
    let (named, text) = key(&mut admin, v1::Role::Admin, "").await;
    let mut person = server.with_key(&text).await;
    let (other, text) = key(&mut admin, v1::Role::Admin, "").await;
    let mut second = server.with_key(&text).await;
    let (_, text) = key(&mut admin, v1::Role::Admin, "").await;
    let mut stranger = server.with_key(&text).await;
    let (_, text) = key(&mut admin, v1::Role::Reader, "").await;
    let mut reader = server.with_key(&text).await;
    let (asking, asker) = key(&mut admin, v1::Role::Admin, "").await;
    let (agent_id, mut agent) =
        spender(&server, &mut admin, rule(3, &[&named, &other, &asking])).await;
    // Who asked cannot answer, even if the mandate names it.
    let mut asker = server.with_key(&asker).await;
    let id = asker.spend(ask(&agent_id, 25_000)).await.transaction_id;
    let answer = refused(asker.approve(&id).await, "OWN_REQUEST");
    assert_eq!(answer.code, Code::PermissionDenied);
    refused(asker.deny(&id).await, "OWN_REQUEST");
    assert!(!asker.approval(&id).await.may_answer);
    let answer = refused(stranger.approve(&id).await, "NOT_AN_APPROVER");
    assert_eq!(answer.code, Code::PermissionDenied);
    refused(stranger.deny(&id).await, "NOT_AN_APPROVER");
    // An agent's key never, not even for its own agent; and a reader changes nothing.
    for (wrong, role) in [(&mut agent, "agent"), (&mut reader, "reader")] {
        let answer = refused(wrong.approve(&id).await, "ROLE_NOT_ALLOWED");
        assert_eq!((answer.code, answer.says("role")), (Code::PermissionDenied, role));
        refused(wrong.deny(&id).await, "ROLE_NOT_ALLOWED");
    }
    assert!(!reader.approval(&id).await.may_answer);
    // One credential counts once.
    let id = agent.spend(ask(&agent_id, 25_000)).await.transaction_id;
    for _ in 0..2 {
        let part = person.approve(&id).await.unwrap().into_inner().approval.unwrap();
        assert_eq!(part.transaction.unwrap().state(), State::PendingApproval);
        assert_eq!((part.grants.len(), part.approvals_required), (1, 3));
        assert_eq!(part.grants[0].api_key_id, named);
    }
    second.approve(&id).await.unwrap();
    assert_eq!(admin.committed(&agent_id).await, (0, 50_000));
    let whole = asker.approve(&id).await.unwrap().into_inner().approval.unwrap();
    assert_eq!(whole.transaction.unwrap().state(), State::Approved);
    assert_eq!(admin.committed(&agent_id).await, (25_000, 25_000));
    refused(stranger.approve(&id).await, "NOT_AN_APPROVER");
    // One denial is enough, even after an approval.
    let id = agent.spend(ask(&agent_id, 25_000)).await.transaction_id;
    person.approve(&id).await.unwrap();
    second.deny(&id).await.unwrap();
    assert_eq!(agent.now(&id).await.state(), State::Denied);
    assert_eq!(admin.committed(&agent_id).await, (25_000, 25_000));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_comes_first_and_pages_go_on_behind_it() {
    let (server, mut admin, _) = start(Engine::Sqlite).await;
    let (agent_id, mut agent) = spender(&server, &mut admin, rule(1, &[])).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(agent.spend(ask(&agent_id, 10_001)).await.transaction_id);
    }
    agent.spend(ask(&agent_id, 100)).await;
    admin.approve(&ids[4]).await.unwrap();
    admin.deny(&ids[1]).await.unwrap();
    let expected = [3, 2, 0, 4, 1].map(|place| ids[place].clone());
    let mut seen = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListApprovalsRequest {
            page: Some(v1::PageRequest { page_size: 2, page_token: page_token.clone() }),
            agent_id: agent_id.clone(),
            ..Default::default()
        };
        let page = admin.approvals.list_approvals(request).await.unwrap().into_inner();
        seen.extend(page.approvals.into_iter().map(|found| found.transaction.unwrap().id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, expected);
    let denied = v1::ListApprovalsRequest { state: State::Denied.into(), ..Default::default() };
    let denied = admin.approvals.list_approvals(denied).await.unwrap().into_inner().approvals;
    assert_eq!(denied.len(), 1);
    assert_eq!(denied[0].transaction.as_ref().unwrap().id, ids[1]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mandate_can_only_name_who_could_answer() {
    let (server, mut admin, _) = start(Engine::Sqlite).await;
    let draft = |rule: v1::Rule| v1::CreateMandateRequest {
        agent_id: server.agent_id(),
        name: "a mandate".to_owned(),
        budget: Some(budget(100_000, 50_000)),
        rules: vec![rule],
        ..Default::default()
    };
    let known = "key_0123456789abcdef0123456789abcdef";
    for (rule, field) in [
        (rule(1, &["finance"]), "rules[0].approval.approver_roles[0]"),
        (rule(1, &["admin", "reader"]), "rules[0].approval.approver_roles[1]"),
        (rule(2, &[known]), "rules[0].approval.approvals_required"),
        (rule(17, &[]), "rules[0].approval.approvals_required"),
        (rule(-1, &[]), "rules[0].approval.approvals_required"),
    ] {
        let answer = refused(admin.mandates.create_mandate(draft(rule)).await, "INVALID_FIELDS");
        assert_eq!(answer.fields, [field]);
    }
    // Whoever is named has to be able to approve.
    let (reader, _) = key(&mut admin, v1::Role::Reader, "").await;
    let (gone, _) = key(&mut admin, v1::Role::Admin, "").await;
    let revoke = v1::RevokeApiKeyRequest { api_key_id: gone.clone() };
    admin.organization.revoke_api_key(revoke).await.unwrap();
    for id in [known, &reader, &gone] {
        let made = admin.mandates.create_mandate(draft(rule(2, &["admin", id]))).await;
        let answer = refused(made, "INVALID_FIELDS");
        assert_eq!(answer.fields, ["rules[0].approval.approver_roles[1]"], "{id}");
    }
    let (good, _) = key(&mut admin, v1::Role::Admin, "").await;
    admin.mandates.create_mandate(draft(rule(2, &["admin", &good]))).await.unwrap();
    server.stop().await;
}
