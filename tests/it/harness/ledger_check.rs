//! The books of a stopped server that decided in Redis: counters, tallies and the record, where two
//! stores' times need not be in one order, and what is leased (`escrow_check`).
//!
//! It trusts nothing but the rows. Not here: every other server (`checker`).

use std::collections::HashMap;

use quetra::config::DatabaseUrl;
use quetra::domain::vendor::Vendor;
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, query_as, query_scalar};

use super::escrow_check;

const COUNTERS: &str = "
SELECT hex(mandate_id) AS mandate, subject, starts_at, ends_at, spent, held
FROM counter";

/// What every approval takes from the counters that count it.
const LOADS: &str = "
SELECT hex(mandate_id) AS mandate, decided_at, vendor, category,
  CASE state WHEN 'approved' THEN amount WHEN 'settled' THEN coalesce(paid, settled)
    WHEN 'refunded' THEN coalesce(paid, settled) - coalesce(repaid, refunded) ELSE 0 END AS spent,
  CASE state WHEN 'pending_approval' THEN amount ELSE 0 END AS held
FROM spend WHERE verdict <> 'rejected'";

/// Each chain is dense and in the order of time: the whole record, or that of an organization.
const RECORD: &str = "
SELECT hex(org_id) AS chain, seq, hex(id) AS id, hex(mandate_id) AS mandate, decided_at, verdict,
  amount, approvals_before, sum_before FROM spend ORDER BY chain, seq";

/// Where the next entry of each organization continues must be where the last one ended.
const HEADS: &str = "
SELECT hex(org_id), 'the head is at ' || head.seq FROM ledger_head head
WHERE head.seq <> (SELECT count(*) FROM spend WHERE spend.org_id = head.org_id)
  OR head.floor < (SELECT coalesce(max(updated_at), 0) FROM spend
    WHERE spend.org_id = head.org_id)";

quetra::from_row! {
    struct Counter {
        mandate: String,
        subject: String,
        starts_at: i64,
        ends_at: i64,
        spent: i64,
        held: i64,
    }
}

quetra::from_row! {
    struct Load {
        mandate: String,
        decided_at: i64,
        vendor: String,
        category: Option<String>,
        spent: i64,
        held: i64,
    }
}

quetra::from_row! {
    struct Entry {
        chain: String,
        seq: i64,
        id: String,
        mandate: Option<String>,
        decided_at: i64,
        verdict: String,
        amount: i64,
        approvals_before: i64,
        sum_before: i64,
    }
}

/// Everything that is held against each other, from whichever database.
struct Books {
    counters: Vec<Counter>,
    loads: Vec<Load>,
    record: Vec<Entry>,
}

impl Books {
    async fn of_server(pool: &PgPool) -> Self {
        let record = in_postgres(RECORD);
        let counters = in_postgres(COUNTERS);
        Self {
            counters: query_as(counters).fetch_all(pool).await.unwrap(),
            loads: query_as(in_postgres(LOADS)).fetch_all(pool).await.unwrap(),
            record: query_as(record).fetch_all(pool).await.unwrap(),
        }
    }
}

/// A query as Postgres says it, which has no `hex`.
fn in_postgres(sql: &str) -> AssertSqlSafe<String> {
    let mut sql = sql.to_owned();
    for column in ["mandate_id", "org_id", "id"] {
        let theirs = format!("encode({column}, 'hex')");
        sql = sql.replace(&format!("hex({column})"), &theirs);
    }
    AssertSqlSafe(sql)
}

/// Everything that is wrong in a Postgres database and a Redis; empty if nothing is.
async fn violations(url: &str, redis: &str) -> Vec<String> {
    // A policy that hid rows would hide what is wrong with them.
    let pool = PgPool::connect(&super::postgres::as_owner(url)).await.unwrap();
    let hides = "SELECT row_security_active('spend')";
    let hides: bool = query_scalar(hides).fetch_one(&pool).await.unwrap();
    assert!(!hides, "the checker does not see everything");
    let books = Books::of_server(&pool).await;
    let mut found = counter_violations(&books);
    found.extend(record_violations(books));
    found.extend(escrow_check::violations(&pool, redis).await);
    let heads: Vec<(String, String)> = query_as(in_postgres(HEADS)).fetch_all(&pool).await.unwrap();
    found.extend(heads.into_iter().map(|(org, wrong)| format!("{org}: {wrong}")));
    pool.close().await;
    found
}

/// Every counter is the sum of what the record has in its window, up to where the row says.
fn counter_violations(books: &Books) -> Vec<String> {
    let mut loads = HashMap::<&str, Vec<&Load>>::new();
    for load in &books.loads {
        loads.entry(&load.mandate).or_default().push(load);
    }
    let mut found = Vec::new();
    for Counter { mandate, subject, starts_at, ends_at, spent, held } in &books.counters {
        let window = *starts_at..*ends_at;
        let mut again = (0, 0);
        for load in loads.get(mandate.as_str()).into_iter().flatten() {
            let is_in = window.contains(&load.decided_at);
            if is_in && counts(subject, load) {
                again.0 += load.spent;
                again.1 += load.held;
            }
        }
        let stands = (*spent, *held);
        if stands != again {
            found.push(format!("counter {mandate} {subject}: {stands:?}, not {again:?}"));
        }
    }
    found
}

/// Whether a counter's subject, for example `v:daily:openai.com`, counts a spend.
fn counts(subject: &str, load: &Load) -> bool {
    let parts = subject.splitn(3, ':').collect::<Vec<_>>();
    match parts[0] {
        "b" => true,
        "v" => {
            let vendor = Vendor::parse(parts[2]).unwrap();
            vendor.covers(&Vendor::parse(&load.vendor).unwrap())
        }
        "c" => load.category.as_deref() == Some(parts[2]),
        other => panic!("{other} is no kind of subject"),
    }
}

/// The record is dense, and in the order of time each entry continues the tally before it. What was
/// in Redis' outbox while Postgres decided has its place in time behind later numbers.
fn record_violations(mut books: Books) -> Vec<String> {
    let mut found = Vec::new();
    let mut tallies = HashMap::<&str, (i64, i64)>::new();
    let mut ends = HashMap::<&str, i64>::new();
    for entry in &books.record {
        let seq = ends.entry(&entry.chain).or_default();
        let this = entry.seq;
        if this != *seq + 1 {
            found.push(format!("the record has a hole before {this}"));
        }
        *seq = this;
    }
    books.record.sort_by_key(|entry| (entry.decided_at, entry.seq));
    for entry in &books.record {
        let id = &entry.id;
        let Some(mandate) = entry.mandate.as_deref().filter(|id| !id.is_empty()) else {
            continue;
        };
        // Approvals may have come before a rejection that was recorded already.
        if entry.verdict == "rejected" {
            continue;
        }
        let tally = tallies.entry(mandate).or_default();
        let before = (entry.approvals_before, entry.sum_before);
        if before != *tally {
            found.push(format!("{id} continues the tally {tally:?} with {before:?}"));
        }
        tally.0 += 1;
        tally.1 += entry.amount;
    }
    found
}

/// Fails the test if anything is wrong.
pub(crate) async fn check_with_redis(database: &DatabaseUrl, redis: &str) {
    let DatabaseUrl::Postgres(url) = database else { panic!("not in Postgres") };
    let found = violations(url.expose(), redis).await;
    assert!(found.is_empty(), "the books do not agree:\n{}", found.join("\n"));
}
