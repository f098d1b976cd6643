//! What the lane has read and nobody has changed since.
//!
//! Whatever another connection commits, SQLite tells by a number that is read in each batch: then
//! nothing of this is believed any more. Not here: counters (`store::sqlite::tail`).

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

/// The most of each kind, some 10 MiB together; then it begins anew.
const MOST: usize = 65_536;

const DATA_VERSION: &str = "PRAGMA data_version";

const FORGOTTEN: &str = "SELECT forgotten FROM indexed";

const ORG: &str = "SELECT version, frozen FROM organization WHERE id = ?1";

const AGENT: &str = "SELECT status, current_mandate FROM agent WHERE id = ?1";

const MANDATE: &str = "SELECT version, status FROM mandate WHERE id = ?1";

const LOAD: &str = "load a batch";

/// What was read before.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// What SQLite said when it was read.
    data_version: Option<i64>,
    /// How many counters had been deleted then.
    forgotten: Option<i64>,
    orgs: HashMap<OrgId, (i64, bool)>,
    agents: HashMap<AgentId, (AgentStatus, Option<MandateId>)>,
    mandates: HashMap<MandateId, (i64, MandateStatus)>,
    /// The first approval in each window. It stays the first until the window has left it.
    firsts: HashMap<(MandateId, SignedDuration), Approval>,
}

impl Seen {
    /// Forgets what others may have changed. Whether counters were deleted, which then must be
    /// forgotten too. To be asked within the transaction that goes by it.
    pub(super) fn renew(&mut self, connection: &Connection) -> Result<bool, StoreError> {
        let ask = |sql| {
            let mut statement = connection.prepare_cached(sql).map_err(failed(LOAD))?;
            statement.query_row((), |row| row.get(0)).map_err(failed(LOAD))
        };
        let now = Some(ask(DATA_VERSION)?);
        if self.data_version == now {
            return Ok(false);
        }
        self.orgs.clear();
        self.agents.clear();
        self.mandates.clear();
        let forgotten = Some(ask(FORGOTTEN)?);
        let is_more = self.forgotten != forgotten;
        (self.data_version, self.forgotten) = (now, forgotten);
        Ok(is_more)
    }

    /// Version and kill switch of an organization, if there is one.
    pub(super) fn org(
        &mut self,
        connection: &Connection,
        id: OrgId,
    ) -> Result<Option<(i64, bool)>, StoreError> {
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        recall(&mut self.orgs, id, || find(connection, ORG, id.as_bytes(), read))
    }

    /// Status and current mandate of an agent, if there is one.
    pub(super) fn agent(
        &mut self,
        connection: &Connection,
        id: AgentId,
    ) -> Result<Option<(AgentStatus, Option<MandateId>)>, StoreError> {
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        recall(&mut self.agents, id, || {
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
        recall(&mut self.mandates, id, || {
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
        recall(&mut self.firsts, key, || read(start))
    }
}

/// What is remembered, or else is read and remembered if it exists.
fn recall<K: Eq + Hash, V: Copy>(
    seen: &mut HashMap<K, V>,
    key: K,
    read: impl FnOnce() -> Result<Option<V>, StoreError>,
) -> Result<Option<V>, StoreError> {
    if let Some(value) = seen.get(&key) {
        return Ok(Some(*value));
    }
    let Some(value) = read()? else { return Ok(None) };
    if seen.len() >= MOST {
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
