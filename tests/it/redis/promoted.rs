//! A replica that is promoted: servers that reach it and servers that still reach the old master
//! spend no more than there is, lose no answer that is promised, and heed every stop.
//!
//! Each test has a master and a replica of its own, and both serve at once for a while. Not here:
//! the same under everything else that fails (`chaos`), and each of its states (`protocol`).

use std::time::Duration;

use quetra::config::{DurabilityLevel, RedisConfig, Secret};
use quetra::proto::v1::{self, Decision};
use sqlx::postgres::PgPool;
use tokio::time::{sleep, timeout};

use super::operators::url;
use super::{
    Approved, CALLERS, all_are_there, call, count, insist, refusal, server, server_at, spent,
    under_load,
};
use crate::harness::postgres::as_owner;
use crate::harness::redis::Redis;
use crate::harness::{Clients, DURABLE, FAST, STRICT, ask, budget};
use crate::proxy::Proxy;

/// After this everybody has found out what happened.
const A_WHILE: Duration = Duration::from_millis(1_200);

/// A master and its replica, set to keep what a level promises.
fn pair(level: DurabilityLevel) -> (Redis, Redis) {
    let master = Redis::start(if level == DURABLE { "always" } else { "everysec" });
    let replica = Redis::replica_of(&master);
    (master, replica)
}

fn through(proxy: &Proxy) -> String {
    format!("redis://{}/0", proxy.address())
}

/// Leads a way to another Redis: what was connected loses its connection.
fn lead(proxy: &Proxy, to: &Redis) {
    proxy.point_to(to.address());
    proxy.end_all();
}

/// Spends one unit at a time through each client in turn, until none is approved; how much.
async fn spend_all(clients: &mut [Clients], agent: &str) -> i64 {
    let (mut sum, mut in_vain) = (0, 0);
    while in_vain < clients.len() {
        for client in &mut *clients {
            match call(client, &ask(agent, 1)).await {
                Some(answer) if answer.decision() == Decision::Approved => {
                    sum += 1;
                    in_vain = 0;
                }
                Some(_) | None => in_vain += 1,
            }
        }
    }
    sum
}

/// Two servers under load, which are led to the promoted replica one after the other.
async fn a_split_under_load(level: DurabilityLevel) {
    let (old, new) = pair(level);
    let (first, second) = (Proxy::to(old.address()).await, Proxy::to(old.address()).await);
    let one = server_at(&through(&first), level).await;
    let other = one.replica_at(&through(&second)).await;
    let mut admin = one.admin().await;
    let clients = [admin.clone(), other.admin().await];
    // Enough although a takeover strands a slice, a quarter of what is left, below `strict`.
    let (agent, _) = admin.agent_with_mandate(budget(10_000, 1), vec![]).await;
    let (approved, rejected) = under_load(&clients, &agent, 20, async {
        sleep(Duration::from_millis(150)).await;
        new.promote();
        lead(&second, &new);
        sleep(A_WHILE).await;
        lead(&first, &new);
    })
    .await;
    assert_eq!((approved.len(), rejected), (CALLERS * 20, 0), "nothing is falsely rejected");
    if level != FAST {
        all_are_there(&mut admin, &approved).await;
        assert_eq!(spent(&mut admin, &agent).await, count(&approved));
    }
    other.end().await;
    one.stop().await;
    assert!(old.info("replication").contains("role:master"), "it was not there to the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_on_both_sides_of_a_split_lose_no_answer_at_strict() {
    a_split_under_load(STRICT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_on_both_sides_of_a_split_lose_no_answer_at_durable() {
    a_split_under_load(DURABLE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_on_both_sides_of_a_split_go_on_at_fast() {
    a_split_under_load(FAST).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_masters_never_spend_more_than_there_is() {
    for level in [FAST, STRICT] {
        let (old, new) = pair(level);
        let one = server_at(&old.url(), level).await;
        let mut on_old = one.admin().await;
        let (agent, _) = on_old.agent_with_mandate(budget(100, 1), vec![]).await;
        let mut approved = Approved::new();
        for _ in 0..20 {
            let request = ask(&agent, 1);
            let answer = insist(&mut on_old, &request).await;
            approved.insert(request.idempotency_key.clone(), (request, answer));
        }
        new.promote();
        // A server that was told of another address takes over; the old master goes on to serve.
        let other = one.replica_at(&new.url()).await;
        let on_new = other.admin().await;
        let mut both = [on_new.clone(), on_old.clone()];
        let sum = 20 + spend_all(&mut both, &agent).await;
        assert!(sum <= 100, "overspent at {level:?}: {sum}");
        assert!(sum >= 50, "no more than {sum} could be spent at {level:?}");
        if level == STRICT {
            let [on_new, _] = &mut both;
            all_are_there(on_new, &approved).await;
            while spent(on_new, &agent).await < 100 {
                let answer = insist(on_new, &ask(&agent, 1)).await;
                assert_eq!(answer.decision(), Decision::Approved, "{}", answer.explanation);
            }
            let answer = insist(on_new, &ask(&agent, 1)).await;
            assert_eq!(answer.decision(), Decision::Rejected);
        }
        drop((on_new, both));
        other.end().await;
        one.stop().await;
        assert!(old.info("replication").contains("role:master"), "it was not there to the end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_holds_on_a_server_that_still_reaches_the_old_master() {
    let (old, new) = pair(FAST);
    let one = server_at(&old.url(), FAST).await;
    let mut on_old = one.admin().await;
    let (agent, mandate) = on_old.agent_with_mandate(budget(100_000, 1), vec![]).await;
    for _ in 0..10 {
        insist(&mut on_old, &ask(&agent, 1)).await;
    }
    new.promote();
    let other = one.replica_at(&new.url()).await;
    let mut on_new = other.admin().await;
    insist(&mut on_new, &ask(&agent, 1)).await;
    // The old master has the mandate in force, and a slice of it.
    let pause = v1::PauseMandateRequest { mandate_id: mandate.clone() };
    on_new.mandates.pause_mandate(pause).await.unwrap();
    for _ in 0..20 {
        let answer = call(&mut on_old, &ask(&agent, 1)).await;
        assert!(
            answer.is_none_or(|answer| answer.decision() == Decision::Rejected),
            "it was approved after the stop"
        );
    }
    let resume = v1::ResumeMandateRequest { mandate_id: mandate.clone() };
    on_new.mandates.resume_mandate(resume).await.unwrap();
    insist(&mut on_new, &ask(&agent, 1)).await;
    // Who still reaches the old master cannot say that everybody heeds it.
    let pause = v1::PauseMandateRequest { mandate_id: mandate };
    let paused = on_old.mandates.pause_mandate(pause).await;
    let answer = insist(&mut on_new, &ask(&agent, 1)).await;
    let is_stopped = answer.decision() == Decision::Rejected;
    assert!(paused.is_err() || is_stopped, "{}", answer.explanation);
    other.end().await;
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_was_demoted_and_promoted_again_is_another_one() {
    let (old, new) = pair(FAST);
    let server = server(&old, FAST).await;
    let mut admin = server.admin().await;
    let (agent, _) = admin.agent_with_mandate(budget(100, 1), vec![]).await;
    let mut sum = 0;
    for _ in 0..2 {
        for _ in 0..5 {
            sum += i64::from(call(&mut admin, &ask(&agent, 1)).await.is_some());
        }
        new.promote();
        for _ in 0..5 {
            sum += i64::from(call(&mut admin, &ask(&agent, 1)).await.is_some());
        }
        // It forgets what the other one has not, and is master again: the server's connection to it
        // lasts, and so do its slices.
        old.follow(&new);
        old.promote();
        new.follow(&old);
    }
    sum += spend_all(&mut [admin.clone()], &agent).await;
    assert!(sum <= 100, "overspent: {sum}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_replica_comes_durable_waits_for_postgres() {
    let redis = Redis::start("always");
    let server = server(&redis, DURABLE).await;
    let mut admin = server.admin().await;
    let (agent, _) = admin.agent_with_mandate(budget(100_000, 1), vec![]).await;
    insist(&mut admin, &ask(&agent, 1)).await;
    let pool = PgPool::connect(&as_owner(url(&server))).await.unwrap();
    // Nothing is recorded while somebody else has the organization's turn.
    const TURN: &str = "SELECT seq FROM ledger_head FOR UPDATE";
    let mut turn = pool.begin().await.unwrap();
    sqlx::query(TURN).execute(&mut *turn).await.unwrap();
    let answer = insist(&mut admin, &ask(&agent, 1)).await;
    assert_eq!(answer.durability(), v1::Durability::Durable, "it is on its disk");
    turn.rollback().await.unwrap();

    let replica = Redis::replica_of(&redis);
    sleep(A_WHILE).await;
    // The connection is another one now, with all that it takes.
    insist(&mut admin, &ask(&agent, 1)).await;
    let mut turn = pool.begin().await.unwrap();
    sqlx::query(TURN).execute(&mut *turn).await.unwrap();
    let request = ask(&agent, 1);
    let early = timeout(Duration::from_millis(500), call(&mut admin, &request)).await;
    assert!(early.is_err(), "it was answered before Postgres had it: {early:?}");
    turn.rollback().await.unwrap();
    let answer = insist(&mut admin, &request).await;
    assert_eq!(answer.decision(), Decision::Approved, "{}", answer.explanation);
    // A replica itself is nobody to spend from.
    let at = RedisConfig { url: Secret::new(replica.url()), level: FAST };
    let said = refusal(server.database(), Some(at)).await;
    assert!(said.contains("name the master in redis_url"), "{said}");
    pool.close().await;
    server.stop().await;
}
