//! Live limits: lowered below what is spent, raised again, and the policy around them.
//!
//! Not here: masks and versions (`change`).

use quetra::proto::v1::{self, RejectionReason as Why};
use tonic::Response;

use super::{Step, start, updated};
use crate::harness::{budget, refused};

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_below_what_is_spent_stops_approvals_until_there_is_headroom() {
    let (server, mut admin, _) = start().await;
    let (agent, id) = admin.agent_with_mandate(budget(1_000, 200), vec![]).await;
    for _ in 0..3 {
        assert_eq!(admin.judge(&agent, 200).await, []);
    }
    let lowered = admin.limit(&id, 500).await.unwrap().budget_status.unwrap();
    assert!(lowered.over_committed);
    assert_eq!((lowered.total, lowered.spent, lowered.remaining), (500, 600, 0));
    assert_eq!(admin.judge(&agent, 1).await, [Why::BudgetExhausted]);
    let exact = admin.limit(&id, 600).await.unwrap().budget_status.unwrap();
    assert!(!exact.over_committed);
    assert_eq!(admin.judge(&agent, 1).await, [Why::BudgetExhausted]);
    let raised = admin.limit(&id, 700).await.unwrap().budget_status.unwrap();
    assert_eq!((raised.over_committed, raised.remaining), (false, 100));
    assert_eq!(admin.judge(&agent, 101).await, [Why::BudgetExhausted]);
    assert_eq!(admin.judge(&agent, 100).await, []);
    assert_eq!(admin.judge(&agent, 1).await, [Why::BudgetExhausted]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headroom_also_returns_when_money_does() {
    let (server, mut admin, _) = start().await;
    let (agent, id) = admin.agent_with_mandate(budget(1_000, 300), vec![]).await;
    let spent = admin.spend(crate::harness::ask(&agent, 300)).await;
    assert_eq!(admin.judge(&agent, 300).await, []);
    admin.limit(&id, 400).await.unwrap();
    assert_eq!(admin.judge(&agent, 50).await, [Why::BudgetExhausted]);
    let request = v1::VoidTransactionRequest { transaction_id: spent.transaction_id };
    let voided = admin.transactions.void_transaction(request).await.unwrap().into_inner();
    let status = voided.budget.unwrap();
    assert_eq!((status.over_committed, status.spent, status.remaining), (false, 300, 100));
    assert_eq!(admin.judge(&agent, 100).await, []);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_one_transaction_changes_alone() {
    let (server, mut admin, _) = start().await;
    let (agent, id) = admin.agent_with_mandate(budget(1_000, 100), vec![]).await;
    assert_eq!(admin.judge(&agent, 150).await, [Why::BudgetPerTxExceeded]);
    let mut request = v1::UpdateBudgetRequest {
        mandate_id: id.clone(),
        per_transaction: Some(150),
        ..Default::default()
    };
    let raised = admin.mandates.update_budget(request.clone()).await.unwrap().into_inner();
    let limits = raised.mandate.unwrap().budget.unwrap();
    assert_eq!((limits.total, limits.per_transaction), (1_000, 150));
    assert_eq!(admin.judge(&agent, 150).await, []);
    request.per_transaction = Some(1_001);
    let above = refused(admin.mandates.update_budget(request.clone()).await, "INVALID_FIELDS");
    assert_eq!(above.fields, ["per_transaction"]);
    request.per_transaction = None;
    let nothing = refused(admin.mandates.update_budget(request).await, "INVALID_FIELDS");
    assert_eq!(nothing.fields, ["total"]);
    for total in [0, -1, 90_000_000_000_001, 149] {
        refused(admin.limit(&id, total).await.map(Response::new), "INVALID_FIELDS");
    }
    assert_eq!(admin.get(&id).await.version, 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_mandate_and_a_draft_can_get_other_limits() {
    let (server, mut admin, _) = start().await;
    let (agent, id) = admin.agent_with_mandate(budget(1_000, 100), vec![]).await;
    admin.step(&id, Step::Pause).await.unwrap();
    admin.limit(&id, 2_000).await.unwrap();
    assert_eq!(admin.judge(&agent, 1).await, [Why::MandatePaused]);
    admin.step(&id, Step::Resume).await.unwrap();
    assert_eq!(admin.get(&id).await.budget_status.unwrap().remaining, 2_000);
    let draft = admin.mandate(&agent, budget(1_000, 100), vec![]).await;
    assert_eq!(admin.limit(&draft, 3_000).await.unwrap().version, 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_reset_and_back_forgets_nothing_that_was_spent() {
    let (server, mut admin, _) = start().await;
    let (agent, id) = admin.agent_with_mandate(budget(1_000, 400), vec![]).await;
    assert_eq!(admin.judge(&agent, 400).await, []);
    let daily = v1::Budget { reset: v1::Period::Daily.into(), ..budget(1_000, 400) };
    updated(admin.update(&id, &["budget"], |request| request.budget = Some(daily)).await);
    assert_eq!(admin.judge(&agent, 400).await, []);
    let never = budget(1_000, 400);
    updated(admin.update(&id, &["budget"], |request| request.budget = Some(never)).await);
    let status = admin.get(&id).await.budget_status.unwrap();
    assert_eq!((status.spent, status.remaining), (800, 200));
    assert_eq!(admin.judge(&agent, 201).await, [Why::BudgetExhausted]);
    assert_eq!(admin.judge(&agent, 200).await, []);
    server.stop().await;
}
