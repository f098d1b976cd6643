//! One lease: as much of a counter as Postgres may hand to Redis, or the proof that there is none.
//!
//! Not here: how it gets into a slice (`ledger::redis`), and how what is spent of it comes back as
//! rows (`project`).

use sqlx::postgres::PgConnection;
use sqlx::query_as;

use super::super::load::counters;
use super::super::{Failed, save};
use super::lock_head;
use crate::domain::id::OrgId;
use crate::domain::ledger::{Charge, Claim, Level};
use crate::ledger::Durability;
use crate::ledger::sql::{Needs, Page, corrupt};
use crate::store::sql::spends::subject_text;

/// A lease is this part of what is left, so that topping up is rare and little is stranded.
const SHARE: i64 = 4;

const EPOCH: &str = "SELECT epoch, begun FROM shard_authority WHERE shard = $1 FOR KEY SHARE";
const VERSION: &str = "SELECT version FROM mandate WHERE id = $1";

/// The last lease of this epoch.
const LAST: &str = "SELECT number, amount, leased, level, limit_minor FROM lease
    WHERE mandate_id = $1 AND subject = $2 AND starts_at = $3 AND shard = $4 AND epoch = $5";

const LEASE: &str = "
INSERT INTO lease (mandate_id, subject, starts_at, shard, epoch, number, amount, leased, level,
    limit_minor)
VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8, $9)
ON CONFLICT (mandate_id, subject, starts_at, shard, epoch) DO UPDATE SET
    number = excluded.number, amount = excluded.amount, leased = lease.leased + excluded.amount,
    level = excluded.level, limit_minor = excluded.limit_minor";

/// What is asked for.
#[derive(Debug)]
pub(in crate::ledger) struct Ask<'a> {
    /// The shard and the epoch that lease is for.
    pub(in crate::ledger) shard: (i16, i64),
    /// Whose budget it is.
    pub(in crate::ledger) org: OrgId,
    /// The claim, and the version of the mandate it was made from.
    pub(in crate::ledger) claim: (&'a Claim, i64),
    /// Which of its charges.
    pub(in crate::ledger) index: usize,
    /// What is to be spent.
    pub(in crate::ledger) amount: i64,
    /// How many want to spend of this slice now, with about as much.
    pub(in crate::ledger) callers: i64,
    /// The number of the last lease in the slice, and what is left there.
    pub(in crate::ledger) slice: (i64, i64),
    /// The level that answers from it are given at.
    pub(in crate::ledger) level: Durability,
}

/// A lease on its way to its slice.
#[derive(Clone, Copy, Debug)]
pub(in crate::ledger) struct Lease {
    pub(in crate::ledger) number: i64,
    pub(in crate::ledger) amount: i64,
    /// What is spent of the counter, or leased in this epoch.
    pub(in crate::ledger) total: i64,
    pub(in crate::ledger) held: i64,
    /// The limit under which it was leased: under a lower one it must come back.
    pub(in crate::ledger) limit: i64,
}

/// What came of it.
#[derive(Debug)]
pub(in crate::ledger) enum Granted {
    /// Install this one.
    Lease(Lease),
    /// The claim cannot be approved: the counters of the claim, one of them without what is asked.
    Proved(Vec<Level>),
    /// There is none now, which proves nothing.
    Short,
    /// The mandate has another version.
    Stale,
    /// The epoch is not the present one, or has not begun.
    Epoch,
}

pub(super) async fn grant(connection: &mut PgConnection, ask: &Ask<'_>) -> Result<Granted, Failed> {
    let ((shard, epoch), (claim, version)) = (ask.shard, ask.claim);
    let present = query_as::<_, (i64, bool)>(EPOCH).bind(shard).fetch_optional(&mut *connection);
    if present.await? != Some((epoch, true)) {
        return Ok(Granted::Epoch);
    }
    if lock_head(connection, ask.org).await?.is_none() {
        return Ok(Granted::Stale);
    }
    let now = sqlx::query_scalar::<_, i64>(VERSION).bind(claim.mandate.as_bytes().as_slice());
    if now.fetch_optional(&mut *connection).await? != Some(version) {
        return Ok(Granted::Stale);
    }
    let mut page = Page::default();
    let needs = Needs { claims: vec![claim], ..Needs::default() };
    counters(connection, &mut page, &needs).await?;
    let level = |charge: &Charge| {
        let level = page.book.counters.get(&charge.key).copied();
        level.ok_or_else(|| corrupt("a book without what was asked"))
    };
    let levels = claim.charges.iter().map(level).collect::<Result<Vec<_>, _>>()?;
    // What is spent and held is all that proves anything: a lease may be on its way, or a recall.
    let exceeds = |(charge, level): (&Charge, &Level)| {
        level.committed().saturating_add(ask.amount) > charge.limit
    };
    if claim.charges.iter().zip(&levels).any(exceeds) {
        return Ok(Granted::Proved(levels));
    }
    let (Some(charge), Some(level)) = (claim.charges.get(ask.index), levels.get(ask.index)) else {
        return Err(corrupt("a charge that no claim has").into());
    };
    lease(connection, &page, ask, (charge, *level)).await
}

async fn lease(
    connection: &mut PgConnection,
    page: &Page,
    ask: &Ask<'_>,
    (charge, level): (&Charge, Level),
) -> Result<Granted, Failed> {
    let (shard, epoch) = ask.shard;
    let subject = subject_text(&charge.key.subject, charge.key.period);
    let starts_at = charge.key.starts_at.as_microsecond();
    let last = query_as::<_, (i64, i64, i64, String, i64)>(LAST)
        .bind(charge.key.mandate.as_bytes().as_slice())
        .bind(&subject)
        .bind(starts_at)
        .bind(shard)
        .bind(epoch)
        .fetch_optional(&mut *connection)
        .await?;
    let (installed, rest) = ask.slice;
    let (number, before) = last.as_ref().map_or((0, 0), |last| (last.0, last.2));
    // INVARIANT: one lease of a counter is on its way at a time.
    if let Some((number, amount, leased, _, limit)) = last.as_ref().filter(|one| one.0 > installed)
    {
        let total = level.spent.saturating_add(*leased);
        return Ok(Granted::Lease(Lease {
            number: *number,
            amount: *amount,
            total,
            held: level.held,
            limit: *limit,
        }));
    }
    let leased = page.book.leased.get(&charge.key).copied().unwrap_or_default();
    let free = charge.limit.saturating_sub(level.committed().saturating_add(leased));
    let missing = ask.amount.saturating_sub(rest).max(0);
    if free < missing {
        return Ok(Granted::Short);
    }
    // The last of it is not leased in pieces that each serve one of those who wait.
    let some = free.min(ask.amount.saturating_mul(ask.callers));
    let amount = missing.max(free.checked_div(SHARE).unwrap_or_default()).max(some);
    let weakest = last.as_ref().map_or_else(|| ask.level.word(), |last| ask.level.weaker(&last.3));
    let number = number.saturating_add(1);
    sqlx::query(LEASE)
        .bind(charge.key.mandate.as_bytes().as_slice())
        .bind(&subject)
        .bind(starts_at)
        .bind(shard)
        .bind(epoch)
        .bind(number)
        .bind(amount)
        .bind(weakest)
        .bind(charge.limit)
        .execute(&mut *connection)
        .await?;
    if !page.kept.contains(&charge.key) {
        save::move_counters(connection, &page.book, &[&charge.key]).await?;
    }
    let total = level.spent.saturating_add(before).saturating_add(amount);
    Ok(Granted::Lease(Lease { number, amount, total, held: level.held, limit: charge.limit }))
}

/// The name of a counter, as entries of the outbox have it.
pub(in crate::ledger) fn counter_name(charge: &Charge) -> (String, i64) {
    let key = &charge.key;
    (subject_text(&key.subject, key.period), key.starts_at.as_microsecond())
}
