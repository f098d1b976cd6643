//! What Redis decided and is recorded behind what Postgres decided in its absence: each approval
//! takes its place in time, and nobody reads the record of others for that.

use std::time::Duration;

use quetra::proto::v1::Decision;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::levels::hold;
use super::operators::url;
use super::{insist, server, spent};
use crate::harness::postgres::as_owner;
use crate::harness::redis::Redis;
use crate::harness::{Clients, FAST, ask, budget};

/// Decisions by each of the two.
const EACH: i64 = 25;

/// So many decisions of others that reading all of them would show.
const OTHERS: i64 = 20_000;

/// As if another organization had decided as often.
const DECIDED: &str = r"
INSERT INTO spend
SELECT (jsonb_populate_record(one, jsonb_build_object('seq', place, 'verdict', 'rejected',
    'org_id', '\x' || repeat('0e', 16), 'id', '\x' || lpad(to_hex(place), 32, '0')))).*
FROM (SELECT spend FROM spend LIMIT 1) AS first (one), generate_series(1, $1) AS another (place)";

/// Takes them away again: the checker knows nothing of them.
const FORGOTTEN: &str = "DELETE FROM spend WHERE org_id = decode(repeat('0e', 16), 'hex');
    DELETE FROM spend_by_id WHERE org_id = decode(repeat('0e', 16), 'hex')";

/// How many decisions were read by anybody.
const READ: &str = "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint
    FROM pg_stat_user_tables WHERE relname LIKE 'spend%'";

async fn approve(client: &mut Clients, agent: &str) {
    for _ in 0..EACH {
        let answer = insist(client, &ask(agent, 1)).await;
        assert_eq!(answer.decision(), Decision::Approved, "{}", answer.explanation);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_late_takes_its_place_in_time_and_reads_nothing_of_others() {
    let redis = Redis::start("everysec");
    let server = server(&redis, FAST).await;
    let mut admin = server.admin().await;
    let (agent, _) = admin.agent_with_mandate(budget(1_000_000, 1), vec![]).await;
    insist(&mut admin, &ask(&agent, 1)).await;
    assert_eq!(spent(&mut admin, &agent).await, 1);
    let owner = as_owner(url(&server));
    let mut postgres = PgConnection::connect(&owner).await.unwrap();
    sqlx::query(DECIDED).bind(OTHERS).execute(&mut postgres).await.unwrap();
    sqlx::query("SELECT pg_stat_reset()").execute(&mut postgres).await.unwrap();

    let pool = sqlx::PgPool::connect(&owner).await.unwrap();
    let turn = hold(&pool).await;
    approve(&mut admin, &agent).await;
    // Before any of it is recorded Redis says no more, until Postgres has approved as well.
    redis.signal("STOP");
    turn.rollback().await.unwrap();
    pool.close().await;
    approve(&mut admin, &agent).await;
    redis.signal("CONT");
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    while spent(&mut admin, &agent).await < 1 + 2 * EACH {
        assert!(tokio::time::Instant::now() < until, "what Redis has is never recorded");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The last of what sessions have read is known when they have ended. Then the tallies of all
    // are compared with what is before them in time.
    let (read, late) = server
        .stop_and(async || {
            let late = "SELECT max(late_micros) FROM ledger_head";
            let late = sqlx::query_scalar::<_, i64>(late).fetch_one(&mut postgres).await.unwrap();
            let read = sqlx::query_scalar::<_, i64>(READ).fetch_one(&mut postgres).await.unwrap();
            sqlx::raw_sql(FORGOTTEN).execute(&mut postgres).await.unwrap();
            (read, late)
        })
        .await;
    assert!(late > 0, "nothing came late");
    assert!(read < OTHERS, "{read} decisions were read for {EACH} that came late");
    postgres.close().await.unwrap();
}
