//! Canary keys: after every way of sending one, right and wrong, no log at the finest level and no
//! answer has it.

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;

use serde_json::json;

use super::LEGACY;
use crate::harness::{Folder, Server};
use crate::process::{Process, quetra};

/// What `quetra mcp` writes to both its outputs, at the finest level of its log.
fn heard_locally(url: &str, key: &str) -> String {
    let mut command = quetra(&["mcp"]);
    command.env("QUETRA_GATEWAY_URL", url).env("QUETRA_API_KEY", key).env("QUETRA_LOG", "trace");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let open = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": LEGACY,
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }});
    let opened = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let ask = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
        "name": "quetra_check_budget", "arguments": {},
    }});
    // With a key that is refused it may have ended already.
    let messages = format!("{open}\n{opened}\n{ask}\n");
    drop(child.stdin.take().unwrap().write_all(messages.as_bytes()));
    let output = child.wait_with_output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// The part of a key that nobody else has.
fn canary(key: &str) -> &str {
    key.splitn(4, '_').nth(3).unwrap()
}

#[test]
fn no_key_appears_in_any_log_or_answer() {
    let folder = Folder::new();
    let data_dir = folder.path().to_str().unwrap();
    let arguments = ["dev", "--data-dir", data_dir, "--listen", "127.0.0.1:0", "--log", "trace"];
    let mut server = Process::run(quetra(&arguments), folder.path());
    let credentials = fs::read_to_string(folder.path().join("credentials.toml")).unwrap();
    let credentials: toml::Value = toml::from_str(&credentials).unwrap();
    let read = |name: &str| credentials[name].as_str().unwrap().to_owned();
    let (agent, admin) = (read("agent_key"), read("admin_key"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = server.url.clone();
    let answers = runtime.block_on(async {
        let http = reqwest::Client::new();
        let call = json!({
            "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": "quetra_evaluate", "arguments": {
                "amount": 100, "vendor": "firecrawl.dev", "category": "research",
            }},
        });
        let mut answers = Vec::new();
        for key in [&agent, &admin] {
            let bearer = format!("Bearer {key}");
            let paths = [
                format!("/{key}/mcp"),
                format!("/{key}/mcp/"),
                format!("/mcp/{key}"),
                format!("/{key}"),
                format!("/mcp?key={key}"),
                format!("/{key}/mcp?key={key}"),
                format!("/.well-known/oauth-protected-resource/{key}/mcp"),
                format!("/api/v1/{key}"),
                "/mcp".to_owned(),
            ];
            for path in paths {
                for method in [reqwest::Method::POST, reqwest::Method::GET] {
                    let request = http
                        .request(method, format!("{url}{path}"))
                        .header("accept", "application/json, text/event-stream")
                        .json(&call);
                    let request = if path == "/mcp" {
                        request.header("authorization", &bearer)
                    } else {
                        request
                    };
                    let response = request.send().await.unwrap();
                    answers.push(format!("{:?}", response.headers()));
                    answers.push(response.text().await.unwrap());
                }
            }
        }
        answers
    });
    let approved = answers.iter().filter(|answer| answer.contains("\"approved\":true")).count();
    assert_eq!(approved, 2, "the agent's key works in the path and in the header");
    // A broken connection is worth a line at the finest levels only.
    let mut garbage = std::net::TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    garbage.write_all(format!("{agent}\r\n\r\n").as_bytes()).unwrap();
    drop(garbage.read_to_end(&mut Vec::new()));
    server.signal("TERM");
    server.wait();
    let log = server.errors();
    assert!(log.contains("DEBUG"), "the log is not at its finest level");
    for key in [&agent, &admin] {
        let canary = canary(key);
        assert!(canary.len() > 20);
        assert!(!log.contains(canary), "a key is in the log");
        assert!(!answers.iter().any(|answer| answer.contains(canary)), "a key is in an answer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_appears_in_what_the_local_program_says() {
    let server = Server::start().await;
    let (agent, admin) = (&server.first.agent_key, &server.first.admin_key);
    let by_agent = heard_locally(&server.url(), agent);
    assert!(by_agent.contains("\"total\":10000"), "{by_agent}");
    assert!(by_agent.contains("TRACE"), "the log is not at its finest level: {by_agent}");
    let unknown = agent.replace(canary(agent), &canary(agent).to_uppercase());
    for heard in
        [by_agent, heard_locally(&server.url(), admin), heard_locally(&server.url(), &unknown)]
    {
        let heard = heard.to_lowercase();
        for key in [agent, admin] {
            assert!(!heard.contains(&canary(key).to_lowercase()), "a key is in {heard}");
        }
    }
    server.stop().await;
}
