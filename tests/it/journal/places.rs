//! The real binary and a bucket that is away at first: what was signed gets there after a restart,
//! and what is there tells that the end of an export was cut off.
//!
//! Not here: the form and the signature of the calls, which unit tests of `app` verify.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::{StatusCode, Uri};
use quetra::proto::v1;

use super::PATIENCE;
use super::killed::{audit, clients, credential, offline, text};
use crate::harness::{Folder, ask, budget};
use crate::process::{Process, quetra};

/// What was asked of the bucket, and whether it says yes.
#[derive(Default)]
struct Asked {
    is_there: bool,
    refused: usize,
    kept: Vec<(String, Bytes)>,
}

/// A bucket, and its URL.
async fn bucket() -> (Arc<Mutex<Asked>>, String) {
    let asked = Arc::<Mutex<Asked>>::default();
    let answers = Arc::clone(&asked);
    let put = async move |uri: Uri, body: Bytes| {
        let mut asked = answers.lock().unwrap();
        if asked.is_there {
            asked.kept.push((uri.path().to_owned(), body));
            return StatusCode::OK;
        }
        asked.refused += 1;
        StatusCode::SERVICE_UNAVAILABLE
    };
    let router = axum::Router::new().fallback(put);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/ledger/eu", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (asked, url)
}

fn wait(asked: &Mutex<Asked>, what: &str, is_so: impl Fn(&Asked) -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so(&asked.lock().unwrap()) {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_was_away_gets_the_last_checkpoint_and_tells_of_a_cut() {
    let folder = Folder::new();
    let credentials = folder.path().join("aws");
    fs::write(&credentials, "aws_access_key_id = a\naws_secret_access_key = b\n").unwrap();
    fs::set_permissions(&credentials, fs::Permissions::from_mode(0o600)).unwrap();
    let (asked, url) = bucket().await;
    let start = || {
        let data = folder.path().to_str().unwrap();
        let mut command = quetra(&["dev", "--data-dir", data, "--listen", "127.0.0.1:0"]);
        command.args(["--log", "warn", "--egress-allow-http", "--audit-checkpoint-s3-url", &url]);
        command.arg("--audit-checkpoint-s3-credentials-file").arg(&credentials);
        Process::run(command, folder.path())
    };
    let mut process = start();
    let key = credential(&folder, "admin_key");
    let mut admin = clients(&process.url, &key).await.unwrap();
    let (agent_id, _) = admin.agent_with_mandate(budget(1_000, 10), vec![]).await;
    for _ in 0..20 {
        admin.spend(ask(&agent_id, 1)).await;
    }
    super::until(&mut admin, "transaction.", |found| found.len() >= 20).await;
    process.signal("TERM");
    assert!(process.wait().success(), "{}", process.errors());
    wait(&asked, "it was not asked at the end", |asked| asked.refused > 0);
    assert!(process.errors().contains("503"), "{}", process.errors());

    asked.lock().unwrap().is_there = true;
    let process = start();
    wait(&asked, "nothing was put after the restart", |asked| !asked.kept.is_empty());
    let (name, line) = asked.lock().unwrap().kept[0].clone();
    let said: serde_json::Value = serde_json::from_slice(&line).unwrap();
    let (org, seq) = (said["organizationId"].as_str().unwrap(), said["sequence"].as_i64().unwrap());
    assert_eq!(name, format!("/ledger/eu/{org}/{seq:019}.json"));
    assert!(seq > 20, "{said}");

    let (export, witness) = (folder.path().join("export"), folder.path().join("witness"));
    let exported = audit(&process.url, &key, &["export", "--file", export.to_str().unwrap()]);
    assert!(exported.status.success(), "{}", text(&exported));
    fs::write(&witness, &line).unwrap();
    let mut admin = clients(&process.url, &key).await.unwrap();
    let request = v1::GetOrganizationRequest {};
    let organization = admin.organization.get_organization(request).await.unwrap().into_inner();
    let public = organization.organization.unwrap().signing_keys[0].public_key.clone();
    let whole = offline(&export, &public, Some(&witness));
    assert!(whole.status.success(), "{}", text(&whole));

    let lines = fs::read_to_string(&export).unwrap();
    let kept: Vec<&str> = lines.lines().take(10).collect();
    let (last, count) = (format!("\"lastSequence\":{seq}"), kept.len() - 1);
    let cut = kept.join("\n") + "\n";
    assert!(cut.contains(&last), "{cut}");
    fs::write(&export, cut.replacen(&last, &format!("\"lastSequence\":{count}"), 1)).unwrap();
    let unseen = offline(&export, &public, None);
    assert!(unseen.status.success(), "{}", text(&unseen));
    let told = offline(&export, &public, Some(&witness));
    assert!(!told.status.success() && text(&told).contains("were cut off"), "{}", text(&told));
}
