//! JSON that is no message: what only a text can get wrong, over the Connect protocol and REST.
//!
//! Not here: values that JSON can say and the contract refuses (`spends`, `mandates`).

use tonic::Code;

use super::CANARY;
use super::server::Server;
use super::ways::{Answer, Connections, Way, connect, http_of};
use super::wire::Call;

/// A text, and what each way must say of it: the reason and the fields.
struct Text {
    what: &'static str,
    body: Vec<u8>,
    connect: Option<(&'static str, Vec<&'static str>)>,
    rest: Option<(&'static str, Vec<&'static str>)>,
}

const INVALID: &str = "INVALID_FIELDS";
const MALFORMED: &str = "MALFORMED_REQUEST";
const UNKNOWN: &str = "UNKNOWN_FIELDS";

/// A spend with one member written as given.
fn with(member: &str) -> String {
    let name = member.split(':').next().unwrap().trim_matches('"');
    let members = [
        ("amount", "\"amount\":1"),
        ("currency", "\"currency\":\"USD\""),
        ("vendor", "\"vendor\":\"firecrawl.dev\""),
        ("category", "\"category\":\"research\""),
        ("idempotencyKey", "\"idempotencyKey\":\"text-00000001\""),
    ];
    let others = members.iter().filter(|(known, _)| *known != name).map(|(_, text)| *text);
    let all: Vec<_> = others.chain([member]).collect();
    format!("{{{}}}", all.join(","))
}

fn both(
    what: &'static str,
    body: impl Into<Vec<u8>>,
    connect: (&'static str, &[&'static str]),
    rest: (&'static str, &[&'static str]),
) -> Text {
    let told = |(reason, fields): (&'static str, &[&'static str])| Some((reason, fields.to_vec()));
    Text { what, body: body.into(), connect: told(connect), rest: told(rest) }
}

/// Texts that are no JSON; REST names the field at which it stopped reading.
fn broken_texts() -> Vec<Text> {
    let deep = format!("{{\"metadata\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let objects = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    let not_utf8 = [with("\"category\":\"").as_bytes(), b"\xff\xfe\"}"].concat();
    let broken: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", Vec::new(), "body"),
        ("half an object", "{".into(), "body"),
        ("no JSON", CANARY.into(), "body"),
        ("two objects", "{} {}".into(), "body"),
        ("a comma too many", with("\"amount\":1,").into(), "body"),
        ("a byte order mark", "\u{feff}{}".into(), "body"),
        ("a comment", "{/* */}".into(), "body"),
        ("10,000 lists", deep.into(), "metadata"),
        ("10,000 objects", objects.into(), "a"),
        ("not UTF-8", not_utf8, "category"),
        ("half a pair", with("\"category\":\"\\ud800\"").into(), "category"),
        ("a control character", with("\"category\":\"a\nb\"").into(), "category"),
        ("not a number", with("\"amount\":NaN").into(), "amount"),
        ("infinity", with("\"amount\":Infinity").into(), "amount"),
        ("a leading zero", with("\"amount\":01").into(), "amount"),
        ("a plus", with("\"amount\":+1").into(), "amount"),
        ("hexadecimal", with("\"amount\":0x1").into(), "body"),
        ("too large for a float", with("\"amount\":1e400").into(), "amount"),
    ];
    let mut texts: Vec<Text> = broken
        .into_iter()
        .map(|(what, body, field)| both(what, body, (MALFORMED, &[]), (MALFORMED, &[field])))
        .collect();
    for (what, body) in [("a list", "[]"), ("null", "null"), ("a number", "5")] {
        texts.push(both(what, body, (MALFORMED, &[]), (MALFORMED, &["body"])));
    }
    texts
}

fn wrong_values() -> Vec<Text> {
    let amount: &[&str] = &["amount"];
    let wrong = |what, text: &str, fields: &[&'static str]| {
        both(what, with(text), (INVALID, fields), (INVALID, fields))
    };
    let mut texts: Vec<Text> = [
        ("a fraction", "1.5"),
        ("2^63", "9223372036854775808"),
        ("a long number", "100000000000000000000000000000000000000000"),
        ("a truth", "true"),
        ("a list", "[1]"),
        ("an object", "{}"),
        ("a decimal in quotes", "\"1.50\""),
        ("money", "\"$1\""),
        ("a comma in quotes", "\"1,000\""),
        ("an empty text", "\"\""),
        ("a space in quotes", "\" 1\""),
    ]
    .into_iter()
    .map(|(what, text)| {
        both(what, with(&format!("\"amount\":{text}")), (INVALID, amount), (INVALID, amount))
    })
    .collect();
    texts.extend([
        wrong("a number as a name", "\"vendor\":5", &["vendor"]),
        wrong("a list as a name", "\"currency\":[\"USD\"]", &["currency"]),
        wrong("an unknown word", "\"protocol\":\"CASH\"", &["protocol"]),
        wrong("labels as a list", "\"metadata\":[]", &["metadata"]),
        both(
            "a label that is a number",
            with("\"metadata\":{\"a\":1}"),
            (INVALID, &["metadata[\"a\"]"]),
            (INVALID, &["metadata.a"]),
        ),
    ]);
    texts
}

fn repeated_and_unknown() -> Vec<Text> {
    let long = format!("\"{CANARY}\":1");
    let both_names = with("\"amount\":1")
        .replace("\"vendor\"", "\"mandateId\":\"\",\"mandate_id\":\"\",\"vendor\"");
    vec![
        both(
            "an amount twice",
            with("\"amount\":1,\"amount\":1"),
            (MALFORMED, &[]),
            (MALFORMED, &["amount"]),
        ),
        both(
            "a label twice",
            with("\"metadata\":{\"a\":\"1\",\"a\":\"2\"}"),
            (MALFORMED, &[]),
            (MALFORMED, &["metadata.a"]),
        ),
        both("a field under two names", both_names, (MALFORMED, &[]), (UNKNOWN, &["mandate_id"])),
        both(
            "a field nobody knows",
            with("\"maxAmount\":1"),
            (UNKNOWN, &["maxAmount"]),
            (UNKNOWN, &["maxAmount"]),
        ),
        both(
            "decimals",
            with("\"decimals\":2"),
            (UNKNOWN, &["decimals"]),
            (UNKNOWN, &["decimals"]),
        ),
        both(
            "a time of the caller",
            with("\"timestamp\":\"2026-01-01T00:00:00Z\""),
            (UNKNOWN, &["timestamp"]),
            (UNKNOWN, &["timestamp"]),
        ),
        both(
            "a hostile name",
            with(&long),
            (UNKNOWN, &["hostile5e1fcanary-0123456789-012…"]),
            (UNKNOWN, &["hostile5e1fcanary-0123456789-012…"]),
        ),
        both(
            "a field in capitals",
            with("\"AMOUNT\":1"),
            (UNKNOWN, &["AMOUNT"]),
            (UNKNOWN, &["AMOUNT"]),
        ),
        both(
            "a prototype",
            with("\"__proto__\":{}"),
            (UNKNOWN, &["__proto__"]),
            (UNKNOWN, &["__proto__"]),
        ),
        both(
            "unknown and wrong",
            with("\"amount\":-1,\"decimals\":2"),
            (UNKNOWN, &["amount", "decimals"]),
            (UNKNOWN, &["amount", "decimals"]),
        ),
    ]
}

fn call(way: Way, server: &Server, body: &[u8]) -> Call {
    let call = connect(&server.agent_key, "EvaluateService/Evaluate", body);
    match way {
        Way::Rest => Call { path: "/api/v1/gateway/evaluate".to_owned(), ..call },
        Way::Connect | Way::Grpc => call,
    }
}

#[tokio::test]
async fn a_text_that_is_no_message_is_refused_with_the_place() {
    let mut server = Server::start().await;
    let mut connections = Connections::open(&server).await;
    let before = server.state().await;
    let mut complaints = Vec::new();
    for text in [broken_texts(), wrong_values(), repeated_and_unknown()].into_iter().flatten() {
        for (way, told) in [(Way::Connect, &text.connect), (Way::Rest, &text.rest)] {
            let Some((reason, fields)) = told else { continue };
            let reply = connections.send(way, &call(way, &server, &text.body)).await.unwrap();
            let answer = Answer::read(way, &reply);
            let mut named = answer.fields.clone();
            named.sort_unstable();
            let mut expected: Vec<String> =
                fields.iter().map(|field| (*field).to_owned()).collect();
            expected.sort_unstable();
            let http = http_of(way, Code::InvalidArgument, reason);
            if (answer.http, &*answer.reason) != (http, reason) || named != expected {
                complaints
                    .push(format!("{} over {way:?}: {reason} {expected:?}: {answer:?}", text.what));
            }
            if reply.everything().contains(CANARY) || reply.everything().len() > 3_000 {
                complaints.push(format!("{} over {way:?}: it comes back: {answer:?}", text.what));
            }
            connections.is_usable(way, &server).await.unwrap();
            assert_eq!(server.state().await, before, "{}", text.what);
            complaints.extend(server.log_complaints());
        }
    }
    assert!(complaints.is_empty(), "{} of:\n{}", complaints.len(), complaints.join("\n"));
    server.stop().await;
}

#[tokio::test]
async fn numbers_in_quotes_are_numbers_in_the_contract_and_not_in_rest() {
    let mut server = Server::start().await;
    let mut connections = Connections::open(&server).await;
    for (key, text, rest) in [(1, "\"1\"", 400), (2, "1.0", 400), (3, "1e0", 400), (4, "1", 200)] {
        let key = format!("\"idempotencyKey\":\"quoted-{key:06}\"");
        let body = with(&key).replace("\"amount\":1", &format!("\"amount\":{text}"));
        let reply = connections.send(Way::Rest, &call(Way::Rest, &server, body.as_bytes())).await;
        assert_eq!(reply.unwrap().status, rest, "{text}");
        let call = call(Way::Connect, &server, body.as_bytes());
        let reply = connections.send(Way::Connect, &call).await.unwrap();
        assert_eq!(reply.status, 200, "{text}");
    }
    assert_eq!(server.log_complaints(), Vec::<String>::new());
    server.stop().await;
}
