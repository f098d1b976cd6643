//! Errors as callers see them: words, violations, and what is never in them.

use super::*;

#[test]
fn a_reason_loses_its_prefix() {
    assert_eq!(reason_word(ErrorReason::IdempotencyKeyReused), "IDEMPOTENCY_KEY_REUSED");
    assert_eq!(reason_word(ErrorReason::Unspecified), "UNSPECIFIED");
}

#[test]
fn a_status_carries_reason_metadata_fields_and_delay() {
    let status = refusal(Code::ResourceExhausted, ErrorReason::Overloaded, "too much at once")
        .with("kind", "agent")
        .field("amount", "is required")
        .retry_after(Duration::from_millis(1500))
        .status();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.message(), "too much at once");
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("OVERLOADED", "quetra"));
    assert_eq!(info.metadata.get("kind").map(String::as_str), Some("agent"));
    let violation = &details.bad_request().unwrap().field_violations[0];
    assert_eq!(
        (violation.field.as_str(), violation.description.as_str()),
        ("amount", "is required")
    );
    assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_millis(1500)));
}

#[test]
fn at_most_twenty_violations_are_listed() {
    let mut building = refusal(Code::InvalidArgument, ErrorReason::InvalidFields, "invalid");
    for index in 0..50 {
        building = building.field(format!("rules[{index}]"), "is wrong");
    }
    let details = building.status().get_error_details();
    assert_eq!(details.bad_request().unwrap().field_violations.len(), VIOLATIONS_MAX);
}

#[test]
fn a_fault_is_told_once_however_many_checks_find_it() {
    let list = |paths: &[&str]| {
        let mut list = Violations::default();
        for path in paths {
            list.add((*path).to_owned(), "is wrong".to_owned());
        }
        list
    };
    let mut found = list(&["budget", "rules[1].kind", "vendor"]);
    let others = ["budget.total", "rules[1]", "rules[10]", "vendor", "vendors", "rules[2].kind"];
    found.add_others(list(&others));
    let paths: Vec<_> = found.found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        paths,
        ["budget", "rules[1].kind", "vendor", "rules[10]", "vendors", "rules[2].kind"]
    );
}

#[test]
fn an_excerpt_is_short_and_escaped() {
    assert_eq!(excerpt("plain"), "plain");
    assert_eq!(excerpt("a\nb"), "a\\nb");
    let long = excerpt(&"x".repeat(1000));
    assert_eq!(long.chars().count(), 33);
    assert!(long.ends_with('…'));
}
