//! Postgres' side of the Redis ledger: who may be spent from, and what is leased to it.
//!
//! The rules are those of docs/PROTOCOL.md, by their numbers. Locks are taken in one order: the
//! shard's authority, the organization's head, then counters and leases. Not here: what Redis
//! decided (`project`), and Redis itself (`ledger::redis`).

use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;

use super::load;
use super::{Failed, LOCK};
use crate::domain::agent::AgentStatus;
use crate::domain::id::{AgentId, MandateId, OrgId, TransactionId};
use crate::domain::ledger::{Charge, Claim, Level};
use crate::domain::mandate::MandateStatus;
use crate::domain::transaction::TransactionRecord;
use crate::ledger::sql::{Needs, Page, word};
use crate::store::StoreError;
use crate::store::postgres::{PostgresStore, failed, forgets};
use crate::store::sql::spends::SpendRow;

pub(super) mod endings;
pub(in crate::ledger) mod grant;
mod rebase;
pub(in crate::ledger) mod survey;

pub(in crate::ledger) use grant::{Ask, Granted, Holder, Lease, Proof};

const AUTHORITIES: &str = "SELECT shard, epoch, replication_id, begun, position_epoch,
    position_seq, floor, taken_at FROM shard_authority";

const CLAIM: &str = "
INSERT INTO shard_authority (shard, epoch, replication_id, begun, position_epoch, position_seq,
    floor, taken_at)
VALUES ($1, $2, $3, false, 0, 0, 0, $4)
ON CONFLICT (shard) DO UPDATE SET epoch = excluded.epoch, begun = false,
    replication_id = excluded.replication_id, taken_at = excluded.taken_at";

const CLAIM_EPOCH: &str = "INSERT INTO shard_epoch (shard, epoch, replication_id, state)
    VALUES ($1, $2, $3, 'claimed')";

const BEGUN: &str = "
WITH begun AS (UPDATE shard_authority SET begun = true WHERE shard = $1 AND epoch = $2
    RETURNING shard, epoch)
UPDATE shard_epoch SET state = 'begun' FROM begun
WHERE shard_epoch.shard = begun.shard AND shard_epoch.epoch = begun.epoch";

const STANDINGS: &str = "
SELECT organization.version, organization.frozen, agent.version, agent.status,
    agent.current_mandate, mandate.version, mandate.status
FROM organization JOIN agent ON agent.org_id = organization.id
LEFT JOIN mandate ON mandate.id = coalesce($3, agent.current_mandate)
    AND mandate.org_id = organization.id
WHERE organization.id = $1 AND agent.id = $2";

const APPROVALS_SINCE: &str = "SELECT decided_at, amount FROM spend
    WHERE mandate_id = $1 AND verdict <> 'rejected' AND decided_at > $2 ORDER BY decided_at, seq";

/// A place in the outboxes of a shard: its epoch, and the number in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::ledger) struct Place {
    pub(in crate::ledger) epoch: i64,
    pub(in crate::ledger) seq: i64,
}

crate::from_row! {
    /// Who a shard is spent from.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub(in crate::ledger) struct Authority {
        pub(in crate::ledger) shard: i16,
        pub(in crate::ledger) epoch: i64,
        pub(in crate::ledger) replication_id: String,
        pub(in crate::ledger) begun: bool,
        position_epoch: i64,
        position_seq: i64,
        pub(in crate::ledger) floor: i64,
        pub(in crate::ledger) taken_at: i64,
    }
}

impl Authority {
    /// The last place that is recorded.
    pub(in crate::ledger) const fn position(&self) -> Place {
        Place { epoch: self.position_epoch, seq: self.position_seq }
    }

    /// Whether the shard went back to a process that was superseded, in a cluster that moved it
    /// there, given the epoch in that one's keys: they came from its successor, or that one never
    /// began. A record may know of a beginning that nobody else has told (rule 3).
    const fn went_back(&self, epoch: i64) -> bool {
        self.epoch == epoch || (!self.begun && self.position_epoch < self.epoch)
    }

    /// The same with another last place.
    pub(in crate::ledger) fn moved(&self, last: Place) -> Self {
        Self { position_epoch: last.epoch, position_seq: last.seq, ..self.clone() }
    }
}

/// How everything stands that a decision compares, with the versions that order the news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ledger) struct Standings {
    pub(in crate::ledger) org: (i64, bool),
    pub(in crate::ledger) agent: (i64, AgentStatus, Option<MandateId>),
    pub(in crate::ledger) mandate: Option<(i64, MandateStatus)>,
}

/// A key, and the record it would have.
#[derive(Clone, Debug)]
pub(in crate::ledger) struct KeyName {
    pub(in crate::ledger) id: TransactionId,
    pub(in crate::ledger) agent: AgentId,
    pub(in crate::ledger) key: Arc<str>,
}

/// What came of an attempt to take a shard over.
#[derive(Debug)]
pub(in crate::ledger) enum Taken {
    /// The shard is this authority's; it may have to be begun.
    Yes(Authority),
    /// This process was superseded by another one.
    Superseded,
}

/// The tables of the escrow.
#[derive(Clone, Debug)]
pub(in crate::ledger) struct Escrow {
    store: PostgresStore,
}

impl Escrow {
    pub(in crate::ledger) const fn new(store: PostgresStore) -> Self {
        Self { store }
    }

    /// How to make a connection of one's own.
    pub(in crate::ledger) fn options(&self) -> &PgConnectOptions {
        self.store.options()
    }

    /// Every shard that is spent from Redis.
    pub(in crate::ledger) async fn authorities(&self) -> Result<Vec<Authority>, StoreError> {
        const READ: &str = "read the shards";
        let mut reading = self.store.reading(None, READ).await?;
        sqlx::query_as(AUTHORITIES).fetch_all(&mut *reading).await.map_err(failed(READ))
    }

    /// Who one shard is spent from.
    pub(in crate::ledger) async fn authority(
        &self,
        shard: i16,
    ) -> Result<Option<Authority>, StoreError> {
        const READ: &str = "read a shard";
        let one = sqlx::AssertSqlSafe(format!("{AUTHORITIES} WHERE shard = $1"));
        let mut reading = self.store.reading(None, READ).await?;
        let row = sqlx::query_as(one).bind(shard).fetch_optional(&mut *reading).await;
        row.map_err(failed(READ))
    }

    /// Gives the next epoch of a shard to a process (rules 2 and 3), unless the shard is not as it
    /// was seen any more: then what it is now is returned. One that was superseded may return in a
    /// cluster alone; then the epoch in its keys is given.
    pub(in crate::ledger) async fn take(
        &self,
        (shard, replication_id): (i16, &str),
        seen: Option<i64>,
        returning: Option<i64>,
        now: i64,
    ) -> Result<Taken, StoreError> {
        const TAKE: &str = "take a shard over";
        let mut writing = self.store.writing(None, TAKE).await?;
        // The row may not exist yet: whoever is first must not be two.
        let alone = sqlx::query("SELECT pg_advisory_xact_lock(7401, $1)").bind(i32::from(shard));
        alone.execute(&mut *writing).await.map_err(failed(TAKE))?;
        let lock = sqlx::AssertSqlSafe(format!("{AUTHORITIES} WHERE shard = $1 FOR UPDATE"));
        let row = sqlx::query_as::<_, Authority>(lock).bind(shard);
        let row = row.fetch_optional(&mut *writing).await.map_err(failed(TAKE))?;
        if let Some(row) = row.as_ref().filter(|row| Some(row.epoch) != seen) {
            return Ok(Taken::Yes(row.clone()));
        }
        let superseded: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM shard_epoch
             WHERE shard = $1 AND replication_id = $2 AND state = 'ended')",
        )
        .bind(shard)
        .bind(replication_id)
        .fetch_one(&mut *writing)
        .await
        .map_err(failed(TAKE))?;
        let is_present = row.as_ref().is_some_and(|row| row.replication_id == replication_id);
        let went_back = |row: &Authority| returning.is_some_and(|epoch| row.went_back(epoch));
        if superseded && !is_present && !row.as_ref().is_some_and(went_back) {
            return Ok(Taken::Superseded);
        }
        // A process that goes on with the next epoch is not superseded by itself.
        let end = "UPDATE shard_epoch SET state = 'ended'
            WHERE shard = $1 AND replication_id <> $2";
        let end = sqlx::query(end).bind(shard).bind(replication_id);
        end.execute(&mut *writing).await.map_err(failed(TAKE))?;
        let epoch = row.as_ref().map_or(0, |row| row.epoch).saturating_add(1);
        sqlx::query(CLAIM)
            .bind(shard)
            .bind(epoch)
            .bind(replication_id)
            .bind(now)
            .execute(&mut *writing)
            .await
            .map_err(failed(TAKE))?;
        sqlx::query(CLAIM_EPOCH)
            .bind(shard)
            .bind(epoch)
            .bind(replication_id)
            .execute(&mut *writing)
            .await
            .map_err(failed(TAKE))?;
        self.store.finish(writing, TAKE).await?;
        let position = row.as_ref().map_or_else(Place::default, Authority::position);
        Ok(Taken::Yes(Authority {
            shard,
            epoch,
            replication_id: replication_id.to_owned(),
            begun: false,
            position_epoch: position.epoch,
            position_seq: position.seq,
            floor: row.map_or(0, |row| row.floor),
            taken_at: now,
        }))
    }

    /// Notes that an epoch is in the outbox (rule 5).
    pub(in crate::ledger) async fn begun(&self, shard: i16, epoch: i64) -> Result<(), StoreError> {
        const BEGIN: &str = "begin an epoch";
        let mut writing = self.store.writing(None, BEGIN).await?;
        let query = sqlx::query(BEGUN).bind(shard).bind(epoch);
        query.execute(&mut *writing).await.map_err(failed(BEGIN))?;
        self.store.finish(writing, BEGIN).await
    }

    /// How everything stands for an agent, under its current mandate or a named one.
    pub(in crate::ledger) async fn standings(
        &self,
        org: OrgId,
        agent: AgentId,
        named: Option<MandateId>,
    ) -> Result<Option<Standings>, StoreError> {
        type Row = (i64, bool, i64, String, Option<Vec<u8>>, Option<i64>, Option<String>);
        const READ: &str = "read how things stand";
        let mut reading = self.store.reading(Some(org), READ).await?;
        let row = sqlx::query_as::<_, Row>(STANDINGS)
            .bind(org.as_bytes().as_slice())
            .bind(agent.as_bytes().as_slice())
            .bind(named.map(|id| id.as_bytes().to_vec()))
            .fetch_optional(&mut *reading)
            .await
            .map_err(failed(READ))?;
        let Some((version, frozen, agent_version, agent, current, mandate, status)) = row else {
            return Ok(None);
        };
        let current = current.map(|id| load::id(&id)).transpose().map_err(Failed::into_error)?;
        let status = status.map(|status| word::<MandateStatus>(&status)).transpose()?;
        Ok(Some(Standings {
            org: (version, frozen),
            agent: (
                agent_version,
                word::<AgentStatus>(&agent)?,
                current.map(MandateId::from_bytes),
            ),
            mandate: mandate.zip(status),
        }))
    }

    /// The recorded decisions of each key, in their order: one, unless the key was used for two
    /// requests in two stores.
    pub(in crate::ledger) async fn records_of_keys(
        &self,
        org: OrgId,
        keys: &[&KeyName],
    ) -> Result<Vec<Vec<TransactionRecord>>, StoreError> {
        const READ: &str = "read decisions";
        let mut reading = self.store.reading(Some(org), READ).await?;
        let rows = load::rows_of_keys(&mut reading, keys.iter().map(|key| key.id)).await;
        let mut rows = rows.map_err(failed(READ))?;
        rows.sort_by_key(|row| row.seq);
        let records = rows.into_iter().map(SpendRow::record).collect::<Result<Vec<_>, _>>()?;
        let of_key = |name: &&KeyName| {
            let is_of_key = |record: &&TransactionRecord| {
                let is_same = record.spend.agent_id == name.agent
                    && record.idempotency_key.as_str() == &*name.key;
                record.id == name.id || is_same
            };
            records.iter().filter(is_of_key).cloned().collect()
        };
        Ok(keys.iter().map(of_key).collect())
    }

    /// When a mandate approved what since a time, oldest first.
    pub(in crate::ledger) async fn approvals_since(
        &self,
        org: OrgId,
        mandate: MandateId,
        since: i64,
    ) -> Result<Vec<(i64, i64)>, StoreError> {
        const READ: &str = "read a window";
        let mut reading = self.store.reading(Some(org), READ).await?;
        let query = sqlx::query_as(APPROVALS_SINCE).bind(mandate.as_bytes().as_slice());
        query.bind(since).fetch_all(&mut *reading).await.map_err(failed(READ))
    }

    /// The counters of a claim as they are recorded.
    pub(in crate::ledger) async fn levels(
        &self,
        org: OrgId,
        claim: &Claim,
    ) -> Result<Vec<Level>, StoreError> {
        let mut reading = self.store.reading(Some(org), "look at a budget").await?;
        let (mut page, needs) =
            (Page::default(), Needs { claims: vec![claim], ..Needs::default() });
        let loaded = load::counters(&mut reading, &mut page, &needs).await;
        loaded.map_err(Failed::into_error)?;
        let level = |charge: &Charge| page.book.counters.get(&charge.key).copied();
        Ok(claim.charges.iter().map(|charge| level(charge).unwrap_or_default()).collect())
    }

    /// Leases from counters, or says why not, to each who asks (rules 7, 8 and 18).
    pub(in crate::ledger) async fn grant(
        &self,
        holder: Holder,
        asks: &[&Ask],
    ) -> Result<Vec<Granted>, StoreError> {
        const GRANT: &str = "lease from a budget";
        let mut writing = self.store.writing(Some(holder.org), GRANT).await?;
        let granted = grant::grant(&mut writing, holder, asks).await.map_err(Failed::into_error)?;
        let is_written = |granted: &Granted| match granted {
            Granted::Lease(_) | Granted::Proved(_) => true,
            Granted::Short | Granted::Stale | Granted::Epoch | Granted::Forgotten => false,
        };
        if granted.iter().any(is_written) {
            self.store.finish(writing, GRANT).await?;
        }
        Ok(granted)
    }
}

/// Waits for the organization's turn; where its record ends, or `None` if there is no such
/// organization. Nothing may be written to a Postgres that forgets what it commits.
pub(super) async fn lock_head(
    connection: &mut sqlx::PgConnection,
    org: OrgId,
) -> Result<Option<(i64, i64)>, Failed> {
    let query = sqlx::query_as::<_, (i64, i64, bool)>(LOCK).bind(org.as_bytes().as_slice());
    match query.fetch_optional(connection).await? {
        Some((.., false)) => Err(forgets("lock an organization's record").into()),
        head => Ok(head.map(|(seq, floor, _)| (seq, floor))),
    }
}
