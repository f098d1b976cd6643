//! The stored and signed form of rules, their results by example, and the list's indexes.
//!
//! Every rule with every edge is in `tests/vectors`; what a mandate may combine in `mandate`. Not
//! here: vendors, time windows and expressions themselves.

use super::*;
use crate::domain::decision::{RejectionReason, RuleResult};
use crate::domain::samples::{CATEGORIES, at, spend, usd};
use crate::domain::spend::{Observed, Spend};
use check::Setting;
use jiff::tz::TimeZone;

mod lists;

fn specs() -> Vec<(&'static str, RuleSpec)> {
    let text = |text: &str| text.to_owned();
    vec![
        (r#"{"type":"category","allowed":["a"]}"#, RuleSpec::Category { allowed: vec![text("a")] }),
        (
            r#"{"type":"vendor_allowlist","vendors":["gmail"]}"#,
            RuleSpec::VendorAllowlist { vendors: vec![text("gmail")] },
        ),
        (
            r#"{"type":"vendor_blocklist","vendors":["gmail"]}"#,
            RuleSpec::VendorBlocklist { vendors: vec![text("gmail")] },
        ),
        (
            r#"{"type":"vendor_cap","vendor":"gmail","amount":5,"period":"weekly"}"#,
            RuleSpec::VendorCap { vendor: text("gmail"), amount: 5, period: Period::Weekly },
        ),
        (
            r#"{"type":"category_cap","category":"a","amount":5,"period":"none"}"#,
            RuleSpec::CategoryCap { category: text("a"), amount: 5, period: Period::None },
        ),
        (r#"{"type":"max_amount","amount":5}"#, RuleSpec::MaxAmount { amount: 5 }),
        (
            r#"{"type":"rate_limit","max_transactions":5,"window_minutes":1}"#,
            RuleSpec::RateLimit { max_transactions: 5, window_minutes: 1 },
        ),
        (
            r#"{"type":"spend_rate","max_amount":5,"window_minutes":1}"#,
            RuleSpec::SpendRate { max_amount: 5, window_minutes: 1 },
        ),
        (
            r#"{"type":"time_window","days":[0,6],"start":"22:00","end":"06:00","timezone":"UTC"}"#,
            RuleSpec::TimeWindow {
                days: vec![0, 6],
                start: text("22:00"),
                end: text("06:00"),
                timezone: text("UTC"),
            },
        ),
        (
            r#"{"type":"geo","allowed":["DE"],"blocked":[],"subject":"caller"}"#,
            RuleSpec::Geo {
                allowed: vec![text("DE")],
                blocked: Vec::new(),
                subject: GeoSubject::Caller,
            },
        ),
        (
            r#"{"type":"protocol_restrict","allowed":["x402","stripe_cc"]}"#,
            RuleSpec::ProtocolRestrict { allowed: vec![Protocol::X402, Protocol::StripeCc] },
        ),
        (
            r#"{"type":"approval","threshold":5,"approver_roles":["boss"],"timeout_minutes":60}"#,
            RuleSpec::Approval {
                threshold: 5,
                approver_roles: vec![text("boss")],
                approvals_required: 1,
                timeout_minutes: 60,
            },
        ),
        (
            r#"{"type":"custom","engine":"cel","expression":"true","description":"d"}"#,
            RuleSpec::Custom {
                engine: CustomEngine::Cel,
                expression: text("true"),
                description: text("d"),
            },
        ),
    ]
}

fn tested(rule: &RuleSpec, spend: &Spend) -> RuleResult {
    let zone = TimeZone::UTC;
    let observed = Observed::default();
    let setting = Setting::new(spend, &observed, (&zone, at("2026-03-10T12:00:00Z")), usd());
    check::stateless(&rule.compile(1_000).unwrap(), &setting)
}

#[test]
fn a_rule_is_stored_and_signed_in_a_form_that_never_changes() {
    for (text, spec) in specs() {
        assert_eq!(serde_json::to_string(&spec).unwrap(), text);
        assert_eq!(serde_json::from_str::<RuleSpec>(text).unwrap(), spec);
        assert!(text.contains(&format!(r#""type":"{}""#, spec.rule_type())), "{text}");
        assert!(spec.compile(1_000).is_ok(), "{text}");
    }
}

#[test]
fn a_stored_rule_with_anything_unknown_is_not_read_as_something_weaker() {
    for (text, _) in specs() {
        let more = text.replacen('{', r#"{"unknown":1,"#, 1);
        assert!(serde_json::from_str::<RuleSpec>(&more).is_err(), "{more}");
    }
    for text in [
        r#"{"type":"unheard_of"}"#,
        r#"{"allowed":["a"]}"#,
        r#"{"type":"max_amount"}"#,
        r#"{"type":"max_amount","amount":1.5}"#,
        r#"{"type":"max_amount","amount":"5"}"#,
        r#"{"type":"vendor_cap","vendor":"gmail","amount":5,"period":"yearly"}"#,
        r#"{"type":"protocol_restrict","allowed":["cash"]}"#,
    ] {
        assert!(serde_json::from_str::<RuleSpec>(text).is_err(), "{text}");
    }
}

#[test]
fn kinds_that_combine_may_be_repeated_and_the_others_not() {
    let single = specs().into_iter().filter(|(_, spec)| spec.single());
    let single = single.map(|(_, spec)| spec.rule_type()).collect::<Vec<_>>();
    assert_eq!(
        single,
        [
            "category",
            "vendor_allowlist",
            "vendor_blocklist",
            "max_amount",
            "protocol_restrict",
            "approval"
        ]
    );
}

#[test]
fn a_rule_that_needs_the_ledger_is_never_passed_without_it() {
    for (text, spec) in specs() {
        let stateful = ["vendor_cap", "category_cap", "rate_limit", "spend_rate"];
        if stateful.contains(&spec.rule_type()) {
            let result = tested(&spec, &spend(0, "gmail", Some("a")));
            assert_eq!(result.failure, Some(RejectionReason::CustomRuleError), "{text}");
            assert_eq!(result.rule_type, spec.rule_type());
        }
    }
}

#[test]
fn a_long_list_is_told_by_its_first_entries_in_order() {
    let words = (0..12).rev().map(|number| format!("word-{number:02}"));
    let rule = RuleSpec::Category { allowed: words.collect() };
    let told = tested(&rule, &spend(1, "gmail", None)).detail;
    let shown = (0..8).map(|number| format!("word-{number:02}")).collect::<Vec<_>>().join(", ");
    assert_eq!(told, format!("a category is needed, one of: {shown} and 4 more"));
    let rule = RuleSpec::Category { allowed: CATEGORIES.map(str::to_owned).to_vec() };
    let told = tested(&rule, &spend(1, "gmail", Some("RESEARCH"))).detail;
    assert_eq!(told, "the category is not one of: Research, food, research, travel");
}

#[test]
fn a_custom_rule_that_fails_says_what_it_means_and_why() {
    let rule = |expression: &str, description: &str| RuleSpec::Custom {
        engine: CustomEngine::Cel,
        expression: expression.to_owned(),
        description: description.to_owned(),
    };
    let told = |expression, description| {
        tested(&rule(expression, description), &spend(7, "gmail", None)).detail
    };
    assert_eq!(told("amount < 5", "small sums"), "does not hold: small sums");
    assert_eq!(told("amount < 5", ""), "does not hold: the custom rule");
    assert_eq!(told("amount < 9", "small sums"), "passed: small sums");
    let error = told("category == 'a'", "only a");
    assert!(error.starts_with("could not be computed (") && error.ends_with(": only a"), "{error}");
}

#[test]
fn a_custom_rule_reads_the_clock_of_the_organization() {
    let rule = RuleSpec::Custom {
        engine: CustomEngine::Cel,
        expression: "hour == 0 && minute == 15 && weekday == 0".to_owned(),
        description: String::new(),
    };
    let (spend, observed) = (spend(7, "gmail", None), Observed::default());
    let compiled = rule.compile(1_000).unwrap();
    let judged = |zone: &str, now: &str| {
        let zone = crate::domain::period::parse_zone(zone).unwrap();
        check::stateless(&compiled, &Setting::new(&spend, &observed, (&zone, at(now)), usd()))
            .passed()
    };
    // Sunday 00:15 in Kathmandu is Saturday 18:30 in UTC.
    assert!(judged("Asia/Kathmandu", "2026-03-14T18:30:00Z"));
    assert!(!judged("UTC", "2026-03-14T18:30:00Z"));
    assert!(judged("UTC", "2026-03-15T00:15:59.999999Z"));
}
