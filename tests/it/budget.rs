//! `BudgetService`: what is left, of which mandate, until when.
//!
//! Not here: what moves the numbers (`evaluate`, `transactions`), limits (`mandates/limits.rs`).

use std::sync::Arc;

use jiff::Timestamp;
use quetra::clock::ManualClock;
use quetra::proto::v1::{self, MandateStatus, Period, rule::Kind};
use tonic::{Response, Status};

use crate::harness::{Clients, Server, ask, budget, refused};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn message(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}

impl Clients {
    async fn left(
        &mut self,
        agent_id: &str,
        mandate_id: &str,
    ) -> Result<Response<v1::GetBudgetResponse>, Status> {
        let (agent_id, mandate_id) = (agent_id.to_owned(), mandate_id.to_owned());
        self.budget.get_budget(v1::GetBudgetRequest { agent_id, mandate_id }).await
    }
}

/// The current window of each period ends at its calendar boundary.
#[tokio::test(flavor = "multi_thread")]
async fn a_budget_starts_anew_at_the_boundary_of_its_period() {
    for (period, end) in [
        (Period::Daily, "2026-05-07T00:00:00Z"),
        (Period::Weekly, "2026-05-11T00:00:00Z"),
        (Period::Monthly, "2026-06-01T00:00:00Z"),
    ] {
        // A Wednesday.
        let clock = Arc::new(ManualClock::new(at("2026-05-06T12:00:00Z")));
        let server = Server::with(|_| {}, Arc::<ManualClock>::clone(&clock)).await;
        let mut admin = server.admin().await;
        let limits = v1::Budget { reset: period.into(), ..budget(100, 100) };
        let (agent, mandate) = admin.agent_with_mandate(limits, vec![]).await;
        admin.spend(ask(&agent, 70)).await;
        let end = at(end);
        clock.set(end - jiff::SignedDuration::from_micros(1));
        let last = admin.left(&agent, "").await.unwrap().into_inner();
        assert_eq!((&last.mandate_id, last.status()), (&mandate, MandateStatus::Active));
        let status = last.budget.unwrap();
        assert_eq!((status.spent, status.remaining), (70, 30), "{period:?}");
        assert_eq!(status.resets_at, Some(message(end)), "{period:?}");
        let answer = admin.spend(ask(&agent, 31)).await;
        assert_eq!(answer.rule_results[2].resets_at, Some(message(end)));
        assert!(answer.rule_results[2].retryable);
        let request = v1::WatchBudgetRequest { agent_id: agent.clone(), ..Default::default() };
        let mut told = admin.budget.watch_budget(request).await.unwrap().into_inner();
        let first = told.message().await.unwrap().unwrap();
        assert_eq!(first.budget.unwrap().budget.unwrap().spent, 70);
        clock.set(end);
        // Nothing happens then, and it is told all the same.
        let second = told.message().await.unwrap().unwrap();
        assert_eq!(second.budget.unwrap().budget.unwrap().spent, 0, "{period:?}");
        drop(told);
        let status = admin.left(&agent, "").await.unwrap().into_inner().budget.unwrap();
        assert_eq!((status.spent, status.remaining), (0, 100), "{period:?}");
        assert_eq!(admin.spend(ask(&agent, 100)).await.decision(), v1::Decision::Approved);
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_without_reset_says_so() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let (agent, _) = admin.agent_with_mandate(budget(100, 60), vec![]).await;
    admin.spend(ask(&agent, 60)).await;
    let answer = admin.left(&agent, "").await.unwrap().into_inner();
    let expected = v1::BudgetStatus {
        total: 100,
        spent: 60,
        held: 0,
        remaining: 40,
        per_transaction: 60,
        currency: "USD".to_owned(),
        resets_at: None,
        over_committed: false,
    };
    assert_eq!(answer.budget.unwrap(), expected);
    assert_eq!((answer.mandate_name.as_str(), answer.valid_until), ("a mandate", None));
    assert!(answer.caps.is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caps_are_shown_with_what_is_gone_of_them() {
    let clock = Arc::new(ManualClock::new(at("2026-05-06T12:00:00Z")));
    let server = Server::with(|_| {}, clock).await;
    let mut admin = server.admin().await;
    let vendor = v1::VendorCapRule {
        vendor: "https://Firecrawl.dev/".to_owned(),
        amount: 80,
        period: Period::Weekly.into(),
    };
    let category = v1::CategoryCapRule { category: "travel".to_owned(), amount: 500, period: 0 };
    let kinds = [Kind::VendorCap(vendor), Kind::CategoryCap(category)];
    let rules = kinds.map(|kind| v1::Rule { kind: Some(kind) }).to_vec();
    let (agent, mandate) = admin.agent_with_mandate(budget(1_000, 60), rules).await;
    admin.spend(ask(&agent, 60)).await;
    let caps = admin.left("", &mandate).await.unwrap().into_inner().caps;
    let firecrawl = v1::CapStatus {
        rule_type: "vendor_cap".to_owned(),
        subject: "firecrawl.dev".to_owned(),
        total: 80,
        spent: 60,
        remaining: 20,
        resets_at: Some(message(at("2026-05-11T00:00:00Z"))),
    };
    let travel = v1::CapStatus {
        rule_type: "category_cap".to_owned(),
        subject: "travel".to_owned(),
        total: 500,
        spent: 0,
        remaining: 500,
        resets_at: None,
    };
    assert_eq!(caps, [firecrawl, travel]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_is_of_the_active_mandate_or_of_the_one_that_is_named() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let (agent, active) = admin.agent_with_mandate(budget(100, 100), vec![]).await;
    let draft = admin.mandate(&agent, budget(200, 100), vec![]).await;
    let (other, _) = admin.agent_with_mandate(budget(300, 100), vec![]).await;
    admin.spend(ask(&agent, 40)).await;
    let total = async |admin: &mut Clients, agent: &str, mandate: &str| {
        let answer = admin.left(agent, mandate).await.unwrap().into_inner();
        let status = answer.status();
        (answer.budget.unwrap().total, status)
    };
    assert_eq!(total(&mut admin, &agent, "").await, (100, MandateStatus::Active));
    assert_eq!(total(&mut admin, &agent, &draft).await, (200, MandateStatus::Draft));
    assert_eq!(total(&mut admin, "", &active).await, (100, MandateStatus::Active));
    assert_eq!(refused(admin.left(&other, &draft).await, "NOT_FOUND").says("kind"), "mandate");
    assert_eq!(refused(admin.left("", "").await, "INVALID_FIELDS").fields, ["agent_id"]);
    for (agent, mandate, fields) in [
        ("nonsense", "", &["agent_id"][..]),
        ("", "nonsense", &["mandate_id"][..]),
        ("nonsense", "nonsense", &["agent_id", "mandate_id"][..]),
    ] {
        assert_eq!(refused(admin.left(agent, mandate).await, "INVALID_FIELDS").fields, fields);
    }
    // A paused one is not active, and can still be named.
    let pause = v1::PauseMandateRequest { mandate_id: active.clone() };
    admin.mandates.pause_mandate(pause).await.unwrap();
    refused(admin.left(&agent, "").await, "NOT_FOUND");
    let answer = admin.left(&agent, &active).await.unwrap().into_inner();
    assert_eq!((answer.status(), answer.budget.unwrap().spent), (MandateStatus::Paused, 40));
    server.stop().await;
}
