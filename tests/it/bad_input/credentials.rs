//! Rows 15 to 23: who calls cannot be told, or may not.
//!
//! Every failure looks the same from outside. Not here: which role may call which RPC.

use serde_json::{Value, json};
use tonic::Code;

use super::CANARY;
use super::server::Server;
use super::ways::{Answer, Connections, Row, WAYS, Way, connect, grpc, http_of, refused, rest};
use super::wire::Call;

/// A call that works with a good credential, without any.
fn bare(way: Way) -> Call {
    match way {
        Way::Grpc => grpc("", "BudgetService/GetBudget", &[]),
        Way::Connect => connect("", "BudgetService/GetBudget", "{}"),
        Way::Rest => rest("GET", "/gateway/mandate-token", Value::Null).call(""),
    }
}

/// What the headers of a call without a good credential are.
fn bad_headers(server: &Server, ended: &[String]) -> Vec<(u16, &'static str, Vec<String>)> {
    let good = format!("Bearer {}", server.agent_key);
    let one = |text: &str| vec![text.to_owned()];
    let key = &server.agent_key;
    let mut garbled = key.clone();
    let last = if garbled.pop() == Some('A') { 'B' } else { 'A' };
    garbled.push(last);
    let mut cases = vec![
        (15, "no credential", Vec::new()),
        (16, "an empty credential", one("Bearer ")),
        (16, "no word", one("")),
        (16, "the scheme alone", one("Bearer")),
        (16, "another scheme", one("Basic c2tfYWRtaW46")),
        (16, "no scheme", one(key)),
        (16, "two good credentials", vec![good.clone(), good.clone()]),
        (16, "two in one", vec![format!("{good}, {good}")]),
        (16, "two spaces", vec![format!("Bearer  {key}")]),
        (17, "one character wrong", vec![format!("Bearer {garbled}")]),
        (17, "one character missing", vec![format!("Bearer {}", &key[..key.len() - 1])]),
        (17, "one character more", vec![format!("Bearer {key}A")]),
        (18, "SQL", one("Bearer ' OR '1'='1")),
        (18, "a canary", vec![format!("Bearer sk_agent_{CANARY}")]),
        (18, "10 KB", vec![format!("Bearer sk_agent_{CANARY}{}", "k".repeat(10_000))]),
        (18, "letters outside ASCII", one("Bearer sk_agént_é")),
    ];
    cases.extend(ended.iter().map(|key| (19, "an ended key", vec![format!("Bearer {key}")])));
    cases
}

/// A revoked key, an expired one, one of a decommissioned agent and one of another server.
async fn ended_keys(server: &mut Server, elsewhere: &Server) -> Vec<String> {
    let reader = json!({"name": "short-lived", "role": "ROLE_READER"});
    let (id, revoked) = server.key(reader.clone()).await;
    server.ok("OrganizationService/RevokeApiKey", json!({ "apiKeyId": id })).await;
    let agent = server.agent().await;
    let bound = json!({"name": "bound", "role": "ROLE_AGENT", "agentId": agent});
    let (_, decommissioned) = server.key(bound).await;
    server.ok("AgentsService/DecommissionAgent", json!({ "agentId": agent })).await;
    let mut short = reader;
    let end = jiff::Timestamp::now() + std::time::Duration::from_millis(1_200);
    short["expiresAt"] = json!(end.to_string());
    let (_, expired) = server.key(short).await;
    let mut connections = Connections::open(server).await;
    let call = connect(&expired, "OrganizationService/GetOrganization", "{}");
    let mut tries = 0;
    while connections.send(Way::Connect, &call).await.unwrap().status == 200 {
        tries += 1;
        assert!(tries < 1_000, "the key does not expire");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    vec![revoked, decommissioned, expired, elsewhere.admin_key.clone()]
}

#[tokio::test]
async fn whoever_cannot_be_told_is_refused_in_the_same_words() {
    let mut server = Server::start().await;
    let elsewhere = Server::start().await;
    let ended = ended_keys(&mut server, &elsewhere).await;
    server.secrets.extend(ended.iter().cloned());
    let mut connections = Connections::open(&server).await;
    let before = server.state().await;
    for way in WAYS {
        let mut sentences = Vec::new();
        for (number, what, headers) in bad_headers(&server, &ended) {
            let name = format!("row {number} ({what}) over {way:?}");
            let call =
                headers.iter().fold(bare(way), |call, value| call.header("authorization", value));
            let reply = connections.send(way, &call).await.unwrap();
            let answer = Answer::read(way, &reply);
            let code = if way == Way::Rest { Code::Unknown } else { Code::Unauthenticated };
            let http = http_of(way, Code::Unauthenticated, "");
            let expected = (http, code, "CREDENTIAL_INVALID");
            assert_eq!((answer.http, answer.code, &*answer.reason), expected, "{name}: {answer:?}");
            assert!(way != Way::Rest || reply.header("www-authenticate") == "Bearer", "{name}");
            assert!(!reply.everything().contains(CANARY), "{name}");
            sentences.push(answer.sentence);
            connections.is_usable(way, &server).await.unwrap();
            assert_eq!(server.log_complaints(), Vec::<String>::new(), "{name}");
        }
        sentences.dedup();
        assert_eq!(sentences.len(), 1, "{way:?}: {sentences:?}");
    }
    assert_eq!(server.state().await, before);
    elsewhere.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told_to_nobody_who_may_not_make_it() {
    let mut server = Server::start().await;
    let mut connections = Connections::open(&server).await;
    let before = server.state().await;
    let rpc = "MandatesService/CreateMandate";
    for body in ["", "{", "null", "[]", "{\"name\":5}", "{\"nobodyKnows\":1}", "{}"] {
        for (key, code, reason) in [
            ("sk_admin_nobody".to_owned(), Code::Unauthenticated, "CREDENTIAL_INVALID"),
            (server.agent_key.clone(), Code::PermissionDenied, "ROLE_NOT_ALLOWED"),
        ] {
            let calls = [
                // 10, in the wire format: a name that is a number.
                (Way::Grpc, grpc(&key, rpc, &[0x10, 0x05])),
                (Way::Connect, connect(&key, rpc, body)),
                (
                    Way::Rest,
                    Call { path: "/api/v1/mandates".to_owned(), ..connect(&key, rpc, body) },
                ),
            ];
            for (way, call) in calls {
                let reply = connections.send(way, &call).await.unwrap();
                let answer = Answer::read(way, &reply);
                let expected = (http_of(way, code, reason), reason);
                assert_eq!((answer.http, &*answer.reason), expected, "{body} {way:?}: {answer:?}");
                assert_eq!(answer.fields, Vec::<String>::new(), "{body} over {way:?}");
                connections.is_usable(way, &server).await.unwrap();
            }
        }
    }
    assert_eq!(server.state().await, before);
    assert_eq!(server.log_complaints(), Vec::<String>::new());
    server.stop().await;
}

#[tokio::test]
async fn a_key_is_worth_what_it_was_made_for_and_no_header_changes_it() {
    let mut server = Server::start().await;
    let boasting = server.agent_key.replacen("sk_agent_", "sk_admin_", 1);
    let reader = json!({"name": "reader", "role": "ROLE_READER"});
    let (_, reader) = server.key(reader).await;
    let mut rows = Vec::new();
    let agent = json!({"name": "mine"});
    let create = Row::new(21, "register", "AgentsService/RegisterAgent", agent.clone());
    let create = create.rest(rest("POST", "/agents", agent));
    let freeze = Row::new(21, "freeze", "OrganizationService/FreezeOrganization", json!({}));
    let freeze = freeze.rest(rest("POST", "/organization/freeze", Value::Null));
    for row in [create, freeze] {
        for key in [&server.agent_key, &boasting, &reader] {
            rows.push(row.clone().by(key).refused(Code::PermissionDenied, "ROLE_NOT_ALLOWED"));
        }
    }
    let spend = json!({
        "agentId": server.agent_id, "amount": 1, "currency": "USD", "vendor": "firecrawl.dev",
        "category": "research", "idempotencyKey": "reader-0001",
    });
    let spend_row = Row::new(21, "a reader spends", "EvaluateService/Evaluate", spend.clone());
    let spend_row = spend_row.rest(rest("POST", "/gateway/evaluate", spend)).by(&reader);
    rows.push(spend_row.refused(Code::PermissionDenied, "ROLE_NOT_ALLOWED"));
    // 23: who is asked comes from the credential alone.
    refused(&mut server, &rows).await;
    let mut connections = Connections::open(&server).await;
    let call = connect(&server.admin_key, "OrganizationService/GetOrganization", "{}");
    let plain = connections.send(Way::Connect, &call).await.unwrap().body;
    for name in ["x-quetra-org-id", "x-org-id", "x-quetra-organization", "x-forwarded-user"] {
        let reply = connections.send(Way::Connect, &call.clone().header(name, CANARY)).await;
        assert_eq!(reply.unwrap().body, plain, "{name}");
    }
    server.stop().await;
}
