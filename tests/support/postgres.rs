//! A Postgres database of its own for each test, in the private cluster of `tests/services`.
//!
//! A test that needs one fails when it cannot be had; nothing is skipped. Unit tests and
//! integration tests include this file. Servers work as a role that owns nothing, as they should in
//! production; only tests look with the owner's eyes. Not here: schemas and privileges, which the
//! store under test makes.

use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};

static SERVER: LazyLock<String> = LazyLock::new(|| {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/services");
    let output = Command::new(script).arg("start").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "this test needs Postgres, and there is none: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
});

/// The role that servers under test work as, and its password: nothing but loopback reaches it.
pub(crate) const APPLICATION: &str = "quetra_application";

/// Tests in several processes make it at once.
const MAKE_ROLE: &str = "DO $$ BEGIN
    CREATE ROLE quetra_application LOGIN PASSWORD 'quetra_application';
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$";

/// The user and the password of the owner's URL.
fn owner() -> &'static str {
    let (_, rest) = SERVER.split_once("://").unwrap();
    rest.split_once('@').unwrap().0
}

/// A database's URL, for the application.
pub(crate) fn as_application(url: &str) -> String {
    url.replacen(owner(), &format!("{APPLICATION}:{APPLICATION}"), 1)
}

/// A database's URL, for its owner, whom no policy binds.
pub(crate) fn as_owner(url: &str) -> String {
    url.replacen(&format!("{APPLICATION}:{APPLICATION}"), owner(), 1)
}

/// Makes an empty database; its owner's URL.
pub(crate) async fn fresh_database() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("test_{}_{number}", std::process::id());
    let mut server = PgConnection::connect(&SERVER).await.unwrap();
    // An earlier process may have had the same number.
    let drop = AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
    server.execute(drop).await.unwrap();
    server.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    server.execute(MAKE_ROLE).await.unwrap();
    server.close().await.unwrap();
    let (base, _) = SERVER.rsplit_once('/').unwrap();
    format!("{base}/{name}")
}
