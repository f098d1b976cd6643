//! Draft, active, paused, revoked, expired: which step leads where, and what each lets be spent.
//!
//! Not here: changes of the policy (`change`, `limits`).

use jiff::SignedDuration;
use quetra::proto::v1::{self, MandateStatus as Status, RejectionReason as Why};

use super::{Step, at, message, stand, start};
use crate::harness::{Clients, Server, ask, budget, refused};

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_has_no_effect_until_it_is_activated() {
    let (server, mut admin, _) = start().await;
    let agent = admin.agent_named("drafted").await;
    assert_eq!(admin.judge(&agent, 10).await, [Why::NoActiveMandate]);
    let id = admin.mandate(&agent, budget(1_000, 100), vec![]).await;
    assert_eq!(stand(&admin.get(&id).await), (Status::Draft, 1));
    assert_eq!(admin.judge(&agent, 10).await, [Why::NoActiveMandate]);
    // Not even when it is named.
    let mut named = ask(&agent, 10);
    named.mandate_id = id.clone();
    let answer = admin.spend(named).await;
    assert_eq!(answer.reasons[0].reason(), Why::NoActiveMandate);
    let request = v1::GetBudgetRequest { agent_id: agent.clone(), ..Default::default() };
    refused(admin.budget.get_budget(request).await, "NOT_FOUND");
    let request = v1::GetMandateTokenRequest { agent_id: agent.clone() };
    refused(admin.mandates.get_mandate_token(request).await, "NOT_FOUND");

    let active = admin.step(&id, Step::Activate).await.unwrap();
    assert_eq!(stand(&active), (Status::Active, 2));
    assert_eq!(active, admin.get(&id).await);
    assert_eq!(admin.judge(&agent, 10).await, []);
    // Again answers the same and writes nothing.
    let again = admin.step(&id, Step::Activate).await.unwrap();
    assert_eq!(stand(&again), (Status::Active, 2));
    assert_eq!(again.updated_at, active.updated_at);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_has_one_active_mandate_and_the_conflict_names_it() {
    let (server, mut admin, _) = start().await;
    let (agent, first) = admin.agent_with_mandate(budget(1_000, 100), vec![]).await;
    let second = admin.mandate(&agent, budget(2_000, 200), vec![]).await;
    let conflict = admin.step(&second, Step::Activate).await;
    let conflict = refused(conflict.map(tonic::Response::new), "ACTIVE_MANDATE_EXISTS");
    assert_eq!(conflict.says("mandate_id"), first);
    assert_eq!(stand(&admin.get(&second).await), (Status::Draft, 1));
    // A paused one leaves room, and then cannot come back.
    admin.step(&first, Step::Pause).await.unwrap();
    admin.step(&second, Step::Activate).await.unwrap();
    assert_eq!(admin.judge(&agent, 150).await, []);
    let conflict = admin.step(&first, Step::Resume).await;
    let conflict = refused(conflict.map(tonic::Response::new), "ACTIVE_MANDATE_EXISTS");
    assert_eq!(conflict.says("mandate_id"), second);
    // A revoked one leaves room as well.
    admin.step(&second, Step::Revoke).await.unwrap();
    admin.step(&first, Step::Resume).await.unwrap();
    assert_eq!(admin.judge(&agent, 100).await, []);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_activations_at_once_one_wins() {
    let (server, mut admin, _) = start().await;
    let agent = admin.agent_named("contested").await;
    let mut drafts = Vec::new();
    for _ in 0..8 {
        drafts.push(admin.mandate(&agent, budget(1_000, 100), vec![]).await);
    }
    let mut calls = tokio::task::JoinSet::new();
    for id in drafts.clone() {
        let mut admin = admin.clone();
        calls.spawn(async move { admin.step(&id, Step::Activate).await });
    }
    let answers = calls.join_all().await;
    let won = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(won, 1, "{answers:?}");
    let mut active = 0;
    for id in &drafts {
        let mandate = admin.get(id).await;
        active += usize::from(mandate.status() == Status::Active);
    }
    assert_eq!(active, 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_mandate_approves_nothing_and_a_resumed_one_goes_on_where_it_was() {
    let (server, mut admin, _) = start().await;
    let (agent, id) = admin.agent_with_mandate(budget(1_000, 600), vec![]).await;
    assert_eq!(admin.judge(&agent, 600).await, []);
    assert_eq!(stand(&admin.step(&id, Step::Pause).await.unwrap()), (Status::Paused, 3));
    assert_eq!(admin.judge(&agent, 10).await, [Why::MandatePaused]);
    assert_eq!(stand(&admin.step(&id, Step::Pause).await.unwrap()), (Status::Paused, 3));
    assert_eq!(stand(&admin.step(&id, Step::Resume).await.unwrap()), (Status::Active, 4));
    assert_eq!(stand(&admin.step(&id, Step::Resume).await.unwrap()), (Status::Active, 4));
    assert_eq!(admin.judge(&agent, 600).await, [Why::BudgetExhausted]);
    assert_eq!(admin.judge(&agent, 400).await, []);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_mandate_stays_as_it_is() {
    let (server, mut admin, clock) = start().await;
    let (agent, id) = admin.agent_with_mandate(budget(1_000, 100), vec![]).await;
    let revoked = admin.step(&id, Step::Revoke).await.unwrap();
    assert_eq!(stand(&revoked), (Status::Revoked, 3));
    assert_eq!(revoked.revocation_reason, "no longer needed");
    assert_eq!(admin.judge(&agent, 10).await, [Why::MandateRevoked]);
    clock.set(at("2026-05-05T12:00:00Z"));
    // A second time answers the same, whatever reason it gives.
    let request = v1::RevokeMandateRequest { mandate_id: id.clone(), reason: "another".to_owned() };
    let again = admin.mandates.revoke_mandate(request).await.unwrap().into_inner();
    assert_eq!(again.mandate.unwrap(), revoked);
    for step in [Step::Activate, Step::Pause, Step::Resume] {
        let wrong = admin.step(&id, step).await.map(tonic::Response::new);
        assert_eq!(refused(wrong, "MANDATE_WRONG_STATUS").says("status"), "revoked");
    }
    let edit = admin.update(&id, &["name"], |request| request.name = "new".to_owned()).await;
    let edit = refused(edit, "MANDATE_WRONG_STATUS");
    assert_eq!((edit.says("status"), edit.says("wanted")), ("revoked", "changed"));
    refused(admin.limit(&id, 5_000).await.map(tonic::Response::new), "MANDATE_WRONG_STATUS");
    let delete = v1::DeleteMandateRequest { mandate_id: id.clone() };
    refused(admin.mandates.delete_mandate(delete).await, "MANDATE_WRONG_STATUS");
    assert_eq!(admin.get(&id).await, revoked);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_status_allows_exactly_its_steps() {
    use Step::{Activate, Pause, Resume, Revoke};
    let (server, mut admin, _) = start().await;
    let ways: [(&[Step], &str, &[Step]); 4] = [
        (&[], "draft", &[Pause, Resume, Revoke]),
        (&[Activate], "active", &[]),
        (&[Activate, Pause], "paused", &[Activate]),
        (&[Activate, Revoke], "revoked", &[Activate, Pause, Resume]),
    ];
    for (way, word, wrong) in ways {
        for step in wrong {
            let agent = admin.agent_named(&format!("{word} {step:?}")).await;
            let id = admin.mandate(&agent, budget(1_000, 100), vec![]).await;
            for step in way {
                admin.step(&id, *step).await.unwrap();
            }
            let before = admin.get(&id).await;
            let answer = admin.step(&id, *step).await.map(tonic::Response::new);
            let answer = refused(answer, "MANDATE_WRONG_STATUS");
            assert_eq!(answer.says("status"), word, "{step:?}");
            assert_eq!(admin.get(&id).await, before, "{word} {step:?}");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_draft_can_be_deleted_and_it_is_gone_then() {
    let (server, mut admin, _) = start().await;
    let (agent, active) = admin.agent_with_mandate(budget(1_000, 100), vec![]).await;
    let draft = admin.mandate(&agent, budget(1_000, 100), vec![]).await;
    super::updated(admin.update(&draft, &["name"], |r| r.name = "two".to_owned()).await);
    let delete = |id: &str| v1::DeleteMandateRequest { mandate_id: id.to_owned() };
    let wrong = admin.mandates.delete_mandate(delete(&active)).await;
    assert_eq!(refused(wrong, "MANDATE_WRONG_STATUS").says("status"), "active");
    admin.mandates.delete_mandate(delete(&draft)).await.unwrap();
    refused(admin.mandates.delete_mandate(delete(&draft)).await, "NOT_FOUND");
    for version in 0..3 {
        let gone = admin.version(&draft, version).await.map(tonic::Response::new);
        refused(gone, "NOT_FOUND");
    }
    refused(admin.step(&draft, Step::Activate).await.map(tonic::Response::new), "NOT_FOUND");
    let request = v1::ListMandateVersionsRequest { mandate_id: draft.clone(), page: None };
    refused(admin.mandates.list_mandate_versions(request).await, "NOT_FOUND");
    assert_eq!(admin.judge(&agent, 10).await, []);
    server.stop().await;
}

/// An agent with an active mandate that is valid for these times; the ids of both.
async fn valid(admin: &mut Clients, name: &str, from: &str, until: &str) -> (String, String) {
    let agent_id = admin.agent_named(name).await;
    let time = |text: &str| (!text.is_empty()).then(|| message(at(text)));
    let request = v1::CreateMandateRequest {
        agent_id: agent_id.clone(),
        name: "for a while".to_owned(),
        budget: Some(budget(1_000, 100)),
        valid_from: time(from),
        valid_until: time(until),
        ..Default::default()
    };
    let made = admin.mandates.create_mandate(request).await.unwrap().into_inner();
    let id = made.mandate.unwrap().id;
    admin.step(&id, Step::Activate).await.unwrap();
    (agent_id, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_end_of_its_validity_a_mandate_expires_by_itself() {
    let (server, mut admin, clock) = start().await;
    let end = at("2026-05-04T13:00:00Z");
    let (agent, id) = valid(&mut admin, "brief", "", "2026-05-04T13:00:00Z").await;
    let successor = admin.mandate(&agent, budget(2_000, 200), vec![]).await;
    clock.set(end - SignedDuration::from_micros(1));
    assert_eq!(admin.judge(&agent, 10).await, []);
    assert_eq!(stand(&admin.get(&id).await), (Status::Active, 2));
    clock.set(end);
    assert_eq!(admin.judge(&agent, 10).await, [Why::MandateExpired]);
    assert_eq!(stand(&admin.get(&id).await), (Status::Expired, 2));
    let request = v1::GetBudgetRequest { mandate_id: id.clone(), ..Default::default() };
    let shown = admin.budget.get_budget(request).await.unwrap().into_inner();
    assert_eq!((shown.status(), shown.valid_until), (Status::Expired, Some(message(end))));
    let request = v1::GetMandateTokenRequest { agent_id: agent.clone() };
    refused(admin.mandates.get_mandate_token(request).await, "NOT_FOUND");
    for step in [Step::Activate, Step::Pause, Step::Resume] {
        let answer = admin.step(&id, step).await.map(tonic::Response::new);
        assert_eq!(refused(answer, "MANDATE_WRONG_STATUS").says("status"), "expired");
    }
    // A later end does not bring it back.
    let later = message(end + SignedDuration::from_hours(1));
    let extend = |request: &mut v1::UpdateMandateRequest| request.valid_until = Some(later);
    let answer = admin.update(&id, &["valid_until"], extend).await;
    assert_eq!(refused(answer, "MANDATE_WRONG_STATUS").says("status"), "expired");
    assert_eq!(admin.judge(&agent, 10).await, [Why::MandateExpired]);
    assert_eq!(stand(&admin.get(&id).await), (Status::Expired, 2));
    // It no longer stands in the way of another one.
    admin.step(&successor, Step::Activate).await.unwrap();
    assert_eq!(admin.judge(&agent, 150).await, []);
    assert_eq!(admin.get(&id).await.status(), Status::Expired);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_mandate_can_be_revoked_and_its_agent_is_told_so() {
    let (server, mut admin, clock) = start().await;
    let (agent, id) = valid(&mut admin, "brief", "", "2026-05-04T13:00:00Z").await;
    clock.set(at("2026-05-04T14:00:00Z"));
    assert_eq!(admin.step(&id, Step::Revoke).await.unwrap().status(), Status::Revoked);
    assert_eq!(admin.judge(&agent, 10).await, [Why::MandateRevoked]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_its_validity_a_mandate_approves_nothing() {
    let (server, mut admin, clock) = start().await;
    let start = at("2026-05-04T13:00:00Z");
    let (agent, _) = valid(&mut admin, "early", "2026-05-04T13:00:00Z", "").await;
    assert_eq!(admin.judge(&agent, 10).await, [Why::MandateNotYetValid]);
    clock.set(start - SignedDuration::from_micros(1));
    assert_eq!(admin.judge(&agent, 10).await, [Why::MandateNotYetValid]);
    clock.set(start);
    assert_eq!(admin.judge(&agent, 10).await, []);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_whose_time_is_over_cannot_be_activated() {
    let (server, mut admin, clock) = start().await;
    let agent_id = admin.agent_named("late").await;
    let request = v1::CreateMandateRequest {
        agent_id,
        name: "too late".to_owned(),
        budget: Some(budget(1_000, 100)),
        valid_until: Some(message(at("2026-05-04T13:00:00Z"))),
        ..Default::default()
    };
    let made = admin.mandates.create_mandate(request.clone()).await.unwrap().into_inner();
    let id = made.mandate.unwrap().id;
    clock.set(at("2026-05-04T13:00:00Z"));
    refused(
        admin.step(&id, Step::Activate).await.map(tonic::Response::new),
        "MANDATE_WRONG_STATUS",
    );
    let late = refused(admin.mandates.create_mandate(request).await, "INVALID_FIELDS");
    assert_eq!(late.fields, ["valid_until"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decommissioned_agent_gets_no_mandate() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let agent_id = admin.agent_named("gone").await;
    let draft = admin.mandate(&agent_id, budget(1_000, 100), vec![]).await;
    let request = v1::DecommissionAgentRequest { agent_id: agent_id.clone() };
    admin.agents.decommission_agent(request).await.unwrap();
    let wrong = admin.step(&draft, Step::Activate).await.map(tonic::Response::new);
    assert_eq!(refused(wrong, "AGENT_WRONG_STATUS").says("status"), "decommissioned");
    let request = v1::CreateMandateRequest {
        agent_id,
        name: "too late".to_owned(),
        budget: Some(budget(1_000, 100)),
        ..Default::default()
    };
    let wrong = admin.mandates.create_mandate(request).await;
    assert_eq!(refused(wrong, "AGENT_WRONG_STATUS").says("status"), "decommissioned");
    server.stop().await;
}
