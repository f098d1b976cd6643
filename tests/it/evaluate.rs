//! `EvaluateService` through a generated client: the main path, idempotency, races on one budget.

use quetra::proto::v1::{self, Decision};

use crate::harness::{Server, ask, budget};

#[tokio::test(flavor = "multi_thread")]
async fn a_spend_within_the_mandate_is_approved_and_charged() {
    let server = Server::start().await;
    let mut agent = server.agent().await;
    let answer = agent.spend(ask(&server.agent_id(), 200)).await;
    assert_eq!(answer.decision(), Decision::Approved);
    assert!(answer.rule_results.iter().all(|result| result.passed));
    assert_eq!(answer.budget.unwrap().remaining, 9_800);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_reports_every_rule_and_charges_nothing() {
    let server = Server::start().await;
    let mut agent = server.agent().await;
    let mut request = ask(&server.agent_id(), 50_000);
    request.vendor = "netflix.com".to_owned();
    request.category = "entertainment".to_owned();
    let answer = agent.spend(request).await;
    assert_eq!(answer.decision(), Decision::Rejected);
    let failed = answer.rule_results.iter().filter(|result| !result.passed);
    let failed = failed.map(|result| result.rule_type.as_str()).collect::<Vec<_>>();
    assert_eq!(failed, ["budget_per_tx", "budget_total", "category", "vendor_allowlist"]);
    assert_eq!(answer.rule_results.len(), 7);
    assert_eq!(answer.budget.unwrap().spent, 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spend_in_another_currency_is_told_limits_in_the_mandates() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let (agent_id, _) = admin.agent_with_mandate(budget(1_000, 100), Vec::new()).await;
    let mut request = ask(&agent_id, 200);
    request.currency = "EUR".to_owned();
    let answer = admin.spend(request).await;
    let details = answer.rule_results.iter().map(|result| result.detail.as_str());
    assert_eq!(
        details.collect::<Vec<_>>(),
        [
            "the mandate is in USD, not in EUR, and there is no conversion",
            "2.00 EUR is above 1.00 USD for one transaction, ask for less",
            "10.00 USD of 10.00 USD would remain",
        ]
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_on_one_budget_get_exactly_what_there_is() {
    const CALLERS: usize = 32;
    const CALLS: usize = 25;
    let server = Server::start().await;
    let mut admin = server.admin().await;
    // 800 asks of 7: 5,600 wanted, 1,000 there, so exactly 142 fit and 6 are left.
    let (agent_id, _) = admin.agent_with_mandate(budget(1_000, 100), Vec::new()).await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let (mut client, agent_id) = (admin.clone(), agent_id.clone());
        callers.spawn(async move {
            let mut approved = 0;
            for _ in 0..CALLS {
                let answer = client.spend(ask(&agent_id, 7)).await;
                approved += i64::from(answer.decision() == Decision::Approved);
            }
            approved
        });
    }
    let approved: i64 = callers.join_all().await.into_iter().sum();
    assert_eq!(approved, 142);
    let request = v1::GetBudgetRequest { agent_id, ..Default::default() };
    let left = admin.budget.get_budget(request).await.unwrap().into_inner().budget.unwrap();
    assert_eq!((left.spent, left.remaining), (994, 6));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_returns_the_first_decision_and_charges_once() {
    let server = Server::start().await;
    let agent = server.agent().await;
    let request = ask(&server.agent_id(), 300);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (mut client, request) = (agent.clone(), request.clone());
        callers.spawn(async move { client.spend(request).await });
    }
    let answers = callers.join_all().await;
    let fresh = answers.iter().filter(|answer| !answer.replayed).count();
    assert_eq!(fresh, 1);
    let first = &answers[0];
    for answer in &answers {
        assert_eq!(answer.transaction_id, first.transaction_id);
        assert_eq!(answer.rule_results, first.rule_results);
        assert_eq!(answer.explanation, first.explanation);
        assert_eq!(answer.budget, first.budget);
        assert_eq!(answer.decided_at, first.decided_at);
    }
    let mut other = request.clone();
    other.amount = Some(301);
    let error = agent.clone().evaluate.evaluate(other).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::AlreadyExists);
    server.stop().await;
}
