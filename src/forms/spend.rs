//! The bodies that ask for a decision, in both published shapes, and those that close one.
//!
//! Not here: which of the shapes wins, missing currencies, idempotency keys (`rest`).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::scalar::{whole, whole_or_none};
use super::words::Word;
use crate::proto::v1;

/// A spend to decide: either flat, or `{mandateId, paymentRequest}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SpendForm {
    /// The agent that wants to spend (UUID).
    pub agent_id: Option<String>,
    /// If given, the decision must be made under this mandate.
    pub mandate_id: Option<String>,
    /// The spend, in the nested shape.
    pub payment_request: Option<PaymentRequestForm>,
    /// Minor units.
    #[serde(deserialize_with = "whole_or_none")]
    pub amount: Option<i64>,
    /// A host name or a plain name.
    pub vendor: Option<String>,
    /// What kind of thing is bought.
    pub category: Option<String>,
    /// ISO 4217 code or USDC; absent means the mandate's.
    pub currency: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// By which means the money moves.
    pub protocol: Option<Word<v1::Protocol>>,
    /// Opaque labels.
    pub metadata: Option<BTreeMap<String, String>>,
    /// Chosen by the caller before the first try.
    pub idempotency_key: Option<String>,
    /// An approval that is not settled within so many seconds returns by itself.
    #[serde(deserialize_with = "whole_or_none")]
    pub hold_seconds: Option<i32>,
}

/// The spend in the nested shape.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PaymentRequestForm {
    /// Minor units.
    #[serde(deserialize_with = "whole_or_none")]
    pub amount: Option<i64>,
    /// A host name or a plain name.
    pub vendor: Option<String>,
    /// What kind of thing is bought.
    pub category: Option<String>,
    /// ISO 4217 code or USDC; absent means the mandate's.
    pub currency: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// By which means the money moves.
    pub protocol: Option<Word<v1::Protocol>>,
    /// Opaque labels.
    pub metadata: Option<BTreeMap<String, String>>,
}

impl SpendForm {
    /// The fields of the spend that the flat shape gives, by their names.
    #[must_use]
    pub fn flat_fields(&self) -> Vec<&'static str> {
        let given = [
            ("amount", self.amount.is_some()),
            ("vendor", self.vendor.is_some()),
            ("category", self.category.is_some()),
            ("currency", self.currency.is_some()),
            ("description", self.description.is_some()),
            ("protocol", self.protocol.is_some()),
            ("metadata", self.metadata.is_some()),
        ];
        given.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect()
    }

    /// Whether a currency is named, be it a wrong one. An absent one means the mandate's.
    #[must_use]
    pub fn names_currency(&self) -> bool {
        match &self.payment_request {
            Some(nested) => nested.currency.is_some(),
            None => self.currency.is_some(),
        }
    }

    /// The spend, from whichever shape holds it, as a request still without agent and key.
    #[must_use]
    pub fn into_evaluate(self) -> v1::EvaluateRequest {
        let flat = PaymentRequestForm {
            amount: self.amount,
            vendor: self.vendor,
            category: self.category,
            currency: self.currency,
            description: self.description,
            protocol: self.protocol,
            metadata: self.metadata,
        };
        let spend = self.payment_request.unwrap_or(flat);
        v1::EvaluateRequest {
            agent_id: String::new(),
            amount: spend.amount,
            currency: spend.currency.unwrap_or_default(),
            vendor: spend.vendor.unwrap_or_default(),
            category: spend.category.unwrap_or_default(),
            description: spend.description.unwrap_or_default(),
            protocol: spend.protocol.unwrap_or_default().number(),
            idempotency_key: String::new(),
            metadata: spend.metadata.unwrap_or_default(),
            mandate_id: self.mandate_id.unwrap_or_default(),
            hold_seconds: self.hold_seconds,
        }
    }
}

/// The body of `POST /transactions/{id}/settle`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SettleForm {
    /// What was really spent, in minor units.
    #[serde(deserialize_with = "whole")]
    pub amount: i64,
}

/// The body of `POST /transactions/{id}/refund`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RefundForm {
    /// What to give back, in minor units; absent means all of it.
    #[serde(deserialize_with = "whole_or_none")]
    pub amount: Option<i64>,
}

/// The body of `POST /mandates/{id}/revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RevokeForm {
    /// Why, for the record.
    pub reason: Option<String>,
}
