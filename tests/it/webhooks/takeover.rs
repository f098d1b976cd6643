//! Two servers on one Postgres database: when the one that tells an endpoint is killed, the other
//! goes on from where it was, and nothing is lost, invented or told under another id.
//!
//! Not here: one server that is killed and started again (`crash`).

use std::collections::BTreeSet;
use std::time::Instant;

use tonic::transport::Channel;

use super::crash::of_decisions;
use super::receiver::Receiver;
use super::*;
use crate::faults::cluster::Site;
use crate::harness::{application_database, ask, budget, link};
use crate::process::Process;

async fn admin(site: &Site, process: &Process) -> Clients {
    let channel = Channel::from_shared(process.url.clone()).unwrap().connect().await.unwrap();
    Clients::new(link(channel, &site.key))
}

/// Decides so many spends; their transactions.
async fn decide(clients: &mut Clients, agent: &str, count: usize) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for _ in 0..count {
        let answer = clients.evaluate.evaluate(ask(agent, 1)).await.unwrap().into_inner();
        ids.insert(answer.transaction_id);
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_server_was_telling_is_told_by_another() {
    let site = Site::new(&application_database().await);
    let calling = ["--egress-allow-http", "--egress-allow", "127.0.0.0/8"].map(str::to_owned);
    let receiver = Receiver::start().await;
    let mut first = site.serve_by("first", &site.database, &calling);
    let mut clients = admin(&site, &first).await;
    endpoint(&mut clients, &receiver.url, &["transaction.approved"]).await;
    let (agent, _) = clients.agent_with_mandate(budget(1_000_000, 10), vec![]).await;
    let mut decided = decide(&mut clients, &agent, 50).await;
    // It has the lease: only it is there.
    receiver.until(|got| got.len() >= 25).await;
    let second = site.serve_by("second", &site.database, &calling);
    let mut clients = admin(&site, &second).await;
    decided.extend(decide(&mut clients, &agent, 50).await);
    first.kill();
    first.wait();
    let killed = Instant::now();
    decided.extend(decide(&mut clients, &agent, 50).await);

    receiver.until(|got| of_decisions(got).len() >= decided.len()).await;
    // The lease is over after six seconds, and is looked for every second.
    assert!(killed.elapsed().as_secs() < 20, "{:?}", killed.elapsed());
    let ids = of_decisions(&receiver.received());
    assert_eq!(ids.keys().cloned().collect::<BTreeSet<_>>(), decided, "lost, or invented");
    assert!(ids.values().all(|ids| ids.len() == 1), "{ids:?}");
}
