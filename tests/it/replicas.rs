//! Two servers on one Postgres database, without Redis and with it: together they approve what one
//! would, a stop on one is seen by the very next decision on the other, and a lost connection loses
//! no answer.
//!
//! `QUETRA_CASES` scales the number of calls. Not here: what one server does (`race`, `control`),
//! and the reference (`model`).

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quetra::clock::{Clock, ManualClock, SystemClock};
use quetra::config::DatabaseUrl;
use quetra::proto::v1::{self, Decision, RejectionReason as Why};
use sqlx::postgres::PgPool;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Code;

use crate::dice::setting;
use crate::harness::{Clients, Engine, FAST, STRICT, Server, ask, budget, on_shared, refused};

const CALLERS: usize = 64;

/// Calls that are answered between two cuts, at least: a machine that is slow to connect again
/// would be cut off before it had done anything.
const BETWEEN_CUTS: usize = 16;

/// Ends every connection of the servers under test, as a Postgres that restarts does.
const CUT: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'quetra'";

/// Two servers, and an admin of each.
async fn pair(engine: Engine) -> (Server, Server, [Clients; 2]) {
    let one = Server::on(engine).await;
    let other = one.replica(Arc::new(SystemClock)).await;
    let admins = [one.admin().await, other.admin().await];
    (one, other, admins)
}

async fn stop(one: Server, other: Server) {
    other.stop().await;
    one.stop().await;
}

fn calls() -> usize {
    usize::try_from(setting("QUETRA_CASES", 80_000).clamp(20_000, 2_000_000) / 60).unwrap()
}

/// Half of the callers ask each server; every call is repeated until it is answered. How much was
/// approved.
async fn spend_everywhere(admins: &[Clients; 2], agent: &str, calls: usize) -> i64 {
    spend_and_count(admins, (agent, calls), Arc::default()).await
}

/// The same, counting every answer.
async fn spend_and_count(
    admins: &[Clients; 2],
    (agent, calls): (&str, usize),
    answered: Arc<AtomicUsize>,
) -> i64 {
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (mut client, agent) = (admins[caller % 2].clone(), agent.to_owned());
        let answered = Arc::clone(&answered);
        callers.spawn(async move {
            let mut sum = 0;
            for _ in (caller..calls).step_by(CALLERS) {
                let request = ask(&agent, 1);
                let answer = loop {
                    match client.evaluate.evaluate(request.clone()).await {
                        Ok(answer) => break answer.into_inner(),
                        Err(status) => {
                            let code = status.code();
                            let again = matches!(code, Code::Unavailable | Code::DeadlineExceeded);
                            assert!(again, "{status:?}");
                        }
                    }
                };
                answered.fetch_add(1, Ordering::Relaxed);
                match answer.decision() {
                    Decision::Approved => sum += 1,
                    Decision::Rejected => {
                        assert_eq!(answer.reasons[0].reason(), Why::BudgetExhausted);
                    }
                    Decision::Unspecified | Decision::PendingApproval => panic!("{answer:?}"),
                }
            }
            sum
        });
    }
    callers.join_all().await.into_iter().sum()
}

async fn spent(client: &mut Clients, agent_id: &str) -> i64 {
    let request = v1::GetBudgetRequest { agent_id: agent_id.to_owned(), ..Default::default() };
    client.budget.get_budget(request).await.unwrap().into_inner().budget.unwrap().spent
}

async fn two_servers_under_64_callers_spend_a_budget_to_the_last_unit(engine: Engine) {
    let (one, other, mut admins) = pair(engine).await;
    let calls = calls();
    let demand = i64::try_from(calls).unwrap();
    for limit in [demand / 3, demand * 2] {
        let (agent, _) = admins[0].agent_with_mandate(budget(limit, 1), vec![]).await;
        let approved = spend_everywhere(&admins, &agent, calls).await;
        assert_eq!(approved, limit.min(demand));
        for admin in &mut admins {
            assert_eq!(spent(admin, &agent).await, approved);
        }
    }
    stop(one, other).await;
}

async fn connections_that_are_cut_lose_no_answer_and_charge_nothing_twice(engine: Engine) {
    let (one, other, mut admins) = pair(engine).await;
    let DatabaseUrl::Postgres(url) = one.database() else { panic!("not on Postgres") };
    let pool = PgPool::connect(url.expose()).await.unwrap();
    let (calls, limit) = (calls(), i64::try_from(calls() / 2).unwrap());
    let (agent, _) = admins[0].agent_with_mandate(budget(limit, 1), vec![]).await;
    let both = admins.clone();
    let answered = Arc::new(AtomicUsize::new(0));
    let mut spending = Box::pin(spend_and_count(&both, (&agent, calls), Arc::clone(&answered)));
    let mut pace = tokio::time::interval(Duration::from_millis(150));
    let (mut ended, mut next) = (0, 0);
    let approved = loop {
        tokio::select! {
            approved = &mut spending => break approved,
            _ = pace.tick() => {
                let done = answered.load(Ordering::Relaxed);
                if done >= next {
                    next = done + BETWEEN_CUTS;
                    ended += sqlx::query_scalar::<_, i64>(CUT).fetch_one(&pool).await.unwrap();
                }
            }
        }
    };
    assert!(ended > 0, "nothing was cut");
    assert_eq!(approved, limit);
    assert_eq!(spent(&mut admins[1], &agent).await, limit);
    pool.close().await;
    stop(one, other).await;
}

async fn a_key_that_both_servers_are_asked_with_is_decided_once(engine: Engine) {
    let (one, other, mut admins) = pair(engine).await;
    let (agent, _) = admins[0].agent_with_mandate(budget(1_000_000, 1_000), vec![]).await;
    for round in 1..=20 {
        let request = ask(&agent, 7);
        let mut callers = JoinSet::new();
        for caller in 0..32 {
            let (mut client, request) = (admins[caller % 2].clone(), request.clone());
            callers.spawn(async move { client.spend(request).await });
        }
        let answers = callers.join_all().await;
        assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
        let ids = answers.iter().map(|answer| &answer.transaction_id).collect::<HashSet<_>>();
        assert_eq!(ids.len(), 1);
        assert_eq!(spent(&mut admins[1], &agent).await, 7 * round);
    }
    stop(one, other).await;
}

async fn a_stop_on_one_server_is_seen_by_the_very_next_decision_on_the_other(engine: Engine) {
    let (one, other, [mut admin, mut elsewhere]) = pair(engine).await;
    let (agent_id, mandate_id) = admin.agent_with_mandate(budget(1_000_000, 1_000), vec![]).await;
    for round in 0..10 {
        let stops = [Why::MandatePaused, Why::AgentNotActive, Why::OrganizationFrozen];
        for (which, why) in stops.iter().enumerate() {
            let (agent_id, mandate_id) = (agent_id.clone(), mandate_id.clone());
            // It has everything in its memory as it stood before.
            assert_eq!(elsewhere.spend(ask(&agent_id, 1)).await.decision(), Decision::Approved);
            stop_spending(&mut admin, which, (&agent_id, &mandate_id)).await;
            let answer = elsewhere.spend(ask(&agent_id, 1)).await;
            assert_eq!(answer.decision(), Decision::Rejected, "round {round}, {why:?}");
            assert_eq!(answer.reasons[0].reason(), *why);
            resume_spending(&mut admin, which, (&agent_id, &mandate_id)).await;
        }
    }
    let request = v1::RevokeMandateRequest { mandate_id, ..Default::default() };
    admin.mandates.revoke_mandate(request).await.unwrap();
    let answer = elsewhere.spend(ask(&agent_id, 1)).await;
    assert_eq!(answer.reasons[0].reason(), Why::MandateRevoked);
    stop(one, other).await;
}

async fn stop_spending(admin: &mut Clients, which: usize, (agent, mandate): (&str, &str)) {
    let (agent_id, mandate_id) = (agent.to_owned(), mandate.to_owned());
    match which {
        0 => drop(admin.mandates.pause_mandate(v1::PauseMandateRequest { mandate_id }).await),
        1 => drop(admin.agents.suspend_agent(v1::SuspendAgentRequest { agent_id }).await),
        _ => {
            let request = v1::FreezeOrganizationRequest {};
            drop(admin.organization.freeze_organization(request).await);
        }
    }
}

async fn resume_spending(admin: &mut Clients, which: usize, (agent, mandate): (&str, &str)) {
    let (agent_id, mandate_id) = (agent.to_owned(), mandate.to_owned());
    match which {
        0 => drop(admin.mandates.resume_mandate(v1::ResumeMandateRequest { mandate_id }).await),
        1 => drop(admin.agents.resume_agent(v1::ResumeAgentRequest { agent_id }).await),
        _ => {
            let request = v1::UnfreezeOrganizationRequest {};
            drop(admin.organization.unfreeze_organization(request).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_revoked_on_one_server_ends_on_the_other_within_a_second() {
    let (one, other, [mut admin, _]) = pair(Engine::Postgres).await;
    for round in 0..3 {
        let request = v1::CreateApiKeyRequest {
            name: format!("key {round}"),
            role: v1::Role::Agent.into(),
            agent_id: one.agent_id(),
            ..Default::default()
        };
        let made = admin.organization.create_api_key(request).await.unwrap().into_inner();
        let mut client = other.with_key(&made.key).await;
        client.spend(ask(&one.agent_id(), 1)).await;
        let api_key_id = made.api_key.unwrap().id;
        let request = v1::RevokeApiKeyRequest { api_key_id };
        admin.organization.revoke_api_key(request).await.unwrap();
        let revoked = Instant::now();
        loop {
            let began = Instant::now();
            let answer = client.evaluate.evaluate(ask(&one.agent_id(), 1)).await;
            if answer.is_err() {
                refused(answer, "CREDENTIAL_INVALID");
                break;
            }
            let late = began.duration_since(revoked);
            assert!(late < Duration::from_secs(1), "a call was served {late:?} after it");
        }
    }
    stop(one, other).await;
}

async fn of_settlements_and_voids_on_two_servers_one_wins(engine: Engine) {
    let (one, other, mut admins) = pair(engine).await;
    let (agent_id, _) = admins[0].agent_with_mandate(budget(1_000, 1_000), vec![]).await;
    let mut total = 0;
    for _ in 0..20 {
        let transaction_id = admins[0].spend(ask(&agent_id, 40)).await.transaction_id;
        let settle = v1::SettleTransactionRequest {
            transaction_id: transaction_id.clone(),
            amount: Some(9),
        };
        let void = v1::VoidTransactionRequest { transaction_id };
        let [first, second] = &mut admins;
        let (settled, voided) = tokio::join!(
            first.transactions.settle_transaction(settle),
            second.transactions.void_transaction(void)
        );
        assert_ne!(settled.is_ok(), voided.is_ok(), "{settled:?} {voided:?}");
        total += if settled.is_ok() { 9 } else { 0 };
        assert_eq!(spent(&mut admins[1], &agent_id).await, total);
    }
    stop(one, other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_clock_is_behind_continues_the_time_of_the_record() {
    let one = Server::on(Engine::Postgres).await;
    let behind = SystemClock.now() - Duration::from_secs(3_600);
    let other = one.replica(Arc::new(ManualClock::new(behind))).await;
    let (mut here, mut there) = (one.admin().await, other.admin().await);
    // In force by both clocks.
    let (agent, _) = there.agent_with_mandate(budget(1_000, 100), vec![]).await;
    for _ in 0..5 {
        here.spend(ask(&agent, 1)).await;
        there.spend(ask(&agent, 1)).await;
    }
    // The order of the record is checked when they stop.
    stop(one, other).await;
}

on_shared! {
    two_servers_under_64_callers_spend_a_budget_to_the_last_unit;
    connections_that_are_cut_lose_no_answer_and_charge_nothing_twice;
    a_key_that_both_servers_are_asked_with_is_decided_once;
    a_stop_on_one_server_is_seen_by_the_very_next_decision_on_the_other;
    of_settlements_and_voids_on_two_servers_one_wins;
}
