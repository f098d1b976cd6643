//! A schema that is expanded while servers of the release before it decide: they go on, lose
//! nothing and refuse nobody; and one that starts afterwards says what it is too old for.
//!
//! The migrations are the test's own, of the kinds that `src/store/postgres/migrations/README.md`
//! allows. Not here: the real ones, which every test on Postgres applies.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quetra::clock::SystemClock;
use quetra::config::DatabaseUrl;
use quetra::proto::v1::Decision;
use quetra::store::postgres::PostgresStore;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, SqlSafeStr};
use tokio::task::JoinSet;

use crate::harness::postgres::as_owner;
use crate::harness::{Clients, Engine, Server, ask, budget};

/// A new column, a new table and an index: as files of a later release, with numbers of their own.
const EXPANSIONS: [(&str, &str, bool); 4] = [
    (
        "add column",
        "SET LOCAL lock_timeout = '2s';
        ALTER TABLE spend ADD COLUMN channel TEXT",
        false,
    ),
    (
        "add check",
        "SET LOCAL lock_timeout = '2s';
        ALTER TABLE spend ADD CONSTRAINT known_channel CHECK (channel <> '') NOT VALID",
        false,
    ),
    ("validate check", "ALTER TABLE spend VALIDATE CONSTRAINT known_channel", false),
    ("make index", "CREATE INDEX CONCURRENTLY act_by_subject ON act (org_id, subject)", true),
];

/// An index on the record is made part by part: the whole is valid once it has one of each.
const INDEX_OF_ALL: &str = "CREATE INDEX spend_by_vendor ON ONLY spend (org_id, vendor)";
const PARTS: &str = "SELECT inhrelid::regclass::text FROM pg_inherits
    WHERE inhparent = 'spend'::regclass";
const IS_VALID: &str =
    "SELECT indisvalid FROM pg_index WHERE indexrelid = 'spend_by_vendor'::regclass";

fn expansions() -> Migrator {
    let migrations = (9_001..).zip(EXPANSIONS).map(|(version, (name, sql, no_transaction))| {
        let (name, sql) = (Cow::Borrowed(name), sql.into_sql_str());
        Migration::new(version, name, MigrationType::Simple, sql, no_transaction)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    // Those of the product are applied already.
    migrator.set_ignore_missing(true);
    migrator
}

/// Spends one unit at a time until it is told to stop; how often.
async fn spend(mut client: Clients, agent: String, stop: Arc<AtomicBool>) -> i64 {
    let mut approved = 0;
    while !stop.load(Ordering::Relaxed) {
        let answer = client.evaluate.evaluate(ask(&agent, 1)).await.unwrap().into_inner();
        assert_eq!(answer.decision(), Decision::Approved);
        approved += 1;
    }
    approved
}

async fn index_parts(owner: &mut PgConnection) {
    sqlx::query(INDEX_OF_ALL).execute(&mut *owner).await.unwrap();
    let parts = sqlx::query_scalar::<_, String>(PARTS).fetch_all(&mut *owner).await.unwrap();
    assert!(parts.len() > 1, "{parts:?}");
    for part in parts {
        for statement in [
            format!("CREATE INDEX CONCURRENTLY {part}_by_vendor ON {part} (org_id, vendor)"),
            format!("ALTER INDEX spend_by_vendor ATTACH PARTITION {part}_by_vendor"),
        ] {
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *owner).await.unwrap();
        }
    }
    let is_valid = sqlx::query_scalar::<_, bool>(IS_VALID).fetch_one(owner).await.unwrap();
    assert!(is_valid, "the index of the whole record");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_decide_while_the_schema_is_expanded_and_refuse_to_start_on_it() {
    let one = Server::on(Engine::Postgres).await;
    let other = one.replica(Arc::new(SystemClock)).await;
    let mut admins = [one.admin().await, other.admin().await];
    let (agent, _) = admins[0].agent_with_mandate(budget(1_000_000, 1), vec![]).await;
    // So that there is a row, however quick the migrations are.
    assert_eq!(admins[0].spend(ask(&agent, 1)).await.decision(), Decision::Approved);
    let stop = Arc::new(AtomicBool::new(false));
    let mut spenders = JoinSet::new();
    for number in 0..16 {
        let client = admins[number % 2].clone();
        spenders.spawn(spend(client, agent.clone(), Arc::clone(&stop)));
    }
    let DatabaseUrl::Postgres(url) = one.database() else { panic!("not on Postgres") };
    let url = url.expose().to_owned();
    let mut owner = PgConnection::connect(&as_owner(&url)).await.unwrap();
    expansions().run(&mut owner).await.unwrap();
    index_parts(&mut owner).await;
    // Written by a later release, read by this one.
    let written = sqlx::query("UPDATE spend SET channel = 'api'").execute(&mut owner).await;
    assert!(written.unwrap().rows_affected() > 0);
    let (number, _) = admins[1].agent_with_mandate(budget(10, 1), vec![]).await;
    assert_eq!(admins[0].spend(ask(&number, 1)).await.decision(), Decision::Approved);
    stop.store(true, Ordering::Relaxed);
    let approved: i64 = spenders.join_all().await.into_iter().sum();
    let count = "SELECT count(*) FROM spend WHERE verdict = 'approved'";
    let recorded: i64 = sqlx::query_scalar(count).fetch_one(&mut owner).await.unwrap();
    assert_eq!(recorded, approved + 2);
    owner.close().await.unwrap();

    let late = PostgresStore::open(&url).await.unwrap();
    let refused = format!("{:?}", late.check().await.unwrap_err());
    assert!(refused.contains("9001"), "{refused}");
    late.close().await;
    other.stop().await;
    one.stop().await;
}
