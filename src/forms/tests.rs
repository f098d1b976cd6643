//! Every published form, read from JSON and YAML and written again.
//!
//! Not here: what HTTP adds (`rest`).

use serde_json::{Value, json};

use super::*;
use crate::proto::v1;
use crate::proto::v1::rule::Kind;

fn rule(json: Value) -> Result<RuleForm, serde_json::Error> {
    serde_json::from_value(json)
}

fn kind(json: Value) -> Kind {
    v1::Rule::from(rule(json).unwrap()).kind.unwrap()
}

#[test]
fn every_published_rule_survives_the_way_to_its_message_and_back() {
    let published = [
        json!({"type": "category", "allowed": ["research"]}),
        json!({"type": "vendor_allowlist", "allowed": ["api.openai.com"]}),
        json!({"type": "vendor_blocklist", "blocked": ["netflix.com"]}),
        json!({"type": "vendor_cap", "vendor": "a.com", "amount": 100, "period": "daily"}),
        json!({"type": "category_cap", "category": "ads", "amount": 7, "period": "none"}),
        json!({"type": "max_amount", "amount": 0}),
        json!({"type": "rate_limit", "maxTransactions": 50, "windowMinutes": 60}),
        json!({"type": "spend_rate", "maxAmount": 5000, "windowMinutes": 1}),
        json!({"type": "time_window", "days": [1, 5], "startHour": 9, "endHour": 24,
               "timezone": "Europe/Zagreb"}),
        json!({"type": "time_window", "days": [0], "start": "22:30", "end": "06:00",
               "timezone": "UTC"}),
        json!({"type": "geo", "allowed": ["HR", "NO"]}),
        json!({"type": "geo", "blocked": ["KP"], "subject": "caller"}),
        json!({"type": "protocol_restrict", "allowed": ["x402", "stripe_cc"]}),
        json!({"type": "approval", "threshold": 5000, "approverIds": ["finance"],
               "timeoutMinutes": 30}),
        json!({"type": "custom", "engine": "jsonlogic", "description": "small",
               "expression": {"<": [{"var": "amount"}, 500]}}),
        json!({"type": "custom", "engine": "cel", "description": "", "expression": "amount < 5"}),
    ];
    for written in published {
        let form = rule(written.clone()).unwrap();
        let message = v1::Rule::from(form.clone());
        let back = RuleForm::try_from(message).unwrap();
        assert_eq!(back, form, "{written}");
        assert_eq!(serde_json::to_value(&back).unwrap(), written);
    }
}

#[test]
fn synonyms_and_defaults_reach_the_message() {
    let allow = kind(json!({"type": "vendor_allowlist", "vendors": ["a.com"]}));
    assert_eq!(allow, kind(json!({"type": "vendor_allowlist", "allowed": ["a.com"]})));
    let block = kind(json!({"type": "vendor_blocklist", "vendors": ["a.com"]}));
    assert_eq!(block, kind(json!({"type": "vendor_blocklist", "blocked": ["a.com"]})));

    let approval = kind(json!({"type": "approval", "threshold": 1, "approverRoles": ["cfo"]}));
    let Kind::Approval(approval) = approval else { panic!("not an approval") };
    assert_eq!((approval.timeout_minutes, approval.approver_roles), (60, vec!["cfo".into()]));

    let window = kind(json!({"type": "time_window", "days": [1], "startHour": 9, "end": "17:30",
                             "timezone": "UTC"}));
    let Kind::TimeWindow(window) = window else { panic!("not a time window") };
    assert_eq!((window.start.as_str(), window.end.as_str()), ("09:00", "17:30"));

    let logic = kind(json!({"type": "custom", "engine": "jsonlogic",
                            "expression": "{\"==\": [1, 1]}"}));
    let Kind::Custom(logic) = logic else { panic!("not a custom rule") };
    assert_eq!(logic.expression, "{\"==\": [1, 1]}");
}

fn refuses(cases: &[(Value, &str)]) {
    for (written, wanted) in cases {
        let error = rule(written.clone()).unwrap_err().to_string();
        assert!(error.contains(wanted), "{written}: {error}");
    }
}

#[test]
fn a_rule_refuses_what_does_not_belong_to_it() {
    refuses(&[
        (json!({"type": "category", "allowed": ["a"], "days": [1]}), "unknown field `days`"),
        (json!({"type": "category", "alowed": ["a"]}), "unknown field `alowed`"),
        (json!({"type": "category"}), "missing field `allowed`"),
        (json!({"allowed": ["a"]}), "missing field `type`"),
        (json!({"type": "categories", "allowed": []}), "expected one of category, "),
        (json!({"type": "max_amount", "amount": 1.5}), "expected a whole number"),
        (json!({"type": "max_amount", "amount": 1.0}), "expected a whole number"),
        (json!({"type": "max_amount", "amount": "5"}), "expected a whole number"),
        (json!({"type": "max_amount", "amount": u64::MAX}), "expected a smaller number"),
        (
            json!({"type": "rate_limit", "maxTransactions": 1, "windowMinutes": 3_000_000_000_u64}),
            "expected a smaller number",
        ),
    ]);
}

#[test]
fn a_rule_refuses_values_it_cannot_mean() {
    refuses(&[
        (
            json!({"type": "time_window", "days": [1], "startHour": 9.5, "endHour": 17,
                "timezone": "UTC"}),
            "for other minutes give `start`",
        ),
        (
            json!({"type": "time_window", "days": [1], "startHour": 24, "endHour": 24,
                "timezone": "UTC"}),
            "from 0 to 23",
        ),
        (
            json!({"type": "time_window", "days": [1], "startHour": 9, "start": "09:00",
                "endHour": 17, "timezone": "UTC"}),
            "either `startHour` or `start`",
        ),
        (json!({"type": "geo"}), "exactly one of"),
        (json!({"type": "geo", "allowed": ["HR"], "blocked": ["KP"]}), "exactly one of"),
        (json!({"type": "protocol_restrict", "allowed": ["kyapay"]}), "only these protocols"),
        (json!({"type": "custom", "engine": "cel", "expression": {}}), "is a string"),
        (json!({"type": "custom", "engine": "cel", "expression": 5}), "must be a string"),
        (json!({"type": "vendor_cap", "vendor": "a", "amount": 1}), "missing field `period`"),
        (
            json!({"type": "vendor_cap", "vendor": "a", "amount": 1, "period": "yearly"}),
            "one of daily, weekly, monthly, none",
        ),
    ]);
}

const FILE: &str = "\
agent: researcher
name: Research
budget:
  total: 10000
  perTransaction: 1000
  currency: USD
  resetInterval: { period: monthly }
rules:
  - type: vendor_allowlist
    allowed: [api.openai.com, NO]
  - type: time_window
    days: [1, 2]
    startHour: 9
    endHour: 17
    timezone: UTC
  - type: custom
    engine: jsonlogic
    expression: { '<': [{ var: amount }, 500] }
validUntil: 2027-01-01T00:00:00+01:00
";

#[test]
fn a_file_is_read_and_what_is_written_reads_back_the_same() {
    let form: MandateForm = serde_saphyr::from_str(FILE).unwrap();
    assert_eq!(form.agent.as_deref(), Some("researcher"));
    assert_eq!(form.rules.len(), 3);
    assert_eq!(form.valid_until.unwrap().to_string(), "2026-12-31T23:00:00Z");

    let written = serde_saphyr::to_string(&form).unwrap();
    let again: MandateForm = serde_saphyr::from_str(&written).unwrap();
    assert_eq!(again, form, "{written}");
}

#[test]
fn a_mistake_in_a_file_is_reported_with_its_line() {
    let cases = [
        ("total: 10000", "total: 10.5", "whole number", 4),
        ("total: 10000", "total: \"10000\"", "whole number", 4),
        ("name: Research", "name: Research\nlimit: 5", "limit", 3),
        ("period: monthly", "period: yearly", "one of daily", 7),
        ("startHour: 9", "startHour: 9.5", "give `start`", 13),
        ("startHour: 9", "startHuor: 9", "startHuor", 13),
        ("type: time_window", "type: time_windows", "one of category", 11),
        ("2027-01-01T00:00:00+01:00", "2027-01-01", "RFC 3339", 19),
    ];
    for (good, bad, wanted, line) in cases {
        let file = FILE.replacen(good, bad, 1);
        let error = serde_saphyr::from_str::<MandateForm>(&file).unwrap_err();
        assert!(error.to_string().contains(wanted), "{bad}: {error}");
        assert_eq!(error.location().map(|place| place.line()), Some(line), "{bad}: {error}");
    }
}

#[test]
fn a_fault_of_a_whole_rule_is_reported_inside_that_rule() {
    let cases = [
        ("    days: [1, 2]\n", "", "days", 11..=15),
        ("    timezone: UTC", "    threshold: 5", "threshold", 11..=15),
        ("    endHour: 17", "    endHour: 17\n    end: \"17:00\"", "either", 11..=16),
    ];
    for (good, bad, wanted, lines) in cases {
        let file = FILE.replacen(good, bad, 1);
        let error = serde_saphyr::from_str::<MandateForm>(&file).unwrap_err();
        assert!(error.to_string().contains(wanted), "{bad}: {error}");
        let line = error.location().map(|place| place.line());
        assert!(line.is_some_and(|line| lines.contains(&line)), "{bad}: {line:?} {error}");
    }
}

#[test]
fn a_patch_tells_absent_from_null_and_masks_what_is_mentioned() {
    let patch = json!({"name": "n", "description": null, "validUntil": null, "rules": []});
    let patch: MandatePatch = serde_json::from_value(patch).unwrap();
    let update = patch.into_update("mdt_1".into(), String::new());
    let mut paths = update.update_mask.unwrap().paths;
    paths.sort();
    assert_eq!(paths, ["description", "name", "rules", "valid_until"]);
    assert_eq!(update.valid_until, None);

    let null_name: Result<MandatePatch, _> = serde_json::from_value(json!({"name": null}));
    assert!(null_name.is_err());
}

#[test]
fn times_before_1970_and_nanoseconds_survive() {
    for text in ["1969-12-31T23:59:59.5Z", "2026-01-31T09:00:00.000000001Z"] {
        let time: Time = text.parse().unwrap();
        let message = time.to_proto();
        assert!((0..1_000_000_000).contains(&message.nanos));
        assert_eq!(Time::from_proto(Some(&message)), Some(time));
        assert_eq!(time.to_string(), text);
    }
    assert_eq!(
        Time::from_proto(Some(&prost_types::Timestamp { seconds: i64::MAX, nanos: 0 })),
        None
    );
}

#[test]
fn every_specified_value_has_exactly_one_word() {
    fn check<T: Vocabulary + TryFrom<i32> + std::fmt::Debug>() {
        let known = (1..64).filter_map(|number| T::try_from(number).ok());
        for value in known {
            let word = Word(value).as_str();
            assert_eq!(Word::<T>::parse(word), Some(Word(value)), "{value:?}");
        }
        assert_eq!(Word::<T>::parse("unspecified"), None);
    }
    check::<v1::Period>();
    check::<v1::Protocol>();
    check::<v1::GeoSubject>();
    check::<v1::CustomEngine>();
    check::<v1::MandateStatus>();
    check::<v1::AgentStatus>();
    check::<v1::Framework>();
    check::<v1::Role>();
    check::<v1::Decision>();
    check::<v1::TransactionState>();
    check::<v1::Durability>();
}

#[test]
fn a_rule_of_an_unknown_kind_is_an_error_and_never_left_out() {
    let mandate = v1::Mandate {
        budget: Some(v1::Budget::default()),
        rules: vec![v1::Rule { kind: None }],
        ..v1::Mandate::default()
    };
    assert_eq!(MandateForm::try_from(mandate.clone()), Err(FormError::UnknownRule));
    assert_eq!(MandateView::try_from(mandate), Err(FormError::UnknownRule));
}

#[test]
fn the_secret_of_a_new_key_is_not_in_its_debug_text() {
    let view =
        ApiKeyCreatedView { api_key: v1::ApiKey::default().into(), key: Some("sk_secret".into()) };
    assert!(!format!("{view:?}").contains("secret"));
}
