//! The real binary killed under load, again and again: a stream misses nothing and repeats nothing,
//! and an export proves itself offline until one byte of it is changed.
//!
//! Not here: a follower beside others on Postgres (`journal`).

use std::fs;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use quetra::proto::v1;
use tokio::sync::watch;
use tonic::transport::Channel;

use super::{PATIENCE, verify};
use crate::harness::{Clients, Folder, ask, budget, link};
use crate::process::{Process, quetra};

const KILLS: usize = 4;
const SPENDERS: usize = 6;
/// Calls that must be answered between two kills.
const CALLS: usize = 150;

pub(super) async fn clients(url: &str, key: &str) -> Option<Clients> {
    let channel = Channel::from_shared(url.to_owned()).unwrap().connect().await.ok()?;
    Some(Clients::new(link(channel, key)))
}

/// A value of the credentials that a development server writes.
pub(super) fn credential(folder: &Folder, name: &str) -> String {
    let text = fs::read_to_string(folder.path().join("credentials.toml")).unwrap();
    let begin = format!("{name} = \"");
    let line = text.lines().find_map(|line| line.strip_prefix(&begin)).unwrap();
    line.trim_end_matches('"').to_owned()
}

/// Spends at whatever server there is until it is told to stop.
async fn spend(
    address: watch::Receiver<String>,
    (key, agent_id): (String, String),
    (answered, done): (Arc<AtomicUsize>, Arc<AtomicBool>),
) {
    while !done.load(Ordering::Relaxed) {
        let url = address.borrow().clone();
        let Some(mut clients) = clients(&url, &key).await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        while !done.load(Ordering::Relaxed) {
            if clients.evaluate.evaluate(ask(&agent_id, 1)).await.is_err() {
                break;
            }
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Follows the events across all servers; their numbers and transactions.
async fn follow(
    address: watch::Receiver<String>,
    key: String,
    done: Arc<AtomicBool>,
) -> Vec<(i64, String)> {
    let (mut told, mut resume_token) = (Vec::new(), String::new());
    while !done.load(Ordering::Relaxed) {
        let url = address.borrow().clone();
        let Some(mut clients) = clients(&url, &key).await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let request = v1::WatchTransactionsRequest {
            resume_token: resume_token.clone(),
            ..Default::default()
        };
        let Ok(stream) = clients.transactions.watch_transactions(request).await else { continue };
        let mut stream = stream.into_inner();
        while !done.load(Ordering::Relaxed) {
            let Ok(message) =
                tokio::time::timeout(Duration::from_millis(200), stream.message()).await
            else {
                continue;
            };
            let Ok(Some(message)) = message else { break };
            resume_token = message.resume_token;
            told.extend(message.event.map(|event| (event.sequence, event.transaction_id)));
        }
    }
    told
}

pub(super) fn audit(url: &str, key: &str, arguments: &[&str]) -> Output {
    let mut command = quetra(&["audit", "--url", url]);
    command.args(arguments).env("QUETRA_API_KEY", key).output().unwrap()
}

pub(super) fn offline(export: &Path, key: &str, checkpoints: Option<&Path>) -> Output {
    let mut command = quetra(&["audit", "verify", "--public-key", key]);
    command.arg(export);
    if let Some(path) = checkpoints {
        command.arg("--checkpoints").arg(path);
    }
    command.output().unwrap()
}

pub(super) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_the_chain_survive_every_kill_and_an_export_proves_itself() {
    let folder = Folder::new();
    let witness = folder.path().join("checkpoints.jsonl");
    let start = || {
        let data = folder.path().to_str().unwrap();
        let mut command = quetra(&["dev", "--data-dir", data, "--listen", "127.0.0.1:0"]);
        command.args(["--log", "warn", "--audit-checkpoint-file", witness.to_str().unwrap()]);
        Process::run(command, folder.path())
    };
    let mut process = start();
    let key = credential(&folder, "admin_key");
    let mut admin = clients(&process.url, &key).await.unwrap();
    let (agent_id, _) = admin.agent_with_mandate(budget(1_000_000, 10), vec![]).await;
    let (address, url) = watch::channel(process.url.clone());
    let (answered, done) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
    let ended = Arc::<AtomicBool>::default();
    let follower = tokio::spawn(follow(url.clone(), key.clone(), Arc::clone(&ended)));
    let spenders = (0..SPENDERS).map(|_| {
        let counts = (Arc::clone(&answered), Arc::clone(&done));
        tokio::spawn(spend(url.clone(), (key.clone(), agent_id.clone()), counts))
    });
    let spenders = spenders.collect::<Vec<_>>();
    for kill in 0..=KILLS {
        let (wanted, until) = (answered.load(Ordering::Relaxed) + CALLS, Instant::now() + PATIENCE);
        while answered.load(Ordering::Relaxed) < wanted {
            assert!(Instant::now() < until, "no answers: {}", process.errors());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if kill < KILLS {
            process.kill();
            process.wait();
            process = start();
            address.send(process.url.clone()).unwrap();
        }
    }
    done.store(true, Ordering::Relaxed);
    for spender in spenders {
        spender.await.unwrap();
    }
    let mut admin = clients(&process.url, &key).await.unwrap();
    // A last one, so that it is known when everything has been told.
    let last = admin.spend(ask(&agent_id, 1)).await.transaction_id;
    let request = v1::ListTransactionsRequest {
        page: Some(v1::PageRequest { page_size: 1, ..Default::default() }),
        agent_id: agent_id.clone(),
        include_total: true,
        ..Default::default()
    };
    let listed = admin.transactions.list_transactions(request).await.unwrap().into_inner();
    let total = usize::try_from(listed.total.unwrap()).unwrap();
    let entries = super::until(&mut admin, "transaction.", |found| found.len() == total).await;
    assert_eq!(entries.last().map(|entry| entry.kind.as_str()), Some("transaction.approved"));
    verify(&mut admin).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    ended.store(true, Ordering::Relaxed);
    let told = follower.await.unwrap();
    let numbers = told.iter().map(|(seq, _)| *seq).collect::<Vec<_>>();
    assert!(numbers.is_sorted_by(|one, next| one < next), "told twice, or out of order");
    assert_eq!(told.len(), total, "told, and recorded");
    assert_eq!(told.last().unwrap().1, last);

    let request = v1::GetOrganizationRequest {};
    let organization = admin.organization.get_organization(request).await.unwrap().into_inner();
    let public = organization.organization.unwrap().signing_keys[0].public_key.clone();
    proves_itself(&folder, (&process, &key, &public), &witness);
}

fn proves_itself(folder: &Folder, (process, key, public): (&Process, &str, &str), witness: &Path) {
    let export = folder.path().join("export.jsonl");
    let exported = audit(&process.url, key, &["export", "--file", export.to_str().unwrap()]);
    assert!(exported.status.success(), "{}", text(&exported));
    let whole = offline(&export, public, None);
    assert!(whole.status.success() && text(&whole).contains("whole: org_"), "{}", text(&whole));
    // Cut in the middle of a line, and continued.
    let content = fs::read(&export).unwrap();
    fs::write(&export, &content[..content.len() * 2 / 3]).unwrap();
    let cut = offline(&export, public, None);
    assert!(!cut.status.success(), "{}", text(&cut));
    let exported = audit(&process.url, key, &["export", "--file", export.to_str().unwrap()]);
    assert!(exported.status.success(), "{}", text(&exported));
    let whole = offline(&export, public, None);
    assert!(whole.status.success(), "{}", text(&whole));
    // A byte of an amount, somewhere in the middle.
    let lines = String::from_utf8(fs::read(&export).unwrap()).unwrap();
    let middle = lines.match_indices("\"amount\":1,").nth(40).unwrap().0;
    let changed = format!("{}\"amount\":2,{}", &lines[..middle], &lines[middle + 11..]);
    fs::write(&export, changed).unwrap();
    let told = offline(&export, public, None);
    assert!(!told.status.success() && text(&told).contains("was changed"), "{}", text(&told));
    // The end cut off, and the promise of the first line with it: the second place tells.
    let kept = lines.lines().take(20).collect::<Vec<_>>();
    let mut kept = kept.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let promise = kept[0].find("\"lastSequence\":").unwrap() + 15;
    let digits = kept[0][promise..].find(',').unwrap();
    kept[0].replace_range(promise..promise + digits, "5");
    fs::write(&export, kept.join("\n") + "\n").unwrap();
    let until = Instant::now() + PATIENCE;
    while !witness.exists() {
        assert!(Instant::now() < until, "no checkpoint was written");
        std::thread::sleep(Duration::from_millis(50));
    }
    let unseen = offline(&export, public, None);
    assert!(unseen.status.success(), "{}", text(&unseen));
    let told = offline(&export, public, Some(witness));
    assert!(!told.status.success() && text(&told).contains("were cut off"), "{}", text(&told));
    // Another key signs nothing here.
    let told = offline(&export, &"ab".repeat(32), Some(witness));
    assert!(!told.status.success() && text(&told).contains("is not signed"), "{}", text(&told));
    // What is no export is left as it was.
    let foreign = folder.path().join("foreign");
    for content in ["not one whole line".to_owned(), "a line of another file\n".repeat(300_000)] {
        fs::write(&foreign, &content).unwrap();
        let refused = audit(&process.url, key, &["export", "--file", foreign.to_str().unwrap()]);
        assert!(!refused.status.success() && text(&refused).contains("is no export"));
        assert_eq!(fs::read_to_string(&foreign).unwrap(), content);
    }
    // Nor is an export of another organization.
    let id = lines.find("org_").unwrap();
    let other = format!("{}org_{}{}", &lines[..id], "9".repeat(32), &lines[id + 36..]);
    fs::write(&foreign, &other).unwrap();
    let refused = audit(&process.url, key, &["export", "--file", foreign.to_str().unwrap()]);
    assert!(!refused.status.success() && text(&refused).contains("another organization"));
    assert_eq!(fs::read_to_string(&foreign).unwrap(), other);
    let table = audit(&process.url, key, &["export", "--format", "csv"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.starts_with("sequence,at_micros,kind,"), "{}", &table[..100]);
    assert_eq!(table.lines().count(), lines.matches("\"type\":\"entry\"").count() + 1);
}
