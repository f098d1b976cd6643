//! The typed tree both languages compile to, and its evaluator.
//!
//! A boolean, an integer and a string expression are different types, so an evaluation cannot
//! meet a type error. Each node runs at most once: there are no loops, so the cost is bounded by
//! the number of nodes and the bytes of text they read, which [`Run`] counts.
//! Not here: how a tree is built (`check`) and what may be written (`cel`, `jsonlogic`).

use std::borrow::Cow;
use std::cell::Cell;
use std::cmp::Ordering;

use regex::Regex;

use super::error::echo;
use super::{CustomFailure, Facts, STEPS_MAX};

/// Bytes of text read for one step.
const STEP_BYTES: usize = 32;

/// One evaluation: the facts, and the steps it may still take.
pub(super) struct Run<'a> {
    facts: &'a Facts<'a>,
    steps_left: Cell<usize>,
}

impl<'a> Run<'a> {
    pub(super) fn new(facts: &'a Facts<'a>) -> Self {
        Self { facts, steps_left: Cell::new(STEPS_MAX) }
    }

    /// Pays for reading `bytes` of text.
    fn pay(&self, bytes: usize) -> Result<(), CustomFailure> {
        let steps = bytes.checked_div(STEP_BYTES).unwrap_or(bytes).saturating_add(1);
        let left = self.steps_left.get().checked_sub(steps);
        self.steps_left.set(left.unwrap_or(0));
        left.map(|_| ()).ok_or(CustomFailure::CostExceeded { max: STEPS_MAX })
    }
}

/// A variable that is an integer; always present.
#[derive(Debug, Clone, Copy)]
pub(super) enum IntVar {
    Amount,
    Hour,
    Minute,
    Weekday,
}

impl IntVar {
    fn get(self, facts: &Facts<'_>) -> i64 {
        match self {
            Self::Amount => facts.amount,
            Self::Hour => facts.hour,
            Self::Minute => facts.minute,
            Self::Weekday => facts.weekday,
        }
    }
}

/// A variable that is a string, and may be missing.
#[derive(Debug, Clone)]
pub(super) enum TextVar {
    Currency,
    Vendor,
    AgentId,
    Category,
    Protocol,
    Description,
    Metadata(Box<str>),
}

impl TextVar {
    /// The value; an empty string was not said, whatever the wire calls it.
    fn get<'a>(&self, facts: &Facts<'a>) -> Option<&'a str> {
        let value = match self {
            Self::Currency => Some(facts.currency),
            Self::Vendor => Some(facts.vendor),
            Self::AgentId => Some(facts.agent_id),
            Self::Category => facts.category,
            Self::Protocol => facts.protocol,
            Self::Description => facts.description,
            Self::Metadata(key) => facts.metadata.get(key.as_ref()).map(String::as_str),
        };
        value.filter(|text| !text.is_empty())
    }

    fn missing(&self) -> CustomFailure {
        let name = match self {
            Self::Currency => "currency".into(),
            Self::Vendor => "vendor".into(),
            Self::AgentId => "agent_id".into(),
            Self::Category => "category".into(),
            Self::Protocol => "protocol".into(),
            Self::Description => "description".into(),
            Self::Metadata(key) => echo(&format!("metadata.{key}")),
        };
        CustomFailure::MissingVariable { name }
    }
}

/// Any variable.
#[derive(Debug, Clone)]
pub(super) enum Var {
    Int(IntVar),
    Text(TextVar),
}

impl Var {
    fn is_present(&self, facts: &Facts<'_>) -> bool {
        match self {
            Self::Int(_) => true,
            Self::Text(var) => var.get(facts).is_some(),
        }
    }
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// `left ? right`, or `left ? right ? end` in one.
#[derive(Debug)]
pub(super) struct Compare<E> {
    pub(super) by: Comparison,
    pub(super) left: E,
    pub(super) right: E,
    pub(super) end: Option<E>,
}

impl<E> Compare<E> {
    /// Reads every operand, then compares, so that a missing one is never overlooked.
    fn eval<'a, V: Ord>(
        &'a self,
        read: impl Fn(&'a E) -> Result<V, CustomFailure>,
    ) -> Result<bool, CustomFailure> {
        let (left, right) = (read(&self.left)?, read(&self.right)?);
        let end = self.end.as_ref().map(read).transpose()?;
        let first = self.by.holds(left.cmp(&right));
        Ok(first && end.is_none_or(|end| self.by.holds(right.cmp(&end))))
    }
}

/// The value of the first arm whose condition is true.
#[derive(Debug)]
pub(super) struct Choice<E> {
    pub(super) arms: Vec<(BoolExpr, E)>,
    pub(super) otherwise: E,
}

impl<E> Choice<E> {
    fn pick<'a>(&'a self, run: &Run<'a>) -> Result<&'a E, CustomFailure> {
        for (condition, value) in &self.arms {
            if condition.eval(run)? {
                return Ok(value);
            }
        }
        Ok(&self.otherwise)
    }
}

/// What a text test looks for.
#[derive(Debug)]
pub(super) enum Search {
    /// The left string contains the right one.
    Contains(TextExpr),
    /// The left string starts with the right one.
    StartsWith(TextExpr),
    /// The left string ends with the right one.
    EndsWith(TextExpr),
    /// Some part of the string matches; linear in its length.
    Matches(Regex),
    /// The string is an entry of the list, which is sorted.
    Among(Box<[Box<str>]>),
}

/// An expression of type bool.
#[derive(Debug)]
pub(super) enum BoolExpr {
    Const(bool),
    Not(Box<Self>),
    /// Decided by the first term equal to `decisive`: true for `or`, false for `and`.
    Logic {
        decisive: bool,
        /// Whether a later decisive term outweighs an earlier error, as CEL wants it.
        absorbs_errors: bool,
        terms: Vec<Self>,
    },
    If(Box<Choice<Self>>),
    Bools(Box<Compare<Self>>),
    Ints(Box<Compare<IntExpr>>),
    Texts(Box<Compare<TextExpr>>),
    /// The integer is an entry of the list, which is sorted.
    IntAmong(IntExpr, Box<[i64]>),
    Search(Box<(TextExpr, Search)>),
    /// At least `least` of the variables are present.
    Present {
        vars: Vec<Var>,
        least: usize,
    },
}

impl BoolExpr {
    pub(super) fn eval<'a>(&'a self, run: &Run<'a>) -> Result<bool, CustomFailure> {
        match self {
            Self::Const(value) => Ok(*value),
            Self::Not(inner) => Ok(!inner.eval(run)?),
            Self::Logic { decisive, absorbs_errors, terms } => {
                logic(run, *decisive, *absorbs_errors, terms)
            }
            Self::If(choice) => choice.pick(run)?.eval(run),
            Self::Bools(compare) => compare.eval(|side| side.eval(run)),
            Self::Ints(compare) => compare.eval(|side| side.eval(run)),
            Self::Texts(compare) => compare.eval(|side| side.paid(run)),
            Self::IntAmong(value, list) => Ok(list.binary_search(&value.eval(run)?).is_ok()),
            Self::Search(search) => search.1.eval(run, &search.0.paid(run)?),
            Self::Present { vars, least } => {
                let present = vars.iter().filter(|var| var.is_present(run.facts));
                Ok(present.count() >= *least)
            }
        }
    }
}

fn logic<'a>(
    run: &Run<'a>,
    decisive: bool,
    absorbs_errors: bool,
    terms: &'a [BoolExpr],
) -> Result<bool, CustomFailure> {
    let mut first_failure = None;
    for term in terms {
        match term.eval(run) {
            Ok(value) if value == decisive => return Ok(decisive),
            Ok(_) => {}
            // Running out of steps is about the evaluation, not about one term: never absorbed.
            Err(failure @ CustomFailure::CostExceeded { .. }) => return Err(failure),
            Err(failure) if absorbs_errors => {
                first_failure.get_or_insert(failure);
            }
            Err(failure) => return Err(failure),
        }
    }
    first_failure.map_or(Ok(!decisive), Err)
}

impl Search {
    fn eval<'a>(&'a self, run: &Run<'a>, text: &str) -> Result<bool, CustomFailure> {
        Ok(match self {
            Self::Contains(part) => text.contains(part.paid(run)?.as_ref()),
            Self::StartsWith(part) => text.starts_with(part.paid(run)?.as_ref()),
            Self::EndsWith(part) => text.ends_with(part.paid(run)?.as_ref()),
            Self::Matches(pattern) => pattern.is_match(text),
            Self::Among(list) => list.binary_search_by(|entry| entry.as_ref().cmp(text)).is_ok(),
        })
    }
}

/// An operation on two integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Math {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Min,
    Max,
}

impl Math {
    fn label(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
            Self::Min => "min",
            Self::Max => "max",
        }
    }

    fn of(self, left: i64, right: i64) -> Result<i64, CustomFailure> {
        let operator = self.label();
        let divides = matches!(self, Self::Divide | Self::Remainder);
        if divides && right == 0 {
            return Err(CustomFailure::DivisionByZero { operator });
        }
        let value = match self {
            Self::Add => left.checked_add(right),
            Self::Subtract => left.checked_sub(right),
            Self::Multiply => left.checked_mul(right),
            Self::Divide => left.checked_div(right),
            Self::Remainder => left.checked_rem(right),
            Self::Min => Some(left.min(right)),
            Self::Max => Some(left.max(right)),
        };
        value.ok_or(CustomFailure::Overflow { operator })
    }
}

/// An expression of type int.
#[derive(Debug)]
pub(super) enum IntExpr {
    Const(i64),
    Var(IntVar),
    Negate(Box<Self>),
    /// The operation applied from left to right.
    Math {
        by: Math,
        first: Box<Self>,
        rest: Vec<Self>,
    },
    /// Length in characters.
    Size(Box<TextExpr>),
    /// A decimal number.
    Parse(Box<TextExpr>),
    If(Box<Choice<Self>>),
}

impl IntExpr {
    fn eval<'a>(&'a self, run: &Run<'a>) -> Result<i64, CustomFailure> {
        match self {
            Self::Const(value) => Ok(*value),
            Self::Var(var) => Ok(var.get(run.facts)),
            Self::Negate(inner) => {
                let overflow = CustomFailure::Overflow { operator: "-" };
                inner.eval(run)?.checked_neg().ok_or(overflow)
            }
            Self::Math { by, first, rest } => {
                rest.iter().try_fold(first.eval(run)?, |left, right| by.of(left, right.eval(run)?))
            }
            Self::Size(text) => {
                let size = i64::try_from(text.paid(run)?.chars().count());
                size.map_err(|_| CustomFailure::Overflow { operator: "size" })
            }
            Self::Parse(text) => {
                let text = text.paid(run)?;
                text.parse().map_err(|_| CustomFailure::NotAnInteger { text: echo(&text) })
            }
            Self::If(choice) => choice.pick(run)?.eval(run),
        }
    }
}

/// An expression of type string.
#[derive(Debug)]
pub(super) enum TextExpr {
    Const(Box<str>),
    Var(TextVar),
    /// The variable, or the default when it is missing.
    VarOr(TextVar, Box<str>),
    Concat(Vec<Self>),
    FromInt(Box<IntExpr>),
    If(Box<Choice<Self>>),
}

impl TextExpr {
    fn eval<'a>(&'a self, run: &Run<'a>) -> Result<Cow<'a, str>, CustomFailure> {
        match self {
            Self::Const(text) => Ok(Cow::Borrowed(text)),
            Self::Var(var) => var.get(run.facts).map(Cow::Borrowed).ok_or_else(|| var.missing()),
            Self::VarOr(var, default) => Ok(Cow::Borrowed(var.get(run.facts).unwrap_or(default))),
            Self::Concat(parts) => {
                let mut joined = String::new();
                for part in parts {
                    joined.push_str(&part.paid(run)?);
                }
                Ok(Cow::Owned(joined))
            }
            Self::FromInt(value) => Ok(Cow::Owned(value.eval(run)?.to_string())),
            Self::If(choice) => choice.pick(run)?.eval(run),
        }
    }

    /// The text, paid for by the operator that is about to read it.
    fn paid<'a>(&'a self, run: &Run<'a>) -> Result<Cow<'a, str>, CustomFailure> {
        let text = self.eval(run)?;
        run.pay(text.len())?;
        Ok(text)
    }
}
