//! The keeper: what lies in slices that nobody spends from goes back to Postgres.
//!
//! Then it can be leased again, spent while Redis is away, and is not stranded when Redis is lost.
//! The server that records does it, a few slices at a time. Not here: how money comes back, which
//! is through the outbox (`scripts/recall.lua`, `projector`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::keys::Keys;
use super::link::Live;
use super::scripts::Answer;
use super::shards::{Shards, Trouble};
use crate::ledger::sql::postgres::escrow::survey::SliceName;

/// How often some slices are looked at.
const TICK: Duration = Duration::from_secs(1);

/// How many slices are looked at each time; with more of them a round takes longer.
const SLICES: i64 = 512;

/// How long nobody may have spent from a slice, in microseconds.
const IDLE: i64 = 60_000_000;

/// What a slice was when it was first seen so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    number: i64,
    rest: i64,
    since: i64,
}

/// One round after the other through all slices.
#[derive(Default)]
struct Rounds {
    /// Where this round is.
    last: Option<SliceName>,
    /// What the round before saw, and what this one did.
    before: HashMap<SliceName, Seen>,
    now: HashMap<SliceName, Seen>,
}

/// Works until it is stopped.
pub(super) async fn run(shards: Arc<Shards>, stop: CancellationToken) {
    let mut rounds = Rounds::default();
    while stop.run_until_cancelled(tokio::time::sleep(TICK)).await.is_some() {
        if !shards.nodes.links().iter().any(|link| link.records()) {
            rounds = Rounds::default();
        } else if let Err(trouble) = rounds.look(&shards).await {
            // Whoever decides says so louder.
            tracing::debug!(%trouble, "idle slices cannot be looked at now");
        }
    }
}

impl Rounds {
    async fn look(&mut self, shards: &Shards) -> Result<(), Trouble> {
        let page = shards.escrow.leased_after(self.last.as_ref(), SLICES).await?;
        if page.is_empty() {
            self.last = None;
            self.before = std::mem::take(&mut self.now);
            return Ok(());
        }
        for slice in &page {
            // Whoever records what is there does it, if it is within reach.
            let link = shards.nodes.link(slice.shard).ok().filter(|link| link.records());
            let Some(live) = link.and_then(|link| link.present()) else { continue };
            match self.look_at(shards, &live, slice).await {
                // Others may be elsewhere.
                Ok(()) | Err(Trouble::Away(_)) => {}
                Err(trouble @ Trouble::Store(_)) => return Err(trouble),
            }
        }
        self.last = page.into_iter().next_back();
        Ok(())
    }

    async fn look_at(
        &mut self,
        shards: &Shards,
        live: &Arc<Live>,
        slice: &SliceName,
    ) -> Result<(), Trouble> {
        let epoch = shards.epoch(slice.shard, live).await?;
        let key = Keys(slice.shard).slice_named(slice.mandate, &slice.subject, slice.starts_at);
        let get = redis::cmd("GET").arg(key).to_owned();
        let answer = Answer(vec![live.ask(&get).await?]);
        let Some([of, number, rest]) = answer.bytes(0).and_then(numbers) else { return Ok(()) };
        if of != epoch.number || slice.epoch != epoch.number || rest == 0 {
            return Ok(());
        }
        let now = shards.clock.now().as_microsecond();
        let same = self.before.get(slice).filter(|seen| (seen.number, seen.rest) == (number, rest));
        let seen = same.copied().unwrap_or(Seen { number, rest, since: now });
        if now.saturating_sub(seen.since) >= IDLE {
            // Somebody may spend from it now: the script sends back what is there then.
            shards.recall((live, &epoch), slice).await?;
        } else {
            self.now.insert(slice.clone(), seen);
        }
        Ok(())
    }
}

/// The first three numbers of a slice: its epoch, its last lease, and what is left.
fn numbers(bytes: &[u8]) -> Option<[i64; 3]> {
    let (numbers, _) = bytes.as_chunks::<8>();
    let &[of, number, rest, ..] = numbers else { return None };
    Some([of, number, rest].map(i64::from_be_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::redis::keys::packed;

    #[test]
    fn a_slice_that_is_cut_short_is_none() {
        let slice = packed(&[3, 7, 250, 1, 0, 1_001]);
        assert_eq!(numbers(&slice), Some([3, 7, 250]));
        assert_eq!(numbers(&slice[..23]), None);
    }
}
