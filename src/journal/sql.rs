//! The journal beside the ledger in SQL: how what is recorded is read, and entries are written.
//!
//! Not here: their order and their chain (`journal`), and reading the journal (`store`).

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::value::{Error as WordError, StrDeserializer};

use super::{NewSpend, corrupt};
use crate::audit::SpendFields;
use crate::domain::decision::Verdict;
use crate::domain::id::{AgentId, MandateId, OrgId};
use crate::domain::journal::Reached;
use crate::store::StoreError;
use crate::store::sql::spends::budget_in;

mod postgres;
mod sqlite;

pub use postgres::follow_postgres;
pub use sqlite::follow_sqlite;

/// The most decisions, and the most acts, that one look takes: its turn to write is short.
const PART: i64 = 1_024;

/// Reads a decision; its zone is shared with the one before, as nearly all have the same.
fn spend_of(
    org: &[u8],
    fields: &SpendFields<'_>,
    zone: &mut Arc<str>,
) -> Result<NewSpend, StoreError> {
    let word = StrDeserializer::<WordError>::new(fields.verdict);
    let verdict = Verdict::deserialize(word).map_err(corrupt)?;
    let reached = match fields.mandate_id {
        None => None,
        Some(mandate) => budget_in(fields.evidence)?.map(|budget| (mandate, budget)),
    };
    let reached = match reached {
        None => None,
        Some((mandate, budget)) => {
            if **zone != *budget.zone {
                *zone = budget.zone.as_ref().into();
            }
            let (mut spent, mut held) = budget.before;
            match verdict {
                Verdict::Approved => spent = spent.saturating_add(fields.amount),
                Verdict::PendingApproval => held = held.saturating_add(fields.amount),
                Verdict::Rejected => {}
            }
            let reached = Reached {
                mandate: MandateId::from_bytes(mandate.try_into().map_err(corrupt)?),
                version: budget.version,
                agent: AgentId::from_bytes(fields.agent_id.try_into().map_err(corrupt)?),
                spent,
                held,
                at: Timestamp::from_microsecond(fields.decided_at).map_err(corrupt)?,
            };
            Some((reached, Arc::clone(zone)))
        }
    };
    Ok(NewSpend {
        seq: fields.seq,
        org: org_of(org)?,
        at: fields.decided_at,
        verdict,
        digest: fields.digest(),
        reached,
    })
}

fn org_of(bytes: &[u8]) -> Result<OrgId, StoreError> {
    Ok(OrgId::from_bytes(bytes.try_into().map_err(corrupt)?))
}
