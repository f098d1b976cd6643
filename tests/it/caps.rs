//! Caps that come, go and come back: they count what was spent in their period, whatever the
//! mandate said at the time.
//!
//! Not here: the arithmetic of counters in general (`model`).

use std::sync::Arc;

use quetra::clock::ManualClock;
use quetra::proto::v1::{self, Decision};

use crate::harness::{Clients, Server, ask, budget};

/// A server in the middle of a month.
async fn server() -> Server {
    let clock = ManualClock::new("2027-05-12T12:00:00Z".parse().unwrap());
    Server::with(|_| {}, Arc::new(clock)).await
}

fn vendor_cap(vendor: &str, amount: i64) -> v1::Rule {
    let cap =
        v1::VendorCapRule { vendor: vendor.to_owned(), amount, period: v1::Period::Monthly.into() };
    v1::Rule { kind: Some(v1::rule::Kind::VendorCap(cap)) }
}

async fn set_rules(admin: &mut Clients, mandate_id: &str, rules: Vec<v1::Rule>) {
    let request = v1::UpdateMandateRequest {
        mandate_id: mandate_id.to_owned(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["rules".to_owned()] }),
        rules,
        ..Default::default()
    };
    admin.mandates.update_mandate(request).await.unwrap();
}

/// Spends at a vendor and returns the decision with the transaction's id.
async fn spend(
    client: &mut Clients,
    agent_id: &str,
    vendor: &str,
    amount: i64,
) -> (Decision, String) {
    let request = v1::EvaluateRequest { vendor: vendor.to_owned(), ..ask(agent_id, amount) };
    let answer = client.spend(request).await;
    (answer.decision(), answer.transaction_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_counts_what_was_spent_before_it_began() {
    let server = server().await;
    let mut admin = server.admin().await;
    let (agent, mandate) = admin.agent_with_mandate(budget(1_000, 1_000), Vec::new()).await;
    assert_eq!(spend(&mut admin, &agent, "api.openai.com", 60).await.0, Decision::Approved);
    set_rules(&mut admin, &mandate, vec![vendor_cap("openai.com", 100)]).await;
    assert_eq!(spend(&mut admin, &agent, "openai.com", 41).await.0, Decision::Rejected);
    assert_eq!(spend(&mut admin, &agent, "openai.com", 40).await.0, Decision::Approved);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_that_was_taken_away_and_comes_back_counts_what_was_spent_in_between() {
    let server = server().await;
    let mut admin = server.admin().await;
    let cap = vec![vendor_cap("openai.com", 100)];
    let (agent, mandate) = admin.agent_with_mandate(budget(1_000, 1_000), cap.clone()).await;
    // Twice: the ledger has the cap in memory now, ahead of its row.
    assert_eq!(spend(&mut admin, &agent, "openai.com", 5).await.0, Decision::Approved);
    assert_eq!(spend(&mut admin, &agent, "openai.com", 5).await.0, Decision::Approved);
    set_rules(&mut admin, &mandate, Vec::new()).await;
    assert_eq!(spend(&mut admin, &agent, "openai.com", 200).await.0, Decision::Approved);
    set_rules(&mut admin, &mandate, cap).await;
    assert_eq!(spend(&mut admin, &agent, "openai.com", 1).await.0, Decision::Rejected);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_returns_to_a_cap_that_began_after_it_was_spent() {
    let server = server().await;
    let mut admin = server.admin().await;
    let (agent, mandate) = admin.agent_with_mandate(budget(1_000, 1_000), Vec::new()).await;
    let (_, transaction_id) = spend(&mut admin, &agent, "openai.com", 90).await;
    set_rules(&mut admin, &mandate, vec![vendor_cap("openai.com", 100)]).await;
    assert_eq!(spend(&mut admin, &agent, "openai.com", 10).await.0, Decision::Approved);
    assert_eq!(spend(&mut admin, &agent, "openai.com", 1).await.0, Decision::Rejected);
    let request = v1::VoidTransactionRequest { transaction_id };
    admin.transactions.void_transaction(request).await.unwrap();
    assert_eq!(spend(&mut admin, &agent, "openai.com", 91).await.0, Decision::Rejected);
    assert_eq!(spend(&mut admin, &agent, "openai.com", 90).await.0, Decision::Approved);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_cap_on_a_host_of_many_tenants_does_not_count_its_tenants() {
    let server = server().await;
    let mut admin = server.admin().await;
    let (agent, mandate) = admin.agent_with_mandate(budget(1_000, 1_000), Vec::new()).await;
    assert_eq!(spend(&mut admin, &agent, "shop.vercel.app", 90).await.0, Decision::Approved);
    set_rules(&mut admin, &mandate, vec![vendor_cap("vercel.app", 100)]).await;
    assert_eq!(spend(&mut admin, &agent, "vercel.app", 100).await.0, Decision::Approved);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_zone_that_was_changed_and_comes_back_counts_what_was_spent_in_between() {
    let server = server().await;
    let mut admin = server.admin().await;
    let limits = v1::Budget { reset: v1::Period::Monthly.into(), ..budget(100, 100) };
    let (agent, _) = admin.agent_with_mandate(limits, Vec::new()).await;
    assert_eq!(spend(&mut admin, &agent, "openai.com", 30).await.0, Decision::Approved);
    for (zone, amount, decision) in [
        ("Asia/Kathmandu", 50, Decision::Approved),
        ("UTC", 21, Decision::Rejected),
        ("UTC", 20, Decision::Approved),
    ] {
        let request = v1::UpdateOrganizationRequest {
            update_mask: Some(prost_types::FieldMask { paths: vec!["timezone".to_owned()] }),
            timezone: zone.to_owned(),
            ..Default::default()
        };
        admin.organization.update_organization(request).await.unwrap();
        assert_eq!(spend(&mut admin, &agent, "openai.com", amount).await.0, decision, "{zone}");
    }
    server.stop().await;
}
