//! A Postgres database of its own for each test, in the private cluster of `tests/services`.
//!
//! A test that needs one fails when it cannot be had; nothing is skipped. Unit tests and
//! integration tests include this file. Not here: schemas, which the store under test migrates.

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

/// Makes an empty database; its URL.
pub(crate) async fn fresh_database() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("test_{}_{number}", std::process::id());
    let mut server = PgConnection::connect(&SERVER).await.unwrap();
    // An earlier process may have had the same number.
    let drop = AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
    server.execute(drop).await.unwrap();
    server.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    server.close().await.unwrap();
    let (base, _) = SERVER.rsplit_once('/').unwrap();
    format!("{base}/{name}")
}
