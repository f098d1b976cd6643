//! The checker: reads a stopped server's database and says which promise it broke.
//!
//! It trusts nothing but the rows: every counter and tally is computed again from the record, every
//! limit is looked up in the mandate's versions. Not here: what clients saw; the crash test adds
//! their histories.

use std::collections::HashMap;
use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{Row, query};

/// Every spend under a counter, as the record has it.
const COUNTERS: &str = "
SELECT hex(c.mandate_id) AS mandate, c.subject, c.starts_at, c.spent, c.held,
  (SELECT coalesce(sum(CASE s.state WHEN 'approved' THEN s.amount WHEN 'settled' THEN s.settled
      WHEN 'refunded' THEN s.settled - s.refunded ELSE 0 END), 0)
    FROM spend s, json_each(s.evidence, '$.charged') k
    WHERE s.mandate_id = c.mandate_id AND k.value ->> 0 = c.subject
      AND k.value ->> 1 = c.starts_at) AS spent_again,
  (SELECT coalesce(sum(CASE s.state WHEN 'pending_approval' THEN s.amount ELSE 0 END), 0)
    FROM spend s, json_each(s.evidence, '$.charged') k
    WHERE s.mandate_id = c.mandate_id AND k.value ->> 0 = c.subject
      AND k.value ->> 1 = c.starts_at) AS held_again
FROM counter c";

const RECORD: &str = "
SELECT seq, hex(id) AS id, hex(mandate_id) AS mandate, decided_at, verdict, amount,
  approvals_before, sum_before FROM spend ORDER BY seq";

/// Opens the database for reading.
pub(crate) async fn open(database: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(database).read_only(true);
    SqlitePool::connect_with(options).await.unwrap()
}

/// Everything that is wrong; empty if nothing is.
pub(crate) async fn violations(database: &Path) -> Vec<String> {
    let pool = open(database).await;
    let mut found = Vec::new();
    for row in query(COUNTERS).fetch_all(&pool).await.unwrap() {
        let spent: (i64, i64) = (row.get("spent"), row.get("spent_again"));
        let held: (i64, i64) = (row.get("held"), row.get("held_again"));
        if spent.0 != spent.1 || held.0 != held.1 {
            let (mandate, subject): (String, String) = (row.get("mandate"), row.get("subject"));
            found.push(format!("counter {mandate} {subject}: spent {spent:?}, held {held:?}"));
        }
    }
    found.extend(record_violations(&pool).await);
    pool.close().await;
    found
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

/// Fails the test if anything is wrong.
pub(crate) async fn check(database: &Path) {
    let found = violations(database).await;
    assert!(found.is_empty(), "the books do not agree:\n{}", found.join("\n"));
}
