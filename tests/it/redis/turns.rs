//! The turn to record what is in the outboxes: whoever has it and does nothing keeps nobody waiting
//! for long.
//!
//! Not here: servers that are stopped while they have it (`chaos`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use quetra::clock::SystemClock;
use quetra::config::{DatabaseUrl, RedisConfig, Secret, ServerConfig};
use quetra::proto::v1::Decision;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::insist;
use crate::harness::postgres::as_owner;
use crate::harness::redis::Redis;
use crate::harness::{STRICT, Server, ask, budget, shared_database};

/// A second after which others record, and what a busy machine takes.
const PATIENCE: Duration = Duration::from_secs(6);

/// The lock of a process of Redis, as servers make it of its replication id.
fn lock_of(redis: &Redis) -> i32 {
    let info = redis.info("replication");
    let (_, id) = info.split_once("master_replid:").unwrap();
    i32::from_str_radix(&id[..7], 16).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_is_not_used_keeps_no_answer_waiting() {
    let redis = Redis::start("everysec");
    let database = shared_database().await;
    let DatabaseUrl::Postgres(url) = &database else { panic!("not in Postgres") };
    let mut idle = PgConnection::connect(&as_owner(url.expose())).await.unwrap();
    let lock = sqlx::query_scalar("SELECT pg_try_advisory_lock(7402, $1)").bind(lock_of(&redis));
    let is_taken: bool = lock.fetch_one(&mut idle).await.unwrap();
    assert!(is_taken);
    let url = Secret::new(redis.url());
    let change = move |config: &mut ServerConfig| {
        config.database = database;
        config.redis = Some(RedisConfig { url, level: STRICT });
    };
    let server = Server::with(change, Arc::new(SystemClock)).await;
    let mut admin = server.admin().await;
    let (agent, _) = admin.agent_with_mandate(budget(100, 1), vec![]).await;
    let since = Instant::now();
    let answer = insist(&mut admin, &ask(&agent, 1)).await;
    assert_eq!(answer.decision(), Decision::Approved, "{}", answer.explanation);
    assert!(since.elapsed() < PATIENCE, "{:?}", since.elapsed());
    idle.close().await.unwrap();
    insist(&mut admin, &ask(&agent, 1)).await;
    server.stop().await;
}
