//! The binary as a person meets it: what `quetra dev` prints works when it is pasted, and every
//! group of commands does what it says, with exit codes that scripts can use.
//!
//! Production commands are in `cli/production`, the README's in `cli/readme`. Not here: parsing of
//! arguments and settings, which unit tests cover.

mod production;
mod readme;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::Folder;
use crate::process::{Process, quetra};

/// What a command did.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    errors: String,
}

/// Runs a command to its end.
fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        errors: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Ran {
    /// Its output, if it went well.
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// Its output as JSON, if it went well.
    #[track_caller]
    fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// That it failed with this code, and said this.
    #[track_caller]
    fn fails(&self, code: i32, saying: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.errors.contains(saying), "no `{saying}` in {self:?}");
        assert!(!self.errors.contains("panicked"), "{self:?}");
    }
}

/// Runs lines in bash, in a folder.
fn bash(folder: &Path, lines: &str) -> Ran {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", lines]).current_dir(folder);
    ran(command.env_remove("QUETRA_API_KEY"))
}

/// A development server in a folder, and commands run beside it.
struct Desk {
    folder: Folder,
    process: Process,
}

impl Desk {
    fn new() -> Self {
        let folder = Folder::new();
        let mut command = quetra(&["dev", "--listen", "127.0.0.1:0", "--log", "warn"]);
        command.current_dir(folder.path());
        let process = Process::run(command, folder.path());
        Self { folder, process }
    }

    /// Runs a command beside the server; `.quetra/credentials.toml` tells it where that is.
    fn run(&self, arguments: &[&str]) -> Ran {
        ran(quetra(arguments).current_dir(self.folder.path()))
    }

    /// The same with a key of its own.
    fn run_as(&self, key: &str, arguments: &[&str]) -> Ran {
        let mut command = quetra(arguments);
        command.env("QUETRA_API_KEY", key).env("QUETRA_GATEWAY_URL", &self.process.url);
        ran(command.current_dir(self.folder.path()))
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn stop(mut self) {
        self.process.signal("TERM");
        assert_eq!(self.process.wait().code(), Some(0), "{}", self.process.errors());
    }
}

#[test]
fn what_the_first_start_prints_works_as_pasted() {
    let mut desk = Desk::new();
    desk.process.read_until("evaluate --amount");
    let banner = desk.process.banner.clone();
    let pasted = banner.split("\n\n").filter(|part| part.starts_with("curl ")).collect::<Vec<_>>();
    let [approved, rejected, rest] = pasted[..] else { panic!("{banner}") };
    let decide = |lines: &str| -> Value {
        serde_json::from_str(&bash(desk.folder.path(), lines).ok()).unwrap()
    };
    let answer = decide(approved);
    assert_eq!(answer["decision"], "DECISION_APPROVED", "{answer}");
    let answer = decide(rejected);
    assert_eq!(answer["decision"], "DECISION_REJECTED", "{answer}");
    let failed = answer["ruleResults"].as_array().unwrap().iter();
    let failed = failed.filter(|result| result["passed"] != true).count();
    assert!((1..7).contains(&failed), "{answer}");
    let answer = decide(rest);
    assert_eq!(answer["decision"], "approved", "{answer}");

    let commands = banner.split("\n\n").last().unwrap();
    assert_eq!(commands.lines().count(), 3, "{banner}");
    let out = bash(desk.folder.path(), commands).ok();
    assert!(out.contains("$4.00"), "the budget shows what was spent: {out}");
    assert!(out.contains("netflix.com") && out.contains("rejected"), "{out}");

    // A later start shows no key, and the same commands go on working.
    desk.process.signal("TERM");
    assert_eq!(desk.process.wait().code(), Some(0));
    let mut command = quetra(&["dev", "--listen", "127.0.0.1:0"]);
    command.current_dir(desk.folder.path());
    desk.process = Process::run(command, desk.folder.path());
    desk.process.read_until("evaluate --amount");
    assert!(!desk.process.banner.contains("sk_"), "{}", desk.process.banner);
    assert!(bash(desk.folder.path(), commands).ok().contains("$6.00"));
    desk.stop();
}

#[test]
fn budgets_and_transactions_are_shown_and_the_exit_code_tells_the_decision() {
    let desk = Desk::new();
    let spend = ["evaluate", "--vendor", "firecrawl.dev", "--category", "research", "--amount"];
    let evaluate = |amount| desk.run(&[&spend[..], &[amount, "-o", "json"]].concat());
    let approved = evaluate("1500").json();
    assert_eq!(evaluate("50000").code, Some(3));
    let id = approved["transactionId"].as_str().unwrap();
    let budget = desk.run(&["budget", "get", "--output", "json"]).json();
    assert_eq!(budget["budget"]["spent"], "1500");
    let out = desk.run(&["transactions", "settle", id, "--amount", "1200"]).ok();
    assert!(out.contains("settled") && out.contains("$12.00"), "{out}");
    desk.run(&["transactions", "settle", id, "--amount", "1100"]).fails(1, "settled");
    let listed = desk.run(&["transactions", "list", "--output", "json"]).json();
    let listed = listed["transactions"].as_array().unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0]["decision"], "DECISION_REJECTED");
    assert_eq!(listed[1]["id"], id);
    assert_eq!(listed[1]["settledAmount"], "1200");
    let table = desk.run(&["transactions", "list", "--decision", "approved"]).ok();
    assert!(table.contains(id) && !table.contains("$500.00"), "{table}");
    assert!(desk.run(&["transactions", "get", id]).ok().contains("vendor_allowlist"));
    desk.run(&["transactions", "get", "tx_0"]).fails(1, "next:");
    desk.run(&["transactions", "list", "--decision", "maybe"]).fails(2, "expected one of");
    desk.stop();
}

const MANDATE: &str = "\
name: books
budget:
  total: 5000
  perTransaction: 1000
  currency: USD
rules:
  - {type: category, allowed: [books]}
  - {type: approval, threshold: 500, timeoutMinutes: 60}
";

#[test]
fn a_mandate_comes_from_a_file_and_its_mistakes_have_line_numbers() {
    let desk = Desk::new();
    desk.run(&["agents", "register", "librarian", "--description", "buys books"]).ok();
    desk.write("mandate.yaml", MANDATE);
    let create = ["mandates", "create", "--agent", "librarian", "-f"];
    let created =
        desk.run(&[&create[..], &["mandate.yaml", "--activate", "-o", "json"]].concat()).json();
    assert_eq!(created["mandate"]["status"], "MANDATE_STATUS_ACTIVE");
    let id = created["mandate"]["id"].as_str().unwrap();

    let agents = desk.run(&["agents", "list", "-o", "json"]).json();
    let found = agents["agents"].as_array().unwrap().iter();
    assert!(
        found.clone().any(|agent| agent["name"] == "librarian" && agent["mandate"]["id"] == id)
    );
    let spend = ["evaluate", "--agent", "librarian", "--vendor", "books.example", "--category"];
    let spend =
        |category, amount| desk.run(&[&spend[..], &[category, "--amount", amount]].concat());
    // For an agent that is named the operator's key asks: the file's other one is of another agent.
    spend("books", "400").ok();
    let key = desk.run(&["keys", "create", "l", "--role", "agent", "--agent", "librarian"]).ok();
    let key = key.lines().find(|line| line.starts_with("sk_agent_")).unwrap();
    let buy = |amount| {
        let spend = ["evaluate", "--vendor", "books.example", "--category", "books", "--amount"];
        desk.run_as(key, &[&spend[..], &[amount]].concat()).code
    };
    assert_eq!((buy("400"), buy("600"), buy("1001")), (Some(0), Some(4), Some(3)));

    // What is printed as YAML makes the same mandate again.
    let yaml = desk.run(&["mandates", "get", id, "--yaml"]).ok();
    desk.write("again.yaml", &yaml);
    desk.run(&["mandates", "validate", "-f", "again.yaml"]).ok();
    let again = desk.run(&["mandates", "create", "-f", "again.yaml", "-o", "json"]).json();
    assert_eq!(again["mandate"]["rules"], created["mandate"]["rules"]);
    desk.run(&["mandates", "activate", again["mandate"]["id"].as_str().unwrap()])
        .fails(1, "ACTIVE_MANDATE_EXISTS");

    // The shape is tested here, the meaning by the server; both know the line.
    desk.write("shape.yaml", &MANDATE.replace("perTransaction", "perTransactoin"));
    desk.run(&["mandates", "validate", "-f", "shape.yaml"]).fails(1, "shape.yaml:4:");
    desk.run(&[&create[..], &["shape.yaml"]].concat()).fails(1, "shape.yaml:4:");
    desk.write("meaning.yaml", &MANDATE.replace("threshold: 500", "threshold: 500000"));
    desk.run(&[&create[..], &["meaning.yaml"]].concat()).fails(1, "meaning.yaml:8");
    desk.write("broken.yaml", "name: [books\nbudget: {");
    desk.run(&[&create[..], &["broken.yaml"]].concat()).fails(1, "broken.yaml:");
    desk.run(&[&create[..], &["none.yaml"]].concat()).fails(1, "none.yaml cannot be read");
    desk.stop();
}

#[test]
fn a_durability_is_asked_for_in_a_file_and_a_floor_on_the_command_line() {
    let desk = Desk::new();
    desk.run(&["agents", "register", "librarian"]).ok();
    desk.write("mandate.yaml", &format!("{MANDATE}durability: strict\n"));
    let create = ["mandates", "create", "--agent", "librarian", "-f", "mandate.yaml", "-o", "json"];
    let created = desk.run(&create).json();
    assert_eq!(created["mandate"]["durability"], "DURABILITY_STRICT", "{created}");
    let id = created["mandate"]["id"].as_str().unwrap();
    let is_shown = |level: &str| {
        let row = |line: &str| line.starts_with("durability") && line.ends_with(level);
        desk.run(&["mandates", "get", id]).ok().lines().any(row)
    };
    assert!(is_shown("strict"));
    assert!(desk.run(&["mandates", "get", id, "--yaml"]).ok().contains("durability: strict"));
    let change = |text: &str| {
        desk.write("change.yaml", text);
        desk.run(&["mandates", "update", id, "-f", "change.yaml"])
    };
    change("durability: fast\n").ok();
    assert!(is_shown("fast"));
    change("durability: eternal\n").fails(1, "change.yaml:1:");
    // A whole file that asks for nothing leaves it to the server again.
    change(&format!("agent: librarian\n{MANDATE}")).ok();
    assert!(!desk.run(&["mandates", "get", id]).ok().contains("durability"));

    let update = |floor: &str| {
        let update = ["organization", "update", "--durability-floor", floor];
        desk.run(&update)
    };
    for floor in ["strict", "none"] {
        assert!(update(floor).ok().lines().any(|line| line.ends_with(floor)));
        let shown = desk.run(&["organization", "get"]).ok();
        let row = |line: &str| line.starts_with("durability floor") && line.ends_with(floor);
        assert!(shown.lines().any(row), "{shown}");
    }
    update("eternal").fails(2, "expected one of fast, durable, strict, none");
    desk.run(&["organization", "update"]).fails(2, "--durability-floor");
    assert!(desk.run(&["organization", "freeze"]).ok().contains("nothing is approved"));
    assert!(!desk.run(&["organization", "unfreeze"]).ok().contains("nothing is approved"));
    desk.stop();
}

#[test]
fn a_key_works_until_it_is_revoked() {
    let desk = Desk::new();
    let made = desk.run(&["keys", "create", "audit", "--role", "reader", "-o", "json"]).json();
    let (id, key) = (made["apiKey"]["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert!(desk.run_as(key, &["agents", "list"]).ok().contains("research-assistant"));
    let more = ["keys", "create", "mine", "--role", "admin"];
    desk.run_as(key, &more).fails(1, "ROLE_NOT_ALLOWED");
    let listed = desk.run(&["keys", "list"]).ok();
    assert!(listed.contains(id) && !listed.contains(key), "{listed}");
    assert!(desk.run(&["keys", "revoke", id]).ok().contains("revoked"));
    desk.run_as(key, &["agents", "list"]).fails(1, "next:");
    desk.run_as("sk_admin_nonsense", &["agents", "list"]).fails(1, "next:");
    desk.stop();
}

#[test]
fn health_config_and_completions_answer_scripts() {
    let desk = Desk::new();
    let url = desk.process.url.clone();
    assert!(desk.run(&["health", "--url", &url]).ok().contains("serving"));
    let mut frozen = desk;
    frozen.process.signal("STOP");
    let asked = frozen.run(&["health", "--url", &url, "--timeout-ms", "300"]);
    frozen.process.signal("CONT");
    assert_eq!(asked.code, Some(1), "{asked:?}");
    frozen.process.signal("TERM");
    assert_eq!(frozen.process.wait().code(), Some(0));
    frozen.run(&["health", "--url", &url]).fails(1, "no server answers");
    frozen.run(&["health", "--timeout-ms", "0"]).fails(2, "--timeout-ms");

    let shown = frozen.run(&["config", "--for", "dev", "--max-in-flight", "7"]).ok();
    assert!(shown.contains("max_in_flight = 7 # flag --max-in-flight"), "{shown}");
    let refused = frozen.run(&["config"]);
    refused.fails(1, "`database_url`");
    refused.fails(1, "`master_key_file`");

    for (shell, check) in [("bash", "complete -p quetra"), ("zsh", "true"), ("fish", "true")] {
        let script = frozen.run(&["completions", shell]).ok();
        assert!(script.contains("transactions"), "{shell}");
        frozen.write("completions", &script);
        if shell == "bash" {
            bash(frozen.folder.path(), &format!("source ./completions; {check}")).ok();
        }
    }
}
