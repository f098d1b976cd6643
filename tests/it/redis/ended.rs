//! What an epoch had leased at `durable` when it ended: it can be spent again, without an operator,
//! where its log is known to have everything that was answered, and only there.
//!
//! Not here: what operators free who know better (`operators`), and every state of the protocol
//! (`protocol`).

use std::time::Duration;

use quetra::proto::v1::Decision;
use sqlx::postgres::PgPool;
use tokio::time::Instant;

use super::levels::{hold, owner};
use super::operators::until;
use super::{CUT, call, insist, server};
use crate::harness::redis::Redis;
use crate::harness::{Clients, DURABLE, Server, ask, budget};

const LIMIT: i64 = 100;
/// Until everything that can be freed is free, with as much again to spare.
const LONG_AFTER: Duration = Duration::from_secs(6);
const PATIENCE: Duration = Duration::from_secs(60);

/// Spends one unit for each of so many; all are approved.
async fn approve(admin: &mut Clients, agent: &str, count: i64) {
    for _ in 0..count {
        let answer = insist(admin, &ask(agent, 1)).await;
        assert_eq!(answer.decision(), Decision::Approved, "{}", answer.explanation);
    }
}

/// How much is approved until something is rejected, or so long.
async fn approved_within(admin: &mut Clients, agent: &str, time: Duration) -> i64 {
    let (mut sum, until) = (0, Instant::now() + time);
    while Instant::now() < until {
        match call(admin, &ask(agent, 1)).await.map(|answer| answer.decision()) {
            Some(Decision::Approved) => sum += 1,
            Some(_) => break,
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    sum
}

/// A server, its agent with a budget, and the tables; five were approved and are recorded.
async fn begun(redis: &Redis) -> (Server, Clients, String, PgPool) {
    let server = server(redis, DURABLE).await;
    let mut admin = server.admin().await;
    let (agent, _) = admin.agent_with_mandate(budget(LIMIT, 1), vec![]).await;
    approve(&mut admin, &agent, 5).await;
    until(&server, redis, |status| status["shards"][0]["outbox"] == "recorded").await;
    let pool = owner(&server).await;
    (server, admin, agent, pool)
}

/// What the first epoch still has, and whether its log was found whole.
pub(super) async fn first_epoch(pool: &PgPool) -> (i64, Option<bool>) {
    let sql = "SELECT coalesce(sum(leased), 0)::bigint, bool_and(is_sound)
        FROM shard_epoch LEFT JOIN lease USING (shard, epoch) WHERE epoch = 1";
    sqlx::query_as(sql).fetch_one(pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_redis_had_is_free_again_by_itself() {
    let mut redis = Redis::start("always");
    let (server, mut admin, agent, pool) = begun(&redis).await;
    // Some of it is answered and not recorded when Redis dies.
    let turn = hold(&pool).await;
    approve(&mut admin, &agent, 10).await;
    redis.kill();
    turn.rollback().await.unwrap();
    redis.again();
    assert_eq!(approved_within(&mut admin, &agent, PATIENCE).await, LIMIT - 15);
    assert_eq!(first_epoch(&pool).await, (0, Some(true)));
    let answer = insist(&mut admin, &ask(&agent, 1)).await;
    assert_eq!(answer.decision(), Decision::Rejected);
    pool.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_put_back_behind_the_record_frees_nothing() {
    let mut redis = Redis::start("always");
    let (server, mut admin, agent, pool) = begun(&redis).await;
    let dump = tempfile::tempdir().unwrap();
    redis.copy_as_it_is_to(dump.path());
    approve(&mut admin, &agent, 10).await;
    until(&server, &redis, |status| status["shards"][0]["outbox"] == "recorded").await;
    redis.kill();
    redis.put_back(dump.path());
    redis.again();
    assert!(approved_within(&mut admin, &agent, LONG_AFTER).await < LIMIT - 15);
    let (left, is_sound) = first_epoch(&pool).await;
    assert!(left > 0 && is_sound == Some(false), "{left} {is_sound:?}");
    pool.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lacks_what_a_server_has_answered_frees_nothing() {
    let mut redis = Redis::start("always");
    let (server, mut admin, agent, pool) = begun(&redis).await;
    let dump = tempfile::tempdir().unwrap();
    redis.copy_as_it_is_to(dump.path());
    // The record is not ahead of the copy: nobody but the server knows what is missing there.
    let turn = hold(&pool).await;
    approve(&mut admin, &agent, 10).await;
    redis.kill();
    redis.put_back(dump.path());
    // What the projector has read already is not recorded either.
    sqlx::query(CUT).execute(&pool).await.unwrap();
    turn.rollback().await.unwrap();
    redis.again();
    let more = approved_within(&mut admin, &agent, LONG_AFTER).await;
    assert!(15 + more <= LIMIT, "overspent: 15 and {more} of {LIMIT} were approved");
    let (left, is_sound) = first_epoch(&pool).await;
    assert!(left >= 10 && is_sound == Some(false), "{left} {is_sound:?}");
    pool.close().await;
    server.stop().await;
}
