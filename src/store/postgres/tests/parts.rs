//! The record in parts by year: what goes where, that ids are of all of them, and how a record that
//! was one table becomes the first part while servers of the release before decide.
//!
//! Not here: that every part is read and written through indexes (`tests/it/plans.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{AssertSqlSafe, Connection};
use tokio::task::JoinSet;

use super::super::fixture::{self, APPLICATION, as_application};
use super::super::rows_at;
use super::*;
use crate::store::sql::spends::SpendRow;

const ORG: &str = "INSERT INTO organization VALUES (decode(repeat('01', 16), 'hex'), 'lab', false,
    1, '{}')";
/// A decision of this number, at a time.
const DECIDE: &str = "INSERT INTO spend SELECT decode(repeat('01', 16), 'hex'), $1, id, id, id, $2,
    $2, 'approved', 'approved', 1, NULL, NULL, 'USD', 'a.com', NULL, 'key', id, 0, 0, '{}'
    FROM (SELECT decode(lpad(to_hex($1), 32, '0'), 'hex') AS id) numbered";
/// Where the decisions are, in the order of their numbers.
const WHERE: &str = "SELECT tableoid::regclass::text FROM spend ORDER BY seq";
const PARTS: &str = "SELECT inhrelid::regclass::text FROM pg_inherits
    WHERE inhparent = 'spend'::regclass ORDER BY 1";
/// The last migration before the record was in parts.
const BEFORE: i64 = 15;
/// The migration that looks whether the later ones may begin.
const REFUSES: i64 = 12;
/// What a server of that release was allowed of decisions, and could not do without.
const GRANTED: &str = "GRANT SELECT, INSERT, UPDATE (state, settled, refunded, updated_at, due_at,
    paid, repaid, followup, approvals_before, sum_before) ON spend TO quetra_application";
const IN_ITS_NAME: &str = "SET quetra.org = '01010101010101010101010101010101'";

/// The year in which the record's first part ends, and the time that it begins at.
async fn first_end(owner: &PgPool) -> (i32, i64) {
    let parts = sqlx::query_scalar::<_, String>(PARTS).fetch_all(owner).await.unwrap();
    let first = parts.iter().find_map(|name| name.strip_prefix("spend_before_"));
    let year = first.unwrap().parse().unwrap();
    (year, year_begins(year))
}

fn year_begins(year: i32) -> i64 {
    let begins = format!("{year}-01-01T00:00:00Z").parse::<jiff::Timestamp>();
    begins.unwrap().as_microsecond()
}

async fn decide(owner: &PgPool, number: i64, at: i64) -> Result<(), sqlx::Error> {
    sqlx::query(DECIDE).bind(number).bind(at).execute(owner).await.map(drop)
}

async fn rows(owner: &PgPool, numbers: &[i64]) -> Vec<i64> {
    let ids = numbers.iter().map(|number| i128::from(*number).to_be_bytes().to_vec());
    let asked = AssertSqlSafe(rows_at("SELECT * FROM spend_by_id WHERE id = ANY($1)"));
    let rows = sqlx::query_as::<_, SpendRow>(asked).bind(ids.collect::<Vec<_>>());
    let rows = rows.fetch_all(owner).await.unwrap();
    let mut found = rows.iter().map(|row| row.seq).collect::<Vec<_>>();
    found.sort_unstable();
    found
}

#[tokio::test]
async fn a_decision_is_in_the_part_of_its_year_and_its_id_is_of_no_other() {
    let (store, _url) = fixture::open().await;
    let owner = store.writer();
    sqlx::raw_sql(ORG).execute(owner).await.unwrap();
    let (year, end) = first_end(owner).await;
    for (number, at) in [(1, 0), (2, end - 1), (3, end), (4, year_begins(year + 9))] {
        decide(owner, number, at).await.unwrap();
    }
    let first = format!("spend_before_{year}");
    let places = sqlx::query_scalar::<_, String>(WHERE).fetch_all(owner).await.unwrap();
    // In the last months of a year the next one has its part already.
    assert_eq!(places[..2], [first.clone(), first]);
    assert!(["spend_later", &format!("spend_{year}")].contains(&places[2].as_str()));
    assert_eq!(places[3], "spend_later");
    assert_eq!(rows(owner, &[1, 2, 3, 4, 5]).await, [1, 2, 3, 4]);
    // The same id, or the same place, at another time.
    for (number, place) in [(1, 5), (5, 1)] {
        let again = DECIDE.replace("'hex'), $1, id", &format!("'hex'), {place}, id"));
        let again = sqlx::query(AssertSqlSafe(again)).bind(number).bind(end);
        let kind = kind_of(again.execute(owner).await.unwrap_err());
        assert_eq!(kind, StoreErrorKind::Conflict, "{number} at {place}");
    }
    assert_eq!(rows(owner, &[1, 5]).await, [1]);
}

#[tokio::test]
async fn a_part_is_made_in_time_with_what_is_recorded_already_unless_that_is_much() {
    let (store, _url) = fixture::open().await;
    let owner = store.writer();
    sqlx::raw_sql(ORG).execute(owner).await.unwrap();
    let (year, _) = first_end(owner).await;
    let part = async |at: &str| {
        let part = sqlx::query_scalar::<_, bool>("SELECT part_record($1::timestamptz)").bind(at);
        part.fetch_one(owner).await.unwrap()
    };
    let parts = async || {
        let parts = sqlx::query_scalar::<_, String>(PARTS).fetch_all(owner).await.unwrap();
        parts.into_iter().filter(|name| !name.contains("before")).collect::<Vec<_>>()
    };
    let early = format!("{}-10-01 00:00:00+00", year + 1);
    let late = format!("{}-10-04 00:00:00+00", year + 1);
    assert!(part(&early).await);
    let two = [format!("spend_{year}"), format!("spend_{}", year + 1), "spend_later".to_owned()];
    assert_eq!(parts().await, [&two[..2], &two[2..]].concat());
    // Ninety days before the year after, by whoever comes first.
    let (one, other) = tokio::join!(part(&late), part(&late));
    assert!(one && other);
    let three = [&two[..2], &[format!("spend_{}", year + 2)], &two[2..]].concat();
    assert_eq!(parts().await, three);
    decide(owner, 1, year_begins(year + 1)).await.unwrap();
    decide(owner, 2, year_begins(year + 3)).await.unwrap();
    let places = sqlx::query_scalar::<_, String>(WHERE).fetch_all(owner).await.unwrap();
    assert_eq!(places, [two[1].as_str(), "spend_later"]);
    let later = format!("{}-11-01", year + 2);
    let few = "SELECT part_record($1::timestamptz, 0)";
    let few = sqlx::query_scalar::<_, bool>(few).bind(&later).fetch_one(owner).await.unwrap();
    assert!(part(&late).await && !few);
    assert_eq!(parts().await, three);
    // What was recorded of that year moves with it; what is of a later one stays.
    decide(owner, 3, year_begins(year + 9)).await.unwrap();
    assert!(part(&later).await);
    let places = sqlx::query_scalar::<_, String>(WHERE).fetch_all(owner).await.unwrap();
    assert_eq!(places, [two[1].as_str(), &format!("spend_{}", year + 3), "spend_later"]);
    assert_eq!(rows(owner, &[1, 2, 3]).await, [1, 2, 3]);
    let names = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM spend_by_id").fetch_one(owner);
    assert_eq!(names.await.unwrap(), 3);
    // A server may ask for the next year's, and has it.
    assert!(store.part_record().await.unwrap());
}

/// Decides, looks its decision up and settles it, as a server of the release before; how often.
async fn decide_as_before(url: String, from: i64, stop: Arc<AtomicBool>) -> i64 {
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(IN_ITS_NAME).execute(&mut connection).await.unwrap();
    let mut number = from;
    while !stop.load(Ordering::Relaxed) {
        let mut writing = connection.begin().await.unwrap();
        let decided = sqlx::query(DECIDE).bind(number).bind(number).execute(&mut *writing).await;
        decided.unwrap();
        writing.commit().await.unwrap();
        let settle = sqlx::query(
            "UPDATE spend SET state = now.state, settled = 1 FROM (VALUES ('settled', $1::bytea))
            now (state, id) WHERE spend.id = now.id",
        );
        let id = i128::from(number).to_be_bytes().to_vec();
        let settled = settle.bind(&id).execute(&mut connection).await.unwrap();
        assert_eq!(settled.rows_affected(), 1);
        let found = sqlx::query_scalar::<_, i64>("SELECT seq FROM spend WHERE id = ANY($1)");
        let found = found.bind(vec![id]).fetch_all(&mut connection).await.unwrap();
        assert_eq!(found, [number]);
        number += 1;
    }
    number - from
}

#[tokio::test]
async fn a_record_with_times_to_come_is_left_as_it_is() {
    let url = fixture::fresh_database().await;
    let owner = PgPool::connect(&url).await.unwrap();
    let before = MIGRATOR.iter().filter(|one| one.version <= BEFORE && one.version != REFUSES);
    Migrator::with_migrations(before.cloned().collect()).run(&owner).await.unwrap();
    sqlx::raw_sql(ORG).execute(&owner).await.unwrap();
    let floor = "UPDATE ledger_head SET floor = (extract(epoch FROM now() + $1::interval) * 1e6)
        ::bigint";
    let store = PostgresStore::open(&url).await.unwrap();
    sqlx::query(floor).bind("400 days").execute(&owner).await.unwrap();
    let error = store.migrate().await.unwrap_err();
    let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(why.contains("the clock of a server was ahead"), "{why}");
    let parted = "SELECT to_regclass('spend_by_id') IS NOT NULL";
    assert!(!sqlx::query_scalar::<_, bool>(parted).fetch_one(&owner).await.unwrap());
    // What is not yet next year, or will be in some weeks, is in order.
    sqlx::query(floor).bind("1 hour").execute(&owner).await.unwrap();
    assert!(store.migrate().await.unwrap().contains(&"0012_refuse_times_to_come".to_owned()));
    store.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_becomes_the_first_part_while_servers_of_the_release_before_decide() {
    let url = fixture::fresh_database().await;
    let owner = PgPool::connect(&url).await.unwrap();
    let before = MIGRATOR.iter().filter(|migration| migration.version <= BEFORE).cloned();
    Migrator::with_migrations(before.collect()).run(&owner).await.unwrap();
    sqlx::raw_sql(GRANTED).execute(&owner).await.unwrap();
    sqlx::raw_sql(ORG).execute(&owner).await.unwrap();
    for number in 1..=100 {
        decide(&owner, number, number).await.unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut deciding = JoinSet::new();
    for from in (1..=4).map(|server| server * 1_000_000) {
        deciding.spawn(decide_as_before(as_application(&url), from, Arc::clone(&stop)));
    }
    let store = PostgresStore::open(&url).await.unwrap();
    let applied = store.migrate().await.unwrap();
    assert!(applied.len() >= 4, "{applied:?}");
    // They go on for a while, on what they find now.
    let recorded = async || {
        let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM spend");
        count.fetch_one(&owner).await.unwrap()
    };
    let enough = recorded().await + 100;
    while recorded().await < enough {
        assert!(!deciding.is_empty());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let decided = deciding.join_all().await.into_iter().sum::<i64>();
    assert_eq!(recorded().await, 100 + decided);
    let named: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM spend JOIN spend_by_id USING (id, org_id, seq, decided_at)",
    )
    .fetch_one(&owner)
    .await
    .unwrap();
    assert_eq!(named, 100 + decided);
    assert_eq!(rows(&owner, &[1, 100, 1_000_000, 4_000_000]).await, [1, 100, 1_000_000, 4_000_000]);
    // Its role reads the names, is walled off as before, and a new server starts.
    let mut server = PgConnection::connect(&as_application(&url)).await.unwrap();
    let seen = async |server: &mut PgConnection, org: &str| {
        let name = AssertSqlSafe(format!("SET quetra.org = '{org}'"));
        sqlx::raw_sql(name).execute(&mut *server).await.unwrap();
        let both = "SELECT (SELECT count(*) FROM spend), (SELECT count(*) FROM spend_by_id)";
        sqlx::query_as::<_, (i64, i64)>(both).fetch_one(server).await.unwrap()
    };
    let all = 100 + decided;
    assert_eq!(seen(&mut server, &"01".repeat(16)).await, (all, all));
    assert_eq!(seen(&mut server, &"02".repeat(16)).await, (0, 0));
    let change = "UPDATE spend SET amount = 0";
    assert!(sqlx::query(change).execute(&mut server).await.is_err());
    server.close().await.unwrap();
    store.grant_to(APPLICATION).await.unwrap();
    store.check().await.unwrap();
}
