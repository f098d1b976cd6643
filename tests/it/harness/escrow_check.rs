//! The checker of the escrow: what Postgres leased is what Redis has left, to the unit.
//!
//! It reads both when a server has stopped. A Redis that was not spent from since it came back has
//! nothing that counts, and is not compared. Not here: counters and the record (`ledger_check`).

use redis::Value;
use sqlx::postgres::PgPool;
use sqlx::query_as;

use super::redis::Asker;

const AUTHORITIES: &str = "SELECT shard, epoch, position_epoch, position_seq FROM shard_authority";

const LEASES: &str =
    "SELECT encode(mandate_id, 'hex') AS mandate, subject, starts_at, number, amount,
    leased FROM lease WHERE shard = $1 AND epoch = $2";

/// What is spent, held and leased of a counter never exceeds what it was leased under.
const OVERSPENT: &str = "
SELECT encode(lease.mandate_id, 'hex') || ' ' || lease.subject FROM lease
JOIN counter USING (mandate_id, subject, starts_at)
GROUP BY lease.mandate_id, lease.subject, lease.starts_at, counter.spent, counter.held
HAVING counter.spent + counter.held + sum(lease.leased) > max(lease.limit_minor)";

quetra::from_row! {
    struct Authority {
        shard: i16,
        epoch: i64,
        position_epoch: i64,
        position_seq: i64,
    }
}

quetra::from_row! {
    struct Lease {
        mandate: String,
        subject: String,
        starts_at: i64,
        number: i64,
        amount: i64,
        leased: i64,
    }
}

/// Everything that is wrong between a Postgres database and a Redis; empty if nothing is.
pub(crate) async fn violations(pool: &PgPool, redis: &str) -> Vec<String> {
    let overspent = sqlx::query_scalar::<_, String>(OVERSPENT).fetch_all(pool).await.unwrap();
    let mut found = overspent;
    found.iter_mut().for_each(|counter| counter.push_str(" is overspent with what is leased"));
    let mut redis = Asker::new(redis);
    let authorities: Vec<Authority> = query_as(AUTHORITIES).fetch_all(pool).await.unwrap();
    for one in authorities {
        let (shard, epoch) = (one.shard, one.epoch);
        if numbers(&mut redis, &format!("v1:{{s{shard:02}}}:auth")).first() != Some(&epoch) {
            continue;
        }
        let last = last_place(&mut redis, &format!("v1:{{s{shard:02}}}:out"));
        let position = format!("{}-{}", one.position_epoch, one.position_seq);
        if last != position {
            found.push(format!("shard {shard} is recorded up to {position}, not to {last}"));
        }
        let leases = query_as::<_, Lease>(LEASES).bind(shard).bind(epoch);
        for lease in leases.fetch_all(pool).await.unwrap() {
            let Lease { mandate, subject, starts_at, number, amount, leased } = lease;
            let key = format!("v1:{{s{shard:02}}}:b:{mandate}:{subject}:{starts_at}");
            let slice = numbers(&mut redis, &key);
            let (installed, rest) = match slice.as_slice() {
                [of, number, rest, ..] if *of == epoch => (*number, *rest),
                _ => (0, 0),
            };
            // One lease may be on its way; a slice is gone a day after its period.
            let on_its_way = if installed < number { amount } else { 0 };
            if rest + on_its_way != leased && !(slice.is_empty() && number > 1) {
                found.push(format!("{key} has {rest} and {on_its_way}, {leased} are leased"));
            }
        }
    }
    found
}

/// The integers that a packed value begins with.
fn numbers(redis: &mut Asker, key: &str) -> Vec<i64> {
    let value = redis.ask(redis::cmd("GET").arg(key));
    let value: Vec<u8> = redis::from_redis_value::<Option<_>>(value).unwrap().unwrap_or_default();
    value.chunks_exact(8).map(|bytes| i64::from_be_bytes(bytes.try_into().unwrap())).collect()
}

fn last_place(redis: &mut Asker, key: &str) -> String {
    let said = redis.ask(redis::cmd("XINFO").arg("STREAM").arg(key));
    let Value::Array(fields) = said else { panic!("{said:?}") };
    let name = Value::BulkString(b"last-generated-id".to_vec());
    let at = fields.iter().position(|field| *field == name).unwrap();
    let Value::BulkString(last) = &fields[at + 1] else { panic!("no last id") };
    String::from_utf8(last.clone()).unwrap()
}
