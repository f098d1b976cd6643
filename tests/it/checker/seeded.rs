//! The checker judged: what each seeded bug does to a true story is named, by its invariant and
//! with a short story.
//!
//! Every row is a fault that a ledger could have, as what it would leave behind. Each is tried on
//! every generated story that has the place for it, and those about signatures on what a real
//! server has left. Not here: true stories (`generated`).

mod asked;
mod control;
mod judged;
mod stores;

use std::collections::BTreeSet;

use super::books::{Books, Entry};
use super::escrow::Answers;
use super::generated::{Run, run};
use super::history::{Call, Decided, Outcome, Request};
use super::money::{place, situations};
use super::{Invariant, Violation, of_books, report, violations};
use crate::harness::{Server, ask, budget};

/// What a ledger did wrong, which invariant that breaks, in how long a story it shows at most, and
/// what becomes of a true story; `None` where it has no place for it.
type Seed = (&'static str, Invariant, usize, fn(&mut Run) -> Option<()>);

/// How many stories each seed is tried on, and how long they are.
const STORIES: u64 = 30;
const OPERATIONS: u64 = 90;

impl Run {
    /// The place of the last entry that is like this and was answered.
    fn find(&self, is_like: impl Fn(&Entry) -> bool) -> Option<usize> {
        let is_answered = |entry: &Entry| {
            let about = |call: &Call| call.is_about(entry) && call.outcome.decided().is_some();
            self.history.iter().any(about)
        };
        self.books.entries.iter().rposition(|entry| is_like(entry) && is_answered(entry))
    }

    fn entry(&mut self, is_like: impl Fn(&Entry) -> bool) -> Option<&mut Entry> {
        let index = self.find(is_like)?;
        Some(&mut self.books.entries[index])
    }

    /// Its calls.
    fn calls(&mut self, index: usize) -> impl Iterator<Item = &mut Call> {
        let entry = self.books.entries[index].clone();
        self.history.iter_mut().filter(move |call| call.is_about(&entry))
    }

    /// What was answered about it.
    fn answers(&mut self, index: usize) -> impl Iterator<Item = &mut Decided> {
        self.calls(index).filter_map(|call| match &mut call.outcome {
            Outcome::Decided(decided) => Some(decided),
            Outcome::Resolved | Outcome::Changed { .. } | Outcome::Failed(_) | Outcome::Unknown => {
                None
            }
        })
    }

    /// An entry is of a later time than it was answered with.
    fn decide_later(&mut self, index: usize) {
        let entry = &mut self.books.entries[index];
        entry.decided_at += 1;
        entry.updated_at = entry.updated_at.max(entry.decided_at);
    }

    /// A call that returned just before the first call about an entry began.
    fn before(&mut self, index: usize, request: Request, outcome: Outcome) -> Option<()> {
        let first = self.calls(index).map(|call| call.invoked).min()?;
        let (invoked, completed) = (first.checked_sub(2)?, first.checked_sub(1)?);
        self.history.push(Call { invoked, completed, ms: (invoked, completed), request, outcome });
        Some(())
    }

    /// A call after all others.
    fn after(&mut self, request: Request, outcome: Outcome) {
        let last = self.history.iter().map(|call| call.completed).max().unwrap_or_default();
        let (invoked, completed) = (last + 1, last + 2);
        self.history.push(Call { invoked, completed, ms: (invoked, completed), request, outcome });
    }

    /// Takes an entry out, and closes the gap.
    fn remove(&mut self, index: usize) -> Entry {
        let gone = self.books.entries.remove(index);
        for entry in &mut self.books.entries[index..] {
            if entry.chain == gone.chain {
                entry.seq -= 1;
            }
        }
        gone
    }

    /// Adds an entry at the end of the record of another.
    fn append(&mut self, like: usize, change: impl FnOnce(&mut Entry)) {
        let chain = self.books.entries[like].chain.clone();
        let in_chain = |entry: &Entry| entry.chain == chain;
        let last = self.books.entries.iter().rposition(in_chain).unwrap();
        let mut entry = self.books.entries[like].clone();
        entry.seq = self.books.entries[last].seq + 1;
        entry.id = format!("{:032x}", 77);
        change(&mut entry);
        self.books.entries.insert(last + 1, entry);
    }
}

impl Call {
    fn is_about(&self, entry: &Entry) -> bool {
        match &self.request {
            Request::Evaluate { agent, key, .. } => (agent, key) == (&entry.agent, &entry.key),
            Request::Settle { .. }
            | Request::Void { .. }
            | Request::Refund { .. }
            | Request::Approve { .. }
            | Request::Deny { .. }
            | Request::Expire { .. }
            | Request::Change { .. }
            | Request::Switch { .. } => false,
        }
    }
}

fn is_approved(entry: &Entry) -> bool {
    entry.verdict == "approved"
}

/// The shortest story of an invariant.
fn shortest(found: &[Violation], invariant: Invariant) -> Option<usize> {
    let of_it = found.iter().filter(|violation| violation.invariant == invariant);
    of_it.map(Violation::events).min()
}

fn seeds() -> Vec<Seed> {
    [asked::SEEDS, judged::SEEDS, control::SEEDS, stores::SEEDS].concat()
}

/// Where the checker can convict: file and line of each place.
fn places() -> BTreeSet<(String, u32)> {
    let mut places = BTreeSet::new();
    for file in crate::tidy::files() {
        let is_judge = file.path.starts_with("tests/it/checker/") && !file.path.contains("seeded");
        for (line, number) in file.text.lines().zip(1..).filter(|_| is_judge) {
            if line.contains("found.add(") || line.contains("found.rows(") {
                places.insert((file.path.clone(), number));
            }
        }
    }
    places
}

fn convicting(found: &[Violation]) -> impl Iterator<Item = (String, u32)> {
    found.iter().map(|violation| (violation.by.file().replace('\\', "/"), violation.by.line()))
}

#[test]
fn every_seeded_bug_is_named_with_a_short_story_and_every_check_names_one() {
    let stories = (0..STORIES).map(|seed| run(seed, OPERATIONS)).collect::<Vec<_>>();
    let mut idle = places();
    assert!(idle.len() > 50, "only {} checks", idle.len());
    // A later test is about signatures.
    idle.retain(|(file, line)| !(file.ends_with("mandates.rs") && *line < 40));
    let mut missed = Vec::new();
    for (bug, invariant, events, plant) in seeds() {
        let mut tried = 0;
        for (seed, story) in stories.iter().enumerate() {
            let mut story = story.clone();
            if plant(&mut story).is_none() {
                continue;
            }
            tried += 1;
            let found = violations(&story.history, &story.books);
            for place in convicting(&found) {
                idle.remove(&place);
            }
            let least = shortest(&found, invariant);
            if least.is_none_or(|least| least > events) {
                let (number, said) = (invariant.number(), report(&found));
                missed.push(format!("{bug}: I{number} in {least:?} events, story {seed}:\n{said}"));
                break;
            }
        }
        if tried < 2 {
            missed.push(format!("{bug} had a place in {tried} stories only"));
        }
    }
    assert!(missed.is_empty(), "{} of them:\n{}", missed.len(), missed.join("\n"));
    assert_eq!(idle, BTreeSet::new(), "these checks have named nothing");
}

#[test]
fn what_is_decided_beside_redis_is_no_loss_if_redis_still_has_the_other() {
    const LOST: &str = "was answered with another time than is recorded";
    let mut tried = 0;
    for mut story in (0..STORIES).map(|seed| run(seed, OPERATIONS)) {
        let Some(escrow) = story.books.escrow.as_mut() else { continue };
        escrow.answers = Answers::Ahead;
        let is_like = |entry: &Entry| is_approved(entry) && entry.due_at.is_none();
        let Some(index) = story.find(is_like) else { continue };
        tried += 1;
        story.decide_later(index);
        let id = story.books.entries[index].id.clone();
        for (text, is_lost) in [
            (String::new(), true),
            (format!("{{\"transaction\":\"tx_{id}\"}} decided in Redis"), true),
            (format!("transaction=tx_{} decided in Redis too;", "0".repeat(32)), true),
            (format!("decided in Redis too; transaction=tx_{id}"), false),
        ] {
            story.books.texts = vec![("a log".to_owned(), text)];
            story.books.note_beside();
            let said = report(&violations(&story.history, &story.books));
            assert_eq!(said.contains(LOST), is_lost, "{said}");
        }
    }
    assert!(tried > 5, "only {tried} stories");
}

#[test]
fn there_is_a_seed_for_every_invariant_that_the_product_has() {
    let seeds = seeds();
    assert!(seeds.len() >= 40, "only {} seeds", seeds.len());
    let mut has = seeds.iter().map(|(_, invariant, ..)| *invariant).collect::<BTreeSet<_>>();
    // The next test has those.
    has.insert(Invariant::Evidence);
    // Nothing is delivered yet, so nothing can be judged.
    has.insert(Invariant::Webhooks);
    assert_eq!(has, BTreeSet::from(Invariant::ALL));
    let sentences = Invariant::ALL.map(Invariant::sentence);
    assert_eq!(BTreeSet::from(sentences).len(), sentences.len());
}

/// What somebody changes who can write to the store, and cannot sign.
type Forgery = (&'static str, fn(&mut super::books::Seal));

/// What a real server leaves behind: two versions of a mandate, a few decisions.
async fn real() -> Books {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let (agent, mandate_id) = admin.agent_with_mandate(budget(1_000, 100), vec![]).await;
    let total = Some(2_000);
    let request =
        quetra::proto::v1::UpdateBudgetRequest { mandate_id, total, ..Default::default() };
    admin.mandates.update_budget(request).await.unwrap();
    for amount in [10, 20, 900] {
        admin.spend(ask(&agent, amount)).await;
    }
    let database = server.database().clone();
    server.stop_and(async || Books::of(&database).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_behind_the_servers_back_is_named() {
    let books = real().await;
    assert_eq!(report(&of_books(&books)), "");
    let last = books.terms.keys().next_back().unwrap().clone();
    let faults: [Forgery; 4] = [
        ("a policy", |seal| seal.policy = seal.policy.replace("2000", "9000")),
        ("a hash", |seal| seal.hash = seal.hash.replace(['0', '1', '2', '3'], "f")),
        ("a signature", |seal| seal.signature = seal.signature.replace(['A', 'B', 'C'], "D")),
        ("a key's name", |seal| seal.key.push('x')),
    ];
    for (what, change) in faults {
        let mut books = books.clone();
        for terms in books.terms.values_mut() {
            change(terms.seal.as_mut().unwrap());
        }
        let found = of_books(&books);
        assert!(shortest(&found, Invariant::Evidence).is_some(), "{what}: {}", report(&found));
    }
    // And a version that was signed, for another mandate.
    let mut moved = books.clone();
    let seal = moved.terms.values().find(|terms| terms.total != 2_000).unwrap().seal.clone();
    let seal = seal.unwrap();
    let other = moved.terms.get_mut(&last).unwrap().seal.as_mut().unwrap();
    (other.hash, other.signature) = (seal.hash, seal.signature);
    assert!(shortest(&of_books(&moved), Invariant::Evidence).is_some());
}
