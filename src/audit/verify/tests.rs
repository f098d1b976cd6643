//! Mutations: every column of every kind of entry, entries removed, swapped, repeated, the end cut,
//! and the whole chain written anew. Each must be told, at the right entry.

use super::*;
use crate::crypto::SigningKey;

/// An entry that can be tampered with.
#[derive(Clone)]
struct Line {
    seq: i64,
    at: i64,
    kind: String,
    source: i16,
    source_seq: i64,
    chain: Digest,
    content: Owned,
}

#[derive(Clone)]
enum Owned {
    Spend(Spend),
    Act(Act),
    Derived(String),
}

#[derive(Clone)]
struct Spend {
    seq: i64,
    id: Vec<u8>,
    agent_id: Vec<u8>,
    mandate_id: Option<Vec<u8>>,
    decided_at: i64,
    verdict: String,
    amount: i64,
    currency: String,
    vendor: String,
    category: Option<String>,
    idempotency_key: String,
    request_hash: Vec<u8>,
    evidence: String,
}

#[derive(Clone)]
struct Act {
    seq: i64,
    after_spend: i64,
    at: i64,
    kind: String,
    subject: Vec<u8>,
    actor_key: Option<Vec<u8>>,
    actor_role: String,
    document: String,
}

fn org() -> OrgId {
    OrgId::from_bytes([1; 16])
}

impl Owned {
    fn content(&self) -> Content<'_> {
        match self {
            Self::Spend(spend) => Content::Spend(SpendFields {
                seq: spend.seq,
                id: &spend.id,
                agent_id: &spend.agent_id,
                mandate_id: spend.mandate_id.as_deref(),
                decided_at: spend.decided_at,
                verdict: &spend.verdict,
                amount: spend.amount,
                currency: &spend.currency,
                vendor: &spend.vendor,
                category: spend.category.as_deref(),
                idempotency_key: &spend.idempotency_key,
                request_hash: &spend.request_hash,
                evidence: &spend.evidence,
            }),
            Self::Act(act) => Content::Act(ActFields {
                seq: act.seq,
                after_spend: act.after_spend,
                at: act.at,
                kind: &act.kind,
                subject: &act.subject,
                actor_key: act.actor_key.as_deref(),
                actor_role: &act.actor_role,
                document: &act.document,
            }),
            Self::Derived(body) => Content::Derived(body),
        }
    }
}

impl Line {
    fn fields(&self) -> EntryFields<'_> {
        let Self { seq, at, kind, source, source_seq, .. } = self;
        EntryFields { seq: *seq, at: *at, kind, source: *source, source_seq: *source_seq }
    }
}

/// Links every entry to the one before it.
fn chained(mut lines: Vec<Line>) -> Vec<Line> {
    let mut before = genesis(org());
    for line in &mut lines {
        let digest = line.content.content().digest().unwrap();
        line.chain = link(&before, &line.fields(), &digest);
        before = line.chain;
    }
    lines
}

fn spend(seq: i64) -> Spend {
    Spend {
        seq,
        id: vec![7; 16],
        agent_id: vec![8; 16],
        mandate_id: Some(vec![9; 16]),
        decided_at: 1_000 + seq,
        verdict: "approved".to_owned(),
        amount: 250,
        currency: "USD".to_owned(),
        vendor: "firecrawl.dev".to_owned(),
        category: Some("research".to_owned()),
        idempotency_key: "key".to_owned(),
        request_hash: vec![3; 16],
        evidence: "{\"org\":1}".to_owned(),
    }
}

fn act(seq: i64, after_spend: i64) -> Act {
    Act {
        seq,
        after_spend,
        at: 2_000 + seq,
        kind: "mandate.activated".to_owned(),
        subject: vec![9; 16],
        actor_key: Some(vec![5; 16]),
        actor_role: "admin".to_owned(),
        document: "{\"after\":{}}".to_owned(),
    }
}

/// A journal with two entries of each kind: act, decision, mark, act, decision, mark.
fn journal() -> Vec<Line> {
    let mut lines = Vec::new();
    for round in 1..=2 {
        let (spend, act) = (spend(round), act(round, round - 1));
        let contents = [
            (act.at, act.kind.clone(), 2, Owned::Act(act)),
            (spend.decided_at, "transaction.approved".to_owned(), 1, Owned::Spend(spend)),
            (
                1_000 + round,
                "mandate.budget.warning".to_owned(),
                3,
                Owned::Derived("{\"percent\":80}".to_owned()),
            ),
        ];
        for (at, kind, source, content) in contents {
            let seq = i64::try_from(lines.len()).unwrap() + 1;
            let chain = [0; 32];
            lines.push(Line { seq, at, kind, source, source_seq: round, chain, content });
        }
    }
    chained(lines)
}

fn verified(lines: &[Line]) -> Result<Verifier, Fault> {
    let mut verifier = Verifier::new(org(), vec![key().public_key().unwrap()]);
    for line in lines {
        verifier.entry(&line.fields(), &line.content.content(), &line.chain)?;
    }
    Ok(verifier)
}

fn key() -> SigningKey {
    SigningKey::from_seed([4; 32]).unwrap()
}

fn signed(lines: &[Line], index: usize) -> ((i64, Digest, i64), String) {
    let Line { seq, chain, .. } = lines[index];
    let checkpoint = Checkpoint { org_id: org(), seq, chain, at: 5 };
    ((seq, chain, 5), checkpoint.sign(&key()))
}

#[test]
fn an_untouched_journal_is_whole() {
    let lines = journal();
    let mut verifier = verified(&lines).unwrap();
    let (checkpoint, signature) = signed(&lines, 5);
    verifier.checkpoint(checkpoint, &signature).unwrap();
    let whole = Checked { entries: 6, decisions: 2, acts: 2, checkpoints: 1 };
    assert_eq!(verifier.checked(), whole);
    assert_eq!(verifier.sources(), (2, 2));
}

/// A change, and its name.
type Change<T> = (&'static str, fn(&mut T));

/// Changes of one column each: of an entry, then of a decision or an act.
fn of_entry() -> Vec<Change<Line>> {
    vec![
        ("at", |line| line.at += 1),
        ("kind", |line| line.kind.push('x')),
        ("source", |line| line.source = 7),
        ("source_seq", |line| line.source_seq += 1),
        ("chain", |line| line.chain[31] ^= 1),
    ]
}

fn of_spend() -> Vec<Change<Spend>> {
    vec![
        ("seq", |spend| spend.seq += 1),
        ("id", |spend| spend.id[0] ^= 1),
        ("agent_id", |spend| spend.agent_id[15] ^= 1),
        ("mandate_id", |spend| spend.mandate_id.as_mut().unwrap()[3] ^= 1),
        ("mandate_id gone", |spend| spend.mandate_id = None),
        ("decided_at", |spend| spend.decided_at -= 1),
        ("verdict", |spend| spend.verdict = "rejected".to_owned()),
        ("amount", |spend| spend.amount = 25),
        ("currency", |spend| spend.currency = "EUR".to_owned()),
        ("vendor", |spend| spend.vendor = "firecrawl.de".to_owned()),
        ("category", |spend| spend.category = Some("travel".to_owned())),
        ("category gone", |spend| spend.category = None),
        ("category emptied", |spend| spend.category = Some(String::new())),
        ("idempotency_key", |spend| spend.idempotency_key.push('1')),
        ("request_hash", |spend| spend.request_hash[8] ^= 0x80),
        ("evidence", |spend| spend.evidence = "{\"org\":2}".to_owned()),
        ("a byte moved on", |spend| {
            spend.currency.push('f');
            spend.vendor.remove(0);
        }),
    ]
}

fn of_act() -> Vec<Change<Act>> {
    vec![
        ("seq", |act| act.seq += 1),
        ("after_spend", |act| act.after_spend += 1),
        ("at", |act| act.at += 1),
        ("kind", |act| act.kind = "mandate.revoked".to_owned()),
        ("subject", |act| act.subject[0] ^= 1),
        ("actor_key", |act| act.actor_key.as_mut().unwrap()[0] ^= 1),
        ("actor_key gone", |act| act.actor_key = None),
        ("actor_role", |act| act.actor_role = "agent".to_owned()),
        ("document", |act| act.document = "{}".to_owned()),
    ]
}

#[test]
fn a_change_of_any_column_of_any_entry_is_told_where_it_is() {
    let lines = journal();
    for (index, line) in lines.iter().enumerate() {
        let mut changed = Vec::new();
        for (name, change) in of_entry() {
            let mut line = line.clone();
            change(&mut line);
            changed.push((name, line));
        }
        match &line.content {
            Owned::Spend(spend) => changed.extend(of_spend().into_iter().map(|(name, change)| {
                let mut spend = spend.clone();
                change(&mut spend);
                (name, Line { content: Owned::Spend(spend), ..line.clone() })
            })),
            Owned::Act(act) => changed.extend(of_act().into_iter().map(|(name, change)| {
                let mut act = act.clone();
                change(&mut act);
                (name, Line { content: Owned::Act(act), ..line.clone() })
            })),
            Owned::Derived(_) => {
                let content = Owned::Derived("{\"percent\":90}".to_owned());
                changed.push(("body", Line { content, ..line.clone() }));
            }
        }
        for (name, changed) in changed {
            let mut lines = lines.clone();
            lines[index] = changed;
            let fault = verified(&lines).unwrap_err();
            assert_eq!(fault, Fault::Changed { seq: line.seq }, "{name} of entry {}", line.seq);
        }
    }
}

#[test]
fn removed_swapped_and_repeated_entries_are_told() {
    let lines = journal();
    for index in 0..lines.len() {
        let seq = lines[index].seq;
        let mut removed = lines.clone();
        removed.remove(index);
        match verified(&removed) {
            Err(fault) => assert_eq!(fault, Fault::Missing { from: seq, to: seq }),
            // The last one: only a checkpoint can tell.
            Ok(mut verifier) => {
                assert_eq!(index, lines.len() - 1);
                let (checkpoint, signature) = signed(&lines, index);
                let fault = verifier.checkpoint(checkpoint, &signature).unwrap_err();
                assert_eq!(fault, Fault::Cut { last: 5, signed: 6 });
            }
        }
        let mut repeated = lines.clone();
        repeated.insert(index + 1, lines[index].clone());
        assert_eq!(verified(&repeated).unwrap_err(), Fault::Reordered { seq });
        if index > 0 {
            let mut swapped = lines.clone();
            swapped.swap(index - 1, index);
            let from = seq - 1;
            assert_eq!(verified(&swapped).unwrap_err(), Fault::Missing { from, to: from });
            // The numbers put right again, the chain is not.
            swapped[index - 1].seq = seq - 1;
            swapped[index].seq = seq;
            assert_eq!(verified(&swapped).unwrap_err(), Fault::Changed { seq: seq - 1 });
        }
    }
}

#[test]
fn what_an_entry_is_about_may_not_be_gone_nor_come_twice() {
    let lines = journal();
    let mut verifier = Verifier::new(org(), Vec::new());
    let gone = verifier.entry(&lines[0].fields(), &Content::Missing, &lines[0].chain);
    assert_eq!(gone, Err(Fault::ContentMissing { seq: 1 }));
    let mut twice = lines.clone();
    twice[4].source_seq = 1;
    twice[4].content = Owned::Spend(spend(1));
    twice[4].at = 1_001;
    assert_eq!(verified(&chained(twice)).unwrap_err(), Fault::Repeated { seq: 5 });
}

#[test]
fn a_chain_that_was_written_anew_is_not_the_signed_one() {
    let lines = journal();
    let mut forged = lines.clone();
    let Owned::Spend(spend) = &mut forged[4].content else { panic!("a decision") };
    spend.amount = 1;
    let forged = chained(forged);
    let mut verifier = Verifier::new(org(), vec![key().public_key().unwrap()]);
    for (index, line) in forged.iter().enumerate() {
        verifier.entry(&line.fields(), &line.content.content(), &line.chain).unwrap();
        if index == 2 {
            let (checkpoint, signature) = signed(&lines, 2);
            verifier.checkpoint(checkpoint, &signature).unwrap();
        }
    }
    let (checkpoint, signature) = signed(&lines, 5);
    let fault = verifier.checkpoint(checkpoint, &signature).unwrap_err();
    assert_eq!(fault, Fault::Rewritten { seq: 6, good: 3 });
    let (late, by) = signed(&lines, 4);
    assert_eq!(verifier.checkpoint(late, &by).unwrap_err(), Fault::Misplaced { seq: 5 });
    // Nor does it help to write the checkpoint anew without the key, or to move it.
    let (own, _) = signed(&forged, 5);
    for (checkpoint, signature) in [(own, signature.clone()), ((6, own.1, 6), signature)] {
        let fault = verifier.checkpoint(checkpoint, &signature).unwrap_err();
        assert_eq!(fault, Fault::Unsigned { seq: 6 });
    }
}

#[test]
fn another_organizations_journal_is_not_this_ones() {
    let lines = journal();
    let mut verifier = Verifier::new(OrgId::from_bytes([2; 16]), Vec::new());
    let line = &lines[0];
    let fault = verifier.entry(&line.fields(), &line.content.content(), &line.chain).unwrap_err();
    assert_eq!(fault, Fault::Changed { seq: 1 });
}
