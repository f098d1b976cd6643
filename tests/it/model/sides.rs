//! The two ledgers under comparison: the reference, a whole `Book` in memory, and `SqlLedger` on a
//! file, under one clock; and what must be the same in both.
//!
//! Not here: what they are asked (`commands`) and what is changed around them (`catalogue`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::task::Poll;

use jiff::Timestamp;
use quetra::clock::{Clock, ManualClock};
use quetra::domain::id::{MandateId, TransactionId};
use quetra::domain::ledger::{Book, Charge, Claim, CounterKey, Decided, Level, Subject};
use quetra::domain::ledger::{ResolveError, Resolved, Tally};
use quetra::domain::period::Period;
use quetra::domain::transaction::TransactionRecord;
use quetra::domain::vendor::Vendor;
use quetra::ledger::sql::{SqlLedger, sqlite::SqliteHome};
use quetra::ledger::{Ledger, LedgerError};
use quetra::store::sqlite::SqliteStore;
use quetra::store::{
    CatalogueWriter, Change, TransactionFilter, TransactionPage, TransactionStore,
};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::catalogue::Catalogue;
use super::commands::Command;
use crate::dice::Dice;

/// What a ledger says to a command.
#[derive(Debug, PartialEq)]
enum Answer {
    Decided(Decided),
    Resolved(Result<Resolved, ResolveError>),
}

/// What the rows beside the record must be; as text, to be compared and shown.
const STATE: &str = "SELECT json_object(
  'spends', (SELECT count(*) FROM spend),
  'last', (SELECT coalesce(max(seq), 0) FROM spend),
  'tallies', (SELECT json_group_array(json_array(hex(mandate_id), approvals, approved_sum))
    FROM (SELECT mandate_id, approvals_before + 1 AS approvals, sum_before + amount AS approved_sum
    FROM spend WHERE seq IN
      (SELECT max(seq) FROM spend WHERE verdict <> 'rejected' GROUP BY mandate_id))),
  'counters', (SELECT json_group_array(
    json_array(hex(mandate_id), subject, starts_at, ends_at, spent, held)) FROM counter))";

#[derive(serde::Deserialize)]
struct State {
    spends: usize,
    last: usize,
    tallies: Vec<(String, i64, i64)>,
    counters: Vec<(String, String, i64, i64, i64, i64)>,
}

/// The ledger under test, open.
struct Open {
    store: SqliteStore,
    ledger: SqlLedger,
    lane: JoinHandle<()>,
    probe: SqlitePool,
}

pub(crate) struct Sides {
    book: Book,
    floor: Timestamp,
    /// When the last entry of the record was decided: all that a restart knows of the floor.
    last: Timestamp,
    clock: Arc<ManualClock>,
    folder: TempDir,
    open: Option<Open>,
}

/// A folder in memory if there is one: what a disk does is not compared here.
fn folder() -> TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("quetra-it-");
    builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir()).unwrap()
}

async fn open(folder: &TempDir, clock: &Arc<ManualClock>) -> Open {
    let path = folder.path().join("quetra.db");
    let store = SqliteStore::open(&path).await.unwrap();
    store.migrate().await.unwrap();
    let clock: Arc<dyn Clock> = clock.clone();
    let (ledger, lane) = SqlLedger::open(SqliteHome::new(store.clone()), clock).await.unwrap();
    let options = SqliteConnectOptions::new().filename(&path).read_only(true);
    let probe = SqlitePool::connect_lazy_with(options);
    Open { store, ledger, lane: tokio::spawn(lane), probe }
}

impl Open {
    async fn close(self) {
        drop(self.ledger);
        self.lane.await.unwrap();
        self.probe.close().await;
        self.store.close().await;
    }

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
    pub(crate) async fn new(catalogue: &Catalogue, now: Timestamp) -> Self {
        let (clock, folder) = (Arc::new(ManualClock::new(now)), folder());
        let open = open(&folder, &clock).await;
        let (book, epoch) = (Book::default(), Timestamp::UNIX_EPOCH);
        let mut sides = Self { book, floor: epoch, last: epoch, clock, folder, open: Some(open) };
        sides.change(catalogue, catalogue.creation()).await;
        sides
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn set_clock(&self, at: Timestamp) {
        self.clock.set(at);
    }

    fn open(&self) -> &Open {
        self.open.as_ref().unwrap()
    }

    /// Writes changes to the store, and puts what stands afterwards into the book.
    pub(crate) async fn change(&mut self, catalogue: &Catalogue, changes: Vec<Change>) {
        self.open().store.commit(changes, None).await.unwrap();
        let orgs = catalogue.orgs.iter();
        self.book.orgs = orgs.map(|org| (org.id, (org.version, org.frozen))).collect();
        let agents = catalogue.agents.iter();
        let standing = |agent: &quetra::domain::agent::Agent| (agent.status, agent.current_mandate);
        self.book.agents = agents.map(|agent| (agent.id, standing(agent))).collect();
        let mandates = catalogue.mandates.iter().map(|compiled| &compiled.mandate);
        self.book.mandates =
            mandates.map(|mandate| (mandate.id, (mandate.version, mandate.status))).collect();
    }

    pub(crate) async fn reopen(&mut self) {
        self.open.take().unwrap().close().await;
        self.floor = self.last;
        self.open = Some(open(&self.folder, &self.clock).await);
    }

    pub(crate) async fn close(mut self) {
        self.open.take().unwrap().close().await;
    }

    /// What the reference says, and does.
    fn expect(&mut self, command: &Command) -> Answer {
        let now = self.clock.now().max(self.floor);
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
        self.floor = if has_effect { now } else { self.floor };
        answer
    }

    /// Asks both, one command after the other was answered.
    pub(crate) async fn ask(&mut self, command: Command) -> String {
        let expected = self.expect(&command);
        let answer = self.open().ask(command).await;
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
        let expected = commands.iter().map(|command| self.expect(command)).collect::<Vec<_>>();
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
            assert_eq!(answer, expected, "the answers to command {} differ", summaries.len());
            summaries.push(summary(&expected));
        }
        summaries
    }

    /// Looks at the counters and windows of a claim on both sides.
    pub(crate) async fn look(&self, claim: &Claim, now: Timestamp) {
        let seen = self.open().ledger.peek(claim, now).await.unwrap();
        assert_eq!(seen, self.book.peek(claim, now), "counters or windows differ: {claim:?}");
    }

    /// Compares counters, tallies and the length of the record.
    pub(crate) async fn compare(&self) {
        let text: String = sqlx::query_scalar(STATE).fetch_one(&self.open().probe).await.unwrap();
        let state: State = serde_json::from_str(&text).unwrap();
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
                good_until: None,
            };
            let (levels, _) = self.book.peek(&claim, self.now());
            assert_eq!(Level { spent, held }, levels[0], "the counter {claim:?} differs");
        }
    }

    /// Compares the whole record.
    pub(crate) async fn compare_record(&self, catalogue: &Catalogue) {
        let mut stored = HashMap::<TransactionId, TransactionRecord>::new();
        let mut order = BTreeMap::new();
        for org in &catalogue.orgs {
            let page = TransactionPage { before: None, skip: 0, limit: 1_000_000 };
            let filter = TransactionFilter::default();
            for (seq, record) in self.open().store.transactions(org.id, filter, page).await.unwrap()
            {
                order.insert(seq, record.decided_at);
                stored.insert(record.id, record);
            }
        }
        let book = self.book.transactions.iter();
        let book = book.map(|(id, record)| (*id, record.as_ref().clone())).collect();
        assert_eq!(stored, book, "the records differ");
        assert!(order.values().is_sorted(), "time runs backwards in the record");
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
        Answer::Resolved(Ok(resolved)) if resolved.changed => {
            resolved.record.state.word().to_owned()
        }
        Answer::Resolved(Ok(_)) => "resolved before".to_owned(),
        Answer::Resolved(Err(ResolveError::NotFound)) => "not found".to_owned(),
        Answer::Resolved(Err(ResolveError::WrongState { .. })) => "wrong state".to_owned(),
        Answer::Resolved(Err(ResolveError::Exceeds { .. })) => "exceeds".to_owned(),
    }
}
