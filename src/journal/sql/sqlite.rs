//! The journal in SQLite: one follower for the file, which has one server.
//!
//! What is new is read and digested without the turn to write; then short transactions append it.
//! They are not flushed by themselves: the ledger's next commit flushes them too, and after a power
//! failure the same entries are written again. Not here: their order (`journal`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Row as SqlRow, TransactionBehavior, params,
};

use super::{PART, org_of, spend_of};
use crate::audit::{ActFields, SpendFields};
use crate::domain::id::{MandateId, OrgId};
use crate::domain::journal::Mark;
use crate::domain::mandate::Mandate;
use crate::journal::{
    End, FOLLOW, Follower, Home, Look, NewAct, NewSpend, News, Position, Row, Scribe, corrupt,
    part_of,
};
use crate::store::sqlite::{SqliteStore, classify_lane};
use crate::store::{StoreError, StoreErrorKind};

/// About how many entries are written in one turn, for about as long as the ledger waits for it: a
/// good half of a millisecond.
const ENTRIES: usize = 128;

/// Flushed with the ledger's next commit.
const PRAGMAS: &str = "
PRAGMA synchronous = NORMAL;
PRAGMA temp_store = MEMORY;
PRAGMA mmap_size = 0;
PRAGMA cache_size = -2000;
PRAGMA busy_timeout = 5000;
PRAGMA wal_autocheckpoint = 0;";

const POSITION: &str = "SELECT spend, act FROM journal_position";
const SPENDS: &str = "
SELECT seq, id, org_id, agent_id, mandate_id, decided_at, verdict, amount, currency, vendor,
    category, idempotency_key, request_hash, evidence
FROM spend WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const ACTS: &str = "
SELECT seq, org_id, after_spend, at, kind, subject, actor_key, actor_role, document
FROM act WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const LAST: &str = "SELECT seq, chain FROM journal WHERE org_id = ?1 ORDER BY seq DESC LIMIT 1";
const VERSION: &str = "
SELECT document FROM mandate WHERE id = ?1 AND version = ?2
UNION ALL SELECT document FROM mandate_version WHERE mandate_id = ?1 AND version = ?2 LIMIT 1";
const IS_REACHED: &str = "
SELECT 1 FROM budget_mark
WHERE mandate_id = ?1 AND starts_at = ?2 AND percent = ?3 AND limit_minor = ?4";
const APPEND: &str = "
INSERT INTO journal (org_id, seq, at, kind, source, source_seq, chain, body)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const REACH: &str = "
INSERT INTO budget_mark (mandate_id, starts_at, percent, limit_minor, org_id)
VALUES (?1, ?2, ?3, ?4, ?5)";
const MOVE: &str = "UPDATE journal_position SET spend = ?1, act = ?2 WHERE spend = ?3 AND act = ?4";

fn failed(error: rusqlite::Error) -> StoreError {
    classify_lane(FOLLOW, error)
}

/// The follower of a SQLite file.
#[must_use]
pub fn follow_sqlite(store: SqliteStore) -> Follower {
    Follower::new(Box::new(SqliteJournal { store, state: Some(State::default()) }))
}

struct SqliteJournal {
    store: SqliteStore,
    /// Lent to the thread that looks.
    state: Option<State>,
}

#[derive(Default)]
struct State {
    /// Made when it is first needed, and anew after a failure.
    connection: Option<Connection>,
    scribe: Scribe,
    zone: Arc<str>,
}

#[async_trait]
impl Home for SqliteJournal {
    async fn look(&mut self) -> Result<Look, StoreError> {
        let (store, mut state) = (self.store.clone(), self.state.take().unwrap_or_default());
        let looked = tokio::task::spawn_blocking(move || {
            let look = state.look(&store);
            if look.is_err() {
                state.connection = None;
            }
            (look, state)
        });
        let (look, state) = looked
            .await
            .map_err(|error| StoreError::new(StoreErrorKind::Unavailable, FOLLOW, error))?;
        self.state = Some(state);
        look
    }
}

impl State {
    fn look(&mut self, store: &SqliteStore) -> Result<Look, StoreError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let connection =
                    Connection::open_with_flags(store.path(), flags).map_err(failed)?;
                connection.execute_batch(PRAGMAS).map_err(failed)?;
                connection
            }
        };
        let (rows, mut position, more) = self.read(&mut connection)?;
        let mut rest = rows.as_slice();
        while !rest.is_empty() {
            let part;
            (part, rest) = part_of(rest, ENTRIES);
            let _turn = store.wait_for_turn();
            position = append(&mut connection, part, position)?;
        }
        self.connection = Some(connection);
        // Of several entries of one journal, the last.
        let ends: HashMap<_, _> = rows.iter().map(|row| (row.org, row.seq)).collect();
        Ok(Look { grown: ends.into_iter().collect(), more })
    }

    /// Reads and composes in one snapshot; the position it goes on from, and whether there is more.
    fn read(
        &mut self,
        connection: &mut Connection,
    ) -> Result<(Vec<Row>, Position, bool), StoreError> {
        let reading = connection.transaction().map_err(failed)?;
        let position = reading
            .prepare_cached(POSITION)
            .and_then(|mut one| {
                one.query_row((), |row| Ok(Position { spend: row.get(0)?, act: row.get(1)? }))
            })
            .map_err(failed)?;
        let spends = self.spends(&reading, position.spend)?;
        let acts = acts(&reading, position.act)?;
        let is_part = |count: usize| i64::try_from(count).is_ok_and(|count| count >= PART);
        let (more_spends, more_acts) = (is_part(spends.len()), is_part(acts.len()));
        let news = News { spends, acts, more_spends, more_acts };
        for (_, mandate, version) in self.scribe.unknown(&news) {
            if let Some(found) = version_of(&reading, mandate, version)? {
                self.scribe.learn(mandate, version, found.policy.budget);
            }
        }
        let mut reached = HashSet::new();
        for mark in self.scribe.marks(&news)? {
            if is_reached(&reading, &mark)? {
                reached.insert(mark);
            }
        }
        let ends = ends(&reading, &news)?;
        let composed = self.scribe.compose(&news, ends, reached)?;
        Ok((composed.rows, position, more_spends || more_acts))
    }

    fn spends(&mut self, reading: &Connection, after: i64) -> Result<Vec<NewSpend>, StoreError> {
        let mut statement = reading.prepare_cached(SPENDS).map_err(failed)?;
        let mut rows = statement.query(params![after, PART]).map_err(failed)?;
        let mut spends = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            let org = blob(row, 2)?;
            let fields = SpendFields {
                seq: row.get(0).map_err(failed)?,
                id: blob(row, 1)?,
                agent_id: blob(row, 3)?,
                mandate_id: opt_blob(row, 4)?,
                decided_at: row.get(5).map_err(failed)?,
                verdict: text(row, 6)?,
                amount: row.get(7).map_err(failed)?,
                currency: text(row, 8)?,
                vendor: text(row, 9)?,
                category: row.get_ref(10).map_err(failed)?.as_str_or_null().map_err(corrupt)?,
                idempotency_key: text(row, 11)?,
                request_hash: blob(row, 12)?,
                evidence: text(row, 13)?,
            };
            spends.push(spend_of(org, &fields, &mut self.zone)?);
        }
        Ok(spends)
    }
}

fn blob<'a>(row: &'a SqlRow<'_>, column: usize) -> Result<&'a [u8], StoreError> {
    row.get_ref(column).map_err(failed)?.as_blob().map_err(corrupt)
}

fn opt_blob<'a>(row: &'a SqlRow<'_>, column: usize) -> Result<Option<&'a [u8]>, StoreError> {
    row.get_ref(column).map_err(failed)?.as_blob_or_null().map_err(corrupt)
}

fn text<'a>(row: &'a SqlRow<'_>, column: usize) -> Result<&'a str, StoreError> {
    row.get_ref(column).map_err(failed)?.as_str().map_err(corrupt)
}

fn acts(reading: &Connection, after: i64) -> Result<Vec<NewAct>, StoreError> {
    let mut statement = reading.prepare_cached(ACTS).map_err(failed)?;
    let mut rows = statement.query(params![after, PART]).map_err(failed)?;
    let mut acts = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let fields = ActFields {
            seq: row.get(0).map_err(failed)?,
            after_spend: row.get(2).map_err(failed)?,
            at: row.get(3).map_err(failed)?,
            kind: text(row, 4)?,
            subject: blob(row, 5)?,
            actor_key: opt_blob(row, 6)?,
            actor_role: text(row, 7)?,
            document: text(row, 8)?,
        };
        acts.push(NewAct {
            seq: fields.seq,
            org: org_of(blob(row, 1)?)?,
            after_spend: fields.after_spend,
            at: fields.at,
            kind: fields.kind.to_owned(),
            digest: fields.digest(),
        });
    }
    Ok(acts)
}

/// The ends of the journals that the news are about.
fn ends(reading: &Connection, news: &News) -> Result<HashMap<OrgId, End>, StoreError> {
    let orgs = news.spends.iter().map(|spend| spend.org).chain(news.acts.iter().map(|act| act.org));
    let mut ends = HashMap::new();
    for org in orgs.collect::<HashSet<_>>() {
        let end = reading
            .prepare_cached(LAST)
            .and_then(|mut last| {
                let end = |row: &SqlRow<'_>| Ok(End { seq: row.get(0)?, chain: row.get(1)? });
                last.query_row([org.as_bytes()], end).optional()
            })
            .map_err(failed)?;
        ends.insert(org, end.unwrap_or_else(|| End::of_nothing(org)));
    }
    Ok(ends)
}

fn version_of(
    reading: &Connection,
    mandate: MandateId,
    version: i64,
) -> Result<Option<Mandate>, StoreError> {
    let document: Option<String> = reading
        .prepare_cached(VERSION)
        .and_then(|mut one| {
            one.query_row(params![mandate.as_bytes(), version], |row| row.get(0)).optional()
        })
        .map_err(failed)?;
    document.map(|document| serde_json::from_str(&document).map_err(corrupt)).transpose()
}

fn is_reached(reading: &Connection, mark: &Mark) -> Result<bool, StoreError> {
    let key = params![mark.mandate.as_bytes(), mark.starts_at, mark.percent, mark.limit];
    let mut statement = reading.prepare_cached(IS_REACHED).map_err(failed)?;
    statement.exists(key).map_err(failed)
}

/// Appends, unless the position is not the one that was gone on from; where it is then.
fn append(
    connection: &mut Connection,
    rows: &[Row],
    before: Position,
) -> Result<Position, StoreError> {
    let writing =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    {
        let mut append = writing.prepare_cached(APPEND).map_err(failed)?;
        let mut reach = writing.prepare_cached(REACH).map_err(failed)?;
        for row in rows {
            let (org, source) = (row.org.as_bytes(), row.source.code());
            let entry = params![
                org,
                row.seq,
                row.at,
                row.kind,
                source,
                row.source_seq,
                row.chain,
                row.body,
            ];
            append.execute(entry).map_err(failed)?;
            if let Some(mark) = &row.mark {
                let mandate = mark.mandate.as_bytes();
                let key = params![mandate, mark.starts_at, mark.percent, mark.limit, org];
                reach.execute(key).map_err(failed)?;
            }
        }
    }
    let after = before.after(rows);
    let positions = params![after.spend, after.act, before.spend, before.act];
    let moved =
        writing.prepare_cached(MOVE).and_then(|mut one| one.execute(positions)).map_err(failed)?;
    if moved != 1 {
        return Err(StoreError::conflict(FOLLOW));
    }
    writing.commit().map_err(failed)?;
    Ok(after)
}
