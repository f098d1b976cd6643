//! A Postgres that was put back from a backup, while its Redis went on: nothing is decided until an
//! operator has rebased the shards, and what was leased counts as spent.
//!
//! Not here: a Redis that was put back (`redis`).

use std::path::Path;
use std::process::Command;

use quetra::proto::v1::Decision;
use serde_json::Value;
use sqlx::postgres::PgPool;
use tonic::transport::Channel;

use super::operators::url;
use super::{call, insist, server};
use crate::faults::cluster::{Cluster, Site};
use crate::harness::postgres::as_owner;
use crate::harness::redis::Redis;
use crate::harness::{Clients, FAST, ask, budget, link};
use crate::process::{Process, quetra};

/// A server on a Postgres and a Redis that a test stops and starts.
struct Place {
    site: Site,
    told: Vec<String>,
}

impl Place {
    async fn serve(&self) -> (Process, Clients) {
        let process = self.site.serve_by("server.log", &self.site.database, &self.told);
        let channel = Channel::from_shared(process.url.clone()).unwrap().connect().await.unwrap();
        (process, Clients::new(link(channel, &self.site.key)))
    }

    fn rebase(&self, more: &[&str]) -> Value {
        let mut command =
            quetra(&[&["ledger", "rebase", "-o", "json", "--log", "off"], more].concat());
        command.args(["--database-url", &self.site.database]).args(&self.told);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn end(mut process: Process) {
    process.signal("TERM");
    assert_eq!(process.wait().code(), Some(0), "{}", process.errors());
}

/// Copies a folder with all that the kernel knows of its files.
fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

async fn approve(clients: &mut Clients, agent: &str, count: usize) {
    for _ in 0..count {
        let answer = insist(clients, &ask(agent, 1)).await;
        assert_eq!(answer.decision(), Decision::Approved, "{}", answer.explanation);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_was_put_back_decides_nothing_until_it_is_rebased() {
    let (redis, cluster) = (Redis::start("everysec"), Cluster::new().await);
    let told = ["--redis-url", &redis.url(), "--durability", "fast"].map(str::to_owned).to_vec();
    let place = Place { site: Site::new(&cluster.url), told };
    let (process, mut clients) = place.serve().await;
    let (agent, _) = clients.agent_with_mandate(budget(100, 1), vec![]).await;
    approve(&mut clients, &agent, 5).await;
    end(process);
    assert_eq!(place.rebase(&[])["shards"], Value::Array(Vec::new()));

    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup");
    cluster.stop();
    copy(&cluster.data, &backup);
    cluster.start(&[]);
    let (process, mut clients) = place.serve().await;
    approve(&mut clients, &agent, 7).await;
    end(process);
    cluster.stop();
    std::fs::remove_dir_all(&cluster.data).unwrap();
    copy(&backup, &cluster.data);
    cluster.start(&[]);

    let (process, mut clients) = place.serve().await;
    for _ in 0..3 {
        assert!(call(&mut clients, &ask(&agent, 1)).await.is_none(), "it was decided");
    }
    assert!(process.errors().contains("quetra ledger rebase"), "{}", process.errors());
    let shown = place.rebase(&[]);
    let one = &shown["shards"][0];
    assert_eq!((&one["postgresEpoch"], &one["redisEpoch"]), (&1.into(), &1.into()), "{shown}");
    assert_eq!(one["rebasedTo"], Value::Null);
    let done = place.rebase(&["--dangerous-give-up"]);
    assert_eq!(done["shards"][0]["rebasedTo"], 2, "{done}");
    assert_eq!(place.rebase(&[])["shards"], Value::Array(Vec::new()));
    // The server that ran meanwhile goes on. What the first epoch had leased counts as spent, also
    // what was spent of it and is forgotten now.
    let mut sum = 0;
    while let Some(answer) = call(&mut clients, &ask(&agent, 1)).await {
        if answer.decision() != Decision::Approved {
            break;
        }
        sum += 1;
    }
    assert!((1..=100 - 12).contains(&sum), "{sum} more were approved");
    end(process);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_with_a_lease_that_postgres_has_forgotten_gets_no_other() {
    let redis = Redis::start("everysec");
    let server = server(&redis, FAST).await;
    let mut admin = server.admin().await;
    let (agent, _) = admin.agent_with_mandate(budget(100, 1), vec![]).await;
    approve(&mut admin, &agent, 1).await;
    let pool = PgPool::connect(&as_owner(url(&server))).await.unwrap();
    sqlx::query("DELETE FROM lease").execute(&pool).await.unwrap();
    pool.close().await;
    let mut sum = 1;
    while let Some(answer) = call(&mut admin, &ask(&agent, 1)).await {
        assert_eq!(answer.decision(), Decision::Approved, "{}", answer.explanation);
        sum += 1;
        assert!(sum <= 50, "more was spent than was leased: {sum}");
    }
    // The books cannot agree with what was taken out of them.
    server.end().await;
}
