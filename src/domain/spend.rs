//! What an agent asks for, already validated: a value of this type cannot be malformed.
//!
//! Amount, vendor and category are the agent's claims; what the server saw itself is in
//! [`Observed`]. Not here: how they arrive (`grpc/convert`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::id::AgentId;
use super::money::{Currency, Minor};
use super::vendor::Vendor;

/// How the money would move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// The agent pays by its own means.
    Direct,
    /// HTTP 402 payments.
    X402,
    /// Agentic Commerce Protocol checkout.
    Acp,
    /// A card charge through Stripe.
    StripeCc,
    /// Agent Payments Protocol.
    Ap2,
    /// A tool of a connected service.
    Connector,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Self; 6] =
        [Self::Direct, Self::X402, Self::Acp, Self::StripeCc, Self::Ap2, Self::Connector];

    /// The word for people, rules and stores.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::X402 => "x402",
            Self::Acp => "acp",
            Self::StripeCc => "stripe_cc",
            Self::Ap2 => "ap2",
            Self::Connector => "connector",
        }
    }
}

/// What is wrong with a category as it is written, of a spend or in a rule.
///
/// Categories are compared exactly, so one text must have one form: the same letters composed
/// otherwise would look alike and never match.
#[must_use]
pub fn category_fault(category: &str) -> Option<&'static str> {
    let is_composed = category.is_ascii() || unicode_normalization::is_nfc(category);
    (!is_composed).then_some("must be in composed Unicode form (NFC), as keyboards write it")
}

/// One spend to decide.
#[derive(Clone, Debug, PartialEq)]
pub struct Spend {
    /// Who asks.
    pub agent_id: AgentId,
    /// 0 to 10^12 minor units.
    pub amount: Minor,
    /// The currency of the amount.
    pub currency: Currency,
    /// Where, in canonical form.
    pub vendor: Vendor,
    /// Where, as the agent wrote it.
    pub vendor_raw: String,
    /// What kind of thing.
    pub category: Option<String>,
    /// What for.
    pub description: Option<String>,
    /// By which means.
    pub protocol: Option<Protocol>,
    /// The caller's labels.
    pub metadata: BTreeMap<String, String>,
}

/// What the server saw itself, as opposed to what the agent claims.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// ISO 3166-1 alpha-2 country of the vendor's host, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor_country: Option<String>,
    /// ISO 3166-1 alpha-2 country of the caller's address, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_country: Option<String>,
}
