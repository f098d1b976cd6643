//! Entries of the journal with all that their chain covers.

use super::{Violations, page};
use crate::domain::id::{AgentId, KeyId, MandateId, TransactionId};
use crate::engine::EngineResult;
use crate::engine::audit::{EntryFilter, ExportPart};
use crate::engine::pages::PageAsk;
use crate::engine::{EntryContent, JournalEntry, StoredCheckpoint};
use crate::proto::v1;

pub(in crate::grpc) fn list(
    request: v1::ListEventsRequest,
) -> EngineResult<(EntryFilter, PageAsk)> {
    let mut wrong = Violations::default();
    let filter = EntryFilter {
        kind: request.kind,
        since: wrong.time("since", request.since),
        until: wrong.time("until", request.until),
    };
    wrong.in_order(filter.since, filter.until);
    wrong.finish(Some((filter, page(request.page))))
}

/// The text of an id; its bytes where they are not as long as one, so that nothing is hidden.
fn id<T: std::fmt::Display>(bytes: &[u8], of: impl FnOnce([u8; 16]) -> T) -> String {
    match <[u8; 16]>::try_from(bytes) {
        Ok(bytes) => of(bytes).to_string(),
        Err(_) => hex::encode(bytes),
    }
}

pub(in crate::grpc) fn entry(entry: JournalEntry) -> v1::AuditEntry {
    use v1::audit_entry::Content;
    let content = match entry.content {
        EntryContent::Missing => None,
        EntryContent::Derived(body) => Some(Content::Derived(body)),
        EntryContent::Act(act) => Some(Content::Act(v1::AuditAct {
            sequence: act.seq,
            after_decision: act.after_spend,
            at_micros: act.at,
            kind: act.kind,
            subject: hex::encode(act.subject),
            actor_key_id: act.actor_key.map(|key| id(&key, KeyId::from_bytes)).unwrap_or_default(),
            actor_role: act.actor_role,
            document: act.document,
        })),
        EntryContent::Spend(spend) => Some(Content::Decision(v1::AuditDecision {
            sequence: spend.seq,
            transaction_id: id(&spend.id, TransactionId::from_bytes),
            agent_id: id(&spend.agent_id, AgentId::from_bytes),
            mandate_id: spend
                .mandate_id
                .map(|mandate| id(&mandate, MandateId::from_bytes))
                .unwrap_or_default(),
            decided_at_micros: spend.decided_at,
            verdict: spend.verdict,
            amount: spend.amount,
            currency: spend.currency,
            vendor: spend.vendor,
            category: spend.category,
            idempotency_key: spend.idempotency_key,
            request_hash: hex::encode(spend.request_hash),
            evidence: spend.evidence,
        })),
    };
    v1::AuditEntry {
        sequence: entry.seq,
        at_micros: entry.at,
        kind: entry.kind,
        source: entry.source.into(),
        source_sequence: entry.source_seq,
        chain: hex::encode(entry.chain),
        content,
    }
}

fn checkpoint(checkpoint: StoredCheckpoint) -> v1::AuditCheckpoint {
    v1::AuditCheckpoint {
        sequence: checkpoint.seq,
        chain: hex::encode(checkpoint.chain),
        signed_at_micros: checkpoint.at,
        key_id: checkpoint.key_id,
        signature: checkpoint.signature,
    }
}

pub(in crate::grpc) fn part(part: ExportPart) -> v1::ExportEventsResponse {
    let mut response = v1::ExportEventsResponse {
        entries: part.entries.into_iter().map(entry).collect(),
        checkpoints: part.checkpoints.into_iter().map(checkpoint).collect(),
        ..Default::default()
    };
    if let Some(head) = part.head {
        response.organization_id = head.org_id.to_string();
        response.last_sequence = head.last;
        response.chain_before = hex::encode(head.chain_before);
        let key = |key: crate::engine::signing::PublicKey| v1::AuditKey {
            key_id: key.key_id,
            public_key: key.public_key,
        };
        response.keys = head.keys.into_iter().map(key).collect();
    }
    response
}
