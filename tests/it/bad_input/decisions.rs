//! Rows 27 to 61: requests that look odd and are decided, because a rejection is an answer.
//!
//! Each is asked over every way in and must get the same decision. Not here: what is refused
//! (`spends`), and every rule's own tests, which the decision vectors make.

use prost_reflect::prost::Message as _;
use quetra::proto::v1;
use serde_json::{Value, json};
use tonic::Code;

use super::server::Server;
use super::ways::{
    Answer, Connections, Row, WAYS, Way, connect, encoded, grpc, patched, refused, rest,
};
use super::wire::Reply;
use crate::harness::unique;

const EVALUATE: &str = "EvaluateService/Evaluate";
const CAN_SPEND: &str = "EvaluateService/CanSpend";

fn fresh_key() -> String {
    format!("odd-{:08}", unique())
}

fn good(agent_id: &str) -> Value {
    json!({
        "agentId": agent_id, "amount": 100, "currency": "USD", "vendor": "firecrawl.dev",
        "category": "research", "idempotencyKey": fresh_key(),
    })
}

/// What was decided, in words that every way in can give.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Decided {
    word: String,
    transaction_id: String,
    failed: Vec<String>,
    /// Not told by REST.
    reasons: Vec<String>,
}

fn decided(way: Way, reply: &Reply) -> Decided {
    if way == Way::Grpc {
        let body = reply.body.get(5..).unwrap_or_else(|| panic!("{}", reply.everything()));
        let answer = v1::EvaluateResponse::decode(body).unwrap();
        let reasons = answer.reasons.iter().map(|reason| reason.reason().as_str_name());
        return Decided {
            word: answer.decision().as_str_name().to_lowercase(),
            failed: answer.reasons.iter().map(|reason| reason.rule_type.clone()).collect(),
            reasons: reasons.map(short).collect(),
            transaction_id: answer.transaction_id,
        };
    }
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    assert!(body["decision"].is_string(), "{way:?}: {}", reply.everything());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let reasons = body["reasons"].as_array().cloned().unwrap_or_default();
    let word = text(&body["decision"]).to_lowercase();
    let http = if way == Way::Rest && word == "rejected" { 403 } else { 200 };
    assert_eq!(reply.status, http, "{way:?}: {}", reply.everything());
    Decided {
        word: if way == Way::Rest { format!("decision_{word}") } else { word },
        transaction_id: text(&body["transactionId"]),
        failed: reasons.iter().map(|reason| text(&reason["ruleType"])).collect(),
        reasons: reasons.iter().map(|reason| short(&text(&reason["reason"]))).collect(),
    }
}

fn short(reason: &str) -> String {
    reason.trim_start_matches("REJECTION_REASON_").to_owned()
}

async fn ask(server: &Server, connections: &mut Connections, way: Way, message: &Value) -> Decided {
    let key = &server.admin_key;
    let call = match way {
        Way::Grpc => grpc(key, EVALUATE, &encoded(EVALUATE, message)),
        Way::Connect => connect(key, EVALUATE, message.to_string()),
        Way::Rest => rest("POST", "/gateway/evaluate", message.clone()).call(key),
    };
    let reply = connections.send(way, &call).await.unwrap();
    decided(way, &reply)
}

/// Number, what, what is changed of a good spend, the rule that fails and why; none if approved.
type Odd = (u16, &'static str, Value, Option<(&'static str, &'static str)>);

fn odd_spends() -> Vec<Odd> {
    let allowlist = |reason| Some(("vendor_allowlist", reason));
    let dunder = json!({"__proto__": "x", "constructor": "y", "$where": "1"});
    vec![
        (31, "amount 0", json!({"amount": 0}), None),
        (36, "USDC", json!({"currency": "USDC"}), Some(("currency_mismatch", "CURRENCY_MISMATCH"))),
        (36, "EUR", json!({"currency": "EUR"}), Some(("currency_mismatch", "CURRENCY_MISMATCH"))),
        (40, "a trailing dot", json!({"vendor": "firecrawl.dev."}), None),
        (40, "capital letters", json!({"vendor": "FireCrawl.DEV"}), None),
        (40, "a whole URL", json!({"vendor": "https://firecrawl.dev:443/a?b=c@d#e"}), None),
        (40, "a subdomain", json!({"vendor": "api.firecrawl.dev"}), None),
        (42, "a full-width dot", json!({"vendor": "firecrawl。dev"}), None),
        (41, "a look-alike", json!({"vendor": "fіrecrawl.dev"}), allowlist("VENDOR_CONFUSABLE")),
        (
            41,
            "the same in punycode",
            json!({"vendor": "xn--frecrawl-thh.dev"}),
            allowlist("VENDOR_CONFUSABLE"),
        ),
        (44, "a plain name", json!({"vendor": "gmail"}), allowlist("VENDOR_NOT_ALLOWED")),
        (
            44,
            "a longer host",
            json!({"vendor": "notfirecrawl.dev"}),
            allowlist("VENDOR_NOT_ALLOWED"),
        ),
        (
            44,
            "a host in front",
            json!({"vendor": "firecrawl.dev.evil.example"}),
            allowlist("VENDOR_NOT_ALLOWED"),
        ),
        (44, "a script", json!({"vendor": "<script>alert(1)"}), allowlist("VENDOR_NOT_ALLOWED")),
        (44, "SQL", json!({"vendor": "'; drop table spend; --"}), allowlist("VENDOR_NOT_ALLOWED")),
        (
            45,
            "an unknown category",
            json!({"category": "Research"}),
            Some(("category", "CATEGORY_NOT_ALLOWED")),
        ),
        (45, "no category", json!({"category": null}), Some(("category", "CATEGORY_MISSING"))),
        (49, "names of other languages' internals", json!({ "metadata": dunder }), None),
    ]
}

#[tokio::test]
async fn odd_spends_are_decided_alike_over_every_way_in() {
    let mut server = Server::start().await;
    let mut connections = Connections::open(&server).await;
    let agent_id = server.agent_id.clone();
    let mut spent = 0;
    for (number, what, patch, failure) in odd_spends() {
        for way in WAYS {
            let message = patched(&patched(&good(&agent_id), &patch), &json!({}));
            let answer = ask(&server, &mut connections, way, &message).await;
            let name = format!("row {number} ({what}) over {way:?}: {answer:?}");
            match failure {
                None => {
                    spent += message["amount"].as_i64().unwrap();
                    assert_eq!(answer.word, "decision_approved", "{name}");
                    assert!(answer.failed.is_empty(), "{name}");
                }
                Some((rule, reason)) => {
                    assert_eq!(answer.word, "decision_rejected", "{name}");
                    assert_eq!(answer.failed, [rule], "{name}");
                    assert!(way == Way::Rest || answer.reasons == [reason], "{name}");
                }
            }
            let asked = json!({ "agentId": agent_id });
            let budget = server.ok("BudgetService/GetBudget", asked).await;
            let now = budget["budget"]["spent"].as_str().unwrap_or("0").to_owned();
            assert_eq!(now, spent.to_string(), "{name}");
            assert_eq!(server.log_complaints(), Vec::<String>::new(), "{name}");
        }
    }
    server.stop().await;
}

/// Waits until a mandate that ends soon has ended.
async fn until_expired(server: &mut Server, agent_id: &str) {
    for _ in 0..1_000 {
        let answer = server.ok(CAN_SPEND, good(agent_id)).await;
        if answer["reasons"][0]["reason"] == "REJECTION_REASON_MANDATE_EXPIRED" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the mandate does not expire");
}

#[tokio::test]
async fn whoever_may_not_spend_now_is_rejected_with_the_reason() {
    let mut server = Server::start().await;
    let mut cases: Vec<(u16, String, &str)> = Vec::new();
    for step in ["Suspend", "Decommission"] {
        let (agent, _) = with_mandate(&mut server).await;
        let rpc = format!("AgentsService/{step}Agent");
        server.ok(&rpc, json!({ "agentId": agent })).await;
        cases.push((51, agent, "AGENT_NOT_ACTIVE"));
    }
    let bare = server.agent().await;
    cases.push((52, bare, "NO_ACTIVE_MANDATE"));
    let drafted = server.agent().await;
    server.draft(&drafted).await;
    cases.push((52, drafted, "NO_ACTIVE_MANDATE"));
    for (step, reason) in [("Pause", "MANDATE_PAUSED"), ("Revoke", "MANDATE_REVOKED")] {
        let (agent, mandate) = with_mandate(&mut server).await;
        server.step(step, &mandate).await;
        cases.push((52, agent, reason));
    }
    let now = jiff::Timestamp::now();
    let soon = (now + std::time::Duration::from_millis(1_500)).to_string();
    let later = (now + std::time::Duration::from_secs(3_600)).to_string();
    for (name, time, reason) in
        [("validUntil", soon, "MANDATE_EXPIRED"), ("validFrom", later, "MANDATE_NOT_YET_VALID")]
    {
        let agent = server.agent().await;
        let mut message = json!({
            "agentId": agent, "name": "limited in time",
            "budget": {"total": 10_000, "perTransaction": 1_000, "currency": "USD"},
        });
        message[name] = json!(time);
        let made = server.ok("MandatesService/CreateMandate", message).await;
        server.step("Activate", made["mandate"]["id"].as_str().unwrap()).await;
        if reason == "MANDATE_EXPIRED" {
            until_expired(&mut server, &agent).await;
        }
        cases.push((52, agent, reason));
    }
    rejected(&server, &cases).await;
    server.ok("OrganizationService/FreezeOrganization", json!({})).await;
    let frozen = vec![(51, server.agent_id.clone(), "ORGANIZATION_FROZEN")];
    rejected(&server, &frozen).await;
    server.stop().await;
}

async fn with_mandate(server: &mut Server) -> (String, String) {
    let agent = server.agent().await;
    let mandate = server.draft(&agent).await;
    server.step("Activate", &mandate).await;
    (agent, mandate)
}

async fn rejected(server: &Server, cases: &[(u16, String, &str)]) {
    let mut connections = Connections::open(server).await;
    for (number, agent, reason) in cases {
        for way in WAYS {
            let answer = ask(server, &mut connections, way, &good(agent)).await;
            let name = format!("row {number} ({reason}) over {way:?}: {answer:?}");
            assert_eq!(answer.word, "decision_rejected", "{name}");
            assert!(answer.transaction_id.starts_with("tx_"), "{name}");
            let is_told = answer.reasons.iter().any(|told| told == reason);
            assert!(way == Way::Rest || is_told, "{name}");
        }
    }
}

#[tokio::test]
async fn a_key_means_one_request_over_every_way_in() {
    let mut server = Server::start().await;
    let mut connections = Connections::open(&server).await;
    let message = good(&server.agent_id);
    let rejection = patched(&good(&server.agent_id), &json!({"amount": 2_600}));
    let first = ask(&server, &mut connections, Way::Connect, &message).await;
    let no = ask(&server, &mut connections, Way::Rest, &rejection).await;
    assert_eq!((&*first.word, &*no.word), ("decision_approved", "decision_rejected"));
    // 30: more headroom does not turn an old answer.
    let mandate = server.ok("BudgetService/GetBudget", json!({"agentId": server.agent_id})).await;
    let more = json!({"mandateId": mandate["mandateId"], "perTransaction": 5_000});
    server.ok("MandatesService/UpdateBudget", more).await;
    let before = server.state().await;
    for way in WAYS {
        // 27: the same answer, and nothing charged.
        let again = ask(&server, &mut connections, way, &message).await;
        assert_eq!(again.transaction_id, first.transaction_id, "{way:?}");
        assert_eq!(again.word, "decision_approved", "{way:?}");
        let again = ask(&server, &mut connections, way, &rejection).await;
        assert_eq!(again.transaction_id, no.transaction_id, "{way:?}");
        assert_eq!(again.failed, ["budget_per_tx"], "{way:?}");
    }
    assert_eq!(server.state().await, before);
    let mut rows = Vec::new();
    for (what, patch) in [
        ("one more", json!({"amount": 101})),
        ("another vendor", json!({"vendor": "arxiv.org"})),
        ("the same vendor spelt otherwise", json!({"vendor": "firecrawl.dev."})),
        ("another currency", json!({"currency": "EUR"})),
        ("another category", json!({"category": "generation"})),
        ("no category", json!({"category": null})),
        ("a description", json!({"description": "x"})),
        ("a label", json!({"metadata": {"a": "b"}})),
        ("a mandate", json!({"mandateId": mandate["mandateId"]})),
    ] {
        let other = patched(&message, &patch);
        let row = Row::new(28, what, EVALUATE, other.clone()).by(&server.admin_key);
        let row = row.refused(Code::AlreadyExists, "IDEMPOTENCY_KEY_REUSED");
        rows.push(row.rest(rest("POST", "/gateway/evaluate", other)));
    }
    refused(&mut server, &rows).await;
    // 29: another agent's keys are its own.
    let (other, _) = with_mandate(&mut server).await;
    let theirs = patched(&message, &json!({ "agentId": other }));
    let answer = ask(&server, &mut connections, Way::Grpc, &theirs).await;
    assert_eq!(answer.word, "decision_approved");
    assert_ne!(answer.transaction_id, first.transaction_id);
    server.stop().await;
}

#[tokio::test]
async fn a_question_uses_no_key_up() {
    let mut server = Server::start().await;
    let question = good(&server.agent_id);
    for amount in [100, 200] {
        let asked = patched(&question, &json!({ "amount": amount }));
        let answer = server.ok(CAN_SPEND, asked).await;
        assert_eq!(answer["decision"], "DECISION_APPROVED");
    }
    let answer = server.ok(EVALUATE, patched(&question, &json!({"amount": 300}))).await;
    assert_eq!(
        (&answer["decision"], &answer["replayed"]),
        (&json!("DECISION_APPROVED"), &json!(false))
    );
    let before = server.state().await;
    server.ok(CAN_SPEND, patched(&question, &json!({"amount": 400}))).await;
    assert_eq!(server.state().await, before);
    // 60: over gRPC and the Connect protocol; REST has no such path.
    let lookup = json!({"agentId": server.agent_id, "idempotencyKey": question["idempotencyKey"]});
    let rpc = "EvaluateService/LookupDecision";
    let found = server.ok(rpc, lookup.clone()).await;
    assert_eq!(found["transaction"]["amount"], "300");
    let mut connections = Connections::open(&server).await;
    let call = grpc(&server.admin_key, rpc, &encoded(rpc, &lookup));
    let reply = connections.send(Way::Grpc, &call).await.unwrap();
    assert_eq!(Answer::read(Way::Grpc, &reply).code, Code::Ok);
    server.stop().await;
}
