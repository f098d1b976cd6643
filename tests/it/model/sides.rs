//! The two ledgers under comparison: the reference, a whole `Book` in memory, and `SqlLedger` in a
//! database, under one clock; and what must be the same in both.
//!
//! Not here: what they are asked (`commands`) and what is changed around them (`catalogue`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::task::Poll;

use jiff::Timestamp;
use quetra::clock::{Clock, ManualClock};
use quetra::domain::act::{ActRecord, MoneyMoved};
use quetra::domain::actor::Actor;
use quetra::domain::decision::Verdict;
use quetra::domain::hold::Terms;
use quetra::domain::id::{MandateId, OrgId, TransactionId};
use quetra::domain::ledger::{Act, Book, Charge, Claim, CounterKey, Decided, Level, Subject};
use quetra::domain::ledger::{Resolve, ResolveError, Resolved, Tally};
use quetra::domain::period::Period;
use quetra::domain::transaction::{TransactionRecord, TransactionState};
use quetra::domain::vendor::Vendor;
use quetra::ledger::LedgerError;
use quetra::store::{Author, Change, TransactionFilter, TransactionPage};

use super::catalogue::Catalogue;
use super::commands::Command;
use super::homes::{Open, Place, open};
use crate::dice::Dice;
use crate::harness::Engine;

/// More than a sequence ever has at once.
const DUE_MAX: u32 = 100_000;

/// A whole book keeps no counters, so it cannot say where the budget stands.
fn without_budget(act: &ActRecord) -> Box<ActRecord> {
    let moved: MoneyMoved = serde_json::from_str(&act.document).unwrap();
    let document = serde_json::to_string(&MoneyMoved { budget: None, ..moved }).unwrap();
    Box::new(ActRecord { document, ..act.clone() })
}

/// What a ledger says to a command.
#[derive(Debug, PartialEq)]
enum Answer {
    Decided(Decided),
    Resolved(Result<Resolved, ResolveError>),
}

#[derive(serde::Deserialize)]
struct State {
    spends: usize,
    last: usize,
    tallies: Vec<(String, i64, i64)>,
    counters: Vec<(String, String, i64, i64, i64, i64)>,
}

pub(crate) struct Sides {
    book: Book,
    engine: Engine,
    /// Before when no entry of a chain may be: of the whole record, or of an organization's.
    floors: HashMap<Option<OrgId>, Timestamp>,
    /// When the last entry of the record was decided: all that a restart of SQLite knows of it.
    last: Timestamp,
    clock: Arc<ManualClock>,
    place: Place,
    open: Option<Open>,
}

impl Open {
    async fn ask(&self, command: Command) -> Answer {
        let failed = |error: LedgerError| panic!("the ledger failed: {error:?}");
        match command {
            Command::Decide(decide) => {
                Answer::Decided(self.ledger.decide(*decide).await.unwrap_or_else(failed))
            }
            Command::Resolve(resolve) => {
                let resolved = self.ledger.resolve(resolve).await;
                Answer::Resolved(resolved.unwrap_or_else(|error| panic!("{error:?}")))
            }
        }
    }
}

impl Sides {
    pub(crate) async fn new(engine: Engine, catalogue: &Catalogue, now: Timestamp) -> Self {
        let (clock, place) = (Arc::new(ManualClock::new(now)), Place::new(engine).await);
        let open = Some(open(&place, clock.clone()).await);
        let (book, floors, last) = (Book::default(), HashMap::new(), Timestamp::UNIX_EPOCH);
        let mut sides = Self { book, engine, floors, last, clock, place, open };
        for changes in catalogue.creation() {
            sides.change(catalogue, changes).await;
        }
        sides
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn set_clock(&self, at: Timestamp) {
        self.clock.set(at);
    }

    pub(crate) const fn is_in_redis(&self) -> bool {
        matches!(self.engine, Engine::Redis(_) | Engine::RedisCluster)
    }

    /// What may differ: an approval in Redis says how its counters stood as of the last lease, with
    /// what was charged since, and does not know of money that came back meanwhile.
    fn blurred(&self, mut record: TransactionRecord) -> TransactionRecord {
        if self.is_in_redis() && record.verdict != Verdict::Rejected {
            record.evidence.levels.clear();
        }
        record
    }

    fn blurred_answer(&self, answer: Answer) -> Answer {
        let blurred =
            |record: Arc<TransactionRecord>| Arc::new(self.blurred(Arc::unwrap_or_clone(record)));
        match answer {
            Answer::Decided(Decided::Ruled(record)) => {
                Answer::Decided(Decided::Ruled(blurred(record)))
            }
            Answer::Decided(Decided::Replayed(record)) => {
                Answer::Decided(Decided::Replayed(blurred(record)))
            }
            Answer::Resolved(Ok(Resolved { record, changed, act })) => {
                let act = act.as_deref().map(without_budget);
                Answer::Resolved(Ok(Resolved { record: blurred(record), changed, act }))
            }
            other @ (Answer::Decided(_) | Answer::Resolved(_)) => other,
        }
    }

    fn open(&self) -> &Open {
        self.open.as_ref().unwrap()
    }

    /// Writes changes to the store, and puts what stands afterwards into the book.
    pub(crate) async fn change(&mut self, catalogue: &Catalogue, changes: Vec<Change>) {
        let author = Author { actor: Actor::System, at: self.clock.now() };
        self.open().catalogue.commit(changes, None, author).await.unwrap();
        let orgs = catalogue.orgs.iter();
        self.book.orgs = orgs.map(|org| (org.id, (org.version, org.frozen))).collect();
        let agents = catalogue.agents.iter();
        let standing = |agent: &quetra::domain::agent::Agent| (agent.status, agent.current_mandate);
        self.book.agents = agents.map(|agent| (agent.id, standing(agent))).collect();
        let mandates = catalogue.mandates.iter();
        self.book.mandates =
            mandates.map(|mandate| (mandate.id, (mandate.version, mandate.status))).collect();
    }

    pub(crate) async fn reopen(&mut self) {
        self.open.take().unwrap().close().await;
        if let Engine::Sqlite = self.engine {
            self.floors = HashMap::from([(None, self.last)]);
        }
        self.open = Some(open(&self.place, self.clock.clone()).await);
    }

    pub(crate) async fn close(mut self) {
        self.open.take().unwrap().close().await;
        self.place.leave().await;
    }

    /// Which chain of the record an organization's entries belong to.
    fn chain(&self, org: OrgId) -> Option<OrgId> {
        match self.engine {
            Engine::Sqlite => None,
            Engine::Postgres | Engine::Redis(_) | Engine::RedisCluster => Some(org),
        }
    }

    /// What the reference says, and does.
    fn expect(&mut self, command: &Command) -> Answer {
        let chain = self.chain(match command {
            Command::Decide(decide) => decide.org_id,
            Command::Resolve(resolve) => resolve.org_id,
        });
        let floor = self.floors.get(&chain).copied().unwrap_or(Timestamp::UNIX_EPOCH);
        let now = self.clock.now().max(floor);
        let (answer, has_effect) = match command {
            Command::Decide(decide) => {
                let decided = self.book.decide(decide, now);
                let ruled = matches!(decided, Decided::Ruled(_));
                self.last = if ruled { now } else { self.last };
                (Answer::Decided(decided), ruled)
            }
            Command::Resolve(resolve) => {
                let resolved = self.book.resolve(resolve, now);
                let changed = resolved.as_ref().is_ok_and(|resolved| resolved.changed);
                (Answer::Resolved(resolved), changed)
            }
        };
        if has_effect {
            self.floors.insert(chain, now);
        }
        answer
    }

    /// Asks both, one command after the other was answered.
    pub(crate) async fn ask(&mut self, command: Command) -> String {
        let expected = self.expect(&command);
        let expected = self.blurred_answer(expected);
        let answer = self.open().ask(command).await;
        let answer = self.blurred_answer(answer);
        assert_eq!(answer, expected, "the answers differ");
        summary(&expected)
    }

    /// Asks the ledger all of them without waiting for an answer, now and then giving its lane the
    /// time to begin a batch; they arrive in order, so the reference is asked in order.
    pub(crate) async fn ask_together(
        &mut self,
        commands: Vec<Command>,
        dice: &mut Dice,
    ) -> Vec<String> {
        if self.is_in_redis() {
            // Calls that are under way together have no order there.
            let mut summaries = Vec::new();
            for command in commands {
                summaries.push(self.ask(command).await);
            }
            return summaries;
        }
        let expected = commands.iter().map(|command| self.expect(command)).collect::<Vec<_>>();
        let expected = expected.into_iter().map(|answer| self.blurred_answer(answer));
        let expected = expected.collect::<Vec<_>>();
        let open = self.open();
        let mut asked = Vec::new();
        for command in commands {
            let mut future = Box::pin(open.ask(command));
            let sent = std::future::poll_fn(|context| {
                Poll::Ready(match future.as_mut().poll(context) {
                    Poll::Ready(answer) => Some(answer),
                    Poll::Pending => None,
                })
            });
            let early = sent.await;
            asked.push((future, early));
            if dice.chance(10) {
                tokio::task::yield_now().await;
            }
        }
        let mut summaries = Vec::new();
        for ((future, early), expected) in asked.into_iter().zip(expected) {
            let answer = match early {
                Some(answer) => answer,
                None => future.await,
            };
            let answer = self.blurred_answer(answer);
            assert_eq!(answer, expected, "the answers to command {} differ", summaries.len());
            summaries.push(summary(&expected));
        }
        summaries
    }

    /// Looks at the counters and windows of a claim on both sides.
    pub(crate) async fn look(&self, (org, claim): &(OrgId, Claim), now: Timestamp) {
        let seen = self.open().ledger.peek(*org, claim, now).await.unwrap();
        assert_eq!(seen, self.book.peek(claim, now), "counters or windows differ: {claim:?}");
    }

    /// Asks what is due now, and ends all of it in both.
    pub(crate) async fn end_due(&mut self) -> Vec<String> {
        let now = self.now();
        let found = self.open().catalogue.due_transactions(now, DUE_MAX).await.unwrap();
        let found = found.into_iter().collect::<BTreeSet<_>>();
        let records = self.book.transactions.values();
        let due = records.filter(|record| record.due_at.is_some_and(|due| due <= now));
        let due = due.map(|record| (record.org_id, record.id)).collect::<BTreeSet<_>>();
        assert_eq!(found, due, "what is due differs");
        let mut summaries = Vec::new();
        for (org_id, id) in due {
            let (act, actor) = (Act::Expire, Actor::System);
            let command = Resolve { org_id, agent: None, id, act, actor, ground: None };
            summaries.push(self.ask(Command::Resolve(command)).await);
        }
        summaries
    }

    /// Compares counters, tallies and the length of the record.
    pub(crate) async fn compare(&self) {
        let state: State = serde_json::from_str(&self.open().state().await).unwrap();
        let spends = self.book.transactions.len();
        assert_eq!((state.spends, state.last), (spends, spends), "the record has a hole");
        let tallies = state
            .tallies
            .into_iter()
            .map(|(mandate, count, sum)| (mandate_id(&mandate), Tally { count, sum }));
        assert_eq!(tallies.collect::<HashMap<_, _>>(), self.book.tallies, "tallies differ");
        for (mandate, subject, starts_at, ends_at, spent, held) in state.counters {
            let key = counter_key(mandate_id(&mandate), &subject, starts_at);
            let ends_at =
                (ends_at < i64::MAX).then(|| Timestamp::from_microsecond(ends_at).unwrap());
            let charge = Charge { key, limit: 0, ends_at };
            let claim = Claim {
                mandate: charge.key.mandate,
                charges: vec![charge],
                windows: Vec::new(),
                admissible: false,
                hold: false,
                terms: Terms::default(),
                good_until: None,
            };
            let (levels, _) = self.book.peek(&claim, self.now());
            assert_eq!(Level { spent, held }, levels[0], "the counter {claim:?} differs");
        }
    }

    /// Compares the whole record.
    pub(crate) async fn compare_record(&self, catalogue: &Catalogue) {
        let mut stored = HashMap::<TransactionId, TransactionRecord>::new();
        let mut order = HashMap::<_, BTreeMap<i64, Timestamp>>::new();
        for org in &catalogue.orgs {
            let page = TransactionPage { before: None, skip: 0, limit: 1_000_000 };
            let filter = TransactionFilter::default();
            let listed = self.open().catalogue.transactions(org.id, filter, page).await.unwrap();
            for (seq, record) in listed {
                order.entry(self.chain(org.id)).or_default().insert(seq, record.decided_at);
                stored.insert(record.id, self.blurred(record));
            }
        }
        let book = self.book.transactions.iter();
        let book = book.map(|(id, record)| (*id, self.blurred(record.as_ref().clone()))).collect();
        assert_eq!(stored, book, "the records differ");
        for chain in order.values() {
            assert!(chain.values().is_sorted(), "time runs backwards in the record");
        }
    }
}

fn mandate_id(hex_text: &str) -> MandateId {
    let mut bytes = [0; 16];
    hex::decode_to_slice(hex_text, &mut bytes).unwrap();
    MandateId::from_bytes(bytes)
}

fn counter_key(mandate: MandateId, text: &str, starts_at: i64) -> CounterKey {
    let parts = text.splitn(3, ':').collect::<Vec<_>>();
    let period = match parts[1] {
        "none" => Period::None,
        "daily" => Period::Daily,
        "weekly" => Period::Weekly,
        "monthly" => Period::Monthly,
        other => panic!("{other} is no period"),
    };
    let subject = match parts[0] {
        "b" => Subject::Budget,
        "v" => Subject::Vendor(Vendor::parse(parts[2]).unwrap()),
        "c" => Subject::Category(parts[2].to_owned()),
        other => panic!("{other} is no subject"),
    };
    let starts_at = Timestamp::from_microsecond(starts_at).unwrap();
    CounterKey { mandate, subject, period, starts_at }
}

fn summary(answer: &Answer) -> String {
    match answer {
        Answer::Decided(Decided::Ruled(record)) => record.verdict.word().to_owned(),
        Answer::Decided(Decided::Replayed(_)) => "replayed".to_owned(),
        Answer::Decided(Decided::KeyReused) => "key reused".to_owned(),
        Answer::Decided(Decided::Stale) => "stale".to_owned(),
        Answer::Decided(Decided::Undecided) => "undecided".to_owned(),
        Answer::Resolved(Ok(resolved)) if resolved.changed => done(&resolved.record).to_owned(),
        Answer::Resolved(Ok(_)) => "resolved before".to_owned(),
        Answer::Resolved(Err(ResolveError::NotFound)) => "not found".to_owned(),
        Answer::Resolved(Err(ResolveError::WrongState { .. })) => "wrong state".to_owned(),
        Answer::Resolved(Err(ResolveError::Exceeds { .. })) => "exceeds".to_owned(),
        Answer::Resolved(Err(ResolveError::NotApprover)) => "not an approver".to_owned(),
        Answer::Resolved(Err(ResolveError::OwnRequest)) => "own request".to_owned(),
        Answer::Resolved(Err(ResolveError::Stale)) => "outdated".to_owned(),
        Answer::Resolved(Err(ResolveError::OverLimit { .. })) => "over a limit".to_owned(),
    }
}

/// What an act led to, in a word that no decision has.
fn done(record: &TransactionRecord) -> &'static str {
    match record.state {
        TransactionState::PendingApproval => "seconded",
        TransactionState::Approved => "granted",
        TransactionState::Settled if record.followup.late => "settled late",
        TransactionState::Settled if record.settled > Some(record.spend.amount) => "settled above",
        state @ (TransactionState::Settled
        | TransactionState::Voided
        | TransactionState::Refunded
        | TransactionState::Rejected
        | TransactionState::Denied
        | TransactionState::Timeout
        | TransactionState::Withdrawn
        | TransactionState::Expired) => state.word(),
    }
}
