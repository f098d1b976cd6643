//! The real binary, killed again and again while it decides and delivers: every event reaches its
//! endpoint, under one id, and none is invented.
//!
//! `QUETRA_WEBHOOK_EVENTS` says how many decisions, such as 100,000. Not here: the books, which
//! `crash` judges.

use std::collections::{BTreeMap, BTreeSet};

use tonic::transport::Channel;

use super::receiver::{Got, PATIENCE, Receiver};
use super::*;
use crate::dice::setting;
use crate::harness::{Folder, ask, budget, link};
use crate::process::{Process, quetra};

const KILLS: usize = 5;
const CALLERS: usize = 16;

/// Starts, or starts again, a development server that may call loopback.
fn start(folder: &Folder) -> Process {
    start_with(folder, &[])
}

/// The same with more arguments.
pub(super) fn start_with(folder: &Folder, arguments: &[&str]) -> Process {
    let mut command = quetra(&["dev", "--listen", "127.0.0.1:0", "--log", "warn", "--data-dir"]);
    command.arg(folder.path());
    command.args(["--egress-allow-http", "--egress-allow", "127.0.0.0/8"]);
    command.args(arguments);
    Process::run(command, folder.path())
}

pub(super) async fn admin(process: &Process, folder: &Folder) -> Clients {
    let text = std::fs::read_to_string(folder.path().join("credentials.toml")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("admin_key = \"")).unwrap();
    let channel = Channel::from_shared(process.url.clone()).unwrap().connect().await.unwrap();
    Clients::new(link(channel, line.trim_end_matches('"')))
}

/// Decides so many spends; calls that end with the server are made again with their keys.
async fn decide(clients: &Clients, keys: &[v1::EvaluateRequest]) -> BTreeSet<String> {
    let mut callers = tokio::task::JoinSet::new();
    for share in keys.chunks(keys.len().div_ceil(CALLERS)) {
        let (mut clients, share) = (clients.clone(), share.to_vec());
        callers.spawn(async move {
            let mut ids = Vec::new();
            for request in share {
                // Without an answer it is asked again of the next server.
                let Ok(answer) = clients.evaluate.evaluate(request).await else { break };
                ids.push(answer.into_inner().transaction_id);
            }
            ids
        });
    }
    callers.join_all().await.into_iter().flatten().collect()
}

pub(super) fn of_decisions(got: &[Got]) -> BTreeMap<String, BTreeSet<String>> {
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for got in got {
        let event = got.json();
        if let Some(transaction) = event["data"]["transactionId"].as_str() {
            ids.entry(transaction.to_owned()).or_default().insert(got.id().to_owned());
        }
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn every_decision_of_a_server_that_is_killed_reaches_its_endpoint() {
    let events = setting("QUETRA_WEBHOOK_EVENTS", 1_500);
    let events = usize::try_from(events).unwrap();
    let (folder, receiver) = (Folder::new(), Receiver::start().await);
    let mut process = start(&folder);
    let mut clients = admin(&process, &folder).await;
    let (_, secret) = endpoint(&mut clients, &receiver.url, &["transaction.approved"]).await;
    let (agent_id, _) = clients.agent_with_mandate(budget(1_000_000, 10), vec![]).await;
    let mut decided = BTreeSet::new();
    let mut left: Vec<_> = (0..events).map(|_| ask(&agent_id, 1)).collect();
    for round in 0..KILLS {
        let share: Vec<_> = left.drain(..left.len() / (KILLS + 1 - round)).collect();
        let (half, rest) = share.split_at(share.len() / 2);
        decided.extend(decide(&clients, half).await);
        // The other half is under way when it dies, and is asked for again afterwards.
        let dying = decide(&clients, rest);
        let kill = async {
            tokio::time::sleep(std::time::Duration::from_millis(60)).await;
            process.kill();
        };
        let (answered, ()) = tokio::join!(dying, kill);
        decided.extend(answered);
        process.wait();
        process = start(&folder);
        clients = admin(&process, &folder).await;
        decided.extend(decide(&clients, rest).await);
    }
    decided.extend(decide(&clients, &left).await);
    assert_eq!(decided.len(), events, "each key has one decision");
    let time = PATIENCE + std::time::Duration::from_millis(10) * u32::try_from(events).unwrap();
    // Each is read once, however long it takes until all are there.
    let (mut read, mut told) = (0, BTreeMap::new());
    let is_so = |got: &[Got]| {
        told.append(&mut of_decisions(&got[read..]));
        read = got.len();
        told.len() >= events
    };
    let received = receiver.within(time, is_so).await;
    let ids = of_decisions(&received);
    assert_eq!(ids.keys().cloned().collect::<BTreeSet<_>>(), decided, "lost, or invented");
    for (transaction, ids) in &ids {
        assert_eq!(ids.len(), 1, "{transaction} came under several ids: {ids:?}");
    }
    let log = process.errors();
    assert!(!log.contains(&secret["whsec_".len()..]), "the log has the secret");
    process.signal("TERM");
    assert!(process.wait().success());
}
