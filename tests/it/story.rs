//! The life of one held spend, from the agent's question to a record that proves itself.
//!
//! Each part has tests of its own; this one shows that together they are one product, on each
//! engine. Not here: anything that goes wrong on the way.

use std::fs;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use quetra::clock::SystemClock;
use quetra::proto::v1::{self, Decision};
use tonic::Streaming;

use crate::harness::{Engine, FAST, STRICT, Server, ask, budget, on_all};
use crate::process::quetra;
use crate::webhooks::receiver::{Got, Receiver};
use crate::webhooks::{endpoint, loopback, sent::verdicts};

on_all! {
    a_held_spend_is_approved_by_a_person_settled_told_and_proven;
}

/// How long anything may take that has to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a command, which must succeed or fail as expected; what it printed.
fn run(command: &mut Command, succeeds: bool) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let printed = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    assert_eq!(status.success(), succeeds, "{command:?}: {printed}");
    printed
}

/// The next event of a stream; what only says that it goes on is passed over.
async fn next(stream: &mut Streaming<v1::WatchTransactionsResponse>) -> v1::Event {
    let waiting = async {
        loop {
            let message = stream.message().await.unwrap().expect("the stream ended");
            if let Some(event) = message.event {
                return event;
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("nothing is told")
}

fn types(got: &[Got]) -> Vec<String> {
    got.iter().map(|got| got.json()["type"].as_str().unwrap().to_owned()).collect()
}

async fn a_held_spend_is_approved_by_a_person_settled_told_and_proven(engine: Engine) {
    let server = Server::on_with(engine, loopback, Arc::new(SystemClock)).await;
    let (mut admin, mut agent) = (server.admin().await, server.agent().await);
    let agent_id = server.agent_id();
    let approval =
        v1::ApprovalRule { threshold: 10_000, timeout_minutes: 60, ..Default::default() };
    let rules = vec![v1::Rule { kind: Some(v1::rule::Kind::Approval(approval)) }];
    let mandate_id = server.first.mandate_id.clone();
    let revoke = v1::RevokeMandateRequest { mandate_id, ..Default::default() };
    admin.mandates.revoke_mandate(revoke).await.unwrap();
    let mandate_id = admin.mandate(&agent_id, budget(100_000, 50_000), rules).await;
    admin.mandates.activate_mandate(v1::ActivateMandateRequest { mandate_id }).await.unwrap();
    let receiver = Receiver::start().await;
    let told_of =
        ["pending_approval", "approved", "settled"].map(|word| format!("transaction.{word}"));
    let words = told_of.each_ref().map(String::as_str);
    let (_, secret) = endpoint(&mut admin, &receiver.url, &words).await;
    let watch = v1::WatchTransactionsRequest::default();
    let mut stream = agent.transactions.watch_transactions(watch).await.unwrap().into_inner();

    // The agent asks for $250; the money is held, and everybody hears of it.
    let asked = agent.spend(ask(&agent_id, 25_000)).await;
    let id = asked.transaction_id.clone();
    assert_eq!(asked.decision(), Decision::PendingApproval);
    assert_eq!(admin.committed(&agent_id).await, (0, 25_000));
    let pending = next(&mut stream).await;
    assert_eq!((pending.r#type.as_str(), &pending.transaction_id), (words[0], &id));
    receiver.until(|got| got.len() == 1).await;

    // A person approves from the command line, and the agent sees it on its stream.
    let key = &server.first.admin_key;
    let command = |arguments: &[&str]| {
        let mut command = quetra(arguments);
        command.args(["--url", &server.url()]).env("QUETRA_API_KEY", key);
        command
    };
    run(&mut command(&["approvals", "approve", &id, "--comment", "as agreed"]), true);
    let approved = next(&mut stream).await;
    assert_eq!((approved.r#type.as_str(), &approved.transaction_id), (words[1], &id));
    assert_eq!(approved.decision(), Decision::Approved);

    // It pays $231.40, and the rest returns.
    let settle = v1::SettleTransactionRequest { transaction_id: id.clone(), amount: Some(23_140) };
    agent.transactions.settle_transaction(settle).await.unwrap();
    assert_eq!(admin.committed(&agent_id).await, (23_140, 0));
    let settled = next(&mut stream).await;
    assert_eq!((settled.r#type.as_str(), settled.amount), (words[2], Some(23_140)));

    // What was told is signed, complete, and the same as on the stream.
    let got = receiver.until(|got| got.len() == words.len()).await;
    assert_eq!(types(&got), words);
    let ids = [pending.id, approved.id, settled.id];
    assert_eq!(got.iter().map(Got::id).collect::<Vec<_>>(), ids.each_ref());
    let messages = got.iter().map(|got| got.to_verify(&secret)).collect::<Vec<_>>();
    for library in ["npm", "pypi"] {
        assert_eq!(verdicts(library, &messages), [true; 3], "{library}");
    }

    // The record is whole, until one byte of it is changed.
    let request = v1::GetOrganizationRequest {};
    let organization = admin.organization.get_organization(request).await.unwrap().into_inner();
    let public = organization.organization.unwrap().signing_keys[0].public_key.clone();
    let export = server.folder.path().join("record.jsonl");
    let path = export.to_str().unwrap();
    run(&mut command(&["audit", "export", "--file", path]), true);
    let verify = ["audit", "verify", "--public-key", &public, path];
    assert!(run(&mut quetra(&verify), true).contains("whole"));
    let record = fs::read_to_string(&export).unwrap();
    assert!(record.contains("23140"));
    fs::write(&export, record.replacen("23140", "23141", 1)).unwrap();
    assert!(run(&mut quetra(&verify), false).contains("was changed"));
    server.stop().await;
}
