//! `OrganizationService`: the tenant's settings, its kill switch and its keys.
//!
//! `organization/keys.rs` has API keys, `secrets.rs` that nothing secret is ever shown or stored.
//! Not here: who may call what (`access`), and the kill switch under load (`control`).

mod keys;
mod secrets;

use std::sync::Arc;

use jiff::Timestamp;
use quetra::clock::ManualClock;
use quetra::proto::v1::{self, Decision, Period, RejectionReason};
use tonic::{Response, Status};

use crate::harness::{Clients, Server, ask, budget, refused};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn message(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}

/// A server whose clock the test moves, and its admin.
async fn start() -> (Server, Clients, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(at("2026-05-04T12:00:00Z")));
    let server = Server::with(|_| {}, Arc::<ManualClock>::clone(&clock)).await;
    let admin = server.admin().await;
    (server, admin, clock)
}

/// Short names for the calls of these tests.
impl Clients {
    async fn organization_now(&mut self) -> v1::Organization {
        let request = v1::GetOrganizationRequest {};
        let answer = self.organization.get_organization(request).await.unwrap().into_inner();
        answer.organization.unwrap()
    }

    async fn change_organization(
        &mut self,
        paths: &[&str],
        change: impl FnOnce(&mut v1::UpdateOrganizationRequest),
    ) -> Result<Response<v1::UpdateOrganizationResponse>, Status> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let mut request = v1::UpdateOrganizationRequest {
            update_mask: Some(prost_types::FieldMask { paths }),
            ..Default::default()
        };
        change(&mut request);
        self.organization.update_organization(request).await
    }

    async fn move_to(&mut self, timezone: &str) {
        let change = |request: &mut v1::UpdateOrganizationRequest| {
            timezone.clone_into(&mut request.timezone);
        };
        let moved = self.change_organization(&["timezone"], change).await.unwrap().into_inner();
        assert_eq!(moved.organization.unwrap().timezone, timezone);
    }

    async fn status(&mut self, agent_id: &str) -> v1::BudgetStatus {
        let request = v1::GetBudgetRequest { agent_id: agent_id.to_owned(), ..Default::default() };
        self.budget.get_budget(request).await.unwrap().into_inner().budget.unwrap()
    }

    async fn approves(&mut self, agent_id: &str, amount: i64) -> bool {
        self.spend(ask(agent_id, amount)).await.decision() == Decision::Approved
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_changes_what_its_mask_names_and_nothing_else() {
    let (server, mut admin, clock) = start().await;
    let before = admin.organization_now().await;
    assert_eq!((before.name.as_str(), before.timezone.as_str()), ("Demo", "UTC"));
    assert_eq!(before.signing_keys.len(), 1);
    clock.set(at("2026-05-04T12:01:00Z"));
    let all = |request: &mut v1::UpdateOrganizationRequest| {
        request.name = "Renamed".to_owned();
        request.default_currency = "EUR".to_owned();
        request.timezone = "Europe/Zagreb".to_owned();
    };
    let mut expected = before.clone();
    expected.updated_at = Some(message(at("2026-05-04T12:01:00Z")));
    for path in ["name", "default_currency", "timezone"] {
        let after = admin.change_organization(&[path], all).await.unwrap().into_inner();
        match path {
            "name" => expected.name = "Renamed".to_owned(),
            "default_currency" => expected.default_currency = "EUR".to_owned(),
            _ => expected.timezone = "Europe/Zagreb".to_owned(),
        }
        assert_eq!(after.organization.unwrap(), expected, "{path}");
    }
    // Its address and its keys stay.
    assert_eq!(admin.organization_now().await, expected);
    assert_eq!(expected.slug, before.slug);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_are_refused_and_change_nothing() {
    let (server, mut admin, _) = start().await;
    let before = admin.organization_now().await;
    for timezone in ["", "Mars/Base", "UTC+1", "EST5EDT4", "Etc/Unknown", "../etc/passwd"] {
        let change = |request: &mut v1::UpdateOrganizationRequest| {
            timezone.clone_into(&mut request.timezone);
        };
        let answer = admin.change_organization(&["timezone"], change).await;
        assert_eq!(refused(answer, "INVALID_FIELDS").fields, ["timezone"], "{timezone}");
    }
    for (path, name) in [("name", ""), ("name", "  "), ("name", "a\u{202E}b")] {
        let change =
            |request: &mut v1::UpdateOrganizationRequest| name.clone_into(&mut request.name);
        let answer = admin.change_organization(&[path], change).await;
        assert_eq!(refused(answer, "INVALID_FIELDS").fields, ["name"], "{name:?}");
    }
    for currency in ["", "usd", "XYZ", "US"] {
        let change = |request: &mut v1::UpdateOrganizationRequest| {
            currency.clone_into(&mut request.default_currency);
        };
        let answer = admin.change_organization(&["default_currency"], change).await;
        let fields = refused(answer, "INVALID_FIELDS").fields;
        assert_eq!(fields, ["default_currency"], "{currency}");
    }
    let masks: [&[&str]; 5] = [&[], &["frozen"], &["slug"], &["id"], &["name", "signing_keys"]];
    for mask in masks {
        let change = |request: &mut v1::UpdateOrganizationRequest| request.name = "new".to_owned();
        let answer = admin.change_organization(mask, change).await;
        assert_eq!(refused(answer, "INVALID_FIELDS").fields, ["update_mask"], "{mask:?}");
    }
    assert_eq!(admin.organization_now().await, before);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_change_of_the_organization_is_made_once() {
    let (server, mut admin, _) = start().await;
    let rename = |request: &mut v1::UpdateOrganizationRequest| {
        request.name = "Once".to_owned();
        request.idempotency_key = "rename-once".to_owned();
    };
    let first = admin.change_organization(&["name"], rename).await.unwrap().into_inner();
    let change = |request: &mut v1::UpdateOrganizationRequest| request.name = "Later".to_owned();
    admin.change_organization(&["name"], change).await.unwrap();
    let again = admin.change_organization(&["name"], rename).await.unwrap().into_inner();
    assert_eq!(again, first);
    assert_eq!(admin.organization_now().await.name, "Later");
    let other = |request: &mut v1::UpdateOrganizationRequest| {
        rename(request);
        request.name = "Other".to_owned();
    };
    let other = admin.change_organization(&["name"], other).await;
    refused(other, "IDEMPOTENCY_KEY_REUSED");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_approved_while_the_organization_is_frozen() {
    let (server, mut admin, _) = start().await;
    let (agent, _) = admin.agent_with_mandate(budget(1_000, 100), vec![]).await;
    let spent = admin.spend(ask(&agent, 100)).await;
    for _ in 0..2 {
        let frozen = admin.organization.freeze_organization(v1::FreezeOrganizationRequest {});
        assert!(frozen.await.unwrap().into_inner().organization.unwrap().frozen);
    }
    let answer = admin.spend(ask(&agent, 10)).await;
    let reasons = answer.reasons.iter().map(v1::Reason::reason).collect::<Vec<_>>();
    assert_eq!(reasons, [RejectionReason::OrganizationFrozen]);
    let request = v1::CanSpendRequest {
        agent_id: agent.clone(),
        amount: Some(10),
        currency: "USD".to_owned(),
        vendor: "firecrawl.dev".to_owned(),
        ..Default::default()
    };
    let would = admin.evaluate.can_spend(request).await.unwrap().into_inner();
    assert_eq!(would.decision(), Decision::Rejected);
    // What was bought is still settled: the money has gone.
    let settle =
        v1::SettleTransactionRequest { transaction_id: spent.transaction_id, amount: Some(90) };
    admin.transactions.settle_transaction(settle).await.unwrap();
    for _ in 0..2 {
        let request = v1::UnfreezeOrganizationRequest {};
        let thawed = admin.organization.unfreeze_organization(request).await.unwrap();
        assert!(!thawed.into_inner().organization.unwrap().frozen);
    }
    assert!(admin.approves(&agent, 100).await);
    assert_eq!(admin.status(&agent).await.spent, 190);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calendar_periods_follow_the_time_zone_of_the_organization() {
    let (server, mut admin, clock) = start().await;
    let daily = v1::Budget { reset: Period::Daily.into(), ..budget(100, 100) };
    let (agent, _) = admin.agent_with_mandate(daily, vec![]).await;
    assert!(admin.approves(&agent, 100).await);
    let midnight = message(at("2026-05-05T00:00:00Z"));
    assert_eq!(admin.status(&agent).await.resets_at, Some(midnight));
    // Zagreb is two hours ahead: its midnight is at 22:00.
    admin.move_to("Europe/Zagreb").await;
    let midnight = at("2026-05-04T22:00:00Z");
    let status = admin.status(&agent).await;
    assert_eq!((status.spent, status.resets_at), (100, Some(message(midnight))));
    clock.set(midnight - jiff::SignedDuration::from_micros(1));
    assert!(!admin.approves(&agent, 1).await);
    clock.set(midnight);
    assert!(admin.approves(&agent, 100).await);
    assert!(!admin.approves(&agent, 1).await);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_time_zone_and_back_gives_no_money_twice() {
    let (server, mut admin, clock) = start().await;
    let daily = v1::Budget { reset: Period::Daily.into(), ..budget(100, 100) };
    let (agent, _) = admin.agent_with_mandate(daily, vec![]).await;
    assert!(admin.approves(&agent, 40).await);
    admin.move_to("Asia/Tokyo").await;
    assert_eq!(admin.status(&agent).await.spent, 40, "noon UTC is the same day in Tokyo");
    assert!(admin.approves(&agent, 40).await);
    admin.move_to("UTC").await;
    assert_eq!(admin.status(&agent).await.spent, 80);
    assert!(!admin.approves(&agent, 21).await);
    assert!(admin.approves(&agent, 20).await);
    // A new day in Tokyo, the same one in UTC.
    clock.set(at("2026-05-04T16:00:00Z"));
    admin.move_to("Asia/Tokyo").await;
    assert!(admin.approves(&agent, 70).await);
    admin.move_to("UTC").await;
    let status = admin.status(&agent).await;
    assert_eq!((status.spent, status.over_committed), (170, true));
    assert!(!admin.approves(&agent, 1).await);
    server.stop().await;
}
