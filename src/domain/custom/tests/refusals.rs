//! What does not compile, and the words of the refusal.
//!
//! Not here: sources meant to bring the parser down.

use super::*;

fn assert_refused(engine: Engine, table: &[(&str, &str)]) {
    for (source, expected) in table {
        let message = refusal(engine, source).to_string();
        assert!(
            message.starts_with(expected),
            "{source}\n  got:    {message}\n  wanted: {expected}"
        );
    }
}

const CEL_MISTYPED: &[(&str, &str)] = &[
    (
        "amount == 'x'",
        "type error at line 1 column 8: `==` wants operands of one type, found int, string",
    ),
    ("vendor + 1 == 'x'", "type error at line 1 column 8: `+` wants string, operand 2 is int"),
    ("1 + vendor == 1", "type error at line 1 column 3: `+` wants int, operand 2 is string"),
    ("amount", "type error at line 1 column 1: a rule is a bool, this is int"),
    ("'true'", "type error at line 1 column 1: a rule is a bool, this is string"),
    ("[1]", "type error at line 1 column 1: a rule is a bool, this is list of ints"),
    ("amount && true", "type error at line 1 column 8: `&&` wants bool, operand 1 is int"),
    ("true &&\n !vendor", "type error at line 2 column 2: `!` wants bool, operand 1 is string"),
    ("amount ? true : false", "type error at line 1 column 8: `?:` wants bool, operand 1 is int"),
    ("true ? 1 : 'a'", "type error at line 1 column 6: `?:` wants string, operand 1 is int"),
    ("true ? [1] : [2]", "type error at line 1 column 6: `?:` wants bool, int or string values"),
    ("true < false", "type error at line 1 column 6: `<` wants int or string, found bool, bool"),
    ("[1] == [1]", "type error at line 1 column 5: `==` wants bool, int or string, found"),
    ("1 < 2 < 3", "type error at line 1 column 7: `<` wants int or string, found bool, int"),
    ("vendor in [1]", "type error at line 1 column 8: `in` wants a string or an int"),
    ("vendor in 'openai.com'", "type error at line 1 column 8: `in` wants a string or an int"),
    ("vendor in ['a', 1]", "type error at line 1 column 11: a list holds ints or strings, this"),
    ("vendor in [category]", "type error at line 1 column 12: a list holds literal"),
    ("vendor in [['a']]", "type error at line 1 column 12: a list holds literal"),
    ("-vendor == 'x'", "type error at line 1 column 1: `-` wants int, operand 1 is string"),
    ("size(amount) == 1", "type error at line 1 column 5: `size` wants string, operand 1 is int"),
    ("size(vendor, vendor) == 1", "type error at line 1 column 5: `size` wants 1 operand, found"),
    ("vendor.contains(1)", "type error at line 1 column 16: `contains` wants string"),
    (
        "vendor.contains()",
        "type error at line 1 column 16: `contains` wants 2 operands, found string",
    ),
    ("int(true) == 1", "type error at line 1 column 4: `int` wants string, operand 1 is bool"),
    ("int() == 1", "type error at line 1 column 4: `int` wants 1 operand, found nothing"),
    (
        "vendor.matches(category)",
        "type error at line 1 column 15: the pattern of `matches` has to be",
    ),
    ("vendor.matches('(')", "type error at line 1 column 15: the pattern of `matches` is not a"),
    (
        "vendor.matches('((a{99}){99}){99}')",
        "type error at line 1 column 15: the pattern of `matches` is too large",
    ),
];

#[test]
fn cel_refuses_what_does_not_type_check() {
    assert_refused(Engine::Cel, CEL_MISTYPED);
    let long = format!("vendor.matches('{}')", "a".repeat(257));
    assert_refused(
        Engine::Cel,
        &[(&long, "type error at line 1 column 15: the pattern of `matches` is longer")],
    );
}

const CEL_UNKNOWN: &[(&str, &str)] = &[
    ("amont < 5", "unknown variable `amont` at line 1 column 1, known are: amount, currency,"),
    ("true || nothing", "unknown variable `nothing` at line 1 column 9"),
    ("metadata == 'x'", "unknown variable `metadata` at"),
    ("metadata.a.b == 'x'", "unknown variable `metadata.a.b` at"),
    ("vendor.name == 'x'", "unknown variable `vendor.name` at"),
    ("spend == 'x'", "unknown variable `spend` at"),
    ("spend.spend.amount == 1", "unknown variable `spend.spend.amount` at"),
    ("has(category.x)", "unknown variable `category.x` at"),
    ("has(spend.amont)", "unknown variable `spend.amont` at"),
    (".amount < 5", "unknown variable `.amount` at"),
    ("'' in metadata", "unknown variable `metadata.` at"),
    ("now() > 5", "unknown function `now` at line 1 column 4, known are: size, contains,"),
    ("vendor.lowerAscii() == 'x'", "unknown function `lowerAscii` at"),
    ("contains(vendor, 'x')", "unknown function `contains` at"),
    ("vendor.string() == 'x'", "unknown function `string` at"),
    ("timestamp('x') == 1", "unknown function `timestamp` at"),
    ("double('1') == 1", "unknown function `double` at"),
];

#[test]
fn cel_refuses_unknown_names() {
    assert_refused(Engine::Cel, CEL_UNKNOWN);
}

const CEL_UNSUPPORTED: &[(&str, &str)] = &[
    ("amount < 1.5", "a fraction at line 1 column 10 is not supported, write whole minor units"),
    ("amount < 5u", "an unsigned integer at line 1 column 10 is not supported"),
    ("b'a' == b'a'", "bytes at line 1 column 1 is not supported"),
    ("category == null", "null at line 1 column 13 is not supported, use has()"),
    ("[1, 2].all(x, x > 1)", "a loop at"),
    ("['a'].exists(x, x == vendor)", "a loop at"),
    ("['a'].exists_one(x, x == vendor)", "a loop at"),
    ("size(['a'].map(x, x)) == 1", "a loop at"),
    ("['a'].filter(x, true) == ['a']", "a loop at"),
    ("{'a': 1}.a == 1", "a field of a value at"),
    ("{'a': 1}['a'] == 1", "an index at"),
    ("['a'][0] == 'a'", "an index at"),
    ("amount in {1: 2}", "a map or message at"),
    ("Spend{amount: 1} == 1", "a map or message at"),
    ("metadata[vendor] == 'x'", "a computed key at"),
    ("vendor in metadata", "a computed key at"),
    ("has(vendor.size().x)", "has() of a value at"),
];

#[test]
fn cel_refuses_what_the_subset_leaves_out() {
    assert_refused(Engine::Cel, CEL_UNSUPPORTED);
}

const CEL_SYNTAX: &[(&str, &str)] = &[
    ("", "syntax error at line 1 column 1: unexpected end of line"),
    ("amount <> 5", "syntax error at line 1 column 9: unexpected `> 5`"),
    ("amount <", "syntax error at line 1 column 9: unexpected end of line"),
    ("vendor == 'é' &&\n  == 5", "syntax error at line 2 column 3: unexpected `== 5`"),
    ("vendor == 'a", "syntax error at line 1 column 11: unexpected `\\'a`"),
    ("amount = 5", "syntax error at line 1 column 8: unexpected `= 5`"),
    ("has(category)", "syntax error at line 1 column 5: has() takes a field"),
    ("amount < 99999999999999999999", "syntax error at line 1 column 10: an integer beyond 64"),
    ("package == 1", "syntax error at line 1 column 1: unexpected `package == 1`"),
    ("a.`b` == 1", "syntax error at line 1 column 2: unexpected `.`b` == 1`"),
    ("[?vendor] == 1", "syntax error at line 1 column 2: unexpected"),
];

#[test]
fn cel_refuses_bad_syntax_and_says_where() {
    assert_refused(Engine::Cel, CEL_SYNTAX);
}

const JSON_MISTYPED: &[(&str, &str)] = &[
    (r#"{"var":"amount"}"#, "type error at /: a rule is a bool, this is int"),
    (r#"[true]"#, "type error at /: a list holds literal"),
    (
        r#"{"and":[true,{"==":[{"var":"amount"},"x"]}]}"#,
        "type error at /and/1/==: `==` wants operands of one type, found int, string",
    ),
    (r#"{"and":[1,true]}"#, "type error at /and: `and` wants bool, operand 1 is int"),
    (r#"{"and":[]}"#, "type error at /and: `and` wants bool, found nothing"),
    (r#"{"!":{"var":"vendor"}}"#, "type error at /!: `!` wants bool, operand 1 is string"),
    (r#"{"!":[true,false]}"#, "type error at /!: `!` wants 1 operand"),
    (r#"{"if":["a",true,false]}"#, "type error at /if: `if` wants bool, operand 1 is string"),
    (r#"{"if":[true,true]}"#, "type error at /if: `if` wants pairs of condition and value"),
    (r#"{"if":[true]}"#, "type error at /if: `if` wants pairs of condition and value"),
    (r#"{"if":[]}"#, "type error at /if: `if` wants pairs of condition and value"),
    (r#"{"==":[1,1,1]}"#, "type error at /==: `==` wants 2 operands, found int, int, int"),
    (r#"{"==":[1]}"#, "type error at /==: `==` wants 2 operands, found int"),
    (r#"{"<":[1,2,3,4]}"#, "type error at /<: `<` wants 2 or 3 operands"),
    (r#"{"<":[1,2,"3"]}"#, "type error at /<: `<` wants operands of one type"),
    (r#"{"==":[{"-":[1,2,3]},1]}"#, "type error at /==/0/-: `-` wants 2 operands"),
    (r#"{"==":[{"min":[]},1]}"#, "type error at /==/0/min: `min` wants int, found nothing"),
    (r#"{"==":[{"+":["1","2"]},1]}"#, "type error at /==/0/+: `+` wants int, operand 1 is string"),
    (r#"{"==":[{"cat":[true]},"x"]}"#, "type error at /==/0/cat: `cat` wants string"),
    (r#"{"in":["a",["a",1]]}"#, "type error at /in/1: a list holds ints or strings"),
    (r#"{"in":["a",[{"var":"vendor"}]]}"#, "type error at /in/1: a list holds literal"),
    (r#"{"in":[1,["a"]]}"#, "type error at /in: `in` wants a string or an int"),
    (r#"{"==":[[1],[1]]}"#, "type error at /==: `==` wants bool, int or string"),
    (r#"{"==":[{"var":["category",1]},"x"]}"#, "type error at /==/0/var: the default of `var`"),
    (r#"{"var":[]}"#, "type error at /var: `var` wants a name"),
    (r#"{"var":5}"#, "type error at /var: the name of a variable"),
    (r#"{"var":{"var":"vendor"}}"#, "type error at /var: the name of a variable"),
    (r#"{"missing":[]}"#, "type error at /missing: a list of at least one"),
    (
        r#"{"missing_some":[0,["category"]]}"#,
        "type error at /missing_some: `missing_some` wants at",
    ),
    (
        r#"{"missing_some":[2,["category"]]}"#,
        "type error at /missing_some: `missing_some` wants at",
    ),
    (
        r#"{"missing_some":[-1,["category"]]}"#,
        "type error at /missing_some: `missing_some` wants at",
    ),
    (r#"{"==":[{"missing":["category"]},[]]}"#, "type error at /==: `==` wants operands of one"),
];

#[test]
fn jsonlogic_refuses_what_does_not_type_check() {
    assert_refused(Engine::JsonLogic, JSON_MISTYPED);
}

const JSON_UNKNOWN: &[(&str, &str)] = &[
    (r#"{"/":[1,2]}"#, "unknown operator `/` at /, known are: var, missing,"),
    (r#"{"!":{"all":[[1],true]}}"#, "unknown operator `all` at /!/0"),
    (r#"{"==":[{"var":"amont"},1]}"#, "unknown variable `amont` at /==/0/var, known are: amount,"),
    (r#"{"==":[{"var":""},1]}"#, "unknown variable `` at"),
    (r#"{"==":[{"var":"metadata"},1]}"#, "unknown variable `metadata` at"),
    (r#"{"==":[{"var":"metadata."},1]}"#, "unknown variable `metadata.` at"),
    (r#"{"missing":["category","amont"]}"#, "unknown variable `amont` at /missing,"),
    (r#"{"==":[{"var":"category"},null]}"#, "null at /==/1 is not supported, use `missing`"),
    (r#"{"==":[{"var":["category",null]},"x"]}"#, "null at /==/0/var is not supported"),
    ("", "syntax error at line 1 column 1: EOF"),
    ("{}", "syntax error at line 1 column 2: an object without an operator"),
    (r#"{"!":true,"!":false}"#, "syntax error at line 1 column 13: an object with more than one"),
    (
        r#"{"and":[true],"or":[true]}"#,
        "syntax error at line 1 column 18: an object with more than one",
    ),
    (r#"{"==":[1.0,1]}"#, "syntax error at line 1 column 10: a number with a fraction"),
    (r#"{"==":[1e3,1]}"#, "syntax error at line 1 column 10: a number with a fraction"),
    (r#"{"==":[1e999,1]}"#, "syntax error at line 1 column"),
    (r#"{"==":[9223372036854775808,1]}"#, "syntax error at line 1 column 26: an integer beyond 64"),
    (
        r#"{"==":[99999999999999999999,1]}"#,
        "syntax error at line 1 column 27: a number with a fraction or",
    ),
    (r#"{"==":[NaN,1]}"#, "syntax error at line 1 column 8: expected value"),
    ("true false", "syntax error at line 1 column 6: trailing characters"),
];

#[test]
fn jsonlogic_refuses_unknown_names_and_bad_json() {
    assert_refused(Engine::JsonLogic, JSON_UNKNOWN);
}
