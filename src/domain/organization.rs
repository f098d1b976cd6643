//! The tenant: everything belongs to one organization.
//!
//! Not here: its keys and credentials (`engine::access`), and its agents.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::durability::Durability;
use super::id::OrgId;
use super::money::Currency;

/// An organization.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Organization {
    /// Its id.
    pub id: OrgId,
    /// For people.
    pub name: String,
    /// For addresses; never changes.
    pub slug: String,
    /// What a mandate's currency is when nothing else is said.
    pub default_currency: Currency,
    /// IANA name of the zone that calendar periods follow; always valid.
    pub timezone: String,
    /// Nothing is approved while it is set.
    pub frozen: bool,
    /// No decision survives less than this; `None` asks for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability_floor: Option<Durability>,
    /// Grows with every change; a decision is only made under the version it was screened with.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Makes the address form of a name: lower-case letters, digits and single hyphens.
#[must_use]
pub fn slug(name: &str) -> String {
    let words = name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase);
    let slug = words.collect::<Vec<_>>().join("-");
    if slug.is_empty() { "organization".to_owned() } else { slug }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_has_only_what_an_address_can_have() {
        for (name, expected) in [
            ("Demo", "demo"),
            ("Acme Travel, Inc.", "acme-travel-inc"),
            ("  --A  &  B--  ", "a-b"),
            ("Caf\u{e9} 24/7", "caf-24-7"),
            ("already-one", "already-one"),
            ("", "organization"),
            ("\u{65e5}\u{672c}", "organization"),
            ("..", "organization"),
        ] {
            assert_eq!(slug(name), expected, "{name:?}");
            assert_eq!(slug(expected), expected);
        }
    }
}
