//! Checks entries one after the other, and says of the first one that is wrong how it is.
//!
//! It believes nothing but what it computes and what a checkpoint signs: an entry must have the
//! next number, its chain must be the one before it with its own content, and a checkpoint must be
//! signed and say the same chain. Not here: where entries come from (a store, or a file).

use std::fmt;

use super::{
    ActFields, Checkpoint, Digest, EntryFields, SpendFields, derived_digest, genesis, link,
};
use crate::domain::id::OrgId;

/// The content of an entry, as its digest covers it.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// A decision.
    Spend(SpendFields<'a>),
    /// An act.
    Act(ActFields<'a>),
    /// What follows from decisions.
    Derived(&'a str),
    /// It is not there.
    Missing,
}

impl Content<'_> {
    fn digest(&self) -> Option<Digest> {
        match self {
            Self::Spend(fields) => Some(fields.digest()),
            Self::Act(fields) => Some(fields.digest()),
            Self::Derived(body) => Some(derived_digest(body)),
            Self::Missing => None,
        }
    }

    /// What an entry says of its content once more: where it is, its number, its time, its kind.
    fn agrees(&self, entry: &EntryFields<'_>) -> bool {
        match self {
            Self::Spend(fields) => {
                let kind = entry.kind.strip_prefix("transaction.");
                let said = (entry.source, entry.source_seq, entry.at, kind);
                said == (1, fields.seq, fields.decided_at, Some(fields.verdict))
            }
            Self::Act(fields) => {
                let said = (entry.source, entry.source_seq, entry.at, entry.kind);
                said == (2, fields.seq, fields.at, fields.kind)
            }
            Self::Derived(_) => entry.source == 3,
            Self::Missing => true,
        }
    }
}

/// What is wrong, and where it was found first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Entries are not there.
    Missing {
        /// The first of them.
        from: i64,
        /// The last of them.
        to: i64,
    },
    /// An entry comes after a later one, or twice.
    Reordered {
        /// The entry.
        seq: i64,
    },
    /// An entry, or the decision or act that it is, is not what was recorded.
    Changed {
        /// The entry.
        seq: i64,
    },
    /// The decision or act that an entry is about is not there.
    ContentMissing {
        /// The entry.
        seq: i64,
    },
    /// A decision or act comes twice, or out of its order.
    Repeated {
        /// The entry.
        seq: i64,
    },
    /// There are decisions or acts that no entry is about.
    Unrecorded {
        /// How many.
        count: i64,
    },
    /// A checkpoint is not signed by any of the keys.
    Unsigned {
        /// The entry that it is about.
        seq: i64,
    },
    /// A checkpoint is not behind its entry, so nobody can tell what it is worth.
    Misplaced {
        /// The entry that it is about.
        seq: i64,
    },
    /// The chain is not the one that a checkpoint signs: entries up to there were written anew.
    Rewritten {
        /// The entry that the checkpoint is about.
        seq: i64,
        /// The last entry that a checkpoint confirmed.
        good: i64,
    },
    /// A checkpoint signs an entry behind the last one: the end was cut.
    Cut {
        /// The last entry.
        last: i64,
        /// The entry that was signed.
        signed: i64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { from, to } if from == to => write!(f, "entry {from} is missing"),
            Self::Missing { from, to } => write!(f, "entries {from} to {to} are missing"),
            Self::Reordered { seq } => write!(f, "entry {seq} is out of order, or there twice"),
            Self::Changed { seq } => write!(f, "entry {seq} was changed"),
            Self::ContentMissing { seq } => {
                write!(f, "what entry {seq} is about is missing")
            }
            Self::Repeated { seq } => {
                write!(f, "entry {seq} is about what an earlier entry is about, or out of order")
            }
            Self::Unrecorded { count } => {
                write!(f, "{count} decisions or acts are in no entry, or were removed")
            }
            Self::Unsigned { seq } => {
                write!(f, "the checkpoint of entry {seq} is not signed by a known key")
            }
            Self::Misplaced { seq } => {
                write!(f, "the checkpoint of entry {seq} is not behind its entry")
            }
            Self::Rewritten { seq, good } => write!(
                f,
                "the chain at entry {seq} is not the signed one: something behind entry {good} was \
                 written anew"
            ),
            Self::Cut { last, signed } => write!(
                f,
                "entries {} to {signed} were cut off: a checkpoint signs entry {signed}",
                last.saturating_add(1)
            ),
        }
    }
}

/// What was checked and found whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Entries.
    pub entries: i64,
    /// Decisions among them.
    pub decisions: i64,
    /// Acts among them.
    pub acts: i64,
    /// Checkpoints that signed the same chain.
    pub checkpoints: i64,
}

/// A verification on its way.
#[derive(Clone, Debug)]
pub struct Verifier {
    org: OrgId,
    keys: Vec<[u8; 32]>,
    /// The last entry, and the chain after it.
    last: (i64, Digest),
    /// The numbers of the last decision and act.
    spend: i64,
    act: i64,
    /// The last entry that a checkpoint confirmed.
    good: i64,
    checked: Checked,
}

impl Verifier {
    /// Begins at the first entry.
    #[must_use]
    pub fn new(org: OrgId, keys: Vec<[u8; 32]>) -> Self {
        Self::behind(org, keys, (0, genesis(org)))
    }

    /// Begins behind an entry, whose chain is believed.
    #[must_use]
    pub fn behind(org: OrgId, keys: Vec<[u8; 32]>, last: (i64, Digest)) -> Self {
        let checked = Checked::default();
        Self { org, keys, last, spend: 0, act: 0, good: last.0, checked }
    }

    /// The last entry that was checked, and the chain after it.
    #[must_use]
    pub const fn last(&self) -> (i64, Digest) {
        self.last
    }

    /// The numbers of the last decision and the last act in it.
    #[must_use]
    pub const fn sources(&self) -> (i64, i64) {
        (self.spend, self.act)
    }

    /// What was checked so far.
    #[must_use]
    pub const fn checked(&self) -> Checked {
        self.checked
    }

    /// Checks the next entry.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn entry(
        &mut self,
        entry: &EntryFields<'_>,
        content: &Content<'_>,
        chain: &Digest,
    ) -> Result<(), Fault> {
        let (last, before) = self.last;
        let (seq, next) = (entry.seq, last.saturating_add(1));
        if seq > next {
            return Err(Fault::Missing { from: next, to: seq.saturating_sub(1) });
        }
        if seq < next {
            return Err(Fault::Reordered { seq });
        }
        let digest = content.digest().ok_or(Fault::ContentMissing { seq })?;
        if !content.agrees(entry) || link(&before, entry, &digest) != *chain {
            return Err(Fault::Changed { seq });
        }
        match content {
            Content::Spend(fields) => {
                if fields.seq <= self.spend {
                    return Err(Fault::Repeated { seq });
                }
                self.spend = fields.seq;
                self.checked.decisions = self.checked.decisions.saturating_add(1);
            }
            Content::Act(fields) => {
                if fields.seq <= self.act {
                    return Err(Fault::Repeated { seq });
                }
                self.act = fields.seq;
                self.checked.acts = self.checked.acts.saturating_add(1);
            }
            Content::Derived(_) | Content::Missing => {}
        }
        self.last = (seq, *chain);
        self.checked.entries = self.checked.entries.saturating_add(1);
        Ok(())
    }

    /// Checks a checkpoint, which comes right behind the entry that it is of, or is of one that
    /// should be there.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn checkpoint(
        &mut self,
        (seq, chain, at): (i64, Digest, i64),
        signature: &str,
    ) -> Result<(), Fault> {
        let checkpoint = Checkpoint { org_id: self.org, seq, chain, at };
        if !self.keys.iter().any(|key| checkpoint.verify(key, signature).is_ok()) {
            return Err(Fault::Unsigned { seq });
        }
        let (last, present) = self.last;
        if seq > last {
            return Err(Fault::Cut { last, signed: seq });
        }
        if seq < last {
            return Err(Fault::Misplaced { seq });
        }
        if chain != present {
            return Err(Fault::Rewritten { seq, good: self.good });
        }
        self.good = seq;
        self.checked.checkpoints = self.checked.checkpoints.saturating_add(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
