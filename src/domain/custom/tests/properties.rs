//! Properties: compiling and evaluating are total, both languages agree with each other and with
//! the `cel` crate, and no answer depends on a variable that was missing.
//!
//! Not here: a second evaluator of our own; the reference for CEL is the crate itself.

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::*;
use crate::domain::samples::sources;

/// What the `cel` crate answers, `None` for an error. Absent variables are not bound.
pub(super) fn reference(source: &str, facts: &Facts<'_>) -> Option<bool> {
    let program = cel::Program::compile(source).ok()?;
    let mut context = cel::Context::default();
    let numbers = [("amount", facts.amount), ("hour", facts.hour), ("minute", facts.minute)];
    for (name, value) in numbers.into_iter().chain([("weekday", facts.weekday)]) {
        context.add_variable_from_value(name, value);
    }
    let required = [("currency", facts.currency), ("vendor", facts.vendor)];
    for (name, value) in required.into_iter().chain([("agent_id", facts.agent_id)]) {
        context.add_variable_from_value(name, value.to_owned());
    }
    for (name, value) in [("category", facts.category), ("description", facts.description)] {
        if let Some(value) = value {
            context.add_variable_from_value(name, value.to_owned());
        }
    }
    let metadata = facts.metadata.iter().filter(|(_, value)| !value.is_empty());
    let metadata: std::collections::HashMap<String, String> =
        metadata.map(|(key, value)| (key.clone(), value.clone())).collect();
    context.add_variable_from_value("metadata", metadata);
    match program.execute(&context) {
        Ok(cel::Value::Bool(answer)) => Some(answer),
        _ => None,
    }
}

/// One random expression in both languages.
#[derive(Debug, Clone)]
struct Pair {
    cel: String,
    json: String,
}

fn pair(cel: impl Into<String>, json: impl Into<String>) -> Pair {
    Pair { cel: cel.into(), json: json.into() }
}

fn binary(left: &Pair, operator: (&str, &str), right: &Pair) -> Pair {
    let (in_cel, in_json) = operator;
    let cel = format!("({} {in_cel} {})", left.cel, right.cel);
    Pair { cel, json: format!(r#"{{"{in_json}":[{},{}]}}"#, left.json, right.json) }
}

fn choice(of: &(Pair, Pair, Pair)) -> Pair {
    let (condition, value, otherwise) = of;
    let cel = format!("({} ? {} : {})", condition.cel, value.cel, otherwise.cel);
    let (a, b, c) = (&condition.json, &value.json, &otherwise.json);
    Pair { cel, json: format!(r#"{{"if":[{a},{b},{c}]}}"#) }
}

fn int() -> impl Strategy<Value = Pair> + Clone {
    let names = &["amount", "hour", "minute", "weekday"];
    let names = prop::sample::select(&names[..]);
    let constants = prop_oneof![-3_i64..3, Just(1500), Just(i64::MAX), Just(i64::MIN)];
    let leaf = prop_oneof![
        names.prop_map(|name| pair(name, format!(r#"{{"var":"{name}"}}"#))),
        constants.prop_map(|value| pair(format!("({value})"), value.to_string())),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        let operators = prop::sample::select(&["+", "-", "*", "%"][..]);
        (inner.clone(), operators, inner).prop_map(|(a, op, b)| binary(&a, (op, op), &b))
    })
}

fn text() -> impl Strategy<Value = Pair> + Clone {
    let variables = &["vendor", "category", "description", "metadata.team", "metadata.no"];
    let variables = prop::sample::select(&variables[..]);
    let constants = prop::sample::select(&["openai.com", "compute", "a", "research"][..]);
    let leaf = prop_oneof![
        variables.prop_map(|name| pair(name, format!(r#"{{"var":"{name}"}}"#))),
        constants.prop_map(|text| pair(format!("'{text}'"), format!("\"{text}\""))),
    ];
    leaf.prop_recursive(2, 6, 2, |inner| {
        (inner.clone(), inner).prop_map(|(a, b)| binary(&a, ("+", "cat"), &b))
    })
}

fn boolean() -> impl Strategy<Value = Pair> + Clone {
    let compare = prop::sample::select(&["==", "!=", "<", "<=", ">", ">="][..]);
    let listed = |value: Pair| {
        let cel = format!("({} in ['compute', 'a'])", value.cel);
        Pair { cel, json: format!(r#"{{"in":[{},["compute","a"]]}}"#, value.json) }
    };
    let leaf = prop_oneof![
        any::<bool>().prop_map(|value| pair(value.to_string(), value.to_string())),
        (int(), compare.clone(), int()).prop_map(|(a, op, b)| binary(&a, (op, op), &b)),
        (text(), compare, text()).prop_map(|(a, op, b)| binary(&a, (op, op), &b)),
        text().prop_map(listed),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        let logic = prop::sample::select(&[("&&", "and"), ("||", "or"), ("==", "==")][..]);
        let not = |a: Pair| pair(format!("!{}", a.cel), format!(r#"{{"!":{}}}"#, a.json));
        prop_oneof![
            (inner.clone(), logic, inner.clone()).prop_map(|(a, op, b)| binary(&a, op, &b)),
            inner.clone().prop_map(not),
            (inner.clone(), inner.clone(), inner).prop_map(|of| choice(&of)),
        ]
    })
}

fn sample() -> impl Strategy<Value = Sample> {
    let value = || prop::option::of(prop::sample::select(&["", "a", "compute", "b"][..]));
    (prop_oneof![-2_i64..3, any::<i64>()], value(), value()).prop_map(|(amount, a, b)| Sample {
        amount,
        category: a.map(str::to_owned),
        description: b.map(str::to_owned),
        ..Sample::new()
    })
}

/// The rule of a source, if it is within the limits.
fn compiled(engine: Engine, source: &str) -> Option<CustomRule> {
    match CustomRule::compile(engine, source) {
        Ok(rule) => Some(rule),
        Err(error @ (CustomError::TooDeep { .. } | CustomError::TooLong { .. })) => {
            drop(error);
            None
        }
        Err(error) => panic!("{source}: {error}"),
    }
}

/// A pair's rules, those that are within the limits.
struct Rules {
    cel: Option<CustomRule>,
    json: Option<CustomRule>,
}

impl Rules {
    fn agree_with_the_cel_crate(&self, source: &str, sample: &Sample) -> TestCaseResult {
        let Some(rule) = &self.cel else { return Ok(()) };
        let mut bound = sample.clone();
        bound.category = bound.category.filter(|text| !text.is_empty());
        bound.description = bound.description.filter(|text| !text.is_empty());
        let ours = rule.evaluate(&sample.facts()).ok();
        prop_assert_eq!(ours, reference(source, &bound.facts()));
        Ok(())
    }

    fn agree_with_each_other(&self, sample: &Sample) -> TestCaseResult {
        let (Some(cel), Some(json)) = (&self.cel, &self.json) else { return Ok(()) };
        // CEL absorbs errors, so it answers wherever JSONLogic does, and sometimes more.
        if let Ok(answer) = json.evaluate(&sample.facts()) {
            prop_assert_eq!(cel.evaluate(&sample.facts()), Ok(answer));
        }
        Ok(())
    }

    fn answer_alike_for_every_value_of_what_is_missing(
        &self,
        sample: Sample,
        value: String,
    ) -> TestCaseResult {
        let absent = Sample { category: None, ..sample };
        let present = Sample { category: Some(value), ..absent.clone() };
        for rule in [&self.cel, &self.json].into_iter().flatten() {
            if let Ok(answer) = rule.evaluate(&absent.facts()) {
                prop_assert_eq!(rule.evaluate(&present.facts()), Ok(answer));
            }
        }
        Ok(())
    }
}

/// A valid source with some of its bytes replaced, doubled, or cut out.
fn mutated(source: &str, edits: &[(usize, u8, u8)]) -> String {
    let mut bytes = source.as_bytes().to_vec();
    for (at, kind, byte) in edits {
        let at = at.checked_rem(bytes.len()).unwrap_or(0);
        match kind % 3 {
            0 if at < bytes.len() => bytes[at] = *byte,
            1 => bytes.insert(at, *byte),
            _ => drop(bytes.drain(at..bytes.len().min(at.saturating_add(3)))),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

proptest! {
    #![proptest_config(sources())]

    /// In one property, as compiling is what takes the time.
    #[test]
    fn the_languages_and_the_cel_crate_agree_whatever_is_missing(
        source in boolean(),
        sample in sample(),
        value in "[a-z]{1,3}|compute|openai[.]com",
    ) {
        let rules = Rules {
            cel: compiled(Engine::Cel, &source.cel),
            json: compiled(Engine::JsonLogic, &source.json),
        };
        rules.agree_with_the_cel_crate(&source.cel, &sample)?;
        rules.agree_with_each_other(&sample)?;
        rules.answer_alike_for_every_value_of_what_is_missing(sample, value)?;
    }

    #[test]
    fn compiling_anything_is_total(source in "\\PC{0,80}", tokens in prop::collection::vec(
        prop::sample::select(&["amount", "vendor", "metadata", "has", "(", ")", "[", "]", "{", "}",
            ".", ",", "?", ":", "||", "&&", "!", "-", "+", "==", "<", "in", "'a'", "1", "1.5", " ",
            "all", "x", "\"", "var", "and", "null"][..]), 0..60)) {
        for source in [source, tokens.concat()] {
            for engine in [Engine::Cel, Engine::JsonLogic] {
                if let Ok(rule) = CustomRule::compile(engine, &source) {
                    let _ = rule.evaluate(&Sample::new().facts());
                }
            }
        }
    }

    #[test]
    fn mutated_sources_are_compiled_or_refused(
        source in boolean(),
        sample in sample(),
        edits in prop::collection::vec((any::<usize>(), any::<u8>(), any::<u8>()), 1..4),
    ) {
        for (engine, source) in [(Engine::Cel, &source.cel), (Engine::JsonLogic, &source.json)] {
            if let Ok(rule) = CustomRule::compile(engine, &mutated(source, &edits)) {
                let _ = rule.evaluate(&sample.facts());
            }
        }
    }
}
