//! Reading what a batch names into a book, in a fixed number of statements.
//!
//! Keys travel as arrays; every row is found by a key or at the start of an index, so the cost does
//! not grow with the record. Only a counter that has no row yet is summed up from it, once in its
//! window. Not here: writing (`save`).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use sqlx::postgres::PgConnection;
use sqlx::{Row, query_as};

use super::super::subjects::{add, subjects, sum_of};
use super::super::{Needs, Page, corrupt, end_micros, word};
use super::Failed;
use super::save::column;
use crate::domain::agent::AgentStatus;
use crate::domain::id::{AgentId, MandateId, OrgId, TransactionId};
use crate::domain::ledger::{Approval, Book, Charge, CounterKey, Level, Tally};
use crate::domain::mandate::MandateStatus;
use crate::domain::transaction::TransactionRecord;
use crate::store::postgres::rows_at;
use crate::store::sql::spends::{SpendRow, counter_key, subject_text};

/// The limits keep the plan at one look into the index for each.
const STANDINGS: &str = "
SELECT 'o', id, version, frozen, NULL, NULL FROM organization WHERE id = ANY($1)
UNION ALL
SELECT 'a', found.id, NULL, NULL, found.status, found.current_mandate
FROM unnest($2::bytea[]) AS asked (id) CROSS JOIN LATERAL (
    SELECT id, status, current_mandate FROM agent WHERE agent.id = asked.id LIMIT 1) found
UNION ALL
SELECT 'm', found.id, found.version, NULL, found.status, NULL
FROM unnest($3::bytea[]) AS asked (id) CROSS JOIN LATERAL (
    SELECT id, version, status FROM mandate WHERE mandate.id = asked.id LIMIT 1) found";

pub(super) static KNOWN: LazyLock<String> =
    LazyLock::new(|| rows_at("SELECT * FROM spend_by_id WHERE id = ANY($1)"));

/// The records of keys: a few, as a key may have been used for two requests, and parts of digests
/// may be the same. The limit keeps the plan at one look into the index for each.
static OF_KEYS: LazyLock<String> = LazyLock::new(|| {
    rows_at(
        "SELECT used.* FROM unnest($1::bytea[], $2::bytea[]) AS asked (low, high)
        CROSS JOIN LATERAL (SELECT * FROM spend_by_id
            WHERE id >= asked.low AND id <= asked.high ORDER BY id LIMIT 16) used",
    )
});

/// The last approval of each mandate: the tally is what was before it, and itself.
const TALLIES: &str = "
SELECT mandate.id, last.approvals_before, last.sum_before, last.amount
FROM unnest($1::bytea[]) AS mandate (id)
CROSS JOIN LATERAL (
    SELECT approvals_before, sum_before, amount FROM spend
    WHERE mandate_id = mandate.id AND verdict <> 'rejected'
    ORDER BY decided_at DESC, seq DESC LIMIT 1) last";

/// The first approval in each window.
const APPROVALS: &str = "
SELECT asked.mandate, first.decided_at, first.approvals_before, first.sum_before
FROM unnest($1::bytea[], $2::bigint[]) AS asked (mandate, starts_at)
CROSS JOIN LATERAL (
    SELECT decided_at, approvals_before, sum_before FROM spend
    WHERE mandate_id = asked.mandate AND verdict <> 'rejected' AND decided_at > asked.starts_at
    ORDER BY decided_at, seq LIMIT 1) first";

/// With what is leased of each, which outlives its row. The limit keeps the plan at one look
/// into the index for each.
const COUNTERS: &str = "
SELECT asked.place, kept.spent, kept.held, (SELECT coalesce(sum(leased), 0)::bigint FROM lease
    WHERE lease.mandate_id = asked.mandate AND lease.subject = asked.subject
        AND lease.starts_at = asked.starts_at)
FROM unnest($1::bytea[], $2::text[], $3::bigint[])
    WITH ORDINALITY AS asked (mandate, subject, starts_at, place)
LEFT JOIN LATERAL (
    SELECT spent, held FROM counter
    WHERE mandate_id = asked.mandate AND subject = asked.subject
        AND starts_at = asked.starts_at LIMIT 1) kept ON true";

/// The kept counters of a subject in whose windows a time is.
const COUNTING: &str = "
SELECT counter.mandate_id, counter.subject, counter.starts_at, counter.ends_at, counter.spent,
    counter.held
FROM unnest($1::bytea[], $2::text[], $3::bigint[], $4::bigint[])
    AS asked (mandate, subject, earliest, decided_at)
JOIN counter ON counter.mandate_id = asked.mandate AND counter.subject = asked.subject
    AND counter.starts_at BETWEEN asked.earliest AND asked.decided_at
    AND counter.ends_at > asked.decided_at";

/// What new counters start at: everything of their windows that was spent before they existed.
const SUM_UP: &str = "
SELECT asked.place, counted.vendor, counted.spent, counted.held
FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::text[], $5::text[])
    WITH ORDINALITY AS asked (mandate, starts_at, ends_at, kind, subject, place)
CROSS JOIN LATERAL (
    SELECT vendor,
        sum(CASE state WHEN 'approved' THEN amount WHEN 'settled' THEN coalesce(paid, settled)
            WHEN 'refunded' THEN coalesce(paid, settled) - coalesce(repaid, refunded)
            ELSE 0 END)::bigint AS spent,
        sum(CASE state WHEN 'pending_approval' THEN amount ELSE 0 END)::bigint AS held
    FROM spend
    WHERE mandate_id = asked.mandate AND verdict <> 'rejected'
        AND decided_at >= asked.starts_at AND decided_at < asked.ends_at
        AND CASE asked.kind
            WHEN 'budget' THEN true
            WHEN 'category' THEN category = asked.subject
            ELSE vendor = asked.subject
                OR right(vendor, length(asked.subject) + 1) = '.' || asked.subject
        END
    GROUP BY vendor) counted";

/// Ids as an array parameter, each once.
fn ids<'a>(ids: impl Iterator<Item = &'a [u8; 16]>) -> Vec<Vec<u8>> {
    ids.collect::<HashSet<_>>().into_iter().map(|id| id.to_vec()).collect()
}

pub(super) fn id(bytes: &[u8]) -> Result<[u8; 16], Failed> {
    Ok(bytes.try_into().map_err(corrupt)?)
}

pub(super) fn time(micros: i64) -> Result<Timestamp, Failed> {
    Ok(Timestamp::from_microsecond(micros).map_err(corrupt)?)
}

pub(super) async fn load(
    connection: &mut PgConnection,
    needs: &Needs<'_>,
    now: Timestamp,
) -> Result<Page, Failed> {
    let mut page = Page::default();
    if !needs.standings.is_empty() {
        standings(connection, &mut page.book, needs).await?;
    }
    if !needs.decides.is_empty() || !needs.resolves.is_empty() {
        known(connection, &mut page, needs).await?;
    }
    if !needs.claims.is_empty() {
        counters(connection, &mut page, needs).await?;
        tallies(connection, &mut page.book, needs).await?;
        approvals(connection, &mut page.book, needs, now).await?;
    }
    Ok(page)
}

async fn standings(
    connection: &mut PgConnection,
    book: &mut Book,
    needs: &Needs<'_>,
) -> Result<(), Failed> {
    let named = needs.standings.iter();
    let mandates = named.clone().filter_map(|(_, _, standing)| standing.mandate.as_ref());
    let rows = sqlx::query(STANDINGS)
        .bind(ids(named.clone().map(|(org, ..)| org.as_bytes())))
        .bind(ids(named.map(|(_, agent, _)| agent.as_bytes())))
        .bind(ids(mandates.map(|mandate| mandate.id.as_bytes())))
        .fetch_all(connection)
        .await?;
    for row in rows {
        let id = id(row.try_get(1)?)?;
        match row.try_get::<&str, _>(0)? {
            "o" => {
                book.orgs.insert(OrgId::from_bytes(id), (row.try_get(2)?, row.try_get(3)?));
            }
            "a" => {
                let status = word::<AgentStatus>(row.try_get(4)?)?;
                let current: Option<&[u8]> = row.try_get(5)?;
                let current = current.map(self::id).transpose()?.map(MandateId::from_bytes);
                book.agents.insert(AgentId::from_bytes(id), (status, current));
            }
            _ => {
                let status = word::<MandateStatus>(row.try_get(4)?)?;
                book.mandates.insert(MandateId::from_bytes(id), (row.try_get(2)?, status));
            }
        }
    }
    Ok(())
}

/// Transactions that exist already. One that is resolved brings every kept counter that counts it,
/// whether or not it was charged to it at the time: a cap that began later counts it too.
async fn known(
    connection: &mut PgConnection,
    page: &mut Page,
    needs: &Needs<'_>,
) -> Result<(), Failed> {
    let of_keys = needs.decides.iter().map(|decide| decide.id);
    let mut rows = rows_of_keys(connection, of_keys).await?;
    let decided = rows.iter().map(|row| row.seq).collect::<HashSet<_>>();
    if !needs.resolves.is_empty() {
        let named = ids(needs.resolves.iter().map(|id| id.as_bytes()));
        let more = query_as::<_, SpendRow>(sqlx::AssertSqlSafe(KNOWN.as_str()))
            .bind(named)
            .fetch_all(&mut *connection)
            .await?;
        rows.extend(more.into_iter().filter(|row| !decided.contains(&row.seq)));
    }
    rows.sort_by_key(|row| row.seq);
    let records = rows.into_iter().map(SpendRow::record).collect::<Result<Vec<_>, _>>()?;
    let resolved = records.iter().filter(|record| needs.resolves.contains(&record.id));
    counting(connection, page, resolved).await?;
    for found in records {
        page.book.used.entry(found.id.key_part()).or_insert(found.id);
        page.book.transactions.insert(found.id, Arc::new(found));
    }
    Ok(())
}

/// The rows of the keys that these ids were made of.
pub(super) async fn rows_of_keys(
    connection: &mut PgConnection,
    ids: impl Iterator<Item = TransactionId>,
) -> Result<Vec<SpendRow>, sqlx::Error> {
    let parts = ids.map(TransactionId::key_part).collect::<HashSet<_>>();
    let ends = |end: u8| {
        let parts = parts.iter().map(move |part| [part.as_slice(), &[end; 8]].concat());
        parts.collect::<Vec<_>>()
    };
    query_as::<_, SpendRow>(sqlx::AssertSqlSafe(OF_KEYS.as_str()))
        .bind(ends(0))
        .bind(ends(u8::MAX))
        .fetch_all(connection)
        .await
}

async fn counting<'a>(
    connection: &mut PgConnection,
    page: &mut Page,
    records: impl Iterator<Item = &'a TransactionRecord>,
) -> Result<(), Failed> {
    let (mut mandates, mut names, mut earliest, mut at) = (vec![], vec![], vec![], vec![]);
    for record in records {
        let Some((mandate, _)) = record.mandate() else { continue };
        for (subject, start) in subjects(record) {
            mandates.push(mandate.as_bytes().to_vec());
            names.push(subject);
            earliest.push(start);
            at.push(record.decided_at.as_microsecond());
        }
    }
    if mandates.is_empty() {
        return Ok(());
    }
    let rows = query_as::<_, (Vec<u8>, String, i64, i64, i64, i64)>(COUNTING)
        .bind(mandates)
        .bind(names)
        .bind(earliest)
        .bind(at)
        .fetch_all(connection)
        .await?;
    for (mandate, subject, starts_at, ends_at, spent, held) in rows {
        let key = counter_key(MandateId::from_bytes(id(&mandate)?), &subject, starts_at)
            .ok_or_else(|| corrupt("a counter cannot be understood"))?;
        if ends_at < i64::MAX {
            page.book.ends.insert(key.clone(), time(ends_at)?);
        }
        page.kept.insert(key.clone());
        page.book.counters.insert(key, Level { spent, held });
    }
    Ok(())
}

pub(super) async fn counters(
    connection: &mut PgConnection,
    page: &mut Page,
    needs: &Needs<'_>,
) -> Result<(), Failed> {
    let mut asked = HashMap::<&CounterKey, &Charge>::new();
    for charge in needs.claims.iter().flat_map(|claim| &claim.charges) {
        asked.entry(&charge.key).or_insert(charge);
        if let Some(end) = charge.ends_at {
            page.book.ends.entry(charge.key.clone()).or_insert(end);
        }
    }
    let asked = asked.into_values().collect::<Vec<_>>();
    if asked.is_empty() {
        return Ok(());
    }
    let keys = || asked.iter().map(|charge| &charge.key);
    let rows = query_as::<_, (i64, Option<i64>, Option<i64>, i64)>(COUNTERS)
        .bind(keys().map(|key| key.mandate.as_bytes().to_vec()).collect::<Vec<_>>())
        .bind(keys().map(|key| subject_text(&key.subject, key.period)).collect::<Vec<_>>())
        .bind(keys().map(|key| key.starts_at.as_microsecond()).collect::<Vec<_>>())
        .fetch_all(&mut *connection)
        .await?;
    let found = rows.into_iter().map(|(place, spent, held, leased)| {
        (place, (spent.zip(held).map(|(spent, held)| Level { spent, held }), leased))
    });
    let found = found.collect::<HashMap<_, _>>();
    let mut new = Vec::new();
    for (charge, place) in asked.into_iter().zip(1_i64..) {
        let (level, leased) = found.get(&place).copied().unwrap_or_default();
        if leased > 0 {
            page.book.leased.insert(charge.key.clone(), leased);
        }
        // What a resolution brought is here already.
        if page.book.counters.contains_key(&charge.key) {
            continue;
        }
        if let Some(level) = level {
            page.kept.insert(charge.key.clone());
            page.book.counters.insert(charge.key.clone(), level);
        } else {
            new.push(charge);
        }
    }
    sum_up(connection, &mut page.book, &new).await
}

async fn sum_up(
    connection: &mut PgConnection,
    book: &mut Book,
    new: &[&Charge],
) -> Result<(), Failed> {
    if new.is_empty() {
        return Ok(());
    }
    let (kinds, names) = new.iter().map(|charge| sum_of(&charge.key.subject)).unzip();
    let rows = query_as::<_, (i64, String, i64, i64)>(SUM_UP)
        .bind(column(new, |charge| charge.key.mandate.as_bytes().to_vec()))
        .bind(column(new, |charge| charge.key.starts_at.as_microsecond()))
        .bind(column(new, |charge| end_micros(charge.ends_at)))
        .bind::<Vec<&str>>(kinds)
        .bind::<Vec<&str>>(names)
        .fetch_all(connection)
        .await?;
    let mut levels = new.iter().map(|charge| (&charge.key, Level::default())).collect::<Vec<_>>();
    for (place, vendor, spent, held) in rows {
        let place = usize::try_from(place).ok().and_then(|place| place.checked_sub(1));
        let level = place.and_then(|place| levels.get_mut(place));
        let (key, level) = level.ok_or_else(|| corrupt("a sum of a counter nobody asked for"))?;
        add(level, &key.subject, &vendor, Level { spent, held });
    }
    book.counters.extend(levels.into_iter().map(|(key, level)| (key.clone(), level)));
    Ok(())
}

async fn tallies(
    connection: &mut PgConnection,
    book: &mut Book,
    needs: &Needs<'_>,
) -> Result<(), Failed> {
    let mandates = ids(needs.claims.iter().map(|claim| claim.mandate.as_bytes()));
    let rows = query_as::<_, (Vec<u8>, i64, i64, i64)>(TALLIES)
        .bind(mandates)
        .fetch_all(connection)
        .await?;
    for (mandate, count, sum, amount) in rows {
        let tally = Tally { count, sum }.and(amount);
        book.tallies.insert(MandateId::from_bytes(id(&mandate)?), tally);
    }
    Ok(())
}

async fn approvals(
    connection: &mut PgConnection,
    book: &mut Book,
    needs: &Needs<'_>,
    now: Timestamp,
) -> Result<(), Failed> {
    let starts = needs.claims.iter().flat_map(|claim| {
        let starts = claim.windows.iter().map(|test| test.start(now).as_microsecond());
        starts.map(|start| (claim.mandate, start))
    });
    let starts = starts.collect::<HashSet<_>>();
    if starts.is_empty() {
        return Ok(());
    }
    let mandates = starts.iter().map(|(mandate, _)| mandate.as_bytes().to_vec());
    let rows = query_as::<_, (Vec<u8>, i64, i64, i64)>(APPROVALS)
        .bind(mandates.collect::<Vec<_>>())
        .bind(starts.iter().map(|(_, start)| *start).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    for (mandate, at, count, sum) in rows {
        let approval = Approval { at: time(at)?, before: Tally { count, sum } };
        let mandate = MandateId::from_bytes(id(&mandate)?);
        book.approvals.entry(mandate).or_default().push(approval);
    }
    for approvals in book.approvals.values_mut() {
        approvals.sort_by_key(|approval| approval.at);
    }
    Ok(())
}
