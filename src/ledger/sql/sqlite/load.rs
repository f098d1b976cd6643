//! Reading what a batch names into a book, by point look-ups.
//!
//! Every look-up is by a key or the start of an index, so its cost does not grow with the record.
//! Not here: writing (`save`), what was read before (`seen`), and counters (`counters`).

use std::collections::{HashSet, hash_map};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::super::{Needs, Page, corrupt, end_micros};
use super::counters::{Counters, Kept};
use super::seen::Seen;
use super::{failed, known};
use crate::domain::id::{AgentId, MandateId, OrgId};
use crate::domain::ledger::{Approval, Book, Charge, Claim, CounterKey, Standing, Tally};
use crate::store::StoreError;
use crate::store::sqlite::tail::Tail;

/// The last approval: the tally is what was before it, and itself.
const LAST: &str = "
SELECT approvals_before, sum_before, amount FROM approval
WHERE mandate_id = ?1 ORDER BY decided_at DESC, seq DESC LIMIT 1";

/// The first approval in a window.
const APPROVAL: &str = "
SELECT decided_at, approvals_before, sum_before FROM approval
WHERE mandate_id = ?1 AND decided_at > ?2 ORDER BY decided_at, seq LIMIT 1";

const LOAD: &str = "load a batch";

/// A part of the books as it is read.
pub(super) struct Reading<'c> {
    pub(super) connection: &'c Connection,
    pub(super) tail: &'c Tail,
    pub(super) counters: Counters<'c>,
    pub(super) page: Page,
    /// Its kept counters whose rows have fallen behind.
    pub(super) behind: HashSet<CounterKey>,
}

/// Reads what a batch needs, and which of its counters have rows that have fallen behind.
pub(super) fn load(
    connection: &Connection,
    tail: &Tail,
    seen: &mut Seen,
    needs: &Needs<'_>,
    now: Timestamp,
) -> Result<(Page, HashSet<CounterKey>), StoreError> {
    let counters = Counters::prepare(connection, tail)?;
    let (page, behind) = (Page::default(), HashSet::new());
    let mut reading = Reading { connection, tail, counters, page, behind };
    for standing in &needs.standings {
        reading.standing(seen, *standing)?;
    }
    for decide in &needs.decides {
        known::load(&mut reading, (decide.id, false))?;
    }
    for claim in &needs.claims {
        reading.tally(claim.mandate)?;
        for charge in &claim.charges {
            reading.charge(charge)?;
        }
        reading.windows(seen, claim, now)?;
    }
    for id in &needs.resolves {
        known::load(&mut reading, (*id, true))?;
    }
    Ok((reading.page, reading.behind))
}

impl Reading<'_> {
    /// How organization, agent and mandate stand.
    fn standing(
        &mut self,
        seen: &mut Seen,
        (org, agent, standing): (OrgId, AgentId, &Standing),
    ) -> Result<(), StoreError> {
        let Book { orgs, agents, mandates, .. } = &mut self.page.book;
        if let hash_map::Entry::Vacant(entry) = orgs.entry(org) {
            seen.org(self.connection, org)?.map(|org| entry.insert(org));
        }
        if let hash_map::Entry::Vacant(entry) = agents.entry(agent) {
            seen.agent(self.connection, agent)?.map(|agent| entry.insert(agent));
        }
        let Some(standing) = &standing.mandate else { return Ok(()) };
        if let hash_map::Entry::Vacant(entry) = mandates.entry(standing.id) {
            seen.mandate(self.connection, standing.id)?.map(|mandate| entry.insert(mandate));
        }
        Ok(())
    }

    fn charge(&mut self, charge: &Charge) -> Result<(), StoreError> {
        if self.page.book.counters.contains_key(&charge.key) {
            return Ok(());
        }
        let (level, kept) = self.counters.level(&charge.key, end_micros(charge.ends_at))?;
        self.keep(&charge.key, kept);
        if let Some(end) = charge.ends_at {
            self.page.book.ends.insert(charge.key.clone(), end);
        }
        self.page.book.counters.insert(charge.key.clone(), level);
        Ok(())
    }

    /// Notes how much of a counter is stored.
    pub(super) fn keep(&mut self, key: &CounterKey, kept: Kept) {
        if kept != Kept::Not {
            self.page.kept.insert(key.clone());
        }
        if kept == Kept::Partly {
            self.behind.insert(key.clone());
        }
    }

    fn tally(&mut self, id: MandateId) -> Result<(), StoreError> {
        let hash_map::Entry::Vacant(entry) = self.page.book.tallies.entry(id) else {
            return Ok(());
        };
        let waiting = self.tail.of_mandate(id, i64::MIN).next_back();
        let tally = match waiting {
            Some((_, approved)) => Some(approved.before.and(approved.amount)),
            None => self
                .connection
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
        entry.insert(tally.unwrap_or_default());
        Ok(())
    }

    /// The first approval in each window of a claim.
    fn windows(
        &mut self,
        seen: &mut Seen,
        claim: &Claim,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for test in &claim.windows {
            let read = |start| self.first_approval(claim.mandate, start);
            let first = seen.first((claim.mandate, test), now, read)?;
            let approvals = self.page.book.approvals.entry(claim.mandate).or_default();
            if let Some(first) = first {
                let place = approvals.partition_point(|approval| approval.at < first.at);
                if approvals.get(place) != Some(&first) {
                    approvals.insert(place, first);
                }
            }
        }
        Ok(())
    }

    fn first_approval(
        &self,
        mandate: MandateId,
        start: Timestamp,
    ) -> Result<Option<Approval>, StoreError> {
        let found = self
            .connection
            .prepare_cached(APPROVAL)
            .and_then(|mut statement| {
                let values = params![mandate.as_bytes(), start.as_microsecond()];
                let read = |row: &rusqlite::Row<'_>| {
                    Ok((row.get(0)?, Tally { count: row.get(1)?, sum: row.get(2)? }))
                };
                statement.query_row(values, read).optional()
            })
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
