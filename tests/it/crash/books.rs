//! What the database of a stopped server has, SQLite's or Postgres', as the checker judges it.
//!
//! A query is written once, with names for what the two databases say otherwise. Not here: what
//! clients saw (`history`), and whether the rows agree with each other (`harness::ledger_check`).

use std::collections::HashMap;
use std::path::Path;

use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, FromRow, query_as};

use crate::harness::ledger_check;
use crate::harness::postgres::as_owner;

/// One row of the record.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Spend {
    pub(crate) seq: i64,
    pub(crate) id: String,
    pub(crate) agent: String,
    pub(crate) mandate: String,
    pub(crate) version: i64,
    pub(crate) key: String,
    pub(crate) amount: i64,
    pub(crate) vendor: String,
    pub(crate) approved: bool,
    pub(crate) state: String,
    pub(crate) settled: Option<i64>,
    pub(crate) decided_at: i64,
    pub(crate) updated_at: i64,
}

/// What a version of a mandate said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) status: String,
    pub(crate) total: i64,
}

/// What the database has after the last restart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books {
    pub(crate) spends: Vec<Spend>,
    /// By mandate and version.
    pub(crate) terms: HashMap<(String, i64), Terms>,
    /// What each mandate's budget counter says is spent.
    pub(crate) counters: HashMap<String, i64>,
    /// Each mandate's number and sum of approvals.
    pub(crate) tallies: HashMap<String, (i64, i64)>,
}

const SPENDS: &str = "
SELECT seq, 'tx_' || HEX(id) AS id, HEX(agent_id) AS agent,
  'mdt_' || HEX(mandate_id) AS mandate, VERSION AS version, idempotency_key AS key, amount, vendor,
  verdict = 'approved' AS approved, state, settled, decided_at, updated_at
FROM spend ORDER BY seq";

const TERMS: &str = "
SELECT 'mdt_' || HEX(id), version, STATUS, TOTAL FROM mandate
UNION ALL SELECT 'mdt_' || HEX(mandate_id), version, STATUS, TOTAL FROM mandate_version";

/// A row and what was recorded after it, where a row may be late; `ledger_check` has compared the
/// row itself.
const COUNTERS: &str = "
SELECT 'mdt_' || HEX(mandate_id), spent + LATER FROM counter WHERE subject = 'b:none'";

const LATER: &str = "coalesce((
  SELECT sum(CASE state WHEN 'approved' THEN amount WHEN 'settled' THEN settled
    WHEN 'refunded' THEN settled - refunded ELSE 0 END)
  FROM spend WHERE spend.mandate_id = counter.mandate_id AND seq > through), 0)";

/// The tally is what the last approval says.
const TALLIES: &str = "
SELECT 'mdt_' || HEX(mandate_id), approvals_before + 1, sum_before + amount FROM spend
WHERE seq IN (SELECT max(seq) FROM spend WHERE verdict <> 'rejected' GROUP BY mandate_id)";

/// What SQLite says otherwise.
const SQLITE: [(&str, &str); 7] = [
    ("HEX(id)", "lower(hex(id))"),
    ("HEX(agent_id)", "lower(hex(agent_id))"),
    ("HEX(mandate_id)", "lower(hex(mandate_id))"),
    ("VERSION", "evidence ->> '$.mandate'"),
    ("STATUS", "document ->> '$.status'"),
    ("TOTAL", "document ->> '$.policy.budget.total'"),
    ("LATER", LATER),
];

/// What Postgres says otherwise. The database of a test has one organization, so that its numbers
/// are those of the record.
const POSTGRES: [(&str, &str); 7] = [
    ("HEX(id)", "encode(id, 'hex')"),
    ("HEX(agent_id)", "encode(agent_id, 'hex')"),
    ("HEX(mandate_id)", "encode(mandate_id, 'hex')"),
    ("VERSION", "(evidence::json ->> 'mandate')::bigint"),
    ("STATUS", "document::json ->> 'status'"),
    ("TOTAL", "(document::json #>> '{policy,budget,total}')::bigint"),
    ("LATER", "0"),
];

fn said(sql: &str, words: &[(&str, &str)]) -> AssertSqlSafe<String> {
    let sql = words.iter().fold(sql.to_owned(), |sql, (name, said)| sql.replace(name, said));
    AssertSqlSafe(sql)
}

type TermsRow = (String, i64, String, i64);

impl Books {
    /// Reads the file of a stopped server.
    pub(crate) async fn read(database: &Path) -> Self {
        let pool = ledger_check::open(database).await;
        let say = |sql| said(sql, &SQLITE);
        let books = Self::of(
            query_as(say(SPENDS)).fetch_all(&pool).await.unwrap(),
            query_as(say(TERMS)).fetch_all(&pool).await.unwrap(),
            query_as(say(COUNTERS)).fetch_all(&pool).await.unwrap(),
            query_as(say(TALLIES)).fetch_all(&pool).await.unwrap(),
        );
        pool.close().await;
        books
    }

    /// Reads a Postgres database.
    pub(crate) async fn read_shared(url: &str) -> Self {
        let pool = PgPool::connect(&as_owner(url)).await.unwrap();
        let say = |sql| said(sql, &POSTGRES);
        let books = Self::of(
            query_as(say(SPENDS)).fetch_all(&pool).await.unwrap(),
            query_as(say(TERMS)).fetch_all(&pool).await.unwrap(),
            query_as(say(COUNTERS)).fetch_all(&pool).await.unwrap(),
            query_as(say(TALLIES)).fetch_all(&pool).await.unwrap(),
        );
        pool.close().await;
        books
    }

    fn of(
        spends: Vec<Spend>,
        terms: Vec<TermsRow>,
        counters: Vec<(String, i64)>,
        tallies: Vec<(String, i64, i64)>,
    ) -> Self {
        let terms = terms
            .into_iter()
            .map(|(mandate, version, status, total)| ((mandate, version), Terms { status, total }));
        let tallies = tallies.into_iter().map(|(mandate, count, sum)| (mandate, (count, sum)));
        Self {
            spends,
            terms: terms.collect(),
            counters: counters.into_iter().collect(),
            tallies: tallies.collect(),
        }
    }
}
