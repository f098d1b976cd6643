//! No secret leaves: not in an answer, not in the files of the database, not in the log.
//!
//! Real keys are the canaries. Everything the server wrote or said is searched for them, in every
//! spelling that a careless line of code would use. Not here: what is shown on purpose, once.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use quetra::proto::v1::{self, Role};
use sqlx::Row;
use tempfile::TempDir;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use super::start;
use crate::checker::read::open;
use crate::contract::{methods, pool};
use crate::harness::raw::Raw;
use crate::harness::witness::Witness;
use crate::harness::{Bearer, Clients, Server, ask};

/// The spellings of secret bytes.
fn spellings(secret: &[u8]) -> Vec<Vec<u8>> {
    let reversed = secret.iter().rev().copied().collect::<Vec<_>>();
    vec![
        secret.to_vec(),
        reversed,
        hex::encode(secret).into_bytes(),
        hex::encode_upper(secret).into_bytes(),
        // Without the end: what follows changes the last characters.
        STANDARD.encode(&secret[..30]).into_bytes(),
        STANDARD_NO_PAD.encode(secret).into_bytes(),
        URL_SAFE.encode(&secret[..30]).into_bytes(),
        format!("{secret:?}").into_bytes(),
        format!("{secret:02x?}").into_bytes(),
    ]
}

/// What must not be found of a key: its secret in every spelling, and the text behind its prefix.
fn canaries(key: &str, prefix: &str) -> Vec<Vec<u8>> {
    let tail = key.splitn(4, '_').nth(3).unwrap();
    let secret = URL_SAFE_NO_PAD.decode(tail).unwrap();
    let mut canaries = spellings(&secret[..32]);
    canaries.push(key.strip_prefix(prefix).unwrap().as_bytes().to_vec());
    canaries.push(tail.as_bytes()[..20].to_vec());
    canaries
}

/// Whether `text` has `part`: by its first byte, which is fast enough for files.
fn holds(text: &[u8], part: &[u8]) -> bool {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == part[0]) {
        if rest[at..].starts_with(part) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

#[track_caller]
fn assert_clean(place: &str, text: &[u8], canaries: &[Vec<u8>]) {
    for canary in canaries {
        let shown = String::from_utf8_lossy(&canary[..6.min(canary.len())]).into_owned();
        assert!(!holds(text, canary), "{place} holds a secret that begins with {shown:?}");
    }
}

/// Everything in a folder but the master key itself.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name != "master.key" {
            found.push((name, std::fs::read(path).unwrap()));
        }
    }
    found
}

/// A process that does not outlive the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A server of its own process, which logs all it can.
struct Loud {
    process: Process,
    folder: TempDir,
    first: FirstStart,
}

impl Loud {
    async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("quetra-it-").tempdir().unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_quetra"))
            .args(["dev", "--listen", "127.0.0.1:0", "--log", "trace", "--data-dir"])
            .arg(folder.path().join("data"))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let process = Process(process.unwrap());
        let credentials = folder.path().join("data/credentials.toml");
        for _ in 0..1_000 {
            if let Ok(text) = std::fs::read_to_string(&credentials) {
                let first = toml::from_str(&text).unwrap();
                return Self { process, folder, first };
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the server wrote no credentials");
    }

    /// Ends it as an operator would, and returns its log.
    async fn log(mut self) -> Vec<u8> {
        let id = self.process.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let ended = tokio::task::spawn_blocking(move || self.process.0.wait());
        assert!(ended.await.unwrap().unwrap().success());
        std::fs::read(self.folder.path().join("log")).unwrap()
    }
}

/// What a development server writes for the commands run beside it.
#[derive(serde::Deserialize)]
struct FirstStart {
    url: String,
    admin_key: String,
    agent_key: String,
    agent_id: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_finds_a_secret_that_is_there() {
    let secret = [7, 1, 2, 250].repeat(8);
    for spelling in spellings(&secret) {
        let text = [b"{\"x\":\"".to_vec(), spelling.clone(), b"\"}".to_vec()].concat();
        assert!(holds(&text, &spelling));
        assert!(!holds(&text[..text.len() - 3], &spelling));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_and_no_file_holds_a_keys_secret() {
    let (server, mut admin, _) = start().await;
    let mut keys = vec![
        (server.first.admin_key.clone(), server.first.admin_key[..20].to_owned()),
        (server.first.agent_key.clone(), server.first.agent_key[..20].to_owned()),
    ];
    for role in [Role::Admin, Role::Agent, Role::Reader] {
        let request = v1::CreateApiKeyRequest {
            name: format!("{role:?}"),
            role: role.into(),
            idempotency_key: format!("make-{role:?}-key"),
            ..Default::default()
        };
        let made = admin.organization.create_api_key(request).await.unwrap().into_inner();
        keys.push((made.key, made.api_key.unwrap().prefix));
    }
    let canaries = keys.iter().flat_map(|(key, prefix)| canaries(key, prefix)).collect::<Vec<_>>();
    // Each key is used, and the garbled form of each.
    let raw = Raw::connect(&server.url()).await;
    let pool = pool();
    for (key, _) in &keys {
        for method in methods(&pool) {
            let garbled = format!("{key}x");
            for key in [key, &garbled] {
                let (name, answer) = (method.full_name(), raw.call_as(key, &method, vec![]).await);
                let answer = match answer {
                    Ok(bytes) => bytes,
                    Err(status) => format!("{status:?}").into_bytes(),
                };
                assert_clean(name, &answer, &canaries);
            }
        }
    }
    let digests = digests(&server.folder.database()).await;
    assert!(digests.len() >= keys.len());
    for method in methods(&pool) {
        let answer = raw.call_as(&server.first.admin_key, &method, vec![]).await;
        for digest in &digests {
            let text = format!("{answer:?}").into_bytes();
            assert_clean(method.full_name(), &text, &spellings(digest));
            assert_clean(
                method.full_name(),
                &answer.clone().unwrap_or_default(),
                &spellings(digest),
            );
        }
    }
    while_running(&server, &canaries);
    let (folder, _) = server.stop_and_keep().await;
    for (name, bytes) in files(folder.path()) {
        assert_clean(&name, &bytes, &canaries);
    }
}

/// The write-ahead log is there only while the server runs.
fn while_running(server: &Server, canaries: &[Vec<u8>]) {
    let files = files(server.folder.path());
    assert!(files.iter().any(|(name, bytes)| name.ends_with("-wal") && !bytes.is_empty()));
    for (name, bytes) in files {
        assert_clean(&name, &bytes, canaries);
    }
}

/// The keyed digests, which are stored and never shown.
async fn digests(database: &Path) -> Vec<Vec<u8>> {
    let pool = open(database).await;
    let rows = sqlx::query("SELECT digest FROM api_key").fetch_all(&pool).await.unwrap();
    pool.close().await;
    rows.iter().map(|row| row.get("digest")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_the_log_holds_a_keys_secret() {
    let server = Loud::start().await;
    let FirstStart { url, admin_key, agent_key, agent_id } = &server.first;
    let connect = async |key: &str| {
        let channel = Channel::from_shared(url.clone()).unwrap().connect().await.unwrap();
        Clients::new(InterceptedService::new(Witness(channel), Bearer(key.to_owned())))
    };
    let request = v1::CreateApiKeyRequest {
        name: "logged".to_owned(),
        role: Role::Reader.into(),
        ..Default::default()
    };
    let made = connect(admin_key).await.organization.create_api_key(request).await;
    let made = made.unwrap().into_inner();
    connect(agent_key).await.spend(ask(agent_id, 200)).await;
    let keys = [admin_key.clone(), agent_key.clone(), made.key];
    let raw = Raw::connect(url).await;
    let pool = pool();
    let http = reqwest::Client::new();
    for key in &keys {
        for method in methods(&pool) {
            drop(raw.call_as(key, &method, vec![0xff, 0xff]).await);
            drop(raw.call_as(&format!("{key}x"), &method, vec![]).await);
        }
        for path in ["/api/v1/agents", "/quetra.v1.AgentsService/ListAgents", "/nothing"] {
            let url = format!("{url}{path}?key={key}");
            let sent = http.post(url).bearer_auth(key).body("{").send().await.unwrap();
            drop(sent.bytes().await);
        }
    }
    let digests = digests(&server.folder.path().join("data/quetra.db")).await;
    assert_eq!(digests.len(), keys.len());
    let log = server.log().await;
    let text = String::from_utf8_lossy(&log);
    assert!(text.contains(" INFO quetra::"), "it is not the log: {text}");
    for key in keys {
        assert_clean("the log", &log, &canaries(&key, &key[..20]));
    }
    for digest in digests {
        assert_clean("the log", &log, &spellings(&digest));
    }
}
