//! Streams: resumed without a gap or a repetition, and no wider than the key that asks.
//!
//! Not here: servers that die meanwhile (`killed`).

use std::time::Duration;

use quetra::proto::v1;
use tokio::time::timeout;
use tonic::{Code, Streaming};

use super::PATIENCE;
use crate::harness::{Clients, Engine, FAST, STRICT, Server, ask, budget, on_all, refused};

type Events = Streaming<v1::WatchTransactionsResponse>;

/// The next message of a stream.
async fn next<T>(stream: &mut Streaming<T>) -> Result<T, tonic::Status> {
    let message = timeout(PATIENCE, stream.message()).await.expect("nothing is told");
    message.map(|message| message.expect("a stream ends with a status"))
}

/// Begins a stream; it, and the token of its first message.
async fn watch(clients: &mut Clients, request: v1::WatchTransactionsRequest) -> (Events, String) {
    let mut events = clients.transactions.watch_transactions(request).await.unwrap().into_inner();
    let first = next(&mut events).await.unwrap();
    assert_eq!(first.event, None);
    (events, first.resume_token)
}

/// Reads this many events: their transactions and kinds, and the last token.
async fn read(events: &mut Events, count: usize) -> (Vec<(String, String)>, String) {
    let (mut told, mut token) = (Vec::new(), String::new());
    while told.len() < count {
        let message = next(events).await.unwrap();
        token = message.resume_token;
        told.extend(message.event.map(|event| (event.transaction_id, event.r#type)));
    }
    (told, token)
}

async fn a_stream_goes_on_where_it_ended(engine: Engine) {
    let server = Server::on(engine).await;
    let mut admin = server.admin().await;
    let (agent_id, _) = admin.agent_with_mandate(budget(100_000, 500), vec![]).await;
    let (mut events, mut token) = watch(&mut admin, Default::default()).await;
    let mut asked = Vec::new();
    let mut told = Vec::new();
    for round in 0..5 {
        for _ in 0..7 {
            asked.push(admin.spend(ask(&agent_id, 10)).await.transaction_id);
        }
        // Some are read, then the stream is dropped and asked for behind what was read.
        let (read, last) = read(&mut events, 3 + round % 2).await;
        told.extend(read);
        token = if last.is_empty() { token } else { last };
        let request =
            v1::WatchTransactionsRequest { resume_token: token.clone(), ..Default::default() };
        let again = watch(&mut admin, request).await;
        events = again.0;
        assert_eq!(again.1, token);
    }
    let left = asked.len() - told.len();
    told.extend(read(&mut events, left).await.0);
    let ids = told.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
    assert_eq!(ids, asked);
    assert!(told.iter().all(|(_, kind)| kind == "transaction.approved"));
    drop(events);
    server.stop().await;
}

async fn a_budget_is_told_when_it_changes(engine: Engine) {
    let server = Server::on(engine).await;
    let mut admin = server.admin().await;
    let (agent_id, mandate_id) = admin.agent_with_mandate(budget(1_000, 500), vec![]).await;
    let request = v1::WatchBudgetRequest { agent_id: agent_id.clone(), ..Default::default() };
    let mut stream = admin.budget.watch_budget(request.clone()).await.unwrap().into_inner();
    let first = next(&mut stream).await.unwrap();
    assert_eq!(first.budget.unwrap().budget.unwrap().spent, 0);
    admin.spend(ask(&agent_id, 100)).await;
    let until = async |stream: &mut Streaming<v1::WatchBudgetResponse>, total, spent| loop {
        let message = next(stream).await.unwrap();
        let Some(view) = message.budget else { continue };
        let budget = view.budget.unwrap();
        if (budget.total, budget.spent) == (total, spent) {
            return message.resume_token;
        }
    };
    let token = until(&mut stream, 1_000, 100).await;
    let change = v1::UpdateBudgetRequest { mandate_id, total: Some(1_500), ..Default::default() };
    admin.mandates.update_budget(change).await.unwrap();
    until(&mut stream, 1_500, 100).await;
    drop(stream);
    // Behind the token there was a change, so the budget is told at once.
    let again = v1::WatchBudgetRequest { resume_token: token, ..request };
    let mut stream = admin.budget.watch_budget(again).await.unwrap().into_inner();
    until(&mut stream, 1_500, 100).await;
    drop(stream);
    server.stop().await;
}

on_all! {
    a_stream_goes_on_where_it_ended;
    a_budget_is_told_when_it_changes;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_key_is_told_of_its_own_agent_only() {
    let server = Server::start().await;
    let (mut admin, mut bound) = (server.admin().await, server.agent().await);
    let (other, _) = admin.agent_with_mandate(budget(1_000, 500), vec![]).await;
    let (mut events, _) = watch(&mut bound, Default::default()).await;
    admin.spend(ask(&other, 10)).await;
    let own = bound.spend(ask(&server.agent_id(), 10)).await.transaction_id;
    let (told, _) = read(&mut events, 1).await;
    assert_eq!(told[0].0, own);
    let request = v1::WatchTransactionsRequest { agent_id: other, ..Default::default() };
    let status = bound.transactions.watch_transactions(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    drop(events);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_for_the_stream_that_gave_it_and_for_no_other() {
    let clock = std::sync::Arc::new(quetra::clock::SystemClock);
    let (server, neighbour) = Server::with_neighbour(clock).await;
    let (mut admin, mut neighbour) = (server.admin().await, server.with_key(&neighbour).await);
    let (events, token) = watch(&mut admin, Default::default()).await;
    drop(events);
    let (events, theirs) = watch(&mut neighbour, Default::default()).await;
    drop(events);
    let of_agent = |resume_token: &str| v1::WatchTransactionsRequest {
        agent_id: server.agent_id(),
        resume_token: resume_token.to_owned(),
        ..Default::default()
    };
    let plain = |resume_token: &str| v1::WatchTransactionsRequest {
        resume_token: resume_token.to_owned(),
        ..Default::default()
    };
    let wrong = [of_agent(&token), plain(&theirs), plain("x"), plain(&token[1..])];
    for request in wrong {
        refused(admin.transactions.watch_transactions(request).await, "PAGE_TOKEN_INVALID");
    }
    let request = v1::WatchBudgetRequest {
        agent_id: server.agent_id(),
        resume_token: token,
        ..Default::default()
    };
    refused(admin.budget.watch_budget(request).await, "PAGE_TOKEN_INVALID");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_key_is_revoked_or_the_server_stops() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let request = v1::CreateApiKeyRequest {
        name: "for a while".to_owned(),
        role: v1::Role::Reader.into(),
        ..Default::default()
    };
    let made = admin.organization.create_api_key(request).await.unwrap().into_inner();
    let mut reader = server.with_key(&made.key).await;
    let (mut events, _) = watch(&mut reader, Default::default()).await;
    let api_key_id = made.api_key.unwrap().id;
    let request = v1::RevokeApiKeyRequest { api_key_id };
    admin.organization.revoke_api_key(request).await.unwrap();
    let status = next(&mut events).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);

    let (mut events, _) = watch(&mut admin, Default::default()).await;
    let stopping = tokio::spawn(server.stop());
    let status = timeout(Duration::from_secs(5), next(&mut events)).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    stopping.await.unwrap();
}
