//! The ids of everything: 128 bits each, distinct types, prefixed text that says what it is.
//!
//! Not here: how random bits are made (`crypto`), except that a transaction's id is not random: it
//! is derived from who asked with which key, so that a repeated request names the same record.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// A text that is not an id of the wanted kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be {0}")]
pub struct IdError(&'static str);

macro_rules! prefixed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $wanted:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps 128 bits.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The 128 bits.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix($prefix)
                    .filter(|hex| hex.len() == 32 && hex.bytes().all(is_lower_hex))
                    .and_then(|hex| Uuid::try_parse(hex).ok())
                    .map(Self)
                    .ok_or(IdError($wanted))
            }
        }

        text_serde!($name);
    };
}

macro_rules! text_serde {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

prefixed_id! {
    /// A tenant, `org_…`.
    OrgId, "org_", "an organization id (org_ and 32 hexadecimal digits)"
}
prefixed_id! {
    /// A mandate, `mdt_…`.
    MandateId, "mdt_", "a mandate id (mdt_ and 32 hexadecimal digits)"
}
prefixed_id! {
    /// A credential, `key_…`.
    KeyId, "key_", "an API key id (key_ and 32 hexadecimal digits)"
}
prefixed_id! {
    /// An event, `evt_…`.
    EventId, "evt_", "an event id (evt_ and 32 hexadecimal digits)"
}
prefixed_id! {
    /// Where events are sent, `whe_…`.
    WebhookEndpointId, "whe_", "a webhook endpoint id (whe_ and 32 hexadecimal digits)"
}
prefixed_id! {
    /// One event on its way to one endpoint, `whd_…`; derived, never random.
    WebhookDeliveryId, "whd_", "a webhook delivery id (whd_ and 32 hexadecimal digits)"
}
prefixed_id! {
    /// The record of a decision, `tx_…`; derived, never random.
    TransactionId, "tx_", "a transaction id (tx_ and 32 hexadecimal digits)"
}

impl WebhookDeliveryId {
    /// Of an event to an endpoint, however often it is put on its way. Endpoints' ids are random,
    /// so no two pairs have the same.
    #[must_use]
    pub fn of(endpoint: WebhookEndpointId, event: EventId) -> Self {
        let mut bytes = *event.as_bytes();
        for (byte, other) in bytes.iter_mut().zip(endpoint.as_bytes()) {
            *byte ^= other;
        }
        Self::from_bytes(bytes)
    }
}

impl TransactionId {
    /// The id of a key's request, where two stores may decide without each other's knowledge: a key
    /// that was used for two requests then has two records. It begins as the key's own id does.
    #[must_use]
    pub fn with_request(self, request_hash: &[u8; 16]) -> Self {
        let mut bytes = *self.as_bytes();
        for (byte, hash) in bytes.iter_mut().skip(8).zip(request_hash) {
            *byte = *hash;
        }
        Self::from_bytes(bytes)
    }

    /// The part that is made of the key alone.
    #[must_use]
    pub fn key_part(self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = *self.as_bytes();
        [a, b, c, d, e, f, g, h]
    }
}

/// An agent; its text is a plain UUID.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentId(Uuid);

impl AgentId {
    /// Wraps 128 bits.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The 128 bits.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.hyphenated(), f)
    }
}

impl fmt::Debug for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for AgentId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        // Only the hyphenated form: braces, URNs and the bare form would be second spellings.
        Some(text)
            .filter(|text| text.len() == 36)
            .and_then(|text| Uuid::try_parse(text).ok())
            .map(Self)
            .ok_or(IdError("a UUID"))
    }
}

text_serde!(AgentId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_their_text() {
        let mandate = MandateId::from_bytes([7; 16]);
        assert_eq!(mandate.to_string().parse(), Ok(mandate));
        let agent = AgentId::from_bytes([9; 16]);
        assert_eq!(agent.to_string().parse(), Ok(agent));
    }

    #[test]
    fn other_spellings_are_refused() {
        let hex = "07".repeat(16);
        for text in ["", "mdt_", "MDT_", &hex, &format!("org_{hex}"), &format!("mdt_{hex}0")] {
            assert!(text.parse::<MandateId>().is_err(), "{text}");
        }
        let upper = format!("mdt_{}", "0A".repeat(16));
        assert!(upper.parse::<MandateId>().is_err());
        assert!(hex.parse::<AgentId>().is_err());
    }

    #[test]
    fn an_id_of_one_kind_is_none_of_another() {
        let hex = "0a".repeat(16);
        let kinds = ["org_", "mdt_", "key_", "tx_", ""];
        for (index, prefix) in kinds.into_iter().enumerate() {
            let text = format!("{prefix}{hex}");
            let read = [
                text.parse::<OrgId>().is_ok(),
                text.parse::<MandateId>().is_ok(),
                text.parse::<KeyId>().is_ok(),
                text.parse::<TransactionId>().is_ok(),
                text.parse::<AgentId>().is_ok(),
            ];
            let expected = std::array::from_fn(|kind| kind == index && !prefix.is_empty());
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn an_agent_is_named_by_the_hyphenated_form_of_its_uuid_alone() {
        let plain = "0190f3a4-5b6c-7d8e-9fa0-b1c2d3e4f506";
        let id: AgentId = plain.parse().unwrap();
        assert_eq!(id.to_string(), plain);
        assert_eq!(format!("{id:?}"), plain);
        for text in [
            &plain.replace('-', ""),
            &format!("{{{plain}}}"),
            &format!("urn:uuid:{plain}"),
            &format!(" {plain}"),
            &plain.replace('0', "g"),
            "",
        ] {
            assert!(text.parse::<AgentId>().is_err(), "{text}");
        }
    }

    #[test]
    fn ids_are_stored_as_their_text_and_a_wrong_one_says_what_is_wanted() {
        let id = TransactionId::from_bytes([0xab; 16]);
        let stored = serde_json::to_string(&id).unwrap();
        assert_eq!(stored, format!("\"tx_{}\"", "ab".repeat(16)));
        assert_eq!(serde_json::from_str::<TransactionId>(&stored).unwrap(), id);
        let error = serde_json::from_str::<OrgId>(&stored).unwrap_err().to_string();
        assert!(error.starts_with("must be an organization id (org_ and 32 hex"), "{error}");
        assert_eq!(OrgId::from_bytes([7; 16]).as_bytes(), &[7; 16]);
    }
}
