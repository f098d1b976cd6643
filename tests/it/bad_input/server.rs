//! The real binary, logging everything, with a watcher that knows its state and reads its log.
//!
//! A process of its own, because a log belongs to a process: what is searched is what an operator
//! would see. Not here: the calls that are judged.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::wire::{Call, Http1};
use super::{CANARY, CANARY_HEAD};
use crate::checker::read::check_file;
use crate::harness::{Folder, unique};

/// A running `quetra dev`.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) agent_id: String,
    /// Everything that must never be logged.
    pub(crate) secrets: Vec<String>,
    pub(crate) admin_key: String,
    pub(crate) agent_key: String,
    folder: Folder,
    child: Child,
    watcher: Http1,
    /// Bytes of the log that were searched.
    searched: u64,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        let folder = Folder::new();
        let log = File::create(folder.path().join("log")).unwrap();
        let data = folder.path().to_str().unwrap().to_owned();
        let child = Command::new(env!("CARGO_BIN_EXE_quetra"))
            .args(["dev", "--listen", "127.0.0.1:0", "--data-dir", &data, "--log", "trace"])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let credentials = credentials(&folder).await;
        let text = |name: &str| credentials[name].as_str().unwrap().to_owned();
        let address = text("url").trim_start_matches("http://").parse().unwrap();
        let (admin_key, agent_key) = (text("admin_key"), text("agent_key"));
        let mut server = Self {
            address,
            agent_id: text("agent_id"),
            secrets: Vec::new(),
            watcher: Http1::connect(address).await,
            folder,
            child,
            searched: 0,
            admin_key: admin_key.clone(),
            agent_key: agent_key.clone(),
        };
        server.keep_secret(&admin_key);
        server.keep_secret(&agent_key);
        let master = fs::read_to_string(server.folder.path().join("master.key")).unwrap();
        server.secrets.push(master.trim().to_owned());
        server
    }

    /// A key must not be in the log, neither as a whole nor its secret part alone.
    pub(crate) fn keep_secret(&mut self, key: &str) {
        let secret = key.splitn(4, '_').nth(3).unwrap();
        self.secrets.extend([key.to_owned(), secret.to_owned()]);
    }

    /// A call of an administrator that must work; its JSON.
    pub(crate) async fn ok(&mut self, rpc: &str, message: Value) -> Value {
        let key = self.admin_key.clone();
        let (status, answer) = self.ask(&key, rpc, &message).await;
        assert_eq!(status, 200, "{rpc} {message}: {answer}");
        answer
    }

    async fn ask(&mut self, key: &str, rpc: &str, message: &Value) -> (u16, Value) {
        let call = Call::new("POST", &format!("/quetra.v1.{rpc}"), message.to_string())
            .header("content-type", "application/json")
            .header("authorization", &format!("Bearer {key}"));
        let reply = self.watcher.send(&call).await.unwrap();
        (reply.status, serde_json::from_slice(&reply.body).unwrap())
    }

    /// An approved spend of the demo agent; its transaction.
    pub(crate) async fn spend(&mut self, amount: i64) -> String {
        let message = json!({
            "agentId": self.agent_id, "amount": amount, "currency": "USD",
            "vendor": "firecrawl.dev", "category": "research",
            "idempotencyKey": format!("made-{:08}", unique()),
        });
        let answer = self.ok("EvaluateService/Evaluate", message).await;
        assert_eq!(answer["decision"], "DECISION_APPROVED", "{answer}");
        let id = answer["transactionId"].as_str().unwrap().to_owned();
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap();
        // One line says what was decided about whom, and not what was asked for.
        let lines = log.lines().filter(|line| line.contains("decided") && line.contains(&id));
        let [line] = lines.collect::<Vec<_>>().try_into().unwrap();
        assert!(line.contains(&self.agent_id) && line.contains("approved"), "{line}");
        assert!(!line.contains("firecrawl") && !line.contains("made-"), "{line}");
        assert!(log.contains("a turn of the ledger"), "{log}");
        id
    }

    /// A new agent.
    pub(crate) async fn agent(&mut self) -> String {
        let message = json!({ "name": format!("agent {}", unique()) });
        let answer = self.ok("AgentsService/RegisterAgent", message).await;
        answer["agent"]["id"].as_str().unwrap().to_owned()
    }

    /// A draft without rules for an agent.
    pub(crate) async fn draft(&mut self, agent_id: &str) -> String {
        let message = json!({
            "agentId": agent_id, "name": "a mandate",
            "budget": {"total": 10_000, "perTransaction": 1_000, "currency": "USD"},
        });
        let answer = self.ok("MandatesService/CreateMandate", message).await;
        answer["mandate"]["id"].as_str().unwrap().to_owned()
    }

    /// A step of a mandate's life.
    pub(crate) async fn step(&mut self, step: &str, mandate_id: &str) {
        let rpc = format!("MandatesService/{step}Mandate");
        self.ok(&rpc, json!({ "mandateId": mandate_id })).await;
    }

    /// A key; its text.
    pub(crate) async fn key(&mut self, message: Value) -> (String, String) {
        let answer = self.ok("OrganizationService/CreateApiKey", message).await;
        let key = answer["key"].as_str().unwrap().to_owned();
        self.keep_secret(&key);
        (answer["apiKey"]["id"].as_str().unwrap().to_owned(), key)
    }

    /// Everything a call could have changed.
    pub(crate) async fn state(&mut self) -> String {
        let page = json!({"pageSize": 1});
        let mut state = Vec::new();
        for (rpc, message) in [
            ("BudgetService/GetBudget", json!({ "agentId": self.agent_id })),
            ("TransactionsService/ListTransactions", json!({"page": page, "includeTotal": true})),
            ("AgentsService/ListAgents", json!({})),
            ("MandatesService/ListMandates", json!({})),
            ("OrganizationService/GetOrganization", json!({})),
            ("OrganizationService/ListApiKeys", json!({})),
        ] {
            let mut answer = self.ok(rpc, message).await;
            for key in answer["apiKeys"].as_array_mut().into_iter().flatten() {
                key.as_object_mut().unwrap().remove("lastUsedAt");
            }
            state.push(answer.to_string());
        }
        state.join("\n")
    }

    /// What is wrong with the log since the last search.
    pub(crate) fn log_complaints(&mut self) -> Vec<String> {
        let mut log = File::open(self.folder.path().join("log")).unwrap();
        log.seek(SeekFrom::Start(self.searched)).unwrap();
        let mut news = Vec::new();
        self.searched += u64::try_from(log.read_to_end(&mut news).unwrap()).unwrap();
        let news = String::from_utf8_lossy(&news);
        let mut complaints = Vec::new();
        for line in news.lines() {
            if line.contains("panicked") {
                complaints.push(format!("a panic: {line}"));
            }
            if line.to_lowercase().contains(CANARY_HEAD) {
                complaints.push(format!("the value is logged: {line}"));
            }
            if self.secrets.iter().any(|secret| line.contains(secret)) {
                complaints.push("a key is logged".to_owned());
            }
        }
        complaints
    }

    /// Stops in order, and judges the whole log and the books.
    pub(crate) async fn stop(mut self) {
        assert!(CANARY.starts_with(CANARY_HEAD));
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let begun = Instant::now();
        let code = loop {
            if let Some(code) = self.child.try_wait().unwrap() {
                break code;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "the server does not stop");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert!(code.success(), "{code}");
        self.searched = 0;
        assert_eq!(self.log_complaints(), Vec::<String>::new());
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap();
        assert!(log.contains("stopping"), "the log is not captured: {log}");
        check_file(&self.folder.database()).await;
    }
}

/// What the server wrote for its user once it was ready.
async fn credentials(folder: &Folder) -> toml::Value {
    let path = folder.path().join("credentials.toml");
    let begun = Instant::now();
    loop {
        if let Ok(text) = fs::read_to_string(&path) {
            return toml::from_str(&text).unwrap();
        }
        if begun.elapsed() > Duration::from_secs(60) {
            let log = fs::read_to_string(folder.path().join("log")).unwrap();
            panic!("the server does not start: {log}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
