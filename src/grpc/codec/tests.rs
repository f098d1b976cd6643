//! Requests on the wire: good ones, hostile ones, and ones cut anywhere.

use proptest::prelude::*;
mod shapes;

use prost::Message as _;
use tonic_types::StatusExt as _;

use super::*;
use crate::domain::samples::config;
use crate::grpc::status::reason_word;
use crate::proto::v1::{
    ApprovalRule, Budget, CategoryRule, CreateApiKeyRequest, CreateMandateRequest, EvaluateRequest,
    GeoRule, GetOrganizationRequest, ListTransactionsRequest, ProtocolRestrictRule,
    RegisterAgentRequest, Rule, TimeWindowRule, VendorAllowlistRule, rule,
};

fn spend() -> EvaluateRequest {
    EvaluateRequest {
        agent_id: "018f6f0e-7b52-7cc3-9d4e-0a1b2c3d4e5f".to_owned(),
        amount: Some(200),
        currency: "USD".to_owned(),
        vendor: "api.firecrawl.dev".to_owned(),
        category: "research".to_owned(),
        description: "fetch three pages".to_owned(),
        protocol: 1,
        idempotency_key: "run-42:step-7:fetch".to_owned(),
        metadata: [("run".to_owned(), "42".to_owned())].into(),
        mandate_id: String::new(),
        hold_seconds: None,
    }
}

/// Reason word and the violations (`path why`) of a refused message.
fn refused<M: Name>(bytes: &[u8]) -> (String, Vec<String>) {
    match validate::<M>(bytes) {
        Ok(()) => panic!("accepted"),
        Err(status) => described(&status),
    }
}

fn described(status: &Status) -> (String, Vec<String>) {
    assert_eq!(status.code(), Code::InvalidArgument);
    let details = status.get_error_details();
    let fields = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    let fields = fields.iter().map(|f| format!("{} {}", f.field, f.description)).collect();
    (details.error_info().unwrap().reason.clone(), fields)
}

fn paths<M: Message + Name>(message: &M) -> Vec<String> {
    let (reason, fields) = refused::<M>(&message.encode_to_vec());
    assert_eq!(reason, reason_word(ErrorReason::InvalidFields));
    fields.iter().map(|field| field.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn a_good_request_passes() {
    validate::<EvaluateRequest>(&spend().encode_to_vec()).unwrap();
    validate::<GetOrganizationRequest>(&[]).unwrap();
}

#[test]
fn an_empty_request_misses_every_required_field_at_once() {
    let (reason, fields) = refused::<EvaluateRequest>(&[]);
    assert_eq!(reason, "INVALID_FIELDS");
    assert_eq!(
        fields,
        [
            "amount is required",
            "currency is required and must match ^([A-Z]{3}|USDC)$",
            "vendor is required and must not be empty",
            "idempotency_key is required and must match ^[A-Za-z0-9_:.-]{8,128}$",
        ]
    );
}

#[test]
fn the_sentence_names_the_first_violations() {
    let status = validate::<EvaluateRequest>(&[]).unwrap_err();
    assert!(status.message().starts_with("amount is required; currency is required"));
    assert!(status.message().ends_with("; and 1 more"));
}

#[test]
fn every_bound_of_a_spend_is_enforced() {
    let mut wrong = spend();
    wrong.agent_id = "a".repeat(65);
    wrong.amount = Some(-1);
    wrong.currency = "usd".to_owned();
    wrong.vendor = "v".repeat(2049);
    wrong.category = "c".repeat(129);
    wrong.description = "d".repeat(2001);
    wrong.protocol = 99;
    wrong.idempotency_key = "short".to_owned();
    wrong.metadata = [(String::new(), "x".repeat(257))].into();
    wrong.mandate_id = "m".repeat(65);
    let mut found = paths(&wrong);
    found.sort();
    assert_eq!(
        found,
        [
            "agent_id",
            "amount",
            "category",
            "currency",
            "description",
            "idempotency_key",
            "mandate_id",
            "metadata[\"\"]",
            "metadata[\"\"]",
            "protocol",
            "vendor",
        ]
    );
}

#[test]
fn lengths_are_counted_in_characters_and_sizes_in_bytes() {
    let mut request = spend();
    request.description = "é".repeat(2000);
    validate::<EvaluateRequest>(&request.encode_to_vec()).unwrap();
    request.category = "é".repeat(65);
    assert_eq!(paths(&request), ["category"]);
}

#[test]
fn the_edges_of_the_amount_pass_and_beyond_them_not() {
    for amount in [0, 1, 1_000_000_000_000] {
        let request = EvaluateRequest { amount: Some(amount), ..spend() };
        validate::<EvaluateRequest>(&request.encode_to_vec()).unwrap();
    }
    for amount in [-1, 1_000_000_000_001, i64::MIN, i64::MAX] {
        let request = EvaluateRequest { amount: Some(amount), ..spend() };
        assert_eq!(paths(&request), ["amount"]);
    }
}

#[test]
fn a_map_is_limited_in_pairs_keys_and_values() {
    let many = (0..33).map(|n| (format!("k{n}"), String::new())).collect();
    assert_eq!(paths(&EvaluateRequest { metadata: many, ..spend() }), ["metadata"]);
    let long = [("k".repeat(65), "v".repeat(257))].into();
    let (_, fields) =
        refused::<EvaluateRequest>(&EvaluateRequest { metadata: long, ..spend() }.encode_to_vec());
    let key = format!("metadata[\"{}…\"]", "k".repeat(32));
    assert_eq!(
        fields,
        [
            format!("{key} has a key that must have at most 64 bytes, has 65"),
            format!("{key} must have at most 256 bytes, has 257"),
        ]
    );
}

fn mandate(kinds: Vec<Option<rule::Kind>>) -> CreateMandateRequest {
    CreateMandateRequest {
        agent_id: "7b1f4f0e-9d0c-4c5e-8f6f-3a1d2b4c5d6e".to_owned(),
        name: "n".to_owned(),
        budget: Some(Budget {
            total: 100,
            per_transaction: 10,
            currency: "USD".to_owned(),
            reset: 0,
            ..Budget::default()
        }),
        rules: kinds.into_iter().map(|kind| Rule { kind }).collect(),
        ..CreateMandateRequest::default()
    }
}

#[test]
fn nested_violations_have_their_whole_path() {
    let vendors = vec!["ok.example".to_owned(), String::new()];
    let request = mandate(vec![
        None,
        Some(rule::Kind::VendorAllowlist(VendorAllowlistRule { vendors })),
        Some(rule::Kind::Category(CategoryRule { allowed: vec![] })),
        Some(rule::Kind::Category(CategoryRule { allowed: vec!["a".into(), "a".into()] })),
        Some(rule::Kind::TimeWindow(TimeWindowRule {
            days: vec![0, 6, 6, 7],
            start: "9:00".to_owned(),
            end: "24:00".to_owned(),
            timezone: "UTC".to_owned(),
        })),
        Some(rule::Kind::ProtocolRestrict(ProtocolRestrictRule { allowed: vec![1, 0, 99] })),
        Some(rule::Kind::Geo(GeoRule {
            allowed_countries: vec!["hr".to_owned()],
            ..GeoRule::default()
        })),
        Some(rule::Kind::Approval(ApprovalRule::default())),
    ]);
    assert_eq!(
        paths(&request),
        [
            "rules[0].kind",
            "rules[1].vendor_allowlist.vendors[1]",
            "rules[2].category.allowed",
            "rules[3].category.allowed[1]",
            "rules[4].time_window.days[2]",
            "rules[4].time_window.days[3]",
            "rules[4].time_window.start",
            "rules[5].protocol_restrict.allowed[1]",
            "rules[5].protocol_restrict.allowed[2]",
            "rules[6].geo.allowed_countries[0]",
            "rules[7].approval.timeout_minutes",
        ]
    );
}

#[test]
fn a_required_message_is_missed_and_a_present_one_is_checked() {
    let missing = CreateMandateRequest { budget: None, ..mandate(vec![]) };
    assert_eq!(paths(&missing), ["budget"]);
    let empty = CreateMandateRequest { budget: Some(Budget::default()), ..mandate(vec![]) };
    assert_eq!(paths(&empty), ["budget.total", "budget.per_transaction", "budget.currency"]);
}

#[test]
fn an_absent_enum_that_must_be_chosen_is_refused_with_the_choices() {
    let request = CreateApiKeyRequest { name: "ci".to_owned(), ..Default::default() };
    let (_, fields) = refused::<CreateApiKeyRequest>(&request.encode_to_vec());
    assert_eq!(fields, ["role is required and must be one of ROLE_ADMIN, ROLE_AGENT, ROLE_READER"]);
}

#[test]
fn a_time_outside_of_the_calendar_is_refused() {
    let time = prost_types::Timestamp { seconds: 253_402_300_800, nanos: 1_000_000_000 };
    let request = ListTransactionsRequest { since: Some(time), ..Default::default() };
    assert_eq!(paths(&request), ["since.seconds", "since.nanos"]);
}

#[test]
fn at_most_twenty_violations_are_reported() {
    let vendors = vec![String::new(); 500];
    let rule = rule::Kind::VendorAllowlist(VendorAllowlistRule { vendors });
    assert_eq!(paths(&mandate(vec![Some(rule)])).len(), 20);
}

#[test]
fn an_optional_key_may_be_absent_but_not_wrong() {
    let request = RegisterAgentRequest { name: "a".to_owned(), ..Default::default() };
    validate::<RegisterAgentRequest>(&request.encode_to_vec()).unwrap();
    let request = RegisterAgentRequest { idempotency_key: "short".to_owned(), ..request };
    assert_eq!(paths(&request), ["idempotency_key"]);
}

#[test]
fn unknown_fields_are_refused_at_any_depth_with_everything_else_that_is_wrong() {
    let mut bytes = EvaluateRequest { amount: Some(-1), ..spend() }.encode_to_vec();
    bytes.extend([0xf8, 0x06, 0x01]); // field 111, varint 1
    let (reason, fields) = refused::<EvaluateRequest>(&bytes);
    assert_eq!(reason, "UNKNOWN_FIELDS");
    assert_eq!(
        fields,
        ["amount must be at least 0, is -1", "111 is a field this server does not know"]
    );

    let mut bytes = mandate(vec![]).encode_to_vec();
    bytes.extend([0x2a, 0x05, 0x0a, 0x03, 0xf8, 0x06, 0x01]); // rules { category { 111: 1 } }
    let (reason, fields) = refused::<CreateMandateRequest>(&bytes);
    assert_eq!(reason, "UNKNOWN_FIELDS");
    assert!(fields.contains(&"rules[0].category.111 is a field this server does not know".into()));
}

#[test]
fn bytes_that_are_no_message_are_refused_as_malformed() {
    let mut twice = spend().encode_to_vec();
    twice.extend([0x10, 0x01]);
    let cases: [(&str, &[u8]); 12] = [
        ("truncated varint", &[0x10, 0x80]),
        ("truncated string", &[0x0a, 0x05, b'a']),
        ("length beyond the end", &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        ("wrong wire type", &[0x08, 0x01]),
        ("invalid UTF-8", &[0x0a, 0x02, 0xc3, 0x28]),
        ("field number 0", &[0x00, 0x01]),
        ("group", &[0x0b, 0x0c]),
        ("wire type 7", &[0x0f]),
        ("varint of 11 bytes", &[0x10, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
        ("varint above 64 bits", &[0x10, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2]),
        ("truncated map entry", &[0x4a, 0x02, 0x0a, 0x05]),
        ("field twice", &twice),
    ];
    for (name, bytes) in cases {
        let (reason, fields) = refused::<EvaluateRequest>(bytes);
        assert_eq!((reason.as_str(), fields.len()), ("MALFORMED_REQUEST", 0), "{name}");
    }
}

#[test]
fn two_members_of_one_oneof_are_refused() {
    // rules { max_amount {} geo {} }
    let mut bytes = mandate(vec![]).encode_to_vec();
    bytes.extend([0x2a, 0x04, 0x32, 0x00, 0x52, 0x00]);
    assert_eq!(refused::<CreateMandateRequest>(&bytes).0, "MALFORMED_REQUEST");
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn random_bytes_never_panic_and_what_passes_decodes(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        if validate::<EvaluateRequest>(&bytes).is_ok() {
            prop_assert!(EvaluateRequest::decode(bytes.as_slice()).is_ok());
        }
        if validate::<CreateMandateRequest>(&bytes).is_ok() {
            prop_assert!(CreateMandateRequest::decode(bytes.as_slice()).is_ok());
        }
    }

    #[test]
    fn mutated_requests_never_panic_and_what_passes_keeps_its_bounds(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = spend().encode_to_vec();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            if validate::<EvaluateRequest>(bytes).is_ok() {
                let request = EvaluateRequest::decode(bytes).unwrap();
                prop_assert!((0..=1_000_000_000_000).contains(&request.amount.unwrap()));
                prop_assert!(request.currency == "USDC" || request.currency.len() == 3);
                prop_assert!((8..=128).contains(&request.idempotency_key.len()));
                prop_assert_eq!(request.encode_to_vec().is_empty(), false);
            }
        }
    }
}
