//! The words that stand for the enumerations of the contract, one table for each.
//!
//! Not here: the reasons of a rejection, whose words follow from their names (`decision`).

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};
use serde::{Serialize, Serializer};

use crate::proto::v1;

/// A closed set of words.
pub trait Vocabulary: Copy + Default + PartialEq + 'static {
    /// Every word and what it stands for, in the order people should read them.
    const WORDS: &'static [(&'static str, Self)];
}

/// A value of an enumeration, written as its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Word<T>(pub T);

impl<T: Vocabulary> Word<T> {
    /// The value that `word` stands for, if it is one of the words.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let found = T::WORDS.iter().find(|(known, _)| *known == word);
        found.map(|(_, value)| Self(*value))
    }

    /// The word; `unspecified` for a value that has none.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        let found = T::WORDS.iter().find(|(_, value)| *value == self.0);
        found.map_or("unspecified", |(word, _)| *word)
    }

    /// Every word, separated by commas, for messages.
    #[must_use]
    pub fn list() -> String {
        let words: Vec<_> = T::WORDS.iter().map(|(word, _)| *word).collect();
        words.join(", ")
    }
}

impl<T: Vocabulary + TryFrom<i32>> Word<T> {
    /// The value a message holds; one this version does not know counts as unspecified.
    #[must_use]
    pub fn from_number(number: i32) -> Self {
        Self(T::try_from(number).unwrap_or_default())
    }

    /// The value a message holds; none if it is unspecified.
    #[must_use]
    pub fn specified(number: i32) -> Option<Self> {
        let word = Self::from_number(number);
        (word.0 != T::default()).then_some(word)
    }
}

impl<T: Vocabulary + Into<i32>> Word<T> {
    /// The number a message holds for it.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0.into()
    }
}

impl<T: Vocabulary> fmt::Display for Word<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl<T: Vocabulary> Serialize for Word<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de, T: Vocabulary> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(WordVisitor(PhantomData))
    }
}

struct WordVisitor<T>(PhantomData<T>);

impl<T: Vocabulary> Visitor<'_> for WordVisitor<T> {
    type Value = Word<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "one of {}", Word::<T>::list())
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<Self::Value, E> {
        Word::parse(word).ok_or_else(|| E::invalid_value(Unexpected::Str(word), &self))
    }
}

/// The kinds of rules, as `type` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "each is described at the rule message of the same name")]
pub enum RuleKind {
    #[default]
    Category,
    VendorAllowlist,
    VendorBlocklist,
    VendorCap,
    CategoryCap,
    MaxAmount,
    RateLimit,
    SpendRate,
    TimeWindow,
    Geo,
    ProtocolRestrict,
    Approval,
    Custom,
}

impl Vocabulary for RuleKind {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("category", Self::Category),
        ("vendor_allowlist", Self::VendorAllowlist),
        ("vendor_blocklist", Self::VendorBlocklist),
        ("vendor_cap", Self::VendorCap),
        ("category_cap", Self::CategoryCap),
        ("max_amount", Self::MaxAmount),
        ("rate_limit", Self::RateLimit),
        ("spend_rate", Self::SpendRate),
        ("time_window", Self::TimeWindow),
        ("geo", Self::Geo),
        ("protocol_restrict", Self::ProtocolRestrict),
        ("approval", Self::Approval),
        ("custom", Self::Custom),
    ];
}

impl Vocabulary for v1::Period {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("daily", Self::Daily),
        ("weekly", Self::Weekly),
        ("monthly", Self::Monthly),
        ("none", Self::None),
    ];
}

impl Vocabulary for v1::Protocol {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("direct", Self::Direct),
        ("x402", Self::X402),
        ("acp", Self::Acp),
        ("stripe_cc", Self::StripeCc),
        ("ap2", Self::Ap2),
        ("connector", Self::Connector),
    ];
}

impl Vocabulary for v1::GeoSubject {
    const WORDS: &'static [(&'static str, Self)] =
        &[("vendor", Self::Vendor), ("caller", Self::Caller)];
}

impl Vocabulary for v1::CustomEngine {
    const WORDS: &'static [(&'static str, Self)] =
        &[("cel", Self::Cel), ("jsonlogic", Self::Jsonlogic)];
}

impl Vocabulary for v1::MandateStatus {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("draft", Self::Draft),
        ("active", Self::Active),
        ("paused", Self::Paused),
        ("expired", Self::Expired),
        ("revoked", Self::Revoked),
    ];
}

impl Vocabulary for v1::AgentStatus {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("active", Self::Active),
        ("suspended", Self::Suspended),
        ("decommissioned", Self::Decommissioned),
    ];
}

impl Vocabulary for v1::Framework {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("langchain", Self::Langchain),
        ("crewai", Self::Crewai),
        ("autogpt", Self::Autogpt),
        ("openai-agents", Self::OpenaiAgents),
        ("claude-sdk", Self::ClaudeSdk),
        ("google-adk", Self::GoogleAdk),
        ("semantic-kernel", Self::SemanticKernel),
        ("ag2", Self::Ag2),
        ("pydantic-ai", Self::PydanticAi),
        ("bedrock", Self::Bedrock),
        ("custom", Self::Custom),
    ];
}

impl Vocabulary for v1::Role {
    const WORDS: &'static [(&'static str, Self)] =
        &[("admin", Self::Admin), ("agent", Self::Agent), ("reader", Self::Reader)];
}

impl Vocabulary for v1::Decision {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("approved", Self::Approved),
        ("rejected", Self::Rejected),
        ("pending_approval", Self::PendingApproval),
    ];
}

impl Vocabulary for v1::TransactionState {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("approved", Self::Approved),
        ("settled", Self::Settled),
        ("voided", Self::Voided),
        ("refunded", Self::Refunded),
        ("expired", Self::Expired),
        ("rejected", Self::Rejected),
        ("pending_approval", Self::PendingApproval),
        ("denied", Self::Denied),
        ("timeout", Self::Timeout),
        ("withdrawn", Self::Withdrawn),
    ];
}

impl Vocabulary for v1::WebhookDeliveryState {
    const WORDS: &'static [(&'static str, Self)] =
        &[("pending", Self::Pending), ("delivered", Self::Delivered), ("failed", Self::Failed)];
}

impl Vocabulary for v1::Durability {
    const WORDS: &'static [(&'static str, Self)] =
        &[("fast", Self::Fast), ("durable", Self::Durable), ("strict", Self::Strict)];
}
