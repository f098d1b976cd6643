//! Reading what a batch names into a book, by point look-ups.
//!
//! Every look-up is by a key or the start of an index, so its cost does not grow with the record.
//! Not here: writing (`save`).

use std::collections::HashSet;

use jiff::Timestamp;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::super::subjects::{add, sum_of};
use super::super::{Page, corrupt, end_micros, fill, word};
use super::{Needs, failed, known};
use crate::domain::agent::AgentStatus;
use crate::domain::id::{AgentId, MandateId, OrgId};
use crate::domain::ledger::{Approval, Book, Charge, CounterKey, Level, Tally};
use crate::domain::mandate::MandateStatus;
use crate::store::StoreError;
use crate::store::sql::spends;
use crate::store::sqlite::tail::Tail;

const ORG: &str = "SELECT version, frozen FROM organization WHERE id = ?1";

const AGENT: &str = "SELECT status, current_mandate FROM agent WHERE id = ?1";

const MANDATE: &str = "SELECT version, status FROM mandate WHERE id = ?1";

/// The last approval: the tally is what was before it, and itself.
const LAST: &str = "
SELECT approvals_before, sum_before, amount FROM approval
WHERE mandate_id = ?1 ORDER BY decided_at DESC, seq DESC LIMIT 1";

const COUNTER: &str =
    "SELECT spent, held FROM counter WHERE mandate_id = ?1 AND subject = ?2 AND starts_at = ?3";

/// The first approval in a window.
const APPROVAL: &str = "
SELECT decided_at, approvals_before, sum_before FROM approval
WHERE mandate_id = ?1 AND decided_at > ?2 ORDER BY decided_at, seq LIMIT 1";

/// What a new counter starts at: everything of its window that was spent before it existed. By
/// vendor, because only the domain knows which host belongs to which.
const SUM_UP: &str = "
SELECT vendor,
  sum(CASE state WHEN 'approved' THEN amount WHEN 'settled' THEN settled
    WHEN 'refunded' THEN settled - refunded ELSE 0 END),
  sum(CASE state WHEN 'pending_approval' THEN amount ELSE 0 END)
FROM spend
WHERE seq IN (
    SELECT seq FROM approval WHERE mandate_id = ?1 AND decided_at >= ?2 AND decided_at < ?3
    UNION SELECT value FROM json_each(?6))
  AND CASE ?4
    WHEN 'budget' THEN 1
    WHEN 'category' THEN category = ?5
    ELSE vendor = ?5 OR substr(vendor, -length(?5) - 1) = '.' || ?5
  END
GROUP BY vendor";

const LOAD: &str = "load a batch";

/// The statements of one batch, prepared once for the connection.
struct Statements<'c> {
    connection: &'c Connection,
    tail: &'c Tail,
    counter: CachedStatement<'c>,
    approval: CachedStatement<'c>,
}

impl<'c> Statements<'c> {
    fn prepare(connection: &'c Connection, tail: &'c Tail) -> Result<Self, StoreError> {
        Ok(Self {
            connection,
            tail,
            counter: connection.prepare_cached(COUNTER).map_err(failed(LOAD))?,
            approval: connection.prepare_cached(APPROVAL).map_err(failed(LOAD))?,
        })
    }

    /// A counter that exists.
    fn counter(&mut self, key: &CounterKey) -> Result<Option<Level>, StoreError> {
        let subject = spends::subject_text(&key.subject, key.period);
        let starts_at = key.starts_at.as_microsecond();
        self.counter
            .query_row(params![key.mandate.as_bytes(), subject, starts_at], |row| {
                Ok(Level { spent: row.get(0)?, held: row.get(1)? })
            })
            .optional()
            .map_err(failed(LOAD))
    }

    fn sum_up(&self, charge: &Charge) -> Result<Level, StoreError> {
        const SUM: &str = "sum up a counter";
        let (kind, subject) = sum_of(&charge.key.subject);
        let mandate = charge.key.mandate;
        let starts_at = charge.key.starts_at.as_microsecond();
        let ends_at = end_micros(charge.ends_at);
        let waiting = self
            .tail
            .of_mandate(mandate, starts_at.saturating_sub(1))
            .take_while(|((_, at, _), _)| *at < ends_at)
            .map(|((_, _, seq), _)| seq.to_string())
            .collect::<Vec<_>>();
        let waiting = format!("[{}]", waiting.join(","));
        let values = params![mandate.as_bytes(), starts_at, ends_at, kind, subject, waiting];
        let mut statement = self.connection.prepare_cached(SUM_UP).map_err(failed(SUM))?;
        let mut rows = statement.query(values).map_err(failed(SUM))?;
        let mut level = Level::default();
        while let Some(row) = rows.next().map_err(failed(SUM))? {
            let read = || Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?));
            let (vendor, spent, held): (String, i64, i64) = read().map_err(failed(SUM))?;
            add(&mut level, &charge.key.subject, &vendor, Level { spent, held });
        }
        Ok(level)
    }

    fn first_approval(
        &mut self,
        mandate: MandateId,
        start: Timestamp,
    ) -> Result<Option<Approval>, StoreError> {
        let found = self
            .approval
            .query_row(params![mandate.as_bytes(), start.as_microsecond()], |row| {
                Ok((row.get(0)?, Tally { count: row.get(1)?, sum: row.get(2)? }))
            })
            .optional()
            .map_err(failed(LOAD))?;
        // What waits for the index is later than all that it has.
        let waiting = || {
            let ((_, at, _), approved) =
                self.tail.of_mandate(mandate, start.as_microsecond()).next()?;
            Some((*at, approved.before))
        };
        let Some((at, before)) = found.or_else(waiting) else { return Ok(None) };
        let at = Timestamp::from_microsecond(at).map_err(corrupt)?;
        Ok(Some(Approval { at, before }))
    }
}

pub(super) fn load(
    connection: &Connection,
    tail: &Tail,
    needs: &Needs<'_>,
    now: Timestamp,
) -> Result<Page, StoreError> {
    let mut page = Page::default();
    let mut statements = Statements::prepare(connection, tail)?;
    for decide in &needs.decides {
        org(connection, &mut page.book, decide.org_id)?;
        agent(connection, &mut page.book, decide.spend.agent_id)?;
        if let Some(mandate) = &decide.evidence.standing.mandate {
            load_mandate(connection, &mut page.book, mandate.id)?;
        }
        known::load(connection, tail, &mut page, (decide.id, false))?;
    }
    let mut starts = HashSet::new();
    for claim in &needs.claims {
        load_tally(connection, tail, &mut page.book, claim.mandate)?;
        for charge in &claim.charges {
            if page.book.counters.contains_key(&charge.key) {
                continue;
            }
            if let Some(end) = charge.ends_at {
                page.book.ends.insert(charge.key.clone(), end);
            }
            let level = match statements.counter(&charge.key)? {
                Some(level) => {
                    page.kept.insert(charge.key.clone());
                    level
                }
                None => statements.sum_up(charge)?,
            };
            page.book.counters.insert(charge.key.clone(), level);
        }
        for test in &claim.windows {
            let start = test.start(now);
            if starts.insert((claim.mandate, start)) {
                let first = statements.first_approval(claim.mandate, start)?;
                page.book.approvals.entry(claim.mandate).or_default().extend(first);
            }
        }
    }
    for approvals in page.book.approvals.values_mut() {
        approvals.sort_by_key(|approval| approval.at);
    }
    for id in &needs.resolves {
        known::load(connection, tail, &mut page, (*id, true))?;
    }
    Ok(page)
}

fn org(connection: &Connection, book: &mut Book, id: OrgId) -> Result<(), StoreError> {
    if book.orgs.contains_key(&id) {
        return Ok(());
    }
    let found = connection
        .prepare_cached(ORG)
        .and_then(|mut statement| {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            statement.query_row([id.as_bytes()], read).optional()
        })
        .map_err(failed(LOAD))?;
    if let Some(found) = found {
        fill(book.orgs.entry(id), found);
    }
    Ok(())
}

fn agent(connection: &Connection, book: &mut Book, id: AgentId) -> Result<(), StoreError> {
    if book.agents.contains_key(&id) {
        return Ok(());
    }
    let found = connection
        .prepare_cached(AGENT)
        .and_then(|mut statement| {
            let read = |row: &rusqlite::Row<'_>| {
                Ok((row.get::<_, String>(0)?, row.get::<_, Option<[u8; 16]>>(1)?))
            };
            statement.query_row([id.as_bytes()], read).optional()
        })
        .map_err(failed(LOAD))?;
    if let Some((status, current)) = found {
        let status = word::<AgentStatus>(&status)?;
        fill(book.agents.entry(id), (status, current.map(MandateId::from_bytes)));
    }
    Ok(())
}

fn load_mandate(connection: &Connection, book: &mut Book, id: MandateId) -> Result<(), StoreError> {
    if book.mandates.contains_key(&id) {
        return Ok(());
    }
    let found = connection
        .prepare_cached(MANDATE)
        .and_then(|mut statement| {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, String>(1)?));
            statement.query_row([id.as_bytes()], read).optional()
        })
        .map_err(failed(LOAD))?;
    if let Some((version, status)) = found {
        fill(book.mandates.entry(id), (version, word::<MandateStatus>(&status)?));
    }
    Ok(())
}

fn load_tally(
    connection: &Connection,
    tail: &Tail,
    book: &mut Book,
    id: MandateId,
) -> Result<(), StoreError> {
    if book.tallies.contains_key(&id) {
        return Ok(());
    }
    let waiting = tail.of_mandate(id, i64::MIN).next_back();
    let tally = match waiting {
        Some((_, approved)) => Some(approved.before.and(approved.amount)),
        None => connection
            .prepare_cached(LAST)
            .and_then(|mut statement| {
                let read = |row: &rusqlite::Row<'_>| {
                    let before = Tally { count: row.get(0)?, sum: row.get(1)? };
                    Ok(before.and(row.get(2)?))
                };
                statement.query_row([id.as_bytes()], read).optional()
            })
            .map_err(failed(LOAD))?,
    };
    fill(book.tallies.entry(id), tally.unwrap_or_default());
    Ok(())
}
