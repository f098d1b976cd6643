//! The command line from outside: arguments in, text and exit code out, against a fake server.

mod fake;

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use clap::CommandFactory;

use self::fake::FakeServer;
use super::{Cli, run};
use crate::config::{Environment, Key};

/// What a command wrote, and its exit code.
#[derive(Debug)]
struct Ran {
    code: u8,
    out: String,
    err: String,
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Runs a command line; `QUETRA_…` variables may stand before it, as in a shell.
fn quetra(line: &str) -> Ran {
    let (variables, words): (Vec<_>, Vec<_>) =
        line.split_whitespace().partition(|word| word.starts_with("QUETRA_"));
    let environment =
        Environment::from_pairs(variables.iter().map(|pair| pair.split_once('=').unwrap()));
    let (out, err) = (Buffer::default(), Buffer::default());
    let arguments = std::iter::once("quetra").chain(words).map(Into::into);
    let streams = (Box::new(out.clone()), Box::new(err.clone()));
    let code = run(arguments, &environment, streams.0, streams.1);
    Ran { code, out: out.text(), err: err.text() }
}

/// A command line against the fake server.
fn asked(server: &FakeServer, line: &str) -> Ran {
    quetra(&format!("QUETRA_API_KEY=sk_test QUETRA_GATEWAY_URL={} {line}", server.url))
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mandate.yaml");
    fs::write(&path, text).unwrap();
    (directory, path)
}

const MANDATE: &str = "\
agentId: 0198c0de-0000-7000-8000-000000000001
name: research
budget:
  total: 10000
  perTransaction: 500
  currency: USD
rules:
  - type: category
    allowed: [research]
  - type: time_window
    days: [1, 2]
    startHour: 9
    endHour: 17
    timezone: Mars/Base
";

#[test]
fn the_definition_of_the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn no_command_takes_an_argument_of_its_own_for_one_that_all_have() {
    fn check(command: &clap::Command, global: &[(String, Option<String>)]) {
        for argument in command.get_arguments().filter(|argument| !argument.is_global_set()) {
            let (id, long) = (argument.get_id().as_str(), argument.get_long());
            let taken = global.iter().any(|(global, option)| {
                global == id || option.is_some() && option.as_deref() == long
            });
            assert!(!taken, "{} has its own {id}", command.get_name());
        }
        for command in command.get_subcommands() {
            let mut global = global.to_vec();
            global.extend(globals(command));
            check(command, &global);
        }
    }
    fn globals(command: &clap::Command) -> Vec<(String, Option<String>)> {
        let global = command.get_arguments().filter(|argument| argument.is_global_set());
        let named = |argument: &clap::Arg| {
            (argument.get_id().to_string(), argument.get_long().map(str::to_owned))
        };
        global.map(named).collect()
    }
    let command = Cli::command();
    let webhooks = command.find_subcommand("webhooks").unwrap();
    assert!(globals(webhooks).iter().any(|(id, _)| id == "url"), "nothing would be compared");
    check(&command, &globals(&command));
}

#[test]
fn wrong_usage_exits_with_two_and_says_what_was_expected() {
    let table = [
        ("", "Usage: quetra"),
        ("frobnicate", "unrecognized subcommand"),
        ("dev --max-in-flight many", "`many` is not a whole number"),
        ("dev --database-url sqlite://x", "unexpected argument"),
        ("serve --behind-tls-proxy=maybe", "neither `true` nor `false`"),
        ("evaluate --amount 2.00 --vendor x", "write 200 for $2.00"),
        ("evaluate --amount 200", "--vendor"),
        ("keys create ci --role owner", "expected one of admin, agent, reader"),
        ("mandates set-budget mdt_x", "required"),
        ("agents register a --metadata x", "expected NAME=VALUE"),
        ("transactions list --since yesterday", "2027-01-31T09:00:00Z"),
        ("transactions settle tx_x --amount 0", "transactions void"),
        ("transactions refund tx_x --amount 0", "leave --amount out"),
        ("transactions get tx_x --wait 31", "0..=30"),
        ("mandates get mdt_x --version 0", "1.."),
        ("mandates set-budget mdt_x --total 1 --expected-version 0", "1.."),
        ("audit export --from=-1", "0.."),
        ("outbox show --most 0", "1.."),
    ];
    for (line, expected) in table {
        let ran = quetra(line);
        assert_eq!(ran.code, 2, "{line}: {ran:?}");
        assert!(ran.err.contains(expected), "{line}: {ran:?}");
    }
}

#[test]
fn every_setting_is_a_flag_of_a_server_command() {
    let help = format!("{}{}", quetra("dev --help").out, quetra("serve --help").out);
    for key in Key::ALL {
        assert!(help.contains(&format!("--{}", key.flag())), "{}", key.flag());
        assert!(help.contains(&key.variable()), "{}", key.variable());
    }
    assert!(!quetra("dev --help").out.contains("--master-key-file"));
    assert!(quetra("agents list --help").out.contains("process list"));
}

#[test]
fn what_needs_no_server_asks_for_none() {
    for line in ["audit verify --help", "mandates validate --help"] {
        let help = quetra(line).out;
        assert!(help.contains("Usage: quetra"), "{help}");
        for option in ["--url", "--api-key", "--credentials", "--timeout-ms", "--output"] {
            assert!(!help.contains(option), "{line}: {help}");
        }
    }
    assert!(quetra("audit list --help").out.contains("--api-key"));
}

#[test]
fn an_unsafe_configuration_refuses_to_start() {
    let ran = quetra("QUETRA_LOG=loud dev --listen 0.0.0.0:7070");
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("`listen` (flag --listen): a development server"), "{}", ran.err);
    assert!(ran.err.contains("`log` (environment QUETRA_LOG): `loud` is not"), "{}", ran.err);
}

#[test]
fn the_effective_configuration_is_shown_with_what_is_wrong_with_it() {
    let ran = quetra("QUETRA_DATABASE_URL=postgres://u:hunter2@db/q config --behind-tls-proxy");
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("behind_tls_proxy = true # flag --behind-tls-proxy"), "{}", ran.out);
    assert!(ran.out.contains("postgres://***@db/q\" # environment"), "{}", ran.out);
    assert!(ran.err.contains("`master_key_file`: it is required"), "{}", ran.err);
    assert!(!format!("{ran:?}").contains("hunter2"));
    assert_eq!(quetra("config --for dev").code, 0);
}

#[test]
fn completions_are_printed_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = quetra(&format!("completions {shell}"));
        assert_eq!(ran.code, 0);
        assert!(ran.out.contains("mandates"), "{shell}");
    }
}

#[test]
fn without_a_key_or_a_server_it_says_what_to_do() {
    let ran = quetra("agents list --credentials /none/credentials.toml");
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("no API key for http://127.0.0.1:7070; set QUETRA_API_KEY"));

    // Port 9 is never listened on here.
    let ran = quetra("QUETRA_API_KEY=sk_x agents list --url http://127.0.0.1:9");
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("no server answers at http://127.0.0.1:9"), "{}", ran.err);
    assert!(ran.err.contains("next: start one with `quetra dev`"), "{}", ran.err);

    for url in ["https://gateway.example.com", "127.0.0.1:7070"] {
        let ran = quetra(&format!("QUETRA_API_KEY=sk_x agents list --url {url}"));
        assert!(ran.err.contains("cannot use the address"), "{}", ran.err);
    }
    let ran = quetra("health --url http://127.0.0.1:9");
    assert_eq!(ran.code, 1);
}

#[test]
fn the_key_of_a_development_server_is_sent_to_no_other() {
    use std::os::unix::fs::PermissionsExt;
    let server = FakeServer::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("credentials.toml");
    let text = format!(
        "url = \"{}\"\nadmin_key = \"sk_test\"\nagent_key = \"sk_test\"\nagent_id = \"demo\"\n",
        server.url
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let credentials = format!("--credentials {}", path.display());

    let ran = quetra(&format!("mandates get mdt_1 {credentials}"));
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = quetra(&format!("mandates get mdt_1 {credentials} --url {}/", server.url));
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = quetra(&format!("mandates get mdt_1 {credentials} --url http://127.0.0.1:9"));
    assert!(ran.err.contains("no API key for http://127.0.0.1:9"), "{ran:?}");
}

#[test]
fn json_output_is_the_canonical_json_of_the_answer() {
    let server = FakeServer::start();
    let ran = asked(&server, "mandates get mdt_1 --output json");
    assert_eq!(ran.code, 0, "{ran:?}");
    let value: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let mandate = &value["mandate"];
    assert_eq!(mandate["budget"]["perTransaction"], "500");
    assert_eq!(mandate["status"], "MANDATE_STATUS_ACTIVE");
    assert_eq!(mandate["validFrom"], "2026-01-01T00:00:00Z");
    assert_eq!(mandate["revocationReason"], "", "default values are there for scripts");
    assert_eq!(mandate["name"], fake::HOSTILE_NAME);
    assert!(!ran.out.contains('\u{1b}') && !ran.out.contains('\u{202e}'));
}

#[test]
fn tables_show_money_and_escape_what_agents_wrote() {
    let server = FakeServer::start();
    let ran = asked(&server, "mandates get mdt_1");
    assert!(ran.out.contains("$100.00 daily"), "{}", ran.out);
    assert!(ran.out.contains("a\\u{1b}[2J\\n\\u{202e}b"), "{}", ran.out);
    assert!(ran.out.contains("vendor_cap"), "{}", ran.out);
    let ran = asked(&server, "mandates list");
    assert_eq!(ran.out.lines().count(), 3, "a header and two pages of one: {}", ran.out);
}

#[test]
fn a_printed_mandate_is_a_file_that_makes_it_again() {
    let server = FakeServer::start();
    let printed = asked(&server, "mandates get mdt_2 --yaml");
    assert_eq!(printed.code, 0, "{printed:?}");
    let (_directory, path) = file(&printed.out);
    let ran = asked(&server, &format!("mandates create --activate -f {}", path.display()));
    assert_eq!(ran.code, 0, "{ran:?}\n{}", printed.out);
    let created = server.created.lock().unwrap().clone().unwrap();
    let original = fake::mandate("mdt_2");
    assert_eq!(created.rules, original.rules);
    assert_eq!(created.budget, original.budget);
    assert_eq!(created.agent_id, original.agent_id);
    assert_eq!(created.valid_from, original.valid_from);

    // Even one with a hostile name, which is then written as JSON.
    let printed = asked(&server, "mandates get mdt_1 --yaml");
    assert!(!printed.out.contains(['\u{1b}', '\u{202e}']), "{}", printed.out);
    let (_directory, path) = file(&printed.out);
    asked(&server, &format!("mandates create -f {}", path.display()));
    assert_eq!(server.created.lock().unwrap().clone().unwrap().name, fake::HOSTILE_NAME);
}

#[test]
fn complaints_of_the_server_point_at_lines_of_the_file() {
    let server = FakeServer::start();
    let (_directory, path) = file(MANDATE);
    let shown = path.display();
    let ran = asked(&server, &format!("mandates create -f {shown}"));
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("error: INVALID_ARGUMENT (INVALID_FIELDS): 2 fields"), "{}", ran.err);
    let first = format!("{shown}:14:5: rules[1].time_window.timezone: is not an IANA time zone");
    assert!(ran.err.contains(&first), "{}", ran.err);
    assert!(ran.err.contains(&format!("{shown}:4:3: budget.total: is too small")), "{}", ran.err);
    assert!(ran.err.contains("next: correct the fields above"), "{}", ran.err);
}

#[test]
fn mistakes_in_a_file_are_told_with_line_column_and_what_was_expected() {
    let table = [
        ("name: research", "nmae: research", ":2:1: `nmae` is not a field here; expected agentId"),
        ("total: 10000", "total: 100.50", ":4:3: found"),
        ("total: 10000", "total: \"10000\"", ":4:3: found"),
        ("type: category", "type: kategory", ":8:5: found"),
        ("    allowed: [research]\n", "", "`allowed` is missing"),
        ("startHour: 9", "startHour: 25", ":12:5: found"),
        ("name: research", "name: research\nname: again", "`name` is given twice"),
        ("name: research", "name: [research", "mandate.yaml:"),
        ("name: research", "name: \"research", "mandate.yaml:"),
        ("name: research", "name: *nobody", "mandate.yaml:"),
    ];
    for (from, to, expected) in table {
        let (_directory, path) = file(&MANDATE.replace(from, to));
        let ran = quetra(&format!("mandates validate -f {}", path.display()));
        assert_eq!(ran.code, 1, "{to}: {ran:?}");
        assert!(ran.err.contains(expected), "{to}: {}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{to}: {}", ran.err);
        // The place stands in front of the words, and nowhere else.
        assert!(!ran.err.contains(" line "), "{to}: {}", ran.err);
    }
    for empty in ["", "\n", "# nothing yet\n---\n"] {
        let (_directory, path) = file(empty);
        let ran = quetra(&format!("mandates validate -f {}", path.display()));
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.err.contains("mandate.yaml holds no mandate"), "{}", ran.err);
    }
    let (_directory, path) = file(MANDATE);
    let ran = quetra(&format!("mandates validate -f {}", path.display()));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("a mandate with 2 rules"), "{}", ran.out);
}

#[test]
fn the_exit_code_tells_the_decision() {
    let server = FakeServer::start();
    for (vendor, code, word) in
        [("ok.com", 0, "APPROVED"), ("no.com", 3, "REJECTED"), ("ask.com", 4, "PENDING_APPROVAL")]
    {
        let line = format!("evaluate --amount 200 --vendor {vendor} --agent {}", fake::AGENT);
        let ran = asked(&server, &line);
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(ran.out.starts_with(&format!("{word}  $2.00 at {vendor}")), "{}", ran.out);
        assert!(ran.out.contains("budget_total"), "{}", ran.out);
        assert_eq!(asked(&server, &format!("{line} -o json")).code, code);
        assert_eq!(asked(&server, &line.replace("evaluate", "can-spend")).code, code);
    }
}

#[test]
fn a_wrong_key_is_refused_with_advice() {
    let server = FakeServer::start();
    let ran = quetra(&format!("QUETRA_API_KEY=sk_bad mandates get mdt_1 --url {}", server.url));
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("error: UNAUTHENTICATED (CREDENTIAL_INVALID)"), "{}", ran.err);
    assert!(ran.err.contains("next: set QUETRA_API_KEY"), "{}", ran.err);
    assert!(!ran.err.contains("sk_bad"), "{}", ran.err);
}

#[test]
fn a_server_is_healthy_or_it_is_not() {
    let server = FakeServer::start();
    let ran = quetra(&format!("health --url {}", server.url));
    assert_eq!((ran.code, ran.out), (0, format!("{}: serving\n", server.url)));
}

#[test]
fn a_public_key_may_begin_with_a_hyphen() {
    let key = "-VBmLFVADmCNEJ-k8kat9Os-loqjCLfcnJdRenmvWTE";
    let words = ["quetra", "audit", "verify", "--public-key", key, "record.jsonl"];
    Cli::command().try_get_matches_from(words).unwrap();
}
