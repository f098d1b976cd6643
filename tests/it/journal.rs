//! The journal: everything that happens is in it once and in order, and it proves itself.
//!
//! Streams are in `journal/streams`, exports in `journal/exports`, servers that are killed in
//! `journal/killed`, a bucket for checkpoints in `journal/places`. Not here: the arithmetic of the
//! chain and of its verification, which unit tests of `audit` mutate.

mod exports;
mod killed;
mod places;
mod streams;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use quetra::proto::v1::audit_entry::Content;
use quetra::proto::v1::{self, Decision};
use tonic::Code;

use crate::harness::{
    Clients, Engine, FAST, STRICT, Server, ask, budget, on_all, on_shared, refused,
};

/// How long the journal may lag behind under the load of other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// All entries of the journal.
async fn entries(admin: &mut Clients, kind: &str) -> Vec<v1::AuditEntry> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = Some(v1::PageRequest { page_size: 200, page_token });
        let request = v1::ListEventsRequest { page, kind: kind.to_owned(), ..Default::default() };
        let answer = admin.audit.list_events(request).await.unwrap().into_inner();
        found.extend(answer.entries);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

/// Waits until entries are as they should be.
async fn until(
    admin: &mut Clients,
    kind: &str,
    is_so: impl Fn(&[v1::AuditEntry]) -> bool,
) -> Vec<v1::AuditEntry> {
    let end = Instant::now() + PATIENCE;
    loop {
        let found = entries(admin, kind).await;
        if is_so(&found) {
            return found;
        }
        assert!(Instant::now() < end, "{} entries of {kind:?}", found.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Verifies the whole journal, and that it is complete.
async fn verify(admin: &mut Clients) -> i64 {
    let (mut after_sequence, mut count) = (0, 0);
    loop {
        let request = v1::VerifyChainRequest { after_sequence };
        let found = admin.audit.verify_chain(request).await.unwrap().into_inner();
        assert!(found.is_whole, "{}", found.fault);
        count += found.entries;
        if found.is_complete {
            return count;
        }
        assert!(found.verified_through > after_sequence, "it does not go on");
        after_sequence = found.verified_through;
    }
}

fn kinds(entries: &[v1::AuditEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.kind.as_str()).collect()
}

fn act(entry: &v1::AuditEntry) -> &v1::AuditAct {
    match &entry.content {
        Some(Content::Act(act)) => act,
        other => panic!("{} is no act: {other:?}", entry.kind),
    }
}

async fn everything_is_in_it_once_in_the_order_in_which_it_happened(engine: Engine) {
    let server = Server::on(engine).await;
    let mut admin = server.admin().await;
    let (agent_id, mandate_id) = admin.agent_with_mandate(budget(10_000, 500), vec![]).await;
    let mut ids = Vec::new();
    for amount in [100, 200, 300, 900] {
        ids.push(admin.spend(ask(&agent_id, amount)).await.transaction_id);
    }
    // Each is recorded before the next one is asked for.
    until(&mut admin, "transaction.", |found| found.len() == 4).await;
    let transaction_id = ids[0].clone();
    let settle = v1::SettleTransactionRequest { transaction_id, amount: Some(60) };
    admin.transactions.settle_transaction(settle).await.unwrap();
    let transaction_id = ids[1].clone();
    let void = v1::VoidTransactionRequest { transaction_id };
    admin.transactions.void_transaction(void.clone()).await.unwrap();
    // Doing it again does nothing, and a refusal is nothing that was done.
    admin.transactions.void_transaction(void).await.unwrap();
    let transaction_id = ids[3].clone();
    let wrong = v1::VoidTransactionRequest { transaction_id };
    admin.transactions.void_transaction(wrong).await.unwrap_err();
    let transaction_id = ids[0].clone();
    let refund = v1::RefundTransactionRequest { transaction_id, amount: Some(10) };
    admin.transactions.refund_transaction(refund).await.unwrap();
    let pause = v1::PauseMandateRequest { mandate_id: mandate_id.clone() };
    admin.mandates.pause_mandate(pause).await.unwrap();
    let revoke = v1::RevokeMandateRequest { mandate_id: mandate_id.clone(), ..Default::default() };
    admin.mandates.revoke_mandate(revoke).await.unwrap();

    let all =
        until(&mut admin, "", |all| all.last().is_some_and(|last| last.kind == "mandate.revoked"));
    let all = all.await;
    let numbers = all.iter().map(|entry| entry.sequence).collect::<Vec<_>>();
    assert_eq!(numbers, (1..=i64::try_from(all.len()).unwrap()).collect::<Vec<_>>());
    let begin = all.iter().position(|entry| entry.kind == "transaction.approved").unwrap();
    assert_eq!(
        kinds(&all[begin..]),
        [
            "transaction.approved",
            "transaction.approved",
            "transaction.approved",
            "transaction.rejected",
            "transaction.settled",
            "transaction.voided",
            "transaction.refunded",
            "mandate.paused",
            "mandate.revoked",
        ]
    );
    let before = kinds(&all[..begin]);
    assert!(before.starts_with(&["organization.created", "key.created"]), "{before:?}");
    assert!(
        before.ends_with(&[
            "agent.registered",
            "mandate.created",
            "agent.updated",
            "mandate.activated"
        ]),
        "{before:?}"
    );
    let settled = act(&all[begin + 4]);
    assert_eq!(settled.actor_role, "admin");
    assert!(settled.actor_key_id.starts_with("key_"), "{settled:?}");
    assert_eq!(format!("tx_{}", settled.subject), ids[0]);
    assert!(settled.document.contains("\"after\":{\"state\":\"settled\",\"settled\":60}"));
    let revoked = act(all.last().unwrap());
    assert!(revoked.document.contains("\"status\":\"paused\""), "{}", revoked.document);
    assert!(revoked.document.contains("\"status\":\"revoked\""), "{}", revoked.document);
    // Whatever is said of keys, nobody could use it.
    let made = entries(&mut admin, "key.created").await;
    assert!(made.iter().all(|entry| !act(entry).document.contains("digest")));
    assert_eq!(verify(&mut admin).await, i64::try_from(all.len()).unwrap());
    server.stop().await;
}

async fn marks_of_a_budget_are_told_once_however_many_spend_at_once(engine: Engine) {
    let server = Server::on(engine).await;
    let mut admin = server.admin().await;
    let (agent_id, mandate_id) = admin.agent_with_mandate(budget(1_000, 500), vec![]).await;
    let spend = async |count: usize| {
        let calls = (0..count).map(|_| {
            let (mut admin, agent_id) = (admin.clone(), agent_id.clone());
            tokio::spawn(async move { admin.spend(ask(&agent_id, 50)).await.decision() })
        });
        let mut approved = 0;
        for call in calls.collect::<Vec<_>>() {
            approved += usize::from(call.await.unwrap() == Decision::Approved);
        }
        approved
    };
    assert_eq!(spend(40).await, 20);
    let mut admin = admin.clone();
    until(&mut admin, "transaction.", |found| found.len() == 40).await;
    let marks = entries(&mut admin, "mandate.budget.").await;
    assert_eq!(kinds(&marks), ["mandate.budget.warning", "mandate.budget.exhausted"]);
    // More money begins it anew; a change that is no change of the limit does not.
    let request = v1::UpdateBudgetRequest { mandate_id, total: Some(2_000), ..Default::default() };
    admin.mandates.update_budget(request).await.unwrap();
    assert_eq!(spend(30).await, 20);
    until(&mut admin, "transaction.", |found| found.len() == 70).await;
    let marks = entries(&mut admin, "mandate.budget.").await;
    assert_eq!(kinds(&marks)[2..], ["mandate.budget.warning", "mandate.budget.exhausted"]);
    for mark in &marks {
        let Some(Content::Derived(body)) = &mark.content else { panic!("{mark:?}") };
        assert!(body.contains(&format!("\"agent\":\"{agent_id}\"")), "{body}");
    }
    verify(&mut admin).await;
    server.stop().await;
}

on_all! {
    everything_is_in_it_once_in_the_order_in_which_it_happened;
    marks_of_a_budget_are_told_once_however_many_spend_at_once;
}

async fn two_servers_append_to_one_journal_and_none_is_needed(engine: Engine) {
    let server = Server::on(engine).await;
    let mut admin = server.admin().await;
    let (agent_id, _) = admin.agent_with_mandate(budget(1_000_000, 500), vec![]).await;
    let mut asked = 0;
    for _ in 0..3 {
        let clock = std::sync::Arc::new(quetra::clock::SystemClock);
        let other = server.replica(clock).await;
        let others = other.admin().await;
        let calls = (0..60).map(|call| {
            let mut client = if call % 2 == 0 { admin.clone() } else { others.clone() };
            let agent_id = agent_id.clone();
            tokio::spawn(async move { client.spend(ask(&agent_id, 1)).await })
        });
        let calls = calls.collect::<Vec<_>>();
        asked += calls.len();
        for call in calls {
            call.await.unwrap();
        }
        drop(others);
        other.end().await;
    }
    let found = until(&mut admin, "transaction.", |found| found.len() >= asked).await;
    let about = found.iter().map(|entry| entry.source_sequence).collect::<BTreeSet<_>>();
    assert_eq!((found.len(), about.len()), (asked, asked));
    verify(&mut admin).await;
    server.stop().await;
}

/// What one server alone cannot show.
mod together {
    use super::*;

    on_shared! {
        two_servers_append_to_one_journal_and_none_is_needed;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mandate_whose_time_is_over_is_written_down_once() {
    let clock = std::sync::Arc::new(quetra::clock::ManualClock::new(
        "2026-05-04T12:00:00Z".parse().unwrap(),
    ));
    let server = Server::with(|_| {}, std::sync::Arc::<quetra::clock::ManualClock>::clone(&clock));
    let server = server.await;
    let mut admin = server.admin().await;
    let name = "ends soon".to_owned();
    let request = v1::RegisterAgentRequest { name: name.clone(), ..Default::default() };
    let agent = admin.agents.register_agent(request).await.unwrap().into_inner().agent.unwrap();
    let end = prost_types::Timestamp { seconds: 1_777_896_060, nanos: 0 };
    let request = v1::CreateMandateRequest {
        agent_id: agent.id.clone(),
        name,
        budget: Some(budget(100, 10)),
        valid_until: Some(end),
        ..Default::default()
    };
    let mandate = admin.mandates.create_mandate(request).await.unwrap().into_inner();
    let mandate_id = mandate.mandate.unwrap().id;
    let request = v1::ActivateMandateRequest { mandate_id: mandate_id.clone() };
    admin.mandates.activate_mandate(request).await.unwrap();
    clock.set("2026-05-04T12:01:00Z".parse().unwrap());
    let over = until(&mut admin, "mandate.expired", |found| !found.is_empty()).await;
    assert_eq!(over.len(), 1);
    let over = act(&over[0]);
    assert_eq!((over.actor_role.as_str(), over.actor_key_id.as_str()), ("system", ""));
    assert_eq!(format!("mdt_{}", over.subject), mandate_id);
    clock.set("2026-05-04T12:05:00Z".parse().unwrap());
    let answer = admin.spend(ask(&agent.id, 1)).await;
    assert_eq!(answer.reasons[0].reason(), v1::RejectionReason::MandateExpired);
    until(&mut admin, "transaction.rejected", |found| found.len() == 1).await;
    assert_eq!(entries(&mut admin, "mandate.expired").await.len(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_goes_on_behind_its_token_and_no_token_is_good_for_another_list() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let all = until(&mut admin, "", |all| all.len() > 4).await;
    let page = Some(v1::PageRequest { page_size: 2, ..Default::default() });
    let request = v1::ListEventsRequest { page, ..Default::default() };
    let first = admin.audit.list_events(request).await.unwrap().into_inner();
    assert_eq!(first.entries, all[..2]);
    let page = Some(v1::PageRequest { page_size: 2, page_token: first.next_page_token.clone() });
    let request = v1::ListEventsRequest { page: page.clone(), ..Default::default() };
    let second = admin.audit.list_events(request).await.unwrap().into_inner();
    assert_eq!(second.entries, all[2..4]);
    let request = v1::ListEventsRequest { page, kind: "key.".to_owned(), ..Default::default() };
    refused(admin.audit.list_events(request).await, "PAGE_TOKEN_INVALID");
    let request = v1::VerifyChainRequest { after_sequence: 1_000 };
    let status = admin.audit.verify_chain(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    server.stop().await;
}
