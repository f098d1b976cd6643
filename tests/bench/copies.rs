//! Very many agents with mandates, as copies of one that was made through the API.
//!
//! The API makes some hundreds a second, because each is signed, recorded and synced three times.
//! A copy differs from its original by name and ids alone, so a decision costs the same, while its
//! signature is that of the original: nothing but decisions may be asked of it. Not here: loads.

use std::ops::Range;
use std::path::Path;

use anyhow::Context;
use rusqlite::{Connection, params};

use crate::loader::AgentId;

const ORIGINAL: &str =
    "SELECT agent.id, agent.name, current_mandate, agent.document FROM agent WHERE id = ?1";

const AGENT: &str = "
    INSERT INTO agent (id, org_id, name, status, current_mandate, version, document)
    SELECT ?2, org_id, ?3, status, ?4, version,
           replace(replace(replace(document, ?5, ?6), ?7, ?8), name, ?3)
    FROM agent WHERE id = ?1";

const MANDATE: &str = "
    INSERT INTO mandate (id, org_id, agent_id, status, version, document)
    SELECT ?2, org_id, ?3, status, version, replace(replace(document, ?4, ?5), ?6, ?7)
    FROM mandate WHERE id = ?1";

const VERSIONS: &str = "
    INSERT INTO mandate_version (mandate_id, version, org_id, document)
    SELECT ?2, version, org_id, replace(replace(document, ?3, ?4), ?5, ?6)
    FROM mandate_version WHERE mandate_id = ?1";

/// Copies an agent with its mandate; no server may use the database meanwhile.
///
/// # Errors
/// The database cannot be used, or has no such agent with an active mandate.
pub(crate) fn agents(
    database: &Path,
    original: &AgentId,
    numbers: Range<usize>,
) -> anyhow::Result<Vec<AgentId>> {
    let mut connection = Connection::open(database)?;
    let original = std::str::from_utf8(original)?;
    let agent = uuid::Uuid::parse_str(original)?;
    let (name, mandate): (String, [u8; 16]) = connection
        .query_row(ORIGINAL, [agent.as_bytes()], |row| Ok((row.get(1)?, row.get(2)?)))
        .context("the original is not there")?;
    let mandate_text = format!("mdt_{}", hex::encode(mandate));

    let mut made = Vec::with_capacity(numbers.len());
    let transaction = connection.transaction()?;
    for number in numbers {
        let new_agent = *uuid::Uuid::new_v4().as_bytes();
        let new_text = uuid::Uuid::from_bytes(new_agent).to_string();
        // Ids of mandates begin with the time: later ones are neighbours.
        let mut new_mandate = mandate;
        new_mandate[8..].copy_from_slice(&(number as u64).to_be_bytes());
        let new_mandate_text = format!("mdt_{}", hex::encode(new_mandate));
        let new_name = format!("{name}-{number}");
        let ids = [original, &new_text, &mandate_text, &new_mandate_text];
        let [a, b, c, d] = ids;
        transaction.prepare_cached(AGENT)?.execute(params![
            agent.as_bytes(),
            new_agent,
            new_name,
            new_mandate,
            a,
            b,
            c,
            d
        ])?;
        transaction.prepare_cached(MANDATE)?.execute(params![
            mandate,
            new_mandate,
            new_agent,
            a,
            b,
            c,
            d
        ])?;
        transaction.prepare_cached(VERSIONS)?.execute(params![mandate, new_mandate, a, b, c, d])?;
        made.push(new_text.into_bytes().try_into().map_err(|_| anyhow::anyhow!("no UUID"))?);
    }
    transaction.commit()?;
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
    Ok(made)
}
