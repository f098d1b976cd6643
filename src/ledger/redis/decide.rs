//! One decision: the script is asked, and given what it lacks, until it decides.
//!
//! Not here: the decision itself (`scripts/decide.lua`), leases (`leasing`) and standings
//! (`standing`), and what happens while Redis is away (`redis`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::draft::{draft, keys, made_at, micros, stands};
use super::facts::{Facts, packed_levels};
use super::keys::{Keys, agent_stands, level_byte, mandate_stands, org_stands, packed, shard_of};
use super::leasing::Leasing;
use super::link::{LinkError, Live};
use super::scripts::{Answer, Script};
use super::shards::{Epoch, Shards, Trouble, unavailable};
use super::standing::News;
use crate::domain::decision::Verdict;
use crate::domain::ledger::{Decide, Decided, Level, WindowBound};
use crate::domain::transaction::TransactionRecord;
use crate::ledger::sql::postgres::escrow::{KeyName, Place, Proof, Standings};
use crate::ledger::{Durability, LedgerError};
use crate::store::sql::spends::entry;

mod draft;
mod slices;

/// How long words of the script are answered for one call: each counter may want a lease, which
/// others may spend before this call comes back.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long nothing can be leased for one call, before it is told so. What is on its way comes
/// sooner, and what an epoch that is over has may not come at all.
const SHORT_TIME: Duration = Duration::from_millis(500);

/// How far clocks may be apart. A key that says when it was made is believed within this.
const CLOCKS: i64 = 60_000_000;

/// A key that is older than this may have lost its record (rule 16).
const RECORDS_LIVE: i64 = 23 * 3_600_000_000;

/// What the script is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Decide,
    Refused,
    Windows,
    Proved,
}

/// Whether Postgres was asked about the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Looked {
    #[default]
    NotYet,
    NeedNot,
    Done,
}

/// What one decision needs, made once.
pub(super) struct Deciding<'a> {
    shards: &'a Shards,
    leasing: &'a Leasing,
    level: Durability,
    command: &'a Decide,
    shard: i16,
    keys: Vec<String>,
    stands: [String; 3],
    bounds: Vec<u8>,
    entry: Vec<u8>,
    /// What is answered if it is approved; it is given away then.
    draft: Option<TransactionRecord>,
    key_made_at: Option<i64>,
}

/// What changes from one asking to the next.
#[derive(Default)]
struct State {
    epoch: i64,
    mode: Mode,
    looked: Looked,
    levels: Vec<u8>,
    /// When it was proved, in microseconds; 0 before.
    proved_at: i64,
    /// Since when there has been nothing to lease, and no proof of that.
    short_since: Option<Instant>,
}

impl State {
    /// The claim was refused when this was proved.
    fn prove(&mut self, proof: &Proof) {
        self.mode = Mode::Proved;
        self.levels = packed_levels(&proof.levels);
        self.proved_at = proof.at;
    }
}

/// Where a decision is being made.
struct There {
    live: Arc<Live>,
    epoch: Epoch,
}

impl<'a> Deciding<'a> {
    pub(super) fn new(
        shards: &'a Shards,
        leasing: &'a Leasing,
        level: Durability,
        command: &'a Decide,
    ) -> Result<Self, LedgerError> {
        let now = shards.clock.now().as_microsecond();
        let key_made_at = made_at(&command.idempotency_key);
        if key_made_at.is_some_and(|at| at > now.saturating_add(CLOCKS)) {
            return Err(LedgerError::KeyFromFuture);
        }
        let draft = draft(command);
        let charges = command.claim.iter().flat_map(|claim| &claim.charges);
        let bounds = charges
            .flat_map(|charge| packed(&[charge.key.starts_at.as_microsecond(), charge.limit]));
        Ok(Self {
            shards,
            leasing,
            level,
            command,
            shard: shard_of(command.org_id),
            keys: keys(command),
            stands: stands(command),
            bounds: bounds.collect(),
            entry: entry::encode(&draft)?,
            draft: Some(draft),
            key_made_at,
        })
    }

    pub(super) async fn run(mut self) -> Result<Decided, Trouble> {
        self.shards.refuse_lag(self.shard)?;
        let since = Instant::now();
        let mut state = State::default();
        while since.elapsed() < PATIENCE {
            let live = self.shards.nodes.live(self.shard).await?;
            let epoch = self.shards.epoch(self.shard, &live).await?;
            let there = There { live, epoch };
            // INVARIANT: what was proved or looked up in another epoch says nothing in this one.
            if state.epoch != there.epoch.number {
                state = self.begin(&there).await?;
            }
            let answer = self.ask(&there, &state).await?;
            if let Some(decided) = self.meet(&there, &mut state, &answer).await? {
                return Ok(decided);
            }
        }
        Err(unavailable("others spend what is leased before this call can, try again"))
    }

    /// What is known when a decision begins in an epoch.
    async fn begin(&self, there: &There) -> Result<State, Trouble> {
        let mut state = State {
            epoch: there.epoch.number,
            looked: self.need_not_look(&there.epoch),
            ..State::default()
        };
        if self.command.claim.as_ref().is_none_or(|claim| !claim.admissible) {
            state.mode = Mode::Refused;
            state.levels = packed_levels(&self.exact_levels(there).await?);
        }
        Ok(state)
    }

    /// Does what a word of the script asks for, or answers.
    async fn meet(
        &mut self,
        there: &There,
        state: &mut State,
        answer: &Answer,
    ) -> Result<Option<Decided>, Trouble> {
        match answer.word() {
            "APPROVED" | "REJECTED" => return self.decided(there, answer).await.map(Some),
            "RECORDED" => {
                self.shards.flush(self.shard, &there.live).await?;
                let found = self.look_up().await?;
                return found.map(Some).ok_or_else(|| {
                    unavailable("the record of this key is in Redis and not in Postgres")
                });
            }
            "REUSED" => return Ok(Some(Decided::KeyReused)),
            "ROLLOVER" => return Ok(Some(Decided::Stale)),
            "EPOCH" => self.shards.doubt(self.shard, &there.epoch)?,
            "LOOK_UP" => {
                if answer.number(1)? == 1 {
                    // What Postgres says counts once everything older is recorded (rule 15).
                    let begin = Place { epoch: there.epoch.number, seq: 0 };
                    self.shards.wait(self.shard, begin).await?;
                }
                if let Some(found) = self.look_up().await? {
                    return Ok(Some(found));
                }
                state.looked = Looked::Done;
            }
            "STALE" => return self.stale().await,
            "WINDOW" => {
                state.mode = Mode::Windows;
                state.levels = packed_levels(&self.exact_levels(there).await?);
            }
            "NEED_WINDOWS" => self.load_windows(there).await?,
            "LOWERED" => self.lowered(there, answer).await?,
            "NEED_LEASE" => return self.need_lease(there, state, answer).await,
            "PROVE" => state.mode = Mode::Decide,
            _ => return Err(LinkError::Answer("no word of decide").into()),
        }
        Ok(None)
    }

    async fn ask(&self, there: &There, state: &State) -> Result<Answer, Trouble> {
        let claim = self.command.claim.as_ref();
        let mut head = packed(&[
            there.epoch.number,
            self.command.spend.amount,
            self.shards.clock.now().as_microsecond(),
            claim.and_then(|claim| claim.good_until).map_or(0, jiff::Timestamp::as_microsecond),
            state.proved_at,
        ]);
        let hold = claim.is_some_and(|claim| claim.hold);
        head.extend([
            code(state.mode),
            looked(state.looked),
            u8::from(hold),
            level_byte(self.level),
            u8::from(self.may_lack(&there.live)),
        ]);
        let windows = self.windows(&there.epoch);
        let [org, agent, mandate] = &self.stands;
        let arguments: [&[u8]; 9] = [
            &head,
            &self.command.request_hash,
            org.as_bytes(),
            agent.as_bytes(),
            mandate.as_bytes(),
            &self.bounds,
            &windows,
            &state.levels,
            &self.entry,
        ];
        let run = there.live.run(Script::Decide, &self.keys, &arguments);
        Ok(run.await?)
    }

    /// The marker of the windows, and their tests; empty without any.
    fn windows(&self, epoch: &Epoch) -> Vec<u8> {
        let Some(claim) = self.command.claim.as_ref().filter(|claim| !claim.windows.is_empty())
        else {
            return Vec::new();
        };
        let mut windows = packed(&[epoch.number, self.version()]);
        for test in &claim.windows {
            windows.extend(packed(&[micros(test.length)]));
            let (kind, bound) = match test.bound {
                WindowBound::Count(most) => (0, most),
                WindowBound::Sum(most) => (1, most),
            };
            windows.push(kind);
            windows.extend(packed(&[bound]));
        }
        windows
    }

    fn version(&self) -> i64 {
        let standing = &self.command.evidence.standing;
        standing.mandate.as_ref().map_or(0, |mandate| mandate.version)
    }

    /// Whether the key itself says that it was first used in this epoch (rule 16).
    fn need_not_look(&self, epoch: &Epoch) -> Looked {
        let now = self.shards.clock.now().as_microsecond();
        let since = epoch.taken_at.saturating_add(CLOCKS.saturating_mul(2));
        let is_young = |at: i64| at > since && at > now.saturating_sub(RECORDS_LIVE);
        if self.key_made_at.is_some_and(is_young) { Looked::NeedNot } else { Looked::NotYet }
    }

    /// Answers what was decided, once it may be (rules 17 and 19).
    async fn decided(&mut self, there: &There, answer: &Answer) -> Result<Decided, Trouble> {
        let place = answer.place(1)?;
        self.fill_ahead(&there.epoch, answer.bytes(3).unwrap_or_default());
        self.shards.appended(self.shard, place)?;
        let facts = answer.bytes(2).and_then(Facts::parse);
        let facts = facts.ok_or(LinkError::Answer("no facts"))?;
        let (at, approved) = (facts.at, facts.approved);
        let is_approval = |draft: &mut TransactionRecord| draft.verdict == Verdict::Approved;
        let at_once = approved && !self.may_lack(&there.live) && self.is_remembered(place)?;
        if at_once && let Some(mut record) = self.draft.take_if(is_approval) {
            facts.conclude(&mut record);
            return Ok(Decided::Ruled(Arc::new(record)));
        }
        self.shards.wait(self.shard, place).await?;
        match self.look_up().await? {
            Some(Decided::Replayed(record)) if record.decided_at == at => {
                Ok(Decided::Ruled(record))
            }
            Some(found) => Ok(found),
            None => Err(unavailable("a decision was not recorded")),
        }
    }

    /// Whether Redis may lack an approval later, against its level: it is answered when it is
    /// recorded.
    fn may_lack(&self, live: &Live) -> bool {
        match self.level {
            // One that came back with other settings keeps less than it did. With `appendfsync
            // always` Redis has flushed what it answers; a replica may not have it.
            level @ (Durability::Fast | Durability::Durable) => {
                let may_lose = level == Durability::Durable && live.may_have_replicas();
                may_lose || live.unkept(level).is_some()
            }
            Durability::Strict => true,
        }
    }

    /// Whether an approval that is answered before it is recorded would be missed if it never is.
    /// At `fast` it need not be.
    fn is_remembered(&self, place: Place) -> Result<bool, Trouble> {
        Ok(self.level == Durability::Fast || self.shards.answers(self.shard, place)?)
    }

    /// What Postgres has under this key.
    async fn look_up(&self) -> Result<Option<Decided>, Trouble> {
        let name = KeyName {
            id: self.command.id,
            agent: self.command.spend.agent_id,
            key: self.command.idempotency_key.as_str().into(),
        };
        let shards = self.shards;
        let found = shards.look_ups.ask(&self.command.org_id, name, &shards.escrow).await?;
        let is_used = !found.is_empty();
        let is_same = |one: &TransactionRecord| one.request_hash == self.command.request_hash;
        let same = found.into_iter().find(is_same).map(|one| Decided::Replayed(Arc::new(one)));
        Ok(same.or_else(|| is_used.then_some(Decided::KeyReused)))
    }

    /// Tells Redis how things stand. If they do as the rules were tested, it is asked again.
    async fn stale(&self) -> Result<Option<Decided>, Trouble> {
        let standing = &self.command.evidence.standing;
        let wanted = standing.mandate.as_ref().map(|mandate| mandate.id);
        let named = wanted.filter(|_| self.command.evidence.named);
        let (org, agent) = (self.command.org_id, self.command.spend.agent_id);
        let Some(now) = self.shards.escrow.standings(org, agent, named).await? else {
            return Ok(Some(Decided::Stale));
        };
        self.shards.tell(self.shard, &self.news(&now)).await?;
        let is_same = now.org == (standing.org_version, standing.frozen)
            && now.agent.1 == standing.agent
            && (self.command.evidence.named || now.agent.2 == wanted)
            && now.mandate == standing.mandate.as_ref().map(|one| (one.version, one.status));
        Ok((!is_same).then_some(Decided::Stale))
    }

    fn news(&self, now: &Standings) -> Vec<News> {
        let keys = Keys(self.shard);
        let (org, agent) = (self.command.org_id, self.command.spend.agent_id);
        let mut news = vec![
            (keys.org(org), now.org.0, org_stands(now.org)),
            (keys.agent(agent), now.agent.0, agent_stands(now.agent.1, Some(now.agent.2))),
        ];
        let standing = self.command.evidence.standing.mandate.as_ref().map(|one| one.id);
        let id = if self.command.evidence.named { standing } else { now.agent.2 };
        if let Some((id, (version, status))) = id.zip(now.mandate) {
            news.push((keys.mandate(id), version, mandate_stands(version, status)));
        }
        news
    }

    /// The counters as Postgres has them, when everything is recorded.
    async fn exact_levels(&self, there: &There) -> Result<Vec<Level>, Trouble> {
        let Some(claim) = &self.command.claim else { return Ok(Vec::new()) };
        self.shards.flush(self.shard, &there.live).await?;
        Ok(self.shards.escrow.levels(self.command.org_id, claim).await?)
    }

    async fn load_windows(&self, there: &There) -> Result<(), Trouble> {
        let Some(claim) = &self.command.claim else { return Ok(()) };
        let longest = claim.windows.iter().map(|test| micros(test.length)).max();
        let longest = longest.unwrap_or_default();
        // Nothing is approved under this version before they are there, so nothing is missed.
        self.shards.flush(self.shard, &there.live).await?;
        let now = self.shards.clock.now().as_microsecond();
        let (org, since) =
            (self.command.org_id, now.saturating_sub(longest).saturating_sub(CLOCKS));
        let approvals = self.shards.escrow.approvals_since(org, claim.mandate, since).await?;
        let approvals = approvals.iter().flat_map(|(at, amount)| packed(&[*at, *amount]));
        let approvals = approvals.collect::<Vec<_>>();
        let keys = [Keys(self.shard).authority(), Keys(self.shard).windows(claim.mandate)];
        let head = packed(&[there.epoch.number]);
        let marker = packed(&[there.epoch.number, self.version()]);
        let live_ms = longest.checked_div(1_000).unwrap_or_default().saturating_add(86_400_000);
        let live_ms = live_ms.to_string();
        let count = claim.windows.len().to_string();
        let arguments: [&[u8]; 5] =
            [&head, &marker, &approvals, live_ms.as_bytes(), count.as_bytes()];
        let run = there.live.run(Script::Windows, &keys, &arguments);
        match run.await?.word() {
            "LOADED" | "HAD" => Ok(()),
            "EPOCH" => self.shards.doubt(self.shard, &there.epoch),
            _ => Err(LinkError::Answer("no word of windows").into()),
        }
    }
}

const fn code(mode: Mode) -> u8 {
    match mode {
        Mode::Decide => 0,
        Mode::Refused => 1,
        Mode::Windows => 2,
        Mode::Proved => 3,
    }
}

const fn looked(looked: Looked) -> u8 {
    match looked {
        Looked::NotYet => 0,
        Looked::NeedNot => 1,
        Looked::Done => 2,
    }
}
