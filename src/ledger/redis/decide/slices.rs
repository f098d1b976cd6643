//! What a decision does about slices: it has them filled, ahead of need or at need, and sent back.
//!
//! Not here: how leases are asked for together (`leasing`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::super::keys::Keys;
use super::super::leasing::{Outcome, Said};
use super::super::link::LinkError;
use super::super::scripts::Answer;
use super::super::shards::{Epoch, PUT_BACK, Trouble, unavailable};
use super::draft::SLICES_FROM;
use super::{Deciding, SHORT_TIME, State, There};
use crate::domain::ledger::{Charge, Claim, Decided};
use crate::ledger::sql::postgres::escrow::grant::counter_name;
use crate::ledger::sql::postgres::escrow::survey::SliceName;
use crate::ledger::sql::postgres::escrow::{Ask, Granted, Holder};

impl Deciding<'_> {
    fn charge(&self, answer: &Answer) -> Result<(&Claim, usize, &Charge), Trouble> {
        let find = || {
            let claim = self.command.claim.as_ref()?;
            let index = usize::try_from(answer.number(1).ok()?).ok()?;
            Some((claim, index, claim.charges.get(index)?))
        };
        find().ok_or_else(|| LinkError::Answer("no such slice").into())
    }

    /// A slice was leased under a higher limit: it comes back first.
    pub(super) async fn lowered(&self, there: &There, answer: &Answer) -> Result<(), Trouble> {
        let (_, _, charge) = self.charge(answer)?;
        let (subject, starts_at) = counter_name(charge);
        let slice = SliceName {
            shard: self.shard,
            epoch: there.epoch.number,
            org: self.command.org_id,
            mandate: charge.key.mandate,
            subject,
            starts_at,
        };
        match self.shards.recall((&there.live, &there.epoch), &slice).await? {
            Some(place) => self.shards.wait(self.shard, place).await,
            None => Ok(()),
        }
    }

    /// Has a slice filled that has too little, or finds the proof that there is no more.
    pub(super) async fn need_lease(
        &self,
        there: &There,
        state: &mut State,
        answer: &Answer,
    ) -> Result<Option<Decided>, Trouble> {
        let (claim, index, charge) = self.charge(answer)?;
        let turn = self.leasing.turn(&Keys(self.shard).slice(charge));
        let came = turn.asked.load(Ordering::Acquire);
        let mut gate = turn.gate.lock().await;
        // What others of this server were told meanwhile is as good as if this one had asked.
        if let Some(outcome) = gate
            .last
            .as_ref()
            .filter(|outcome| outcome.number > came && outcome.epoch == there.epoch.number)
        {
            if matches!(outcome.said, Said::Filled) {
                return Ok(None);
            }
            if let Some(proof) = outcome.proof(&claim.charges, self.command.spend.amount) {
                state.prove(proof);
                return Ok(None);
            }
        }
        let number = turn.asked.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        // Beside the list of turns everybody who has this one wants the same.
        let callers = i64::try_from(Arc::strong_count(&turn)).unwrap_or(i64::MAX);
        let slice = (answer.number(2)?, answer.number(3)?);
        let pace = gate.pace(there.epoch.number, slice);
        let callers = callers.saturating_sub(1).max(1);
        let ask = Ask { pace, ..self.ask_for(claim, index, slice, callers) };
        let mut said = Said::Other;
        match self.leasing.ask(self.shards, self.holder(&there.epoch), ask).await? {
            Granted::Lease(lease) => {
                let at = (self.shard, &there.live, &there.epoch);
                self.shards.install(at, charge, &lease).await?;
                turn.filled(&mut gate, (there.epoch.number, slice.1), &lease);
                state.short_since = None;
                said = Said::Filled;
            }
            Granted::Proved(proof) => {
                state.prove(&proof);
                said = Said::Proved(claim.charges.clone(), proof);
            }
            Granted::Short => {
                // What is leased and not spent may turn out to be spent; then there is a proof.
                drop(gate);
                let since = *state.short_since.get_or_insert_with(Instant::now);
                if since.elapsed() > SHORT_TIME {
                    return Err(unavailable("what is left of a budget is leased and not spent"));
                }
                self.shards.flush(self.shard, &there.live).await?;
                return Ok(None);
            }
            Granted::Stale => return Ok(Some(Decided::Stale)),
            Granted::Forgotten => return Err(unavailable(PUT_BACK)),
            Granted::Epoch => self.shards.doubt(self.shard, &there.epoch)?,
        }
        gate.last = Some(Outcome { number, epoch: there.epoch.number, said });
        Ok(None)
    }

    /// Has slices filled that run low; the script says how each stands after this approval.
    pub(super) fn fill_ahead(&self, epoch: &Epoch, slices: &[u8]) {
        let Some(claim) = &self.command.claim else { return };
        let (numbers, _) = slices.as_chunks::<8>();
        let numbers = numbers.iter().map(|number| i64::from_be_bytes(*number));
        let numbers = numbers.collect::<Vec<_>>();
        let names = self.keys.iter().skip(SLICES_FROM);
        for (index, (slice, name)) in numbers.chunks_exact(2).zip(names).enumerate() {
            let &[number, rest] = slice else { continue };
            let ask = || self.ask_for(claim, index, (number, rest), 0);
            self.leasing.left(name, rest, || (self.holder(epoch), ask()));
        }
    }

    const fn holder(&self, epoch: &Epoch) -> Holder {
        Holder { shard: self.shard, epoch: epoch.number, org: self.command.org_id }
    }

    fn ask_for(&self, claim: &Claim, index: usize, slice: (i64, i64), callers: i64) -> Ask {
        let (claim, amount) = ((claim.clone(), self.version()), self.command.spend.amount);
        let now = self.shards.clock.now().as_microsecond();
        Ask { claim, index, amount, callers, pace: None, slice, level: self.level, now }
    }
}
