//! The record of decisions in SQL: how a transaction becomes a row and a row a transaction.
//!
//! What is searched or compared has a column; the rest is one JSON document. Not here: when rows
//! are written (`ledger::sql`), and the lists' queries (`lists` in each home).

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;

use self::document::Document;
pub(crate) use self::document::budget_in;
use crate::domain::decision::Verdict;
use crate::domain::id::{AgentId, MandateId, OrgId, TransactionId};
use crate::domain::ledger::{CounterKey, Subject, Tally};
use crate::domain::money::Currency;
use crate::domain::period::Period;
use crate::domain::spend::Spend;
use crate::domain::transaction::{TransactionRecord, TransactionState};
use crate::domain::vendor::Vendor;
use crate::store::{StoreError, StoreErrorKind};

mod document;
pub(crate) mod entry;

/// The columns of a row, in the order that the ledger writes them.
pub(crate) const COLUMNS: &str = "seq, id, org_id, agent_id, mandate_id, decided_at, updated_at, \
     verdict, state, amount, settled, refunded, currency, vendor, category, idempotency_key, \
     request_hash, approvals_before, sum_before, evidence, due_at, paid, repaid, followup";

/// What has ended by itself, the longest due first.
pub(crate) const DUE: &str =
    "SELECT org_id, id FROM spend WHERE due_at <= $1 ORDER BY due_at LIMIT $2";

/// A row of [`DUE`].
///
/// # Errors
/// When it cannot be understood.
pub(crate) fn due(org: &[u8], id: &[u8]) -> Result<(OrgId, TransactionId), StoreError> {
    let corrupt = |error| StoreError::new(StoreErrorKind::Corrupt, "find what is due", error);
    let org = org.try_into().map_err(|error| corrupt(RowError::from(error)))?;
    let id = id.try_into().map_err(|error| corrupt(RowError::from(error)))?;
    Ok((OrgId::from_bytes(org), TransactionId::from_bytes(id)))
}

/// The columns of a record that change after the decision.
#[derive(Debug)]
pub(crate) struct Changing {
    pub(crate) state: &'static str,
    pub(crate) settled: Option<i64>,
    pub(crate) refunded: Option<i64>,
    pub(crate) updated_at: i64,
    pub(crate) due_at: Option<i64>,
    /// What was settled, where it is more than was approved, and what was refunded of it.
    pub(crate) paid: Option<i64>,
    pub(crate) repaid: Option<i64>,
    pub(crate) followup: Option<String>,
}

impl Changing {
    /// As a record has them.
    ///
    /// # Errors
    /// Never for a valid record; the serializer's type does not say so.
    pub(crate) fn of(record: &TransactionRecord) -> Result<Self, StoreError> {
        let approved = record.spend.amount;
        let paid = record.settled.filter(|settled| *settled > approved);
        let settled = record.settled.map(|settled| settled.min(approved));
        let followup = Some(&record.followup).filter(|followup| !followup.is_empty());
        Ok(Self {
            state: record.state.word(),
            settled,
            refunded: record.refunded.map(|refunded| refunded.min(approved)),
            updated_at: record.updated_at.as_microsecond(),
            due_at: record.due_at.map(Timestamp::as_microsecond),
            paid,
            repaid: record.refunded.filter(|_| paid.is_some()),
            followup: followup.map(serde_json::to_string).transpose().map_err(|error| {
                StoreError::new(StoreErrorKind::Corrupt, "write a transaction", error)
            })?,
        })
    }
}

/// The document column of a record.
///
/// # Errors
/// Never for a valid record; the serializer's type does not say so.
pub(crate) fn document(record: &TransactionRecord) -> Result<String, StoreError> {
    serde_json::to_string(&Document::of(record))
        .map_err(|error| StoreError::new(StoreErrorKind::Corrupt, "write a transaction", error))
}

/// The text of a counter's subject and period, for example `v:monthly:openai.com`.
pub(crate) fn subject_text(subject: &Subject, period: Period) -> String {
    let period = match period {
        Period::None => "none",
        Period::Daily => "daily",
        Period::Weekly => "weekly",
        Period::Monthly => "monthly",
    };
    match subject {
        Subject::Budget => format!("b:{period}"),
        Subject::Vendor(vendor) => format!("v:{period}:{}", vendor.canonical()),
        Subject::Category(category) => format!("c:{period}:{category}"),
    }
}

/// The counter that [`subject_text`] wrote.
pub(crate) fn counter_key(mandate: MandateId, text: &str, starts_at: i64) -> Option<CounterKey> {
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

crate::from_row! {
    /// One row as it is stored, whichever driver read it.
    #[derive(Debug)]
    pub(crate) struct SpendRow {
        pub(crate) seq: i64,
        id: Vec<u8>,
        org_id: Vec<u8>,
        agent_id: Vec<u8>,
        mandate_id: Option<Vec<u8>>,
        decided_at: i64,
        updated_at: i64,
        verdict: String,
        state: String,
        amount: i64,
        settled: Option<i64>,
        refunded: Option<i64>,
        currency: String,
        vendor: String,
        category: Option<String>,
        idempotency_key: String,
        request_hash: Vec<u8>,
        approvals_before: i64,
        sum_before: i64,
        evidence: String,
        due_at: Option<i64>,
        paid: Option<i64>,
        repaid: Option<i64>,
        followup: Option<String>,
    }
}

type RowError = Box<dyn std::error::Error + Send + Sync>;

impl SpendRow {
    /// Reads a row that the ledger's driver selected with [`COLUMNS`].
    pub(crate) fn of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get("seq")?,
            id: row.get("id")?,
            org_id: row.get("org_id")?,
            agent_id: row.get("agent_id")?,
            mandate_id: row.get("mandate_id")?,
            decided_at: row.get("decided_at")?,
            updated_at: row.get("updated_at")?,
            verdict: row.get("verdict")?,
            state: row.get("state")?,
            amount: row.get("amount")?,
            settled: row.get("settled")?,
            refunded: row.get("refunded")?,
            currency: row.get("currency")?,
            vendor: row.get("vendor")?,
            category: row.get("category")?,
            idempotency_key: row.get("idempotency_key")?,
            request_hash: row.get("request_hash")?,
            approvals_before: row.get("approvals_before")?,
            sum_before: row.get("sum_before")?,
            evidence: row.get("evidence")?,
            due_at: row.get("due_at")?,
            paid: row.get("paid")?,
            repaid: row.get("repaid")?,
            followup: row.get("followup")?,
        })
    }

    /// The transaction of the row.
    ///
    /// # Errors
    /// When the row cannot be understood.
    pub(crate) fn record(self) -> Result<TransactionRecord, StoreError> {
        self.try_record()
            .map_err(|error| StoreError::new(StoreErrorKind::Corrupt, "read a transaction", error))
    }

    fn try_record(self) -> Result<TransactionRecord, RowError> {
        let document: Document<'_> = serde_json::from_str(&self.evidence)?;
        let decided_at = Timestamp::from_microsecond(self.decided_at)?;
        let mandate = self.mandate_id.as_deref().map(<[u8; 16]>::try_from).transpose()?;
        let mandate = mandate.map(MandateId::from_bytes);
        let evidence = document.evidence(mandate, decided_at)?;
        let charged = document.charged(mandate)?;
        let terms = document.terms;
        let followup = self.followup.as_deref().map(serde_json::from_str).transpose()?;
        let raw = document.vendor_raw.map(Cow::into_owned);
        let spend = Spend {
            agent_id: AgentId::from_bytes(self.agent_id.as_slice().try_into()?),
            amount: self.amount,
            currency: Currency::parse(&self.currency)?,
            vendor: Vendor::parse(&self.vendor)?,
            vendor_raw: raw.unwrap_or(self.vendor),
            category: self.category,
            description: document.description.map(Cow::into_owned),
            protocol: document.protocol,
            metadata: document.metadata.map(Cow::into_owned).unwrap_or_default(),
        };
        Ok(TransactionRecord {
            id: TransactionId::from_bytes(self.id.as_slice().try_into()?),
            org_id: OrgId::from_bytes(self.org_id.as_slice().try_into()?),
            spend,
            idempotency_key: self.idempotency_key,
            request_hash: self.request_hash.as_slice().try_into()?,
            verdict: word::<Verdict>(&self.verdict)?,
            state: word::<TransactionState>(&self.state)?,
            evidence,
            charged,
            tally_before: Tally { count: self.approvals_before, sum: self.sum_before },
            terms: terms.unwrap_or_default(),
            due_at: self.due_at.map(Timestamp::from_microsecond).transpose()?,
            followup: followup.unwrap_or_default(),
            settled: self.paid.or(self.settled),
            refunded: self.repaid.or(self.refunded),
            decided_at,
            updated_at: Timestamp::from_microsecond(self.updated_at)?,
            took_micros: document.took,
        })
    }
}

/// Reads a word that serde knows as an enum.
fn word<T: for<'de> Deserialize<'de>>(word: &str) -> Result<T, RowError> {
    Ok(T::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(word))?)
}
