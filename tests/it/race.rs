//! Many callers at once: what is approved is exactly what there is, whatever the limit is on, and a
//! key is decided once.
//!
//! Amounts of 1 leave no room for luck: the approved sum is the smaller of limit and demand.
//! `QUETRA_CASES` scales the number of calls. Not here: restarts (`crash`).

use std::collections::BTreeMap;
use std::sync::Arc;

use quetra::proto::v1::{self, Decision, RejectionReason};
use tokio::task::JoinSet;

use crate::dice::{Dice, setting};
use crate::harness::{Clients, Engine, FAST, STRICT, Server, ask, budget, on_all};

const CALLERS: usize = 64;

/// Calls of the normal run, per test.
fn calls() -> usize {
    let cases = setting("QUETRA_CASES", 80_000).clamp(8_800, 4_000_000);
    usize::try_from(cases / 40).unwrap()
}

/// Lets all callers make their share of the requests, and returns every answer with its request.
async fn ask_all(
    client: &Clients,
    requests: Vec<v1::EvaluateRequest>,
) -> Vec<(v1::EvaluateRequest, v1::EvaluateResponse)> {
    let requests = Arc::new(requests);
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (mut client, requests) = (client.clone(), Arc::clone(&requests));
        callers.spawn(async move {
            let mut answers = Vec::new();
            for request in requests.iter().skip(caller).step_by(CALLERS) {
                answers.push((request.clone(), client.spend(request.clone()).await));
            }
            answers
        });
    }
    callers.join_all().await.into_iter().flatten().collect()
}

/// The approved sum of each group; every refusal has exactly this reason.
fn approved(
    answers: &[(v1::EvaluateRequest, v1::EvaluateResponse)],
    group: impl Fn(&v1::EvaluateRequest) -> String,
    reason: RejectionReason,
) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for (request, answer) in answers {
        let sum = sums.entry(group(request)).or_insert(0);
        match answer.decision() {
            Decision::Approved => *sum += request.amount(),
            Decision::Rejected => {
                let reasons = answer.reasons.iter().map(v1::Reason::reason).collect::<Vec<_>>();
                assert_eq!(reasons, [reason], "{}", answer.explanation);
            }
            Decision::Unspecified | Decision::PendingApproval => panic!("{answer:?}"),
        }
    }
    sums
}

async fn eight_budgets_under_64_callers_are_spent_to_the_last_unit(engine: Engine) {
    let server = Server::on(engine).await;
    let mut admin = server.admin().await;
    let mut dice = Dice::new(1);
    let calls = calls();
    let share = i64::try_from(calls / 8).unwrap();
    // Half of the budgets are above what will be asked for: nothing may be refused there.
    let mut limits = BTreeMap::new();
    for number in 0..8 {
        let limit = if number % 2 == 0 { dice.between(1, share / 2) } else { share * 2 };
        let (agent_id, _) = admin.agent_with_mandate(budget(limit, 1), Vec::new()).await;
        limits.insert(agent_id, limit);
    }
    let agents = limits.keys().cloned().collect::<Vec<_>>();
    let requests = (0..calls).map(|_| ask(dice.pick::<String>(&agents), 1)).collect::<Vec<_>>();
    let demand = |agent: &str| requests.iter().filter(|asked| asked.agent_id == agent).count();
    let wanted = limits
        .iter()
        .map(|(agent, limit)| (agent.clone(), i64::try_from(demand(agent)).unwrap().min(*limit)));
    let wanted = wanted.collect::<BTreeMap<_, _>>();
    let answers = ask_all(&admin, requests.clone()).await;
    let sums =
        approved(&answers, |request| request.agent_id.clone(), RejectionReason::BudgetExhausted);
    assert_eq!(sums, wanted);
    for (agent_id, limit) in limits {
        let request = v1::GetBudgetRequest { agent_id: agent_id.clone(), ..Default::default() };
        let left = admin.budget.get_budget(request).await.unwrap().into_inner().budget.unwrap();
        assert_eq!((left.spent, left.remaining), (sums[&agent_id], limit - sums[&agent_id]));
    }
    server.stop().await;
}

fn rule(kind: v1::rule::Kind) -> v1::Rule {
    v1::Rule { kind: Some(kind) }
}

async fn caps_are_spent_to_the_last_unit_and_stop_nobody_else(engine: Engine) {
    let server = Server::on(engine).await;
    let mut admin = server.admin().await;
    let calls = calls();
    let (vendor_cap, category_cap) = (i64::try_from(calls / 7).unwrap(), 11);
    let period = v1::Period::None.into();
    let vendor = v1::VendorCapRule { vendor: "openai.com".to_owned(), amount: vendor_cap, period };
    let category =
        v1::CategoryCapRule { category: "games".to_owned(), amount: category_cap, period };
    let rules =
        vec![rule(v1::rule::Kind::VendorCap(vendor)), rule(v1::rule::Kind::CategoryCap(category))];
    let (agent_id, _) = admin.agent_with_mandate(budget(1_000_000, 1), rules).await;
    let mut dice = Dice::new(2);
    let kinds = [
        ("openai.com", "software"),
        ("api.openai.com", "software"),
        ("steampowered.com", "games"),
        ("evil-openai.com", "software"),
    ];
    let requests = (0..calls).map(|_| {
        let (vendor, category) = *dice.pick(&kinds);
        v1::EvaluateRequest {
            vendor: vendor.to_owned(),
            category: category.to_owned(),
            ..ask(&agent_id, 1)
        }
    });
    let requests = requests.collect::<Vec<_>>();
    let free = requests.iter().filter(|asked| asked.vendor == "evil-openai.com").count();
    let answers = ask_all(&admin, requests).await;
    let (games, others): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|(request, _)| request.category == "games");
    let of = |request: &v1::EvaluateRequest| {
        if request.vendor.starts_with("evil") { "free" } else { "capped" }.to_owned()
    };
    let sums = approved(&others, of, RejectionReason::VendorCapExceeded);
    let free = ("free".to_owned(), i64::try_from(free).unwrap());
    assert_eq!(sums, BTreeMap::from([("capped".to_owned(), vendor_cap), free]));
    let sums = approved(&games, of, RejectionReason::CategoryCapExceeded);
    assert_eq!(sums, BTreeMap::from([("capped".to_owned(), category_cap)]));
    server.stop().await;
}

async fn windows_let_exactly_their_number_and_their_sum_through(engine: Engine) {
    let server = Server::on(engine).await;
    let mut admin = server.admin().await;
    let window_minutes = 44_640;
    let count = v1::RateLimitRule { max_transactions: 37, window_minutes };
    let (counted, _) = admin
        .agent_with_mandate(budget(1_000_000, 1), vec![rule(v1::rule::Kind::RateLimit(count))])
        .await;
    let sum = v1::SpendRateRule { max_amount: 53, window_minutes };
    let (summed, _) = admin
        .agent_with_mandate(budget(1_000_000, 1), vec![rule(v1::rule::Kind::SpendRate(sum))])
        .await;
    let of = |request: &v1::EvaluateRequest| request.agent_id.clone();
    for (agent, limit, reason) in [
        (counted, 37, RejectionReason::RateLimitExceeded),
        (summed, 53, RejectionReason::SpendRateExceeded),
    ] {
        let requests = (0..calls() / 4).map(|_| ask(&agent, 1)).collect();
        let sums = approved(&ask_all(&admin, requests).await, of, reason);
        assert_eq!(sums, BTreeMap::from([(agent, limit)]));
    }
    server.stop().await;
}

async fn what_was_refused_would_not_fit_in_what_is_left(engine: Engine) {
    let server = Server::on(engine).await;
    let mut admin = server.admin().await;
    let limit = i64::try_from(calls()).unwrap() * 2;
    let (agent_id, _) = admin.agent_with_mandate(budget(limit, 50), Vec::new()).await;
    let mut dice = Dice::new(3);
    let requests = (0..calls()).map(|_| ask(&agent_id, dice.between(1, 50))).collect();
    let answers = ask_all(&admin, requests).await;
    let of = |_: &v1::EvaluateRequest| String::new();
    let sum = approved(&answers, of, RejectionReason::BudgetExhausted)[""];
    let refused = answers.iter().filter(|(_, answer)| answer.decision() == Decision::Rejected);
    let least = refused.map(|(request, _)| request.amount()).min().unwrap();
    assert!(sum <= limit, "{sum} of {limit} was approved");
    assert!(least > limit - sum, "{least} was refused with {} left", limit - sum);
    server.stop().await;
}

async fn a_key_that_100_callers_use_is_decided_once_even_when_one_asks_for_something_else(
    engine: Engine,
) {
    let server = Server::on(engine).await;
    let mut admin = server.admin().await;
    let (agent_id, _) = admin.agent_with_mandate(budget(1_000_000, 1_000), Vec::new()).await;
    let mut spent = 0;
    for round in 0..10_usize {
        let request = ask(&agent_id, 7);
        let mut callers = JoinSet::new();
        for caller in 0..100 {
            let (mut client, mut request) = (admin.clone(), request.clone());
            if caller == round * 10 {
                request.amount = Some(8);
            }
            callers.spawn(async move {
                let amount = request.amount();
                (amount, client.evaluate.evaluate(request).await)
            });
        }
        let mut ids = Vec::new();
        let (mut fresh, mut reused) = (Vec::new(), Vec::new());
        for (amount, answer) in callers.join_all().await {
            match answer {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    assert_eq!(answer.decision(), Decision::Approved);
                    ids.push(answer.transaction_id);
                    if !answer.replayed {
                        fresh.push(amount);
                    }
                }
                Err(error) => {
                    assert_eq!(error.code(), tonic::Code::AlreadyExists, "{error}");
                    reused.push(amount);
                }
            }
        }
        assert_eq!(fresh.len(), 1, "one caller decides");
        ids.dedup();
        assert_eq!(ids.len(), 1, "one transaction");
        // Whoever came first; the others asked for something else.
        assert_eq!(reused.len(), if fresh == [7] { 1 } else { 99 });
        assert!(reused.iter().all(|amount| *amount != fresh[0]));
        spent += fresh[0];
    }
    let request = v1::GetBudgetRequest { agent_id, ..Default::default() };
    let left = admin.budget.get_budget(request).await.unwrap().into_inner().budget.unwrap();
    assert_eq!(left.spent, spent);
    server.stop().await;
}

async fn of_settlements_and_voids_that_race_one_wins(engine: Engine) {
    let server = Server::on(engine).await;
    let mut admin = server.admin().await;
    let (agent_id, _) = admin.agent_with_mandate(budget(1_000, 1_000), Vec::new()).await;
    let mut spent = 0;
    for _ in 0..20 {
        let transaction_id = admin.spend(ask(&agent_id, 40)).await.transaction_id;
        let mut callers = JoinSet::new();
        for amount in 0..16 {
            let (mut client, transaction_id) = (admin.clone(), transaction_id.clone());
            callers.spawn(async move {
                if amount == 0 {
                    let request = v1::VoidTransactionRequest { transaction_id };
                    client.transactions.void_transaction(request).await.map(|_| 0)
                } else {
                    let request =
                        v1::SettleTransactionRequest { transaction_id, amount: Some(amount) };
                    client.transactions.settle_transaction(request).await.map(|_| amount)
                }
            });
        }
        let results = callers.join_all().await;
        let won = results.iter().filter_map(|result| result.as_ref().ok()).collect::<Vec<_>>();
        assert_eq!(won.len(), 1, "{results:?}");
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            assert_eq!(error.code(), tonic::Code::FailedPrecondition, "{error}");
        }
        spent += *won[0];
        let request = v1::GetBudgetRequest { agent_id: agent_id.clone(), ..Default::default() };
        let left = admin.budget.get_budget(request).await.unwrap().into_inner().budget.unwrap();
        assert_eq!(left.spent, spent);
    }
    server.stop().await;
}

on_all! {
    eight_budgets_under_64_callers_are_spent_to_the_last_unit;
    caps_are_spent_to_the_last_unit_and_stop_nobody_else;
    windows_let_exactly_their_number_and_their_sum_through;
    what_was_refused_would_not_fit_in_what_is_left;
    a_key_that_100_callers_use_is_decided_once_even_when_one_asks_for_something_else;
    of_settlements_and_voids_that_race_one_wins;
}
