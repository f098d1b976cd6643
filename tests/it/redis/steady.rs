//! What a decision at `fast` needs when it has been there before: one script, and nothing of
//! Postgres.
//!
//! Not here: how fast that is (the benchmark), and what is needed the first time (`redis`).

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use quetra::clock::{Clock, ManualClock, SystemClock};
use quetra::config::{RedisConfig, Secret, ServerConfig};
use quetra::proto::v1::rule::Kind;
use quetra::proto::v1::{Decision, EvaluateRequest, RateLimitRule, Rule};
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use uuid::{NoContext, Uuid};

use super::operators::url;
use super::{insist, spent};
use crate::harness::postgres::as_owner;
use crate::harness::redis::Redis;
use crate::harness::{FAST, Server, ask, budget, shared_database};

/// Everything that a decision could want, but what is read again beside it before it is too old:
/// the credentials, and whose the shards are.
const LOCK: &str = "LOCK TABLE organization, agent, mandate, spend, counter, lease, ledger_head,
    shard_epoch IN ACCESS EXCLUSIVE MODE";

/// How long Postgres keeps everything to itself; shorter than it waits for locks.
const LOCKED: Duration = Duration::from_secs(2);

/// A spend of one unit with a key that says when it was made.
fn ask_at(agent: &str, at: Timestamp) -> EvaluateRequest {
    let seconds = u64::try_from(at.as_second()).unwrap();
    let made = uuid::Timestamp::from_unix(NoContext, seconds, 0);
    let idempotency_key = Uuid::new_v7(made).to_string();
    EvaluateRequest { idempotency_key, ..ask(agent, 1) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mandate_that_was_spent_from_is_spent_from_without_postgres() {
    let redis = Redis::start("everysec");
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let database = shared_database().await;
    let url_of_redis = Secret::new(redis.url());
    let change = move |config: &mut ServerConfig| {
        config.database = database;
        config.redis = Some(RedisConfig { url: url_of_redis, level: FAST });
    };
    let its_clock = Arc::clone(&clock);
    let server = Server::with(change, its_clock).await;
    let mut admin = server.admin().await;
    let rate = Kind::RateLimit(RateLimitRule { max_transactions: 1_000_000, window_minutes: 60 });
    let rate = Rule { kind: Some(rate) };
    let (agent, _) = admin.agent_with_mandate(budget(1_000_000, 1), vec![rate]).await;
    insist(&mut admin, &ask_at(&agent, clock.now())).await;
    // From now on keys are known to be younger than the epoch.
    clock.set(clock.now() + SignedDuration::from_secs(180));
    insist(&mut admin, &ask_at(&agent, clock.now())).await;

    let mut postgres = PgConnection::connect(&as_owner(url(&server))).await.unwrap();
    let mut locked = postgres.begin().await.unwrap();
    sqlx::raw_sql(LOCK).execute(&mut *locked).await.unwrap();
    let (since, mut count) = (tokio::time::Instant::now(), 0);
    while since.elapsed() < LOCKED {
        let answer = admin.evaluate.evaluate(ask_at(&agent, clock.now())).await.unwrap();
        assert_eq!(answer.into_inner().decision(), Decision::Approved);
        count += 1;
    }
    locked.rollback().await.unwrap();
    assert!(count > 100, "only {count} were decided");
    assert_eq!(spent(&mut admin, &agent).await, count + 2);
    server.stop().await;
}
