//! A budget that is refused was exhausted when the record says so, whatever came back since it was
//! proved.
//!
//! Postgres proves it, and Redis decides later. Not here: what else refuses (`decisions`), and what
//! is found behind random faults (`chaos`).

use std::time::Duration;

use quetra::proto::v1::{Decision, VoidTransactionRequest};
use sqlx::Connection;
use sqlx::postgres::{PgConnection, PgPool};

use super::operators::url;
use super::{insist, server_at};
use crate::checker::books::Books;
use crate::checker::escrow::Escrow;
use crate::checker::{acquit, of_books};
use crate::harness::postgres::as_owner;
use crate::harness::redis::Redis;
use crate::harness::{FAST, ask, budget};
use crate::proxy::{Passage, Proxy, Way};

/// Sessions of this database that wait for a lock.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'";

const VOIDED: &str = "SELECT count(*) FROM spend WHERE state = 'voided'";

/// Waits until there are so many.
async fn until(pool: &PgPool, count: &'static str, wanted: i64) {
    for _ in 0..2_000 {
        let found: i64 = sqlx::query_scalar(count).fetch_one(pool).await.unwrap();
        if found == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("it is never {wanted}: {count}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_of_the_time_of_its_proof_though_money_came_back_before_it_was_decided() {
    let redis = Redis::start("everysec");
    let real = redis.address();
    let wire = Proxy::to(real).await;
    let server = server_at(&format!("redis://{}/0", wire.address()), FAST).await;
    let other = server.replica_at(&redis.url()).await;
    let database = url(&server).to_owned();
    let mut admin = server.admin().await;
    let (agent, _) = admin.agent_with_mandate(budget(10, 10), vec![]).await;
    let (another, _) = admin.agent_with_mandate(budget(10, 10), vec![]).await;
    let all = insist(&mut admin, &ask(&agent, 10)).await;
    assert_eq!(all.decision(), Decision::Approved, "{}", all.explanation);
    // After this nothing is asked for ahead of need.
    assert_eq!(insist(&mut admin, &ask(&agent, 10)).await.decision(), Decision::Rejected);

    let pool = PgPool::connect(&as_owner(&database)).await.unwrap();
    let mut connection = PgConnection::connect(&as_owner(&database)).await.unwrap();
    let mut held = connection.begin().await.unwrap();
    sqlx::query("SELECT FROM ledger_head FOR UPDATE").execute(&mut *held).await.unwrap();
    let (mut client, request) = (admin.clone(), ask(&agent, 10));
    let refused = tokio::spawn(async move { client.evaluate.evaluate(request).await });
    until(&pool, WAITING, 1).await;
    // The proof comes next; what it leads to is kept on its way to Redis until money is back.
    wire.set(Way::Up, Passage::Cut);
    let mut client = admin.clone();
    let void = VoidTransactionRequest { transaction_id: all.transaction_id };
    let voided = tokio::spawn(async move { client.transactions.void_transaction(void).await });
    until(&pool, WAITING, 2).await;
    held.commit().await.unwrap();
    until(&pool, VOIDED, 1).await;
    // In Redis it is later now than that, as another server has decided something.
    let later = insist(&mut other.admin().await, &ask(&another, 1)).await;
    assert_eq!(later.decision(), Decision::Approved, "{}", later.explanation);
    wire.set(Way::Up, Passage::Open);
    voided.await.unwrap().unwrap();

    let refused = refused.await.unwrap().unwrap().into_inner();
    assert_eq!(refused.decision(), Decision::Rejected, "{}", refused.explanation);
    let again = insist(&mut admin, &ask(&agent, 10)).await;
    assert_eq!(again.decision(), Decision::Approved, "{}", again.explanation);
    pool.close().await;
    other.end().await;
    let books = server.stop_and(async || {
        let mut books = Books::of_server(&database).await;
        books.escrow = Some(Escrow::read(&database, real).await);
        books
    });
    acquit(&of_books(&books.await));
}
