//! The life of a mandate as a table, and every way in which a policy can be wrong.
//!
//! What the signature covers is in `tests/canonical`. Not here: single rules (`rule`).

use super::*;
use crate::domain::rule::{CustomEngine, GeoSubject, RuleSpec};
use crate::domain::samples::{at, mandate, policy, usd};

mod canonical;

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn allow(vendors: &[&str]) -> RuleSpec {
    RuleSpec::VendorAllowlist { vendors: texts(vendors) }
}

fn block(vendors: &[&str]) -> RuleSpec {
    RuleSpec::VendorBlocklist { vendors: texts(vendors) }
}

fn violations(policy: &Policy) -> Vec<(String, String)> {
    let found = policy.compile().err().unwrap_or_default();
    found.into_iter().map(|violation| (violation.field, violation.why)).collect()
}

fn fields(policy: &Policy) -> Vec<String> {
    violations(policy).into_iter().map(|(field, _)| field).collect()
}

#[test]
fn every_step_from_every_status_goes_where_the_table_says() {
    use MandateStatus::{Active, Draft, Expired, Paused, Revoked};
    use MandateStep::{Activate, Pause, Resume, Revoke};
    const NO: Result<Option<MandateStatus>, ()> = Err(());
    let (none, to) = (Ok(None), |status| Ok(Some(status)));
    // Before the end of validity, and after it: the columns are the four steps.
    let table = [
        (Draft, false, [to(Active), NO, NO, NO]),
        (Draft, true, [NO, NO, NO, NO]),
        (Active, false, [none, to(Paused), none, to(Revoked)]),
        (Active, true, [NO, NO, NO, to(Revoked)]),
        (Paused, false, [NO, none, to(Active), to(Revoked)]),
        (Paused, true, [NO, NO, NO, to(Revoked)]),
        (Expired, false, [NO, NO, NO, to(Revoked)]),
        (Expired, true, [NO, NO, NO, to(Revoked)]),
        (Revoked, false, [NO, NO, NO, none]),
        (Revoked, true, [NO, NO, NO, none]),
    ];
    let end = at("2026-06-01T00:00:00Z");
    for (status, over, row) in table {
        let mut mandate = mandate(1, policy(100, Period::None, Vec::new()));
        mandate.status = status;
        mandate.policy.valid_until = Some(end);
        let now = if over { end } else { at("2026-05-31T23:59:59.999999Z") };
        for (step, expected) in [Activate, Pause, Resume, Revoke].into_iter().zip(row) {
            let result = mandate.step(step, now);
            assert_eq!(result.map_err(drop), expected, "{step:?} of {status:?}, over: {over}");
            if let Err(error) = result {
                assert_eq!(error.from, mandate.status_at(now));
            }
        }
    }
}

#[test]
fn a_refused_step_says_what_the_mandate_is_and_what_it_cannot_be() {
    let mut mandate = mandate(1, policy(100, Period::None, Vec::new()));
    mandate.status = MandateStatus::Revoked;
    let told = |step| mandate.step(step, at("2026-01-01T00:00:00Z")).unwrap_err().to_string();
    assert_eq!(told(MandateStep::Activate), "a mandate that is revoked cannot be activated");
    assert_eq!(told(MandateStep::Pause), "a mandate that is revoked cannot be paused");
    assert_eq!(told(MandateStep::Resume), "a mandate that is revoked cannot be resumed");
}

#[test]
fn validity_ends_at_its_end_and_needs_no_job_to_do_so() {
    use MandateStatus::{Active, Draft, Expired, Paused, Revoked};
    let end = at("2026-06-01T00:00:00Z");
    let before = at("2026-05-31T23:59:59.999999Z");
    for (status, after) in [
        (Draft, Draft),
        (Active, Expired),
        (Paused, Expired),
        (Expired, Expired),
        (Revoked, Revoked),
    ] {
        let mut mandate = mandate(1, policy(100, Period::None, Vec::new()));
        mandate.status = status;
        assert_eq!(mandate.status_at(Timestamp::MAX), status, "{status:?} without an end");
        mandate.policy.valid_until = Some(end);
        assert_eq!(mandate.status_at(before), status);
        assert_eq!(mandate.status_at(end), after);
    }
}

#[test]
fn a_mandate_can_be_changed_until_it_was_ended() {
    use MandateStatus::{Active, Draft, Expired, Paused, Revoked};
    let before = at("2026-05-31T23:59:59.999999Z");
    let end = at("2026-06-01T00:00:00Z");
    for (status, editable) in
        [(Draft, true), (Active, true), (Paused, true), (Expired, false), (Revoked, false)]
    {
        let mut mandate = mandate(1, policy(100, Period::None, Vec::new()));
        mandate.status = status;
        mandate.policy.valid_until = Some(end);
        assert_eq!(mandate.editable(before).is_ok(), editable, "{status:?}");
        // Its end is an end; a draft has not begun.
        assert_eq!(mandate.editable(end).is_ok(), status == Draft, "{status:?} at its end");
    }
}

#[test]
fn limits_are_valid_up_to_their_bounds_and_no_further() {
    let with = |total, per_transaction| {
        let mut policy = policy(100, Period::None, Vec::new());
        policy.budget.total = total;
        policy.budget.per_transaction = per_transaction;
        fields(&policy)
    };
    let (total, ceiling) = ("budget.total", "budget.per_transaction");
    for (limits, wrong) in [
        ((1, 1), &[][..]),
        ((LIMIT_MAX, AMOUNT_MAX), &[]),
        ((100, 100), &[]),
        ((100, 101), &[ceiling]),
        ((0, 1), &[total]),
        ((-1, -1), &[total, ceiling]),
        ((LIMIT_MAX + 1, 1), &[total]),
        ((LIMIT_MAX, AMOUNT_MAX + 1), &[ceiling]),
        ((i64::MIN, i64::MAX), &[total, ceiling]),
    ] {
        assert_eq!(with(limits.0, limits.1), wrong, "{limits:?}");
    }
}

#[test]
fn validity_has_a_length_and_not_more_than_ten_years() {
    let with = |from: &str, until: &str| {
        let mut policy = policy(100, Period::None, Vec::new());
        policy.valid_from = at(from);
        policy.valid_until = Some(at(until));
        fields(&policy)
    };
    let from = "2026-01-01T00:00:00Z";
    assert_eq!(with(from, "2026-01-01T00:00:00.000001Z"), [""; 0]);
    assert_eq!(with(from, "2036-01-01T00:00:00Z"), [""; 0]);
    assert_eq!(with(from, from), ["valid_until"]);
    assert_eq!(with(from, "2025-12-31T23:59:59Z"), ["valid_until"]);
    assert_eq!(with(from, "2037-01-01T00:00:00Z"), ["valid_until"]);
    assert_eq!(with("-009999-01-03T00:00:00Z", "9999-12-30T00:00:00Z"), ["valid_until"]);
}

#[test]
fn fifty_rules_are_enough() {
    let rules = |count| vec![RuleSpec::RateLimit { max_transactions: 1, window_minutes: 1 }; count];
    assert_eq!(policy(100, Period::None, rules(50)).compile().unwrap().len(), 50);
    assert_eq!(fields(&policy(100, Period::None, rules(51))), ["rules"]);
}

#[test]
fn a_second_rule_of_a_kind_is_refused_where_it_could_only_confuse() {
    let category = |word: &str| RuleSpec::Category { allowed: texts(&[word]) };
    let rules = vec![category("a"), allow(&["gmail"]), category("b"), category("c")];
    assert_eq!(
        violations(&policy(100, Period::None, rules)),
        [
            (
                "rules[2]".to_owned(),
                "a second category rule; write it together with rules[0]".to_owned()
            ),
            (
                "rules[3]".to_owned(),
                "a second category rule; write it together with rules[2]".to_owned()
            ),
        ]
    );
}

#[test]
fn a_vendor_that_is_allowed_and_blocked_is_refused_however_it_is_spelled() {
    let rules = vec![
        block(&["https://WWW.OpenAI.com:443/v1", "Acme  TRAVEL", "openai.com"]),
        allow(&["gmail", "www.openai.com", "acme travel"]),
    ];
    assert_eq!(
        fields(&policy(100, Period::None, rules)),
        ["rules[0].vendor_blocklist.vendors[0]", "rules[0].vendor_blocklist.vendors[1]"]
    );
    // A part of what is allowed may be blocked, and the other way round.
    for rules in [
        vec![allow(&["openai.com"]), block(&["beta.openai.com"])],
        vec![allow(&["api.openai.com"]), block(&["openai.com"])],
    ] {
        assert_eq!(fields(&policy(100, Period::None, rules)), [""; 0]);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one policy with everything wrong, and what it is told")]
fn everything_that_is_wrong_is_said_at_once_with_its_path() {
    let hours = |start: &str, end: &str, zone: &str| RuleSpec::TimeWindow {
        days: vec![1],
        start: start.to_owned(),
        end: end.to_owned(),
        timezone: zone.to_owned(),
    };
    let custom = |expression: &str| RuleSpec::Custom {
        engine: CustomEngine::Cel,
        expression: expression.to_owned(),
        description: String::new(),
    };
    let geo = |allowed: &[&str], blocked: &[&str]| RuleSpec::Geo {
        allowed: texts(allowed),
        blocked: texts(blocked),
        subject: GeoSubject::Vendor,
    };
    let cap = |vendor: &str, amount| RuleSpec::VendorCap {
        vendor: vendor.to_owned(),
        amount,
        period: Period::Daily,
    };
    let (threshold, timeout_minutes) = (101, 44_641);
    let rules = vec![
        allow(&["gmail", "co.uk", "127.0.0.1"]),
        cap("a..b", 0),
        RuleSpec::RateLimit { max_transactions: 0, window_minutes: 44_641 },
        RuleSpec::SpendRate { max_amount: 0, window_minutes: 0 },
        hours("24:00", "09:00", "UTC"),
        hours("09:00", "09:00", "UTC"),
        hours("09:00", "17:00", "Mars/Base"),
        geo(&["DE", "de"], &["USA"]),
        geo(&[], &[]),
        custom("amount <"),
        RuleSpec::Approval {
            threshold,
            approver_roles: Vec::new(),
            approvals_required: 1,
            timeout_minutes,
        },
        RuleSpec::MaxAmount { amount: -1 },
        RuleSpec::CategoryCap { category: "a".to_owned(), amount: -5, period: Period::None },
        RuleSpec::Category { allowed: Vec::new() },
        RuleSpec::ProtocolRestrict { allowed: Vec::new() },
        block(&[]),
    ];
    let mut wrong = policy(100, Period::None, rules);
    wrong.budget.per_transaction = 200;
    wrong.valid_until = Some(wrong.valid_from);
    assert_eq!(
        fields(&wrong),
        [
            "budget.per_transaction",
            "valid_until",
            "rules[0].vendor_allowlist.vendors[1]",
            "rules[0].vendor_allowlist.vendors[2]",
            "rules[1].vendor_cap.amount",
            "rules[1].vendor_cap.vendor",
            "rules[2].rate_limit.max_transactions",
            "rules[2].rate_limit.window_minutes",
            "rules[3].spend_rate.max_amount",
            "rules[3].spend_rate.window_minutes",
            "rules[4].time_window.start",
            "rules[5].time_window.end",
            "rules[6].time_window.timezone",
            "rules[7].geo",
            "rules[7].geo.allowed_countries[1]",
            "rules[7].geo.blocked_countries[0]",
            "rules[8].geo",
            "rules[9].custom.expression",
            "rules[10].approval.threshold",
            "rules[10].approval.timeout_minutes",
            "rules[11].max_amount.amount",
            "rules[12].category_cap.amount",
            "rules[13].category.allowed",
            "rules[14].protocol_restrict.allowed",
            "rules[15].vendor_blocklist.vendors",
        ]
    );
    for (field, why) in violations(&wrong) {
        assert!(!why.is_empty() && !why.ends_with('.') && !why.contains('\n'), "{field}: {why}");
    }
}

#[test]
fn statuses_are_stored_by_their_words() {
    use MandateStatus::{Active, Draft, Expired, Paused, Revoked};
    for status in [Draft, Active, Paused, Expired, Revoked] {
        let stored = serde_json::to_string(&status).unwrap();
        assert_eq!(stored, format!("\"{}\"", status.word()));
        assert_eq!(serde_json::from_str::<MandateStatus>(&stored).unwrap(), status);
    }
}

#[test]
fn a_stored_mandate_is_read_back_as_it_was() {
    let rules = vec![allow(&["b\u{fc}cher.example"]), block(&["gmail"])];
    let mut mandate = mandate(1, policy(100, Period::Weekly, rules));
    mandate.policy.valid_until = Some(at("2026-01-01T00:00:00.000001Z"));
    mandate.policy.budget.currency = usd();
    let stored = serde_json::to_string(&mandate).unwrap();
    assert_eq!(serde_json::from_str::<Mandate>(&stored).unwrap(), mandate);
}
