//! An export as a file: JSON Lines that verify offline, or a table for spreadsheets.
//!
//! The first line says whose journal it is; then comes an entry in each line, and behind some of
//! them a checkpoint. What a line says is what its digest covers, value by value. Not here:
//! fetching it (`cli`).

use std::borrow::Cow;
use std::io::{self, BufRead};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::verify::{Checked, Content, Fault, Verifier};
use super::{ActFields, Digest, EntryFields, SpendFields};
use crate::domain::id::{AgentId, KeyId, MandateId, OrgId, TransactionId};

/// One line; which of the fields are there depends on its type.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "docs/AUDIT.md says what each is; most are columns")]
pub struct Line<'a> {
    /// `journal`, `entry` or `checkpoint`.
    #[serde(rename = "type", borrow)]
    pub line_type: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sequence: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_sequence: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain_before: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Key>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_micros: Option<i64>,
    #[serde(borrow, skip_serializing_if = "str::is_empty")]
    pub kind: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<i16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_sequence: Option<i64>,
    #[serde(borrow, skip_serializing_if = "str::is_empty")]
    pub chain: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub act: Option<Act<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub derived: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_at_micros: Option<i64>,
    #[serde(borrow, skip_serializing_if = "str::is_empty")]
    pub key_id: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "str::is_empty")]
    pub signature: Cow<'a, str>,
}

/// A key of the organization, as the server names it; a verifier believes only those it is given.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "two words")]
pub struct Key {
    pub key_id: String,
    pub public_key: String,
}

/// The columns of a decision.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the columns, by their names in the contract")]
pub struct Decision<'a> {
    pub sequence: i64,
    #[serde(borrow)]
    pub transaction_id: Cow<'a, str>,
    #[serde(borrow)]
    pub agent_id: Cow<'a, str>,
    #[serde(borrow)]
    pub mandate_id: Cow<'a, str>,
    pub decided_at_micros: i64,
    #[serde(borrow)]
    pub verdict: Cow<'a, str>,
    pub amount: i64,
    #[serde(borrow)]
    pub currency: Cow<'a, str>,
    #[serde(borrow)]
    pub vendor: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub idempotency_key: Cow<'a, str>,
    #[serde(borrow)]
    pub request_hash: Cow<'a, str>,
    #[serde(borrow)]
    pub evidence: Cow<'a, str>,
}

/// The columns of an act.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the columns, by their names in the contract")]
pub struct Act<'a> {
    pub sequence: i64,
    pub after_decision: i64,
    pub at_micros: i64,
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    #[serde(borrow)]
    pub subject: Cow<'a, str>,
    #[serde(borrow)]
    pub actor_key_id: Cow<'a, str>,
    #[serde(borrow)]
    pub actor_role: Cow<'a, str>,
    #[serde(borrow)]
    pub document: Cow<'a, str>,
}

/// Why a file could not be verified, or what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A line is no JSON, or not of an export.
    #[error("line {line} is not of an export: {why}")]
    Form {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// The journal is not whole.
    #[error("line {line}: {fault}")]
    Fault {
        /// The line at which it was told, from 1.
        line: usize,
        /// What is wrong.
        fault: Fault,
    },
}

/// A checkpoint from a second place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    seq: i64,
    chain: Digest,
    at: i64,
    signature: String,
}

/// What was found whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Whose journal.
    pub organization_id: String,
    /// Behind which entry it begins; 0 is the beginning.
    pub after: i64,
    /// The last entry.
    pub last: i64,
    /// What was checked.
    pub checked: Checked,
}

/// Reads a public key: 64 hexadecimal digits, or base64url.
#[must_use]
pub fn public_key(text: &str) -> Option<[u8; 32]> {
    let bytes = hex::decode(text).ok().or_else(|| URL_SAFE_NO_PAD.decode(text).ok())?;
    bytes.try_into().ok()
}

fn digest_of(text: &str) -> Option<Digest> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).ok()?;
    Some(digest)
}

/// Reads the checkpoints of an organization from a second place.
///
/// # Errors
/// When the file cannot be read, or a line is no checkpoint.
pub fn witnesses(file: impl BufRead, organization_id: &str) -> Result<Vec<Witness>, FileError> {
    let mut found = Vec::new();
    for (index, line) in file.lines().enumerate() {
        let (line, number) = (line?, index.saturating_add(1));
        let form = |why: String| FileError::Form { line: number, why };
        let line: Line<'_> = serde_json::from_str(&line).map_err(|why| form(why.to_string()))?;
        if line.organization_id.as_deref() != Some(organization_id) {
            continue;
        }
        found.push(witness(&line).ok_or_else(|| form("it is no checkpoint".to_owned()))?);
    }
    found.sort_by_key(|witness: &Witness| witness.seq);
    Ok(found)
}

fn witness(line: &Line<'_>) -> Option<Witness> {
    let (seq, at) = (line.sequence?, line.signed_at_micros?);
    Some(Witness { seq, chain: digest_of(&line.chain)?, at, signature: line.signature.to_string() })
}

/// Whose journal a file says it is.
///
/// # Errors
/// When it cannot be read, or is no export.
pub fn organization_in(first: &str) -> Result<String, FileError> {
    let form = |why: String| FileError::Form { line: 1, why };
    let line: Line<'_> = serde_json::from_str(first).map_err(|why| form(why.to_string()))?;
    let org = line.organization_id.filter(|_| line.line_type == "journal");
    org.ok_or_else(|| form("the first line does not say whose journal it is".to_owned()))
}

/// Verifies an export from its first line to its last, with the keys that are believed, and
/// checkpoints from a second place.
///
/// # Errors
/// What is wrong first, and in which line.
pub fn verify(
    mut file: impl BufRead,
    keys: Vec<[u8; 32]>,
    witnesses: &[Witness],
) -> Result<Whole, FileError> {
    let mut text = String::new();
    file.read_line(&mut text)?;
    let mut reading = Reading::begin(&text, keys, witnesses)?;
    let mut number = 1;
    loop {
        text.clear();
        if file.read_line(&mut text)? == 0 {
            return reading.end(number);
        }
        number = usize::saturating_add(number, 1);
        reading.line(&text, number)?;
    }
}

/// A verification of a file on its way.
struct Reading<'w> {
    organization_id: String,
    after: i64,
    /// How far the first line says it goes.
    promised: i64,
    verifier: Verifier,
    witnesses: std::iter::Peekable<std::slice::Iter<'w, Witness>>,
}

impl<'w> Reading<'w> {
    fn begin(
        first: &str,
        keys: Vec<[u8; 32]>,
        witnesses: &'w [Witness],
    ) -> Result<Self, FileError> {
        let organization_id = organization_in(first)?;
        let form = |why: &str| FileError::Form { line: 1, why: why.to_owned() };
        let line: Line<'_> = serde_json::from_str(first).map_err(|why| form(&why.to_string()))?;
        let org: OrgId =
            organization_id.parse().map_err(|_| form("the organization's id is none"))?;
        let after = line.after_sequence.unwrap_or(0);
        let verifier = if after == 0 {
            Verifier::new(org, keys)
        } else {
            let chain = line.chain_before.as_deref().and_then(digest_of);
            let chain = chain.ok_or_else(|| form("it does not say the chain before it"))?;
            Verifier::behind(org, keys, (after, chain))
        };
        let promised = line.last_sequence.unwrap_or(0);
        let mut witnesses = witnesses.iter().peekable();
        while witnesses.next_if(|witness| witness.seq <= after).is_some() {}
        Ok(Self { organization_id, after, promised, verifier, witnesses })
    }

    fn line(&mut self, text: &str, number: usize) -> Result<(), FileError> {
        let form = |why: String| FileError::Form { line: number, why };
        let line: Line<'_> = serde_json::from_str(text).map_err(|why| form(why.to_string()))?;
        let checked = match line.line_type.as_ref() {
            "entry" => {
                let checked = self.entry(&line).ok_or_else(|| form("a field is missing".into()))?;
                checked.and_then(|()| self.ask_witnesses())
            }
            "checkpoint" => {
                let signed = witness(&line).ok_or_else(|| form("a field is missing".to_owned()))?;
                self.verifier.checkpoint((signed.seq, signed.chain, signed.at), &signed.signature)
            }
            _ => return Err(form("its type is neither entry nor checkpoint".to_owned())),
        };
        checked.map_err(|fault| FileError::Fault { line: number, fault })
    }

    /// Checks an entry; `None` when it lacks a field.
    fn entry(&mut self, line: &Line<'_>) -> Option<Result<(), Fault>> {
        let entry = EntryFields {
            seq: line.sequence?,
            at: line.at_micros?,
            kind: &line.kind,
            source: line.source?,
            source_seq: line.source_sequence?,
        };
        let changed = || Some(Err(Fault::Changed { seq: entry.seq }));
        let Some(chain) = digest_of(&line.chain) else { return changed() };
        if let Some(decision) = &line.decision {
            let Some(ids) = DecisionBytes::of(decision) else { return changed() };
            return Some(self.verifier.entry(&entry, &ids.content(decision), &chain));
        }
        if let Some(act) = &line.act {
            let Some(ids) = ActBytes::of(act) else { return changed() };
            return Some(self.verifier.entry(&entry, &ids.content(act), &chain));
        }
        let content = line.derived.as_deref().map_or(Content::Missing, Content::Derived);
        Some(self.verifier.entry(&entry, &content, &chain))
    }

    fn ask_witnesses(&mut self) -> Result<(), Fault> {
        let (last, _) = self.verifier.last();
        while let Some(witness) = self.witnesses.next_if(|witness| witness.seq <= last) {
            let said = (witness.seq, witness.chain, witness.at);
            self.verifier.checkpoint(said, &witness.signature)?;
        }
        Ok(())
    }

    fn end(mut self, line: usize) -> Result<Whole, FileError> {
        let (last, _) = self.verifier.last();
        if let Some(witness) = self.witnesses.next() {
            let said = (witness.seq, witness.chain, witness.at);
            let checked = self.verifier.checkpoint(said, &witness.signature);
            checked.map_err(|fault| FileError::Fault { line, fault })?;
        }
        if last < self.promised {
            let fault = Fault::Missing { from: last.saturating_add(1), to: self.promised };
            return Err(FileError::Fault { line, fault });
        }
        let (organization_id, checked) = (self.organization_id, self.verifier.checked());
        Ok(Whole { organization_id, after: self.after, last, checked })
    }
}

/// The bytes of a decision's ids.
struct DecisionBytes {
    id: [u8; 16],
    agent: [u8; 16],
    mandate: Option<[u8; 16]>,
    request_hash: [u8; 16],
}

impl DecisionBytes {
    fn of(decision: &Decision<'_>) -> Option<Self> {
        let mandate = match decision.mandate_id.as_ref() {
            "" => None,
            id => Some(*id.parse::<MandateId>().ok()?.as_bytes()),
        };
        let mut request_hash = [0; 16];
        hex::decode_to_slice(decision.request_hash.as_ref(), &mut request_hash).ok()?;
        Some(Self {
            id: *decision.transaction_id.parse::<TransactionId>().ok()?.as_bytes(),
            agent: *decision.agent_id.parse::<AgentId>().ok()?.as_bytes(),
            mandate,
            request_hash,
        })
    }

    fn content<'a>(&'a self, decision: &'a Decision<'_>) -> Content<'a> {
        Content::Spend(SpendFields {
            seq: decision.sequence,
            id: &self.id,
            agent_id: &self.agent,
            mandate_id: self.mandate.as_ref().map(<[u8; 16]>::as_slice),
            decided_at: decision.decided_at_micros,
            verdict: &decision.verdict,
            amount: decision.amount,
            currency: &decision.currency,
            vendor: &decision.vendor,
            category: decision.category.as_deref(),
            idempotency_key: &decision.idempotency_key,
            request_hash: &self.request_hash,
            evidence: &decision.evidence,
        })
    }
}

/// The bytes of an act's ids.
struct ActBytes {
    subject: [u8; 16],
    actor_key: Option<[u8; 16]>,
}

impl ActBytes {
    fn of(act: &Act<'_>) -> Option<Self> {
        let mut subject = [0; 16];
        hex::decode_to_slice(act.subject.as_ref(), &mut subject).ok()?;
        let actor_key = match act.actor_key_id.as_ref() {
            "" => None,
            id => Some(*id.parse::<KeyId>().ok()?.as_bytes()),
        };
        Some(Self { subject, actor_key })
    }

    fn content<'a>(&'a self, act: &'a Act<'_>) -> Content<'a> {
        Content::Act(ActFields {
            seq: act.sequence,
            after_spend: act.after_decision,
            at: act.at_micros,
            kind: &act.kind,
            subject: &self.subject,
            actor_key: self.actor_key.as_ref().map(<[u8; 16]>::as_slice),
            actor_role: &act.actor_role,
            document: &act.document,
        })
    }
}
