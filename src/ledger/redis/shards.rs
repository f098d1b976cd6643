//! Which epoch of each shard this server spends in, how far it is recorded, and how one begins.
//!
//! An epoch is only used on a connection to the process that holds it (rules 1 to 5). Not here:
//! what is done in an epoch (`decide`), and what Postgres says of it (`ledger::sql::postgres`).

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::Value;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};

use super::gather::{Answers, Gather};
use super::keys::{Keys, SHARDS, packed};
use super::link::{Link, LinkError, Live};
use super::memory::Memory;
use super::nodes::Nodes;
use super::projector::outbox::list;
use super::rebase::Held;
use super::scripts::{Answer, Script, parse_place};
use crate::clock::Clock;
use crate::domain::id::OrgId;
use crate::domain::transaction::TransactionRecord;
use crate::ledger::sql::postgres::escrow::{Authority, Escrow, KeyName, Place, Taken};
use crate::store::{StoreError, StoreErrorKind};

/// How long an answer waits for its row.
const RECORD_TIME: Duration = Duration::from_secs(8);

/// How often a wait looks whether it is in vain.
const LOOK: Duration = Duration::from_millis(250);

/// How long Postgres says nothing before nobody waits for rows.
const CUT_OFF: Duration = Duration::from_secs(2);

const WAIT: &str = "wait for the record";

/// How long entries may wait for their rows before nothing more is decided: the records of their
/// keys live a day, and Redis' memory is not without end (rule 16).
const LAG_MAX: Duration = Duration::from_secs(60);

/// How long nothing is recorded before others than the one whose turn it is record too: it may be
/// cut off, or stopped, and Postgres does not know.
const STUCK_TIME: Duration = Duration::from_secs(1);

/// How long it is believed that nobody else has taken a shard over: who cannot ask Postgres for
/// longer must not spend, as what stops mandates may be told to another process meanwhile.
const BELIEF: Duration = Duration::from_millis(900);

/// When everybody has found out that a shard was taken over.
pub(super) const KNOWN_TO_ALL: Duration = Duration::from_secs(1);

/// Attempts to find out whose a shard is.
const ATTEMPTS: usize = 5;

/// Decisions that Redis knows to be recorded are not, or leases that it has were never granted.
pub(super) const PUT_BACK: &str = "Postgres has lost what Redis knows that it had; an operator has \
    to run `quetra ledger rebase`";

/// Why a call did not get what it wanted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// Redis cannot be used now; Postgres may still approve.
    #[error(transparent)]
    Away(#[from] LinkError),
    /// Nothing can be said.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What cannot be done now, and why.
pub(super) fn unavailable(why: &'static str) -> Trouble {
    StoreError::new(StoreErrorKind::Unavailable, "decide in Redis", why).into()
}

/// An epoch of a shard, on the process that holds it.
#[derive(Clone, Debug)]
pub(super) struct Epoch {
    pub(super) number: i64,
    /// When it was taken, in microseconds.
    pub(super) taken_at: i64,
    /// When it was first heard of, here.
    pub(super) since: Instant,
    identity: Arc<str>,
    /// When Postgres was last asked whether it is the present one.
    confirmed: Instant,
}

/// What is known of one shard.
struct Shard {
    epoch: RwLock<Option<Epoch>>,
    gate: Mutex<()>,
    position: watch::Sender<Place>,
    /// The first entry that this server waits for, and since when.
    waiting: std::sync::Mutex<Option<(Place, Instant)>>,
    /// When something was last heard to be recorded.
    moved: std::sync::Mutex<Instant>,
    memory: Memory,
}

/// All of them.
pub(super) struct Shards {
    shards: Vec<Shard>,
    pub(super) nodes: Nodes,
    pub(super) escrow: Escrow,
    pub(super) clock: Arc<dyn Clock>,
    /// When Postgres was asked that last said whose they are.
    confirmed: std::sync::Mutex<Instant>,
    /// Tells that somebody begins to wait for a row.
    pub(super) awaited: watch::Sender<()>,
    /// Who asks Postgres about keys.
    pub(super) look_ups: Gather<OrgId, KeyName, Vec<TransactionRecord>>,
}

impl Answers<OrgId, KeyName, Vec<TransactionRecord>> for Escrow {
    async fn answer(
        &self,
        about: &OrgId,
        keys: &[&KeyName],
    ) -> Result<Vec<Vec<TransactionRecord>>, StoreError> {
        self.records_of_keys(*about, keys).await
    }
}

impl Shards {
    pub(super) fn new(nodes: Nodes, escrow: Escrow, clock: Arc<dyn Clock>) -> Self {
        let shard = |_| Shard {
            epoch: RwLock::new(None),
            gate: Mutex::new(()),
            position: watch::Sender::new(Place::default()),
            waiting: std::sync::Mutex::new(None),
            moved: std::sync::Mutex::new(Instant::now()),
            memory: Memory::default(),
        };
        let shards = (0..SHARDS).map(shard).collect();
        let (awaited, look_ups) = (watch::Sender::default(), Gather::default());
        let confirmed = std::sync::Mutex::new(Instant::now());
        Self { shards, nodes, escrow, clock, confirmed, awaited, look_ups }
    }

    fn shard(&self, shard: i16) -> Result<&Shard, Trouble> {
        let place = usize::try_from(shard).ok();
        place.and_then(|place| self.shards.get(place)).ok_or_else(|| unavailable("no such shard"))
    }

    fn known(&self, shard: i16, live: &Live) -> Result<Option<Epoch>, Trouble> {
        let epoch = self.shard(shard)?.epoch.read().unwrap_or_else(PoisonError::into_inner);
        let is_known =
            |epoch: &&Epoch| epoch.identity == live.identity && epoch.confirmed.elapsed() < BELIEF;
        Ok(epoch.as_ref().filter(is_known).cloned())
    }

    /// Notes whose shards Postgres said they are, to who asked it at this time.
    pub(super) fn confirm(&self, present: &[Authority], asked: Instant) {
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner) = asked;
        for one in present {
            self.recorded(one.shard, one.position());
            let Ok(shard) = self.shard(one.shard) else { continue };
            shard.memory.hear(one);
            let mut known = shard.epoch.write().unwrap_or_else(PoisonError::into_inner);
            let Some(epoch) = known.as_mut() else { continue };
            if epoch.number == one.epoch && *epoch.identity == *one.replication_id {
                epoch.confirmed = epoch.confirmed.max(asked);
            } else if epoch.confirmed < asked {
                *known = None;
            }
        }
    }

    /// The present epoch of a shard on this connection, taken over if need be.
    pub(super) async fn epoch(&self, shard: i16, live: &Arc<Live>) -> Result<Epoch, Trouble> {
        if let Some(epoch) = self.known(shard, live)? {
            return Ok(epoch);
        }
        let state = self.shard(shard)?;
        let _alone = state.gate.lock().await;
        if let Some(epoch) = self.known(shard, live)? {
            return Ok(epoch);
        }
        for _ in 0..ATTEMPTS {
            let asked = Instant::now();
            if let Some(found) = self.settle(shard, live).await? {
                self.recorded(shard, found.position());
                let mut known = state.epoch.write().unwrap_or_else(PoisonError::into_inner);
                let before = known.as_ref().filter(|known| known.number == found.epoch);
                let epoch = Epoch {
                    number: found.epoch,
                    taken_at: found.taken_at,
                    since: before.map_or_else(Instant::now, |known| known.since),
                    identity: Arc::clone(&live.identity),
                    confirmed: asked,
                };
                *known = Some(epoch.clone());
                return Ok(epoch);
            }
        }
        Err(unavailable("the shard is being taken over, try again"))
    }

    /// Forgets an epoch that a script did not know.
    pub(super) fn doubt(&self, shard: i16, epoch: &Epoch) -> Result<(), Trouble> {
        let mut known = self.shard(shard)?.epoch.write().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_some_and(|known| known.number == epoch.number) {
            *known = None;
        }
        Ok(())
    }

    /// One step towards an epoch that Postgres and this Redis agree on; `None` to look again.
    async fn settle(&self, shard: i16, live: &Arc<Live>) -> Result<Option<Authority>, Trouble> {
        let held = Held::of(live, shard).await.inspect_err(|error| live.blame(error))?;
        let seen = self.escrow.authority(shard).await?;
        if held.is_ahead_of(seen.as_ref()) {
            // Only Postgres gives epochs and records: it has lost commits, and must not lease.
            return Err(unavailable(PUT_BACK));
        }
        let redis_at = held.epoch;
        let is_ours = |one: &&Authority| one.replication_id == *live.identity;
        if let Some(found) = seen.as_ref().filter(is_ours) {
            if found.begun && redis_at == found.epoch {
                return Ok(Some(found.clone()));
            }
            if !found.begun {
                return self.begin(found.clone(), live).await;
            }
        }
        let now = self.clock.now().as_microsecond();
        let of = (shard, live.identity.as_ref());
        let returning = live.is_in_cluster.then_some(redis_at);
        let seen = seen.as_ref().map(|seen| seen.epoch);
        match self.escrow.take(of, seen, returning, now).await? {
            Taken::Superseded => Err(live.refuse().into()),
            Taken::Yes(found) if found.replication_id == *live.identity && !found.begun => {
                metrics::counter!("quetra_redis_takeovers_total").increment(1);
                tracing::info!(shard, epoch = found.epoch, "took the shard over");
                self.begin(found, live).await
            }
            Taken::Yes(_) => Ok(None),
        }
    }

    async fn begin(
        &self,
        found: Authority,
        live: &Arc<Live>,
    ) -> Result<Option<Authority>, Trouble> {
        let keys = Keys(found.shard);
        let keys = [keys.outbox(), keys.authority()];
        let head = packed(&[found.epoch, found.floor]);
        let arguments = [head.as_slice(), live.identity.as_bytes()];
        let answer = live.run(Script::Begin, &keys, &arguments).await?;
        let is_there = match answer.word() {
            "BEGUN" => true,
            "LATER" => answer.number(1)? == found.epoch,
            _ => return Err(LinkError::Answer("no word of begin").into()),
        };
        if !is_there {
            return Ok(None);
        }
        self.escrow.begun(found.shard, found.epoch).await?;
        Ok(Some(found))
    }

    /// Notes how far a shard is recorded.
    pub(super) fn recorded(&self, shard: i16, place: Place) {
        let Ok(shard) = self.shard(shard) else { return };
        let is_later = shard.position.send_if_modified(|known| {
            let is_later = place > *known;
            *known = place.max(*known);
            is_later
        });
        if is_later {
            *shard.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }

    /// Whether this server waits for entries of a node, and nothing is recorded: whoever should do
    /// it does not.
    pub(super) fn is_stuck(&self, link: &Arc<Link>) -> bool {
        let is_there = |number| self.nodes.is_on(number, link);
        let mut shards = (0..).zip(&self.shards).filter(|(number, _)| is_there(*number));
        shards.any(|(_, shard)| {
            let waiting = *shard.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let moved = *shard.moved.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.is_some_and(|(first, since)| {
                let still = since.max(moved).elapsed();
                first > *shard.position.borrow() && still > STUCK_TIME
            })
        })
    }

    /// Notes an entry that this server waits for, so that its lag is seen.
    pub(super) fn appended(&self, shard: i16, place: Place) -> Result<(), Trouble> {
        let shard = self.shard(shard)?;
        let mut waiting = shard.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let position = *shard.position.borrow();
        if waiting.is_none_or(|(first, _)| first <= position) {
            *waiting = Some((place, Instant::now()));
        }
        Ok(())
    }

    /// Notes an approval that is to be answered before it is recorded, so that it is missed if it
    /// never is; `false` if it must not be.
    pub(super) fn answers(&self, shard: i16, place: Place) -> Result<bool, Trouble> {
        let shard = self.shard(shard)?;
        let epoch = shard.epoch.read().unwrap_or_else(PoisonError::into_inner);
        let is_believed = epoch
            .as_ref()
            .is_some_and(|epoch| epoch.number == place.epoch && epoch.confirmed.elapsed() < BELIEF);
        Ok(is_believed && shard.memory.answers(place))
    }

    /// Looks for what was answered in epochs that are over among what is recorded.
    pub(super) async fn look_for_answers(&self) -> Result<(), StoreError> {
        for (number, shard) in (0..).zip(&self.shards) {
            for answered in shard.memory.open() {
                let Some(is_there) = self.escrow.was_recorded(number, answered).await? else {
                    continue;
                };
                if !is_there {
                    let Place { epoch, seq } = answered;
                    tracing::error!(
                        shard = number,
                        epoch,
                        seq,
                        "an approval that was answered at durable is not in Redis' log any more: \
                         what was leased stays counted as spent"
                    );
                }
                shard.memory.close(answered);
            }
        }
        Ok(())
    }

    /// Refuses to decide while what was decided is not recorded.
    pub(super) fn refuse_lag(&self, shard: i16) -> Result<(), Trouble> {
        let shard = self.shard(shard)?;
        let waiting = *shard.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((first, since)) = waiting else { return Ok(()) };
        if first > *shard.position.borrow() && since.elapsed() > LAG_MAX {
            return Err(unavailable("what was decided is not recorded for too long"));
        }
        Ok(())
    }

    /// Waits until everything up to a place is recorded.
    pub(super) async fn wait(&self, shard: i16, place: Place) -> Result<(), Trouble> {
        self.appended(shard, place)?;
        let mut position = self.shard(shard)?.position.subscribe();
        if *position.borrow() < place {
            self.awaited.send_replace(());
        }
        let begun = Instant::now();
        // What is not heard the watch finds out, as long as Postgres answers it.
        loop {
            match timeout(LOOK, position.wait_for(|position| *position >= place)).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(_)) => return Err(unavailable("the server stops")),
                Err(elapsed)
                    if begun.elapsed() > RECORD_TIME || self.confirmed().elapsed() > CUT_OFF =>
                {
                    // It may be recorded later; the same key finds out.
                    return Err(StoreError::new(StoreErrorKind::Timeout, WAIT, elapsed).into());
                }
                Err(_) => {}
            }
        }
    }

    /// When Postgres was last asked whose the shards are, and said so.
    fn confirmed(&self) -> Instant {
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until everything that is in the outbox now is recorded.
    pub(super) async fn flush(&self, shard: i16, live: &Arc<Live>) -> Result<(), Trouble> {
        let ask = redis::cmd("XINFO").arg("STREAM").arg(Keys(shard).outbox()).to_owned();
        let said = match live.say(&ask).await {
            Ok(said) => said,
            // There is no outbox: nothing is in it.
            Err(LinkError::Driver(error)) if error.code() == Some("ERR") => return Ok(()),
            Err(error) => {
                live.blame(&error);
                return Err(error.into());
            }
        };
        match last_generated(said) {
            Some(last) => self.wait(shard, last).await,
            None => Ok(()),
        }
    }
}

/// The last id of a stream, among what `XINFO STREAM` says of it.
pub(super) fn last_generated(said: Value) -> Option<Place> {
    stream_ends(said).1
}

/// The first entry that a stream has, and the last id that it ever gave.
pub(super) fn stream_ends(said: Value) -> (Option<Place>, Option<Place>) {
    let fields = if let Value::Array(fields) = said {
        fields
    } else if let Value::Map(fields) = said {
        fields.into_iter().flat_map(|(name, value)| [name, value]).collect()
    } else {
        return (None, None);
    };
    let answer = Answer(fields);
    let find = |name: &[u8]| {
        let mut names = (0..answer.0.len()).step_by(2);
        let at = names.find(|at| answer.bytes(*at) == Some(name))?;
        Some(at.saturating_add(1))
    };
    let last = find(b"last-generated-id").and_then(|at| answer.bytes(at));
    let first = find(b"first-entry").and_then(|at| answer.0.get(at).cloned());
    let first = first.map(|entry| Answer(list(entry)));
    let first = first.as_ref().and_then(|entry| entry.bytes(0)).and_then(parse_place);
    (first, last.and_then(parse_place))
}
