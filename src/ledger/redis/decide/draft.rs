//! What the script is told of a decision, made from the command alone.
//!
//! Not here: what depends on the epoch or on an earlier answer (`decide`).

use jiff::SignedDuration;
use uuid::Uuid;

use super::super::keys::{Keys, agent_stands, mandate_stands, org_stands, shard_of};
use crate::domain::decision::Verdict;
use crate::domain::hold::Followup;
use crate::domain::ledger::{Decide, Tally};
use crate::domain::transaction::{TransactionRecord, TransactionState};

/// Where slices begin among the keys of the script.
pub(super) const SLICES_FROM: usize = 7;

/// A length as scripts count.
pub(super) fn micros(length: SignedDuration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX)
}

/// When a key says that it was made, in microseconds.
pub(super) fn made_at(key: &str) -> Option<i64> {
    let id = Uuid::try_parse(key).ok().filter(|id| id.get_version_num() == 7)?;
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    let seconds = i64::try_from(seconds).ok()?;
    seconds.checked_mul(1_000_000)?.checked_add(i64::from(nanos.checked_div(1_000)?))
}

pub(super) fn keys(command: &Decide) -> Vec<String> {
    let names = Keys(shard_of(command.org_id));
    let standing = command.evidence.standing.mandate.as_ref().map(|mandate| mandate.id);
    let mut keys = vec![
        names.outbox(),
        // Without a mandate nothing of one is read: the name only keeps the places.
        standing.map_or_else(|| names.outbox(), |id| names.windows(id)),
        names.authority(),
        names.record(command.spend.agent_id, &command.idempotency_key),
        names.org(command.org_id),
        names.agent(command.spend.agent_id),
        standing.map_or_else(|| names.outbox(), |id| names.mandate(id)),
    ];
    let charges = command.claim.iter().flat_map(|claim| &claim.charges);
    keys.extend(charges.map(|charge| names.slice(charge)));
    keys
}

pub(super) fn stands(command: &Decide) -> [String; 3] {
    let standing = &command.evidence.standing;
    let wanted = standing.mandate.as_ref().map(|mandate| mandate.id);
    let current = (!command.evidence.named).then_some(wanted);
    let mandate = standing.mandate.as_ref();
    [
        org_stands((standing.org_version, standing.frozen)),
        agent_stands(standing.agent, current),
        mandate.map_or_else(String::new, |one| mandate_stands(one.version, one.status)),
    ]
}

/// The record as it will be if it is approved, without what only the script knows.
pub(super) fn draft(command: &Decide) -> TransactionRecord {
    let hold = command.claim.as_ref().is_some_and(|claim| claim.hold);
    let verdict = if hold { Verdict::PendingApproval } else { Verdict::Approved };
    let charges = command.claim.iter().flat_map(|claim| &claim.charges);
    let unknown = jiff::Timestamp::UNIX_EPOCH;
    TransactionRecord {
        id: command.id,
        org_id: command.org_id,
        spend: command.spend.clone(),
        idempotency_key: command.idempotency_key.clone(),
        request_hash: command.request_hash,
        verdict,
        state: TransactionState::from(verdict),
        evidence: command.evidence.clone(),
        charged: charges.map(|charge| charge.key.clone()).collect(),
        tally_before: Tally::default(),
        terms: command.claim.as_ref().map(|claim| claim.terms.clone()).unwrap_or_default(),
        due_at: None,
        followup: Followup::default(),
        settled: None,
        refunded: None,
        decided_at: unknown,
        updated_at: unknown,
        took_micros: command.took_micros,
    }
}
