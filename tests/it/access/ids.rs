//! Every RPC that takes an id × the ids of others: they look exactly like unknown ones.
//!
//! Others are another organization, and for an agent's key another agent of its own organization.
//! Not here: lists (`tenants`).

use quetra::proto::v1::Role;
use tonic::{Code, Status};

use super::requests::{Place, places, unknown};
use super::{Belongings, clock, key, start};
use crate::contract::declared;
use crate::harness::raw::Raw;
use crate::harness::witness::Refused;
use crate::harness::{Clients, Server, ask};

/// An error as a client sees it.
#[derive(Debug, PartialEq)]
struct Seen {
    code: Code,
    message: String,
    details: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
}

/// Everything of an error but for what differs from call to call.
fn seen(status: &Status) -> Seen {
    let mut headers = status.metadata().clone().into_headers();
    for differs in ["date", "x-request-id"] {
        headers.remove(differs);
    }
    let mut headers = headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
        .collect::<Vec<_>>();
    headers.sort();
    let (code, message) = (status.code(), status.message().to_owned());
    Seen { code, message, details: status.details().to_vec(), headers }
}

/// Whether someone else's id gets the answer of an unknown one, and that answer is `NOT_FOUND`.
async fn hides(raw: &Raw, key: &str, place: &Place, own: &Belongings, foreign: &Belongings) {
    let name = place.name();
    let idempotency_key = &foreign.idempotency_key;
    let theirs = place.request(foreign.id(&place.field), own, idempotency_key);
    let theirs = raw.call_as(key, &place.method, theirs).await;
    let theirs = theirs.err().unwrap_or_else(|| panic!("{name} works on someone else's"));
    let nobodys = place.request(&unknown(&place.field), own, idempotency_key);
    let nobodys = raw.call_as(key, &place.method, nobodys).await;
    let nobodys = nobodys.err().unwrap_or_else(|| panic!("{name} works on nothing"));
    assert_eq!(theirs.code(), Code::NotFound, "{name}: {theirs:?}");
    assert_eq!(Refused::of(&theirs).reason, "NOT_FOUND", "{name}");
    assert_eq!(seen(&theirs), seen(&nobodys), "{name}");
}

/// Whether the same request of the owner finds what it names, so that the test above says anything.
async fn is_found_by_owner(raw: &Raw, key: &str, place: &Place, own: &Belongings) {
    let request = place.request(own.id(&place.field), own, &own.idempotency_key);
    let answer = raw.call_as(key, &place.method, request).await;
    let Err(status) = answer else {
        return;
    };
    let absent = place.name().ends_with("\"version\":99}") && status.code() == Code::NotFound;
    let done = status.code() == Code::FailedPrecondition || status.code() == Code::AlreadyExists;
    assert!(absent || done, "{}: {status:?}", place.name());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ids_of_another_organization_look_unknown_in_every_rpc() {
    let (server, neighbour_key) = Server::with_neighbour(clock()).await;
    let raw = Raw::connect(&server.url()).await;
    let mut admin = server.admin().await;
    let mut neighbour = server.with_key(&neighbour_key).await;
    let own = Belongings::make(&mut admin).await;
    for place in places() {
        let foreign = Belongings::make(&mut neighbour).await;
        hides(&raw, &server.first.admin_key, &place, &own, &foreign).await;
        is_found_by_owner(&raw, &neighbour_key, &place, &foreign).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ids_of_another_agent_look_unknown_to_an_agents_key_in_every_rpc() {
    let (server, mut admin) = start().await;
    let raw = Raw::connect(&server.url()).await;
    let foreign = Belongings::make(&mut admin).await;
    let mut checked = 0;
    for place in places() {
        if !declared(&place.method, "roles").unwrap().contains(&"AGENT".to_owned()) {
            continue;
        }
        let own = Belongings::make(&mut admin).await;
        hides(&raw, &own.key, &place, &own, &foreign).await;
        is_found_by_owner(&raw, &own.key, &place, &own).await;
        checked += 1;
    }
    assert!(checked >= 15, "only {checked} places");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organizations_agent_key_acts_for_each_of_its_agents_and_for_no_other() {
    let (server, neighbour_key) = Server::with_neighbour(clock()).await;
    let raw = Raw::connect(&server.url()).await;
    let mut admin = server.admin().await;
    let (_, wide) = key(&mut admin, Role::Agent, "", None).await;
    let mut neighbour = server.with_key(&neighbour_key).await;
    let own = Belongings::make(&mut admin).await;
    let foreign = Belongings::make(&mut neighbour).await;
    for place in places() {
        if declared(&place.method, "roles").unwrap().contains(&"AGENT".to_owned()) {
            hides(&raw, &wide, &place, &own, &foreign).await;
        }
    }
    let mut client = server.with_key(&wide).await;
    for _ in 0..2 {
        let other = Belongings::make(&mut admin).await;
        acts_for(&mut client, &other).await;
    }
    let nobody = quetra::proto::v1::EvaluateRequest { agent_id: String::new(), ..ask("", 100) };
    let status = client.evaluate.evaluate(nobody).await.unwrap_err();
    assert_eq!(Refused::of(&status).fields, ["agent_id"], "it must say for whom");
    server.stop().await;
}

/// Spends, settles and voids for an agent.
async fn acts_for(client: &mut Clients, agent: &Belongings) {
    use quetra::proto::v1::{Decision, SettleTransactionRequest, VoidTransactionRequest};
    let first = client.spend(ask(&agent.agent_id, 10)).await;
    assert_eq!(first.decision(), Decision::Approved);
    let settle = SettleTransactionRequest { transaction_id: first.transaction_id, amount: Some(7) };
    client.transactions.settle_transaction(settle).await.unwrap();
    let second = client.spend(ask(&agent.agent_id, 10)).await;
    let void = VoidTransactionRequest { transaction_id: second.transaction_id };
    client.transactions.void_transaction(void).await.unwrap();
}
