//! Changing a mandate: masks, versions, lost races and repeated calls.
//!
//! Not here: what a lowered or raised limit does to spending (`limits`).

use quetra::proto::v1::{self, Decision, RejectionReason as Why};
use tonic::{Code, Response};

use super::{Step, start, updated};
use crate::harness::{Clients, ask, budget, refused};

fn max_amount(amount: i64) -> v1::Rule {
    v1::Rule { kind: Some(v1::rule::Kind::MaxAmount(v1::MaxAmountRule { amount })) }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_changes_what_its_mask_names_and_nothing_else() {
    let (server, mut admin, _) = start().await;
    let (agent, id) = admin.agent_with_mandate(budget(1_000, 100), vec![max_amount(50)]).await;
    let before = admin.get(&id).await;
    let after = updated(
        admin
            .update(&id, &["description"], |request| {
                request.name = "not this".to_owned();
                request.description = "this".to_owned();
                request.budget = Some(budget(5, 5));
            })
            .await,
    );
    let expected = v1::Mandate {
        description: "this".to_owned(),
        version: 3,
        updated_at: after.updated_at,
        ..before
    };
    assert_eq!(after, expected);
    // Rules are in force for the very next decision.
    assert_eq!(admin.judge(&agent, 60).await, [Why::MaxAmountExceeded]);
    let rules = vec![max_amount(60)];
    updated(admin.update(&id, &["rules"], |request| request.rules = rules).await);
    assert_eq!(admin.judge(&agent, 60).await, []);
    updated(admin.update(&id, &["rules"], |_| {}).await);
    assert_eq!(admin.judge(&agent, 100).await, []);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mask_that_is_empty_or_names_what_cannot_change_is_refused() {
    let (server, mut admin, _) = start().await;
    let (_, id) = admin.agent_with_mandate(budget(1_000, 100), vec![]).await;
    let before = admin.get(&id).await;
    let masks: [&[&str]; 9] = [
        &[],
        &["id"],
        &["agent_id"],
        &["status"],
        &["version"],
        &["policy_hash"],
        &["budget.currency"],
        &["name", "signature"],
        &["*"],
    ];
    for mask in masks {
        let answer = admin
            .update(&id, mask, |request| {
                request.name = "new".to_owned();
                request.budget = Some(budget(1, 1));
            })
            .await;
        assert_eq!(refused(answer, "INVALID_FIELDS").fields, ["update_mask"], "{mask:?}");
    }
    let request = v1::UpdateMandateRequest { mandate_id: id.clone(), ..Default::default() };
    let answer = refused(admin.mandates.update_mandate(request).await, "INVALID_FIELDS");
    assert_eq!(answer.fields, ["update_mask"]);
    assert_eq!(admin.get(&id).await, before);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_currency_of_a_mandate_never_changes() {
    let (server, mut admin, _) = start().await;
    let (_, id) = admin.agent_with_mandate(budget(1_000, 100), vec![]).await;
    let euros = v1::Budget { currency: "EUR".to_owned(), ..budget(1_000, 100) };
    let answer = admin.update(&id, &["budget"], |request| request.budget = Some(euros)).await;
    assert_eq!(refused(answer, "INVALID_FIELDS").fields, ["budget.currency"]);
    assert_eq!(admin.get(&id).await.version, 2);
    let answer = admin.update(&id, &["budget", "valid_from"], |_| {}).await;
    assert_eq!(refused(answer, "INVALID_FIELDS").fields, ["budget", "valid_from"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_based_on_an_old_version_changes_nothing() {
    let (server, mut admin, _) = start().await;
    let (_, id) = admin.agent_with_mandate(budget(1_000, 100), vec![]).await;
    for stale in [1, 3, 99] {
        let answer = admin
            .update(&id, &["name"], |request| {
                request.name = "new".to_owned();
                request.expected_version = stale;
            })
            .await;
        let answer = refused(answer, "VERSION_CONFLICT");
        assert_eq!((answer.code, answer.says("version")), (Code::Aborted, "2"));
        let request = v1::UpdateBudgetRequest {
            mandate_id: id.clone(),
            total: Some(5_000),
            expected_version: stale,
            ..Default::default()
        };
        let answer = refused(admin.mandates.update_budget(request).await, "VERSION_CONFLICT");
        assert_eq!(answer.says("version"), "2");
    }
    let mandate = admin.get(&id).await;
    assert_eq!((mandate.version, mandate.name.as_str()), (2, "a mandate"));
    let answer = admin
        .update(&id, &["name"], |request| {
            request.name = "new".to_owned();
            request.expected_version = 2;
        })
        .await;
    assert_eq!(updated(answer).version, 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_changes_based_on_the_same_version_one_wins() {
    let (server, mut admin, _) = start().await;
    let (_, id) = admin.agent_with_mandate(budget(1_000, 100), vec![]).await;
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (mut admin, id) = (admin.clone(), id.clone());
        calls.spawn(async move {
            let change = |request: &mut v1::UpdateMandateRequest| {
                request.name = format!("name {n}");
                request.expected_version = 2;
            };
            admin.update(&id, &["name"], change).await
        });
    }
    let answers = calls.join_all().await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 7));
    for answer in lost {
        assert_eq!(refused(answer, "VERSION_CONFLICT").says("version"), "3");
    }
    let winner = updated(won.into_iter().next().unwrap());
    assert_eq!(admin.get(&id).await.name, winner.name);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_stays_readable_and_none_is_missing() {
    let (server, mut admin, _) = start().await;
    let (agent, id) = admin.agent_with_mandate(budget(1_000, 100), vec![]).await;
    let mut seen = vec![admin.version(&id, 1).await.unwrap(), admin.get(&id).await];
    for n in 0..6 {
        let name = format!("name {n}");
        seen.push(updated(admin.update(&id, &["name"], |request| request.name = name).await));
        admin.judge(&agent, 1).await;
    }
    seen.push(admin.limit(&id, 2_000).await.unwrap());
    for step in [Step::Pause, Step::Resume, Step::Revoke] {
        seen.push(admin.step(&id, step).await.unwrap());
    }
    for (index, mandate) in seen.iter_mut().enumerate() {
        mandate.budget_status = None;
        let version = i64::try_from(index).unwrap() + 1;
        assert_eq!(mandate.version, version);
        let mut read = admin.version(&id, version).await.unwrap();
        read.budget_status = None;
        assert_eq!(&read, mandate);
    }
    let last = i64::try_from(seen.len()).unwrap();
    refused(admin.version(&id, last + 1).await.map(Response::new), "NOT_FOUND");
    seen.reverse();
    assert_eq!(all_versions(&mut admin, &id, 3).await, seen);
    server.stop().await;
}

async fn all_versions(admin: &mut Clients, id: &str, page_size: i32) -> Vec<v1::Mandate> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = Some(v1::PageRequest { page_size, page_token });
        let request = v1::ListMandateVersionsRequest { mandate_id: id.to_owned(), page };
        let listed = admin.mandates.list_mandate_versions(request).await.unwrap().into_inner();
        assert!(listed.versions.len() <= usize::try_from(page_size).unwrap());
        found.extend(listed.versions);
        page_token = listed.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_creation_makes_one_mandate() {
    let (server, mut admin, _) = start().await;
    let agent_id = admin.agent_named("repeated").await;
    let request = v1::CreateMandateRequest {
        agent_id: agent_id.clone(),
        name: "once".to_owned(),
        budget: Some(budget(1_000, 100)),
        idempotency_key: "create-once".to_owned(),
        ..Default::default()
    };
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (mut admin, request) = (admin.clone(), request.clone());
        calls.spawn(async move { admin.mandates.create_mandate(request).await });
    }
    let answers = calls.join_all().await;
    let answers = answers.into_iter().map(|answer| answer.unwrap().into_inner().mandate.unwrap());
    let answers = answers.collect::<Vec<_>>();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let mut other = request.clone();
    other.name = "twice".to_owned();
    let reused = refused(admin.mandates.create_mandate(other).await, "IDEMPOTENCY_KEY_REUSED");
    assert_eq!(reused.code, Code::AlreadyExists);
    // Nor can another RPC use the key.
    let register = v1::RegisterAgentRequest {
        name: "not made".to_owned(),
        idempotency_key: "create-once".to_owned(),
        ..Default::default()
    };
    refused(admin.agents.register_agent(register).await, "IDEMPOTENCY_KEY_REUSED");
    let request = v1::ListMandatesRequest { agent_id, ..Default::default() };
    let listed = admin.mandates.list_mandates(request).await.unwrap().into_inner();
    assert_eq!(listed.mandates, [answers[0].clone()]);
    let agents = admin.agents.list_agents(v1::ListAgentsRequest::default()).await.unwrap();
    assert!(agents.into_inner().agents.iter().all(|agent| agent.name != "not made"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_change_makes_one_version() {
    let (server, mut admin, _) = start().await;
    let (_, id) = admin.agent_with_mandate(budget(1_000, 100), vec![]).await;
    let change = |request: &mut v1::UpdateMandateRequest| {
        request.name = "changed".to_owned();
        request.expected_version = 2;
        request.idempotency_key = "update-once".to_owned();
    };
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (mut admin, id) = (admin.clone(), id.clone());
        calls.spawn(async move { admin.update(&id, &["name"], change).await });
    }
    for answer in calls.join_all().await {
        assert_eq!(updated(answer).version, 3);
    }
    // Also after the mandate has gone on.
    admin.limit(&id, 3_000).await.unwrap();
    let again = updated(admin.update(&id, &["name"], change).await);
    assert_eq!((again.version, again.budget.unwrap().total), (3, 1_000));
    let other = admin.update(&id, &["description"], change).await;
    refused(other, "IDEMPOTENCY_KEY_REUSED");
    let mut request = v1::UpdateBudgetRequest {
        mandate_id: id.clone(),
        total: Some(4_000),
        idempotency_key: "update-once".to_owned(),
        ..Default::default()
    };
    let other = admin.mandates.update_budget(request.clone()).await;
    refused(other, "IDEMPOTENCY_KEY_REUSED");
    request.idempotency_key = "raise-once".to_owned();
    for _ in 0..2 {
        let raised = admin.mandates.update_budget(request.clone()).await.unwrap().into_inner();
        assert_eq!(raised.mandate.unwrap().version, 5);
    }
    let mandate = admin.get(&id).await;
    assert_eq!((mandate.version, mandate.budget.unwrap().total), (5, 4_000));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_change_leaves_its_idempotency_key_free() {
    let (server, mut admin, _) = start().await;
    let (_, id) = admin.agent_with_mandate(budget(1_000, 100), vec![]).await;
    let mut request = v1::UpdateBudgetRequest {
        mandate_id: id.clone(),
        per_transaction: Some(2_000),
        idempotency_key: "raise-it".to_owned(),
        ..Default::default()
    };
    refused(admin.mandates.update_budget(request.clone()).await, "INVALID_FIELDS");
    request.total = Some(2_000);
    let raised = admin.mandates.update_budget(request).await.unwrap().into_inner();
    assert_eq!(raised.mandate.unwrap().version, 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_names_the_version_that_judged() {
    let (server, mut admin, _) = start().await;
    let (agent, id) = admin.agent_with_mandate(budget(1_000, 100), vec![max_amount(50)]).await;
    let first = admin.spend(ask(&agent, 60)).await;
    assert_eq!((first.decision(), first.mandate_version), (Decision::Rejected, 2));
    updated(admin.update(&id, &["rules"], |_| {}).await);
    let second = admin.spend(ask(&agent, 60)).await;
    assert_eq!((second.decision(), second.mandate_version), (Decision::Approved, 3));
    // The record still says what the old rules said.
    let (transaction_id, wait_seconds) = (first.transaction_id, 0);
    let request = v1::GetTransactionRequest { transaction_id, wait_seconds };
    let found = admin.transactions.get_transaction(request).await.unwrap().into_inner();
    let found = found.transaction.unwrap();
    assert_eq!((found.mandate_version, found.rule_results), (2, first.rule_results));
    server.stop().await;
}
