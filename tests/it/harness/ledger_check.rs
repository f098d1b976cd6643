//! The checker: reads a stopped server's database and says which promise it broke.
//!
//! It trusts nothing but the rows: every counter and tally is computed again from the record, and
//! the indexes are held against it. Not here: what clients saw; the crash test adds
//! their histories.

use std::collections::HashMap;
use std::path::Path;

use quetra::config::DatabaseUrl;
use quetra::domain::vendor::Vendor;
use sqlx::postgres::PgPool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{AssertSqlSafe, FromRow, query_as, query_scalar};

use super::escrow_check;

const COUNTERS: &str = "
SELECT hex(mandate_id) AS mandate, subject, starts_at, ends_at, spent, held, THROUGH AS through
FROM counter";

/// What every approval takes from the counters that count it.
const LOADS: &str = "
SELECT seq, hex(mandate_id) AS mandate, decided_at, vendor, category,
  CASE state WHEN 'approved' THEN amount WHEN 'settled' THEN settled
    WHEN 'refunded' THEN settled - refunded ELSE 0 END AS spent,
  CASE state WHEN 'pending_approval' THEN amount ELSE 0 END AS held
FROM spend WHERE verdict <> 'rejected'";

/// Each chain is dense and in the order of time: the whole record, or that of an organization.
const RECORD: &str = "
SELECT CHAIN AS chain, seq, hex(id) AS id, hex(mandate_id) AS mandate, decided_at, verdict, amount,
  approvals_before, sum_before FROM spend ORDER BY chain, seq";

/// Where the next entry of each organization continues must be where the last one ended.
const HEADS: &str = "
SELECT hex(org_id), 'the head is at ' || head.seq FROM ledger_head head
WHERE head.seq <> (SELECT count(*) FROM spend WHERE spend.org_id = head.org_id)
  OR head.floor < (SELECT coalesce(max(updated_at), 0) FROM spend
    WHERE spend.org_id = head.org_id)";

#[derive(FromRow)]
struct Counter {
    mandate: String,
    subject: String,
    starts_at: i64,
    ends_at: i64,
    spent: i64,
    held: i64,
    /// The last entry that must be in it.
    through: i64,
}

#[derive(FromRow)]
struct Load {
    seq: i64,
    mandate: String,
    decided_at: i64,
    vendor: String,
    category: Option<String>,
    spent: i64,
    held: i64,
}

#[derive(FromRow)]
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

/// Everything that is held against each other, from whichever database.
struct Books {
    counters: Vec<Counter>,
    loads: Vec<Load>,
    record: Vec<Entry>,
}

impl Books {
    async fn of_file(pool: &SqlitePool) -> Self {
        let record = AssertSqlSafe(RECORD.replace("CHAIN", "''"));
        let counters = AssertSqlSafe(COUNTERS.replace("THROUGH", "through"));
        Self {
            counters: query_as(counters).fetch_all(pool).await.unwrap(),
            loads: query_as(LOADS).fetch_all(pool).await.unwrap(),
            record: query_as(record).fetch_all(pool).await.unwrap(),
        }
    }

    async fn of_server(pool: &PgPool) -> Self {
        let record = in_postgres(&RECORD.replace("CHAIN", "hex(org_id)"));
        // Here a counter is never behind the record.
        let counters = in_postgres(&COUNTERS.replace("THROUGH", "9223372036854775807"));
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
    let books = Books::of_file(&pool).await;
    let mut found = counter_violations(&books);
    found.extend(record_violations(books, false));
    found.extend(index_violations(&pool).await);
    pool.close().await;
    found
}

/// The same, in a Postgres database.
pub(crate) async fn violations_shared(url: &str, redis: Option<&str>) -> Vec<String> {
    // A policy that hid rows would hide what is wrong with them.
    let pool = PgPool::connect(&super::postgres::as_owner(url)).await.unwrap();
    let hides = "SELECT row_security_active('spend')";
    let hides: bool = query_scalar(hides).fetch_one(&pool).await.unwrap();
    assert!(!hides, "the checker does not see everything");
    let books = Books::of_server(&pool).await;
    let mut found = counter_violations(&books);
    found.extend(record_violations(books, redis.is_some()));
    if let Some(redis) = redis {
        found.extend(escrow_check::violations(&pool, redis).await);
    }
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
    for Counter { mandate, subject, starts_at, ends_at, spent, held, through } in &books.counters {
        let window = *starts_at..*ends_at;
        let mut again = (0, 0);
        for load in loads.get(mandate.as_str()).into_iter().flatten() {
            let is_in = load.seq <= *through && window.contains(&load.decided_at);
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

/// The record is dense, in the order of time, and each entry continues the tally before it. What
/// was in Redis' outbox while Postgres decided has its place in time behind later numbers.
fn record_violations(mut books: Books, is_in_redis: bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut tallies = HashMap::<&str, (i64, i64)>::new();
    let mut ends = HashMap::<&str, (i64, i64)>::new();
    for entry in &books.record {
        let (seq, floor) = ends.entry(&entry.chain).or_insert((0, i64::MIN));
        let (this, id) = (entry.seq, &entry.id);
        if this != *seq + 1 {
            found.push(format!("the record has a hole before {this}"));
        }
        *seq = this;
        if entry.decided_at < *floor && !is_in_redis {
            found.push(format!("{id} was decided before the entry in front of it"));
        }
        *floor = entry.decided_at;
    }
    books.record.sort_by_key(|entry| (entry.decided_at, entry.seq));
    for entry in &books.record {
        let id = &entry.id;
        let Some(mandate) = entry.mandate.as_deref().filter(|id| !id.is_empty()) else {
            continue;
        };
        let tally = tallies.entry(mandate).or_default();
        let before = (entry.approvals_before, entry.sum_before);
        if before != *tally {
            found.push(format!("{id} continues the tally {tally:?} with {before:?}"));
        }
        if entry.verdict != "rejected" {
            tally.0 += 1;
            tally.1 += entry.amount;
        }
    }
    found
}

/// The indexes say nothing that the record does not, and everything up to where they claim to be.
async fn index_violations(pool: &SqlitePool) -> Vec<String> {
    let mut found = Vec::new();
    for (what, sql) in INDEXES {
        let places = query_scalar::<_, i64>(sql).fetch_all(pool).await.unwrap();
        found.extend(places.into_iter().map(|seq| format!("entry {seq}: {what}")));
    }
    found
}

/// Fails the test if anything is wrong.
pub(crate) async fn check(database: &Path) {
    complain(&violations(database).await);
}

/// The same, wherever a server kept its state.
pub(crate) async fn check_any(database: &DatabaseUrl, redis: Option<&str>) {
    match database {
        DatabaseUrl::Sqlite(path) => check(path).await,
        DatabaseUrl::Postgres(url) => complain(&violations_shared(url.expose(), redis).await),
    }
}

fn complain(found: &[String]) {
    assert!(found.is_empty(), "the books do not agree:\n{}", found.join("\n"));
}
