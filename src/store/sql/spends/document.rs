//! The JSON document of a row: everything of a transaction that is never searched.
//!
//! It is written for every decision, so what a column says already is left out, times count from
//! the decision, and what is usual is not said. Not here: the columns.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{RowError, counter_key, subject_text};
use crate::domain::agent::AgentStatus;
use crate::domain::hold::Terms;
use crate::domain::id::MandateId;
use crate::domain::ledger::{CounterKey, Level, MandateStanding, Standing, WindowLevel};
use crate::domain::mandate::MandateStatus;
use crate::domain::money::Minor;
use crate::domain::spend::{Observed, Protocol};
use crate::domain::transaction::{Evidence, TransactionRecord};
use crate::store::{StoreError, StoreErrorKind};

/// The part of a row that is never searched.
#[derive(Serialize, Deserialize)]
pub(super) struct Document<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) vendor_raw: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) protocol: Option<Protocol>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<Cow<'a, BTreeMap<String, String>>>,
    /// The version of the organization.
    org: i64,
    #[serde(default, skip_serializing_if = "is_default")]
    frozen: bool,
    #[serde(default = "active_agent", skip_serializing_if = "is_active_agent")]
    agent: AgentStatus,
    /// The version of the mandate, whose id is a column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mandate: Option<i64>,
    #[serde(default = "active_mandate", skip_serializing_if = "is_active_mandate")]
    status: MandateStatus,
    #[serde(default, skip_serializing_if = "is_default")]
    named: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    observed: Cow<'a, Observed>,
    #[serde(borrow)]
    zone: Cow<'a, str>,
    /// How long before the decision the rules were tested, in microseconds.
    screened: i64,
    /// Spent and held of each counter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    levels: Vec<(Minor, Minor)>,
    /// Count and sum of each window, and how old its oldest approval was, in microseconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    windows: Vec<(i64, Minor, Option<i64>)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    charged: Vec<(String, i64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) terms: Option<Terms>,
    pub(super) took: i64,
}

/// The part of a document that says where the budget stood.
#[derive(Debug, Deserialize)]
struct Brief<'a> {
    #[serde(default)]
    mandate: Option<i64>,
    #[serde(borrow, default)]
    zone: Cow<'a, str>,
    #[serde(default)]
    levels: Vec<(Minor, Minor)>,
}

/// The budget that a decision was about.
#[derive(Debug)]
pub(crate) struct BudgetSeen<'a> {
    /// The version of the mandate.
    pub(crate) version: i64,
    /// Spent and held, before the decision.
    pub(crate) before: (Minor, Minor),
    /// The zone of its windows.
    pub(crate) zone: Cow<'a, str>,
}

/// Where the budget stood, if the ledger looked at it.
///
/// # Errors
/// When the document cannot be understood.
pub(crate) fn budget_in(document: &str) -> Result<Option<BudgetSeen<'_>>, StoreError> {
    let brief: Brief<'_> = serde_json::from_str(document)
        .map_err(|error| StoreError::new(StoreErrorKind::Corrupt, "read a transaction", error))?;
    // The budget is the first counter of every claim.
    let before = brief.levels.first().copied();
    Ok(brief.mandate.zip(before).map(|(version, before)| {
        let zone = brief.zone;
        BudgetSeen { version, before, zone }
    }))
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

const fn active_agent() -> AgentStatus {
    AgentStatus::Active
}

fn is_active_agent(status: &AgentStatus) -> bool {
    *status == active_agent()
}

const fn active_mandate() -> MandateStatus {
    MandateStatus::Active
}

fn is_active_mandate(status: &MandateStatus) -> bool {
    *status == active_mandate()
}

impl<'a> Document<'a> {
    pub(super) fn of(record: &'a TransactionRecord) -> Self {
        let (spend, evidence) = (&record.spend, &record.evidence);
        let standing = &evidence.standing;
        let mandate = standing.mandate.as_ref();
        let raw = Some(spend.vendor_raw.as_str()).filter(|raw| *raw != spend.vendor.canonical());
        let before =
            |at: Timestamp| record.decided_at.as_microsecond().saturating_sub(at.as_microsecond());
        let charged = |key: &CounterKey| {
            (subject_text(&key.subject, key.period), key.starts_at.as_microsecond())
        };
        Self {
            vendor_raw: raw.map(Cow::Borrowed),
            description: spend.description.as_deref().map(Cow::Borrowed),
            protocol: spend.protocol,
            metadata: Some(&spend.metadata).filter(|map| !map.is_empty()).map(Cow::Borrowed),
            org: standing.org_version,
            frozen: standing.frozen,
            agent: standing.agent,
            mandate: mandate.map(|mandate| mandate.version),
            status: mandate.map_or_else(active_mandate, |mandate| mandate.status),
            named: evidence.named,
            observed: Cow::Borrowed(&evidence.observed),
            zone: Cow::Borrowed(&evidence.zone),
            screened: before(evidence.screened_at),
            levels: evidence.levels.iter().map(|level| (level.spent, level.held)).collect(),
            windows: evidence
                .windows
                .iter()
                .map(|window| (window.count, window.sum, window.oldest.map(before)))
                .collect(),
            charged: record.charged.iter().map(charged).collect(),
            terms: Some(&record.terms).filter(|terms| **terms != Terms::default()).cloned(),
            took: record.took_micros,
        }
    }

    /// What the decision was based on.
    pub(super) fn evidence(
        &self,
        mandate: Option<MandateId>,
        decided_at: Timestamp,
    ) -> Result<Evidence, RowError> {
        let before = |micros: i64| {
            Timestamp::from_microsecond(decided_at.as_microsecond().saturating_sub(micros))
        };
        let mandate = match (mandate, self.mandate) {
            (Some(id), Some(version)) => Some(MandateStanding { id, version, status: self.status }),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                return Err("the mandate's id and version are not both there".into());
            }
        };
        let window = |(count, sum, age): &(i64, Minor, Option<i64>)| {
            let oldest = age.map(before).transpose()?;
            Ok::<_, RowError>(WindowLevel { count: *count, sum: *sum, oldest })
        };
        Ok(Evidence {
            standing: Standing {
                org_version: self.org,
                frozen: self.frozen,
                agent: self.agent,
                mandate,
            },
            named: self.named,
            observed: self.observed.clone().into_owned(),
            zone: self.zone.clone().into_owned(),
            screened_at: before(self.screened)?,
            levels: self.levels.iter().map(|&(spent, held)| Level { spent, held }).collect(),
            windows: self.windows.iter().map(window).collect::<Result<_, _>>()?,
        })
    }

    /// The counters that were charged.
    pub(super) fn charged(&self, mandate: Option<MandateId>) -> Result<Vec<CounterKey>, RowError> {
        let Some(mandate) = mandate else { return Ok(Vec::new()) };
        let keys = self.charged.iter().map(|(text, at)| counter_key(mandate, text, *at));
        keys.collect::<Option<_>>().ok_or_else(|| "a counter cannot be understood".into())
    }
}

#[cfg(test)]
mod tests;
