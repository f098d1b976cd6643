//! Reads the books from SQLite's file or from a Postgres database.
//!
//! Queries are the same for both, apart from what only one of them has. Not here: what must hold.

use std::path::Path;

use quetra::config::DatabaseUrl;
use serde_json::Value;
use sqlx::postgres::PgPool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{AssertSqlSafe, query_as, query_scalar};

use super::books::{Agent, Books, Counter, Entry, Head, Indexes, Terms};
use crate::harness::postgres::as_owner;

/// Each chain in its order: the whole record, or that of an organization.
const ENTRIES: &str = "SELECT CHAIN AS chain, seq, id, org_id, agent_id, mandate_id,
  idempotency_key, amount, coalesce(paid, settled) AS settled,
  coalesce(repaid, refunded) AS refunded, currency, vendor, category, verdict, state,
  decided_at, updated_at, approvals_before, sum_before, evidence, due_at, followup
  FROM spend ORDER BY chain, seq";

const TERMS: &str = "SELECT id, version, document FROM mandate
  UNION ALL SELECT mandate_id, version, document FROM mandate_version";

const COUNTERS: &str = "SELECT mandate_id, subject, starts_at, ends_at, spent, held,
  THROUGH AS through FROM counter";

quetra::from_row! {
    struct EntryRow {
        chain: Vec<u8>,
        seq: i64,
        id: Vec<u8>,
        org_id: Vec<u8>,
        agent_id: Vec<u8>,
        mandate_id: Option<Vec<u8>>,
        idempotency_key: String,
        amount: i64,
        settled: Option<i64>,
        refunded: Option<i64>,
        currency: String,
        vendor: String,
        category: Option<String>,
        verdict: String,
        state: String,
        decided_at: i64,
        updated_at: i64,
        approvals_before: i64,
        sum_before: i64,
        evidence: String,
        due_at: Option<i64>,
        followup: Option<String>,
    }
}

impl EntryRow {
    fn entry(self) -> Entry {
        let evidence = serde_json::from_str(&self.evidence).unwrap();
        let followup = self.followup.as_deref().map(serde_json::from_str);
        Entry {
            chain: hex::encode(self.chain),
            seq: self.seq,
            id: hex::encode(self.id),
            org: hex::encode(self.org_id),
            agent: hex::encode(self.agent_id),
            mandate: self.mandate_id.map(hex::encode),
            key: self.idempotency_key,
            amount: self.amount,
            settled: self.settled,
            refunded: self.refunded,
            currency: self.currency,
            vendor: self.vendor,
            category: self.category,
            verdict: self.verdict,
            state: self.state,
            decided_at: self.decided_at,
            updated_at: self.updated_at,
            before: (self.approvals_before, self.sum_before),
            evidence,
            due_at: self.due_at,
            followup: followup.transpose().unwrap().unwrap_or_default(),
        }
    }
}

quetra::from_row! {
    struct CounterRow {
        mandate_id: Vec<u8>,
        subject: String,
        starts_at: i64,
        ends_at: i64,
        spent: i64,
        held: i64,
        through: i64,
    }
}

impl CounterRow {
    fn counter(self) -> Counter {
        Counter {
            mandate: hex::encode(self.mandate_id),
            subject: self.subject,
            starts_at: self.starts_at,
            ends_at: self.ends_at,
            spent: self.spent,
            held: self.held,
            through: self.through,
        }
    }
}

/// Rows of a query whose text is from here.
macro_rules! rows {
    ($pool:expr, $sql:expr) => {
        query_as(AssertSqlSafe($sql.to_owned())).fetch_all($pool).await.unwrap()
    };
}

/// What both databases have, read by the same queries.
macro_rules! shared {
    ($pool:expr, $chain:literal, $through:literal) => {{
        let entries: Vec<EntryRow> = rows!($pool, ENTRIES.replace("CHAIN", $chain));
        let counters: Vec<CounterRow> = rows!($pool, COUNTERS.replace("THROUGH", $through));
        Tables {
            entries,
            counters,
            terms: rows!($pool, TERMS),
            agents: rows!($pool, "SELECT id, org_id, status, current_mandate FROM agent"),
            orgs: rows!($pool, "SELECT id, frozen FROM organization"),
            keys: rows!($pool, "SELECT id, org_id, revoked_at FROM api_key"),
            public_keys: rows!($pool, "SELECT org_id, key_id, public_key FROM signing_key"),
        }
    }};
}

type Bytes = Vec<u8>;

struct Tables {
    entries: Vec<EntryRow>,
    counters: Vec<CounterRow>,
    terms: Vec<(Bytes, i64, String)>,
    agents: Vec<(Bytes, Bytes, String, Option<Bytes>)>,
    orgs: Vec<(Bytes, bool)>,
    keys: Vec<(Bytes, Bytes, Option<i64>)>,
    public_keys: Vec<(Bytes, String, Bytes)>,
}

impl Tables {
    fn books(self) -> Books {
        let terms = self.terms.into_iter().map(|(id, version, document)| {
            let document = serde_json::from_str::<Value>(&document).unwrap();
            ((hex::encode(id), version), Terms::of(&document))
        });
        let agents = self.agents.into_iter().map(|(id, org, status, mandate)| {
            let mandate = mandate.map(hex::encode);
            (hex::encode(id), Agent { org: hex::encode(org), status, mandate })
        });
        let keys = self
            .keys
            .into_iter()
            .map(|(id, org, revoked)| (hex::encode(id), (hex::encode(org), revoked.is_some())));
        let public_keys =
            self.public_keys.into_iter().map(|(org, name, key)| ((hex::encode(org), name), key));
        Books {
            entries: self.entries.into_iter().map(EntryRow::entry).collect(),
            terms: terms.collect(),
            counters: self.counters.into_iter().map(CounterRow::counter).collect(),
            agents: agents.collect(),
            orgs: self.orgs.into_iter().map(|(id, frozen)| (hex::encode(id), frozen)).collect(),
            keys: keys.collect(),
            public_keys: public_keys.collect(),
            ..Books::default()
        }
    }
}

/// Opens a file for reading.
pub(crate) async fn open(database: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(database).read_only(true);
    SqlitePool::connect_with(options).await.unwrap()
}

impl Books {
    /// Reads the file of a stopped server.
    pub(crate) async fn of_file(database: &Path) -> Self {
        let pool = open(database).await;
        let mut books = shared!(&pool, "x''", "through").books();
        let through = "SELECT through FROM indexed";
        let by_id: Vec<(Bytes, i64)> = rows!(&pool, "SELECT id, seq FROM spend_by_id");
        let by_agent: Vec<(Bytes, i64)> = rows!(&pool, "SELECT agent_id, seq FROM spend_by_agent");
        let approvals: Vec<(Bytes, i64, i64, i64, i64, i64)> = rows!(
            &pool,
            "SELECT mandate_id, decided_at, seq, approvals_before, sum_before, amount FROM approval"
        );
        let named = |(id, seq): (Bytes, i64)| (hex::encode(id), seq);
        let approvals = approvals.into_iter().map(|(id, at, seq, count, sum, amount)| {
            (hex::encode(id), at, seq, count, sum, amount)
        });
        books.indexes = Some(Indexes {
            through: query_scalar(through).fetch_one(&pool).await.unwrap(),
            by_id: by_id.into_iter().map(named).collect(),
            by_agent: by_agent.into_iter().map(named).collect(),
            approvals: approvals.collect(),
        });
        pool.close().await;
        books
    }

    /// Reads a Postgres database, in which the servers may still run, but do not write.
    pub(crate) async fn of_server(url: &str) -> Self {
        // A policy that hid rows would hide what is wrong with them.
        let pool = PgPool::connect(&as_owner(url)).await.unwrap();
        let hides = "SELECT row_security_active('spend')";
        let hides: bool = query_scalar(hides).fetch_one(&pool).await.unwrap();
        assert!(!hides, "the checker does not see everything");
        // Here a counter is never behind the record.
        let mut books = shared!(&pool, "org_id", "9223372036854775807").books();
        let heads: Vec<(Bytes, i64, i64)> =
            rows!(&pool, "SELECT org_id, seq, floor FROM ledger_head");
        let heads =
            heads.into_iter().map(|(org, seq, floor)| Head { org: hex::encode(org), seq, floor });
        books.heads = heads.collect();
        let names: Vec<(Bytes, Bytes, i64, i64)> =
            rows!(&pool, "SELECT id, org_id, seq, decided_at FROM spend_by_id");
        let name = |(id, org, seq, at): (Bytes, Bytes, i64, i64)| {
            (hex::encode(id), hex::encode(org), seq, at)
        };
        books.names = Some(names.into_iter().map(name).collect());
        pool.close().await;
        books
    }

    /// Reads them wherever a server kept its state.
    pub(crate) async fn of(database: &DatabaseUrl) -> Self {
        match database {
            DatabaseUrl::Sqlite(path) => Self::of_file(path).await,
            DatabaseUrl::Postgres(url) => Self::of_server(url.expose()).await,
        }
    }
}

/// Fails the test if the rows of a stopped server do not agree with each other.
pub(crate) async fn check(database: &DatabaseUrl) {
    super::acquit(&super::of_books(&Books::of(database).await));
}

/// The same, of a file.
pub(crate) async fn check_file(database: &Path) {
    super::acquit(&super::of_books(&Books::of_file(database).await));
}
