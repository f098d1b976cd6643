//! The judge judged: a sound story is let go, and each seeded bug is named.
//!
//! Not here: real histories.

use super::super::books::{Books, Spend, Terms};
use super::super::history::{Call, Decided, Outcome, Request};
use super::violations;

const MANDATE: &str = "mdt_1";

/// A story under construction: calls one after the other, and the rows they leave.
#[derive(Default)]
struct Story {
    history: Vec<Call>,
    books: Books,
}

impl Story {
    fn call(&mut self, request: Request, outcome: Outcome) {
        let invoked = u64::try_from(self.history.len()).unwrap() * 2;
        self.history.push(Call { invoked, completed: invoked + 1, request, outcome });
    }

    /// A new decision, answered and recorded.
    fn decide(&mut self, key: &str, amount: i64, version: i64, approved: bool) {
        let seq = i64::try_from(self.books.spends.len()).unwrap() + 1;
        let decided =
            Decided { id: format!("tx_{key}"), approved, version, decided_at: seq * 10, digest: 7 };
        self.books.spends.push(Spend {
            seq,
            id: decided.id.clone(),
            agent: "a1".to_owned(),
            mandate: MANDATE.to_owned(),
            version,
            key: key.to_owned(),
            amount,
            vendor: "openai.com".to_owned(),
            approved,
            state: if approved { "approved" } else { "rejected" }.to_owned(),
            settled: None,
            decided_at: seq * 10,
            updated_at: seq * 10,
        });
        self.call(evaluate(key, amount), Outcome::Decided(decided));
    }

    fn change(&mut self, version: i64, status: &str, total: i64) {
        let terms = Terms { status: status.to_owned(), total };
        self.books.terms.insert((MANDATE.to_owned(), version), terms);
        let request = Request::Change { mandate: MANDATE.to_owned() };
        self.call(request, Outcome::Changed { version });
    }

    fn row(&mut self, key: &str) -> &mut Spend {
        self.books.spends.iter_mut().find(|row| row.key == key).unwrap()
    }

    /// The last call about a key.
    fn last(&mut self, key: &str) -> &mut Call {
        let asked = |call: &&mut Call| match &call.request {
            Request::Evaluate { key, .. } => Some(key.clone()),
            Request::Settle { .. } | Request::Void { .. } | Request::Change { .. } => None,
        };
        self.history.iter_mut().rfind(|call| asked(call).as_deref() == Some(key)).unwrap()
    }

    fn answer(&mut self, key: &str) -> &mut Decided {
        let Outcome::Decided(decided) = &mut self.last(key).outcome else {
            panic!("{key} has no decision");
        };
        decided
    }

    fn violations(&self) -> Vec<String> {
        violations(&self.history, &self.books)
    }
}

fn evaluate(key: &str, amount: i64) -> Request {
    let (agent, vendor) = ("a1".to_owned(), "openai.com".to_owned());
    Request::Evaluate { agent, key: key.to_owned(), amount, vendor }
}

/// Approvals, refusals, a replay, a settlement, a void, a pause, a lost answer, a lower total.
fn sound() -> Story {
    let mut story = Story::default();
    story.change(1, "active", 100);
    story.decide("k1", 40, 1, true);
    story.decide("k2", 50, 1, true);
    story.decide("k3", 20, 1, false);
    let again = story.last("k1").outcome.clone();
    story.call(evaluate("k1", 40), again);
    let settle = Request::Settle { id: "tx_k1".to_owned(), amount: 30 };
    story.call(settle, Outcome::Resolved);
    let row = story.row("k1");
    (row.state, row.settled, row.updated_at) = ("settled".to_owned(), Some(30), 31);
    story.call(Request::Void { id: "tx_k2".to_owned() }, Outcome::Resolved);
    let row = story.row("k2");
    (row.state, row.updated_at) = ("voided".to_owned(), 32);
    story.change(2, "paused", 100);
    story.decide("k4", 10, 2, false);
    story.change(3, "active", 100);
    story.decide("k5", 25, 3, true);
    let answered = std::mem::replace(&mut story.last("k5").outcome, Outcome::Unknown);
    story.call(evaluate("k5", 25), answered);
    story.change(4, "active", 60);
    story.decide("k6", 5, 4, true);
    story.decide("k7", 1, 4, false);
    story.call(evaluate("k8", 1), Outcome::Failed("ABORTED".to_owned()));
    story.call(Request::Void { id: "tx_k5".to_owned() }, Outcome::Unknown);
    story.books.counters.insert(MANDATE.to_owned(), 60);
    story.books.tallies.insert(MANDATE.to_owned(), (4, 120));
    story
}

#[test]
fn a_sound_story_is_let_go() {
    assert_eq!(sound().violations(), Vec::<String>::new());
}

type Seed = (&'static str, &'static str, fn(&mut Story));

const SEEDS: &[Seed] = &[
    ("a lost decision", "k7: was answered and is not in the record", |story| {
        story.books.spends.pop();
    }),
    ("an invented decision", "k9: is in the record and was never asked", |story| {
        story.decide("k9", 1, 4, false);
        story.history.pop();
    }),
    ("a decision of a call that failed", "k8: every call failed", |story| {
        story.decide("k8", 1, 4, false);
        story.history.pop();
    }),
    ("a double charge", "counter of mdt_1: Some(65), not 60", |story| {
        story.books.counters.insert(MANDATE.to_owned(), 65);
    }),
    ("a counter that is gone", "counter of mdt_1: None", |story| {
        story.books.counters.clear();
    }),
    ("a tally that drifted", "tally of mdt_1: Some((3, 120))", |story| {
        story.books.tallies.insert(MANDATE.to_owned(), (3, 120));
    }),
    ("another decision on replay", "k1: two answers differ", |story| {
        story.answer("k1").approved = false;
    }),
    ("another explanation on replay", "k1: two answers differ", |story| {
        story.answer("k1").digest = 8;
    }),
    ("another transaction on replay", "k1: two answers differ", |story| {
        story.answer("k1").id = "tx_other".to_owned();
    }),
    ("another decision recorded", "k7: was answered", |story| {
        story.row("k7").approved = true;
    }),
    ("another transaction recorded", "k6: was answered", |story| {
        story.row("k6").id = "tx_other".to_owned();
    }),
    ("another amount recorded", "k6: 5 was asked and 4 recorded", |story| {
        story.row("k6").amount = 4;
    }),
    ("two records for one key", "k7: is in the record 2 times", |story| {
        story.decide("k7", 1, 4, false);
        story.row("k7").id = "tx_first".to_owned();
    }),
    ("one id for two records", "tx_k6 is in the record twice", |story| {
        story.row("k7").id = "tx_k6".to_owned();
        story.answer("k7").id = "tx_k6".to_owned();
    }),
    ("an overspend", "tx_k2: 1 over the total 89", |story| {
        story.books.terms.get_mut(&(MANDATE.to_owned(), 1)).unwrap().total = 89;
    }),
    ("money that returned before it was given back", "tx_k5: 5 over the total 100", |story| {
        story.row("k2").updated_at = 51;
    }),
    ("a refusal with room", "tx_k3: refused, and there was room", |story| {
        story.row("k3").amount = 10;
        story.last("k3").request = evaluate("k3", 10);
    }),
    ("an approval while paused", "tx_k4: approved while paused", |story| {
        story.row("k4").approved = true;
        story.answer("k4").approved = true;
    }),
    ("an old version after a pause returned", "tx_k4: judged by version 1 after 2", |story| {
        story.row("k4").version = 1;
        story.answer("k4").version = 1;
    }),
    ("a lost change of a mandate", "version 2 was answered and is lost", |story| {
        story.books.terms.remove(&(MANDATE.to_owned(), 2));
    }),
    ("a hole in the record", "the record has 4 in place 3", |story| {
        story.books.spends.remove(2);
    }),
    ("time that runs backwards", "tx_k7 was decided before the entry", |story| {
        story.row("k7").decided_at = 1;
        story.answer("k7").decided_at = 1;
    }),
    ("more settled than approved", "tx_k1: more was settled than approved", |story| {
        story.row("k1").settled = Some(41);
    }),
    ("a lost settlement", "Settle", |story| {
        let row = story.row("k1");
        (row.state, row.settled) = ("approved".to_owned(), None);
    }),
    ("another settlement", "tx_k1: is settled and nobody asked for it", |story| {
        story.row("k1").settled = Some(29);
    }),
    ("a lost void", "Void", |story| {
        story.row("k2").state = "approved".to_owned();
    }),
    ("an invented void", "tx_k6: is voided and nobody asked for it", |story| {
        story.row("k6").state = "voided".to_owned();
    }),
    ("an order that nobody saw", "tx_k7: stands before what was answered", |story| {
        let spends = &mut story.books.spends;
        let last = spends.len() - 1;
        spends.swap(last, last - 1);
        for (row, seq) in spends.iter_mut().zip(1..) {
            row.seq = seq;
        }
    }),
];

#[test]
fn every_seeded_bug_is_named() {
    assert!(SEEDS.len() >= 12);
    for (bug, verdict, seed) in SEEDS {
        let mut story = sound();
        seed(&mut story);
        let found = story.violations();
        let named = found.iter().any(|violation| violation.contains(verdict));
        assert!(named, "{bug} was not named, only {found:#?}");
    }
}

#[test]
fn a_lost_answer_may_have_had_its_effect_or_not() {
    let mut story = sound();
    story.row("k5").state = "voided".to_owned();
    story.row("k5").updated_at = 90;
    story.books.counters.insert(MANDATE.to_owned(), 35);
    assert_eq!(story.violations(), Vec::<String>::new());
}
