//! Opening, migrating and checking a database that several servers share, and taking turns in it.
//!
//! Not here: what is stored (`sql/tests`).

use super::fixture::{fresh_database, open};
use super::*;
use crate::store::sql::explain;
use crate::store::{CatalogueWriter, TransactionFilter, TransactionStore};

mod parts;
mod wall;

#[tokio::test]
async fn a_database_is_migrated_once_even_when_servers_start_together() {
    let url = fresh_database().await;
    let (one, other) = (PostgresStore::open(&url).await, PostgresStore::open(&url).await);
    let (one, other) = (one.unwrap(), other.unwrap());
    let error = one.check().await.unwrap_err();
    assert!(explain(&error).contains("run `quetra migrate`"), "{}", explain(&error));
    let (first, second) = tokio::join!(one.migrate(), other.migrate());
    assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
    one.check().await.unwrap();
    assert!(other.migrate().await.unwrap().is_empty());
    let newer = "UPDATE _sqlx_migrations SET version = 9999
        WHERE version = (SELECT max(version) FROM _sqlx_migrations)";
    sqlx::query(newer).execute(one.reader()).await.unwrap();
    for error in [one.check().await.unwrap_err(), one.migrate().await.unwrap_err()] {
        assert!(explain(&error).contains("newer than this server"), "{}", explain(&error));
    }
}

/// Forty entries, a second apart; every seventh is four seconds late.
const RECORD: &str = "
INSERT INTO organization VALUES (decode(repeat('01', 16), 'hex'), 'lab', false, 1, '{}');
INSERT INTO spend SELECT decode(repeat('01', 16), 'hex'), seq, id, id, id,
    1000000 * CASE WHEN seq % 7 = 0 THEN seq - 5 ELSE seq END, 0, 'rejected', 'rejected', 1, NULL,
    NULL, 'USD', 'a.com', NULL, 'key', id, 0, 0, '{}'
    FROM (SELECT seq, decode(lpad(to_hex(seq), 32, '0'), 'hex') AS id
        FROM generate_series(1, 40) seq) numbered;
UPDATE ledger_head SET seq = 40, late_micros = 4000000";

#[tokio::test]
async fn what_was_recorded_late_is_found_by_its_time() {
    let (store, _url) = open().await;
    sqlx::raw_sql(RECORD).execute(store.writer()).await.unwrap();
    let org = OrgId::from_bytes([1; 16]);
    assert_eq!(store.lateness(org).await.unwrap().as_secs(), 4);
    let times = (1..=40).map(|seq: i64| if seq % 7 == 0 { seq - 5 } else { seq });
    let times = times.collect::<Vec<_>>();
    for since in 0..45 {
        for until in [since + 1, since + 6, 50] {
            let at = |second| Some(jiff::Timestamp::from_second(second).unwrap());
            let filter =
                TransactionFilter { since: at(since), until: at(until), ..Default::default() };
            let found = store.count_transactions(org, filter).await.unwrap();
            let wanted = times.iter().filter(|time| (since..until).contains(*time)).count();
            assert_eq!(found, i64::try_from(wanted).unwrap(), "{since} to {until}");
        }
    }
}

#[tokio::test]
async fn a_server_that_would_forget_or_has_no_tls_when_asked_is_refused_and_no_password_is_shown() {
    let url = fresh_database().await;
    let forgets = format!("{url}?options[synchronous_commit]=off");
    for (url, says) in [
        (forgets.as_str(), "synchronous_commit = off"),
        (&format!("{url}?sslmode=require"), "does not support TLS"),
        ("postgres://u:hunter2@127.0.0.1:1/d", "open the database"),
        ("postgres://u:hunter2@127.0.0.1:port/d", "no Postgres URL"),
    ] {
        let error = PostgresStore::open(url).await.unwrap_err();
        let explained = explain(&error);
        assert!(explained.contains(says) && !explained.contains("hunter2"), "{explained}");
        assert_eq!(error.kind, StoreErrorKind::Unavailable, "{explained}");
    }
    let store = PostgresStore::open(&url).await.unwrap();
    let password = url.split([':', '@']).nth(2).unwrap();
    assert!(!format!("{store:?}").contains(password), "{store:?}");
}

#[tokio::test]
async fn errors_of_the_database_have_their_kinds() {
    let (store, _url) = open().await;
    for (sql, kind) in [
        ("SELECT 1 / 0", StoreErrorKind::Corrupt),
        ("SELECT pg_terminate_backend(pg_backend_pid())", StoreErrorKind::Unavailable),
        ("SET statement_timeout = 1; SELECT pg_sleep(9)", StoreErrorKind::Unavailable),
        ("INSERT INTO agent VALUES ('', '', 'a', 'active', NULL, 1, '')", StoreErrorKind::Corrupt),
    ] {
        let error = sqlx::raw_sql(sql).execute(store.writer()).await.unwrap_err();
        assert_eq!(kind_of(error), kind, "{sql}");
    }
}

fn kind_of(error: sqlx::Error) -> StoreErrorKind {
    classify("try", error).kind
}

#[tokio::test]
async fn a_turn_is_had_by_one_at_a_time_and_given_back_when_dropped() {
    let (store, url) = open().await;
    let org = OrgId::from_bytes([1; 16]);
    sqlx::query("INSERT INTO organization VALUES ($1, 'a', false, 1, '{}')")
        .bind(org.as_bytes().as_slice())
        .execute(store.writer())
        .await
        .unwrap();
    let other = PostgresStore::open(&url).await.unwrap();
    let held = store.begin_for(&[org], "hold").await.unwrap();
    let waits = async { other.begin_for(&[org], "wait").await };
    tokio::time::timeout(Duration::from_millis(200), waits).await.unwrap_err();
    drop(held);
    let held = other.begin_for(&[org], "wait").await.unwrap();
    other.finish(held, "wait").await.unwrap();
    store.touch_keys(Vec::new()).await.unwrap();
}
