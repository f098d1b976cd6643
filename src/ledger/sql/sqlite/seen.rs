//! What the lane has read and nobody has changed since.
//!
//! Whether another connection has committed, SQLite tells by a number that is read in each batch;
//! whether that changed how anybody stands, triggers count. Then no standing is believed any more.
//! Not here: counters (`store::sqlite::tail`).

use std::collections::HashMap;
use std::hash::Hash;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row};

use super::super::word;
use super::failed;
use crate::domain::agent::AgentStatus;
use crate::domain::id::{AgentId, MandateId, OrgId};
use crate::domain::ledger::{Approval, WindowTest};
use crate::domain::mandate::MandateStatus;
use crate::store::StoreError;

/// What is remembered of one mandate and its agent, in bytes, with the room that tables leave.
const MANDATE_BYTES: usize = 256;

const DATA_VERSION: &str = "PRAGMA data_version";

const CHANGED: &str = "SELECT standings, forgotten FROM indexed";

const ORG: &str = "SELECT version, frozen FROM organization WHERE id = ?1";

const AGENT: &str = "SELECT status, current_mandate FROM agent WHERE id = ?1";

const MANDATE: &str = "SELECT version, status FROM mandate WHERE id = ?1";

const LOAD: &str = "load a batch";

/// What was read before.
#[derive(Debug)]
pub(super) struct Seen {
    /// The most of each kind; then that kind begins anew.
    most: usize,
    /// What SQLite said when it was read.
    data_version: Option<i64>,
    /// How often a standing had changed, and how many counters had been deleted then.
    changed: Option<(i64, i64)>,
    orgs: HashMap<OrgId, (i64, bool)>,
    agents: HashMap<AgentId, (AgentStatus, Option<MandateId>)>,
    mandates: HashMap<MandateId, (i64, MandateStatus)>,
    /// The first approval in each window. It stays the first until the window has left it.
    firsts: HashMap<(MandateId, SignedDuration), Approval>,
}

impl Seen {
    /// Nothing yet, and never much more than these bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            most: bytes.checked_div(MANDATE_BYTES).unwrap_or_default(),
            data_version: None,
            changed: None,
            orgs: HashMap::new(),
            agents: HashMap::new(),
            mandates: HashMap::new(),
            firsts: HashMap::new(),
        }
    }

    /// Forgets what others may have changed. Whether counters were deleted, which then must be
    /// forgotten too. To be asked within the transaction that goes by it.
    pub(super) fn renew(&mut self, connection: &Connection) -> Result<bool, StoreError> {
        let mut statement = connection.prepare_cached(DATA_VERSION).map_err(failed(LOAD))?;
        let now = statement.query_row((), |row| row.get(0)).map_err(failed(LOAD))?;
        if self.data_version == Some(now) {
            return Ok(false);
        }
        let mut statement = connection.prepare_cached(CHANGED).map_err(failed(LOAD))?;
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let (standings, forgotten) = statement.query_row((), read).map_err(failed(LOAD))?;
        let before = self.changed.replace((standings, forgotten));
        self.data_version = Some(now);
        if before.is_none_or(|(before, _)| before != standings) {
            self.orgs.clear();
            self.agents.clear();
            self.mandates.clear();
        }
        Ok(before.is_none_or(|(_, before)| before != forgotten))
    }

    /// Version and kill switch of an organization, if there is one.
    pub(super) fn org(
        &mut self,
        connection: &Connection,
        id: OrgId,
    ) -> Result<Option<(i64, bool)>, StoreError> {
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        recall(&mut self.orgs, self.most, id, || find(connection, ORG, id.as_bytes(), read))
    }

    /// Status and current mandate of an agent, if there is one.
    pub(super) fn agent(
        &mut self,
        connection: &Connection,
        id: AgentId,
    ) -> Result<Option<(AgentStatus, Option<MandateId>)>, StoreError> {
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        recall(&mut self.agents, self.most, id, || {
            let found = find(connection, AGENT, id.as_bytes(), read)?;
            let Some((status, current)): Option<(String, Option<[u8; 16]>)> = found else {
                return Ok(None);
            };
            Ok(Some((word(&status)?, current.map(MandateId::from_bytes))))
        })
    }

    /// Version and status of a mandate, if there is one.
    pub(super) fn mandate(
        &mut self,
        connection: &Connection,
        id: MandateId,
    ) -> Result<Option<(i64, MandateStatus)>, StoreError> {
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        recall(&mut self.mandates, self.most, id, || {
            let found = find(connection, MANDATE, id.as_bytes(), read)?;
            let Some((version, status)): Option<(i64, String)> = found else { return Ok(None) };
            Ok(Some((version, word(&status)?)))
        })
    }

    /// The first approval in a window that ends now, if there is one.
    pub(super) fn first(
        &mut self,
        (mandate, test): (MandateId, &WindowTest),
        now: Timestamp,
        read: impl FnOnce(Timestamp) -> Result<Option<Approval>, StoreError>,
    ) -> Result<Option<Approval>, StoreError> {
        let (key, start) = ((mandate, test.length), test.start(now));
        if self.firsts.get(&key).is_some_and(|first| first.at <= start) {
            self.firsts.remove(&key);
        }
        recall(&mut self.firsts, self.most, key, || read(start))
    }
}

/// What is remembered, or else is read and remembered if it exists.
fn recall<K: Eq + Hash, V: Copy>(
    seen: &mut HashMap<K, V>,
    most: usize,
    key: K,
    read: impl FnOnce() -> Result<Option<V>, StoreError>,
) -> Result<Option<V>, StoreError> {
    if let Some(value) = seen.get(&key) {
        return Ok(Some(*value));
    }
    let Some(value) = read()? else { return Ok(None) };
    if seen.len() >= most {
        seen.clear();
    }
    seen.insert(key, value);
    Ok(Some(value))
}

fn find<T>(
    connection: &Connection,
    sql: &str,
    id: &[u8; 16],
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(failed(LOAD))?;
    statement.query_row([id], read).optional().map_err(failed(LOAD))
}
