//! A new epoch for a shard of which Postgres has lost what it once committed.
//!
//! What Redis still has of earlier epochs was spent from leases that may be forgotten here, so none
//! of it is recorded any more. Not here: how that is noticed (`ledger::redis`).

use super::endings::{self, Change};
use super::{CLAIM_EPOCH, Escrow, Failed};
use crate::store::StoreError;
use crate::store::postgres::failed;

const SEEN: &str = "SELECT epoch FROM shard_authority WHERE shard = $1 FOR UPDATE";

/// Nothing is recorded but what comes with the new epoch.
const REBASE: &str = "
INSERT INTO shard_authority (shard, epoch, replication_id, begun, position_epoch, position_seq,
    floor, taken_at)
VALUES ($1, $2, $3, false, $2 - 1, 9223372036854775807, 0, $4)
ON CONFLICT (shard) DO UPDATE SET epoch = excluded.epoch, begun = false,
    replication_id = excluded.replication_id, position_epoch = excluded.position_epoch,
    position_seq = excluded.position_seq, taken_at = excluded.taken_at";

const END: &str =
    "UPDATE shard_epoch SET state = 'ended' WHERE shard = $1 AND replication_id <> $2";

/// Of none of them it is known that all that was answered is recorded.
const KEEP: Change = Change { which: "epoch < $2 AND leased > 0", set: "level = 'fast'" };

impl Escrow {
    /// Gives an epoch that is later than all others to the process that has the shard, which has to
    /// begin it. `false`, and nothing is done, unless the shard is in the epoch that was seen.
    pub(in crate::ledger) async fn rebase(
        &self,
        (shard, replication_id): (i16, &str),
        seen: Option<i64>,
        (epoch, now): (i64, i64),
    ) -> Result<bool, StoreError> {
        const REBASE_IT: &str = "rebase a shard";
        let failed = failed(REBASE_IT);
        let mut writing = self.store.writing(None, REBASE_IT).await?;
        let alone = sqlx::query("SELECT pg_advisory_xact_lock(7401, $1)").bind(i32::from(shard));
        alone.execute(&mut *writing).await.map_err(failed)?;
        let found = sqlx::query_scalar::<_, i64>(SEEN).bind(shard);
        if found.fetch_optional(&mut *writing).await.map_err(failed)? != seen {
            return Ok(false);
        }
        let end = sqlx::query(END).bind(shard).bind(replication_id);
        end.execute(&mut *writing).await.map_err(failed)?;
        let rebase = sqlx::query(REBASE).bind(shard).bind(epoch).bind(replication_id).bind(now);
        rebase.execute(&mut *writing).await.map_err(failed)?;
        let claim = sqlx::query(CLAIM_EPOCH).bind(shard).bind(epoch).bind(replication_id);
        claim.execute(&mut *writing).await.map_err(failed)?;
        KEEP.make(&mut writing, (shard, epoch)).await.map_err(Failed::into_error)?;
        endings::deny(&mut writing, shard, (0, epoch.saturating_sub(1))).await.map_err(failed)?;
        self.store.finish(writing, REBASE_IT).await?;
        Ok(true)
    }
}
