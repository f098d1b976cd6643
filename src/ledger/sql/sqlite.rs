//! The SQL ledger's home in SQLite: loading a book, saving its effects, in one transaction.
//!
//! A whole batch is read by one statement that returns one JSON document, and written by a few
//! statements of fixed shape, because what a statement costs here is the hand-over to SQLite's
//! thread. Not here: what the numbers mean (`domain::ledger`), the row's form (`store::sqlite`).

use std::collections::HashSet;

use jiff::Timestamp;
use serde::Deserialize;
use sqlx::{AssertSqlSafe, Row, Sqlite, Transaction};

use super::{Effects, Head, Needs};
use crate::domain::agent::AgentStatus;
use crate::domain::id::{AgentId, MandateId, OrgId, TransactionId};
use crate::domain::ledger::{Approval, Book, Charge, Claim, Level, Subject, Tally};
use crate::domain::mandate::MandateStatus;
use crate::store::sqlite::{SqliteStore, classify, spends};
use crate::store::{StoreError, StoreErrorKind};

mod save;

const LOAD: &str = "
SELECT json_object(
  'orgs', (SELECT json_group_array(json_array(hex(id), version, frozen)) FROM organization
    WHERE id IN (SELECT unhex(value) FROM json_each($1))),
  'agents', (SELECT json_group_array(json_array(hex(id), status, hex(current_mandate)))
    FROM agent WHERE id IN (SELECT unhex(value) FROM json_each($2))),
  'mandates', (SELECT json_group_array(json_array(hex(m.id), m.version, m.status,
      coalesce(t.approvals, 0), coalesce(t.approved_sum, 0)))
    FROM json_each($3) k JOIN mandate m ON m.id = unhex(k.value)
    LEFT JOIN tally t ON t.mandate_id = m.id),
  'counters', (SELECT json_group_array(json_array(k.key, c.spent, c.held))
    FROM json_each($4) k JOIN counter c ON c.mandate_id = unhex(k.value ->> 0)
      AND c.subject = k.value ->> 1 AND c.starts_at = k.value ->> 2),
  'approvals', (SELECT json_group_array(
      json_array(w.key, s.decided_at, s.approvals_before, s.sum_before))
    FROM json_each($5) w JOIN spend s ON s.seq = (SELECT seq FROM spend
      WHERE mandate_id = unhex(w.value ->> 0) AND decided_at > w.value ->> 1
        AND verdict <> 'rejected' ORDER BY decided_at, seq LIMIT 1)),
  'known', (SELECT json_group_array(hex(id)) FROM spend
    WHERE id IN (SELECT unhex(value) FROM json_each($6)))
) AS book";

/// What a new counter starts at: everything of its window that was spent before it existed.
const SUM_UP: &str = "
SELECT
  coalesce(sum(CASE state WHEN 'approved' THEN amount WHEN 'settled' THEN settled
    WHEN 'refunded' THEN settled - refunded ELSE 0 END), 0) AS spent,
  coalesce(sum(CASE state WHEN 'pending_approval' THEN amount ELSE 0 END), 0) AS held
FROM spend
WHERE mandate_id = $1 AND verdict <> 'rejected' AND decided_at >= $2 AND decided_at < $3
  AND CASE $4
    WHEN 'budget' THEN 1
    WHEN 'category' THEN category = $5
    ELSE vendor = $5 OR substr(vendor, -length($5) - 1) = '.' || $5
  END";

const HEAD: &str = "SELECT seq, decided_at FROM spend WHERE seq = (SELECT max(seq) FROM spend)";

/// The ledger's tables in a SQLite database.
#[derive(Clone, Debug)]
pub struct SqliteHome {
    store: SqliteStore,
}

/// What [`LOAD`] returns.
#[derive(Deserialize)]
struct Loaded {
    orgs: Vec<(String, i64, i64)>,
    agents: Vec<(String, AgentStatus, Option<String>)>,
    mandates: Vec<(String, i64, MandateStatus, i64, i64)>,
    counters: Vec<(usize, i64, i64)>,
    approvals: Vec<(usize, i64, i64, i64)>,
    known: Vec<String>,
}

impl SqliteHome {
    /// The ledger of a database that is migrated.
    #[must_use]
    pub const fn new(store: SqliteStore) -> Self {
        Self { store }
    }

    pub(crate) async fn head(&self) -> Result<Head, StoreError> {
        let row = sqlx::query(HEAD)
            .fetch_optional(self.store.reader())
            .await
            .map_err(|error| classify("find the end of the record", error))?;
        let Some(row) = row else {
            return Ok(Head { seq: 0, floor: Timestamp::UNIX_EPOCH });
        };
        let floor = Timestamp::from_microsecond(row.get("decided_at")).map_err(corrupt)?;
        Ok(Head { seq: row.get("seq"), floor })
    }

    pub(crate) async fn begin(&self) -> Result<Batch, StoreError> {
        let transaction = self.store.begin("begin a batch").await?;
        Ok(Batch { store: self.store.clone(), transaction })
    }

    /// A book for looking only: the counters and windows of one claim.
    pub(crate) async fn look(&self, claim: &Claim, now: Timestamp) -> Result<Book, StoreError> {
        let mut transaction =
            self.store.reader().begin().await.map_err(|error| classify("begin to look", error))?;
        let needs = Needs { claims: vec![claim], ..Needs::default() };
        load(&mut transaction, &needs, now).await
    }
}

/// One database transaction of the lane; dropped without a commit it leaves nothing.
#[derive(Debug)]
pub(crate) struct Batch {
    store: SqliteStore,
    transaction: Transaction<'static, Sqlite>,
}

impl Batch {
    pub(crate) async fn load(
        &mut self,
        needs: &Needs<'_>,
        now: Timestamp,
    ) -> Result<Book, StoreError> {
        load(&mut self.transaction, needs, now).await
    }

    /// Writes what changed; the result is the last sequence number.
    pub(crate) async fn save(&mut self, effects: &Effects, head: Head) -> Result<i64, StoreError> {
        save::save(&mut self.transaction, effects, head).await
    }

    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        self.store.finish(self.transaction, "commit a batch").await
    }
}

/// The distinct things a batch names, in the order their JSON lists them.
#[derive(Default)]
struct Names<'a> {
    charges: Vec<&'a Charge>,
    starts: Vec<(MandateId, Timestamp)>,
}

impl<'a> Names<'a> {
    fn of(claims: &[&'a Claim], now: Timestamp) -> Self {
        let mut names = Self::default();
        let (mut charges, mut starts) = (HashSet::new(), HashSet::new());
        for claim in claims {
            for charge in &claim.charges {
                if charges.insert(&charge.key) {
                    names.charges.push(charge);
                }
            }
            for test in &claim.windows {
                let start = (claim.mandate, test.start(now));
                if starts.insert(start) {
                    names.starts.push(start);
                }
            }
        }
        names
    }
}

async fn load(
    transaction: &mut Transaction<'static, Sqlite>,
    needs: &Needs<'_>,
    now: Timestamp,
) -> Result<Book, StoreError> {
    let names = Names::of(&needs.claims, now);
    let arguments = arguments(needs, &names)?;
    let mut query = sqlx::query(LOAD);
    for argument in arguments {
        query = query.bind(argument);
    }
    let row = query
        .fetch_one(&mut **transaction)
        .await
        .map_err(|error| classify("load a batch", error))?;
    let text: &str = row.try_get("book").map_err(|error| classify("load a batch", error))?;
    let loaded: Loaded = serde_json::from_str(text).map_err(corrupt)?;
    let mut book = book(&loaded, &names).ok_or_else(|| corrupt("a malformed id or time"))?;
    for charge in names.charges {
        if !book.counters.contains_key(&charge.key) {
            let level = sum_up(transaction, charge).await?;
            book.counters.insert(charge.key.clone(), level);
        }
    }
    for id in loaded.known {
        known(transaction, &mut book, &id).await?;
    }
    Ok(book)
}

/// The lists that [`LOAD`] takes, as JSON.
fn arguments(needs: &Needs<'_>, names: &Names<'_>) -> Result<[String; 6], StoreError> {
    let mut orgs = HashSet::new();
    let mut agents = HashSet::new();
    let mut mandates = HashSet::new();
    let mut spends = HashSet::new();
    for decide in &needs.decides {
        orgs.insert(decide.org_id);
        agents.insert(decide.spend.agent_id);
        mandates.extend(decide.evidence.standing.mandate.as_ref().map(|mandate| mandate.id));
        spends.insert(decide.id);
    }
    mandates.extend(needs.claims.iter().map(|claim| claim.mandate));
    spends.extend(needs.resolves.iter().copied());
    let counters = names.charges.iter().map(|charge| {
        let mandate = hex::encode(charge.key.mandate.as_bytes());
        (mandate, spends::subject_text(&charge.key), charge.key.starts_at.as_microsecond())
    });
    let starts = names
        .starts
        .iter()
        .map(|(mandate, start)| (hex::encode(mandate.as_bytes()), start.as_microsecond()));
    Ok([
        json(&orgs.iter().map(|id| hex::encode(id.as_bytes())).collect::<Vec<_>>())?,
        json(&agents.iter().map(|id| hex::encode(id.as_bytes())).collect::<Vec<_>>())?,
        json(&mandates.iter().map(|id| hex::encode(id.as_bytes())).collect::<Vec<_>>())?,
        json(&counters.collect::<Vec<_>>())?,
        json(&starts.collect::<Vec<_>>())?,
        json(&spends.iter().map(|id| hex::encode(id.as_bytes())).collect::<Vec<_>>())?,
    ])
}

fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(corrupt)
}

fn corrupt(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, "load a batch", error)
}

fn bytes(hex_text: &str) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    hex::decode_to_slice(hex_text, &mut bytes).ok().map(|()| bytes)
}

fn book(loaded: &Loaded, names: &Names<'_>) -> Option<Book> {
    let mut book = Book::default();
    for (id, version, frozen) in &loaded.orgs {
        book.orgs.insert(OrgId::from_bytes(bytes(id)?), (*version, *frozen != 0));
    }
    for (id, status, current) in &loaded.agents {
        let current = match current.as_deref() {
            None | Some("") => None,
            Some(id) => Some(MandateId::from_bytes(bytes(id)?)),
        };
        book.agents.insert(AgentId::from_bytes(bytes(id)?), (*status, current));
    }
    for (id, version, status, count, sum) in &loaded.mandates {
        let id = MandateId::from_bytes(bytes(id)?);
        book.mandates.insert(id, (*version, *status));
        book.tallies.insert(id, Tally { count: *count, sum: *sum });
    }
    for (index, spent, held) in &loaded.counters {
        let key = names.charges.get(*index)?.key.clone();
        book.counters.insert(key, Level { spent: *spent, held: *held });
    }
    for (index, at, count, sum) in &loaded.approvals {
        let (mandate, _) = names.starts.get(*index)?;
        let at = Timestamp::from_microsecond(*at).ok()?;
        let before = Tally { count: *count, sum: *sum };
        book.approvals.entry(*mandate).or_default().push(Approval { at, before });
    }
    for approvals in book.approvals.values_mut() {
        approvals.sort_by_key(|approval| approval.at);
    }
    Some(book)
}

async fn sum_up(
    transaction: &mut Transaction<'static, Sqlite>,
    charge: &Charge,
) -> Result<Level, StoreError> {
    let (kind, subject) = match &charge.key.subject {
        Subject::Budget => ("budget", ""),
        Subject::Vendor(vendor) => ("vendor", vendor.canonical()),
        Subject::Category(category) => ("category", category.as_str()),
    };
    let row = sqlx::query(SUM_UP)
        .bind(charge.key.mandate.as_bytes().as_slice())
        .bind(charge.key.starts_at.as_microsecond())
        .bind(charge.ends_at.map_or(i64::MAX, Timestamp::as_microsecond))
        .bind(kind)
        .bind(subject.to_owned())
        .fetch_one(&mut **transaction)
        .await
        .map_err(|error| classify("sum up a counter", error))?;
    Ok(Level { spent: row.get("spent"), held: row.get("held") })
}

/// A transaction that exists already: repeated, or about to be resolved.
async fn known(
    transaction: &mut Transaction<'static, Sqlite>,
    book: &mut Book,
    id: &str,
) -> Result<(), StoreError> {
    let id = TransactionId::from_bytes(bytes(id).ok_or_else(|| corrupt("a malformed id"))?);
    let sql = format!("SELECT {} FROM spend WHERE id = $1", spends::COLUMNS);
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id.as_bytes().to_vec())
        .fetch_one(&mut **transaction)
        .await
        .map_err(|error| classify("read a transaction", error))?;
    let (_, record) = spends::record(&row)?;
    for key in &record.charged {
        if book.counters.contains_key(key) {
            continue;
        }
        let row = sqlx::query(
            "SELECT spent, held FROM counter \
             WHERE mandate_id = $1 AND subject = $2 AND starts_at = $3",
        )
        .bind(key.mandate.as_bytes().to_vec())
        .bind(spends::subject_text(key))
        .bind(key.starts_at.as_microsecond())
        .fetch_one(&mut **transaction)
        .await
        .map_err(|error| classify("read a counter", error))?;
        let level = Level { spent: row.get("spent"), held: row.get("held") };
        book.counters.insert(key.clone(), level);
    }
    book.transactions.insert(id, record);
    Ok(())
}
