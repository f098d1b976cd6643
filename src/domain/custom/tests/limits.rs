//! Each limit from both sides: the largest source that compiles, and the next one.
//!
//! Not here: sources meant to bring the parser down.

use super::super::{CEL_SOURCE_MAX, DEPTH_MAX, JSON_LOGIC_SOURCE_MAX, NODES_MAX};
use super::*;

#[test]
fn sources_are_as_long_as_their_limit_and_no_longer() {
    let cel = format!("true{}", " ".repeat(CEL_SOURCE_MAX - 4));
    compile(Engine::Cel, &cel);
    let found = CEL_SOURCE_MAX + 1;
    let too_long = CustomError::TooLong { found, max: CEL_SOURCE_MAX };
    assert_eq!(refusal(Engine::Cel, &format!("{cel} ")), too_long);
    let json = format!("true{}", " ".repeat(JSON_LOGIC_SOURCE_MAX - 4));
    compile(Engine::JsonLogic, &json);
    let found = JSON_LOGIC_SOURCE_MAX + 1;
    let too_long = CustomError::TooLong { found, max: JSON_LOGIC_SOURCE_MAX };
    assert_eq!(refusal(Engine::JsonLogic, &format!("{json} ")), too_long);
}

#[test]
fn nesting_is_as_deep_as_the_limit_and_no_deeper() {
    let too_deep = CustomError::TooDeep { max: DEPTH_MAX };
    let nots = |n: usize| format!("{}true{}", r#"{"!":"#.repeat(n), "}".repeat(n));
    compile(Engine::JsonLogic, &nots(DEPTH_MAX - 1));
    assert_eq!(refusal(Engine::JsonLogic, &nots(DEPTH_MAX)), too_deep);
    let nots = |n: usize| format!("{}true{}", r#"{"!":["#.repeat(n), "]}".repeat(n));
    compile(Engine::JsonLogic, &nots(DEPTH_MAX - 1));
    let sum = |n: usize| format!("{} > 0", vec!["amount"; n].join("+"));
    compile(Engine::Cel, &sum(DEPTH_MAX - 1));
    assert_eq!(refusal(Engine::Cel, &sum(DEPTH_MAX)), too_deep);
    let brackets = |n: usize| format!("{}true{}", "(".repeat(n), ")".repeat(n));
    compile(Engine::Cel, &brackets(DEPTH_MAX));
    assert_eq!(refusal(Engine::Cel, &brackets(DEPTH_MAX + 1)), too_deep);
}

#[test]
fn nodes_are_as_many_as_the_limit_and_no_more() {
    let too_many = CustomError::TooMany { what: "nodes", max: NODES_MAX };
    let all = |n: usize| format!(r#"{{"and":[{}]}}"#, vec!["true"; n].join(","));
    compile(Engine::JsonLogic, &all(NODES_MAX - 1));
    assert_eq!(refusal(Engine::JsonLogic, &all(NODES_MAX)), too_many);
    let any = |n: usize| vec!["true"; n].join("||");
    compile(Engine::Cel, &any(NODES_MAX - 1));
    assert_eq!(refusal(Engine::Cel, &any(NODES_MAX)), too_many);
}

#[test]
fn a_list_of_a_thousand_is_one_node() {
    let list = |n: usize| (0..n).map(|i| format!("\"v{i}\"")).collect::<Vec<_>>().join(",");
    let json = |n: usize| format!(r#"{{"in":[{{"var":"vendor"}},[{}]]}}"#, list(n));
    assert_eq!(answer(Engine::JsonLogic, &json(1000)), Ok(false));
    let too_many = CustomError::TooMany { what: "entries in a list", max: 1000 };
    assert_eq!(refusal(Engine::JsonLogic, &json(1001)), too_many);
    let cel = |n: usize| format!("amount in [{}]", vec!["1"; n].join(","));
    assert_eq!(answer(Engine::Cel, &cel(1000)), Ok(false));
    assert_eq!(refusal(Engine::Cel, &cel(1001)), too_many);
}

#[test]
fn a_refusal_echoes_little_and_on_one_line() {
    let name = format!("a\n\u{202e}\u{7}{}", "b".repeat(5000));
    let source = serde_json::json!({ name: [1] }).to_string();
    let message = refusal(Engine::JsonLogic, &source).to_string();
    let echoed = message.split('`').nth(1).unwrap();
    assert!(echoed.starts_with("a\\n\\u{202e}\\u{7}bbb"), "{echoed}");
    assert!(echoed.chars().count() < 90 && echoed.ends_with('…'), "{echoed}");
    let message = refusal(Engine::Cel, &format!("true {}", "\u{202e}".repeat(500))).to_string();
    assert!(message.is_ascii() || message.contains('…'), "{message}");
    assert!(!message.contains('\u{202e}'), "{message}");
}
