//! The checker: reads a stopped server's database and says which promise it broke.
//!
//! It trusts nothing but the rows: every counter and tally is computed again from the record, and
//! the indexes are held against it. Not here: what clients saw; the crash test adds
//! their histories.

use std::collections::HashMap;
use std::path::Path;

use quetra::domain::vendor::Vendor;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqliteRow};
use sqlx::{Row, query};

const COUNTERS: &str = "
SELECT hex(mandate_id) AS mandate, subject, starts_at, ends_at, spent, held FROM counter";

/// What every approval takes from the counters that count it.
const LOADS: &str = "
SELECT hex(mandate_id) AS mandate, decided_at, vendor, category,
  CASE state WHEN 'approved' THEN amount WHEN 'settled' THEN settled
    WHEN 'refunded' THEN settled - refunded ELSE 0 END AS spent,
  CASE state WHEN 'pending_approval' THEN amount ELSE 0 END AS held
FROM spend WHERE verdict <> 'rejected'";

const RECORD: &str = "
SELECT seq, hex(id) AS id, hex(mandate_id) AS mandate, decided_at, verdict, amount,
  approvals_before, sum_before FROM spend ORDER BY seq";

/// Entries that an index must have and has not, or has otherwise; each entry once.
const INDEXES: [(&str, &str); 4] = [
    ("an id is in the record twice", "SELECT max(seq) FROM spend GROUP BY id HAVING count(*) > 1"),
    (
        "not found by id",
        "SELECT spend.seq FROM spend LEFT JOIN spend_by_id USING (id)
        WHERE spend_by_id.seq IS NOT spend.seq
          AND (spend.seq <= (SELECT through FROM indexed) OR spend_by_id.seq IS NOT NULL)
        UNION ALL SELECT seq FROM spend_by_id WHERE seq NOT IN (SELECT seq FROM spend)",
    ),
    (
        "not found by agent",
        "SELECT seq FROM (SELECT agent_id, seq FROM spend
            WHERE seq <= (SELECT through FROM indexed)
            EXCEPT SELECT agent_id, seq FROM spend_by_agent)
        UNION ALL SELECT seq FROM (SELECT agent_id, seq FROM spend_by_agent
            EXCEPT SELECT agent_id, seq FROM spend)",
    ),
    (
        "not found by mandate",
        "WITH approved AS (SELECT mandate_id, decided_at, seq, approvals_before, sum_before, amount
            FROM spend WHERE verdict <> 'rejected')
        SELECT seq FROM (SELECT * FROM approved WHERE seq <= (SELECT through FROM indexed)
            EXCEPT SELECT * FROM approval)
        UNION ALL SELECT seq FROM (SELECT * FROM approval EXCEPT SELECT * FROM approved)",
    ),
];

/// Opens the database for reading.
pub(crate) async fn open(database: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(database).read_only(true);
    SqlitePool::connect_with(options).await.unwrap()
}

/// Everything that is wrong; empty if nothing is.
pub(crate) async fn violations(database: &Path) -> Vec<String> {
    let pool = open(database).await;
    let mut found = Vec::new();
    found.extend(counter_violations(&pool).await);
    found.extend(record_violations(&pool).await);
    found.extend(index_violations(&pool).await);
    pool.close().await;
    found
}

/// Every counter is the sum of what the record has in its window.
async fn counter_violations(pool: &SqlitePool) -> Vec<String> {
    let mut loads = HashMap::<String, Vec<SqliteRow>>::new();
    for row in query(LOADS).fetch_all(pool).await.unwrap() {
        loads.entry(row.get("mandate")).or_default().push(row);
    }
    let mut found = Vec::new();
    for row in query(COUNTERS).fetch_all(pool).await.unwrap() {
        let (mandate, subject): (String, String) = (row.get("mandate"), row.get("subject"));
        let window = row.get::<i64, _>("starts_at")..row.get::<i64, _>("ends_at");
        let mut again = (0, 0);
        for load in loads.get(&mandate).into_iter().flatten() {
            if window.contains(&load.get("decided_at")) && counts(&subject, load) {
                again.0 += load.get::<i64, _>("spent");
                again.1 += load.get::<i64, _>("held");
            }
        }
        let stands: (i64, i64) = (row.get("spent"), row.get("held"));
        if stands != again {
            found.push(format!("counter {mandate} {subject}: {stands:?}, not {again:?}"));
        }
    }
    found
}

/// Whether a counter's subject, for example `v:daily:openai.com`, counts a spend.
fn counts(subject: &str, load: &SqliteRow) -> bool {
    let parts = subject.splitn(3, ':').collect::<Vec<_>>();
    match parts[0] {
        "b" => true,
        "v" => {
            let vendor = Vendor::parse(parts[2]).unwrap();
            vendor.covers(&Vendor::parse(load.get("vendor")).unwrap())
        }
        "c" => load.get::<Option<&str>, _>("category") == Some(parts[2]),
        other => panic!("{other} is no kind of subject"),
    }
}

/// The record is dense, in the order of time, and each entry continues the tally before it.
async fn record_violations(pool: &SqlitePool) -> Vec<String> {
    let mut found = Vec::new();
    let mut tallies = HashMap::<String, (i64, i64)>::new();
    let (mut seq, mut floor) = (0, i64::MIN);
    for row in query(RECORD).fetch_all(pool).await.unwrap() {
        let (this, id): (i64, String) = (row.get("seq"), row.get("id"));
        if this != seq + 1 {
            found.push(format!("the record has a hole before {this}"));
        }
        seq = this;
        let decided_at: i64 = row.get("decided_at");
        if decided_at < floor {
            found.push(format!("{id} was decided before the entry in front of it"));
        }
        floor = decided_at;
        let Some(mandate) = row.get::<Option<String>, _>("mandate").filter(|id| !id.is_empty())
        else {
            continue;
        };
        let tally = tallies.entry(mandate).or_default();
        let before: (i64, i64) = (row.get("approvals_before"), row.get("sum_before"));
        if before != *tally {
            found.push(format!("{id} continues the tally {tally:?} with {before:?}"));
        }
        if row.get::<String, _>("verdict") != "rejected" {
            tally.0 += 1;
            tally.1 += row.get::<i64, _>("amount");
        }
    }
    found
}

/// The indexes say nothing that the record does not, and everything up to where they claim to be.
async fn index_violations(pool: &SqlitePool) -> Vec<String> {
    let mut found = Vec::new();
    for (what, sql) in INDEXES {
        let places = sqlx::query_scalar::<_, i64>(sql).fetch_all(pool).await.unwrap();
        found.extend(places.into_iter().map(|seq| format!("entry {seq}: {what}")));
    }
    found
}

/// Fails the test if anything is wrong.
pub(crate) async fn check(database: &Path) {
    let found = violations(database).await;
    assert!(found.is_empty(), "the books do not agree:\n{}", found.join("\n"));
}
