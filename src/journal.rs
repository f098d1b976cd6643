//! The journal: everything that happened to an organization as one numbered, chained sequence.
//!
//! A follower reads what is new in the record of decisions and among the acts, puts it in the order
//! in which it was committed, adds what follows from it (budget marks) and appends it. It is a
//! function of what is recorded: killed at any point, it goes on and writes the same. Deciding
//! never waits for it. Not here: databases (`journal::sql`), and who reads it (`engine`).

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::audit::{Digest, EntryFields, derived_digest, genesis, link};
use crate::domain::decision::Verdict;
use crate::domain::event::EventKind;
use crate::domain::id::{MandateId, OrgId};
use crate::domain::journal::{Mark, Next, Reached, Read};
use crate::domain::mandate::Budget;
use crate::store::{Growth, StoreError, StoreErrorKind};

pub mod sql;

/// How long the follower rests between two looks: also how late an event is at most, with what it
/// takes to write it.
const REST: Duration = Duration::from_millis(50);

/// How long it rests when there is more: the ledger's turn comes first.
const BREATH: Duration = Duration::from_millis(10);

/// How long after a failure.
const FAILURE_REST: Duration = Duration::from_secs(1);

/// Budgets of mandates' versions that are remembered.
const BUDGETS_MAX: usize = 10_000;

const FOLLOW: &str = "follow the record";

/// A decision as the journal sees it.
#[derive(Debug)]
pub(crate) struct NewSpend {
    pub(crate) seq: i64,
    pub(crate) org: OrgId,
    /// In microseconds, here and below.
    pub(crate) at: i64,
    pub(crate) verdict: Verdict,
    pub(crate) digest: Digest,
    /// Where the budget stood after it, and the zone of its windows.
    pub(crate) reached: Option<(Reached, Arc<str>)>,
}

/// An act as the journal sees it.
#[derive(Debug)]
pub(crate) struct NewAct {
    pub(crate) seq: i64,
    pub(crate) org: OrgId,
    pub(crate) after_spend: i64,
    pub(crate) at: i64,
    pub(crate) kind: String,
    pub(crate) digest: Digest,
}

/// What is new behind a position.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) spends: Vec<NewSpend>,
    pub(crate) acts: Vec<NewAct>,
    pub(crate) more_spends: bool,
    pub(crate) more_acts: bool,
}

/// The end of an organization's journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) seq: i64,
    pub(crate) chain: Digest,
}

impl End {
    /// The end of an empty one.
    pub(crate) fn of_nothing(org: OrgId) -> Self {
        Self { seq: 0, chain: genesis(org) }
    }
}

/// Where the content of an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Spend,
    Act,
    Derived,
}

impl Source {
    /// As it is stored.
    pub(crate) const fn code(self) -> i16 {
        match self {
            Self::Spend => 1,
            Self::Act => 2,
            Self::Derived => 3,
        }
    }
}

/// An entry to append.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) org: OrgId,
    pub(crate) seq: i64,
    pub(crate) at: i64,
    pub(crate) kind: Cow<'static, str>,
    pub(crate) source: Source,
    pub(crate) source_seq: i64,
    pub(crate) chain: Digest,
    pub(crate) body: Option<String>,
    /// The mark that this entry says was reached.
    pub(crate) mark: Option<Mark>,
}

/// How far the record is in the journal: the last decision, and the last act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) spend: i64,
    pub(crate) act: i64,
}

impl Position {
    /// Where it is once these are appended.
    pub(crate) fn after(self, rows: &[Row]) -> Self {
        rows.iter().fold(self, |position, row| match row.source {
            Source::Spend | Source::Derived => Self { spend: row.source_seq, ..position },
            Source::Act => Self { act: row.source_seq, ..position },
        })
    }
}

/// Cuts off about as many rows as are wanted, never between a decision and what follows from it.
pub(crate) fn part_of(rows: &[Row], wanted: usize) -> (&[Row], &[Row]) {
    let (_, rest) = rows.split_at(wanted.min(rows.len()));
    let derived = rest.iter().take_while(|row| row.source == Source::Derived).count();
    rows.split_at(rows.len().saturating_sub(rest.len()).saturating_add(derived))
}

/// What to append.
#[derive(Debug, Default)]
pub(crate) struct Composed {
    pub(crate) rows: Vec<Row>,
    /// The ends of the journals after it.
    pub(crate) ends: HashMap<OrgId, End>,
}

/// Composes entries; it remembers only what never changes.
#[derive(Debug, Default)]
pub(crate) struct Scribe {
    budgets: HashMap<(MandateId, i64), Budget>,
}

impl Scribe {
    /// The versions of mandates whose budgets it has to learn first.
    pub(crate) fn unknown(&self, news: &News) -> HashSet<(OrgId, MandateId, i64)> {
        let named = news.spends.iter().filter_map(|spend| {
            let (reached, _) = spend.reached.as_ref()?;
            let is_known = self.budgets.contains_key(&(reached.mandate, reached.version));
            (!is_known).then_some((spend.org, reached.mandate, reached.version))
        });
        named.collect()
    }

    /// Learns the budget of a version, which never changes.
    pub(crate) fn learn(&mut self, mandate: MandateId, version: i64, budget: Budget) {
        if self.budgets.len() >= BUDGETS_MAX {
            self.budgets.clear();
        }
        self.budgets.insert((mandate, version), budget);
    }

    /// The marks that these decisions are at or above: which of them were reached before has to be
    /// looked up.
    pub(crate) fn marks(&self, news: &News) -> Result<HashSet<Mark>, StoreError> {
        let mut marks = HashSet::new();
        for spend in &news.spends {
            marks.extend(self.marks_of(spend)?.into_iter().map(|(mark, ..)| mark));
        }
        Ok(marks)
    }

    fn marks_of(&self, spend: &NewSpend) -> Result<Vec<(Mark, EventKind, String)>, StoreError> {
        let Some((reached, zone)) = &spend.reached else { return Ok(Vec::new()) };
        let budget = self.budgets.get(&(reached.mandate, reached.version));
        let Some(budget) = budget.filter(|budget| reached.is_notable(budget.total)) else {
            return Ok(Vec::new());
        };
        let marks = reached.marks(budget, zone).map_err(corrupt)?;
        let written = marks.into_iter().map(|(mark, kind, said)| {
            let body = serde_json::to_string(&said).map_err(corrupt)?;
            Ok((mark, kind, body))
        });
        written.collect()
    }

    /// Composes as much of the news as has a sure order.
    pub(crate) fn compose(
        &self,
        news: &News,
        mut ends: HashMap<OrgId, End>,
        mut reached: HashSet<Mark>,
    ) -> Result<Composed, StoreError> {
        let spends = news.spends.iter().map(|spend| spend.seq).collect::<Vec<_>>();
        let acts = news.acts.iter().map(|act| act.after_spend).collect::<Vec<_>>();
        let (more_spends, more_acts) = (news.more_spends, news.more_acts);
        let order = Read { spends: &spends, acts: &acts, more_spends, more_acts }.merge();
        let mut composed =
            Composed { rows: Vec::with_capacity(order.len()), ..Composed::default() };
        for next in order {
            match next {
                Next::Spend(index) => {
                    let Some(spend) = news.spends.get(index) else { continue };
                    let end = ends.entry(spend.org).or_insert_with(|| End::of_nothing(spend.org));
                    let kind = Cow::Borrowed(word_of(spend.verdict));
                    let source = (Source::Spend, spend.seq);
                    let content = Content::Elsewhere(spend.digest);
                    composed.push((end, spend.org), (spend.at, kind), source, content);
                    for (mark, kind, body) in self.marks_of(spend)? {
                        if !reached.insert(mark) {
                            continue;
                        }
                        let (source, kind) = ((Source::Derived, spend.seq), kind.word());
                        let said = (spend.at, Cow::Borrowed(kind));
                        let content = Content::Reached(mark, body);
                        composed.push((end, spend.org), said, source, content);
                    }
                }
                Next::Act(index) => {
                    let Some(act) = news.acts.get(index) else { continue };
                    let end = ends.entry(act.org).or_insert_with(|| End::of_nothing(act.org));
                    let said = (act.at, Cow::Owned(act.kind.clone()));
                    let source = (Source::Act, act.seq);
                    let content = Content::Elsewhere(act.digest);
                    composed.push((end, act.org), said, source, content);
                }
            }
        }
        composed.ends = ends;
        Ok(composed)
    }
}

/// What an entry says.
enum Content {
    /// What is stored elsewhere and has this digest.
    Elsewhere(Digest),
    /// That a mark was reached, in these words.
    Reached(Mark, String),
}

impl Composed {
    /// Appends one entry behind an end.
    fn push(
        &mut self,
        (end, org): (&mut End, OrgId),
        (at, kind): (i64, Cow<'static, str>),
        (source, source_seq): (Source, i64),
        content: Content,
    ) {
        let seq = end.seq.saturating_add(1);
        let (digest, mark, body) = match content {
            Content::Elsewhere(digest) => (digest, None, None),
            Content::Reached(mark, body) => (derived_digest(&body), Some(mark), Some(body)),
        };
        let entry = EntryFields { seq, at, kind: &kind, source: source.code(), source_seq };
        let chain = link(&end.chain, &entry, &digest);
        *end = End { seq, chain };
        self.rows.push(Row { org, seq, at, kind, source, source_seq, chain, body, mark });
    }
}

/// The kind of a decision's entry.
const fn word_of(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Approved => EventKind::TransactionApproved.word(),
        Verdict::Rejected => EventKind::TransactionRejected.word(),
        Verdict::PendingApproval => EventKind::TransactionPendingApproval.word(),
    }
}

fn corrupt(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, FOLLOW, error)
}

/// What one look came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// The ends of the journals that grew since the last look, be it by another server.
    pub(crate) grown: Vec<(OrgId, i64)>,
    /// Whether there is more to append.
    pub(crate) more: bool,
}

/// Where a journal is, and what it follows.
#[async_trait]
pub(crate) trait Home: Send {
    /// Appends some of what is new, if there is anything; all of it, and the position, or nothing.
    async fn look(&mut self) -> Result<Look, StoreError>;
}

/// What keeps a journal up to date.
pub struct Follower {
    home: Box<dyn Home>,
    grown: watch::Sender<Growth>,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").finish_non_exhaustive()
    }
}

impl Follower {
    pub(crate) fn new(home: Box<dyn Home>) -> Self {
        Self { home, grown: watch::Sender::default() }
    }

    /// Tells that some journal has grown, and how far.
    #[must_use]
    pub fn growth(&self) -> watch::Receiver<Growth> {
        self.grown.subscribe()
    }

    /// Follows until it is stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut rest = Duration::ZERO;
        while stop.run_until_cancelled(tokio::time::sleep(rest)).await.is_some() {
            rest = match self.home.look().await {
                Ok(Look { grown, more }) => {
                    if !grown.is_empty() {
                        self.grown.send_modify(|ends| ends.extend(grown));
                    }
                    if more { BREATH } else { REST }
                }
                Err(error) => {
                    tracing::warn!(
                        ?error,
                        "the journal could not be continued; it will be tried again"
                    );
                    FAILURE_REST
                }
            };
        }
    }
}

#[cfg(test)]
mod tests;
