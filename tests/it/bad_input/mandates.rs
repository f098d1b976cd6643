//! Rows 74 to 82: mandates and rules that could never be meant.
//!
//! Each is written in both published shapes. Not here: the steps of a mandate's life (`life`).

use serde_json::{Value, json};
use tonic::Code;

use super::CANARY;
use super::server::Server;
use super::ways::{Row, Way, patched, refused, rest};

const CREATE: &str = "MandatesService/CreateMandate";

fn good(agent_id: &str) -> Value {
    json!({
        "agentId": agent_id, "name": "a mandate",
        "budget": {"total": 10_000, "perTransaction": 1_000, "currency": "USD"},
    })
}

struct Table<'s> {
    server: &'s Server,
    rows: Vec<Row>,
}

impl Table<'_> {
    /// A row that is the same in both shapes.
    fn row(&mut self, number: u16, what: &str, patch: &Value, fields: &[&str]) -> &mut Row {
        let message = patched(&good(&self.server.agent_id), patch);
        let row = Row::new(number, what, CREATE, message.clone()).by(&self.server.admin_key);
        self.rows.push(row.rest(rest("POST", "/mandates", message)).fields(fields));
        self.rows.last_mut().unwrap()
    }

    /// A row about the one rule; the fields are those below it in each shape.
    fn rule(&mut self, number: u16, what: &str, rule: (Value, Value), fields: (&[&str], &[&str])) {
        let (rule, published) = rule;
        let below = |fields: &[&str]| {
            fields.iter().map(|field| format!("rules[0].{field}")).collect::<Vec<_>>()
        };
        let (fields, rest_fields) = (below(fields.0), below(fields.1));
        let row = self.row(number, what, &json!({"rules": [rule]}), &[]);
        row.rest.as_mut().unwrap().body["rules"] = json!([published]);
        row.fields = fields;
        row.rest_fields = Some(rest_fields);
    }

    /// A rule whose wrong field has one name in both shapes, apart from its case.
    fn plain(&mut self, number: u16, (kind, json_name): (&str, &str), config: &Value, field: &str) {
        let mut published = config.clone();
        published["type"] = json!(kind);
        let (full, short) = (format!("{kind}.{field}"), super::ways::camel(field));
        let what = format!("{kind} {config}");
        let rule = (json!({ json_name: config }), published);
        self.rule(number, &what, rule, (&[full.as_str()], &[short.as_str()]));
    }
}

fn budgets(table: &mut Table<'_>) {
    let budget = |total: i64, ceiling: i64, currency: &str| {
        let limits = json!({"total": total, "perTransaction": ceiling, "currency": currency});
        json!({ "budget": limits })
    };
    for (what, patch, fields) in [
        ("total 0", budget(0, 1, "USD"), &["budget.total"][..]),
        ("total -1", budget(-1, 1, "USD"), &["budget.total"]),
        ("total 9*10^13 + 1", budget(90_000_000_000_001, 1, "USD"), &["budget.total"]),
        ("a ceiling of 0", budget(1, 0, "USD"), &["budget.per_transaction"]),
        ("a ceiling above the total", budget(10, 11, "USD"), &["budget.per_transaction"]),
        (
            "a ceiling of 10^12 + 1",
            budget(9_000_000_000_000, 1_000_000_000_001, "USD"),
            &["budget.per_transaction"],
        ),
        ("no such currency", budget(10, 10, "usd"), &["budget.currency"]),
        ("no such ISO currency", budget(10, 10, "ZZZ"), &["budget.currency"]),
    ] {
        table.row(74, what, &patch, fields);
    }
    // A body of REST without its budget is no form: it is refused before the contract is asked.
    table.row(74, "no budget", &json!({"budget": null}), &["budget"]);
    for (what, from, until, field) in [
        ("an end before the start", "2030-01-02T00:00:00Z", "2030-01-01T00:00:00Z", "valid_until"),
        ("an end at the start", "2030-01-02T00:00:00Z", "2030-01-02T00:00:00Z", "valid_until"),
        ("an end in the past", "2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z", "valid_until"),
        ("more than ten years", "2030-01-01T00:00:00Z", "2041-01-01T00:00:00Z", "valid_until"),
    ] {
        table.row(75, what, &json!({"validFrom": from, "validUntil": until}), &[field]);
    }
    for (what, patch, field) in [
        ("an empty name", json!({"name": ""}), "name"),
        ("a name of spaces", json!({"name": "   "}), "name"),
        ("a name of 129 characters", json!({"name": "é".repeat(129)}), "name"),
        ("a name that hides text", json!({"name": format!("{CANARY}\u{202e}")}), "name"),
        (
            "a description of 2,001 characters",
            json!({"description": "d".repeat(2_001)}),
            "description",
        ),
        ("an agent that is no UUID", json!({"agentId": CANARY}), "agent_id"),
    ] {
        table.row(74, what, &patch, &[field]);
    }
}

fn lists(table: &mut Table<'_>) {
    let fifty_one: Vec<Value> = (0..51)
        .map(|n| json!({"rateLimit": {"maxTransactions": n + 1, "windowMinutes": 1}}))
        .collect();
    let published: Vec<Value> = (0..51)
        .map(|n| json!({"type": "rate_limit", "maxTransactions": n + 1, "windowMinutes": 1}))
        .collect();
    let row = table.row(76, "51 rules", &json!({ "rules": fifty_one }), &["rules"]);
    row.rest.as_mut().unwrap().body["rules"] = json!(published);
    let two = json!({"rules": [{"maxAmount": {"amount": 1}}, {"maxAmount": {"amount": 2}}]});
    let row = table.row(76, "two of a kind that is single", &two, &["rules[1]"]);
    row.rest.as_mut().unwrap().body["rules"] =
        json!([{"type": "max_amount", "amount": 1}, {"type": "max_amount", "amount": 2}]);
    let both = json!({"rules": [{"vendorAllowlist": {"vendors": ["a.dev", "b.dev"]}},
        {"vendorBlocklist": {"vendors": ["c.dev", "B.dev."]}}]});
    let fields = ["rules[1].vendor_blocklist.vendors[1]"];
    let row = table
        .row(78, "allowed and blocked", &both, &fields)
        .clone()
        .rest_fields(&["rules[1].blocked[1]"]);
    let rules = json!([{"type": "vendor_allowlist", "allowed": ["a.dev", "b.dev"]},
        {"type": "vendor_blocklist", "blocked": ["c.dev", "B.dev."]}]);
    *table.rows.last_mut().unwrap() = row;
    table.rows.last_mut().unwrap().rest.as_mut().unwrap().body["rules"] = rules;

    let many: Vec<String> = (0..10_001).map(|n| format!("v{n}.dev")).collect();
    for (what, vendors, entry) in [
        ("an empty list", Vec::new(), ""),
        ("10,001 entries", many, ""),
        ("an asterisk", vec!["a.dev".to_owned(), "*".to_owned()], "[1]"),
        ("a wildcard", vec![format!("*.{CANARY}.com")], "[0]"),
        ("an asterisk inside", vec![format!("a.*.{CANARY}.com")], "[0]"),
        ("a public suffix", vec!["co.uk".to_owned()], "[0]"),
        ("an empty entry", vec![String::new()], "[0]"),
        ("a password", vec![format!("https://u:secret-{CANARY}@a.dev")], "[0]"),
    ] {
        for (kind, json_name, name) in [
            ("vendor_allowlist", "vendorAllowlist", "allowed"),
            ("vendor_blocklist", "vendorBlocklist", "blocked"),
        ] {
            let field = format!("{kind}.vendors{entry}");
            let published = format!("{name}{entry}");
            let rule =
                (json!({json_name: {"vendors": vendors}}), json!({"type": kind, name: vendors}));
            table.rule(77, what, rule, (&[field.as_str()], &[published.as_str()]));
        }
    }
    let twice = json!({"allowed": ["a", "b", "a"]});
    table.plain(77, ("category", "category"), &twice, "allowed[2]");
    table.plain(77, ("category", "category"), &json!({"allowed": []}), "allowed");
    table.plain(77, ("category", "category"), &json!({"allowed": ["cafe\u{301}"]}), "allowed[0]");
    let cap = json!({"vendor": "*", "amount": 1, "period": "PERIOD_DAILY"});
    table.plain(77, ("vendor_cap", "vendorCap"), &cap, "vendor");
    table.rows.last_mut().unwrap().rest.as_mut().unwrap().body["rules"][0]["period"] =
        json!("daily");
}

fn times_and_rates(table: &mut Table<'_>) {
    let window = |days: Value, start: &str, end: &str, timezone: &str| {
        let mut window = json!({"days": days, "start": start, "end": end});
        window["timezone"] = json!(timezone);
        window
    };
    for (config, field) in [
        (window(json!([1]), "24:00", "24:00", "UTC"), "start"),
        (window(json!([1]), "09:00", "09:00", "UTC"), "end"),
        (window(json!([1]), "09:00", "24:01", "UTC"), "end"),
        (window(json!([1]), "9:00", "17:00", "UTC"), "start"),
        (window(json!([7]), "09:00", "17:00", "UTC"), "days[0]"),
        (window(json!([-1]), "09:00", "17:00", "UTC"), "days[0]"),
        (window(json!([]), "09:00", "17:00", "UTC"), "days"),
        (window(json!([1, 1]), "09:00", "17:00", "UTC"), "days[1]"),
        (window(json!([1]), "09:00", "17:00", "Mars/Base"), "timezone"),
        (window(json!([1]), "09:00", "17:00", "../../etc/passwd"), "timezone"),
        (window(json!([1]), "09:00", "17:00", ""), "timezone"),
    ] {
        table.plain(79, ("time_window", "timeWindow"), &config, field);
    }
    let rate =
        |count: i64, minutes: i64| json!({"maxTransactions": count, "windowMinutes": minutes});
    for (config, field) in [
        (rate(0, 1), "max_transactions"),
        (rate(1_000_001, 1), "max_transactions"),
        (rate(1, 0), "window_minutes"),
        (rate(1, 44_641), "window_minutes"),
    ] {
        table.plain(80, ("rate_limit", "rateLimit"), &config, field);
    }
    let speed = |sum: i64, minutes: i64| json!({"maxAmount": sum, "windowMinutes": minutes});
    table.plain(80, ("spend_rate", "spendRate"), &speed(0, 1), "max_amount");
    table.plain(80, ("spend_rate", "spendRate"), &speed(90_000_000_000_001, 1), "max_amount");
    table.plain(80, ("spend_rate", "spendRate"), &speed(1, -5), "window_minutes");
    table.plain(80, ("max_amount", "maxAmount"), &json!({"amount": -1}), "amount");
    let approval =
        |threshold: i64, minutes: i64| json!({"threshold": threshold, "timeoutMinutes": minutes});
    table.plain(81, ("approval", "approval"), &approval(-1, 60), "threshold");
    table.plain(81, ("approval", "approval"), &approval(10_001, 60), "threshold");
    table.plain(81, ("approval", "approval"), &approval(1, 0), "timeout_minutes");
    table.plain(81, ("approval", "approval"), &approval(1, 44_641), "timeout_minutes");
    for (allowed, field, published) in [
        (json!(["hr"]), "geo.allowed_countries[0]", "allowed[0]"),
        (json!(["HRV"]), "geo.allowed_countries[0]", "allowed[0]"),
        (json!(["DE", "DE"]), "geo.allowed_countries[1]", "allowed[1]"),
    ] {
        let rule = (
            json!({"geo": {"allowedCountries": allowed}}),
            json!({"type": "geo", "allowed": allowed}),
        );
        table.rule(79, "geo", rule, (&[field], &[published]));
    }
    let both = json!({"geo": {"allowedCountries": ["DE"], "blockedCountries": ["FR"]}});
    let published = json!({"type": "geo", "allowed": ["DE"], "blocked": ["FR"]});
    table.rule(79, "geo with both lists", (both, published), (&["geo"], &[""]));
    let last = table.rows.last_mut().unwrap();
    last.rest_fields = Some(vec!["rules[0]".to_owned()]);
}

fn expressions(table: &mut Table<'_>) {
    let nested = (0..17).fold(json!(true), |inner, _| json!({"!": [inner]}));
    let wide = json!({"and": vec![json!(true); 257]});
    let sum = vec!["1"; 300].join(" + ");
    let deep = format!("{}true{}", "(".repeat(5_000), ")".repeat(5_000));
    for (what, engine, expression) in [
        ("an unknown operator", "JSONLOGIC", format!("{{\"{CANARY}\": [1]}}")),
        ("an unknown variable", "JSONLOGIC", "{\"==\": [{\"var\": \"nothing\"}, 1]}".to_owned()),
        ("17 levels", "JSONLOGIC", nested.to_string()),
        ("257 nodes", "JSONLOGIC", wide.to_string()),
        ("no number", "JSONLOGIC", "{\">\": [NaN, 1]}".to_owned()),
        ("no JSON", "JSONLOGIC", format!("{{{CANARY}")),
        ("no condition", "JSONLOGIC", "5".to_owned()),
        ("5,000 brackets", "JSONLOGIC", format!("{}{}", "[".repeat(5_000), "]".repeat(5_000))),
        ("16,385 bytes", "JSONLOGIC", format!("\"{}\"", "x".repeat(16_383))),
        ("an unknown name", "CEL", format!("{} == 1", CANARY.replace('-', "_"))),
        ("an unknown function", "CEL", "launch(amount)".to_owned()),
        ("no syntax", "CEL", "amount <".to_owned()),
        ("the wrong type", "CEL", "amount + 1".to_owned()),
        ("types that do not meet", "CEL", "amount == 'ten'".to_owned()),
        ("too many nodes", "CEL", format!("{sum} > 1")),
        ("5,000 parentheses", "CEL", deep),
        ("nothing", "CEL", String::new()),
    ] {
        let rule = json!({"custom": {
            "engine": format!("CUSTOM_ENGINE_{engine}"), "expression": expression,
        }});
        let published = json!({
            "type": "custom", "engine": engine.to_lowercase(), "expression": expression,
        });
        let fields = (&["custom.expression"][..], &["expression"][..]);
        table.rule(82, what, (rule, published), fields);
    }
    let megabyte = "x".repeat(1_000_000);
    let rule = json!({"custom": {"engine": "CUSTOM_ENGINE_CEL", "expression": megabyte}});
    let published = json!({"type": "custom", "engine": "cel", "expression": megabyte});
    table.rule(82, "1 MB", (rule, published), (&[], &[]));
    let last = table.rows.last_mut().unwrap();
    (last.code, last.reason) = (Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
    // Over HTTP/1.1 the rest of the body is not worth reading, so the connection ends with it.
    last.not.extend([Way::Connect, Way::Rest]);
}

fn all_at_once(table: &mut Table<'_>) {
    let patch = json!({
        "agentId": "nobody", "name": "\u{202e}", "validFrom": "2030-01-02T00:00:00Z",
        "validUntil": "2030-01-01T00:00:00Z",
        "budget": {"total": 0, "perTransaction": 1, "currency": "ZZZ"},
        "rules": [{"vendorAllowlist": {"vendors": ["co.uk"]}}, {"maxAmount": {"amount": -1}}],
    });
    let fields = [
        "agent_id",
        "name",
        "valid_until",
        "budget.total",
        "budget.currency",
        "rules[0].vendor_allowlist.vendors[0]",
        "rules[1].max_amount.amount",
    ];
    let row = table.row(0, "seven of bounds and meanings", &patch, &fields);
    let published = [
        "agentId",
        "name",
        "validUntil",
        "budget.total",
        "budget.currency",
        "rules[0].allowed[0]",
        "rules[1].amount",
    ];
    let names = published.iter().map(|name| (*name).to_owned()).collect();
    row.rest_fields = Some(names);
    row.rest.as_mut().unwrap().body["rules"] = json!([
        {"type": "vendor_allowlist", "allowed": ["co.uk"]}, {"type": "max_amount", "amount": -1},
    ]);
}

#[tokio::test]
async fn a_mandate_that_is_none_is_refused_with_all_its_faults() {
    let mut server = Server::start().await;
    let mut table = Table { server: &server, rows: Vec::new() };
    budgets(&mut table);
    lists(&mut table);
    times_and_rates(&mut table);
    expressions(&mut table);
    all_at_once(&mut table);
    let rows = table.rows;
    refused(&mut server, &rows).await;
    server.stop().await;
}

#[tokio::test]
async fn windows_over_midnight_and_legacy_zones_are_meant() {
    let mut server = Server::start().await;
    let agent = server.agent().await;
    for (start, end, timezone) in
        [("22:00", "06:00", "UTC"), ("00:00", "24:00", "UTC"), ("09:00", "17:00", "EST5EDT")]
    {
        let rule = json!({"timeWindow":
            {"days": [1], "start": start, "end": end, "timezone": timezone}});
        let message = patched(&good(&agent), &json!({"rules": [rule]}));
        server.ok(CREATE, message).await;
    }
    server.stop().await;
}
