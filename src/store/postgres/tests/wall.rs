//! The wall between organizations, tried with raw SQL as the role that servers work as: what a
//! statement that forgot to ask for its organization, or was told another's id, could do.
//!
//! Not here: that servers work as that role, which every test of a server on Postgres shows.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};

use super::super::fixture::{self, APPLICATION};
use super::*;

/// Two organizations with a row in every table; `ORG` is whose.
const ROWS: &str = "
INSERT INTO organization VALUES (ORG, 'slug ' || encode(ORG, 'hex'), false, 1, '{}');
INSERT INTO signing_key VALUES (ORG, 'key', sha256(ORG), ORG, 0);
INSERT INTO agent VALUES (ORG, ORG, 'an agent', 'active', NULL, 1, '{}');
INSERT INTO mandate VALUES (ORG, ORG, ORG, 'draft', 1, '{}');
INSERT INTO mandate_version VALUES (ORG, 1, ORG, '{}');
INSERT INTO api_key VALUES (ORG, ORG, NULL, 'admin', sha256(ORG), NULL, NULL, NULL, '{}');
INSERT INTO receipt VALUES (ORG, 'key', ORG, '{}', 0);
INSERT INTO counter VALUES (ORG, ORG, 'b:none', 0, 1, 0, 0);
INSERT INTO spend VALUES (ORG, 1, ORG, ORG, ORG, 0, 0, 'approved', 'approved', 1, NULL, NULL,
    'USD', 'a.com', NULL, 'key', ORG, 0, 0, '{}');
INSERT INTO webhook_endpoint VALUES (ORG, ORG, false, true, 1, ORG, NULL, NULL, '{}');
INSERT INTO webhook_cursor VALUES (ORG, ORG, 0, NULL, NULL);
INSERT INTO webhook_delivery VALUES (ORG, ORG, ORG, 'pending', 'webhook.test', 0, 0, '{}');
INSERT INTO act VALUES (ORG, 1, 0, 0, 'an.act', ORG, ORG, 'admin', '{}');
INSERT INTO journal VALUES (ORG, 1, 0, 'an.act', 2, 1, sha256(ORG), NULL);
INSERT INTO budget_mark VALUES (ORG, 0, 80, 1, ORG);
INSERT INTO journal_checkpoint VALUES (ORG, 1, sha256(ORG), 0, 'key', 'signature');
INSERT INTO lease VALUES (ORG, ORG, 'b:none', 0, 1, 1, 1, 1, 1, 'fast', 1);";

/// Tables without rows of organizations: the migrations, and which Redis a shard is spent from.
const OF_NOBODY: [&str; 3] = ["_sqlx_migrations", "shard_authority", "shard_epoch"];

/// Tables that may be read of all organizations at once.
const OF_ALL: [&str; 9] = [
    "organization",
    "api_key",
    "lease",
    "ledger_head",
    "journal_head",
    "mandate",
    "webhook_endpoint",
    "webhook_cursor",
    "webhook_delivery",
];

/// What nobody may do as the application, in an organization's name or in that of all.
const FORBIDDEN: [&str; 24] = [
    "DELETE FROM spend",
    "DELETE FROM spend_by_id",
    "INSERT INTO spend_by_id SELECT sha256(id), org_id, seq + 1, 0 FROM spend_by_id",
    "SELECT FROM spend_later",
    "SELECT part_record(now() + interval '9 years')",
    "DROP TRIGGER name_decisions ON spend",
    "CREATE TEMPORARY TABLE forged (LIKE spend_by_id);
        CREATE TRIGGER forge AFTER INSERT ON forged REFERENCING NEW TABLE AS recorded
        FOR EACH STATEMENT EXECUTE FUNCTION name_decisions()",
    "UPDATE spend SET amount = 0",
    "UPDATE spend SET decided_at = 0",
    "DELETE FROM act",
    "UPDATE act SET at = 0",
    "DELETE FROM journal",
    "UPDATE journal SET at = 0",
    "DELETE FROM journal_checkpoint",
    "UPDATE journal_checkpoint SET at = 0",
    "DELETE FROM api_key",
    "DELETE FROM lease",
    "DELETE FROM shard_authority",
    "DELETE FROM shard_epoch",
    "TRUNCATE counter",
    "CREATE TABLE mine (id BIGINT)",
    "DROP POLICY tenant ON spend",
    "ALTER TABLE spend DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE organization DISABLE TRIGGER begin_record",
];

fn literal(number: u8) -> String {
    format!("'\\x{}'::bytea", hex::encode([number; 16]))
}

async fn run(connection: &mut PgConnection, sql: &str) -> Result<u64, sqlx::Error> {
    let done = connection.execute(AssertSqlSafe(sql.to_owned())).await?;
    Ok(done.rows_affected())
}

async fn count(connection: &mut PgConnection, what: &str) -> i64 {
    let sql = AssertSqlSafe(format!("SELECT count(*) FROM {what}"));
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

async fn set(connection: &mut PgConnection, org: &str) {
    run(connection, &format!("SET quetra.org = '{org}'")).await.unwrap();
}

fn is_denied(done: Result<u64, sqlx::Error>) -> bool {
    let Err(error) = done else { return false };
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "42501")
}

/// Every table with rows of organizations, and its column that says whose; a table that a later
/// migration adds is here as well, and must have a policy.
async fn tables(store: &PostgresStore) -> Vec<(String, &'static str)> {
    let sql = "SELECT relname::text FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
            AND relname <> ALL ($1) ORDER BY 1";
    let names = sqlx::query_scalar::<_, String>(sql).bind(OF_NOBODY.as_slice());
    let names = names.fetch_all(store.writer()).await.unwrap();
    let column = |name: &str| if name == "organization" { "id" } else { "org_id" };
    names.into_iter().map(|name| (name.clone(), column(&name))).collect()
}

/// A store with rows of organizations 1 and 2, and a connection of the application.
async fn two_tenants() -> (PostgresStore, PgConnection) {
    let (store, url) = fixture::open().await;
    for org in [1, 2] {
        let rows = AssertSqlSafe(ROWS.replace("ORG", &literal(org)));
        sqlx::raw_sql(rows).execute(store.writer()).await.unwrap();
    }
    (store, PgConnection::connect(&url).await.unwrap())
}

#[tokio::test]
async fn another_tenants_rows_can_be_neither_read_nor_changed_nor_made() {
    let (store, mut application) = two_tenants().await;
    let (one, two) = (literal(1), literal(2));
    let tables = tables(&store).await;
    assert_eq!(tables.len(), 20);
    for (table, column) in &tables {
        set(&mut application, &hex::encode([1; 16])).await;
        assert_eq!(count(&mut application, table).await, 1, "{table}");
        let theirs = format!("{table} WHERE {column} = {two}");
        assert_eq!(count(&mut application, &theirs).await, 0, "{table}");
        // Either there is nothing to change, or nobody may.
        for change in [
            format!("UPDATE {table} SET {column} = {column} WHERE {column} = {two}"),
            format!("DELETE FROM {theirs}"),
        ] {
            let changed = run(&mut application, &change).await;
            assert!(matches!(changed, Ok(0)) || is_denied(changed), "{change}");
        }
        // Nor can one's own be given away.
        let gift = format!("UPDATE {table} SET {column} = {two} WHERE {column} = {one}");
        assert!(is_denied(run(&mut application, &gift).await), "{gift}");
        // Without an organization there is nothing to be seen.
        for nobody in ["", "*"] {
            set(&mut application, nobody).await;
            let may = nobody == "*" && OF_ALL.contains(&table.as_str());
            let seen = count(&mut application, table).await;
            assert_eq!(seen, if may { 2 } else { 0 }, "{table} for `{nobody}`");
        }
    }
    for table in
        ["receipt", "counter", "lease", "spend", "agent", "mandate", "api_key", "signing_key"]
    {
        set(&mut application, &hex::encode([1; 16])).await;
        let rows = ROWS.replace("ORG", &two);
        let insert = rows.split(';').find(|row| row.contains(&format!("INTO {table} ")));
        let made = run(&mut application, insert.unwrap()).await;
        assert!(is_denied(made), "{table}");
    }
    application.close().await.unwrap();
}

#[tokio::test]
async fn the_application_may_do_nothing_that_a_server_does_not_do() {
    let (store, mut application) = two_tenants().await;
    for org in [hex::encode([1; 16]), "*".to_owned()] {
        set(&mut application, &org).await;
        for sql in FORBIDDEN {
            let done = run(&mut application, sql).await;
            assert!(is_denied(done), "{sql} as `{org}`");
        }
    }
    set(&mut application, "*").await;
    // What is let through for all organizations is to read, and to note the use of keys.
    for change in ["UPDATE organization SET frozen = true", "UPDATE lease SET leased = 0"] {
        assert_eq!(run(&mut application, change).await.unwrap(), 0, "{change}");
    }
    application.close().await.unwrap();
    let protected = "SELECT count(*) FROM pg_class WHERE relrowsecurity AND relkind IN ('r', 'p')
        AND NOT relispartition";
    let protected: i64 = sqlx::query_scalar(protected).fetch_one(store.writer()).await.unwrap();
    assert_eq!(usize::try_from(protected).unwrap(), tables(&store).await.len());
}

#[tokio::test]
async fn a_part_shows_nothing_by_itself_whoever_made_it() {
    let (store, _url) = fixture::open().await;
    let make = "SELECT part_record(now() + interval '3 years')";
    assert!(sqlx::query_scalar::<_, bool>(make).fetch_one(store.writer()).await.unwrap());
    let parts = "SELECT relname::text,
            relrowsecurity AND NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = oid),
            EXISTS (SELECT FROM aclexplode(relacl) WHERE grantee <> relowner)
        FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'spend'::regclass";
    let parts = sqlx::query_as::<_, (String, bool, bool)>(parts).fetch_all(store.writer()).await;
    let parts = parts.unwrap();
    assert!(parts.len() >= 5, "{parts:?}");
    for (name, is_walled, is_granted) in parts {
        assert!(is_walled && !is_granted, "{name}");
    }
}

#[tokio::test]
async fn only_a_role_that_the_wall_binds_is_granted_anything_and_it_need_not_own_the_schema() {
    let url = fixture::fresh_database().await;
    let owner = PostgresStore::open(&url).await.unwrap();
    let application = PostgresStore::open(&fixture::as_application(&url)).await.unwrap();
    let error = application.migrate().await.unwrap_err();
    assert!(explain(&error).contains("as the owner"), "{}", explain(&error));
    owner.migrate().await.unwrap();
    for (role, says) in [("nobody at all", "CREATE ROLE"), ("quetra", "row-level security")] {
        let error = owner.grant_to(role).await.unwrap_err();
        assert!(explain(&error).contains(says), "{}", explain(&error));
    }
    owner.grant_to(APPLICATION).await.unwrap();
    owner.grant_to(APPLICATION).await.unwrap();
    assert!(application.migrate().await.unwrap().is_empty());
    application.check().await.unwrap();
    assert!(application.is_walled().await.unwrap() && !owner.is_walled().await.unwrap());
}
