//! `quetra mcp`: the real binary on pipes, as a client starts it, against a real server.
//!
//! One message on each line, both ways. Not here: what the tools answer, which does not depend on
//! the way in.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use quetra::proto::v1;
use serde_json::{Value, json};

use super::{LEGACY, MODERN, agent_key, key, text};
use crate::harness::{Folder, Server};
use crate::process::{Process, quetra};

/// A running `quetra mcp`; killed when it is dropped.
struct Local {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Drop for Local {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn command(url: &str, key: &str, agent_id: &str) -> Command {
    let mut command = quetra(&["mcp"]);
    command
        .env("QUETRA_GATEWAY_URL", url)
        .env("QUETRA_API_KEY", key)
        .env("QUETRA_AGENT_ID", agent_id)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Local {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    fn write(&mut self, line: &str) {
        let input = self.input.as_mut().unwrap();
        input.write_all(line.as_bytes()).unwrap();
        input.write_all(b"\n").unwrap();
    }

    fn read(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn request(&mut self, id: i64, method: &str, params: &Value) {
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.write(&message.to_string());
    }

    fn ask(&mut self, id: i64, method: &str, params: &Value) -> Value {
        self.request(id, method, params);
        let answer = self.read();
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    fn open(&mut self) -> Value {
        let params = json!({
            "protocolVersion": LEGACY,
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        });
        let opened = self.ask(0, "initialize", &params);
        self.write("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}");
        opened
    }

    /// Closes the client's end and waits.
    fn close(mut self) {
        drop(self.input.take());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status:?}");
        let mut rest = String::new();
        self.output.read_line(&mut rest).unwrap();
        assert_eq!(rest, "", "something else than messages is on standard output");
    }
}

/// Runs it with a client that says nothing.
fn refused(mut command: Command, saying: &str) {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(!status.success(), "{stderr}");
    assert!(stderr.contains(saying), "no `{saying}` in {stderr}");
    assert!(stdout.is_empty(), "{stdout:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_speaks_for_one_agent() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let every = agent_key(&mut admin, "").await;
    for key in [&server.first.agent_key, &every] {
        let mut local = Local::start(command(&server.url(), key, &server.agent_id()));
        assert_eq!(local.open()["result"]["protocolVersion"], LEGACY);
        let tools = local.ask(1, "tools/list", &json!({}));
        let tools = tools["result"]["tools"].as_array().unwrap();
        let named = |name: &str| tools.iter().any(|tool| tool["name"] == name);
        assert!(named("quetra_evaluate") && !named("quetra_list_agents"), "{tools:?}");
        let call = json!({"name": "quetra_evaluate", "arguments": {
            "amount": 200, "vendor": "firecrawl.dev", "category": "research",
        }});
        let answer = local.ask(2, "tools/call", &call);
        assert_eq!(answer["result"]["structuredContent"]["approved"], true, "{answer}");
        local.close();
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_current_revision_needs_no_handshake() {
    let server = Server::start().await;
    // A key that is bound to an agent needs no agent.
    let mut local = Local::start(command(&server.url(), &server.first.agent_key, ""));
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let found = local.ask(1, "server/discover", &json!({"_meta": meta}));
    assert_eq!(found["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "quetra");
    let call = json!({"name": "quetra_check_budget", "arguments": {}, "_meta": meta});
    let answer = local.ask(2, "tools/call", &call);
    assert_eq!(answer["result"]["structuredContent"]["budget"]["total"], 10_000, "{answer}");
    assert_eq!(answer["result"]["resultType"], "complete");
    local.close();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_flight_are_answered_together_and_garbage_is_corrected() {
    const CALLS: i64 = 100;
    let server = Server::start().await;
    let mut local = Local::start(command(&server.url(), &server.first.agent_key, ""));
    local.open();
    // The same as over HTTP; a blank line and a notification that nobody knows are no questions.
    let deep = "[".repeat(20_000);
    let no_params = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call"}).to_string();
    let no_object = json!({"name": "quetra_can_spend", "arguments": []});
    let no_object =
        json!({"jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": no_object});
    for (garbage, code, id) in [
        ("{", -32700, Value::Null),
        ("nonsense", -32700, Value::Null),
        (&deep, -32700, Value::Null),
        ("[]", -32600, Value::Null),
        ("{\"jsonrpc\":\"2.0\"}", -32600, Value::Null),
        ("{\"id\":7}", -32600, Value::Null),
        (&no_params, -32602, json!(7)),
        (&no_object.to_string(), -32602, json!("a")),
    ] {
        local.write("");
        local.write("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/nothing\"}\r");
        local.write(garbage);
        let answer = local.read();
        let said = (answer["error"]["code"].as_i64(), &answer["id"]);
        assert_eq!(said, (Some(code), &id), "{garbage:.40}: {answer}");
    }
    for id in 1..=CALLS {
        let call = json!({"name": "quetra_check_budget", "arguments": {}});
        local.request(id, "tools/call", &call);
    }
    let mut answered = std::collections::BTreeSet::new();
    while answered.len() < usize::try_from(CALLS).unwrap() {
        let answer = local.read();
        if let Some(id) = answer["id"].as_i64().filter(|_| answer.get("result").is_some()) {
            assert_eq!(answer["result"]["isError"], false, "{answer}");
            assert!(answered.insert(id), "{id} is answered twice");
        }
    }
    let unknown = local.ask(-1, "tools/call", &json!({"name": "quetra_nothing"}));
    assert_eq!(unknown["error"]["code"], -32602, "{unknown}");
    local.close();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_call_leaves_the_books_right_and_huge_input_is_refused() {
    const CALLS: i64 = 20;
    let server = Server::start().await;
    let mut local = Local::start(command(&server.url(), &server.first.agent_key, ""));
    local.open();
    let spend = |key: i64| {
        json!({"name": "quetra_evaluate", "arguments": {
            "amount": 10, "vendor": "firecrawl.dev", "category": "research",
            "intentKey": format!("cancelled-{key:04}"),
        }})
    };
    for id in 1..=CALLS {
        local.request(id, "tools/call", &spend(id));
        let params = json!({"requestId": id, "reason": "the user changed his mind"});
        let cancel =
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
        local.write(&cancel.to_string());
    }
    let huge = json!({"name": "quetra_can_spend", "arguments": {
        "amount": 1, "vendor": "x".repeat(1_000_000),
    }});
    local.request(CALLS + 1, "tools/call", &huge);
    // Whatever became of each, repeating it decides it once.
    for id in 1..=CALLS {
        local.request(1_000 + id, "tools/call", &spend(id));
    }
    let mut left: std::collections::BTreeSet<_> = (1_001..=1_000 + CALLS).collect();
    left.insert(CALLS + 1);
    while !left.is_empty() {
        let answer = local.read();
        let id = answer["id"].as_i64().unwrap();
        let refused = answer["result"]["isError"] == true;
        assert_eq!(refused, id == CALLS + 1, "{answer}");
        left.remove(&id);
    }
    let mut admin = server.admin().await;
    let request = v1::GetBudgetRequest { agent_id: server.agent_id(), ..Default::default() };
    let budget = admin.budget.get_budget(request).await.unwrap().into_inner().budget.unwrap();
    assert_eq!(budget.spent, 10 * CALLS);
    local.close();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_setting_is_a_sentence_on_standard_error() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let every = agent_key(&mut admin, "").await;
    let reader = key(&mut admin, v1::Role::Reader, "").await.1;
    let (url, own) = (server.url(), server.first.agent_key.clone());
    let other = v1::RegisterAgentRequest { name: "other".to_owned(), ..Default::default() };
    let other = admin.agents.register_agent(other).await.unwrap().into_inner().agent.unwrap().id;
    refused(command("http://127.0.0.1:1", &own, ""), "no server answers at http://127.0.0.1:1");
    refused(command("localhost:7070", &own, ""), "write it like http://127.0.0.1:7070");
    refused(command(&url, "sk_agent_nobody", ""), "does not accept QUETRA_API_KEY");
    refused(command(&url, &server.first.admin_key, ""), "not a key of the role agent");
    refused(command(&url, &reader, ""), "not a key of the role agent");
    refused(command(&url, &every, ""), "set QUETRA_AGENT_ID");
    refused(command(&url, &own, &other), "names no agent that this key may act for");
    refused(command(&url, &every, "nobody"), "names no agent that this key may act for");
    let folder = Folder::new();
    let mut nothing = quetra(&["mcp"]);
    nothing.current_dir(folder.path());
    refused(nothing, "QUETRA_API_KEY");
    server.stop().await;
}

#[test]
fn a_server_that_goes_away_and_comes_back_is_told_and_found_again() {
    let folder = Folder::new();
    let server = Process::start(folder.path());
    let address = server.url.trim_start_matches("http://").to_owned();
    let mut mcp = quetra(&["mcp"]);
    mcp.arg("--credentials").arg(folder.path().join("credentials.toml"));
    mcp.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut local = Local::start(mcp);
    local.open();
    drop(server);
    let call = json!({"name": "quetra_evaluate", "arguments": {
        "amount": 200, "currency": "USD", "vendor": "firecrawl.dev", "category": "research",
    }});
    let answer = local.ask(1, "tools/call", &call);
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    let why = text(&answer["result"]);
    assert!(why.starts_with("NOT APPROVED"), "{why}");
    assert!(why.contains("GATEWAY_UNREACHABLE"), "{why}");
    assert!(why.contains("the intentKey of this call is"), "{why}");
    let data_dir = folder.path().to_str().unwrap();
    let again = quetra(&["dev", "--data-dir", data_dir, "--listen", &address, "--log", "warn"]);
    let server = Process::run(again, folder.path());
    let answer = local.ask(2, "tools/call", &call);
    assert_eq!(answer["result"]["structuredContent"]["approved"], true, "{answer}");
    local.close();
    drop(server);
}
