//! Epochs that are over: how far each is recorded, and what becomes of what was leased to it.
//!
//! What was leased and not spent is free again where it is known that nothing that was answered is
//! missing from the record (rule 6): at `strict` as soon as the epoch's log is recorded, as what
//! was answered is a row. At `durable` if that log was whole, which every server that answers has
//! some time to deny. Not here: what a server remembers (`ledger::redis`).

use sqlx::postgres::PgConnection;
use sqlx::query_as;

use super::super::load;
use super::super::project::{IN_THE_NAME_OF, in_the_name_of};
use super::{Escrow, Failed, Place};
use crate::domain::id::OrgId;
use crate::store::StoreError;
use crate::store::postgres::{ALL_ORGS, failed};

/// Of an epoch that is later than the last place, nothing was recorded at all.
const END: &str = "
UPDATE shard_epoch SET end_seq = CASE WHEN epoch = $2 THEN $3 ELSE -1 END,
    is_sound = coalesce(is_sound, true) AND epoch = $2 AND $5
WHERE shard = $1 AND epoch >= $2 AND epoch < $4";

/// The last of it: whether something of a later epoch is recorded.
const ENDED_AT: &str = "SELECT end_seq, is_sound, position_epoch > $2
    FROM shard_epoch JOIN shard_authority USING (shard)
    WHERE shard = $1 AND shard_epoch.epoch = $2";

const DENY: &str = "UPDATE shard_epoch SET is_sound = false
    WHERE shard = $1 AND epoch BETWEEN $2 AND $3";

const PRESENT: &str = "SELECT FROM shard_authority
    WHERE shard = $1 AND (epoch, position_epoch) = ($2, $2) FOR KEY SHARE";

/// What is leased to epochs that are over and drained, at `strict`.
const RELEASE: Change =
    Change { which: "epoch < $2 AND leased > 0 AND level = 'strict'", set: "leased = 0" };

/// The same at `durable`, of epochs whose logs were whole.
const RELEASE_SOUND: Change = Change {
    which: "epoch < $2 AND leased > 0 AND level = 'durable' AND EXISTS (SELECT FROM shard_epoch
        WHERE shard_epoch.shard = lease.shard AND shard_epoch.epoch = lease.epoch AND is_sound)",
    set: "leased = 0",
};

/// An epoch that ends because another one begins in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger::sql::postgres) struct Ended {
    /// The last place that is recorded in front of the beginning.
    pub(in crate::ledger::sql::postgres) last: Place,
    /// The epoch that begins.
    pub(in crate::ledger::sql::postgres) next: i64,
    /// Whether the log that it begins in has everything that is recorded.
    pub(in crate::ledger::sql::postgres) is_whole: bool,
}

/// A change of leases, each in the name of its organization, as row-level security wants it. Its
/// texts may name the shard as $1 and an epoch as $2.
pub(super) struct Change {
    pub(super) which: &'static str,
    pub(super) set: &'static str,
}

impl Change {
    /// Makes it; how many leases that were.
    pub(super) async fn make(
        &self,
        connection: &mut PgConnection,
        (shard, epoch): (i16, i64),
    ) -> Result<u64, Failed> {
        let Self { which, set } = self;
        let owners = format!("SELECT DISTINCT org_id FROM lease WHERE shard = $1 AND {which}");
        let change = format!("UPDATE lease SET {set} WHERE shard = $1 AND {which} AND org_id = $3");
        sqlx::query(IN_THE_NAME_OF).bind(ALL_ORGS).execute(&mut *connection).await?;
        let owners = sqlx::query_scalar::<_, Vec<u8>>(sqlx::AssertSqlSafe(owners));
        let owners = owners.bind(shard).bind(epoch).fetch_all(&mut *connection).await?;
        let mut changed = 0_u64;
        for owner in owners {
            in_the_name_of(connection, OrgId::from_bytes(load::id(&owner)?)).await?;
            let change = sqlx::query(sqlx::AssertSqlSafe(change.as_str()));
            let change = change.bind(shard).bind(epoch).bind(owner);
            let done = change.execute(&mut *connection).await?;
            changed = changed.saturating_add(done.rows_affected());
        }
        Ok(changed)
    }
}

/// Notes how far epochs are recorded that end, in the transaction that records what begins, and
/// frees what they had at `strict`.
pub(in crate::ledger::sql::postgres) async fn end(
    connection: &mut PgConnection,
    shard: i16,
    ended: &[Ended],
) -> Result<(), Failed> {
    for Ended { last, next, is_whole } in ended {
        sqlx::query(END)
            .bind(shard)
            .bind(last.epoch)
            .bind(last.seq)
            .bind(next)
            .bind(is_whole)
            .execute(&mut *connection)
            .await?;
    }
    if let Some(begun) = ended.iter().map(|ended| ended.next).max() {
        RELEASE.make(connection, (shard, begun)).await?;
    }
    Ok(())
}

/// From now on it is not believed that these epochs are recorded as far as they were answered.
pub(super) async fn deny(
    connection: &mut PgConnection,
    shard: i16,
    (first, last): (i64, i64),
) -> Result<(), sqlx::Error> {
    let deny = sqlx::query(DENY).bind(shard).bind(first).bind(last);
    deny.execute(connection).await.map(drop)
}

impl Escrow {
    /// Frees what epochs before this one had at `durable`, if nothing that was answered is missing;
    /// how many leases that were. Nothing is done unless it is the present one and recorded.
    pub(in crate::ledger) async fn free_sound(
        &self,
        shard: i16,
        epoch: i64,
    ) -> Result<u64, StoreError> {
        const FREE: &str = "free what ended epochs have";
        let mut writing = self.store.writing(None, FREE).await?;
        let present = sqlx::query(PRESENT).bind(shard).bind(epoch);
        if present.fetch_optional(&mut *writing).await.map_err(failed(FREE))?.is_none() {
            return Ok(0);
        }
        let freed = RELEASE_SOUND.make(&mut writing, (shard, epoch)).await;
        let freed = freed.map_err(Failed::into_error)?;
        self.store.finish(writing, FREE).await?;
        Ok(freed)
    }

    /// Finds out whether what was answered of an epoch that is over is recorded, up to this place.
    /// If it is not, or something else of it may not be, nothing that was leased to the epoch is
    /// freed. `None` while entries may come.
    pub(in crate::ledger) async fn was_recorded(
        &self,
        shard: i16,
        answered: Place,
    ) -> Result<Option<bool>, StoreError> {
        const COMPARE: &str = "compare what was answered with what is recorded";
        let mut writing = self.store.writing(None, COMPARE).await?;
        let end = query_as::<_, (Option<i64>, Option<bool>, bool)>(ENDED_AT);
        let end = end.bind(shard).bind(answered.epoch).fetch_optional(&mut *writing).await;
        match end.map_err(failed(COMPARE))? {
            Some((_, Some(false), _)) => return Ok(Some(false)),
            Some((Some(end), ..)) if end >= answered.seq => return Ok(Some(true)),
            Some((Some(_), ..)) => {}
            // A server of an earlier version has recorded it, and nothing of it is ever freed.
            Some((None, _, true)) => return Ok(Some(true)),
            Some((None, _, false)) | None => return Ok(None),
        }
        let epochs = (answered.epoch, answered.epoch);
        deny(&mut writing, shard, epochs).await.map_err(failed(COMPARE))?;
        self.store.finish(writing, COMPARE).await?;
        Ok(Some(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::postgres::fixture;

    const AUTHORITY: &str = "
INSERT INTO shard_authority (shard, epoch, replication_id, begun, position_epoch, position_seq,
    floor, taken_at)
VALUES (1, 5, 'five', true, 4, 7, 0, 0)";

    /// Of the first a server of an earlier version has recorded the end, and said nothing of it.
    const EPOCHS: &str = "
INSERT INTO shard_epoch (shard, epoch, replication_id, state, end_seq, is_sound)
VALUES (1, 1, 'one', 'ended', NULL, NULL), (1, 2, 'two', 'ended', 5, true),
    (1, 3, 'three', 'ended', 9, false), (1, 4, 'four', 'ended', NULL, NULL),
    (1, 5, 'five', 'begun', NULL, NULL)";

    #[tokio::test]
    async fn what_was_answered_is_missed_if_the_record_ends_before_it_and_else_is_not() {
        let (store, _url) = fixture::open().await;
        let escrow = Escrow::new(store);
        let owner = escrow.store.writer();
        for statement in [AUTHORITY, EPOCHS] {
            sqlx::query(statement).execute(owner).await.unwrap();
        }
        for (epoch, seq, wanted) in [
            (1, i64::MAX, Some(true)),
            (2, 5, Some(true)),
            (3, 1, Some(false)),
            (4, 1, None),
            (5, 1, None),
            (6, 1, None),
            // It ends at 5: what was answered at 6 is missing, and from then on so is all of it.
            (2, 6, Some(false)),
            (2, 5, Some(false)),
        ] {
            let found = escrow.was_recorded(1, Place { epoch, seq }).await.unwrap();
            assert_eq!(found, wanted, "{epoch}-{seq}");
        }
        let sound = "SELECT is_sound FROM shard_epoch ORDER BY epoch";
        let sound = sqlx::query_scalar::<_, Option<bool>>(sound).fetch_all(owner).await.unwrap();
        assert_eq!(sound, [None, Some(false), Some(false), None, None]);
    }
}
