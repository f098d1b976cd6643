//! The record of decisions in SQLite: how a transaction becomes a row and a row a transaction.
//!
//! What is searched or compared has a column; the rest is one JSON document. Not here: when rows
//! are written (`ledger::sql`), and the lists' queries (`spends/lists`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::domain::decision::Verdict;
use crate::domain::id::{AgentId, MandateId, OrgId, TransactionId};
use crate::domain::ledger::{CounterKey, Subject, Tally};
use crate::domain::money::Currency;
use crate::domain::period::Period;
use crate::domain::spend::{Protocol, Spend};
use crate::domain::transaction::{Evidence, TransactionRecord, TransactionState};
use crate::domain::vendor::Vendor;
use crate::store::{StoreError, StoreErrorKind};

mod lists;

/// The columns of a row, in the order that [`record`] reads them by name.
pub(crate) const COLUMNS: &str = "seq, id, org_id, agent_id, mandate_id, decided_at, updated_at, \
     verdict, state, amount, settled, refunded, currency, vendor, category, idempotency_key, \
     request_hash, approvals_before, sum_before, evidence";

/// The part of a row that is never searched.
#[derive(Serialize, Deserialize)]
struct Document<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    vendor_raw: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    description: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    protocol: Option<Protocol>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<Cow<'a, BTreeMap<String, String>>>,
    evidence: Cow<'a, Evidence>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    charged: Vec<(String, i64)>,
    took: i64,
}

/// The document column of a record.
///
/// # Errors
/// Never for a valid record; the serializer's type does not say so.
pub(crate) fn document(record: &TransactionRecord) -> Result<String, StoreError> {
    let spend = &record.spend;
    let raw = Some(spend.vendor_raw.as_str()).filter(|raw| *raw != spend.vendor.canonical());
    let charged = record.charged.iter();
    let document = Document {
        vendor_raw: raw.map(Cow::Borrowed),
        description: spend.description.as_deref().map(Cow::Borrowed),
        protocol: spend.protocol,
        metadata: Some(&spend.metadata).filter(|map| !map.is_empty()).map(Cow::Borrowed),
        evidence: Cow::Borrowed(&record.evidence),
        charged: charged.map(|key| (subject_text(key), key.starts_at.as_microsecond())).collect(),
        took: record.took_micros,
    };
    serde_json::to_string(&document)
        .map_err(|error| StoreError::new(StoreErrorKind::Corrupt, "write a transaction", error))
}

/// The text of a counter's subject and period, for example `v:monthly:openai.com`.
pub(crate) fn subject_text(key: &CounterKey) -> String {
    let period = match key.period {
        Period::None => "none",
        Period::Daily => "daily",
        Period::Weekly => "weekly",
        Period::Monthly => "monthly",
    };
    match &key.subject {
        Subject::Budget => format!("b:{period}"),
        Subject::Vendor(vendor) => format!("v:{period}:{}", vendor.canonical()),
        Subject::Category(category) => format!("c:{period}:{category}"),
    }
}

/// The counter that [`subject_text`] wrote.
fn counter_key(mandate: MandateId, text: &str, starts_at: i64) -> Option<CounterKey> {
    let mut parts = text.splitn(3, ':');
    let kind = parts.next()?;
    let period = match parts.next()? {
        "none" => Period::None,
        "daily" => Period::Daily,
        "weekly" => Period::Weekly,
        "monthly" => Period::Monthly,
        _ => return None,
    };
    let subject = match (kind, parts.next()) {
        ("b", None) => Subject::Budget,
        ("v", Some(vendor)) => Subject::Vendor(Vendor::parse(vendor).ok()?),
        ("c", Some(category)) => Subject::Category(category.to_owned()),
        _ => return None,
    };
    let starts_at = Timestamp::from_microsecond(starts_at).ok()?;
    Some(CounterKey { mandate, subject, period, starts_at })
}

/// Reads a row that was selected with [`COLUMNS`].
///
/// # Errors
/// When the row cannot be understood.
pub(crate) fn record(row: &SqliteRow) -> Result<(i64, TransactionRecord), StoreError> {
    try_record(row)
        .map_err(|error| StoreError::new(StoreErrorKind::Corrupt, "read a transaction", error))
}

type RowError = Box<dyn std::error::Error + Send + Sync>;

fn try_record(row: &SqliteRow) -> Result<(i64, TransactionRecord), RowError> {
    let text: &str = row.try_get("evidence")?;
    let document: Document<'_> = serde_json::from_str(text)?;
    let vendor: &str = row.try_get("vendor")?;
    let spend = Spend {
        agent_id: AgentId::from_bytes(bytes(row, "agent_id")?),
        amount: row.try_get("amount")?,
        currency: Currency::parse(row.try_get("currency")?)?,
        vendor: Vendor::parse(vendor)?,
        vendor_raw: document.vendor_raw.map_or_else(|| vendor.to_owned(), Cow::into_owned),
        category: row.try_get("category")?,
        description: document.description.map(Cow::into_owned),
        protocol: document.protocol,
        metadata: document.metadata.map(Cow::into_owned).unwrap_or_default(),
    };
    let evidence = document.evidence.into_owned();
    let charged = match &evidence.standing.mandate {
        None => Some(Vec::new()),
        Some(mandate) => {
            let keys = document.charged.iter();
            keys.map(|(text, at)| counter_key(mandate.id, text, *at)).collect::<Option<_>>()
        }
    };
    let record = TransactionRecord {
        id: TransactionId::from_bytes(bytes(row, "id")?),
        org_id: OrgId::from_bytes(bytes(row, "org_id")?),
        spend,
        idempotency_key: row.try_get("idempotency_key")?,
        request_hash: bytes(row, "request_hash")?,
        verdict: word::<Verdict>(row, "verdict")?,
        state: word::<TransactionState>(row, "state")?,
        evidence,
        charged: charged.ok_or("a charged counter cannot be understood")?,
        tally_before: Tally {
            count: row.try_get("approvals_before")?,
            sum: row.try_get("sum_before")?,
        },
        settled: row.try_get("settled")?,
        refunded: row.try_get("refunded")?,
        decided_at: Timestamp::from_microsecond(row.try_get("decided_at")?)?,
        updated_at: Timestamp::from_microsecond(row.try_get("updated_at")?)?,
        took_micros: document.took,
    };
    Ok((row.try_get("seq")?, record))
}

fn bytes(row: &SqliteRow, column: &str) -> Result<[u8; 16], RowError> {
    let bytes: &[u8] = row.try_get(column)?;
    Ok(bytes.try_into()?)
}

/// Reads a word that serde knows as an enum.
fn word<T: for<'de> Deserialize<'de>>(row: &SqliteRow, column: &str) -> Result<T, RowError> {
    let word: &str = row.try_get(column)?;
    Ok(T::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(word))?)
}
