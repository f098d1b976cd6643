//! The type checker both languages share: an operator and its typed operands become a typed
//! expression, or the reason why they do not fit.
//!
//! There are no implicit conversions, except that `cat` writes integers in decimal. Not here:
//! syntax, names of operators in either language, and places in a source; a front end adds those.

mod operands;

use std::fmt;

use super::expr::{BoolExpr, Comparison, IntExpr, IntVar, Math, Search, TextExpr, TextVar, Var};
use super::{CustomError, LIST_ENTRIES_MAX, Place};
use operands::Operands;

/// The variables, for messages.
pub(super) const VARIABLES: &str = "amount, currency, vendor, category, protocol, description, \
     agent_id, metadata.<key>, hour, minute, weekday";

/// An expression with its type.
#[derive(Debug)]
pub(super) enum Typed {
    Bool(BoolExpr),
    Int(IntExpr),
    Text(TextExpr),
    /// A list literal of integers, in any order.
    Ints(Vec<i64>),
    /// A list literal of strings, in any order; also the empty list.
    Texts(Vec<Box<str>>),
}

/// An operator, whatever a language calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    And {
        absorbs_errors: bool,
    },
    Or {
        absorbs_errors: bool,
    },
    Not,
    If,
    Compare {
        by: Comparison,
        operands_max: usize,
    },
    Math(Math),
    /// `+` of CEL: adds integers, joins strings.
    AddOrJoin,
    /// `-` of both: negates one operand, subtracts two.
    Subtract,
    /// `+` of JSONLogic: reads one string as an integer, adds integers.
    AddOrParse,
    Join,
    In {
        substring: bool,
    },
    Contains,
    StartsWith,
    EndsWith,
    Matches,
    Size,
    ToInt,
    ToText,
}

/// Why operands do not fit an operator.
#[derive(Debug)]
pub(super) struct Misfit(pub(super) String);

impl Misfit {
    pub(super) fn at(self, at: Place) -> CustomError {
        CustomError::Type { at, why: self.0 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Int,
    Text,
    Ints,
    Texts,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Text => "string",
            Self::Ints => "list of ints",
            Self::Texts => "list of strings",
        })
    }
}

impl Typed {
    fn kind(&self) -> Kind {
        match self {
            Self::Bool(_) => Kind::Bool,
            Self::Int(_) => Kind::Int,
            Self::Text(_) => Kind::Text,
            Self::Ints(_) => Kind::Ints,
            Self::Texts(_) => Kind::Texts,
        }
    }

    /// The expression of a whole rule.
    pub(super) fn into_root(self) -> Result<BoolExpr, Misfit> {
        let misfit = Misfit(format!("a rule is a bool, this is {}", self.kind()));
        if let Self::Bool(root) = self { Ok(root) } else { Err(misfit) }
    }
}

impl From<Var> for Typed {
    fn from(var: Var) -> Self {
        match var {
            Var::Int(var) => Self::Int(IntExpr::Var(var)),
            Var::Text(var) => Self::Text(TextExpr::Var(var)),
        }
    }
}

/// The variable called `name`; `key` is what follows `metadata`.
pub(super) fn variable(name: &str, key: Option<&str>) -> Option<Var> {
    Some(match (name, key) {
        ("metadata", Some(key)) if !key.is_empty() => Var::Text(TextVar::Metadata(key.into())),
        (_, Some(_)) => return None,
        ("amount", None) => Var::Int(IntVar::Amount),
        ("hour", None) => Var::Int(IntVar::Hour),
        ("minute", None) => Var::Int(IntVar::Minute),
        ("weekday", None) => Var::Int(IntVar::Weekday),
        ("currency", None) => Var::Text(TextVar::Currency),
        ("vendor", None) => Var::Text(TextVar::Vendor),
        ("agent_id", None) => Var::Text(TextVar::AgentId),
        ("category", None) => Var::Text(TextVar::Category),
        ("protocol", None) => Var::Text(TextVar::Protocol),
        ("description", None) => Var::Text(TextVar::Description),
        _ => return None,
    })
}

/// A literal in a list.
pub(super) enum Entry {
    Int(i64),
    Text(Box<str>),
}

/// A list literal; `entries` are already known to be literals.
pub(super) fn list(entries: Vec<Entry>) -> Result<Typed, Misfit> {
    let (mut ints, mut texts) = (Vec::new(), Vec::new());
    for entry in entries {
        match entry {
            Entry::Int(value) => ints.push(value),
            Entry::Text(value) => texts.push(value),
        }
    }
    match (ints.is_empty(), texts.is_empty()) {
        (false, false) => Err(Misfit("a list holds ints or strings, this one mixes them".into())),
        (false, true) => Ok(Typed::Ints(ints)),
        (true, _) => Ok(Typed::Texts(texts)),
    }
}

/// Refuses a list of `entries` before anything is done with them.
pub(super) fn check_entries(entries: usize) -> Result<(), CustomError> {
    let many = CustomError::TooMany { what: "entries in a list", max: LIST_ENTRIES_MAX };
    if entries > LIST_ENTRIES_MAX { Err(many) } else { Ok(()) }
}

/// Applies `operator`, which the source calls `label`, to its operands.
pub(super) fn apply(
    operator: Operator,
    label: &str,
    operands: Vec<Typed>,
) -> Result<Typed, Misfit> {
    let operands = Operands { label, operands };
    match operator {
        Operator::And { absorbs_errors } => operands.logic(false, absorbs_errors),
        Operator::Or { absorbs_errors } => operands.logic(true, absorbs_errors),
        Operator::Not => {
            let [inner] = operands.exactly(Operands::bools)?;
            Ok(Typed::Bool(BoolExpr::Not(Box::new(inner))))
        }
        Operator::If => operands.choice(),
        Operator::Compare { by, operands_max } => operands.compare(by, operands_max),
        Operator::Math(by) => operands.math(by),
        Operator::AddOrJoin => match operands.first_kind() {
            Some(Kind::Text) => operands.join(),
            _ => operands.math(Math::Add),
        },
        Operator::AddOrParse => match (operands.first_kind(), operands.count()) {
            (Some(Kind::Text), 1) => operands.parse(),
            _ => operands.math(Math::Add),
        },
        Operator::Subtract if operands.count() == 1 => {
            let [inner] = operands.exactly(Operands::ints)?;
            Ok(Typed::Int(IntExpr::Negate(Box::new(inner))))
        }
        Operator::Subtract => operands.math(Math::Subtract),
        Operator::Join => operands.written().join(),
        Operator::In { substring } => operands.within(substring),
        Operator::Contains => operands.search(Search::Contains),
        Operator::StartsWith => operands.search(Search::StartsWith),
        Operator::EndsWith => operands.search(Search::EndsWith),
        Operator::Matches => operands.matches(),
        Operator::Size => {
            let [text] = operands.exactly(Operands::texts)?;
            Ok(Typed::Int(IntExpr::Size(Box::new(text))))
        }
        Operator::ToInt => operands.parse(),
        Operator::ToText => {
            let [text] = operands.written().exactly(Operands::texts)?;
            Ok(Typed::Text(text))
        }
    }
}
