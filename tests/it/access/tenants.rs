//! Lists show one's own and nothing else, and what a neighbour does is neither seen nor felt.
//!
//! Not here: single objects by their id (`ids`).

use quetra::proto::v1;

use super::{Belongings, clock, start};
use crate::contract::{declared, methods, pool};
use crate::harness::raw::Raw;
use crate::harness::{Server, ask, budget};

/// Calls every RPC with an empty request and fails if an answer holds one of the marks.
async fn never_shows(raw: &Raw, key: &str, role: &str, marks: &[&str]) {
    let pool = pool();
    let mut answered = 0;
    for method in methods(&pool) {
        let reads = !method.name().ends_with("Organization") || method.name().starts_with("Get");
        if !reads || !declared(&method, "roles").unwrap().contains(&role.to_owned()) {
            continue;
        }
        if let Ok(answer) = raw.call_as(key, &method, Vec::new()).await {
            let text = String::from_utf8_lossy(&answer);
            for mark in marks {
                assert!(!text.contains(mark), "{} shows {mark}", method.full_name());
            }
            answered += 1;
        }
    }
    assert!(answered >= 4, "only {answered} RPCs answered an empty request");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_list_shows_another_organization() {
    let (server, neighbour_key) = Server::with_neighbour(clock()).await;
    let raw = Raw::connect(&server.url()).await;
    let mut neighbour = server.with_key(&neighbour_key).await;
    let own = Belongings::make(&mut server.admin().await).await;
    let foreign = Belongings::make(&mut neighbour).await;
    never_shows(&raw, &server.first.admin_key, "ADMIN", &foreign.marks()).await;
    never_shows(&raw, &neighbour_key, "ADMIN", &own.marks()).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_list_shows_an_agents_key_another_agent() {
    let (server, mut admin) = start().await;
    let raw = Raw::connect(&server.url()).await;
    let own = Belongings::make(&mut admin).await;
    let foreign = Belongings::make(&mut admin).await;
    never_shows(&raw, &own.key, "AGENT", &foreign.marks()).await;
    let mut client = server.with_key(&own.key).await;
    let agents = client.agents.list_agents(v1::ListAgentsRequest::default()).await.unwrap();
    let agents = agents.into_inner().agents;
    assert_eq!(agents.iter().map(|agent| &agent.id).collect::<Vec<_>>(), [&own.agent_id]);
    let mandates = client.mandates.list_mandates(v1::ListMandatesRequest::default()).await;
    let mandates = mandates.unwrap().into_inner().mandates;
    assert_eq!(mandates.iter().map(|found| &found.id).collect::<Vec<_>>(), [&own.mandate_id]);
    let request = v1::ListTransactionsRequest { include_total: true, ..Default::default() };
    let listed = client.transactions.list_transactions(request).await.unwrap().into_inner();
    let ids = listed.transactions.iter().map(|found| &found.id).collect::<Vec<_>>();
    assert_eq!((ids, listed.total), (vec![&own.transaction_id], Some(1)));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_key_needs_no_agent_id_to_act_for_its_own() {
    let (server, mut admin) = start().await;
    let own = Belongings::make(&mut admin).await;
    let mut client = server.with_key(&own.key).await;
    let spent = client.spend(ask("", 50)).await;
    assert_eq!(spent.mandate_id, own.mandate_id);
    let left = client.budget.get_budget(v1::GetBudgetRequest::default()).await.unwrap();
    assert_eq!(left.into_inner().budget.unwrap().spent, 150);
    let idempotency_key = own.idempotency_key.clone();
    let request = v1::LookupDecisionRequest { agent_id: String::new(), idempotency_key };
    let found = client.evaluate.lookup_decision(request).await.unwrap().into_inner();
    assert_eq!(found.transaction.unwrap().id, own.transaction_id);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_idempotency_keys_of_a_neighbour_are_free() {
    let (server, neighbour_key) = Server::with_neighbour(clock()).await;
    let mut neighbour = server.with_key(&neighbour_key).await;
    let mut admin = server.admin().await;
    let request = v1::RegisterAgentRequest {
        name: "the same name".to_owned(),
        idempotency_key: "the-same-key".to_owned(),
        ..Default::default()
    };
    let mine = admin.agents.register_agent(request.clone()).await.unwrap().into_inner();
    let theirs = neighbour.agents.register_agent(request).await.unwrap().into_inner();
    let (mine, theirs) = (mine.agent.unwrap(), theirs.agent.unwrap());
    assert_ne!(mine.id, theirs.id);
    let mut first = None;
    for (client, agent) in [(&mut admin, &mine), (&mut neighbour, &theirs)] {
        let mandate_id = client.mandate(&agent.id, budget(100, 100), vec![]).await;
        let request = v1::ActivateMandateRequest { mandate_id };
        client.mandates.activate_mandate(request).await.unwrap();
        let mut request = ask(&agent.id, 60);
        request.idempotency_key = "the-same-key".to_owned();
        let answer = client.spend(request).await;
        assert!(!answer.replayed);
        assert_eq!(answer.decision(), v1::Decision::Approved);
        assert_ne!(first.replace(answer.transaction_id.clone()), Some(answer.transaction_id));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_organization_does_not_stop_its_neighbour() {
    let (server, neighbour_key) = Server::with_neighbour(clock()).await;
    let mut neighbour = server.with_key(&neighbour_key).await;
    let mut admin = server.admin().await;
    let theirs = Belongings::make(&mut neighbour).await;
    let request = v1::FreezeOrganizationRequest {};
    admin.organization.freeze_organization(request).await.unwrap();
    let answer = neighbour.spend(ask(&theirs.agent_id, 10)).await;
    assert_eq!(answer.decision(), v1::Decision::Approved);
    let own = server.agent_id();
    let answer = admin.spend(ask(&own, 10)).await;
    assert_eq!(answer.reasons[0].reason(), v1::RejectionReason::OrganizationFrozen);
    server.stop().await;
}
