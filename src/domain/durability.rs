//! What a crash cannot undo once an answer was given, and how much of it a decision is owed.
//!
//! A mandate may ask for a level, an organization for a floor, and a server has a default. Not
//! here: how a level is kept (`ledger`), and what Redis must be set to for it.

use serde::{Deserialize, Serialize};

/// What a crash cannot undo, once a reply is sent; the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Redis has it in memory: a power failure may lose up to 2 s of records, never money.
    Fast,
    /// Redis has it on its disk.
    Durable,
    /// The system of record has committed.
    Strict,
}

impl Durability {
    /// Every level, the weakest first.
    pub const ALL: [Self; 3] = [Self::Fast, Self::Durable, Self::Strict];

    /// The word for people and stores.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Durable => "durable",
            Self::Strict => "strict",
        }
    }

    /// The level of a word; `None` for any other word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.word() == word)
    }
}

/// What is asked of the durability of a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskedDurability {
    /// By the mandate, if it asks.
    pub mandate: Option<Durability>,
    /// By the organization, of all its decisions, if it asks.
    pub floor: Option<Durability>,
}

impl AskedDurability {
    /// The level that a decision is owed: the mandate's, else the server's default, and never below
    /// the floor. A mandate may be below the default; nothing is below the floor.
    #[must_use]
    pub fn level(self, default: Durability) -> Durability {
        let level = self.mandate.unwrap_or(default);
        self.floor.map_or(level, |floor| level.max(floor))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::domain::samples::config;

    fn levels() -> impl Strategy<Value = Durability> {
        select(&Durability::ALL[..])
    }

    #[test]
    fn a_level_has_a_word_of_its_own_and_the_weakest_comes_first() {
        for level in Durability::ALL {
            assert_eq!(Durability::of(level.word()), Some(level));
        }
        assert_eq!(Durability::of("eternal"), None);
        assert!(Durability::ALL.is_sorted());
    }

    #[test]
    fn who_asks_for_nothing_gets_the_default() {
        for default in Durability::ALL {
            assert_eq!(AskedDurability::default().level(default), default);
        }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn a_floor_is_kept_and_nobody_else_raises_or_lowers_a_level(
            mandate in prop::option::of(levels()),
            floor in prop::option::of(levels()),
            default in levels(),
        ) {
            let level = AskedDurability { mandate, floor }.level(default);
            prop_assert!(floor.is_none_or(|floor| level >= floor));
            prop_assert!(mandate.is_none_or(|mandate| level >= mandate));
            // What is owed is what somebody asked for, or the default where the mandate does not.
            let own = mandate.unwrap_or(default);
            prop_assert!(level == own || Some(level) == floor);
            // Who asks for more never gets less.
            for more in Durability::ALL {
                let raised = AskedDurability { mandate, floor: floor.max(Some(more)) };
                prop_assert!(raised.level(default) >= level);
                if mandate.is_some() {
                    let raised = AskedDurability { mandate: mandate.max(Some(more)), floor };
                    prop_assert!(raised.level(default) >= level);
                }
            }
        }
    }
}
