//! Everything at once: of acts that exclude each other one is done, and the books say so.
//!
//! `Server::stop` checks the books after each test. Not here: one act after the other.

use jiff::SignedDuration;
use quetra::clock::Clock;
use quetra::proto::v1::{self, TransactionState as State};
use tokio::task::JoinSet;

use super::{FAST, STRICT, key, rule, start};
use crate::harness::{Clients, Engine, ask, budget, on_all};

on_all! {
    settle_void_and_expiry_exclude_each_other;
    of_two_who_answer_at_once_one_is_heard;
    an_approval_never_outruns_a_stop;
}

async fn settle_void_and_expiry_exclude_each_other(engine: Engine) {
    let (server, mut admin, clock) = start(engine).await;
    let limits = v1::Budget { hold_minutes: Some(1), ..budget(100_000, 1_000) };
    let (agent_id, _) = admin.agent_with_mandate(limits, vec![]).await;
    let mut spent = 0;
    for _ in 0..6 {
        let id = admin.spend(ask(&agent_id, 100)).await.transaction_id;
        let due = clock.now() + SignedDuration::from_secs(60);
        let mut calls = JoinSet::new();
        for n in 0..8 {
            let (mut admin, id, clock) = (admin.clone(), id.clone(), clock.clone());
            calls.spawn(async move {
                match n {
                    // In the middle of it the time is over.
                    0 => clock.set(due),
                    1..4 => drop(admin.transactions.void_transaction(void(&id)).await),
                    _ => drop(admin.transactions.settle_transaction(settle(&id, 60)).await),
                }
            });
        }
        calls.join_all().await;
        let found = admin.until_ended(&id).await;
        let state = found.state();
        assert!(matches!(state, State::Settled | State::Voided | State::Expired), "{state:?}");
        assert_eq!(found.settled_amount.is_some(), state == State::Settled);
        spent += found.settled_amount.unwrap_or_default();
        assert_eq!(admin.committed(&agent_id).await, (spent, 0));
    }
    server.stop().await;
}

fn void(id: &str) -> v1::VoidTransactionRequest {
    v1::VoidTransactionRequest { transaction_id: id.to_owned() }
}

fn settle(id: &str, amount: i64) -> v1::SettleTransactionRequest {
    v1::SettleTransactionRequest { transaction_id: id.to_owned(), amount: Some(amount) }
}

async fn of_two_who_answer_at_once_one_is_heard(engine: Engine) {
    let (server, mut admin, clock) = start(engine).await;
    let (agent_id, _) =
        admin.agent_with_mandate(budget(1_000_000, 50_000), vec![rule(1, &[])]).await;
    let mut people = Vec::new();
    for _ in 0..3 {
        let (_, text) = key(&mut admin, v1::Role::Admin, "").await;
        people.push(server.with_key(&text).await);
    }
    let mut spent = 0;
    for round in 0..6 {
        let id = admin.spend(ask(&agent_id, 20_000)).await.transaction_id;
        let due = clock.now() + SignedDuration::from_mins(60);
        let mut calls = JoinSet::new();
        for (n, person) in people.iter().enumerate() {
            let (mut person, id): (Clients, _) = (person.clone(), id.clone());
            calls.spawn(async move {
                match n {
                    0 | 1 => person.approve(&id).await.is_ok(),
                    _ => person.deny(&id).await.is_ok(),
                }
            });
        }
        if round % 2 == 1 {
            clock.set(due);
        }
        let heard = calls.join_all().await.into_iter().filter(|heard| *heard).count();
        let found = admin.after(&id, 9).await;
        let state = found.state();
        assert!(matches!(state, State::Approved | State::Denied | State::Timeout), "{state:?}");
        assert_eq!(heard, usize::from(state != State::Timeout));
        if state == State::Approved {
            spent += 20_000;
            let shown = admin.approval(&id).await;
            assert_eq!((shown.grants.len(), shown.denial), (1, None));
        }
        assert_eq!(admin.committed(&agent_id).await, (spent, 0));
    }
    server.stop().await;
}

async fn an_approval_never_outruns_a_stop(engine: Engine) {
    let (server, mut admin, _) = start(engine).await;
    let (_, text) = key(&mut admin, v1::Role::Admin, "").await;
    for round in 0..4 {
        let limits = budget(1_000_000, 50_000);
        let (agent_id, mandate_id) = admin.agent_with_mandate(limits, vec![rule(1, &[])]).await;
        let id = admin.spend(ask(&agent_id, 20_000)).await.transaction_id;
        let mut person = server.with_key(&text).await;
        let approving = tokio::spawn({
            let id = id.clone();
            async move { person.approve(&id).await.is_ok() }
        });
        if round % 2 == 0 {
            let revoke = v1::RevokeMandateRequest { mandate_id, ..Default::default() };
            admin.mandates.revoke_mandate(revoke).await.unwrap();
        } else {
            let freeze = v1::FreezeOrganizationRequest {};
            admin.organization.freeze_organization(freeze).await.unwrap();
        }
        // The stop has returned: nothing that is asked for from now on is approved.
        let mut late = server.with_key(&text).await;
        let before = admin.now(&id).await.state();
        let answered = late.approve(&id).await;
        let first = approving.await.unwrap();
        assert_eq!(answered.is_ok(), before == State::Approved, "{before:?}");
        if before == State::PendingApproval && !first {
            assert_eq!(admin.now(&id).await.state(), State::PendingApproval);
        }
        if round % 2 == 1 {
            let unfreeze = v1::UnfreezeOrganizationRequest {};
            admin.organization.unfreeze_organization(unfreeze).await.unwrap();
        }
    }
    server.stop().await;
}
