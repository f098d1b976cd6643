//! Streams: what happens, told on and on, from now or from where an earlier stream ended.
//!
//! A stream reads the journal at its reader's own pace, so nothing is queued for anybody and
//! nothing is lost or told twice. Its token is the number of the last entry it has looked at. Not
//! here: how a message looks on the wire (`grpc`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::access::Principal;
use super::budget::BudgetView;
use super::{Engine, EngineError, EngineResult};
use crate::domain::act::MoneyMoved;
use crate::domain::event::{Event, EventKind};
use crate::domain::id::{AgentId, MandateId, TransactionId};
use crate::domain::journal::MarkReached;
use crate::domain::mandate::Mandate;
use crate::store::{EventStore, Fact, Growth, Happening};

/// Entries that are looked at together.
const PART: u32 = 256;

/// How long nothing may happen until the key is looked at again.
const LOOK: Duration = Duration::from_secs(1);

/// How long nothing may be told until the token is told alone.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// What a stream is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Only this agent's.
    pub agent: Option<AgentId>,
    /// Only under this mandate.
    pub mandate: Option<MandateId>,
    /// Only of this transaction.
    pub transaction: Option<TransactionId>,
}

/// What an entry is about.
#[derive(Clone, Copy, Debug, Default)]
struct Whose {
    agent: Option<AgentId>,
    mandate: Option<MandateId>,
    transaction: Option<TransactionId>,
}

/// The mandate after an act of administration.
#[derive(serde::Deserialize)]
struct Changed {
    after: Option<Mandate>,
}

impl Whose {
    fn of(happening: &Happening) -> Self {
        match &happening.fact {
            Fact::Spend(record) => Self {
                agent: Some(record.spend.agent_id),
                mandate: record.mandate().map(|(id, _)| id),
                transaction: Some(record.id),
            },
            Fact::Act(act) if act.kind.word().starts_with("transaction.") => {
                let moved = serde_json::from_str::<MoneyMoved>(&act.document).ok();
                Self {
                    agent: moved.as_ref().map(|moved| moved.agent),
                    mandate: moved.and_then(|moved| moved.mandate),
                    transaction: Some(TransactionId::from_bytes(act.subject)),
                }
            }
            Fact::Act(act) if act.kind.word().starts_with("mandate.") => {
                let changed = serde_json::from_str::<Changed>(&act.document).ok();
                let agent = changed.and_then(|changed| changed.after).map(|after| after.agent_id);
                let mandate = Some(MandateId::from_bytes(act.subject));
                Self { agent, mandate, transaction: None }
            }
            Fact::Act(_) => Self::default(),
            Fact::Derived(body) => {
                let mark = serde_json::from_str::<MarkReached>(body).ok();
                Self {
                    agent: mark.as_ref().map(|mark| mark.agent),
                    mandate: mark.map(|mark| mark.mandate),
                    transaction: None,
                }
            }
        }
    }
}

impl About {
    fn covers(&self, whose: &Whose) -> bool {
        let agent = self.agent.is_none_or(|agent| whose.agent == Some(agent));
        let mandate = self.mandate.is_none_or(|mandate| whose.mandate == Some(mandate));
        let transaction = self.transaction.is_none_or(|id| whose.transaction == Some(id));
        agent && mandate && transaction
    }
}

/// One message of a stream.
#[derive(Debug)]
pub struct Told<T> {
    /// What is told; none when only the token is.
    pub news: Option<T>,
    /// The last entry that was looked at.
    pub seq: i64,
    /// Where to go on from.
    pub token: String,
}

/// Where a stream is.
struct Reader {
    engine: Arc<Engine>,
    caller: Principal,
    about: About,
    /// What a token is good for.
    query: String,
    seq: i64,
    growth: watch::Receiver<Growth>,
    told_at: Instant,
    has_begun: bool,
}

/// What a look at the journal found.
enum Found {
    /// Entries, some of which may be of the stream.
    Some(Vec<Happening>),
    /// The time that was waited for.
    Turn,
    /// Nothing for a while: a sign of life is due.
    Nothing,
}

impl Reader {
    async fn open(
        engine: Arc<Engine>,
        caller: Principal,
        (name, about): (&'static str, About),
        token: &str,
    ) -> EngineResult<Self> {
        let query = format!("{name} {about:?}");
        let end = engine.last_event(caller.org_id).await?;
        let seq = match token {
            "" => end,
            // One from the future is of a journal that was restored from a copy.
            token => engine.pages.unseal(caller.org_id, &query, token)?,
        };
        if seq > end {
            return Err(EngineError::PageToken);
        }
        let growth = engine.growth();
        let told_at = Instant::now();
        Ok(Self { engine, caller, about, query, seq, growth, told_at, has_begun: false })
    }

    fn told<T>(&mut self, news: Option<T>, seq: i64) -> Told<T> {
        self.told_at = Instant::now();
        let token = self.engine.pages.seal(self.caller.org_id, &self.query, seq);
        Told { news, seq, token }
    }

    /// Waits until its own journal has grown, or a time.
    async fn wait(&mut self, look_due: Instant) -> EngineResult<()> {
        let ending = self.engine.ending.clone();
        loop {
            let grown = tokio::select! {
                () = ending.cancelled() => return Err(EngineError::Stopping),
                grown = timeout_at(look_due, self.growth.changed()) => grown,
            };
            match grown {
                Err(_due) => return Ok(()),
                Ok(Err(_ended)) => return Err(EngineError::Stopping),
                Ok(Ok(())) => {}
            }
            // Others' journals grow too, and tell everybody.
            let growth = self.growth.borrow_and_update();
            if growth.get(&self.caller.org_id).is_some_and(|end| *end > self.seq) {
                return Ok(());
            }
        }
    }

    /// Looks on until something has happened, a time has come, or a sign of life is due.
    async fn look(&mut self, turns_at: Option<Timestamp>) -> EngineResult<Found> {
        loop {
            self.engine.still_good(&self.caller).await?;
            if turns_at.is_some_and(|turns_at| turns_at <= self.engine.now()) {
                return Ok(Found::Turn);
            }
            // Seen before the journal is read: what is appended meanwhile is another growth.
            self.growth.borrow_and_update();
            let (org, after) = (self.caller.org_id, self.seq);
            let found = self.engine.catalogue.happenings(org, after, PART).await?;
            if let Some(last) = found.last() {
                self.seq = last.seq;
                return Ok(Found::Some(found));
            }
            let now = Instant::now();
            let sign_due = self.told_at.checked_add(SIGN_OF_LIFE).unwrap_or(now);
            if sign_due <= now {
                return Ok(Found::Nothing);
            }
            let look_due = now.checked_add(LOOK).unwrap_or(now).min(sign_due);
            let turn_due = turns_at.and_then(|turns_at| {
                let left = turns_at.duration_since(self.engine.now());
                now.checked_add(left.try_into().ok()?)
            });
            self.wait(turn_due.map_or(look_due, |turn_due| turn_due.min(look_due))).await?;
        }
    }
}

/// A stream of events about transactions.
pub struct TransactionWatch {
    reader: Reader,
    pending: VecDeque<Told<Event>>,
}

impl std::fmt::Debug for TransactionWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransactionWatch").finish_non_exhaustive()
    }
}

impl TransactionWatch {
    /// The next message; it never ends but with an error.
    ///
    /// # Errors
    /// When the key is not good any more, the server stops, or a store fails.
    pub async fn next(&mut self) -> EngineResult<Told<Event>> {
        loop {
            if let Some(told) = self.pending.pop_front() {
                return Ok(told);
            }
            if !self.reader.has_begun {
                self.reader.has_begun = true;
                let seq = self.reader.seq;
                return Ok(self.reader.told(None, seq));
            }
            let Found::Some(found) = self.reader.look(None).await? else {
                let seq = self.reader.seq;
                return Ok(self.reader.told(None, seq));
            };
            for happening in found {
                let is_told = EventKind::of(&happening.kind).is_some_and(EventKind::is_of_money);
                if !is_told || !self.reader.about.covers(&Whose::of(&happening)) {
                    continue;
                }
                let (org, seq) = (self.reader.caller.org_id, happening.seq);
                if let Some(event) = self.reader.engine.event(org, happening).await? {
                    let told = self.reader.told(Some(event), seq);
                    self.pending.push_back(told);
                }
            }
        }
    }
}

/// A stream of a budget.
pub struct BudgetWatch {
    reader: Reader,
    /// Told at the beginning, unless an earlier stream has told it.
    is_due: bool,
    named: Option<MandateId>,
    /// When the first of its periods ends: nothing happens then, and it is whole again.
    turns_at: Option<Timestamp>,
}

impl std::fmt::Debug for BudgetWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BudgetWatch").finish_non_exhaustive()
    }
}

impl BudgetWatch {
    /// The next message; it never ends but with an error.
    ///
    /// # Errors
    /// As [`TransactionWatch::next`], and when there is no such budget any more.
    pub async fn next(&mut self) -> EngineResult<Told<BudgetView>> {
        let reader = &mut self.reader;
        while !self.is_due {
            self.is_due = match reader.look(self.turns_at).await? {
                Found::Some(found) => found.iter().any(|one| reader.about.covers(&Whose::of(one))),
                Found::Turn => true,
                Found::Nothing => {
                    let seq = reader.seq;
                    return Ok(reader.told(None, seq));
                }
            };
        }
        self.is_due = false;
        let seq = reader.seq;
        let view = reader.engine.budget(&reader.caller, reader.about.agent, self.named).await?;
        self.turns_at = view.turns_at();
        Ok(reader.told(Some(view), seq))
    }
}

impl Engine {
    /// Begins to tell what happens to transactions.
    ///
    /// # Errors
    /// When what it should be about is not the caller's to see, or the token is of another stream.
    pub async fn watch_transactions(
        self: &Arc<Self>,
        caller: &Principal,
        mut about: About,
        token: &str,
    ) -> EngineResult<TransactionWatch> {
        if let Some(id) = about.transaction {
            self.transaction(caller, id).await?;
        }
        if let Some(mandate) = about.mandate {
            let mandate = self.mandate(caller, mandate).await?;
            if about.agent.is_some_and(|agent| agent != mandate.agent_id) {
                return Err(EngineError::NotFound("mandate"));
            }
        }
        if about.agent.is_some() || caller.agent_id.is_some() {
            let agent = caller.agent(about.agent)?;
            self.require_agent(caller.org_id, agent).await?;
            about.agent = Some(agent);
        }
        let name = ("watch transactions", about);
        let reader = Reader::open(Arc::clone(self), *caller, name, token).await?;
        Ok(TransactionWatch { reader, pending: VecDeque::new() })
    }

    /// Begins to tell a budget.
    ///
    /// # Errors
    /// As [`Engine::budget`], and when the token is of another stream.
    pub async fn watch_budget(
        self: &Arc<Self>,
        caller: &Principal,
        (agent, named): (Option<AgentId>, Option<MandateId>),
        token: &str,
    ) -> EngineResult<BudgetWatch> {
        let view = self.budget(caller, agent, named).await?;
        let agent = Some(view.mandate.agent_id);
        let about = About { agent, mandate: named, transaction: None };
        let name = ("watch budget", about);
        let reader = Reader::open(Arc::clone(self), *caller, name, token).await?;
        let turns_at = view.turns_at();
        // A period may have ended since an earlier stream told it.
        let is_due = token.is_empty() || turns_at.is_some();
        Ok(BudgetWatch { reader, is_due, named, turns_at })
    }
}
