//! What operators see of the ledger in Redis and may do about it: idle slices come back,
//! `quetra ledger status` says how it stands, `reconcile` frees what an ended epoch has.
//!
//! Each test is a failure that docs/OPERATING.md has a page for. Not here: that budgets hold in all
//! of them (`redis`).

use std::sync::Arc;
use std::time::Duration;

use quetra::clock::{Clock, ManualClock, SystemClock};
use quetra::config::{DatabaseUrl, RedisConfig, Secret, ServerConfig};
use quetra::proto::v1::Decision;
use serde_json::Value;
use sqlx::postgres::PgPool;

use super::{call, insist, server, spent};
use crate::harness::postgres::as_owner;
use crate::harness::redis::Redis;
use crate::harness::{Clients, FAST, Server, ask, budget, shared_database};
use crate::process::quetra;
use crate::tidy::read;

/// How long something that happens by itself may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn url(server: &Server) -> &str {
    let DatabaseUrl::Postgres(url) = server.database() else { panic!("not in Postgres") };
    url.expose()
}

/// What `quetra ledger …` says, as JSON; it must succeed.
async fn ledger(server: &Server, redis: &Redis, command: &[&str]) -> Value {
    let (database, redis) = (url(server).to_owned(), redis.url());
    let flags = ["--output", "json", "--log", "off", "--durability", "fast"];
    let mut ledger = quetra(&[&["ledger"], command, &flags].concat());
    ledger.args(["--database-url", &database, "--redis-url", &redis]);
    let output = tokio::task::spawn_blocking(move || ledger.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Waits until the status is as it should be.
pub(super) async fn until(server: &Server, redis: &Redis, is_so: impl Fn(&Value) -> bool) -> Value {
    let begun = tokio::time::Instant::now();
    loop {
        let status = ledger(server, redis, &["status"]).await;
        if is_so(&status) {
            return status;
        }
        assert!(begun.elapsed() < PATIENCE, "it never comes to it: {status:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn leased(pool: &PgPool) -> i64 {
    let sql = "SELECT coalesce(sum(leased), 0)::bigint FROM lease";
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

/// Spends one by one until nothing more is approved; how much that was. What counts as spent and
/// is not recorded cannot be rejected: such a call ends without an answer, each time.
async fn spend_all(admin: &mut Clients, agent: &str) -> i64 {
    let mut sum = 0;
    loop {
        let request = ask(agent, 1);
        let mut answer = None;
        for _ in 0..3 {
            answer = call(admin, &request).await;
            if answer.is_some() {
                break;
            }
        }
        if answer.is_none_or(|answer| answer.decision() == Decision::Rejected) {
            return sum;
        }
        sum += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_spends_from_goes_back_to_postgres_and_can_be_spent_without_redis() {
    let mut redis = Redis::start("everysec");
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let database = shared_database().await;
    let of_redis = Secret::new(redis.url());
    let change = |config: &mut ServerConfig| {
        config.database = database;
        config.redis = Some(RedisConfig { url: of_redis, level: FAST });
    };
    let its_clock: Arc<dyn Clock> = clock.clone();
    let server = Server::with(change, its_clock).await;
    let pool = PgPool::connect(&as_owner(url(&server))).await.unwrap();
    let mut admin = server.admin().await;
    let (agent, _) = admin.agent_with_mandate(budget(100, 1), vec![]).await;
    insist(&mut admin, &ask(&agent, 1)).await;
    assert_eq!(spent(&mut admin, &agent).await, 1);
    let lent = leased(&pool).await;
    assert!(lent > 0, "nothing was leased");
    // Busy slices stay: somebody spends from it, and then a minute has not passed.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(leased(&pool).await, lent);
    let begun = tokio::time::Instant::now();
    while leased(&pool).await > 0 {
        assert!(begun.elapsed() < PATIENCE, "an idle slice is never recalled");
        clock.set(clock.now() + Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // It can be leased again, and what is spent then is what was left.
    insist(&mut admin, &ask(&agent, 1)).await;
    assert_eq!(spent(&mut admin, &agent).await, 2);
    let begun = tokio::time::Instant::now();
    while leased(&pool).await > 0 {
        assert!(begun.elapsed() < PATIENCE, "a slice is recalled once only");
        clock.set(clock.now() + Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    redis.kill();
    // All of it: nothing is stranded with Redis.
    for _ in 2..100 {
        let answer = insist(&mut admin, &ask(&agent, 1)).await;
        assert_eq!(answer.decision(), Decision::Approved, "{}", answer.explanation);
    }
    assert!(call(&mut admin, &ask(&agent, 1)).await.is_none(), "it is refused, or approved");
    redis.again();
    let answer = insist(&mut admin, &ask(&agent, 1)).await;
    assert_eq!(answer.decision(), Decision::Rejected);
    pool.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_redis_had_leased_is_shown_and_freed_by_an_operator_who_knows_better() {
    let mut redis = Redis::start("everysec");
    let server = server(&redis, FAST).await;
    let mut admin = server.admin().await;
    let (agent, mandate) = admin.agent_with_mandate(budget(100, 1), vec![]).await;
    for _ in 0..5 {
        insist(&mut admin, &ask(&agent, 1)).await;
    }
    let before = until(&server, &redis, |status| status["shards"][0]["outbox"] == "recorded").await;
    assert_eq!(before["stranded"], Value::Array(Vec::new()));
    assert_eq!(
        (&before["shards"][0]["epoch"], &before["shards"][0]["slices"]),
        (&1.into(), &1.into())
    );
    let shard = before["shards"][0]["shard"].to_string();
    // Nothing can be freed of an epoch that goes on.
    let free = ["reconcile", "--shard", &shard, "--epoch", "1", "--dangerous-nothing-was-lost"];
    let refused = refusal(&server, &redis, &free).await;
    assert!(refused.contains("has not ended"), "{refused}");

    redis.kill();
    let away = ledger(&server, &redis, &["status"]).await;
    assert!(away["redisError"].is_string() && away["shards"][0]["outbox"] == "unknown", "{away}");
    redis.again();
    insist(&mut admin, &ask(&agent, 1)).await;
    let left = 1 + spend_all(&mut admin, &agent).await;
    assert!(left < 95, "nothing was stranded: {left}");
    let stranded = until(&server, &redis, |status| status["stranded"][0]["recorded"] == true).await;
    let one = &stranded["stranded"][0];
    assert_eq!((&one["mandateId"], &one["level"]), (&mandate.into(), &"fast".into()));
    assert_eq!(one["amount"], 95 - left);
    // To look is not to free.
    let looked = ledger(&server, &redis, &free[..5]).await;
    assert_eq!((&looked["freed"], &looked["stranded"][0]["epoch"]), (&Value::Null, &1.into()));
    // A process that was killed has lost nothing that its kernel had.
    let freed = ledger(&server, &redis, &free).await;
    assert_eq!(freed["freed"], 1);
    assert_eq!(spend_all(&mut admin, &agent).await, 95 - left);
    assert_eq!(spent(&mut admin, &agent).await, 100);
    let after = ledger(&server, &redis, &["status"]).await;
    assert_eq!(after["stranded"], Value::Array(Vec::new()), "{after}");
    server.stop().await;
}

/// Why a command fails.
async fn refusal(server: &Server, redis: &Redis, command: &[&str]) -> String {
    let mut ledger = quetra(&[&["ledger"], command, &["--log", "off"]].concat());
    ledger.args(["--database-url", url(server), "--redis-url", &redis.url()]);
    let output = tokio::task::spawn_blocking(move || ledger.output().unwrap()).await.unwrap();
    assert!(!output.status.success(), "it did it");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_cannot_be_understood_stops_its_shard_and_is_seen() {
    let redis = Redis::start("everysec");
    let server = server(&redis, FAST).await;
    let mut admin = server.admin().await;
    let (agent, _) = admin.agent_with_mandate(budget(100, 1), vec![]).await;
    insist(&mut admin, &ask(&agent, 1)).await;
    let status = until(&server, &redis, |status| status["shards"][0]["outbox"] == "recorded").await;
    let shard = status["shards"][0]["shard"].as_i64().unwrap();
    redis.ask(&format!("XADD v1:{{s{shard:02}}}:out 1-* x nonsense"));
    until(&server, &redis, |status| status["shards"][0]["outbox"] == "behind").await;
    // Answers at `fast` go on for now: what is behind the entry is in the outbox.
    let answer = insist(&mut admin, &ask(&agent, 1)).await;
    assert_eq!(answer.decision(), Decision::Approved, "{}", answer.explanation);
    let metrics = format!("{}/metrics", server.url());
    let begun = tokio::time::Instant::now();
    loop {
        let said = reqwest::get(&metrics).await.unwrap().text().await.unwrap();
        if said.lines().any(|line| line == "quetra_projector_stopped 1") {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "nobody is told: {said}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The books cannot agree with an outbox that nobody can read.
    server.end().await;
}

#[test]
fn every_test_that_a_runbook_names_is_there() {
    let runbooks = read("docs/OPERATING.md");
    let named = runbooks.split('`').filter(|word| word.contains("::"));
    let mut count = 0;
    for name in named {
        let (modules, test) = name.rsplit_once("::").unwrap();
        let modules = modules.strip_suffix("::on_redis").unwrap_or(modules);
        let file = read(&format!("tests/it/{}.rs", modules.replace("::", "/")));
        assert!(file.contains(&format!("async fn {test}(")), "{name} is not there");
        count += 1;
    }
    assert!(count > 8, "only {count} tests are named");
}
