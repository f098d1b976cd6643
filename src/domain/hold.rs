//! What was agreed with a decision about what may follow it, and what people said since.
//!
//! Terms come from the mandate's version that judged and never change. Not here: the steps
//! themselves and their effect on budgets (`ledger::resolve`).

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::id::KeyId;
use super::mandate::PolicyViolation;
use super::money::{AMOUNT_MAX, Minor};
use super::transaction::TransactionState;

/// The longest time that money is held without being settled: 31 days.
pub const HOLD_MINUTES_MAX: i64 = 44_640;

/// The most approvals that a mandate can ask for.
pub const APPROVALS_MAX: i64 = 16;

/// The most approvers that a mandate can name.
pub const APPROVERS_MAX: usize = 32;

/// All of the approved amount, in basis points.
const WHOLE_BPS: i64 = 10_000;

/// How long a mandate holds money that is not settled, and how far a settlement may go beyond it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holds {
    /// An approval that is not settled within it returns by itself; none means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minutes: Option<i64>,
    /// A settlement may be above the approved amount by so much, in minor units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<Minor>,
    /// The same in hundredths of a percent of the approved amount; the lower of both counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance_bps: Option<i64>,
}

impl Holds {
    /// Whether nothing is said. Then nothing is stored and signed either.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The most that may be settled above an approved amount.
    #[must_use]
    pub fn tolerance_of(&self, amount: Minor) -> Minor {
        let share = self.tolerance_bps.map(|bps| {
            let part = i128::from(amount).saturating_mul(bps.into()).checked_div(WHOLE_BPS.into());
            part.and_then(|part| Minor::try_from(part).ok()).unwrap_or_default()
        });
        let least = self.tolerance.into_iter().chain(share).min().unwrap_or_default();
        least.min(AMOUNT_MAX.saturating_sub(amount)).max(0)
    }

    /// Everything that is wrong, as paths of the API.
    #[must_use]
    pub fn faults(&self) -> Vec<PolicyViolation> {
        let bounds = [
            ("budget.hold_minutes", self.minutes, HOLD_MINUTES_MAX),
            ("budget.settle_tolerance", self.tolerance, AMOUNT_MAX),
            ("budget.settle_tolerance_bps", self.tolerance_bps, WHOLE_BPS),
        ];
        let is_wrong = |(_, value, most): &(_, Option<i64>, i64)| {
            value.is_some_and(|value| !(1..=*most).contains(&value))
        };
        let wrong = bounds.into_iter().filter(is_wrong);
        let told = wrong.map(|(field, _, most)| PolicyViolation {
            field: field.to_owned(),
            why: format!("must be 1 to {most}"),
        });
        told.collect()
    }
}

/// Who has to approve a spend, and how soon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalTerms {
    /// Roles and ids of credentials; empty means every administrator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<String>,
    /// How many of them.
    pub required: i64,
    /// How long they have.
    pub seconds: i64,
    /// The credential that asked: it cannot answer itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<KeyId>,
}

impl ApprovalTerms {
    /// Whether a person may approve or deny.
    #[must_use]
    pub fn names(&self, person: &Person) -> bool {
        if self.approvers.is_empty() {
            return person.role == "admin";
        }
        let id = person.key.to_string();
        self.approvers.iter().any(|approver| approver == person.role || *approver == id)
    }
}

/// What may follow a decision, as it was agreed when it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Who has to approve; none if nobody has to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalTerms>,
    /// How long what is approved is held without being settled, in seconds; none means for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_seconds: Option<i64>,
    /// The most that may be settled above the approved amount, in minor units.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tolerance: Minor,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_zero(amount: &Minor) -> bool {
    *amount == 0
}

impl Terms {
    /// When a state that begins now ends by itself.
    #[must_use]
    pub fn due_at(&self, state: TransactionState, now: Timestamp) -> Option<Timestamp> {
        let seconds = match state {
            TransactionState::PendingApproval => Some(self.approval.as_ref()?.seconds),
            TransactionState::Approved => self.hold_seconds,
            TransactionState::Settled
            | TransactionState::Voided
            | TransactionState::Refunded
            | TransactionState::Rejected
            | TransactionState::Denied
            | TransactionState::Timeout
            | TransactionState::Withdrawn
            | TransactionState::Expired => None,
        };
        now.checked_add(SignedDuration::from_secs(seconds?)).ok()
    }
}

/// A person, as far as an approval looks at one: the credential and its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Person {
    /// The credential; one counts once.
    pub key: KeyId,
    /// The word of its role.
    pub role: &'static str,
}

/// What one person said to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The person's credential.
    pub by: KeyId,
    /// When.
    pub at: Timestamp,
    /// Why, in the person's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
}

/// What happened to a transaction beside its state and amounts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followup {
    /// Who approved, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Statement>,
    /// Who denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denial: Option<Statement>,
    /// Settled after its hold had ended: the money had moved all the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
}

impl Followup {
    /// Whether nothing happened that would have to be stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(tolerance: Option<i64>, tolerance_bps: Option<i64>) -> Holds {
        Holds { minutes: None, tolerance, tolerance_bps }
    }

    #[test]
    fn the_lower_tolerance_counts_and_none_is_none() {
        for (tolerance, bps, amount, most) in [
            (None, None, 10_000, 0),
            (Some(500), None, 10_000, 500),
            (None, Some(1_000), 10_000, 1_000),
            (Some(500), Some(1_000), 10_000, 500),
            (Some(500), Some(1_000), 1_000, 100),
            (None, Some(1), 9_999, 0),
            (None, Some(10_000), AMOUNT_MAX, 0),
            (Some(AMOUNT_MAX), None, AMOUNT_MAX - 1, 1),
        ] {
            assert_eq!(holds(tolerance, bps).tolerance_of(amount), most, "{tolerance:?} {bps:?}");
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        let wrong = Holds { minutes: Some(0), tolerance: Some(-1), tolerance_bps: Some(10_001) };
        let fields = wrong.faults().into_iter().map(|fault| fault.field).collect::<Vec<_>>();
        let expected =
            ["budget.hold_minutes", "budget.settle_tolerance", "budget.settle_tolerance_bps"];
        assert_eq!(fields, expected);
        let good = Holds { minutes: Some(44_640), tolerance: Some(1), tolerance_bps: Some(10_000) };
        assert_eq!(good.faults(), []);
    }

    #[test]
    fn only_who_is_named_may_answer() {
        let key = KeyId::from_bytes([7; 16]);
        const EVERY_ADMIN: &[&str] = &[];
        let terms = |approvers: &[&str]| ApprovalTerms {
            approvers: approvers.iter().map(|text| (*text).to_owned()).collect(),
            required: 1,
            seconds: 60,
            asked_by: None,
        };
        let person = |role| Person { key, role };
        let id = key.to_string();
        for (approvers, role, may) in [
            (EVERY_ADMIN, "admin", true),
            (&[], "reader", false),
            (&["admin"], "admin", true),
            (&["admin"], "reader", false),
            (&[&id], "reader", true),
            (&[&id], "admin", true),
            (&["key_00000000000000000000000000000000"], "admin", false),
            (&["finance"], "admin", false),
        ] {
            assert_eq!(terms(approvers).names(&person(role)), may, "{approvers:?} {role}");
        }
    }
}
