//! JSONLogic to the typed tree: a strict, documented subset of the language.
//!
//! `missing` and `missing_some` are booleans here: true when something is missing, which is what
//! they mean inside `!`, `and` and `if` anyway. `var` takes a literal default. JSON is read into
//! a tree that refuses duplicate keys, fractions and integers beyond 64 bits.
//! Not here: `/` (it makes fractions), `!!`, `map` and its kin, `log`, methods and `null`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::check::{self, Entry, Misfit, Operator, Typed, VARIABLES};
use super::error::echo;
use super::expr::{BoolExpr, Comparison, IntExpr, Math, TextExpr, Var};
use super::{CustomError, DEPTH_MAX, JSON_LOGIC_SOURCE_MAX, NODES_MAX, Place};

/// The operators, for messages.
const OPERATORS: &str = "var, missing, missing_some, ==, ===, !=, !==, !, and, or, if, ?:, <, <=, \
     >, >=, +, -, *, %, in, cat, min, max";

/// Compiles JSON text.
pub(super) fn compile(source: &str) -> Result<BoolExpr, CustomError> {
    if source.len() > JSON_LOGIC_SOURCE_MAX {
        return Err(CustomError::TooLong { found: source.len(), max: JSON_LOGIC_SOURCE_MAX });
    }
    // serde_json itself stops at 128 levels of brackets, far above what `DEPTH_MAX` lets pass.
    let json: Json = serde_json::from_str(source).map_err(|error| {
        let at = Place::Text { line: error.line(), column: error.column().max(1) };
        let why = error.to_string();
        if why.starts_with("recursion limit") {
            return CustomError::TooDeep { max: DEPTH_MAX };
        }
        let why = why.split(" at line ").next().unwrap_or_default();
        CustomError::Syntax { at, why: why.to_owned() }
    })?;
    let mut lowering = Lowering { nodes: 0, path: Vec::new() };
    let root = lowering.lower(&json)?;
    root.into_root().map_err(|misfit| misfit.at(lowering.place()))
}

/// The JSON an expression may consist of.
enum Json {
    Null,
    Bool(bool),
    Int(i64),
    Text(String),
    List(Vec<Self>),
    /// An object of one key.
    Apply(String, Box<Self>),
}

struct JsonVisitor;

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSONLogic expression")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Int(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        let value = i64::try_from(value);
        value.map(Json::Int).map_err(|_| E::custom("an integer beyond 64 bits"))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Json, E> {
        Err(E::custom("a number with a fraction or beyond 64 bits, write whole minor units"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element()? {
            list.push(entry);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let Some((operator, operand)) = entries.next_entry()? else {
            return Err(A::Error::custom("an object without an operator"));
        };
        if entries.next_key::<IgnoredAny>()?.is_some() {
            return Err(A::Error::custom("an object with more than one operator"));
        }
        Ok(Json::Apply(operator, Box::new(operand)))
    }
}

/// A step from an expression to one of its operands.
enum Step {
    Into(&'static str),
    Operand(usize),
}

/// What an operator of the language is.
enum Meaning {
    Var,
    Missing,
    MissingSome,
    Plain(Operator),
}

/// The operator called `name`, with the name as text that lives on.
fn operator(name: &str) -> Option<(&'static str, Meaning)> {
    let compare = |by, operands_max| Meaning::Plain(Operator::Compare { by, operands_max });
    let absorbs_errors = false;
    Some(match name {
        "var" => ("var", Meaning::Var),
        "missing" => ("missing", Meaning::Missing),
        "missing_some" => ("missing_some", Meaning::MissingSome),
        "==" => ("==", compare(Comparison::Equal, 2)),
        "===" => ("===", compare(Comparison::Equal, 2)),
        "!=" => ("!=", compare(Comparison::NotEqual, 2)),
        "!==" => ("!==", compare(Comparison::NotEqual, 2)),
        "<" => ("<", compare(Comparison::Less, 3)),
        "<=" => ("<=", compare(Comparison::LessOrEqual, 3)),
        ">" => (">", compare(Comparison::Greater, 3)),
        ">=" => (">=", compare(Comparison::GreaterOrEqual, 3)),
        "!" => ("!", Meaning::Plain(Operator::Not)),
        "and" => ("and", Meaning::Plain(Operator::And { absorbs_errors })),
        "or" => ("or", Meaning::Plain(Operator::Or { absorbs_errors })),
        "if" => ("if", Meaning::Plain(Operator::If)),
        "?:" => ("?:", Meaning::Plain(Operator::If)),
        "+" => ("+", Meaning::Plain(Operator::AddOrParse)),
        "-" => ("-", Meaning::Plain(Operator::Subtract)),
        "*" => ("*", Meaning::Plain(Operator::Math(Math::Multiply))),
        "%" => ("%", Meaning::Plain(Operator::Math(Math::Remainder))),
        "min" => ("min", Meaning::Plain(Operator::Math(Math::Min))),
        "max" => ("max", Meaning::Plain(Operator::Math(Math::Max))),
        "cat" => ("cat", Meaning::Plain(Operator::Join)),
        "in" => ("in", Meaning::Plain(Operator::In { substring: true })),
        _ => return None,
    })
}

/// The walk: how many nodes it met, and where it is.
struct Lowering {
    nodes: usize,
    path: Vec<Step>,
}

impl Lowering {
    fn place(&self) -> Place {
        let mut path = String::new();
        for step in &self.path {
            path.push('/');
            match step {
                Step::Into(operator) => path.push_str(operator),
                Step::Operand(index) => path.push_str(&index.to_string()),
            }
        }
        Place::Path(path)
    }

    fn enter(&mut self) -> Result<(), CustomError> {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes > NODES_MAX {
            return Err(CustomError::TooMany { what: "nodes", max: NODES_MAX });
        }
        // Every operator on the way here is one level above this node.
        let above = self.path.iter().filter(|step| matches!(step, Step::Into(_))).count();
        if above >= DEPTH_MAX {
            return Err(CustomError::TooDeep { max: DEPTH_MAX });
        }
        Ok(())
    }

    fn lower(&mut self, json: &Json) -> Result<Typed, CustomError> {
        self.enter()?;
        match json {
            Json::Null => Err(self.no_null()),
            Json::Bool(value) => Ok(Typed::Bool(BoolExpr::Const(*value))),
            Json::Int(value) => Ok(Typed::Int(IntExpr::Const(*value))),
            Json::Text(text) => Ok(Typed::Text(TextExpr::Const(text.as_str().into()))),
            Json::List(entries) => self.list(entries),
            Json::Apply(name, operand) => {
                let Some((name, meaning)) = operator(name) else {
                    return Err(self.unknown("operator", name, OPERATORS));
                };
                let operands = match operand.as_ref() {
                    Json::List(operands) => operands.as_slice(),
                    Json::Null | Json::Bool(_) | Json::Int(_) | Json::Text(_) | Json::Apply(..) => {
                        std::slice::from_ref(operand.as_ref())
                    }
                };
                self.path.push(Step::Into(name));
                let typed = self.apply(name, &meaning, operands)?;
                self.path.pop();
                Ok(typed)
            }
        }
    }

    fn apply(
        &mut self,
        name: &'static str,
        meaning: &Meaning,
        operands: &[Json],
    ) -> Result<Typed, CustomError> {
        match meaning {
            Meaning::Var => self.var(operands),
            Meaning::Missing => {
                let vars = self.vars(operands)?;
                let least = vars.len();
                Ok(missing(vars, least))
            }
            Meaning::MissingSome => self.missing_some(operands),
            Meaning::Plain(operator) => {
                let mut typed = Vec::new();
                for (index, operand) in operands.iter().enumerate() {
                    self.path.push(Step::Operand(index));
                    typed.push(self.lower(operand)?);
                    self.path.pop();
                }
                check::apply(*operator, name, typed).map_err(|misfit| misfit.at(self.place()))
            }
        }
    }

    fn list(&self, entries: &[Json]) -> Result<Typed, CustomError> {
        check::check_entries(entries.len())?;
        let mut literals = Vec::new();
        for entry in entries {
            literals.push(match entry {
                Json::Int(value) => Entry::Int(*value),
                Json::Text(text) => Entry::Text(text.as_str().into()),
                Json::Null | Json::Bool(_) | Json::List(_) | Json::Apply(..) => {
                    let why = "a list holds literal ints or literal strings only";
                    return Err(Misfit(why.into()).at(self.place()));
                }
            });
        }
        check::list(literals).map_err(|misfit| misfit.at(self.place()))
    }

    /// `{"var": name}` or `{"var": [name, default]}`.
    fn var(&self, operands: &[Json]) -> Result<Typed, CustomError> {
        match operands {
            [name] => Ok(self.variable(name)?.into()),
            [_, Json::Null] => Err(self.no_null()),
            [name, default] => match (self.variable(name)?, default) {
                // An int variable is always present, so its default is only type-checked.
                (Var::Int(var), Json::Int(_)) => Ok(Typed::Int(IntExpr::Var(var))),
                (Var::Text(var), Json::Text(text)) => {
                    Ok(Typed::Text(TextExpr::VarOr(var, text.as_str().into())))
                }
                _ => Err(self.misfit("the default of `var` is a literal of the variable's type")),
            },
            _ => Err(self.misfit("`var` wants a name, or a name and a default")),
        }
    }

    fn variable(&self, name: &Json) -> Result<Var, CustomError> {
        let Json::Text(name) = name else {
            return Err(self.misfit("the name of a variable is a string literal"));
        };
        let found = match name.split_once('.') {
            Some((root, key)) => check::variable(root, Some(key)),
            None => check::variable(name, None),
        };
        found.ok_or_else(|| self.unknown("variable", name, VARIABLES))
    }

    fn vars(&self, names: &[Json]) -> Result<Vec<Var>, CustomError> {
        if names.is_empty() {
            return Err(self.misfit("a list of at least one variable name is wanted"));
        }
        if names.len() > NODES_MAX {
            return Err(CustomError::TooMany { what: "variable names", max: NODES_MAX });
        }
        names.iter().map(|name| self.variable(name)).collect()
    }

    /// `{"missing_some": [least, [name, …]]}`.
    fn missing_some(&self, operands: &[Json]) -> Result<Typed, CustomError> {
        let [Json::Int(least), Json::List(names)] = operands else {
            return Err(self.misfit("`missing_some` wants a literal int and a list of names"));
        };
        let vars = self.vars(names)?;
        match usize::try_from(*least) {
            Ok(least) if (1..=vars.len()).contains(&least) => Ok(missing(vars, least)),
            _ => Err(self.misfit("`missing_some` wants at least 1 and at most all of the names")),
        }
    }

    fn misfit(&self, why: &str) -> CustomError {
        Misfit(why.into()).at(self.place())
    }

    fn unknown(&self, kind: &'static str, name: &str, known: &'static str) -> CustomError {
        CustomError::Unknown { kind, name: echo(name), at: self.place(), known }
    }

    fn no_null(&self) -> CustomError {
        let instead = "use `missing` to ask whether a variable is absent";
        CustomError::Unsupported { what: "null", at: self.place(), instead }
    }
}

fn missing(vars: Vec<Var>, least: usize) -> Typed {
    Typed::Bool(BoolExpr::Not(Box::new(BoolExpr::Present { vars, least })))
}
