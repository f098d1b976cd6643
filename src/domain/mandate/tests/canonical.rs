//! What the signature covers: one text for one policy, another one for every other policy.
//!
//! Not here: hashing and signing (`crypto`, `engine::signing`).

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::domain::samples::{agent, config, instants, mandate_id, policies, rules};

/// The same document with the keys of every object in the opposite order.
fn reversed(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let entries = map.iter().rev();
            let entries = entries.map(|(key, value)| format!("{}:{}", json!(key), reversed(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(" , "))
        }
        Value::Array(items) => {
            format!("[ {} ]", items.iter().map(reversed).collect::<Vec<_>>().join(" , "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// Every text and number of a document, with the path to it.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| leaves(value, &format!("{path}/{key}"), found));
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                leaves(item, &format!("{path}/{index}"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            found.push(path.to_owned());
        }
    }
}

fn full() -> Mandate {
    let custom = RuleSpec::Custom {
        engine: CustomEngine::Cel,
        expression: "amount < 5".to_owned(),
        description: "few".to_owned(),
    };
    let hours = RuleSpec::TimeWindow {
        days: vec![1, 2],
        start: "09:00".to_owned(),
        end: "17:00".to_owned(),
        timezone: "UTC".to_owned(),
    };
    let rules = vec![allow(&["gmail", "openai.com"]), hours, custom];
    let mut mandate = mandate(1, policy(1_000, Period::Daily, rules));
    mandate.policy.valid_until = Some(at("2026-01-01T00:00:00Z"));
    mandate
}

#[test]
fn a_durability_is_part_of_the_promise_and_leaves_no_trace_where_none_is_asked_for() {
    let mut mandate = full();
    let without = mandate.canonical_policy();
    let mut texts = vec![without.clone()];
    for level in Durability::ALL {
        mandate.policy.durability = Some(level);
        let text = mandate.canonical_policy();
        let asked = format!(r#""durability":"{}","#, level.word());
        assert_eq!(text.replace(&asked, ""), without);
        texts.push(text);
    }
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 4);
}

#[test]
fn the_text_is_canonical_json_of_everything_that_was_promised() {
    let agent = "01010101-0101-0101-0101-010101010101";
    let id = format!("mdt_{}", "01".repeat(16));
    let expected = format!(
        concat!(
            r#"{{"agent_id":"{}","budget":{{"currency":"USD","per_transaction":1000,"#,
            r#""reset":"daily","total":1000}},"mandate_id":"{}","#,
            r#""rules":[{{"type":"vendor_allowlist","vendors":["gmail","openai.com"]}},"#,
            r#"{{"days":[1,2],"end":"17:00","start":"09:00","timezone":"UTC","#,
            r#""type":"time_window"}},"#,
            r#"{{"description":"few","engine":"cel","expression":"amount < 5","#,
            r#""type":"custom"}}],"valid_from":"2000-01-01T00:00:00Z","#,
            r#""valid_until":"2026-01-01T00:00:00Z"}}"#,
        ),
        agent, id
    );
    assert_eq!(full().canonical_policy(), expected);
}

#[test]
fn status_version_and_names_are_no_promise() {
    let before = full();
    let mut after = before.clone();
    after.version += 1;
    after.status = MandateStatus::Paused;
    after.name = "another".to_owned();
    after.description = "another".to_owned();
    after.updated_at = at("2026-01-01T00:00:00Z");
    after.revocation_reason = "because".to_owned();
    after.policy_hash = "x".to_owned();
    after.signature = "x".to_owned();
    after.signing_key_id = "x".to_owned();
    assert_eq!(after.canonical_policy(), before.canonical_policy());
}

#[test]
fn a_change_of_any_single_value_changes_the_text() {
    let original = full();
    let text = original.canonical_policy();
    let document: Value = serde_json::from_str(&text).unwrap();
    let mut paths = Vec::new();
    leaves(&document, "", &mut paths);
    assert!(paths.len() >= 20, "{paths:?}");
    // Another value that the same field can have.
    let other = |path: &str, value: &Value| match value {
        Value::Number(number) => json!(number.as_i64().unwrap() + 1),
        Value::String(_) if path.starts_with("/valid") => json!("2025-05-05T05:05:05Z"),
        _ if path.ends_with("currency") => json!("EUR"),
        _ if path.ends_with("reset") => json!("weekly"),
        _ if path.ends_with("engine") => json!("jsonlogic"),
        _ => json!("another"),
    };
    for path in paths.iter().filter(|path| !path.ends_with("type") && !path.ends_with("_id")) {
        let mut changed = document.clone();
        let place = changed.pointer_mut(path).unwrap();
        *place = other(path, place);
        let fields = changed.as_object_mut().unwrap();
        fields.retain(|key, _| !key.ends_with("_id"));
        let policy: Policy =
            serde_json::from_value(changed).unwrap_or_else(|e| panic!("{path}: {e}"));
        let changed = Mandate { policy, ..original.clone() };
        assert_ne!(changed.canonical_policy(), text, "{path}");
    }
    for changed in [
        Mandate { id: mandate_id(9), ..original.clone() },
        Mandate { agent_id: agent(9), ..original.clone() },
    ] {
        assert_ne!(changed.canonical_policy(), text);
    }
}

#[test]
fn moving_a_value_between_fields_or_rules_changes_the_text() {
    let text = |rules: Vec<RuleSpec>| {
        canonical_policy(mandate_id(1), agent(1), &policy(9, Period::None, rules))
    };
    let one = text(vec![allow(&["gmail", "openai.com"])]);
    for other in [
        vec![allow(&["openai.com", "gmail"])],
        vec![allow(&["gmail"]), allow(&["openai.com"])],
        vec![block(&["gmail", "openai.com"])],
        vec![allow(&["gmail\",\"openai.com"])],
        vec![allow(&["gmail", "openai.com", ""])],
        Vec::new(),
    ] {
        assert_ne!(text(other), one);
    }
}

/// Policies with texts that nobody would write, but somebody could send.
fn wild() -> impl Strategy<Value = Policy> {
    let odd = prop::collection::vec(any::<String>(), 0..4);
    let level = prop::option::of(prop::sample::select(&Durability::ALL[..]));
    (policies(rules(), 4), odd, any::<String>(), instants(), level).prop_map(
        |(policy, odd, text, until, level)| {
            let mut policy = policy;
            policy.durability = level;
            policy.valid_until = Some(until);
            policy.rules.push(RuleSpec::Category { allowed: odd.clone() });
            policy.rules.push(RuleSpec::VendorAllowlist { vendors: odd });
            policy.rules.push(RuleSpec::Custom {
                engine: CustomEngine::Jsonlogic,
                expression: text.clone(),
                description: text,
            });
            policy
        },
    )
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_policy_can_be_read_back_so_no_two_policies_share_a_text(policy in wild()) {
        let text = canonical_policy(mandate_id(1), agent(1), &policy);
        let mut document: Map<String, Value> = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(document.remove("agent_id"), Some(json!(agent(1))));
        prop_assert_eq!(document.remove("mandate_id"), Some(json!(mandate_id(1))));
        let read: Policy = serde_json::from_value(Value::Object(document)).unwrap();
        prop_assert_eq!(&canonical_policy(mandate_id(1), agent(1), &read), &text);
        prop_assert_eq!(read, policy);
    }

    #[test]
    fn the_order_of_keys_and_white_space_do_not_matter(policy in wild()) {
        let text = canonical_policy(mandate_id(1), agent(1), &policy);
        let document = serde_json::to_value(&policy).unwrap();
        let read: Policy = serde_json::from_str(&reversed(&document)).unwrap();
        prop_assert_eq!(&canonical_policy(mandate_id(1), agent(1), &read), &text);

        let whole: Value = serde_json::from_str(&text).unwrap();
        let whole: Value = serde_json::from_str(&reversed(&whole)).unwrap();
        let mut again = String::new();
        write_canonical(&whole, &mut again);
        prop_assert_eq!(again, text);
    }
}
