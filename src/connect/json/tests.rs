//! JSON in both directions: what proto3 JSON says, what is refused, what never panics.

use std::sync::LazyLock;

use proptest::prelude::*;
use prost_reflect::DescriptorPool;
use serde_json::json;
use tonic_types::StatusExt as _;

use super::*;
use crate::domain::samples::config;
use crate::grpc::schema::tests::descriptors;
use crate::proto::v1::{CreateMandateRequest, UpdateMandateRequest, rule};

fn ours(name: &str) -> MessageDescriptor {
    // Reading the descriptors takes longer than anything that is asked of them.
    static POOL: LazyLock<DescriptorPool> =
        LazyLock::new(|| DescriptorPool::decode(crate::proto::DESCRIPTORS).unwrap());
    POOL.get_message_by_name(&format!("quetra.v1.{name}")).unwrap()
}

fn wrong(name: &str, body: &str) -> Vec<String> {
    wrong_of(&ours(name), body)
}

fn wrong_of(descriptor: &MessageDescriptor, body: &str) -> Vec<String> {
    let status = to_message(descriptor, body.as_bytes()).unwrap_err();
    let details = status.get_error_details();
    let fields = details.bad_request().unwrap().field_violations.clone();
    fields.iter().map(|field| format!("{} {}", field.field, field.description)).collect()
}

#[test]
fn a_whole_mandate_is_read() {
    let body = json!({
        "agentId": "a", "name": "n",
        "budget":
            {"total": 1e4, "perTransaction": "10", "currency": "USD", "reset": "PERIOD_DAILY"},
        "rules": [
            {"category": {"allowed": ["research"]}},
            {"time_window": {"days": [1, 2], "start": "09:00", "end": "17:00", "timezone": "UTC"}},
        ],
        "validFrom": "2026-01-01T00:00:00Z",
        "validUntil": null,
    });
    let bytes = to_message(&ours("CreateMandateRequest"), body.to_string().as_bytes()).unwrap();
    let request = CreateMandateRequest::decode(bytes).unwrap();
    let budget = request.budget.unwrap();
    assert_eq!((budget.total, budget.reset), (10_000, 2));
    assert!(matches!(request.rules[1].kind, Some(rule::Kind::TimeWindow(_))));
    assert_eq!(request.valid_from.unwrap().seconds, 1_767_225_600);
    assert!(request.valid_until.is_none());
}

#[test]
fn a_field_mask_is_read_in_camel_case() {
    let body = r#"{"mandateId":"m","updateMask":"name,validUntil"}"#;
    let bytes = to_message(&ours("UpdateMandateRequest"), body.as_bytes()).unwrap();
    let request = UpdateMandateRequest::decode(bytes).unwrap();
    assert_eq!(request.update_mask.unwrap().paths, ["name", "valid_until"]);
}

#[test]
fn wrong_types_are_named_with_their_path() {
    let body = r#"{"agentId":"7b1f4f0e-9d0c-4c5e-8f6f-3a1d2b4c5d6e","name":"n","budget":[],
        "rules":[{"category":{"allowed":"x"}},
        {"rateLimit":{"maxTransactions":"many","windowMinutes":99999999999}}, 7,
        {"maxAmount":{"amount":true}, "geo":{}}],
        "validFrom":"yesterday","validUntil":5}"#;
    assert_eq!(
        wrong("CreateMandateRequest", body),
        [
            "budget must be an object",
            "rules[0].category.allowed must be a list",
            "rules[1].rate_limit.max_transactions must be a whole number, as a JSON number or in \
             quotes",
            "rules[1].rate_limit.window_minutes is out of the range of its type",
            "rules[2] must be an object",
            "rules[3].max_amount.amount must be a whole number, as a JSON number or in quotes",
            "rules[3].geo cannot be given together with max_amount",
            "valid_from must be a time such as \"2026-01-31T12:00:00Z\"",
            "valid_until must be a time such as \"2026-01-31T12:00:00Z\"",
        ]
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>()
    );
}

#[test]
fn an_unknown_name_is_shown_short_and_escaped() {
    let long = format!("{{\"rules\":[{{\"{}\\n\":1}}]}}", "x".repeat(100));
    let path = format!("rules[0].{}…", "x".repeat(32));
    let expected = format!("{path} is a field this server does not know");
    assert!(wrong("CreateMandateRequest", &long).contains(&expected));
}

#[test]
fn keys_of_a_map_may_not_repeat() {
    let body = r#"{"metadata":{"a":"1","a":"2"}}"#;
    let status = to_message(&ours("EvaluateRequest"), body.as_bytes()).unwrap_err();
    assert_eq!(status.message(), "`metadata[\"a\"]` is given twice");
}

#[test]
fn every_scalar_is_read_as_proto3_says() {
    let pool = DescriptorPool::decode(
        descriptors(
            "enum Mood { MOOD_UNSPECIFIED = 0; MOOD_GOOD = 1; } \
             message AllRequest { int32 i = 1; uint64 u = 2; bool b = 3; bytes y = 4; Mood m = 5; \
             sint64 s = 6; fixed32 f = 7; map<int32, bool> n = 8; map<bool, string> o = 9; \
             double d = 10; }",
        )
        .as_slice(),
    )
    .unwrap();
    let descriptor = pool.get_message_by_name("test.v1.AllRequest").unwrap();
    let body = r#"{"i":-5.0,"u":"18446744073709551615","b":true,"y":"-_8","m":"MOOD_GOOD",
        "s":"-7","f":4294967295,"n":{"-1":true},"o":{"true":"x"}}"#;
    let bytes = to_message(&descriptor, body.as_bytes()).unwrap();
    let read = from_bytes(descriptor.clone(), &bytes).unwrap();
    let read: serde_json::Value = serde_json::from_slice(&read).unwrap();
    assert_eq!(
        read,
        json!({"i": -5, "u": "18446744073709551615", "b": true, "y": "+/8=", "m": "MOOD_GOOD",
            "s": "-7", "d": 0.0, "f": 4_294_967_295_u32, "n": {"-1": true}, "o": {"true": "x"}})
    );
    let wrong = wrong_of(
        &descriptor,
        r#"{"i":2147483648,"u":-1,"b":1,"y":"!","m":"GOOD","s":1e300,"f":"+1","n":{"x":true},
            "o":{"yes":"x"},"d":1}"#,
    );
    assert_eq!(wrong.len(), 10, "{wrong:?}");
}

#[test]
fn faults_after_a_wrong_item_keep_their_place() {
    let body = r#"{"agentId":"7b1f4f0e-9d0c-4c5e-8f6f-3a1d2b4c5d6e","name":"n",
        "budget":{"total":10,"perTransaction":10,"currency":"USD"},
        "rules":[7,{"rateLimit":{"maxTransactions":1,"windowMinutes":1}},
        {"maxAmount":{"amount":-1}}]}"#;
    assert_eq!(
        wrong("CreateMandateRequest", body),
        ["rules[0] must be an object", "rules[2].max_amount.amount must be at least 0, is -1"]
    );
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in "\\PC{0,60}") {
        let _ = to_message(&ours("EvaluateRequest"), text.as_bytes());
    }

    #[test]
    fn any_json_is_read_or_refused_without_a_panic(
        name in "agentId|amount|metadata|protocol|vendor|[a-z]{1,5}",
        value in "null|true|-?[0-9]{1,25}(\\.[0-9]{1,3})?|\"[a-z]{0,9}\"|\\[\\]|\\{\"a\":[0-9]\\}",
    ) {
        let text = format!("{{\"{name}\":{value}}}");
        let _ = to_message(&ours("EvaluateRequest"), text.as_bytes());
    }
}
