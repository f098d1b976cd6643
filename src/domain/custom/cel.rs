//! CEL to the typed tree: the `cel` crate parses, nothing of it evaluates.
//!
//! Its parser recurses with the source, so nesting is limited by a scan of the bytes first, and
//! the parser, the walk of its tree and the tree's destruction all happen on a thread with a
//! large stack. A panic there is an error here. Optional variables have a second name for
//! `has()`, which only takes fields: `has(spend.category)` asks for `category`.
//! Not here: comprehensions, doubles, unsigned integers, bytes, maps, messages, timestamps.

use std::thread;

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, SelectExpr, SourceInfo, operators};
use cel::parser::{ParseError, Parser};

use super::check::{self, Entry, Misfit, Operator, Typed, VARIABLES};
use super::error::echo;
use super::expr::{BoolExpr, Comparison, IntExpr, Math, TextExpr, Var};
use super::{CEL_SOURCE_MAX, CustomError, DEPTH_MAX, NODES_MAX, Place};

/// Stack of the parser thread. Measured in a debug build: 2 KiB of `[` without the scan fit.
const STACK_BYTES: usize = 64 * 1024 * 1024;
/// Syntax errors the parser may recover from; only the first one is reported.
const RECOVERIES_MAX: u32 = 4;

/// The functions, for messages.
const FUNCTIONS: &str = "size, contains, startsWith, endsWith, matches, int, string, \
     has(metadata.<key>), has(spend.<variable>)";
/// Another name for the record that holds the variables.
const RECORD: &str = "spend";

/// Compiles CEL text.
pub(super) fn compile(source: &str) -> Result<BoolExpr, CustomError> {
    if source.len() > CEL_SOURCE_MAX {
        return Err(CustomError::TooLong { found: source.len(), max: CEL_SOURCE_MAX });
    }
    if nesting(source.as_bytes()) > DEPTH_MAX {
        return Err(CustomError::TooDeep { max: DEPTH_MAX });
    }
    let source = source.to_owned();
    let builder = thread::Builder::new().name("cel-parser".into()).stack_size(STACK_BYTES);
    let parser = builder.spawn(move || parse(&source)).map_err(|_| CustomError::Parser)?;
    parser.join().map_err(|_| CustomError::Parser)?
}

/// Deepest bracket nesting outside strings and comments.
fn nesting(source: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let (mut rest, mut is_raw) = (source, false);
    while let [byte, tail @ ..] = rest {
        rest = match (byte, tail) {
            (b'/', [b'/', text @ ..]) => after(text, b"\n", true),
            (b'"', [b'"', b'"', text @ ..]) => after(text, br#"""""#, is_raw),
            (b'\'', [b'\'', b'\'', text @ ..]) => after(text, b"\'\'\'", is_raw),
            (b'"', text) => after(text, b"\"", is_raw),
            (b'\'', text) => after(text, b"'", is_raw),
            _ => tail,
        };
        depth = match byte {
            b'[' | b'(' | b'{' => depth.saturating_add(1),
            b']' | b')' | b'}' => depth.saturating_sub(1),
            _ => depth,
        };
        deepest = deepest.max(depth);
        is_raw = matches!(byte, b'r' | b'R');
    }
    deepest
}

/// What follows the first `end`; a string of one quote ends with its line in any case.
fn after<'a>(text: &'a [u8], end: &[u8], is_raw: bool) -> &'a [u8] {
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        if let Some(behind) = rest.strip_prefix(end) {
            return behind;
        }
        rest = match tail {
            _ if *byte == b'\n' && end.len() == 1 => return tail,
            [_, escaped @ ..] if *byte == b'\\' && !is_raw => escaped,
            _ => tail,
        };
    }
    rest
}

/// Parses and lowers; runs on the thread with the large stack, which also drops the parse tree.
fn parse(source: &str) -> Result<BoolExpr, CustomError> {
    let parser = Parser::new().error_recovery_limit(RECOVERIES_MAX);
    let (expr, info) = parser.parse_with_source_info(source).map_err(|errors| {
        errors.errors.first().map_or(CustomError::Parser, |error| syntax(source, error))
    })?;
    let mut lowering = Lowering { source, info, nodes: 0 };
    let root = lowering.lower(&expr, 1)?;
    root.into_root().map_err(|misfit| misfit.at(lowering.place(&expr)))
}

/// The parser's first error in our words: its own list every token of the grammar.
fn syntax(source: &str, error: &ParseError) -> CustomError {
    let (line, column) = error.pos;
    let line = usize::try_from(line).unwrap_or(1).max(1);
    let column = usize::try_from(column).unwrap_or(1).max(1);
    let text = source.split('\n').nth(line.saturating_sub(1)).unwrap_or_default();
    let near: String = text.chars().skip(column.saturating_sub(1)).collect();
    let why = if error.msg.contains("Recursion limit") {
        return CustomError::TooDeep { max: DEPTH_MAX };
    } else if error.msg.contains("has() macro") {
        "has() takes a field: has(metadata.<key>) or has(spend.<variable>)".into()
    } else if error.msg.starts_with("invalid int literal") {
        "an integer beyond 64 bits".into()
    } else if near.trim().is_empty() {
        "unexpected end of line".into()
    } else {
        format!("unexpected `{}`", echo(&near))
    };
    CustomError::Syntax { at: Place::Text { line, column }, why }
}

/// How a function is called: `size(x)`, `x.size()`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Global,
    Method,
    Either,
}

/// The operator the parser calls `name`, with its name in the source.
fn operator(name: &str, is_method: bool) -> Option<(&'static str, Operator)> {
    let compare = |by| Operator::Compare { by, operands_max: 2 };
    let absorbs_errors = true;
    let (label, style, operator) = match name {
        operators::LOGICAL_AND => ("&&", Style::Global, Operator::And { absorbs_errors }),
        operators::LOGICAL_OR => ("||", Style::Global, Operator::Or { absorbs_errors }),
        operators::LOGICAL_NOT => ("!", Style::Global, Operator::Not),
        operators::CONDITIONAL => ("?:", Style::Global, Operator::If),
        operators::EQUALS => ("==", Style::Global, compare(Comparison::Equal)),
        operators::NOT_EQUALS => ("!=", Style::Global, compare(Comparison::NotEqual)),
        operators::LESS => ("<", Style::Global, compare(Comparison::Less)),
        operators::LESS_EQUALS => ("<=", Style::Global, compare(Comparison::LessOrEqual)),
        operators::GREATER => (">", Style::Global, compare(Comparison::Greater)),
        operators::GREATER_EQUALS => (">=", Style::Global, compare(Comparison::GreaterOrEqual)),
        operators::ADD => ("+", Style::Global, Operator::AddOrJoin),
        operators::SUBSTRACT | operators::NEGATE => ("-", Style::Global, Operator::Subtract),
        operators::MULTIPLY => ("*", Style::Global, Operator::Math(Math::Multiply)),
        operators::DIVIDE => ("/", Style::Global, Operator::Math(Math::Divide)),
        operators::MODULO => ("%", Style::Global, Operator::Math(Math::Remainder)),
        operators::IN => ("in", Style::Global, Operator::In { substring: false }),
        "size" => ("size", Style::Either, Operator::Size),
        "matches" => ("matches", Style::Either, Operator::Matches),
        "contains" => ("contains", Style::Method, Operator::Contains),
        "startsWith" => ("startsWith", Style::Method, Operator::StartsWith),
        "endsWith" => ("endsWith", Style::Method, Operator::EndsWith),
        "int" => ("int", Style::Global, Operator::ToInt),
        "string" => ("string", Style::Global, Operator::ToText),
        _ => return None,
    };
    let called = if is_method { Style::Method } else { Style::Global };
    (style == Style::Either || style == called).then_some((label, operator))
}

/// The walk: the source, where its nodes are, and how many it met.
struct Lowering<'s> {
    source: &'s str,
    info: SourceInfo,
    nodes: usize,
}

impl Lowering<'_> {
    fn place(&self, expr: &IdedExpr) -> Place {
        let start = self.info.offset_for(expr.id).and_then(|(byte, _)| usize::try_from(byte).ok());
        let before = start.and_then(|byte| self.source.get(..byte)).unwrap_or_default();
        let last_line = before.rsplit('\n').next().unwrap_or_default();
        Place::Text {
            line: before.matches('\n').count().saturating_add(1),
            column: last_line.chars().count().saturating_add(1),
        }
    }

    fn lower(&mut self, expr: &IdedExpr, depth: usize) -> Result<Typed, CustomError> {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes > NODES_MAX {
            return Err(CustomError::TooMany { what: "nodes", max: NODES_MAX });
        }
        if depth > DEPTH_MAX {
            return Err(CustomError::TooDeep { max: DEPTH_MAX });
        }
        match &expr.expr {
            Expr::Unspecified => Err(CustomError::Parser),
            Expr::Literal(literal) => self.literal(expr, literal),
            Expr::Select(select) if select.test => self.has(expr, select),
            Expr::Ident(_) | Expr::Select(_) => self.path(expr).map(Typed::from),
            Expr::List(list) => self.list(expr, &list.elements),
            Expr::Call(call) => self.call(expr, call, depth),
            Expr::Comprehension(_) => {
                Err(self.unsupported("a loop", expr, "name every value with `in` or `||`"))
            }
            Expr::Map(_) | Expr::Struct(_) => {
                Err(self.unsupported("a map or message", expr, "use the variables and `in`"))
            }
        }
    }

    fn literal(&self, expr: &IdedExpr, literal: &LiteralValue) -> Result<Typed, CustomError> {
        match literal {
            LiteralValue::Boolean(value) => Ok(Typed::Bool(BoolExpr::Const(*value.inner()))),
            LiteralValue::Int(value) => Ok(Typed::Int(IntExpr::Const(*value.inner()))),
            LiteralValue::String(text) => Ok(Typed::Text(TextExpr::Const(text.inner().into()))),
            LiteralValue::Double(_) => {
                Err(self.unsupported("a fraction", expr, "write whole minor units"))
            }
            LiteralValue::UInt(_) => {
                Err(self.unsupported("an unsigned integer", expr, "leave out the `u`"))
            }
            LiteralValue::Bytes(_) => Err(self.unsupported("bytes", expr, "write a string")),
            LiteralValue::Null => {
                Err(self.unsupported("null", expr, "use has() to ask whether a variable is absent"))
            }
        }
    }

    fn list(&self, expr: &IdedExpr, elements: &[IdedExpr]) -> Result<Typed, CustomError> {
        check::check_entries(elements.len())?;
        let mut entries = Vec::new();
        for element in elements {
            entries.push(match &element.expr {
                Expr::Literal(LiteralValue::Int(value)) => Entry::Int(*value.inner()),
                Expr::Literal(LiteralValue::String(text)) => Entry::Text(text.inner().into()),
                Expr::Literal(_)
                | Expr::Unspecified
                | Expr::Call(_)
                | Expr::Comprehension(_)
                | Expr::Ident(_)
                | Expr::List(_)
                | Expr::Map(_)
                | Expr::Select(_)
                | Expr::Struct(_) => {
                    let why = "a list holds literal ints or literal strings only";
                    return Err(Misfit(why.into()).at(self.place(element)));
                }
            });
        }
        check::list(entries).map_err(|misfit| misfit.at(self.place(expr)))
    }

    /// A variable: a name, or fields of names.
    fn path(&self, expr: &IdedExpr) -> Result<Var, CustomError> {
        let Some(segments) = segments(expr) else {
            return Err(self.unsupported("a field of a value", expr, "use the variables"));
        };
        self.variable(expr, &segments)
    }

    fn variable(&self, expr: &IdedExpr, segments: &[&str]) -> Result<Var, CustomError> {
        let found = match in_record(segments) {
            [name] => check::variable(name, None),
            [name, key] => check::variable(name, Some(key)),
            _ => None,
        };
        found.ok_or_else(|| self.unknown("variable", &segments.join("."), expr, VARIABLES))
    }

    fn has(&self, expr: &IdedExpr, select: &SelectExpr) -> Result<Typed, CustomError> {
        let Some(mut segments) = segments(&select.operand) else {
            return Err(self.unsupported("has() of a value", expr, "use has(metadata.<key>)"));
        };
        segments.push(&select.field);
        Ok(present(self.variable(expr, &segments)?))
    }

    fn call(
        &mut self,
        expr: &IdedExpr,
        call: &CallExpr,
        depth: usize,
    ) -> Result<Typed, CustomError> {
        let name = call.func_name.as_str();
        if let Some(typed) = self.metadata(expr, call) {
            return typed;
        }
        let Some((label, operator)) = operator(name, call.target.is_some()) else {
            return Err(self.unknown("function", name, expr, FUNCTIONS));
        };
        let operands = if matches!(operator, Operator::And { .. } | Operator::Or { .. }) {
            // One node for a chain, however the parser balanced it.
            chain(expr, name)
        } else if operator == Operator::If {
            arms(expr)
        } else {
            call.target.as_deref().into_iter().chain(&call.args).collect()
        };
        let deeper = depth.saturating_add(1);
        let mut typed = Vec::new();
        for operand in operands {
            typed.push(self.lower(operand, deeper)?);
        }
        check::apply(operator, label, typed).map_err(|misfit| misfit.at(self.place(expr)))
    }

    /// `metadata["key"]`, `"key" in metadata`, and everything else that is indexed.
    fn metadata(&self, expr: &IdedExpr, call: &CallExpr) -> Option<Result<Typed, CustomError>> {
        let (record, key) = match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::INDEX, [record, key]) => (record, key),
            (operators::IN, [key, record]) => (record, key),
            _ => return None,
        };
        let is_index = call.func_name == operators::INDEX;
        let segments = segments(record).unwrap_or_default();
        if in_record(&segments) != ["metadata"] {
            let instead = "only metadata has keys";
            return is_index.then(|| Err(self.unsupported("an index", expr, instead)));
        }
        let Expr::Literal(LiteralValue::String(key)) = &key.expr else {
            let instead = "write the key as a string literal";
            return Some(Err(self.unsupported("a computed key", expr, instead)));
        };
        let var = self.variable(expr, &["metadata", key.inner()]);
        Some(var.map(|var| if is_index { var.into() } else { present(var) }))
    }

    fn unknown(
        &self,
        kind: &'static str,
        name: &str,
        expr: &IdedExpr,
        known: &'static str,
    ) -> CustomError {
        CustomError::Unknown { kind, name: echo(name), at: self.place(expr), known }
    }

    fn unsupported(
        &self,
        what: &'static str,
        expr: &IdedExpr,
        instead: &'static str,
    ) -> CustomError {
        CustomError::Unsupported { what, at: self.place(expr), instead }
    }
}

fn present(var: Var) -> Typed {
    Typed::Bool(BoolExpr::Present { vars: vec![var], least: 1 })
}

/// The names of `a.b.c`; a loop, since a chain is as deep as the source is long.
fn segments(expr: &IdedExpr) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    let mut rest = &expr.expr;
    while let Expr::Select(SelectExpr { operand, field, test: false }) = rest {
        names.push(field.as_str());
        rest = &operand.expr;
    }
    let Expr::Ident(root) = rest else { return None };
    names.push(root);
    names.reverse();
    Some(names)
}

/// The path without the name of the record, which is optional.
fn in_record<'a, 'n>(segments: &'a [&'n str]) -> &'a [&'n str] {
    match segments {
        [RECORD, rest @ ..] if !rest.is_empty() => rest,
        _ => segments,
    }
}

/// The operands of the call of `name`, if `expr` is one.
fn call_of<'e>(expr: &'e IdedExpr, name: &str) -> Option<&'e [IdedExpr]> {
    let Expr::Call(call) = &expr.expr else {
        return None;
    };
    (call.target.is_none() && call.func_name == name).then_some(&call.args)
}

/// The terms of `a && b && c`, in order.
fn chain<'e>(expr: &'e IdedExpr, name: &str) -> Vec<&'e IdedExpr> {
    let (mut pending, mut terms) = (vec![expr], Vec::new());
    while let Some(expr) = pending.pop() {
        match call_of(expr, name) {
            Some(operands) => pending.extend(operands.iter().rev()),
            None => terms.push(expr),
        }
    }
    terms
}

/// `a ? b : c ? d : e` as its conditions and values, in order.
fn arms(expr: &IdedExpr) -> Vec<&IdedExpr> {
    let (mut rest, mut operands) = (expr, Vec::new());
    while let Some([condition, value, otherwise]) = call_of(rest, operators::CONDITIONAL) {
        operands.extend([condition, value]);
        rest = otherwise;
    }
    operands.push(rest);
    operands
}
