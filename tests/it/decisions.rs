//! The decision vectors of `tests/vectors`, run by the pure core and by a real server.
//!
//! One file format serves every implementation and every client; `tests/vectors/README.md` has it.
//! Not here: laws over random cases, which live beside the core.

mod core;
mod country_file;
mod server;
mod vector;

use std::collections::BTreeSet;

use quetra::proto::v1;

use self::vector::Vector;

/// Fails with everything that is wrong in any of the vectors.
fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_vectors_have_every_rule_both_ways_and_every_reason() {
    let vectors = vector::load();
    assert!(vectors.len() >= 240, "only {} vectors", vectors.len());
    let names = vectors.iter().map(|vector| vector.name.as_str()).collect::<BTreeSet<_>>();
    assert_eq!(names.len(), vectors.len(), "a name is used twice");

    let results = || vectors.iter().flat_map(|vector| &vector.expect.evaluations);
    let of = |passed| {
        let some = results().filter(move |result| result.passed == passed);
        some.map(|result| result.rule_type.as_str()).collect::<BTreeSet<_>>()
    };
    let all = [
        "approval",
        "budget_per_tx",
        "budget_total",
        "category",
        "category_cap",
        "currency_mismatch",
        "custom",
        "geo",
        "max_amount",
        "protocol_restrict",
        "rate_limit",
        "spend_rate",
        "time_window",
        "vendor_allowlist",
        "vendor_blocklist",
        "vendor_cap",
    ];
    assert_eq!(of(true).into_iter().collect::<Vec<_>>(), all);
    assert_eq!(of(false).into_iter().collect::<Vec<_>>(), all[1..], "approval never fails");

    let given = vectors.iter().flat_map(|vector| &vector.expect.reasons);
    let given = given.map(String::as_str).collect::<BTreeSet<_>>();
    let known = (1..100).filter_map(|number| v1::RejectionReason::try_from(number).ok());
    for reason in known {
        let word = reason.as_str_name().trim_start_matches("REJECTION_REASON_").to_lowercase();
        assert!(given.contains(word.as_str()), "no vector is rejected with {word}");
    }
}

#[test]
fn a_field_that_is_not_in_the_format_is_refused() {
    let minimal = r#"{ "vectors": [ { "name": "n", "at": "2026-01-01T00:00:00Z",
        "spend": { "amount": 1, "vendor": "gmail" },
        "expect": { "decision": "rejected", "evaluations": [], "reasons": [] } } ] }"#;
    assert_eq!(vector::read(minimal).unwrap().len(), 1);
    for (place, with) in [
        (r#""name": "n","#, r#""name": "n", "unknown": 1,"#),
        (r#""amount": 1,"#, r#""amount": 1, "unknown": 1,"#),
        (r#""amount": 1,"#, r#""amount": 1.5,"#),
        (r#""reasons": []"#, r#""reasons": [], "unknown": 1"#),
        (r#""evaluations": []"#, r#""evaluations": [{"ruleType":"geo","passed":true,"x":1}]"#),
        (r#""at": "#, r#""mandate": {"name":"m","budget":{"total":1},"rules":[]}, "at": "#),
        (r#""at": "#, r#""organization": {"zone":"UTC"}, "at": "#),
        (r#""at": "#, r#""mandateStatus": "asleep", "at": "#),
    ] {
        let broken = minimal.replacen(place, with, 1);
        assert_ne!(broken, minimal);
        assert!(vector::read(&broken).is_err(), "{broken}");
    }
}

#[test]
fn the_core_decides_every_vector_as_expected() {
    let mut wrong = Vec::new();
    for vector in vector::load() {
        core::run(&vector, &mut wrong);
    }
    assert_none(&wrong);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_decides_every_vector_as_expected() {
    // What a server sees of a vendor's country takes a name look-up, which no test makes.
    let (seen, unseen): (Vec<_>, Vec<_>) = vector::load()
        .into_iter()
        .partition(|vector: &Vector| vector.observed.vendor_country.is_none());
    assert_eq!(unseen.len(), 4, "vectors that need a vendor's country");
    let callers = seen.iter().map(|vector| vector.observed.caller_country.clone());
    let callers = callers.collect::<BTreeSet<_>>();
    let mut wrong = Vec::new();
    for caller in callers {
        let here = seen.iter().filter(|vector| vector.observed.caller_country == caller);
        server::run(&here.collect::<Vec<_>>(), caller.as_deref(), &mut wrong).await;
    }
    assert_none(&wrong);
}
