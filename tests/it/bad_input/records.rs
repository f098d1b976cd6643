//! Rows 63 to 73: settling, voiding, refunding and listing what was never there, or is over.
//!
//! Not here: the arithmetic of a good settlement.

use serde_json::{Value, json};
use tonic::Code;

use super::CANARY;
use super::server::Server;
use super::ways::{Row, Way, refused, rest};

const SETTLE: &str = "TransactionsService/SettleTransaction";
const VOID: &str = "TransactionsService/VoidTransaction";
const REFUND: &str = "TransactionsService/RefundTransaction";

/// A row of one of the three steps.
fn step(number: u16, what: &str, rpc: &str, (id, amount): (&str, Value)) -> Row {
    let mut message = json!({ "transactionId": id });
    let mut body = Value::Null;
    if !amount.is_null() {
        message["amount"] = amount.clone();
        body = json!({ "amount": amount });
    }
    let verb = match rpc {
        SETTLE => "settle",
        VOID => "void",
        _ => "refund",
    };
    Row::new(number, what, rpc, message).rest(rest(
        "POST",
        format!("/transactions/{id}/{verb}"),
        body,
    ))
}

fn wrong_state(row: Row) -> Row {
    row.refused(Code::FailedPrecondition, "TRANSACTION_WRONG_STATE")
}

fn exceeds(row: Row) -> Row {
    row.refused(Code::FailedPrecondition, "AMOUNT_EXCEEDS_TRANSACTION")
}

#[tokio::test]
async fn a_transaction_takes_no_step_it_cannot_take() {
    let mut server = Server::start().await;
    let approved = server.spend(500).await;
    let settled = server.spend(400).await;
    server.ok(SETTLE, json!({"transactionId": settled, "amount": 300})).await;
    let voided = server.spend(300).await;
    server.ok(VOID, json!({ "transactionId": voided })).await;
    let refunded = server.spend(200).await;
    server.ok(SETTLE, json!({"transactionId": refunded, "amount": 200})).await;
    server.ok(REFUND, json!({"transactionId": refunded, "amount": 50})).await;
    let message = json!({"agentId": server.agent_id, "amount": 100, "currency": "USD",
        "vendor": "netflix.com", "idempotencyKey": "rejected-0001"});
    let rejected = server.ok("EvaluateService/Evaluate", message).await;
    let rejected = rejected["transactionId"].as_str().unwrap().to_owned();

    let mut rows = Vec::new();
    for (what, amount) in [
        ("settle 0", json!(0)),
        ("settle -1", json!(-1)),
        ("settle 10^12 + 1", json!(1_000_000_000_001_i64)),
    ] {
        rows.push(step(63, what, SETTLE, (&approved, amount.clone())).fields(&["amount"]));
        rows.push(step(68, what, REFUND, (&settled, amount)).fields(&["amount"]));
    }
    let nothing = Row::new(63, "settle nothing", SETTLE, json!({ "transactionId": approved }));
    let path = rest("POST", format!("/transactions/{approved}/settle"), json!({}));
    rows.push(nothing.rest(path).fields(&["amount"]));
    rows.push(exceeds(step(63, "settle too much", SETTLE, (&approved, json!(501)))));
    rows.push(exceeds(step(68, "refund too much", REFUND, (&settled, json!(301)))));
    rows.push(wrong_state(step(64, "settle twice", SETTLE, (&settled, json!(299)))));
    for (number, what, id) in [
        (65, "settle what was voided", &voided),
        (65, "settle what was refunded", &refunded),
        (65, "settle what was rejected", &rejected),
    ] {
        rows.push(wrong_state(step(number, what, SETTLE, (id, json!(1)))));
    }
    for (what, id) in [("settled", &settled), ("refunded", &refunded), ("rejected", &rejected)] {
        let what = format!("void what was {what}");
        rows.push(wrong_state(step(65, &what, VOID, (id, Value::Null))));
    }
    for (what, id) in [("approved", &approved), ("voided", &voided), ("rejected", &rejected)] {
        let what = format!("refund what was {what}");
        rows.push(wrong_state(step(68, &what, REFUND, (id, json!(1)))));
    }
    rows.push(wrong_state(step(68, "refund again", REFUND, (&refunded, json!(1)))));
    let admin = server.admin_key.clone();
    let mut rows: Vec<_> = rows.into_iter().map(|row| row.by(&admin)).collect();

    let agent = server.agent_key.clone();
    let refund = step(68, "refund as an agent", REFUND, (&settled, json!(1))).by(&agent);
    rows.push(refund.refused(Code::PermissionDenied, "ROLE_NOT_ALLOWED"));
    let other = server.agent().await;
    let wanted = json!({"name": "other", "role": "ROLE_AGENT", "agentId": other});
    let (_, stranger) = server.key(wanted).await;
    for (what, rpc, amount) in
        [("another agent's", SETTLE, json!(1)), ("another agent's", VOID, Value::Null)]
    {
        rows.push(step(66, what, rpc, (&approved, amount)).by(&stranger).not_found());
    }
    refused(&mut server, &rows).await;
    server.stop().await;
}

#[tokio::test]
async fn an_id_that_is_none_and_one_that_is_unknown_are_told_apart() {
    let mut server = Server::start().await;
    let admin = server.admin_key.clone();
    let unknown = format!("tx_{}", "0".repeat(32));
    let long = format!("tx_{CANARY}{}", "0".repeat(64));
    let mut rows = Vec::new();
    for rpc in [SETTLE, VOID, REFUND, "TransactionsService/GetTransaction"] {
        for (id, is_id) in [(&*unknown, true), (CANARY, false), (&*long, false)] {
            let amount = if rpc == SETTLE { json!(1) } else { Value::Null };
            let row = if rpc.ends_with("GetTransaction") {
                let row = Row::new(65, "get", rpc, json!({ "transactionId": id }));
                row.rest(rest("GET", format!("/transactions/{id}"), Value::Null))
            } else {
                step(65, id, rpc, (id, amount))
            };
            let row = row.by(&admin);
            rows.push(if is_id { row.not_found() } else { row.fields(&["transaction_id"]) });
        }
        let empty = Row::new(
            65,
            "no id",
            rpc,
            if rpc == SETTLE { json!({"amount": 1}) } else { json!({}) },
        );
        rows.push(empty.by(&admin).fields(&["transaction_id"]));
    }
    refused(&mut server, &rows).await;
    server.stop().await;
}

/// A list that is refused over gRPC and Connect, and its query in REST.
fn list(number: u16, what: &str, message: Value, query: &str) -> Row {
    let path = rest("GET", format!("/transactions?{query}"), Value::Null);
    Row::new(number, what, "TransactionsService/ListTransactions", message).rest(path)
}

fn lists(other_token: &str) -> Vec<Row> {
    let canary = CANARY;
    let page = |size: i64, token: &str| json!({"page": {"pageSize": size, "pageToken": token}});
    let times = |since: &str, until: &str| json!({"since": since, "until": until});
    let (early, late) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    let long = "t".repeat(1_025);
    let mut rows = vec![
        list(69, "page size -1", page(-1, ""), "limit=-1").fields(&["page.page_size"]),
        list(70, "skip -1", json!({"skip": -1}), "offset=-1").fields(&["skip"]),
        list(70, "skip 10,001", json!({"skip": 10_001}), "offset=10001").fields(&["skip"]),
        list(70, "a token of 1,025 bytes", page(0, &long), &format!("pageToken={long}"))
            .fields(&["page.page_token"]),
        list(71, "reversed", times(late, early), &format!("since={late}&until={early}"))
            .fields(&["until"]),
        list(71, "empty", times(early, early), &format!("since={early}&until={early}"))
            .fields(&["until"]),
        list(72, "decision 99", json!({"decision": 99}), "decision=99").fields(&["decision"]),
        list(72, "state 99", json!({"state": 99}), "state=99").fields(&["state"]),
        list(72, "an agent in SQL", json!({"agentId": "' or 1=1 --"}), "agentId='%20or%201=1%20--")
            .fields(&["agent_id"]),
        list(
            72,
            "10 KB",
            json!({"mandateId": format!("{canary}{}", "x".repeat(10_000))}),
            &format!("mandateId={canary}{}", "x".repeat(10_000)),
        )
        .fields(&["mandate_id"]),
    ];
    let rest_names = |field: &str| match field {
        "page.page_size" => "limit".to_owned(),
        "page.page_token" => "pageToken".to_owned(),
        "skip" => "offset".to_owned(),
        field => super::ways::camel(field),
    };
    for row in &mut rows {
        row.rest_fields = Some(row.fields.iter().map(|field| rest_names(field)).collect());
    }
    for token in ["AAAA", "!!!", CANARY, other_token] {
        let row = list(70, "a forged token", page(0, token), &format!("pageToken={token}"));
        rows.push(row.refused(Code::InvalidArgument, "PAGE_TOKEN_INVALID"));
    }
    rows
}

#[tokio::test]
async fn a_list_of_nothing_sensible_is_refused() {
    let mut server = Server::start().await;
    for _ in 0..2 {
        server.spend(100).await;
    }
    let one = json!({"page": {"pageSize": 1}, "agentId": server.agent_id});
    let page = server.ok("TransactionsService/ListTransactions", one).await;
    let token = page["nextPageToken"].as_str().unwrap().to_owned();
    let admin = server.admin_key.clone();
    let mut rows: Vec<_> = lists(&token).into_iter().map(|row| row.by(&admin)).collect();
    let unknown = "7b1f4f0e-9d0c-4c5e-8f6f-3a1d2b4c5d6e";
    let message = json!({ "agentId": unknown });
    let row = list(72, "an unknown agent's", message, &format!("agentId={unknown}"));
    rows.push(row.by(&admin).not_found());
    refused(&mut server, &rows).await;
    // 71: a time beyond the years that exist, which only gRPC can write; 73: no such parameter.
    let mut far = prost_reflect::prost::Message::encode_to_vec(&prost_types::Timestamp {
        seconds: 9_223_372_036_854_775_807,
        nanos: 0,
    });
    far.splice(0..0, [0x32, u8::try_from(far.len()).unwrap()]);
    let call = super::ways::grpc(&admin, "TransactionsService/ListTransactions", &far);
    let mut connections = super::ways::Connections::open(&server).await;
    let reply = connections.send(Way::Grpc, &call).await.unwrap();
    let answer = super::ways::Answer::read(Way::Grpc, &reply);
    assert_eq!((answer.code, &*answer.reason), (Code::InvalidArgument, "INVALID_FIELDS"));
    assert_eq!(answer.fields, ["since.seconds"]);
    for query in ["orderBy=amount;drop", "order_by=amount", "limit=1&limit=2", "filter=x"] {
        let path = format!("/transactions?{query}");
        let reply = connections.send(Way::Rest, &rest("GET", path, Value::Null).call(&admin)).await;
        assert_eq!(reply.unwrap().status, 400, "{query}");
    }
    // 69: nothing said means 50, more than 200 counts as 200 over gRPC; REST says its bounds.
    let answer =
        server.ok("TransactionsService/ListTransactions", json!({"page": {"pageSize": 1_000_000}}));
    assert_eq!(answer.await["transactions"].as_array().unwrap().len(), 2);
    server.stop().await;
}
