//! What gets an entry some time after it was recorded: the indexes of the record, and counters.
//!
//! Not here: when and in which order (`store::sqlite::tail`).

use rusqlite::{Connection, Row, params};

use super::super::corrupt;
use super::{counters, failed};
use crate::domain::id::{AgentId, MandateId, TransactionId};
use crate::domain::ledger::Tally;
use crate::store::StoreError;
use crate::store::sqlite::tail::{Approved, Due, Entry, Tail};

const THROUGH: &str = "SELECT through FROM indexed";

const REST: &str = "
SELECT seq, id, agent_id, decided_at, mandate_id, verdict <> 'rejected', approvals_before,
  sum_before, amount FROM spend WHERE seq > ?1 ORDER BY seq";

// After a restart an entry can be there already.
const ID: &str = "INSERT INTO spend_by_id (id, seq) VALUES (?1, ?2) ON CONFLICT DO NOTHING";

const AGENT: &str =
    "INSERT INTO spend_by_agent (agent_id, seq) VALUES (?1, ?2) ON CONFLICT DO NOTHING";

const APPROVAL: &str = "
INSERT INTO approval (mandate_id, decided_at, seq, approvals_before, sum_before, amount)
VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING";

const REACHED: &str = "UPDATE indexed SET through = ?1 WHERE through < ?1";

const WRITE: &str = "write an index";

/// Reads what the indexes may not have yet.
pub(super) fn read(connection: &Connection) -> Result<Tail, StoreError> {
    const READ: &str = "read the end of the record";
    let through = connection.query_row(THROUGH, (), |row| row.get(0)).map_err(failed(READ))?;
    let mut statement = connection.prepare(REST).map_err(failed(READ))?;
    let mut rows = statement.query([through]).map_err(failed(READ))?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next().map_err(failed(READ))? {
        entries.push(entry(row).map_err(failed(READ))?);
    }
    if entries.iter().zip(1..).any(|(entry, place)| entry.seq.checked_sub(place) != Some(through)) {
        return Err(corrupt("the record has a hole"));
    }
    Ok(Tail::of(through, entries))
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let mandate: Option<[u8; 16]> = row.get(4)?;
    let before = Tally { count: row.get(6)?, sum: row.get(7)? };
    let approved = Approved { before, amount: row.get(8)? };
    let is_approval: bool = row.get(5)?;
    Ok(Entry {
        seq: row.get(0)?,
        id: TransactionId::from_bytes(row.get(1)?),
        agent: AgentId::from_bytes(row.get(2)?),
        at: row.get(3)?,
        approval: mandate
            .filter(|_| is_approval)
            .map(|mandate| (MandateId::from_bytes(mandate), approved)),
    })
}

/// Writes what is due.
pub(super) fn write(connection: &Connection, due: &Due) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(ID).map_err(failed(WRITE))?;
    for (id, seq) in &due.ids {
        statement.execute(params![id.as_bytes(), seq]).map_err(failed(WRITE))?;
    }
    let mut statement = connection.prepare_cached(AGENT).map_err(failed(WRITE))?;
    for ((agent, seq), ()) in &due.agents {
        statement.execute(params![agent.as_bytes(), seq]).map_err(failed(WRITE))?;
    }
    let mut statement = connection.prepare_cached(APPROVAL).map_err(failed(WRITE))?;
    for ((mandate, at, seq), Approved { before, amount }) in &due.approvals {
        let row = params![mandate.as_bytes(), at, seq, before.count, before.sum, amount];
        statement.execute(row).map_err(failed(WRITE))?;
    }
    counters::write(connection, &due.counters, due.head)?;
    let mut statement = connection.prepare_cached(REACHED).map_err(failed(WRITE))?;
    statement.execute([due.through]).map(drop).map_err(failed(WRITE))
}
