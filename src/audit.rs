//! What makes the journal prove itself: digests of what was recorded, chained, and signed in
//! checkpoints.
//!
//! A digest is SHA-256 over fields, each with its length in front, in an order that never changes;
//! docs/AUDIT.md has it for whoever writes a verifier of their own. The server that appends and the
//! program that verifies use these same functions. Not here: when entries are appended (`journal`),
//! and the files that are verified (`audit::verify`).

use crate::crypto::{CryptoError, SigningKey, digest, verify_signature};
use crate::domain::id::OrgId;

pub mod file;
pub mod verify;

/// A SHA-256 digest.
pub type Digest = [u8; 32];

/// Begins every chain; another form of it would have another name.
const CHAIN: &[u8] = b"quetra journal 1";

/// The columns of a decision that never change. Where its tally stands may: what comes late from an
/// outbox takes its place in time, and what became of it is told by acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of `spend`, by their names")]
pub struct SpendFields<'a> {
    pub seq: i64,
    pub id: &'a [u8],
    pub agent_id: &'a [u8],
    pub mandate_id: Option<&'a [u8]>,
    pub decided_at: i64,
    pub verdict: &'a str,
    pub amount: i64,
    pub currency: &'a str,
    pub vendor: &'a str,
    pub category: Option<&'a str>,
    pub idempotency_key: &'a str,
    pub request_hash: &'a [u8],
    pub evidence: &'a str,
}

impl SpendFields<'_> {
    /// The digest of a decision.
    #[must_use]
    pub fn digest(&self) -> Digest {
        digest(&[
            b"spend",
            &self.seq.to_be_bytes(),
            self.id,
            self.agent_id,
            is_there(self.mandate_id.is_some()),
            self.mandate_id.unwrap_or_default(),
            &self.decided_at.to_be_bytes(),
            self.verdict.as_bytes(),
            &self.amount.to_be_bytes(),
            self.currency.as_bytes(),
            self.vendor.as_bytes(),
            is_there(self.category.is_some()),
            self.category.unwrap_or_default().as_bytes(),
            self.idempotency_key.as_bytes(),
            self.request_hash,
            self.evidence.as_bytes(),
        ])
    }
}

/// The columns of an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of `act`, by their names")]
pub struct ActFields<'a> {
    pub seq: i64,
    pub after_spend: i64,
    pub at: i64,
    pub kind: &'a str,
    pub subject: &'a [u8],
    pub actor_key: Option<&'a [u8]>,
    pub actor_role: &'a str,
    pub document: &'a str,
}

impl ActFields<'_> {
    /// The digest of an act.
    #[must_use]
    pub fn digest(&self) -> Digest {
        digest(&[
            b"act",
            &self.seq.to_be_bytes(),
            &self.after_spend.to_be_bytes(),
            &self.at.to_be_bytes(),
            self.kind.as_bytes(),
            self.subject,
            is_there(self.actor_key.is_some()),
            self.actor_key.unwrap_or_default(),
            self.actor_role.as_bytes(),
            self.document.as_bytes(),
        ])
    }
}

/// The digest of what follows from decisions, by its document.
#[must_use]
pub fn derived_digest(body: &str) -> Digest {
    digest(&[b"derived", body.as_bytes()])
}

const fn is_there(is: bool) -> &'static [u8] {
    if is { &[1] } else { &[0] }
}

/// What the chain of an organization begins with, before its first entry.
#[must_use]
pub fn genesis(org: OrgId) -> Digest {
    digest(&[CHAIN, org.as_bytes()])
}

/// An entry of the journal beside its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryFields<'a> {
    /// Its number: dense in the organization.
    pub seq: i64,
    /// When, in microseconds.
    pub at: i64,
    /// The word of what happened.
    pub kind: &'a str,
    /// Where its content is: 1 a decision, 2 an act, 3 in itself.
    pub source: i16,
    /// The number of the decision or act that it is, or follows from.
    pub source_seq: i64,
}

/// The chain after one more entry.
#[must_use]
pub fn link(before: &Digest, entry: &EntryFields<'_>, content: &Digest) -> Digest {
    digest(&[
        before,
        &entry.seq.to_be_bytes(),
        &entry.at.to_be_bytes(),
        entry.kind.as_bytes(),
        &entry.source.to_be_bytes(),
        &entry.source_seq.to_be_bytes(),
        content,
    ])
}

/// What a checkpoint says: up to this entry, this is the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The organization.
    pub org_id: OrgId,
    /// The last entry.
    pub seq: i64,
    /// The chain after it.
    pub chain: Digest,
    /// When it was signed, in microseconds.
    pub at: i64,
}

impl Checkpoint {
    /// What is signed.
    #[must_use]
    pub fn statement(&self) -> String {
        let Self { org_id, seq, at, chain } = self;
        format!("quetra checkpoint 1\n{org_id}\n{seq}\n{}\n{at}\n", hex::encode(chain))
    }

    /// Its signature, base64url without padding.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> String {
        key.sign(self.statement().as_bytes())
    }

    /// Whether a signature is of this checkpoint and of this key.
    ///
    /// # Errors
    /// When it is not.
    pub fn verify(&self, public_key: &[u8; 32], signature: &str) -> Result<(), CryptoError> {
        verify_signature(public_key, self.statement().as_bytes(), signature)
    }
}
