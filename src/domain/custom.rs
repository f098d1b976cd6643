//! The `custom` rule: an expression an operator wrote in CEL or JSONLogic, compiled and
//! type-checked when the mandate is saved and evaluated on the hot path.
//!
//! Both languages are lowered into one small typed tree, so an ill-typed expression does not
//! compile, each node runs at most once, and the two agree on every operator they share.
//! A variable that is absent, or an optional one that is empty, never lets a rule pass: reading
//! it is a failure of the whole rule, unless the expression asks for its presence first.
//!
//! Not here: loops, macros other than `has`, floating point, `null`, dates, user functions, and
//! any way for an expression to see more than its [`Facts`].

mod cel;
mod check;
mod error;
mod expr;
mod jsonlogic;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use error::{CustomError, CustomFailure, Place};
use expr::{BoolExpr, Run};

/// Longest CEL source, in bytes.
pub const CEL_SOURCE_MAX: usize = 2 * 1024;
/// Longest JSONLogic source, in bytes: its lists of vendors are written out.
pub const JSON_LOGIC_SOURCE_MAX: usize = 16 * 1024;
/// Deepest nesting of an expression; its root is at level 1.
pub const DEPTH_MAX: usize = 16;
/// Most operators, variables and literals in an expression; a list literal counts once.
pub const NODES_MAX: usize = 256;
/// Most entries in one list literal.
pub const LIST_ENTRIES_MAX: usize = 1_000;
/// Longest regular expression, in bytes.
pub const PATTERN_MAX: usize = 256;
/// Steps one evaluation may take: a text operator costs one, and one more per 32 bytes it reads.
pub const STEPS_MAX: usize = 10_000;

/// The language an expression is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Common Expression Language, <https://cel.dev>.
    ///
    /// `&&` and `||` absorb errors as its specification says: `category == "x" || amount < 5`
    /// is true for a small amount without a category, since no category could change that.
    Cel,
    /// JSONLogic, <https://jsonlogic.com>, strict: conditions are booleans, never truthy values,
    /// and `==` compares values of one type. Operators run from left to right and the first
    /// error ends the rule.
    JsonLogic,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cel => "cel",
            Self::JsonLogic => "jsonlogic",
        })
    }
}

/// What an expression sees of one spend; the names are the variables of both languages.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Asked amount in minor units of `currency`.
    pub amount: i64,
    /// Currency code, upper case.
    pub currency: &'a str,
    /// Canonical vendor.
    pub vendor: &'a str,
    /// Category, if the agent or the vendor table gave one; empty counts as absent.
    pub category: Option<&'a str>,
    /// Payment protocol, if known; empty counts as absent.
    pub protocol: Option<&'a str>,
    /// What the agent said the spend is for; empty counts as absent.
    pub description: Option<&'a str>,
    /// The agent that asks.
    pub agent_id: &'a str,
    /// Free-form strings sent with the ask; an empty value counts as absent.
    pub metadata: &'a BTreeMap<String, String>,
    /// Hour of day, 0 to 23, in the organisation's time zone.
    pub hour: i64,
    /// Minute of the hour, 0 to 59.
    pub minute: i64,
    /// Day of the week in the organisation's time zone, 0 is Sunday.
    pub weekday: i64,
}

/// A compiled expression; cloning it is cheap.
#[derive(Debug, Clone)]
pub struct CustomRule {
    compiled: Arc<Compiled>,
}

#[derive(Debug)]
struct Compiled {
    engine: Engine,
    source: Box<str>,
    root: BoolExpr,
}

impl CustomRule {
    /// Parses and type-checks `source`, which is JSON text for JSONLogic.
    ///
    /// Total: a hostile source is refused within the limits of this module. CEL is parsed on a
    /// thread of its own and this call waits for it, typically well below a millisecond.
    pub fn compile(engine: Engine, source: &str) -> Result<Self, CustomError> {
        let root = match engine {
            Engine::Cel => cel::compile(source)?,
            Engine::JsonLogic => jsonlogic::compile(source)?,
        };
        let source = source.into();
        Ok(Self { compiled: Arc::new(Compiled { engine, source, root }) })
    }

    /// Whether the spend passes; an `Err` does not pass either and says why.
    pub fn evaluate(&self, facts: &Facts<'_>) -> Result<bool, CustomFailure> {
        self.compiled.root.eval(&Run::new(facts))
    }

    /// The text given to [`CustomRule::compile`].
    #[must_use]
    pub fn source(&self) -> &str {
        &self.compiled.source
    }

    /// The language of [`CustomRule::source`].
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.compiled.engine
    }
}

/// Two rules are equal when they were compiled from the same text in the same language.
impl PartialEq for CustomRule {
    fn eq(&self, other: &Self) -> bool {
        self.engine() == other.engine() && self.source() == other.source()
    }
}

impl Eq for CustomRule {}
