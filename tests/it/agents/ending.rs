//! Decommissioning: an agent's end, for good, with its mandates and its keys.
//!
//! Not here: suspending and resuming (`agents`).

use quetra::proto::v1::{self, AgentStatus, Decision, MandateStatus, RejectionReason, Role};
use tonic::{Code, Response, Status};

use super::start;
use crate::harness::witness::Refused;
use crate::harness::{Clients, ask, budget, refused};

/// Every spend above 10 waits for a person.
fn approval() -> v1::Rule {
    let rule = v1::ApprovalRule {
        threshold: 10,
        approver_roles: vec![],
        timeout_minutes: 60,
        approvals_required: 1,
    };
    v1::Rule { kind: Some(v1::rule::Kind::Approval(rule)) }
}

impl Clients {
    async fn decommission(
        &mut self,
        agent_id: &str,
    ) -> Result<Response<v1::DecommissionAgentResponse>, Status> {
        let request = v1::DecommissionAgentRequest { agent_id: agent_id.to_owned() };
        self.agents.decommission_agent(request).await
    }

    async fn agent_key(&mut self, agent_id: &str) -> v1::CreateApiKeyResponse {
        let request = v1::CreateApiKeyRequest {
            name: "its key".to_owned(),
            role: Role::Agent.into(),
            agent_id: agent_id.to_owned(),
            ..Default::default()
        };
        self.organization.create_api_key(request).await.unwrap().into_inner()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decommissioned_agent_loses_its_mandates_and_its_keys_at_once() {
    let (server, mut admin) = start().await;
    let (agent, active) = admin.agent_with_mandate(budget(1_000, 100), vec![]).await;
    let paused = admin.mandate(&agent, budget(1_000, 100), vec![]).await;
    let draft = admin.mandate(&agent, budget(1_000, 100), vec![]).await;
    let (active, paused) = (paused, active);
    let pause = v1::PauseMandateRequest { mandate_id: paused.clone() };
    admin.mandates.pause_mandate(pause).await.unwrap();
    let activate = v1::ActivateMandateRequest { mandate_id: active.clone() };
    admin.mandates.activate_mandate(activate).await.unwrap();
    let mut keys = Vec::new();
    for _ in 0..2 {
        let key = admin.agent_key(&agent).await;
        let mut client = server.with_key(&key.key).await;
        assert_eq!(client.spend(ask("", 10)).await.decision(), Decision::Approved);
        keys.push((key.api_key.unwrap().id, client));
    }

    let ended = admin.decommission(&agent).await.unwrap().into_inner().agent.unwrap();
    assert_eq!(ended.status(), AgentStatus::Decommissioned);
    for (_, client) in &mut keys {
        let answer = client.evaluate.evaluate(ask("", 10)).await;
        assert_eq!(refused(answer, "CREDENTIAL_INVALID").code, Code::Unauthenticated);
        let answer = client.organization.get_organization(v1::GetOrganizationRequest {}).await;
        refused(answer, "CREDENTIAL_INVALID");
    }
    let reasons = admin.spend(ask(&agent, 10)).await.reasons;
    let reasons = reasons.iter().map(v1::Reason::reason).collect::<Vec<_>>();
    assert_eq!(reasons, [RejectionReason::AgentNotActive, RejectionReason::MandateRevoked]);
    for (id, status) in [
        (&active, MandateStatus::Revoked),
        (&paused, MandateStatus::Revoked),
        (&draft, MandateStatus::Draft),
    ] {
        let request = v1::GetMandateRequest { mandate_id: id.clone(), version: 0 };
        let found = admin.mandates.get_mandate(request).await.unwrap().into_inner();
        assert_eq!(found.mandate.unwrap().status(), status);
    }
    let listed = admin.organization.list_api_keys(v1::ListApiKeysRequest::default()).await;
    let listed = listed.unwrap().into_inner().api_keys;
    for (id, _) in &keys {
        let key = listed.iter().find(|key| key.id == *id).unwrap();
        assert!(key.revoked_at.is_some());
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_agent_is_final_and_its_record_stays() {
    let (server, mut admin) = start().await;
    let (agent, mandate) = admin.agent_with_mandate(budget(1_000, 100), vec![]).await;
    let spent = admin.spend(ask(&agent, 100)).await;
    let ended = admin.decommission(&agent).await.unwrap().into_inner().agent.unwrap();
    // Again answers the same.
    let again = admin.decommission(&agent).await.unwrap().into_inner().agent.unwrap();
    assert_eq!(again, ended);
    assert_eq!(admin.look_up(&agent).await, ended);
    for answer in [admin.suspend(&agent).await, admin.resume(&agent).await] {
        let answer = refused(answer.map(Response::new), "AGENT_WRONG_STATUS");
        assert_eq!(answer.says("status"), "decommissioned");
    }
    let rename = |request: &mut v1::UpdateAgentRequest| request.name = "new".to_owned();
    let answer = admin.change_agent(&agent, &["name"], rename).await;
    refused(answer, "AGENT_WRONG_STATUS");
    let request = v1::CreateApiKeyRequest {
        name: "too late".to_owned(),
        role: Role::Agent.into(),
        agent_id: agent.clone(),
        ..Default::default()
    };
    refused(admin.organization.create_api_key(request).await, "AGENT_WRONG_STATUS");
    // Its name is not free: the record would name two.
    let request = v1::RegisterAgentRequest { name: ended.name, ..Default::default() };
    refused(admin.agents.register_agent(request).await, "NAME_TAKEN");
    // What it bought can still be settled and refunded.
    let transaction_id = spent.transaction_id;
    let request =
        v1::SettleTransactionRequest { transaction_id: transaction_id.clone(), amount: Some(60) };
    admin.transactions.settle_transaction(request).await.unwrap();
    let request = v1::RefundTransactionRequest { transaction_id, amount: Some(10) };
    let refunded = admin.transactions.refund_transaction(request).await.unwrap().into_inner();
    assert_eq!(refunded.budget.unwrap().spent, 50);
    let request = v1::ListTransactionsRequest { agent_id: agent.clone(), ..Default::default() };
    let listed = admin.transactions.list_transactions(request).await.unwrap().into_inner();
    assert_eq!(listed.transactions.len(), 1);
    let request = v1::GetBudgetRequest { mandate_id: mandate, ..Default::default() };
    let budget = admin.budget.get_budget(request).await.unwrap().into_inner();
    assert_eq!(budget.status(), MandateStatus::Revoked);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_open_holds_cannot_be_ended() {
    let (server, mut admin) = start().await;
    let (agent, _) = admin.agent_with_mandate(budget(1_000, 100), vec![approval()]).await;
    let held = admin.spend(ask(&agent, 50)).await;
    assert_eq!(held.decision(), Decision::PendingApproval);
    let answer = refused(admin.decommission(&agent).await, "OPEN_HOLDS");
    assert_eq!(answer.code, Code::FailedPrecondition);
    assert_eq!(admin.look_up(&agent).await.status(), AgentStatus::Active);
    let request = v1::VoidTransactionRequest { transaction_id: held.transaction_id };
    admin.transactions.void_transaction(request).await.unwrap();
    admin.decommission(&agent).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_works_for_an_agent_that_has_ended_meanwhile() {
    let (server, mut admin) = start().await;
    for round in 0..24 {
        let (agent, _) = admin.agent_with_mandate(budget(1_000, 100), vec![]).await;
        let request = v1::CreateApiKeyRequest {
            name: "late".to_owned(),
            role: Role::Agent.into(),
            agent_id: agent.clone(),
            ..Default::default()
        };
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (mut admin, request) = (admin.clone(), request.clone());
            calls.spawn(async move { admin.organization.create_api_key(request).await });
        }
        admin.decommission(&agent).await.unwrap();
        for made in calls.join_all().await {
            let Ok(made) = made else {
                let late = Refused::of(&made.unwrap_err()).reason;
                assert!(["AGENT_WRONG_STATUS", "CONCURRENT_CHANGE"].contains(&late.as_str()));
                continue;
            };
            let mut client = server.with_key(&made.into_inner().key).await;
            let answer = client.organization.get_organization(v1::GetOrganizationRequest {}).await;
            assert!(answer.is_err(), "a key works for an agent that has ended (round {round})");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_money_is_held_for_an_agent_that_has_ended_meanwhile() {
    const ROUNDS: usize = 24;
    let (server, mut admin) = start().await;
    let mut outcomes = [0, 0];
    for round in 0..ROUNDS {
        let (agent, _) = admin.agent_with_mandate(budget(1_000, 100), vec![approval()]).await;
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..round % 4 + 1 {
            let (mut admin, agent) = (admin.clone(), agent.clone());
            calls.spawn(async move { admin.spend(ask(&agent, 50)).await.decision() });
        }
        let ended = admin.decommission(&agent).await;
        let held = calls.join_all().await;
        let held = held.contains(&Decision::PendingApproval);
        assert!(!(held && ended.is_ok()), "an agent ended with money held (round {round})");
        outcomes[usize::from(held)] += 1;
        match ended {
            Ok(_) => {}
            Err(status) => drop(refused::<()>(Err(status), "OPEN_HOLDS")),
        }
    }
    assert_eq!(outcomes.iter().sum::<usize>(), ROUNDS);
    server.stop().await;
}
