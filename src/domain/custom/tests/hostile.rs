//! Sources written to crash or stall a compiler.
//!
//! They are compiled on a thread as small as a server's worker. Not here: assertions on time,
//! which would depend on the machine; an exponential source would never end.

use std::thread;

use super::*;

/// Stack of a tokio worker.
const WORKER_STACK: usize = 2 * 1024 * 1024;

/// Compiles and evaluates on a small stack; an overflow would end the whole test process.
fn survives(engine: Engine, source: &str) {
    let source = source.to_owned();
    let builder = thread::Builder::new().stack_size(WORKER_STACK);
    let run = move || {
        if let Ok(rule) = CustomRule::compile(engine, &source) {
            let _ = rule.evaluate(&Sample::new().facts());
            drop(rule);
        }
    };
    builder.spawn(run).unwrap().join().unwrap();
}

/// A piece repeated as often as it fits into `max` bytes, and far beyond.
fn repeated(piece: &str, max: usize) -> [String; 2] {
    [piece.repeat(max.div_ceil(piece.len())), piece.repeat(1_000_000_usize.div_ceil(piece.len()))]
}

const PIECES: &[&str] = &[
    "[",
    "(",
    "{",
    "{[![{![{!",
    "!",
    "-",
    "- ",
    "!-",
    "a?",
    "a?a:",
    "a?[a,{a:a}]:",
    "a||",
    "a&&",
    "a+",
    "amount+",
    "amount-",
    "a<",
    "a.",
    ".",
    "a[",
    "a[a]",
    "a.a(",
    ".size()",
    "'",
    "\"",
    "'''",
    "\\",
    "r'",
    "//",
    "/",
    "1 ",
    "1,",
    "[1],",
    "in ",
    "a in ",
    "a{",
    "a{a:",
    "`",
    "é",
    "\u{0}",
    "\n",
    "?",
    ":",
    "[1].all(a,",
    "has(",
    "size(",
    "0x",
    "1e",
    "1.",
    "9",
    "\\u",
    "true",
    "[(",
    "{(",
    "}",
    ")",
    "]",
    "\u{1f600}",
    "(-",
    "-(",
    "!(",
    "'a'+",
];

#[test]
fn repeated_pieces_of_cel_crash_nothing() {
    for piece in PIECES {
        for source in repeated(piece, 2025) {
            survives(Engine::Cel, &source);
            survives(Engine::Cel, &format!("{source}a"));
            survives(Engine::Cel, &format!("amount{source}amount"));
        }
    }
}

#[test]
fn repeated_pieces_of_json_crash_nothing() {
    let pieces =
        ["[", "{", "{\"!\":", "{\"!\":[", "{\"and\":[true,", "\"", "[1,", "-", "9", "\\u", "{\"a"];
    for piece in pieces {
        for source in repeated(piece, 16_000) {
            survives(Engine::JsonLogic, &source);
            survives(Engine::JsonLogic, &format!("{source}true"));
        }
    }
}

#[test]
fn known_crashers_are_refused_or_compiled() {
    let nested = |n: usize| format!("{}1{}", "(".repeat(n), ")".repeat(n));
    let cases = [
        "[".repeat(5000),
        nested(90),
        nested(16),
        "{[![{![{!".repeat(12),
        vec!["true"; 100_000].join("||"),
        vec!["true"; 255].join("||"),
        format!("{}true", "!".repeat(4000)),
        format!("{}true", "!".repeat(2000)),
        format!("{}1 == 1", "-".repeat(2000)),
        format!("{}true", "true?true:".repeat(200)),
        format!("{}true", "true?true:".repeat(90)),
        format!("vendor{}", ".a".repeat(1000)),
        format!("vendor{}", "[0]".repeat(600)),
        format!("{} > 0", vec!["1"; 1000].join("+")),
        format!("{} == ''", vec!["vendor"; 250].join("+")),
        format!("/*{}", "a".repeat(1_000_000)),
        format!("'{}'", "a".repeat(1_000_000)),
        format!("'\n{}", "[".repeat(2000)),
        format!("// '\n{}", "[".repeat(2000)),
        format!("xr'\\' {} '", "[".repeat(2000)),
        format!("'''' {}", "[".repeat(2000)),
        format!("{}a{}", "[1].all(a,".repeat(15), ")".repeat(15)),
    ];
    for source in &cases {
        survives(Engine::Cel, source);
        survives(Engine::JsonLogic, source);
    }
}

#[test]
fn brackets_cannot_hide_from_the_scan_where_the_parser_would_see_them() {
    let too_deep = CustomError::TooDeep { max: 16 };
    let deep = "[".repeat(40);
    let openings = [
        "'a'",
        "\"\\\"\"",
        "r'\\'",
        "R\"\\\"",
        "'''a'b''c'''",
        "\"\"\"\\\"\"\"\"",
        "b'\\''",
        "// '\n",
        "'\n",
        "''",
        "\"\"",
        "br'\\'",
    ];
    for opening in openings {
        let source = format!("{opening} + {deep}");
        assert_eq!(refusal(Engine::Cel, &source), too_deep, "{source}");
    }
}

#[test]
fn a_pattern_that_backtracks_elsewhere_ends_on_long_text() {
    let sample = Sample { description: Some("aaaaaaaaaaaaaaab".repeat(256)), ..Sample::new() };
    for pattern in ["(a+)+$", "(a|a)*c", "(.*)*x", "(a?){200}a{200}", "(\\\\w+\\\\s?)*!"] {
        let source = format!("description.matches('{pattern}')");
        if let Ok(rule) = CustomRule::compile(Engine::Cel, &source) {
            assert_eq!(rule.evaluate(&sample.facts()), Ok(false), "{source}");
        }
    }
}
