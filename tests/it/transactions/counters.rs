//! Where money goes back to: the counters it was charged to, of the period it was charged in.
//!
//! Not here: the steps themselves (`resolve`).

use std::sync::Arc;

use jiff::Timestamp;
use quetra::clock::ManualClock;
use quetra::proto::v1::{self, Decision, Period, RejectionReason as Why, rule::Kind};

use super::start;
use crate::harness::{Clients, Server, ask, budget};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn vendor_cap(vendor: &str, amount: i64, period: Period) -> v1::Rule {
    let vendor = vendor.to_owned();
    let cap = v1::VendorCapRule { vendor, amount, period: period.into() };
    v1::Rule { kind: Some(Kind::VendorCap(cap)) }
}

fn category_cap(category: &str, amount: i64) -> v1::Rule {
    let category = category.to_owned();
    let cap = v1::CategoryCapRule { category, amount, period: Period::None.into() };
    v1::Rule { kind: Some(Kind::CategoryCap(cap)) }
}

/// A spend at a vendor, in a category.
fn at_vendor(agent: &str, amount: i64, vendor: &str, category: &str) -> v1::EvaluateRequest {
    v1::EvaluateRequest {
        vendor: vendor.to_owned(),
        category: category.to_owned(),
        ..ask(agent, amount)
    }
}

impl Clients {
    /// What each counter has: the budget, then the caps in the order of the rules.
    async fn counters(&mut self, agent_id: &str) -> Vec<i64> {
        let request = v1::GetBudgetRequest { agent_id: agent_id.to_owned(), ..Default::default() };
        let answer = self.budget.get_budget(request).await.unwrap().into_inner();
        let status = answer.budget.unwrap();
        let caps = answer.caps.iter().map(|cap| {
            assert_eq!(cap.remaining, (cap.total - cap.spent).max(0));
            cap.spent
        });
        std::iter::once(status.spent + status.held).chain(caps).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn money_returns_to_every_counter_it_came_from_and_to_no_other() {
    let (server, mut admin) = start().await;
    let rules = vec![
        vendor_cap("example.com", 500, Period::None),
        vendor_cap("shop.example.com", 400, Period::Monthly),
        vendor_cap("other.dev", 500, Period::None),
        category_cap("research", 500),
        category_cap("travel", 500),
    ];
    let (agent, _) = admin.agent_with_mandate(budget(5_000, 400), rules).await;
    let wide = at_vendor(&agent, 100, "example.com", "research");
    let wide = admin.spend(wide).await.transaction_id;
    let deep = at_vendor(&agent, 200, "eu.shop.example.com", "travel");
    let deep = admin.spend(deep).await.transaction_id;
    let other = at_vendor(&agent, 50, "other.dev", "");
    let other = admin.spend(other).await.transaction_id;
    assert_eq!(admin.counters(&agent).await, [350, 300, 200, 50, 100, 200]);
    admin.settle(&deep, 150).await.unwrap();
    assert_eq!(admin.counters(&agent).await, [300, 250, 150, 50, 100, 150]);
    admin.void(&wide).await.unwrap();
    assert_eq!(admin.counters(&agent).await, [200, 150, 150, 50, 0, 150]);
    admin.refund(&deep, Some(30)).await.unwrap();
    assert_eq!(admin.counters(&agent).await, [170, 120, 120, 50, 0, 120]);
    admin.settle(&other, 50).await.unwrap();
    admin.refund(&other, None).await.unwrap();
    assert_eq!(admin.counters(&agent).await, [120, 120, 120, 0, 0, 120]);
    // What has come back can be spent again, up to the cap and not beyond.
    let again = at_vendor(&agent, 281, "shop.example.com", "");
    let answer = admin.spend(again).await;
    assert_eq!(answer.reasons[0].reason(), Why::VendorCapExceeded);
    let again = at_vendor(&agent, 280, "shop.example.com", "");
    assert_eq!(admin.spend(again).await.decision(), Decision::Approved);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_is_held_counts_in_every_cap() {
    let (server, mut admin) = start().await;
    let rules = vec![vendor_cap("firecrawl.dev", 900, Period::None), super::approval()];
    let (agent, _) = admin.agent_with_mandate(budget(5_000, 800), rules).await;
    let held = admin.spend(ask(&agent, 600)).await;
    assert_eq!(held.decision(), Decision::PendingApproval);
    assert_eq!(admin.counters(&agent).await, [600, 600]);
    let answer = admin.spend(ask(&agent, 301)).await;
    assert_eq!(answer.reasons[0].reason(), Why::VendorCapExceeded);
    admin.void(&held.transaction_id).await.unwrap();
    assert_eq!(admin.counters(&agent).await, [0, 0]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_returns_after_the_period_is_over_does_not_lift_todays_headroom() {
    let clock = Arc::new(ManualClock::new(at("2026-05-04T23:00:00Z")));
    let server = Server::with(|_| {}, Arc::<ManualClock>::clone(&clock)).await;
    let mut admin = server.admin().await;
    let daily = v1::Budget { reset: Period::Daily.into(), ..budget(100, 100) };
    let rules = vec![vendor_cap("firecrawl.dev", 1_000, Period::Monthly)];
    let (agent, _) = admin.agent_with_mandate(daily, rules).await;
    let mut yesterdays = Vec::new();
    for _ in 0..3 {
        yesterdays.push(admin.transaction(&agent, 30).await);
    }
    admin.settle(&yesterdays[0], 20).await.unwrap();
    assert_eq!(admin.counters(&agent).await, [80, 80]);
    clock.set(at("2026-05-05T01:00:00Z"));
    let today = admin.transaction(&agent, 60).await;
    assert_eq!(admin.counters(&agent).await, [60, 140]);
    // The monthly cap goes on; the day is another one.
    let refunded = admin.refund(&yesterdays[0], None).await.unwrap().into_inner();
    assert_eq!(refunded.budget.unwrap().spent, 60, "the budget of the current period");
    assert_eq!(admin.counters(&agent).await, [60, 120]);
    admin.void(&yesterdays[1]).await.unwrap();
    admin.settle(&yesterdays[2], 10).await.unwrap();
    assert_eq!(admin.counters(&agent).await, [60, 70]);
    let answer = admin.spend(ask(&agent, 41)).await;
    assert_eq!(answer.reasons[0].reason(), Why::BudgetExhausted);
    admin.void(&today).await.unwrap();
    assert_eq!(admin.counters(&agent).await, [0, 10]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_void_does_not_restore_a_rate_limit() {
    let (server, mut admin) = start().await;
    let count = v1::RateLimitRule { max_transactions: 2, window_minutes: 60 };
    let sum = v1::SpendRateRule { max_amount: 150, window_minutes: 60 };
    for (rule, reason) in [
        (Kind::RateLimit(count), Why::RateLimitExceeded),
        (Kind::SpendRate(sum), Why::SpendRateExceeded),
    ] {
        let rules = vec![v1::Rule { kind: Some(rule) }];
        let (agent, _) = admin.agent_with_mandate(budget(5_000, 400), rules).await;
        for _ in 0..2 {
            let id = admin.transaction(&agent, 60).await;
            admin.void(&id).await.unwrap();
        }
        assert_eq!(admin.counters(&agent).await, [0]);
        let answer = admin.spend(ask(&agent, 60)).await;
        let reasons = answer.reasons.iter().map(v1::Reason::reason).collect::<Vec<_>>();
        assert_eq!(reasons, [reason]);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_uses_up_neither_money_nor_a_rate_limit() {
    let (server, mut admin) = start().await;
    let count = v1::RateLimitRule { max_transactions: 1, window_minutes: 60 };
    let rules = vec![v1::Rule { kind: Some(Kind::RateLimit(count)) }];
    let (agent, _) = admin.agent_with_mandate(budget(5_000, 400), rules).await;
    for _ in 0..3 {
        let answer = admin.spend(ask(&agent, 401)).await;
        assert_eq!(answer.reasons[0].reason(), Why::BudgetPerTxExceeded);
    }
    assert_eq!(admin.spend(ask(&agent, 400)).await.decision(), Decision::Approved);
    let answer = admin.spend(ask(&agent, 1)).await;
    assert_eq!(answer.reasons[0].reason(), Why::RateLimitExceeded);
    server.stop().await;
}
