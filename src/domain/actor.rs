//! Who does something: a credential and its role, or the system itself.
//!
//! Not here: how a credential is checked (`engine::access`), and which role may do what (declared
//! in the contract).

use serde::{Deserialize, Serialize};

use super::id::KeyId;

/// What a credential may do; the roles of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Manages, and may act for any agent.
    Admin,
    /// Evaluates, reads and resolves its own.
    Agent,
    /// Reads.
    Reader,
}

impl Role {
    /// The word for people and stores.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Agent => "agent",
            Self::Reader => "reader",
        }
    }
}

/// Who did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// Nobody asked: the clock, or the command line before there is any credential.
    System,
    /// Whoever has this credential, with the role it had then.
    Key(KeyId, Role),
}

impl Actor {
    /// Its role's word, or `system`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Key(_, role) => role.word(),
        }
    }

    /// Its credential.
    #[must_use]
    pub const fn key(&self) -> Option<&KeyId> {
        match self {
            Self::System => None,
            Self::Key(key, _) => Some(key),
        }
    }

    /// The actor of a stored credential and word.
    #[must_use]
    pub fn of(key: Option<KeyId>, word: &str) -> Option<Self> {
        let roles = [Role::Admin, Role::Agent, Role::Reader];
        match key {
            None => (word == "system").then_some(Self::System),
            Some(key) => {
                let role = roles.into_iter().find(|role| role.word() == word)?;
                Some(Self::Key(key, role))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_survives_its_columns_and_half_of_one_is_none() {
        let key = KeyId::from_bytes([7; 16]);
        for actor in [
            Actor::System,
            Actor::Key(key, Role::Admin),
            Actor::Key(key, Role::Agent),
            Actor::Key(key, Role::Reader),
        ] {
            assert_eq!(Actor::of(actor.key().copied(), actor.word()), Some(actor));
        }
        assert_eq!(Actor::of(Some(key), "system"), None);
        assert_eq!(Actor::of(None, "admin"), None);
        assert_eq!(Actor::of(Some(key), "root"), None);
    }
}
