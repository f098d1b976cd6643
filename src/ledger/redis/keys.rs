//! The keys of a shard, the texts that standings have in them, and integers as scripts unpack them.
//!
//! All keys of a shard carry one hash tag, so that a script touches one slot. Not here: what is
//! behind a key (`scripts/*.lua`).

use sha2::{Digest, Sha256};

use crate::domain::agent::AgentStatus;
use crate::domain::durability::Durability;
use crate::domain::id::{AgentId, MandateId, OrgId};
use crate::domain::ledger::Charge;
use crate::domain::mandate::MandateStatus;
use crate::store::sql::spends::subject_text;

/// How many shards there are; an organization never moves.
pub(super) const SHARDS: u8 = 64;

/// The shard of an organization.
pub(super) fn shard_of(org: OrgId) -> i16 {
    let digest = Sha256::digest(org.as_bytes());
    let first = digest.first().copied().unwrap_or_default();
    i16::from(first.checked_rem(SHARDS).unwrap_or_default())
}

/// The names of one shard's keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys(pub(super) i16);

impl Keys {
    pub(super) fn authority(self) -> String {
        format!("v1:{{s{:02}}}:auth", self.0)
    }

    pub(super) fn outbox(self) -> String {
        format!("v1:{{s{:02}}}:out", self.0)
    }

    pub(super) fn org(self, id: OrgId) -> String {
        self.of('o', id.as_bytes())
    }

    pub(super) fn agent(self, id: AgentId) -> String {
        self.of('a', id.as_bytes())
    }

    pub(super) fn mandate(self, id: MandateId) -> String {
        self.of('m', id.as_bytes())
    }

    pub(super) fn windows(self, id: MandateId) -> String {
        self.of('t', id.as_bytes())
    }

    pub(super) fn slice(self, charge: &Charge) -> String {
        let key = &charge.key;
        let subject = subject_text(&key.subject, key.period);
        self.slice_named(key.mandate, &subject, key.starts_at.as_microsecond())
    }

    /// A slice as its lease names it.
    pub(super) fn slice_named(self, mandate: MandateId, subject: &str, starts_at: i64) -> String {
        let mut name = self.of('b', mandate.as_bytes());
        name.extend([":", subject, ":"]);
        name.push_str(&starts_at.to_string());
        name
    }

    pub(super) fn record(self, agent: AgentId, key: &str) -> String {
        let digest = Sha256::digest(key);
        let mut name = self.of('i', agent.as_bytes());
        name.push(':');
        push_hex(&mut name, digest.first_chunk().unwrap_or(&[0; 16]));
        name
    }

    /// What the shard has of a kind about an id; there is room for what some names go on with.
    fn of(self, kind: char, id: &[u8; 16]) -> String {
        let mut name = String::with_capacity(NAME);
        name.push_str("v1:{s");
        let shard = self.0.to_string();
        name.extend([if shard.len() < 2 { "0" } else { "" }, &shard, "}:"]);
        name.extend([kind, ':']);
        push_hex(&mut name, id);
        name
    }
}

/// The longest of most names.
const NAME: usize = 96;

/// Names are made for every decision, several of them: without a text in between.
fn push_hex(name: &mut String, id: &[u8; 16]) {
    let mut digits = [0; 32];
    // It fails only if the lengths do not fit, and they do.
    let written = hex::encode_to_slice(id, &mut digits);
    debug_assert!(written.is_ok(), "two digits for each byte");
    name.push_str(std::str::from_utf8(&digits).unwrap_or_default());
}

/// How an organization stands, as the scripts compare it.
pub(super) fn org_stands((version, frozen): (i64, bool)) -> String {
    format!("{version}:{}", u8::from(frozen))
}

/// How an agent stands; its mandate is compared only where the spend names none.
pub(super) fn agent_stands(status: AgentStatus, current: Option<Option<MandateId>>) -> String {
    let status = match status {
        AgentStatus::Active => "a",
        AgentStatus::Suspended => "s",
        AgentStatus::Decommissioned => "d",
    };
    match current {
        None => status.to_owned(),
        Some(None) => format!("{status}-"),
        Some(Some(id)) => format!("{status}{}", hex::encode(id.as_bytes())),
    }
}

/// How a mandate stands.
pub(super) fn mandate_stands(version: i64, status: MandateStatus) -> String {
    let status = match status {
        MandateStatus::Draft => 'd',
        MandateStatus::Active => 'a',
        MandateStatus::Paused => 'p',
        MandateStatus::Expired => 'e',
        MandateStatus::Revoked => 'r',
    };
    format!("{version}:{status}")
}

/// A level, as the scripts compare it.
pub(super) const fn level_byte(level: Durability) -> u8 {
    match level {
        Durability::Fast => 0,
        Durability::Durable => 1,
        Durability::Strict => 2,
    }
}

/// Integers, big-endian, one after the other.
pub(super) fn packed(numbers: &[i64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_a_shard_has_its_tag() {
        let (keys, id) = (Keys(7), [3; 16]);
        let all = [
            keys.authority(),
            keys.outbox(),
            keys.org(OrgId::from_bytes(id)),
            keys.agent(AgentId::from_bytes(id)),
            keys.mandate(MandateId::from_bytes(id)),
            keys.windows(MandateId::from_bytes(id)),
            keys.record(AgentId::from_bytes(id), "a key"),
        ];
        assert!(all.iter().all(|key| key.starts_with("v1:{s07}:")), "{all:?}");
    }

    #[test]
    fn organizations_are_spread_over_every_shard() {
        let of = |number: u16| {
            let mut id = [0; 16];
            id[..2].copy_from_slice(&number.to_be_bytes());
            shard_of(OrgId::from_bytes(id))
        };
        let seen = (0..2_000).map(of).collect::<std::collections::HashSet<_>>();
        assert_eq!(seen.len(), usize::from(SHARDS));
    }
}
