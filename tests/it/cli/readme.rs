//! The README's commands, taken out of it and run: whoever pastes them gets what it says.
//!
//! `cargo run --release --` is replaced by the binary that is built already, the default port by a
//! free one; `grpcurl` and `buf` are made of `curl`, because not every machine has them. Not here:
//! the test command, which is what runs this.

use std::fs;
use std::path::Path;

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
