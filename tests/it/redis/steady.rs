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
use sqlx::error::DatabaseError;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Postgres, Transaction};
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

/// So many leases of the same epoch that reading all of them would show.
const LEASES: i64 = 8_000;

/// As if as many other mandates were spent from; nobody has looked at the table since.
const LEASED: &str = "
INSERT INTO lease (org_id, mandate_id, subject, starts_at, shard, epoch, number, amount, leased,
    level, limit_minor)
SELECT org_id, decode(lpad(to_hex(place), 32, '0'), 'hex'), subject, starts_at, shard, epoch, 1, 0,
    0, level, 0
FROM (SELECT * FROM lease LIMIT 1) one, generate_series(1, $1) AS another (place)";

/// Takes them away again: the checker knows nothing of them.
const RETURNED: &str = "DELETE FROM lease WHERE limit_minor = 0";

/// How many leases were read by anybody.
const READ: &str = "SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)
    FROM pg_stat_user_tables WHERE relname = 'lease'";

/// A spend of one unit with a key that says when it was made.
fn ask_at(agent: &str, at: Timestamp) -> EvaluateRequest {
    let seconds = u64::try_from(at.as_second()).unwrap();
    let made = uuid::Timestamp::from_unix(NoContext, seconds, 0);
    let idempotency_key = Uuid::new_v7(made).to_string();
    EvaluateRequest { idempotency_key, ..ask(agent, 1) }
}

/// Takes all tables from the server. It may be in the middle of reading some, in another order.
async fn lock(postgres: &mut PgConnection) -> Transaction<'_, Postgres> {
    let mut locked = postgres.begin().await.unwrap();
    loop {
        let mut attempt = locked.begin().await.unwrap();
        match sqlx::raw_sql(LOCK).execute(&mut *attempt).await {
            Ok(_) => {
                attempt.commit().await.unwrap();
                return locked;
            }
            Err(error) => {
                let code = error.as_database_error().and_then(DatabaseError::code);
                assert_eq!(code.as_deref(), Some("40P01"), "{error}");
                attempt.rollback().await.unwrap();
            }
        }
    }
}

/// A server at `fast` on a database of its own.
async fn on(redis: &Redis, clock: Arc<dyn Clock>) -> Server {
    let (database, url) = (shared_database().await, Secret::new(redis.url()));
    let change = move |config: &mut ServerConfig| {
        config.database = database;
        config.redis = Some(RedisConfig { url, level: FAST });
    };
    Server::with(change, clock).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mandate_that_was_spent_from_is_spent_from_without_postgres() {
    let redis = Redis::start("everysec");
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let server = on(&redis, Arc::<ManualClock>::clone(&clock)).await;
    let mut admin = server.admin().await;
    let rate = Kind::RateLimit(RateLimitRule { max_transactions: 1_000_000, window_minutes: 60 });
    let rate = Rule { kind: Some(rate) };
    let (agent, _) = admin.agent_with_mandate(budget(1_000_000, 1), vec![rate]).await;
    insist(&mut admin, &ask_at(&agent, clock.now())).await;
    // From now on keys are known to be younger than the epoch.
    clock.set(clock.now() + SignedDuration::from_secs(180));
    insist(&mut admin, &ask_at(&agent, clock.now())).await;

    let mut postgres = PgConnection::connect(&as_owner(url(&server))).await.unwrap();
    let locked = lock(&mut postgres).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_reads_its_own_leases_however_many_there_are() {
    let redis = Redis::start("everysec");
    let server = on(&redis, Arc::new(SystemClock)).await;
    let mut admin = server.admin().await;
    let (agent, _) = admin.agent_with_mandate(budget(1_000_000, 1), vec![]).await;
    insist(&mut admin, &ask(&agent, 1)).await;
    let mut postgres = PgConnection::connect(&as_owner(url(&server))).await.unwrap();
    sqlx::query(LEASED).bind(LEASES).execute(&mut postgres).await.unwrap();
    sqlx::query("SELECT pg_stat_reset()").execute(&mut postgres).await.unwrap();
    for _ in 0..40 {
        insist(&mut admin, &ask(&agent, 1)).await;
        // A batch of the outbox for each.
        assert!(spent(&mut admin, &agent).await > 1);
    }
    // The last of what sessions have read is known when they have ended.
    let read = server.stop_and(async || {
        let read = sqlx::query_scalar::<_, i64>(READ).fetch_one(&mut postgres).await.unwrap();
        sqlx::query(RETURNED).execute(&mut postgres).await.unwrap();
        read
    });
    let read = read.await;
    // Who looks for slices that nobody spends from reads all of them, now and then.
    assert!((40..10 * LEASES).contains(&read), "{read} leases were read for 40 decisions");
    postgres.close().await.unwrap();
}
