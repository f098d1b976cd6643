//! Why an expression does not compile, and why a compiled one gives no answer.
//!
//! Both enums are closed. Messages echo at most [`ECHO_MAX`] characters of the source, escaped,
//! so they are safe in logs and responses. Not here: positions inside JSON text after it parsed;
//! from there on a place is a path of operators.

use std::fmt;

use thiserror::Error;

/// Most characters of the source a message repeats.
const ECHO_MAX: usize = 32;

/// Why an expression was refused when it was compiled.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CustomError {
    /// The source has too many bytes.
    #[error("the expression is {found} bytes long, the limit is {max}")]
    TooLong {
        /// Length of the source.
        found: usize,
        /// Limit of its language.
        max: usize,
    },
    /// Operators or brackets are nested too deeply.
    #[error("the expression is nested deeper than {max} levels")]
    TooDeep {
        /// The limit.
        max: usize,
    },
    /// Something countable is too many.
    #[error("the expression has more than {max} {what}")]
    TooMany {
        /// What was counted, in plural.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// The text is not in the language.
    #[error("syntax error at {at}: {why}")]
    Syntax {
        /// Where.
        at: Place,
        /// What is wrong.
        why: String,
    },
    /// A variable, function or operator that does not exist.
    #[error("unknown {kind} `{name}` at {at}, known are: {known}")]
    Unknown {
        /// `variable`, `function` or `operator`.
        kind: &'static str,
        /// The name, cut and escaped.
        name: String,
        /// Where.
        at: Place,
        /// The names that exist.
        known: &'static str,
    },
    /// The language has it, this subset does not.
    #[error("{what} at {at} is not supported, {instead}")]
    Unsupported {
        /// The construct.
        what: &'static str,
        /// Where.
        at: Place,
        /// What to write instead.
        instead: &'static str,
    },
    /// An operator got values it does not take.
    #[error("type error at {at}: {why}")]
    Type {
        /// Where.
        at: Place,
        /// What was wanted and what was found.
        why: String,
    },
    /// The parser itself failed; the expression is not accepted.
    #[error("the expression could not be parsed")]
    Parser,
}

/// Where in a source an error is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A position in the text; both count from one, columns in characters.
    Text {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// Operators and argument positions from the root of a JSONLogic expression: `/and/0/==`.
    Path(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { line, column } => write!(f, "line {line} column {column}"),
            Self::Path(path) if path.is_empty() => f.write_str("/"),
            Self::Path(path) => f.write_str(path),
        }
    }
}

/// Why an evaluation gave neither true nor false; the rule fails.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CustomFailure {
    /// A variable the expression needs was not sent, or was sent empty.
    #[error("`{name}` is missing")]
    MissingVariable {
        /// Its name in the expression, cut and escaped.
        name: String,
    },
    /// An operation left the range of 64-bit integers.
    #[error("integer overflow in `{operator}`")]
    Overflow {
        /// The operator.
        operator: &'static str,
    },
    /// The right side of `/` or `%` is zero.
    #[error("division by zero in `{operator}`")]
    DivisionByZero {
        /// The operator.
        operator: &'static str,
    },
    /// A string to be read as an integer is something else.
    #[error("`{text}` is not an integer")]
    NotAnInteger {
        /// The string, cut and escaped.
        text: String,
    },
    /// The spend carries more text than one evaluation may read.
    #[error("the expression needs more than {max} steps for this spend")]
    CostExceeded {
        /// The limit.
        max: usize,
    },
}

/// The beginning of `text`, on one line and printable.
pub(super) fn echo(text: &str) -> String {
    let mut echoed: String = text.chars().take(ECHO_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(ECHO_MAX).is_some() {
        echoed.push('…');
    }
    echoed
}
