//! Exports whose readers stop reading: they wait, and nobody else does.
//!
//! Not here: what is in an export (`killed`), and how fast it is (`tests/bench/audit.rs`).

use std::time::{Duration, Instant};

use quetra::proto::v1;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{PATIENCE, verify};
use crate::harness::{Clients, Engine, Server, ask, budget};

/// Entries: more than an export reads ahead.
const ENTRIES: usize = 2_500;
const CALLERS: usize = 25;

/// Exports at the same time: more than there are connections to a database.
const EXPORTS: usize = 20;

async fn decide(admin: &Clients, agent: &str) {
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (mut clients, agent) = (admin.clone(), agent.to_owned());
        callers.spawn(async move {
            for _ in 0..ENTRIES / CALLERS {
                clients.evaluate.evaluate(ask(&agent, 1)).await.unwrap();
            }
        });
    }
    callers.join_all().await;
}

async fn nobody_waits_for_exports_that_are_not_read(engine: Engine) {
    let server = Server::on(engine).await;
    let mut admin = server.admin().await;
    let (agent, _) = admin.agent_with_mandate(budget(1_000_000, 10), vec![]).await;
    decide(&admin, &agent).await;
    let (begun, wanted) = (Instant::now(), i64::try_from(ENTRIES).unwrap());
    while verify(&mut admin).await < wanted {
        assert!(begun.elapsed() < PATIENCE, "the journal does not follow");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let mut waiting = Vec::new();
    for _ in 0..EXPORTS {
        // On a connection of its own, which takes 64 KiB.
        let mut reader = server.admin().await;
        let request = v1::ExportEventsRequest::default();
        let mut export = reader.audit.export_events(request).await.unwrap().into_inner();
        let head = export.message().await.unwrap().unwrap();
        assert!(head.last_sequence >= wanted, "it ends with {}", head.last_sequence);
        waiting.push((reader, export, head.last_sequence));
    }
    let others = async {
        for _ in 0..EXPORTS {
            admin.evaluate.evaluate(ask(&agent, 1)).await.unwrap();
            admin.audit.list_events(v1::ListEventsRequest::default()).await.unwrap();
        }
    };
    timeout(PATIENCE, others).await.expect("they wait for exports");

    let (_reader, mut export, last) = waiting.pop().unwrap();
    let mut reached = 0;
    while let Some(part) = export.message().await.unwrap() {
        for entry in &part.entries {
            assert_eq!(entry.sequence, reached + 1);
            reached = entry.sequence;
        }
    }
    assert_eq!(reached, last);
    drop(waiting);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_exports_on_sqlite_that_are_not_read() {
    nobody_waits_for_exports_that_are_not_read(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_exports_on_postgres_that_are_not_read() {
    nobody_waits_for_exports_that_are_not_read(Engine::Postgres).await;
}
