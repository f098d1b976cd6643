//! The checker: says which invariant broke, and the shortest story that shows it, from what clients
//! saw and what the stores hold in the end.
//!
//! It is a pure function of both and shares nothing with the ledger: every sum, window and verdict
//! is computed again from the rows. `checker/seeded` proves that it can convict and
//! `checker/generated` that it lets true stories go. Not here: how either side came to be, and
//! what servers print. docs/CHECKER.md is the list for people.

mod answers;
pub(crate) mod books;
mod caps;
mod control;
pub(crate) mod escrow;
mod generated;
pub(crate) mod history;
mod leases;
mod mandates;
mod money;
pub(crate) mod read;
mod record;
mod resolutions;
mod seeded;
mod words;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::panic::Location;

use self::books::{Books, Entry};
use self::escrow::Answers;
use self::history::{Call, Outcome, Request};

/// What must hold, whatever fails. The sentences are those of docs/CHECKER.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Invariant {
    NoOverspend,
    Audit,
    Idempotency,
    Revocation,
    Secrets,
    Webhooks,
    Tenancy,
    Holds,
    Execution,
    FailClosed,
    Authority,
    Time,
    Evidence,
    Bounds,
    Convergence,
    Parity,
}

impl Invariant {
    pub(crate) const ALL: [Self; 16] = [
        Self::NoOverspend,
        Self::Audit,
        Self::Idempotency,
        Self::Revocation,
        Self::Secrets,
        Self::Webhooks,
        Self::Tenancy,
        Self::Holds,
        Self::Execution,
        Self::FailClosed,
        Self::Authority,
        Self::Time,
        Self::Evidence,
        Self::Bounds,
        Self::Convergence,
        Self::Parity,
    ];

    /// I1 to I16.
    pub(crate) fn number(self) -> usize {
        Self::ALL.iter().position(|one| *one == self).unwrap() + 1
    }

    pub(crate) const fn sentence(self) -> &'static str {
        match self {
            Self::NoOverspend => "no limit is exceeded by what is approved, held and leased",
            Self::Audit => "what was answered is recorded once, as answered, and nothing else is",
            Self::Idempotency => "one key has one decision, and a repetition changes nothing",
            Self::Revocation => "nothing that starts after a stop has returned is approved",
            Self::Secrets => "no secret is where it could be read",
            Self::Webhooks => "every subscribed event is delivered, and no other",
            Self::Tenancy => "no organization touches what is another's",
            Self::Holds => "what is held or charged is resolved at most once, as it was asked",
            Self::Execution => "no more is settled or refunded than was approved",
            Self::FailClosed => "nothing is approved in doubt, and every reason to refuse is true",
            Self::Authority => {
                "a decision is judged by one version, and each agent has one mandate"
            }
            Self::Time => "the record is in the order of time, and each decision in its period",
            Self::Evidence => "what was signed or recorded cannot be changed unseen",
            Self::Bounds => "nothing is larger than its bound",
            Self::Convergence => "at rest, sums, indexes and stores agree with the record",
            Self::Parity => "each decision saw what the record before it says",
        }
    }
}

/// One broken invariant: what is wrong, and the least that shows it.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) invariant: Invariant,
    pub(crate) what: String,
    pub(crate) calls: Vec<Call>,
    pub(crate) rows: Vec<Entry>,
    /// Which check it was.
    by: &'static Location<'static>,
}

impl Violation {
    /// How long its story is.
    pub(crate) fn events(&self) -> usize {
        self.calls.len() + self.rows.len()
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, sentence) = (self.invariant.number(), self.invariant.sentence());
        writeln!(f, "I{number} ({sentence}) is broken: {}", self.what)?;
        let mut calls = self.calls.iter().collect::<Vec<_>>();
        calls.sort_by_key(|call| call.invoked);
        for call in calls {
            let Call { invoked, completed, request, outcome, .. } = call;
            writeln!(f, "  from {invoked} to {completed}: {request:?} -> {outcome:?}")?;
        }
        for row in &self.rows {
            writeln!(f, "  recorded: {row:?}")?;
        }
        Ok(())
    }
}

/// What was found so far.
#[derive(Debug, Default)]
struct Findings(Vec<Violation>);

impl Findings {
    #[track_caller]
    fn add(&mut self, invariant: Invariant, what: String, calls: &[&Call], rows: &[&Entry]) {
        let calls = calls.iter().map(|call| (*call).clone()).collect();
        let rows = rows.iter().map(|row| (*row).clone()).collect();
        self.0.push(Violation { invariant, what, calls, rows, by: Location::caller() });
    }

    /// Something that only rows show.
    #[track_caller]
    fn rows(&mut self, invariant: Invariant, what: String, rows: &[&Entry]) {
        self.add(invariant, what, &[], rows);
    }
}

/// Every call about one key of one agent, and the rows of its decision.
#[derive(Default)]
struct Case<'a> {
    calls: Vec<&'a Call>,
    rows: Vec<&'a Entry>,
    /// Whether what was answered may not be what is recorded.
    may_be_lost: bool,
}

impl<'a> Case<'a> {
    fn answers(&self) -> impl Iterator<Item = (&'a Call, &'a history::Decided)> {
        self.calls.iter().filter_map(|call| Some((*call, call.outcome.decided()?)))
    }

    /// When it was decided, as seen from outside: after the first of these and before the second.
    /// Where answers may be lost, one that is earlier than the row tells of what was.
    fn span(&self) -> Option<(&'a Call, u64)> {
        let first = self.calls.iter().min_by_key(|call| call.invoked)?;
        let row = self.rows.first().filter(|_| self.may_be_lost);
        let row = row.map_or(i64::MIN, |row| row.decided_at);
        let of_row = self.answers().filter(|(_, answer)| answer.decided_at >= row);
        let end = of_row.map(|(call, _)| call.completed).min();
        Some((first, end.unwrap_or(u64::MAX)))
    }
}

type Cases<'a> = BTreeMap<(String, String), Case<'a>>;

fn cases<'a>(history: &'a [Call], books: &'a Books) -> Cases<'a> {
    let mut cases = Cases::new();
    for call in history {
        if let Request::Evaluate { agent, key, .. } = &call.request {
            cases.entry((agent.clone(), key.clone())).or_default().calls.push(call);
        }
    }
    for row in &books.entries {
        cases.entry((row.agent.clone(), row.key.clone())).or_default().rows.push(row);
    }
    let answers = books.escrow.as_ref().map(|escrow| escrow.answers);
    if answers == Some(Answers::MayBeLost) {
        cases.values_mut().for_each(|case| case.may_be_lost = true);
    }
    cases
}

/// Everything that is wrong between what clients saw and what the stores hold.
pub(crate) fn violations(history: &[Call], books: &Books) -> Vec<Violation> {
    let mut found = Findings(of_books(books));
    let cases = cases(history, books);
    let worth = books.escrow.as_ref().map_or(Answers::Recorded, |escrow| escrow.answers);
    answers::check(&cases, books, worth, &mut found);
    if worth == Answers::Recorded {
        answers::order(&cases, &mut found);
    }
    resolutions::asked(history, books, &mut found);
    control::check(history, &cases, books, &mut found);
    words::reasons(&cases, books, &mut found);
    if let Some(escrow) = &books.escrow {
        escrow::lost(escrow, &cases, books, &mut found);
    }
    found.0
}

/// Everything that is wrong with the stores alone, whoever asked for it.
pub(crate) fn of_books(books: &Books) -> Vec<Violation> {
    let mut found = Findings::default();
    record::check(books, &mut found);
    money::check(books, &mut found);
    resolutions::check(books, &mut found);
    mandates::check(books, &mut found);
    words::room(books, &mut found);
    if let Some(escrow) = &books.escrow {
        escrow::check(escrow, books, &mut found);
    }
    found.0
}

/// What to read first: of each broken invariant the shortest story, and how many more there are.
pub(crate) fn report(found: &[Violation]) -> String {
    let mut by_invariant = BTreeMap::<Invariant, Vec<&Violation>>::new();
    for violation in found {
        by_invariant.entry(violation.invariant).or_default().push(violation);
    }
    let mut text = String::new();
    for mut violations in by_invariant.into_values() {
        violations.sort_by_key(|violation| violation.events());
        text.push_str(&violations[0].to_string());
        if violations.len() > 1 {
            text.push_str(&format!("  and {} more of I", violations.len() - 1));
            text.push_str(&format!("{}\n", violations[0].invariant.number()));
        }
    }
    text
}

/// Fails the test with the report, if there is one.
pub(crate) fn acquit(found: &[Violation]) {
    assert!(found.is_empty(), "{} violations\n{}", found.len(), report(found));
}

/// Groups entries by mandate, in the order of the record; where two stores decide, in the order of
/// time, and of the record where that is equal.
fn by_mandate(books: &Books) -> HashMap<&str, Vec<&Entry>> {
    let mut mandates = HashMap::<&str, Vec<&Entry>>::new();
    for entry in &books.entries {
        if let Some(mandate) = &entry.mandate {
            mandates.entry(mandate).or_default().push(entry);
        }
    }
    if books.escrow.is_some() {
        for entries in mandates.values_mut() {
            entries.sort_by_key(|entry| (entry.decided_at, entry.seq));
        }
    }
    mandates
}

impl Outcome {
    /// The decision, if it is one.
    pub(crate) fn decided(&self) -> Option<&history::Decided> {
        match self {
            Self::Decided(decided) => Some(decided),
            Self::Resolved | Self::Changed { .. } | Self::Failed(_) | Self::Unknown => None,
        }
    }
}
