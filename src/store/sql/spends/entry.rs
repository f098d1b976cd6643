//! A decision on its way from Redis' outbox to its row: everything that was known before it fell.
//!
//! Fixed fields first, then texts with their lengths; numbers are big-endian. Not here: what the
//! script adds, the time, the verdict and the levels (`ledger::redis`).

use jiff::Timestamp;

use super::{RowError, SpendRow, document};
use crate::domain::transaction::TransactionRecord;
use crate::store::{StoreError, StoreErrorKind};

/// The first byte: another form would have another.
const FORM: u8 = 1;

/// Writes a record that is not decided yet.
///
/// # Errors
/// Never for a valid record; the serializer's type does not say so.
pub(crate) fn encode(record: &TransactionRecord) -> Result<Vec<u8>, StoreError> {
    let (spend, document) = (&record.spend, document(record)?);
    let mut bytes = Vec::with_capacity(document.len().saturating_add(256));
    bytes.push(FORM);
    bytes.extend_from_slice(record.id.as_bytes());
    bytes.extend_from_slice(record.org_id.as_bytes());
    bytes.extend_from_slice(spend.agent_id.as_bytes());
    let mandate = record.mandate().map(|(id, _)| id);
    bytes.extend_from_slice(&mandate.map_or([0; 16], |id| *id.as_bytes()));
    bytes.extend_from_slice(&record.request_hash);
    bytes.extend_from_slice(&spend.amount.to_be_bytes());
    for text in [
        record.verdict.word(),
        spend.currency.code(),
        spend.vendor.canonical(),
        &record.idempotency_key,
        spend.category.as_deref().unwrap_or_default(),
        &document,
    ] {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes.push(u8::from(spend.category.is_some()));
    bytes.push(u8::from(mandate.is_some()));
    Ok(bytes)
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// When it was written by something else.
pub(crate) fn decode(bytes: &[u8]) -> Result<TransactionRecord, StoreError> {
    let corrupt =
        |error: RowError| StoreError::new(StoreErrorKind::Corrupt, "read an outbox entry", error);
    parse(bytes).ok_or_else(|| corrupt("it is cut short, or of another form".into()))?.record()
}

fn parse(mut rest: &[u8]) -> Option<SpendRow> {
    let rest = &mut rest;
    if take(rest, 1)? != [FORM].as_slice() {
        return None;
    }
    let mut id = || Some(take(rest, 16)?.to_vec());
    let (id, org_id, agent_id, mandate_id) = (id()?, id()?, id()?, id()?);
    let request_hash = take(rest, 16)?.to_vec();
    let amount = i64::from_be_bytes(take(rest, 8)?.try_into().ok()?);
    let mut text = || {
        let length = u32::from_be_bytes(take(rest, 4)?.try_into().ok()?);
        let text = take(rest, usize::try_from(length).ok()?)?;
        String::from_utf8(text.to_vec()).ok()
    };
    let (verdict, currency, vendor) = (text()?, text()?, text()?);
    let (idempotency_key, category, evidence) = (text()?, text()?, text()?);
    let has_category = take(rest, 1)? == [1].as_slice();
    let has_mandate = take(rest, 1)? == [1].as_slice();
    Some(SpendRow {
        seq: 0,
        id,
        org_id,
        agent_id,
        mandate_id: has_mandate.then_some(mandate_id),
        decided_at: Timestamp::UNIX_EPOCH.as_microsecond(),
        updated_at: Timestamp::UNIX_EPOCH.as_microsecond(),
        state: verdict.clone(),
        verdict,
        amount,
        settled: None,
        refunded: None,
        currency,
        vendor,
        category: has_category.then_some(category),
        idempotency_key,
        request_hash,
        approvals_before: 0,
        sum_before: 0,
        evidence,
        due_at: None,
        paid: None,
        repaid: None,
        followup: None,
    })
}

/// The next bytes, if there are so many.
fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}
