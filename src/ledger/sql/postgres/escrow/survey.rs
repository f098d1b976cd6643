//! What is leased to whom, over all organizations, and how an ended epoch's leases are freed.
//!
//! What is seen of all organizations is read under the policy that lets leases be read; whatever is
//! changed is changed in the name of its own. Not here: whether anything that was answered may be
//! missing from the record, which only an operator can know.

use sqlx::query_as;

use super::super::load;
use super::super::project::CHANNEL;
use super::endings::{self, Change};
use super::{Authority, Escrow, Failed, Place};
use crate::domain::id::{MandateId, OrgId};
use crate::store::StoreError;
use crate::store::postgres::failed;

/// Leases of epochs that are over; `true` if everything of the epoch is recorded.
const STRANDED: &str = "
SELECT lease.shard, lease.epoch, lease.org_id, lease.mandate_id, lease.subject, lease.starts_at,
    lease.level, lease.leased, authority.position_epoch > lease.epoch
FROM lease JOIN shard_authority authority ON authority.shard = lease.shard
WHERE lease.leased > 0 AND lease.epoch < authority.epoch
ORDER BY 1, 2, 3, 4, 5, 6 LIMIT $1";

/// How many slices each present epoch has something left in, as far as Postgres knows.
const SLICES: &str = "
SELECT lease.shard, count(*) FROM lease JOIN shard_authority authority
    ON authority.shard = lease.shard AND authority.epoch = lease.epoch
WHERE lease.leased > 0 GROUP BY 1";

/// Leases of present epochs, a page after a place.
const PAGE: &str = "
SELECT lease.shard, lease.epoch, lease.org_id, lease.mandate_id, lease.subject, lease.starts_at
FROM lease JOIN shard_authority authority
    ON authority.shard = lease.shard AND authority.epoch = lease.epoch AND authority.begun
WHERE lease.leased > 0 AND (lease.mandate_id, lease.subject, lease.starts_at) > ($1, $2, $3)
ORDER BY lease.mandate_id, lease.subject, lease.starts_at LIMIT $4";

const POSITION: &str = "SELECT position_epoch FROM shard_authority WHERE shard = $1 FOR KEY SHARE";

const FREE: Change = Change { which: "epoch = $2 AND leased > 0", set: "leased = 0" };

/// What is told to the servers that wait is that there is nothing more to wait for.
const SKIP: &str = "
UPDATE shard_authority SET position_epoch = $5, position_seq = $6
WHERE shard = $1 AND epoch = $2 AND begun AND (position_epoch, position_seq) = ($3, $4)
RETURNING pg_notify($7, $8) IS NOT NULL";

/// A slice, as its lease names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::ledger) struct SliceName {
    pub(in crate::ledger) shard: i16,
    pub(in crate::ledger) epoch: i64,
    pub(in crate::ledger) org: OrgId,
    pub(in crate::ledger) mandate: MandateId,
    pub(in crate::ledger) subject: String,
    pub(in crate::ledger) starts_at: i64,
}

/// Money that an ended epoch still has, so that it counts as spent.
#[derive(Clone, Debug)]
pub(in crate::ledger) struct Left {
    pub(in crate::ledger) slice: SliceName,
    /// The weakest level that was answered from it.
    pub(in crate::ledger) level: String,
    pub(in crate::ledger) amount: i64,
    /// Whether everything that is left of the epoch is recorded.
    pub(in crate::ledger) is_drained: bool,
}

type Name = (i16, i64, Vec<u8>, Vec<u8>, String, i64);

fn name((shard, epoch, org, mandate, subject, starts_at): Name) -> Result<SliceName, Failed> {
    Ok(SliceName {
        shard,
        epoch,
        org: OrgId::from_bytes(load::id(&org)?),
        mandate: MandateId::from_bytes(load::id(&mandate)?),
        subject,
        starts_at,
    })
}

impl Escrow {
    /// What ended epochs still have, in the order of shards and epochs.
    pub(in crate::ledger) async fn stranded(&self, most: i64) -> Result<Vec<Left>, StoreError> {
        const READ: &str = "read what is leased";
        type Row = (i16, i64, Vec<u8>, Vec<u8>, String, i64, String, i64, bool);
        let mut reading = self.store.reading(None, READ).await?;
        let rows = query_as::<_, Row>(STRANDED).bind(most).fetch_all(&mut *reading).await;
        let left = |row: Row| {
            let (shard, epoch, org, mandate, subject, starts_at, level, amount, is_drained) = row;
            let slice = name((shard, epoch, org, mandate, subject, starts_at))?;
            Ok(Left { slice, level, amount, is_drained })
        };
        let left = rows.map_err(failed(READ))?.into_iter().map(left);
        left.collect::<Result<_, _>>().map_err(Failed::into_error)
    }

    /// How many slices of each shard's present epoch have something left.
    pub(in crate::ledger) async fn slices(&self) -> Result<Vec<(i16, i64)>, StoreError> {
        const READ: &str = "count what is leased";
        let mut reading = self.store.reading(None, READ).await?;
        query_as(SLICES).fetch_all(&mut *reading).await.map_err(failed(READ))
    }

    /// Slices of present epochs that have something left, some of them after a place.
    pub(in crate::ledger) async fn leased_after(
        &self,
        last: Option<&SliceName>,
        most: i64,
    ) -> Result<Vec<SliceName>, StoreError> {
        const READ: &str = "read what is leased";
        let mut reading = self.store.reading(None, READ).await?;
        let rows = query_as::<_, Name>(PAGE)
            .bind(last.map(|last| last.mandate.as_bytes().to_vec()).unwrap_or_default())
            .bind(last.map(|last| last.subject.clone()).unwrap_or_default())
            .bind(last.map_or(i64::MIN, |last| last.starts_at))
            .bind(most)
            .fetch_all(&mut *reading)
            .await
            .map_err(failed(READ))?;
        rows.into_iter().map(name).collect::<Result<_, _>>().map_err(Failed::into_error)
    }

    /// Moves the position of a shard without recording what is in between; `false` if it was not
    /// there any more. What was spent in between stays leased.
    pub(in crate::ledger) async fn skip(
        &self,
        from: &Authority,
        to: Place,
    ) -> Result<bool, StoreError> {
        const SKIP_THEM: &str = "go on behind a place of the outbox";
        let mut writing = self.store.writing(None, SKIP_THEM).await?;
        let moved = sqlx::query(SKIP)
            .bind(from.shard)
            .bind(from.epoch)
            .bind(from.position().epoch)
            .bind(from.position().seq)
            .bind(to.epoch)
            .bind(to.seq)
            .bind(CHANNEL)
            .bind(format!("{} {} {}", from.shard, to.epoch, to.seq))
            .fetch_optional(&mut *writing)
            .await
            .map_err(failed(SKIP_THEM))?;
        if moved.is_none() {
            return Ok(false);
        }
        // Somebody may have been told what is skipped.
        let epochs = (from.position().epoch, to.epoch);
        let deny = endings::deny(&mut writing, from.shard, epochs).await;
        deny.map_err(failed(SKIP_THEM))?;
        self.store.finish(writing, SKIP_THEM).await?;
        Ok(true)
    }

    /// Frees everything that an ended epoch of a shard still has; how many leases that were.
    /// `None`, and nothing is freed, unless everything that is left of it is recorded.
    pub(in crate::ledger) async fn free(
        &self,
        shard: i16,
        epoch: i64,
    ) -> Result<Option<u64>, StoreError> {
        const FREE_THEM: &str = "free what an ended epoch has";
        let failed = failed(FREE_THEM);
        let mut writing = self.store.writing(None, FREE_THEM).await?;
        let position = sqlx::query_scalar::<_, i64>(POSITION).bind(shard);
        let position = position.fetch_optional(&mut *writing).await.map_err(failed)?;
        // INVARIANT: what comes back was not spent by anything that may still be recorded.
        if position.is_none_or(|position| position <= epoch) {
            return Ok(None);
        }
        let freed = FREE.make(&mut writing, (shard, epoch)).await.map_err(Failed::into_error)?;
        self.store.finish(writing, FREE_THEM).await?;
        Ok(Some(freed))
    }
}
