//! Expressions of both languages and what they answer for one spend.
//!
//! The table of CEL is also run through the evaluator of the `cel` crate. Not here: what does
//! not compile.

use std::collections::BTreeMap;

use super::super::STEPS_MAX;
use super::*;

const CEL_TRUE: &[&str] = &[
    "true",
    "amount == 1500",
    "amount <= 50000 && vendor in ['openai.com', 'anthropic.com']",
    "!(vendor in ['a.com', 'b.com'])",
    "hour >= 8 && hour < 20 && weekday != 0 && weekday != 6",
    "currency == \"USD\" ? amount < 2000 : amount < 10",
    "currency == \"EUR\" ? false : currency == \"GBP\" ? false : true",
    "amount + 1 - 2 * 3 == 1495",
    "amount / 7 == 214 && -amount / 7 == -214 && -amount % 7 == -2",
    "--amount == 1500 && !!true",
    "-(-5) == 5 && 0x10 == 16 && -9223372036854775808 < 0",
    "weekday in [1, 2, 3, 4, 5]",
    "!(amount in []) && !(vendor in [])",
    "vendor.contains('nai') && vendor.startsWith('open') && vendor.endsWith('.com')",
    "vendor.matches('^[a-z]+[.]com$') && matches(vendor, 'ai') && !vendor.matches('^ai')",
    "size(vendor) == 10 && vendor.size() == 10 && size('\u{e9}\u{1f600}') == 2",
    "vendor + '/' + currency == 'openai.com/USD'",
    "string(amount) == '1500' && int('-5') == -5 && int(amount) == amount",
    "int(metadata.limit) > amount",
    "metadata.team == 'research' && metadata['a-b'] == 'x'",
    "has(metadata.team) && 'a-b' in metadata && !has(metadata.nothing)",
    "has(metadata.nothing) ? metadata.nothing == 'x' : true",
    "!has(metadata.nothing) || metadata.nothing == 'x'",
    "amount < 10 == false",
    "'a' < 'b' && 'B' < 'a' && vendor >= 'openai.com'",
    "agent_id == 'agent-7' && minute == 30",
    "r'\\d' == '\\\\d' && '''[[[''' != \"[\" // [[[ don't count",
    "(amount > 1 ? 'a' : 'b') == 'a' && (amount > 1 ? 1 : 2) == 1",
    "category == 'compute'",
];

#[test]
fn cel_answers_true() {
    for source in CEL_TRUE {
        assert_eq!(answer(Engine::Cel, source), Ok(true), "{source}");
        let negated = format!("!({}\n)", source);
        assert_eq!(answer(Engine::Cel, &negated), Ok(false), "{negated}");
    }
}

#[test]
fn cel_answers_what_the_cel_crate_answers() {
    for source in CEL_TRUE {
        let expected = properties::reference(source, &Sample::new().facts());
        assert_eq!(expected, Some(true), "{source}");
    }
}

#[test]
fn cel_names_what_keeps_it_from_an_answer() {
    let overflow = |operator| Err(CustomFailure::Overflow { operator });
    let by_zero = |operator| Err(CustomFailure::DivisionByZero { operator });
    let table = [
        ("protocol == 'x402'", missing("protocol")),
        ("protocol != 'x402'", missing("protocol")),
        ("!(protocol == 'x402')", missing("protocol")),
        ("!(protocol in ['x402'])", missing("protocol")),
        ("!description.contains('gift')", missing("description")),
        ("metadata.nothing != 'x'", missing("metadata.nothing")),
        ("metadata.note != 'x'", missing("metadata.note")),
        ("size(protocol) < 100", missing("protocol")),
        ("protocol == 'x' ? true : true", missing("protocol")),
        ("amount + 9223372036854775807 > 0", overflow("+")),
        ("-amount - 9223372036854775807 < 0", overflow("-")),
        ("amount * 9223372036854775807 > 0", overflow("*")),
        ("-(amount - 1500 - 9223372036854775807 - 1) > 0", overflow("-")),
        ("(amount - 1500 - 9223372036854775807 - 1) / -1 > 0", overflow("/")),
        ("amount / (amount - 1500) > 0", by_zero("/")),
        ("amount % (amount - 1500) >= 0", by_zero("%")),
        ("int(metadata.team) > 0", Err(CustomFailure::NotAnInteger { text: "research".into() })),
    ];
    for (source, expected) in table {
        assert_eq!(answer(Engine::Cel, source), expected, "{source}");
    }
}

#[test]
fn cel_absorbs_an_error_only_where_the_answer_does_not_depend_on_it() {
    let table = [
        ("protocol == 'x' || amount < 2000", Ok(true)),
        ("amount < 2000 || protocol == 'x'", Ok(true)),
        ("protocol == 'x' || amount > 2000", missing("protocol")),
        ("protocol == 'x' && amount > 2000", Ok(false)),
        ("protocol == 'x' && amount < 2000", missing("protocol")),
        ("!(protocol == 'x' && amount < 2000)", missing("protocol")),
        ("protocol == 'x' || description == 'y'", missing("protocol")),
    ];
    for (source, expected) in table {
        assert_eq!(answer(Engine::Cel, source), expected, "{source}");
    }
}

#[test]
fn the_record_name_makes_optional_variables_askable() {
    let table = [
        ("has(spend.category)", true),
        ("has(spend.protocol)", false),
        ("has(spend.amount) && spend.amount == amount", true),
        ("has(spend.metadata.team) && 'team' in spend.metadata", true),
        ("has(metadata.note) || 'note' in metadata", false),
        ("has(spend.protocol) ? spend.protocol == 'x402' : amount < 2000", true),
        ("spend.metadata['team'] == spend.metadata.team", true),
    ];
    for (source, expected) in table {
        assert_eq!(answer(Engine::Cel, source), Ok(expected), "{source}");
    }
}

#[test]
fn jsonlogic_answers() {
    let table = [
        ("true", true),
        (r#"{"==":[{"var":"amount"},1500]}"#, true),
        (r#"{"===":[{"var":["amount"]},1500]}"#, true),
        (r#"{"!=":[{"var":"vendor"},"a.com"]}"#, true),
        (r#"{"!==":[{"var":"vendor"},"openai.com"]}"#, false),
        (r#"{"<":[1,{"var":"amount"},1500]}"#, false),
        (r#"{"<=":[1,{"var":"amount"},1500]}"#, true),
        (r#"{">":[1501,{"var":"amount"},0]}"#, true),
        (r#"{">=":[1500,{"var":"amount"}]}"#, true),
        (r#"{"<":["a",{"var":"vendor"},"p"]}"#, true),
        (r#"{"in":[{"var":"vendor"},["z.com","openai.com","a.com"]]}"#, true),
        (r#"{"in":[{"var":"weekday"},[5,4,3,2,1]]}"#, true),
        (r#"{"in":[{"var":"amount"},[]]}"#, false),
        (r#"{"in":["nai",{"var":"vendor"}]}"#, true),
        (r#"{"and":[true,{"or":[false,{"!":false}]}]}"#, true),
    ];
    for (source, expected) in table {
        assert_eq!(answer(Engine::JsonLogic, source), Ok(expected), "{source}");
    }
}

#[test]
fn jsonlogic_computes() {
    let table = [
        (r#"{"if":[false,1,true,2,3]}"#, 2),
        (r#"{"?:":[{"==":[{"var":"hour"},9]},1,2]}"#, 1),
        (r#"{"+":[{"var":"amount"},1,2]}"#, 1503),
        (r#"{"+":[{"var":"metadata.limit"}]}"#, 2000),
        (r#"{"+":{"var":"metadata.limit"}}"#, 2000),
        (r#"{"-":[{"var":"amount"},1]}"#, 1499),
        (r#"{"-":{"var":"amount"}}"#, -1500),
        (r#"{"*":[2,3,7]}"#, 42),
        (r#"{"%":[{"-":7},4]}"#, -3),
        (r#"{"min":[3,{"var":"minute"},2]}"#, 2),
        (r#"{"max":[3,{"var":"minute"},2]}"#, 30),
    ];
    for (source, expected) in table {
        let source = format!(r#"{{"==":[{source},{expected}]}}"#);
        assert_eq!(answer(Engine::JsonLogic, &source), Ok(true), "{source}");
    }
    let joined = r#"{"==":[{"cat":[{"var":"vendor"},"/",{"var":"amount"}]},"openai.com/1500"]}"#;
    assert_eq!(answer(Engine::JsonLogic, joined), Ok(true));
}

#[test]
fn a_missing_variable_fails_every_jsonlogic_operator() {
    let operands = [
        r#"{"==":[X,"a"]}"#,
        r#"{"!=":[X,"a"]}"#,
        r#"{"===":["a",X]}"#,
        r#"{"!==":["a",X]}"#,
        r#"{"<":[X,"a"]}"#,
        r#"{">":["b","a",X]}"#,
        r#"{"<=":["b","a",X]}"#,
        r#"{">=":[X,"a"]}"#,
        r#"{"!":{"in":[X,["a"]]}}"#,
        r#"{"!":{"in":["a",X]}}"#,
        r#"{"!":{"in":[X,"a"]}}"#,
        r#"{"!=":[{"cat":["a",X]},"a"]}"#,
        r#"{"!=":[{"+":X},0]}"#,
        r#"{"or":[{"==":[X,"a"]},true]}"#,
        r#"{"and":[{"==":[X,"a"]},false]}"#,
        r#"{"if":[{"==":[X,"a"]},true,true]}"#,
        r#"{"!":{"and":[true,{"==":[X,"a"]}]}}"#,
        r#"{"==":[{"if":[true,X,"b"]},"b"]}"#,
    ];
    for operand in operands {
        for name in ["protocol", "description", "metadata.nothing", "metadata.note"] {
            let source = operand.replace('X', &format!(r#"{{"var":"{name}"}}"#));
            assert_eq!(answer(Engine::JsonLogic, &source), missing(name), "{source}");
        }
    }
}

#[test]
fn jsonlogic_guards_keep_a_missing_variable_unread() {
    let table = [
        (r#"{"missing":["category","amount","metadata.team"]}"#, false),
        (r#"{"missing":["category","protocol"]}"#, true),
        (r#"{"missing":"metadata.note"}"#, true),
        (r#"{"missing_some":[1,["category","protocol"]]}"#, false),
        (r#"{"missing_some":[2,["category","protocol"]]}"#, true),
        (r#"{"and":[{"!":{"missing":["protocol"]}},{"==":[{"var":"protocol"},"x"]}]}"#, false),
        (r#"{"or":[{"missing":["protocol"]},{"==":[{"var":"protocol"},"x"]}]}"#, true),
        (r#"{"if":[{"missing":["protocol"]},true,{"==":[{"var":"protocol"},"x"]}]}"#, true),
        (r#"{"==":[{"var":["protocol","none"]},"none"]}"#, true),
        (r#"{"==":[{"var":["category","none"]},"compute"]}"#, true),
        (r#"{"==":[{"var":["metadata.note","none"]},"none"]}"#, true),
        (r#"{"==":[{"var":["amount",0]},1500]}"#, true),
    ];
    for (source, expected) in table {
        assert_eq!(answer(Engine::JsonLogic, source), Ok(expected), "{source}");
    }
}

#[test]
fn an_empty_required_variable_counts_as_missing() {
    let sample = Sample { vendor: String::new(), ..Sample::new() };
    let rule = compile(Engine::Cel, "vendor != 'evil.com'");
    assert_eq!(rule.evaluate(&sample.facts()), missing("vendor"));
}

#[test]
fn too_much_text_is_not_read() {
    let sample = Sample { description: Some("x".repeat(1_000_000)), ..Sample::new() };
    for source in ["!description.matches('y')", "!description.contains('y') || true"] {
        let rule = compile(Engine::Cel, source);
        let expected = Err(CustomFailure::CostExceeded { max: STEPS_MAX });
        assert_eq!(rule.evaluate(&sample.facts()), expected, "{source}");
    }
}

#[test]
fn the_largest_useful_text_is_read() {
    let sample = Sample { description: Some("x".repeat(4096)), ..Sample::new() };
    let source = vec!["description.contains('y')"; 70].join("||");
    assert_eq!(compile(Engine::Cel, &source).evaluate(&sample.facts()), Ok(false));
}

#[test]
fn a_failure_echoes_little_and_on_one_line() {
    let value = format!("a\n\u{202e}{}", "é".repeat(500));
    let metadata = BTreeMap::from([("limit".to_owned(), value)]);
    let sample = Sample { metadata, ..Sample::new() };
    let rule = compile(Engine::Cel, "int(metadata.limit) > 0");
    let message = rule.evaluate(&sample.facts()).unwrap_err().to_string();
    assert!(message.starts_with("`a\\n\\u{202e}éé"), "{message}");
    assert!(message.chars().count() < 100, "{message}");
}

#[test]
fn a_rule_keeps_its_source_and_language() {
    fn shared<T: Send + Sync + Clone + std::fmt::Debug>(value: &T) -> T {
        value.clone()
    }
    let rule = shared(&compile(Engine::Cel, "amount < 5"));
    assert_eq!((rule.engine(), rule.source()), (Engine::Cel, "amount < 5"));
    assert_eq!(rule, compile(Engine::Cel, "amount < 5"));
    assert_ne!(compile(Engine::Cel, "true"), compile(Engine::JsonLogic, "true"));
}
