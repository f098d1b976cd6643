//! The README's commands, taken out of it and run: whoever pastes them gets what it says.
//!
//! `cargo run --release --` is replaced by the binary that is built already, the default port by a
//! free one; `grpcurl` and `buf` are made of `curl`, because not every machine has them. Not here:
//! the test command, which is what runs this.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use super::bash;
use crate::harness::Folder;
use crate::process::{Process, quetra};

/// `grpcurl` and `buf curl` as far as the README uses them: the same request as JSON.
const STAND_INS: &str = r#"
call() {
  local url=$1; shift
  curl -sS "$url" -H 'content-type: application/json' "$@"; echo
}
grpcurl() {
  local given=() rest=()
  while (($#)); do
    case $1 in
      -plaintext) shift ;;
      -H | -d) given+=("$1" "$2"); shift 2 ;;
      *) rest+=("$1"); shift ;;
    esac
  done
  call "http://${rest[0]}/${rest[1]}" "${given[@]}"
}
buf() {
  [[ "$1 $2 $3 $4" == 'curl --protocol grpc --http2-prior-knowledge' ]]; shift 4
  local given=() url=
  while (($#)); do
    case $1 in
      -H | -d) given+=("$1" "$2"); shift 2 ;;
      *) url=$1; shift ;;
    esac
  done
  call "$url" "${given[@]}"
}
"#;

/// The shell blocks of a section.
fn blocks(readme: &str, section: &str) -> Vec<String> {
    let (_, text) = readme.split_once(&format!("\n## {section}\n")).unwrap();
    let text = text.split_once("\n## ").map_or(text, |(text, _)| text);
    let blocks = text.split("```sh\n").skip(1);
    blocks.map(|block| block.split_once("```").unwrap().0.to_owned()).collect()
}

#[test]
fn the_commands_of_the_readme_do_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    assert_eq!(blocks(&readme, "Run it"), ["cargo run --release -- dev\n"]);
    let folder = Folder::new();
    let mut command = quetra(&["dev"]);
    command.env("QUETRA_LISTEN", "127.0.0.1:0").current_dir(folder.path());
    let mut process = Process::run(command, folder.path());
    process.read_until("evaluate --amount");
    assert!(folder.path().join(".quetra").is_dir(), "the README says where the files are");

    let word = |before: &str| {
        let line = process.banner.lines().find(|line| line.trim_start().starts_with(before));
        line.unwrap()[before.len() + 2..].split_whitespace().next().unwrap().to_owned()
    };
    let (key, agent) = (word("agent key"), word("agent  "));
    let address = process.url.trim_start_matches("http://").to_owned();
    let blocks = blocks(&readme, "A first call");
    assert_eq!(blocks[0], "export KEY=sk_...\n");
    let pasted = |block: &str| {
        let block = block.replace("127.0.0.1:7070", &address);
        let block = block.replace("<the agent id it printed>", &agent);
        bash(folder.path(), &format!("{STAND_INS}\nexport KEY={key}\n{block}")).ok()
    };
    let answers = |block: &str| {
        let out = pasted(block);
        let parsed = serde_json::Deserializer::from_str(&out).into_iter::<Value>();
        parsed.map(Result::unwrap).collect::<Vec<_>>()
    };
    assert_eq!(answers(&blocks[1])[0]["decision"], "DECISION_APPROVED");
    assert_eq!(answers(&blocks[2])[0]["decision"], "approved");
    let last = answers(&blocks[3]);
    assert_eq!(last[0]["decision"], "DECISION_REJECTED", "{last:?}");
    // As the README shows: only what was approved is gone, and every rule is reported.
    assert_eq!(last[1]["budget"]["spent"], "400", "{last:?}");
    assert!(last[0]["ruleResults"].as_array().unwrap().len() > 3);
    assert_eq!(blocks.len(), 4);
    process.signal("TERM");
    assert_eq!(process.wait().code(), Some(0), "{}", process.errors());
}

/// The JSON blocks of a document.
fn settings(document: &str) -> Vec<Value> {
    let blocks = document.split("```json\n").skip(1);
    let blocks = blocks.map(|block| block.split_once("```").unwrap().0);
    blocks.filter_map(|block| serde_json::from_str(block).ok()).collect()
}

/// Opens a conversation with the server of these settings, as a client does, and asks for the
/// budget.
fn asked_by(server: &Value, folder: &Path, environment: [(&str, &str); 2]) -> Value {
    assert_eq!(server["args"], serde_json::json!(["mcp"]));
    let mut command = quetra(&["mcp"]);
    // What the document gives as an example is another in a test; the names must be the same.
    for name in server["env"].as_object().into_iter().flatten().map(|(name, _)| name) {
        let (_, value) = environment.iter().find(|(known, _)| known == name).unwrap();
        command.env(name, value);
    }
    command.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let open = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":
        "2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#;
    let opened = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let ask = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":
        {"name":"quetra_check_budget","arguments":{}}}"#;
    let mut input = child.stdin.take().unwrap();
    for message in [open, opened, ask] {
        writeln!(input, "{}", message.replace('\n', " ")).unwrap();
    }
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    let answer = answers.nth(1).unwrap().unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
    serde_json::from_str(&answer).unwrap()
}

/// Asks the server at an address for the budget.
fn asked_at(url: &str, header: &str, folder: &Path) -> Value {
    let ask = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":
        {"name":"quetra_check_budget","arguments":{}}}"#;
    let ask = ask.replace('\n', " ");
    let call = format!(
        "curl -sS '{url}' -H '{header}' -H 'content-type: application/json' \
         -H 'accept: application/json, text/event-stream' -d '{ask}'"
    );
    serde_json::from_str(&bash(folder, &call).ok()).unwrap()
}

#[test]
fn the_settings_for_mcp_clients_work_as_they_stand() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = Folder::new();
    let mut command = quetra(&["dev"]);
    command.env("QUETRA_LISTEN", "127.0.0.1:0").current_dir(folder.path());
    let mut process = Process::run(command, folder.path());
    process.read_until("evaluate --amount");
    let credentials = folder.path().join(".quetra/credentials.toml");
    let credentials: toml::Value =
        toml::from_str(&fs::read_to_string(credentials).unwrap()).unwrap();
    let key = credentials["agent_key"].as_str().unwrap();
    let mut local = 0;
    let mut remote = 0;
    for document in ["README.md", "docs/MCP.md"] {
        for settings in settings(&fs::read_to_string(root.join(document)).unwrap()) {
            let servers = settings.get("mcpServers").or_else(|| settings["mcp"].get("servers"));
            let Some(server) = servers.map(|servers| &servers["quetra"]) else {
                continue;
            };
            if server.get("command").is_some() {
                let environment = [("QUETRA_API_KEY", key), ("QUETRA_GATEWAY_URL", &*process.url)];
                let answer = asked_by(server, folder.path(), environment);
                let budget = &answer["result"]["structuredContent"]["budget"];
                assert_eq!(budget["total"], 10_000, "{answer}");
                local += 1;
            } else {
                assert_eq!(server["url"], "http://127.0.0.1:7070/mcp", "{server}");
                let bearer = server["headers"]["Authorization"].as_str().unwrap();
                // Each client has its own way to write an environment variable.
                let held = ["${QUETRA_API_KEY}", "${env:QUETRA_API_KEY}", "sk_agent_…"];
                let written = held.iter().find(|held| bearer.contains(**held)).unwrap();
                let header = format!("Authorization: {}", bearer.replace(written, key));
                let answer = asked_at(&format!("{}/mcp", process.url), &header, folder.path());
                let budget = &answer["result"]["structuredContent"]["budget"];
                assert_eq!(budget["total"], 10_000, "{answer}");
                remote += 1;
            }
        }
    }
    assert_eq!((local, remote), (3, 3), "settings were added or lost");
}
