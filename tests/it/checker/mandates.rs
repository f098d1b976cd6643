//! Mandates and who they are for: every decision names a version that exists and says what it says,
//! nothing is approved that the version forbids, and its signature holds.
//!
//! Not here: sums (`money`), and the order of changes and decisions (`control`).

use std::collections::BTreeMap;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::books::{Books, Entry, Seal, Terms};
use super::{Findings, Invariant};

pub(super) fn check(books: &Books, found: &mut Findings) {
    for entry in &books.entries {
        standing(entry, books, found);
    }
    versions(books, found);
    for ((mandate, version), terms) in &books.terms {
        if let Some(seal) = &terms.seal
            && !holds(seal, terms, books)
        {
            let what = format!("version {version} of {mandate} is not what was signed");
            found.rows(Invariant::Evidence, what, &[]);
        }
    }
}

/// Whose the parts of a decision are, and whether they stand as the version says.
fn standing(entry: &Entry, books: &Books, found: &mut Findings) {
    let agent = books.agents.get(&entry.agent);
    if agent.is_none_or(|agent| agent.org != entry.org) {
        let what = format!("{}: its agent is not of its organization", entry.id);
        found.rows(Invariant::Tenancy, what, &[entry]);
    }
    if entry.mandate.is_none() {
        if !entry.is_rejected() {
            let what = format!("{}: {} without a mandate", entry.id, entry.verdict);
            found.rows(Invariant::FailClosed, what, &[entry]);
        }
        return;
    }
    let Some(terms) = entry.terms(books) else {
        let what = format!("{}: judged by a version that is unknown", entry.id);
        found.rows(Invariant::Authority, what, &[entry]);
        return;
    };
    if terms.org != entry.org {
        let what = format!("{}: its mandate is another organization's", entry.id);
        found.rows(Invariant::Tenancy, what, &[entry]);
    } else if terms.agent != entry.agent {
        let what = format!("{}: its mandate is another agent's", entry.id);
        found.rows(Invariant::Authority, what, &[entry]);
    }
    if terms.status != entry.evidence.status {
        let saw = &entry.evidence.status;
        let what = format!("{}: it saw a mandate {saw} that was {}", entry.id, terms.status);
        found.rows(Invariant::Authority, what, &[entry]);
    }
    if !entry.is_rejected()
        && let Some(why) = forbidden(entry, terms)
    {
        let what = format!("{}: {} although {why}", entry.id, entry.verdict);
        found.rows(Invariant::FailClosed, what, &[entry]);
    }
}

/// Why a version does not allow what was approved or held.
fn forbidden(entry: &Entry, terms: &Terms) -> Option<&'static str> {
    let at = entry.decided_at - entry.evidence.screened;
    let must_wait = terms.approval.is_some_and(|most| entry.amount > most);
    let wrong = [
        ("the organization was frozen", entry.evidence.frozen),
        ("the agent was stopped", entry.evidence.agent != "active"),
        ("the mandate was not active", terms.status != "active"),
        ("the mandate was not valid yet", at < terms.valid.0),
        ("the mandate had ended", terms.valid.1.is_some_and(|end| entry.decided_at >= end)),
        ("the currency is another", entry.currency != terms.currency),
        ("it is too much for one transaction", entry.amount > terms.per_transaction),
        ("a person had to be asked", must_wait && entry.verdict == "approved"),
        ("nobody had to be asked", !must_wait && entry.verdict == "pending_approval"),
    ];
    wrong.into_iter().find(|(_, is_so)| *is_so).map(|(why, _)| why)
}

/// Versions begin at 1 and have no hole, and an agent has one active mandate at most.
fn versions(books: &Books, found: &mut Findings) {
    let mut last = BTreeMap::<&str, (i64, &Terms)>::new();
    for ((mandate, version), terms) in &books.terms {
        let before = last.insert(mandate, (*version, terms)).map_or(0, |(version, _)| version);
        if *version != before + 1 {
            let what = format!("{mandate} has version {version} after {before}");
            found.rows(Invariant::Authority, what, &[]);
        }
    }
    let mut active = BTreeMap::<&str, &str>::new();
    for (mandate, (_, terms)) in last {
        if terms.status != "active" {
            continue;
        }
        if let Some(other) = active.insert(&terms.agent, mandate) {
            let what = format!("{} has two active mandates, {other} and {mandate}", terms.agent);
            found.rows(Invariant::Authority, what, &[]);
        }
    }
    for (id, agent) in &books.agents {
        let current = agent.mandate.as_ref().and_then(|mandate| {
            books.terms.iter().rfind(|((of, _), _)| of == mandate).map(|(_, terms)| terms)
        });
        if current.is_some_and(|terms| terms.agent != *id || terms.org != agent.org) {
            let what = format!("the mandate of agent {id} is for another");
            found.rows(Invariant::Authority, what, &[]);
        }
    }
}

/// Whether a hash covers the policy, and a key of the organization has signed it.
fn holds(seal: &Seal, terms: &Terms, books: &Books) -> bool {
    let Some(key) = books.public_keys.get(&(terms.org.clone(), seal.key.clone())) else {
        return false;
    };
    let Ok(signature) = URL_SAFE_NO_PAD.decode(&seal.signature) else { return false };
    let key = UnparsedPublicKey::new(&ED25519, key);
    hex::encode(Sha256::digest(&seal.policy)) == seal.hash
        && key.verify(seal.hash.as_bytes(), &signature).is_ok()
}
