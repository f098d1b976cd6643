//! Rows 25 to 54: requests to decide that are no requests to decide.
//!
//! Not here: requests that are good and rejected by a rule (`decisions`), and JSON that is no
//! message at all (`json`).

use serde_json::{Value, json};
use tonic::Code;

use super::CANARY;
use super::server::Server;
use super::ways::{
    Answer, Connections, Rest, Row, Way, connect, grpc, patched, refused, rest, rpcs, undocumented,
};
use crate::contract;
use crate::harness::unique;

const EVALUATE: &str = "EvaluateService/Evaluate";
const CAN_SPEND: &str = "EvaluateService/CanSpend";

/// A spend that would be approved.
fn good(server: &Server) -> Value {
    json!({
        "agentId": server.agent_id, "amount": 200, "currency": "USD", "vendor": "firecrawl.dev",
        "category": "research", "idempotencyKey": format!("bad-{:08}", unique()),
    })
}

fn evaluate(body: Value) -> Rest {
    rest("POST", "/gateway/evaluate", body)
}

struct Table<'s> {
    server: &'s Server,
    rows: Vec<Row>,
}

impl Table<'_> {
    /// A row of Evaluate alone.
    fn row(&mut self, number: u16, what: &str, patch: &Value, fields: &[&str]) -> &mut Row {
        let message = patched(&good(self.server), patch);
        let row = Row::new(number, what, EVALUATE, message.clone()).by(&self.server.agent_key);
        self.rows.push(row.rest(evaluate(message)).fields(fields));
        self.rows.last_mut().unwrap()
    }

    /// A row of both RPCs.
    fn both(&mut self, number: u16, what: &str, patch: &Value, fields: &[&str]) {
        let row = self.row(number, what, patch, fields).clone();
        let asked = Row { rpc: CAN_SPEND.to_owned(), what: format!("{what}, asked"), ..row };
        let path = rest("POST", "/gateway/can-spend", asked.message.clone());
        self.rows.push(asked.rest(path));
    }
}

fn amounts_and_currencies(table: &mut Table<'_>) {
    for (number, what, amount) in [
        (32, "amount -1", -1),
        (32, "the least amount", i64::MIN),
        (33, "amount 10^12 + 1", 1_000_000_000_001),
        (33, "the greatest amount", i64::MAX),
    ] {
        table.both(number, what, &json!({ "amount": amount }), &["amount"]);
    }
    table.both(34, "no amount", &json!({"amount": null}), &["amount"]);
    table.both(35, "an empty currency", &json!({"currency": ""}), &["currency"]);
    let absent = table.row(35, "no currency", &json!({"currency": null}), &["currency"]);
    // The published bodies have none: there it means the mandate's.
    absent.not.push(Way::Rest);
    for code in ["usd", "US$", "USDX", "ZZZ", "USDC ", "ＵＳＤ", CANARY] {
        table.both(36, "no such currency", &json!({ "currency": code }), &["currency"]);
    }
}

fn vendors(table: &mut Table<'_>) {
    let label = "a".repeat(64);
    for (number, what, vendor) in [
        (38, "an empty vendor", String::new()),
        (38, "white space", " \t ".to_owned()),
        (38, "a host of 254 bytes", format!("{}.dev", "abcdefghi.".repeat(25))),
        (38, "a label of 64 bytes", format!("{label}.dev")),
        (38, "a name of 129 bytes", format!("{CANARY} {}", "n".repeat(129 - CANARY.len() - 1))),
        (38, "2,049 bytes", format!("https://firecrawl.dev/{}", "p".repeat(2_027))),
        (39, "user and password", format!("https://user:secret-{CANARY}@firecrawl.dev/")),
        (39, "a user", format!("{CANARY}@firecrawl.dev")),
        (39, "another scheme", format!("ftp://{CANARY}.dev")),
        (39, "port 0", "firecrawl.dev:0".to_owned()),
        (39, "port 65536", "firecrawl.dev:65536".to_owned()),
        (42, "a top-level domain", "com".to_owned()),
        (42, "a public suffix", "co.uk".to_owned()),
        (42, "localhost", "localhost".to_owned()),
        (42, "a loopback address", "127.0.0.1".to_owned()),
        (42, "a hexadecimal address", "0x7f.1".to_owned()),
        (42, "a decimal address", "2130706433".to_owned()),
        (42, "an IPv6 address", "[::1]".to_owned()),
        (42, "a URL of an address", "http://169.254.169.254/latest/meta-data".to_owned()),
        (42, "a wildcard", format!("*.{CANARY}.dev")),
        (43, "NUL", format!("{CANARY}\0.dev")),
        (43, "CR LF", format!("firecrawl.dev\r\nx-canary: {CANARY}")),
        (43, "a zero-width space", format!("{CANARY}\u{200b}.dev")),
        (43, "a bidi override", format!("\u{202e}{CANARY}.dev")),
        (43, "a soft hyphen", format!("fire\u{ad}crawl.dev/{CANARY}")),
        (43, "a backslash", format!("firecrawl.dev\\@{CANARY}.dev")),
    ] {
        table.both(number, what, &json!({ "vendor": vendor }), &["vendor"]);
    }
    table.both(38, "no vendor", &json!({"vendor": null}), &["vendor"]);
}

fn texts(table: &mut Table<'_>) {
    let ten_thousand = format!("{CANARY}{}", "c".repeat(10_000));
    for (number, what, name, text) in [
        (46, "a category of 10 KB", "category", ten_thousand.clone()),
        (46, "a category that hides text", "category", format!("{CANARY}\u{202e}")),
        (46, "a category that is not NFC", "category", format!("cafe\u{301} {CANARY}")),
        (48, "a description of 2,001 characters", "description", "d".repeat(2_001)),
        (48, "a description with an escape", "description", format!("{CANARY}\u{1b}[2J")),
        (50, "an agent that is no UUID", "agentId", CANARY.to_owned()),
        (53, "a mandate that is no id", "mandateId", CANARY.to_owned()),
    ] {
        let mut patch = json!({});
        patch[name] = json!(text);
        table.both(number, what, &patch, &[&snake(name)]);
    }
    table.both(47, "protocol 99", &json!({"protocol": 99}), &["protocol"]);
    let many: Value = (0..1_000).map(|n| (format!("{n:04}{CANARY}"), json!(""))).collect();
    table.both(49, "1,000 labels", &json!({ "metadata": many }), &["metadata"]);
    let many: Value = (0..33).map(|n| (format!("{n}"), json!(CANARY))).collect();
    table.both(49, "33 labels", &json!({ "metadata": many }), &["metadata"]);
    let label = |key: &str, value: &str| json!({"metadata": {key: value}});
    table.both(49, "a label of 257 bytes", &label("a", &"v".repeat(257)), &["metadata[\"a\"]"]);
    table.both(49, "a nameless label", &label("", CANARY), &["metadata[\"\"]"]);
}

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

fn keys(table: &mut Table<'_>) {
    let absent = table.row(25, "no key", &json!({"idempotencyKey": null}), &["idempotency_key"]);
    // The published bodies have none: there each call is a spend of its own.
    absent.not.push(Way::Rest);
    for (what, key) in [
        ("an empty key", String::new()),
        ("a key of 7 characters", "seven-7".to_owned()),
        ("a key of 129 characters", "k".repeat(129)),
        ("a key of 256 characters", format!("{CANARY}{}", "k".repeat(256 - CANARY.len()))),
        ("a key with a control character", format!("{CANARY}\u{1}")),
        ("a key with a space", format!("{CANARY} x")),
        ("a key with a line end", format!("{CANARY}\n")),
        ("a key with a slash", format!("{CANARY}/x")),
        ("a key with a letter outside ASCII", format!("{CANARY}é")),
    ] {
        table.row(26, what, &json!({ "idempotencyKey": key }), &["idempotency_key"]);
    }
}

fn all_at_once(table: &mut Table<'_>) {
    let six = json!({
        "amount": -1, "currency": "usd", "vendor": "", "category": "c".repeat(200),
        "idempotencyKey": "x", "protocol": 99,
    });
    let fields = ["amount", "currency", "vendor", "category", "idempotency_key", "protocol"];
    table.row(0, "six bounds", &six, &fields);
    let six = json!({
        "agentId": CANARY, "amount": -1, "currency": "usd", "vendor": "localhost",
        "mandateId": CANARY, "idempotencyKey": "x",
    });
    let fields = ["agent_id", "amount", "currency", "vendor", "mandate_id", "idempotency_key"];
    table.row(0, "six of bounds and meanings", &six, &fields);
}

#[tokio::test]
async fn a_spend_that_is_none_is_refused_with_all_its_faults() {
    let mut server = Server::start().await;
    let mut table = Table { server: &server, rows: Vec::new() };
    amounts_and_currencies(&mut table);
    vendors(&mut table);
    texts(&mut table);
    keys(&mut table);
    all_at_once(&mut table);
    let rows = table.rows;
    refused(&mut server, &rows).await;
    server.stop().await;
}

#[tokio::test]
async fn an_agent_or_mandate_of_others_looks_like_an_unknown_one() {
    let mut server = Server::start().await;
    let other = server.agent().await;
    let theirs = server.draft(&other).await;
    let unknown = "7b1f4f0e-9d0c-4c5e-8f6f-3a1d2b4c5d6e";
    let nothing = format!("mdt_{}", "0".repeat(32));
    let mut rows = Vec::new();
    for (number, what, patch) in [
        (50, "an unknown agent", json!({ "agentId": unknown })),
        (50, "another agent by a bound key", json!({ "agentId": other })),
        (53, "the mandate of another agent", json!({ "mandateId": theirs })),
        (53, "an unknown mandate", json!({ "mandateId": nothing })),
    ] {
        for key in [&server.agent_key, &server.admin_key] {
            // An administrator may act for any agent.
            if what.contains("by a bound key") && *key == server.admin_key {
                continue;
            }
            let message = patched(&good(&server), &patch);
            for (rpc, path) in [(EVALUATE, "evaluate"), (CAN_SPEND, "can-spend")] {
                let row = Row::new(number, what, rpc, message.clone()).by(key).not_found();
                let path = format!("/gateway/{path}");
                rows.push(row.rest(rest("POST", path, message.clone())));
            }
        }
    }
    let key = server.agent_key.clone();
    let lookup = "EvaluateService/LookupDecision";
    for (what, message) in [
        ("a key nobody used", json!({"idempotencyKey": CANARY})),
        ("another agent's key", json!({"agentId": other, "idempotencyKey": "key-00000001"})),
    ] {
        rows.push(Row::new(60, what, lookup, message).by(&key).not_found());
    }
    let asked = json!({ "agentId": other });
    let path = rest("GET", format!("/gateway/mandate-token?agentId={other}"), Value::Null);
    let budget = Row::new(62, "another's budget", "BudgetService/GetBudget", asked.clone());
    rows.push(budget.by(&key).not_found());
    let token = Row::new(62, "another's token", "MandatesService/GetMandateToken", asked);
    rows.push(token.by(&key).not_found().rest(path));
    refused(&mut server, &rows).await;
    server.stop().await;
}

#[tokio::test]
async fn fields_that_the_server_does_not_know_are_never_dropped() {
    let mut server = Server::start().await;
    let mut connections = Connections::open(&server).await;
    let before = server.state().await;
    let key = server.admin_key.clone();
    let rpcs = rpcs();
    assert!(rpcs.len() >= 30, "only {} RPCs", rpcs.len());
    let pool = contract::pool();
    let streams = contract::methods(&pool).into_iter().filter(|rpc| rpc.is_server_streaming());
    let streams = streams.map(|rpc| format!("{}/{}", rpc.parent_service().name(), rpc.name()));
    let streams = streams.collect::<Vec<_>>();
    for rpc in rpcs {
        let text = [&[0xfa, 0x06, 0x04], &CANARY.as_bytes()[..4]].concat();
        for (field, way, call) in [
            ("111", Way::Grpc, grpc(&key, &rpc, &[0xf8, 0x06, 0x01])),
            ("111", Way::Grpc, grpc(&key, &rpc, &text)),
            ("nobodyKnows", Way::Connect, connect(&key, &rpc, "{\"nobodyKnows\":null}")),
        ] {
            // Its messages are in envelopes there, and the outcome is in the last one.
            if way == Way::Connect && streams.contains(&rpc) {
                continue;
            }
            let reply = connections.send(way, &call).await.unwrap();
            let answer = Answer::read(way, &reply);
            let name = format!("row 54 of {rpc} over {way:?}: {answer:?}");
            let expected = (Code::InvalidArgument, "UNKNOWN_FIELDS");
            assert_eq!((answer.code, &*answer.reason), expected, "{name}");
            assert!(answer.fields.iter().any(|known| known == field), "{name}");
            if way == Way::Grpc {
                assert_eq!(undocumented(&rpc, &reply), None, "{name}");
            }
            connections.is_usable(way, &server).await.unwrap();
        }
    }
    assert_eq!(server.state().await, before);
    assert_eq!(server.log_complaints(), Vec::<String>::new());
    server.stop().await;
}
