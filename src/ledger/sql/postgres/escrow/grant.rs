//! Leases: as much of some counters as Postgres may hand to Redis, or the proof that there is none.
//!
//! Whoever asks for leases of one organization at the same time gets them in one transaction, with
//! a fixed number of statements. Not here: who gathers them and how leases get into slices
//! (`ledger::redis`), and how what is spent of them comes back as rows (`project`).

use std::collections::HashMap;

use sqlx::postgres::PgConnection;
use sqlx::query_as;

use super::super::load::{self, counters};
use super::super::{Failed, save};
use super::lock_head;
use crate::domain::id::{MandateId, OrgId};
use crate::domain::ledger::{Charge, Claim, CounterKey, Level};
use crate::ledger::Durability;
use crate::ledger::sql::{Head, Needs, Page, corrupt};
use crate::store::sql::spends::subject_text;

/// A lease is this part of what is left at most, as others want some of it too; but always enough
/// for the spends that wait for it.
const SHARE: i64 = 4;

/// While nobody knows how fast it is spent it is this part, so that little is stranded.
const UNKNOWN_SHARE: i64 = 64;

/// So many spends like the one at hand are leased at least, so that topping up is rare.
const SPENDS: i64 = 8;

const EPOCH: &str = "SELECT epoch, begun FROM shard_authority WHERE shard = $1 FOR KEY SHARE";
const VERSIONS: &str = "SELECT id, version FROM mandate WHERE id = ANY($1)";

/// The last lease of this epoch of each counter. The limit keeps the plan at one look into the
/// index for each.
const LAST: &str = "
SELECT asked.place, last.number, last.amount, last.leased, last.level, last.limit_minor
FROM unnest($1::bytea[], $2::text[], $3::bigint[])
    WITH ORDINALITY AS asked (mandate, subject, starts_at, place)
CROSS JOIN LATERAL (
    SELECT number, amount, leased, level, limit_minor FROM lease
    WHERE mandate_id = asked.mandate AND subject = asked.subject
        AND starts_at = asked.starts_at AND shard = $4 AND epoch = $5 LIMIT 1) last";

const LEASE: &str = "
INSERT INTO lease (mandate_id, subject, starts_at, shard, epoch, number, amount, leased, level,
    limit_minor)
SELECT mandate, subject, starts_at, $4, $5, number, amount, amount, level, limit_minor
FROM unnest($1::bytea[], $2::text[], $3::bigint[], $6::bigint[], $7::bigint[], $8::text[],
    $9::bigint[]) AS new (mandate, subject, starts_at, number, amount, level, limit_minor)
ON CONFLICT (mandate_id, subject, starts_at, shard, epoch) DO UPDATE SET
    number = excluded.number, amount = excluded.amount, leased = lease.leased + excluded.amount,
    level = excluded.level, limit_minor = excluded.limit_minor";

/// Whom leases are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::ledger) struct Holder {
    pub(in crate::ledger) shard: i16,
    pub(in crate::ledger) epoch: i64,
    /// Whose budgets they are.
    pub(in crate::ledger) org: OrgId,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(in crate::ledger) struct Ask {
    /// The claim, and the version of the mandate it was made from.
    pub(in crate::ledger) claim: (Claim, i64),
    /// Which of its charges.
    pub(in crate::ledger) index: usize,
    /// What is to be spent.
    pub(in crate::ledger) amount: i64,
    /// How many want to spend of this slice now, with about as much; 0: it is ahead of need.
    pub(in crate::ledger) callers: i64,
    /// About how much is spent of it in the time that a lease should last, if that is known.
    pub(in crate::ledger) pace: Option<i64>,
    /// The number of the last lease in the slice, and what is left there.
    pub(in crate::ledger) slice: (i64, i64),
    /// The level that answers from it are given at: also a slice with enough in it gets another
    /// lease, of nothing if there is no more, before it is spent from at a weaker one.
    pub(in crate::ledger) level: Durability,
    /// When it is asked, in microseconds.
    pub(in crate::ledger) now: i64,
}

/// A lease on its way to its slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) struct Lease {
    pub(in crate::ledger) number: i64,
    pub(in crate::ledger) amount: i64,
    /// What is spent of the counter, or leased in this epoch.
    pub(in crate::ledger) total: i64,
    pub(in crate::ledger) held: i64,
    /// The limit under which it was leased: under a lower one it must come back.
    pub(in crate::ledger) limit: i64,
    /// No money in it came back later than this: what is spent of it is decided no earlier.
    pub(in crate::ledger) floor: i64,
    /// The weakest level that may be answered from the slice.
    pub(in crate::ledger) level: Durability,
}

/// That a claim could not be approved at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ledger) struct Proof {
    /// The counters of the claim, one of them without what is asked.
    pub(in crate::ledger) levels: Vec<Level>,
    /// When, in microseconds: what came back before is in the levels, and nothing that comes back
    /// later is recorded with an earlier time.
    pub(in crate::ledger) at: i64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::ledger) enum Granted {
    /// Install this one.
    Lease(Lease),
    /// The claim cannot be approved.
    Proved(Proof),
    /// There is none now, which proves nothing.
    Short,
    /// The mandate has another version.
    Stale,
    /// The epoch is not the present one, or has not begun.
    Epoch,
    /// The slice has a lease that Postgres has not: it has lost commits.
    Forgotten,
}

/// What the lease of a counter is in the epoch.
#[derive(Clone, Debug, Default)]
struct Last {
    number: i64,
    amount: i64,
    leased: i64,
    /// The weakest level that was answered from it.
    level: Option<Durability>,
    limit: i64,
}

/// The time of an organization's head as it was found, and the one at which all of this happens.
#[derive(Clone, Copy, Debug)]
struct Times {
    floor: i64,
    at: i64,
}

/// A lease that is to be written down.
struct New<'a> {
    key: &'a CounterKey,
    number: i64,
    amount: i64,
    level: Durability,
    limit: i64,
}

pub(super) async fn grant(
    connection: &mut PgConnection,
    holder: Holder,
    asks: &[&Ask],
) -> Result<Vec<Granted>, Failed> {
    let all = |granted: Granted| vec![granted; asks.len()];
    let present = query_as::<_, (i64, bool)>(EPOCH).bind(holder.shard);
    if present.fetch_optional(&mut *connection).await? != Some((holder.epoch, true)) {
        return Ok(all(Granted::Epoch));
    }
    let Some((seq, floor)) = lock_head(connection, holder.org).await? else {
        return Ok(all(Granted::Stale));
    };
    // INVARIANT: money comes back under this lock, and no earlier than the head's time.
    let times = Times { floor, at: asks.iter().map(|ask| ask.now).fold(floor, i64::max) };
    let versions = versions(connection, asks).await?;
    let is_current = |ask: &&Ask| versions.get(&ask.claim.0.mandate).copied() == Some(ask.claim.1);
    let mut page = Page::default();
    let claims = asks.iter().copied().filter(is_current).map(|ask| &ask.claim.0);
    let needs = Needs { claims: claims.collect(), ..Needs::default() };
    counters(connection, &mut page, &needs).await?;
    let mut lasts = lasts(connection, holder, asks).await?;
    let mut new = Vec::new();
    let mut granted = Vec::with_capacity(asks.len());
    for ask in asks {
        granted.push(if is_current(ask) {
            rule((&mut page, times), &mut lasts, ask, &mut new)?
        } else {
            Granted::Stale
        });
    }
    write(connection, holder, &page, &new).await?;
    if times.at > floor && granted.iter().any(|granted| matches!(granted, Granted::Proved(_))) {
        let head = Head { seq, floor: load::time(times.at)? };
        save::move_head(connection, holder.org, head).await?;
    }
    Ok(granted)
}

/// The version that each mandate has now.
async fn versions(
    connection: &mut PgConnection,
    asks: &[&Ask],
) -> Result<HashMap<MandateId, i64>, Failed> {
    let ids = asks.iter().map(|ask| ask.claim.0.mandate.as_bytes().to_vec());
    let rows = query_as::<_, (Vec<u8>, i64)>(VERSIONS).bind(ids.collect::<Vec<_>>());
    let rows = rows.fetch_all(connection).await?.into_iter();
    rows.map(|(id, version)| Ok((MandateId::from_bytes(load::id(&id)?), version))).collect()
}

fn charge(ask: &Ask) -> Result<&Charge, Failed> {
    let charge = ask.claim.0.charges.get(ask.index);
    charge.ok_or_else(|| corrupt("a charge that no claim has").into())
}

/// Counters as columns of keys.
fn names<'a>(keys: impl Iterator<Item = &'a CounterKey>) -> (Vec<Vec<u8>>, Vec<String>, Vec<i64>) {
    let (mut mandates, mut subjects, mut starts) = (Vec::new(), Vec::new(), Vec::new());
    for key in keys {
        mandates.push(key.mandate.as_bytes().to_vec());
        subjects.push(subject_text(&key.subject, key.period));
        starts.push(key.starts_at.as_microsecond());
    }
    (mandates, subjects, starts)
}

async fn lasts(
    connection: &mut PgConnection,
    holder: Holder,
    asks: &[&Ask],
) -> Result<HashMap<CounterKey, Last>, Failed> {
    let charges = asks.iter().map(|ask| charge(ask)).collect::<Result<Vec<_>, _>>()?;
    let (mandates, subjects, starts) = names(charges.iter().map(|charge| &charge.key));
    let rows = query_as::<_, (i64, i64, i64, i64, String, i64)>(LAST)
        .bind(mandates)
        .bind(subjects)
        .bind(starts)
        .bind(holder.shard)
        .bind(holder.epoch)
        .fetch_all(connection)
        .await?;
    let mut lasts = HashMap::new();
    for (place, number, amount, leased, level, limit) in rows {
        let place = usize::try_from(place.saturating_sub(1)).unwrap_or(usize::MAX);
        let charge = charges.get(place).ok_or_else(|| corrupt("a lease that nobody asked for"))?;
        let level = Durability::of(&level).ok_or_else(|| corrupt("a lease of no level"))?;
        let last = Last { number, amount, leased, level: Some(level), limit };
        lasts.insert(charge.key.clone(), last);
    }
    Ok(lasts)
}

/// How much is leased of what is free, where so much is missing in the slice: for a spend, how many
/// want one like it, and the pace.
fn part_of(free: i64, missing: i64, (spend, callers, pace): (i64, i64, Option<i64>)) -> i64 {
    let part = |parts| free.checked_div(parts).unwrap_or_default();
    let lasting = pace.unwrap_or_else(|| part(UNKNOWN_SHARE));
    let share = part(SHARE).min(lasting.max(spend.saturating_mul(SPENDS)));
    // The last of it is not leased in pieces that each serve one of those who wait.
    missing.max(share).max(free.min(spend.saturating_mul(callers)))
}

/// One lease, or why not. What it leases is counted for those who come after it.
fn rule<'a>(
    (page, times): (&mut Page, Times),
    lasts: &mut HashMap<CounterKey, Last>,
    ask: &'a Ask,
    new: &mut Vec<New<'a>>,
) -> Result<Granted, Failed> {
    let claim = &ask.claim.0;
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
        return Ok(Granted::Proved(Proof { levels, at: times.at }));
    }
    let charge = charge(ask)?;
    let level = levels.get(ask.index).copied().unwrap_or_default();
    let last = lasts.entry(charge.key.clone()).or_default();
    let (installed, rest) = ask.slice;
    if installed > last.number {
        return Ok(Granted::Forgotten);
    }
    // INVARIANT: one lease of a counter is on its way at a time.
    if last.number > installed {
        return Ok(Granted::Lease(Lease {
            number: last.number,
            amount: last.amount,
            total: level.spent.saturating_add(last.leased),
            held: level.held,
            limit: last.limit,
            floor: times.floor,
            level: last.level.unwrap_or(Durability::Fast),
        }));
    }
    let leased = page.book.leased.entry(charge.key.clone()).or_default();
    let free = charge.limit.saturating_sub(level.committed().saturating_add(*leased));
    let missing = ask.amount.saturating_sub(rest).max(0);
    if free < missing || (ask.callers == 0 && free < SHARE) {
        return Ok(Granted::Short);
    }
    let amount = part_of(free, missing, (ask.amount, ask.callers, ask.pace));
    // INVARIANT: it never gets stronger within an epoch; what was answered may not be recorded yet.
    let weakest = last.level.map_or(ask.level, |last| last.min(ask.level));
    *leased = leased.saturating_add(amount);
    *last = Last {
        number: last.number.saturating_add(1),
        amount,
        leased: last.leased.saturating_add(amount),
        level: Some(weakest),
        limit: charge.limit,
    };
    let (number, limit) = (last.number, last.limit);
    new.push(New { key: &charge.key, number, amount, level: weakest, limit });
    let total = level.spent.saturating_add(last.leased);
    let (held, floor) = (level.held, times.floor);
    Ok(Granted::Lease(Lease { number, amount, total, held, limit, floor, level: weakest }))
}

async fn write(
    connection: &mut PgConnection,
    holder: Holder,
    page: &Page,
    new: &[New<'_>],
) -> Result<(), Failed> {
    if new.is_empty() {
        return Ok(());
    }
    let (mandates, subjects, starts) = names(new.iter().map(|lease| lease.key));
    sqlx::query(LEASE)
        .bind(mandates)
        .bind(subjects)
        .bind(starts)
        .bind(holder.shard)
        .bind(holder.epoch)
        .bind(new.iter().map(|lease| lease.number).collect::<Vec<_>>())
        .bind(new.iter().map(|lease| lease.amount).collect::<Vec<_>>())
        .bind(new.iter().map(|lease| lease.level.word()).collect::<Vec<_>>())
        .bind(new.iter().map(|lease| lease.limit).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
    let keys = new.iter().map(|lease| lease.key).filter(|key| !page.kept.contains(key));
    save::move_counters(connection, &page.book, &keys.collect::<Vec<_>>()).await
}

/// The name of a counter, as entries of the outbox have it.
pub(in crate::ledger) fn counter_name(charge: &Charge) -> (String, i64) {
    let key = &charge.key;
    (subject_text(&key.subject, key.period), key.starts_at.as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::part_of;

    #[test]
    fn a_lease_is_what_is_spent_in_its_time_and_never_more_than_there_is() {
        for (spend, callers, pace, free, missing, wanted) in [
            // Nobody knows how fast it is spent: a part of it, or some spends.
            (1, 1, None, 64_000, 1, 1_000),
            (500, 1, None, 64_000, 500, 4_000),
            (5_000, 1, None, 64_000, 5_000, 16_000),
            // As fast as it is spent, some spends at least and up to a quarter.
            (1, 1, Some(3_000), 64_000, 1, 3_000),
            (1, 1, Some(i64::MAX), 64_000, 1, 16_000),
            (1, 0, Some(10), 64_000, 0, 10),
            (1, 1, Some(0), 64_000, 1, 8),
            // Enough for all who wait, and for the spend at hand.
            (100, 200, None, 64_000, 100, 20_000),
            (40_000, 1, None, 64_000, 40_000, 40_000),
            // The last of it.
            (2, 1, Some(i64::MAX), 7, 2, 2),
            (2, 9, None, 7, 1, 7),
            (i64::MAX, i64::MAX, Some(i64::MAX), i64::MAX, 1, i64::MAX),
        ] {
            let leased = part_of(free, missing, (spend, callers, pace));
            assert_eq!(leased, wanted, "{spend} {callers} {pace:?} {free} {missing}");
        }
    }
}
