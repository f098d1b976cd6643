//! The operands of one operator, and what each family of operators asks of them.
//!
//! Patterns are compiled here, on the linear-time engine and within a size limit. Not here:
//! which operator asks for what; that is the table in `check`.

use regex::RegexBuilder;

use super::super::PATTERN_MAX;
use super::super::expr::{BoolExpr, Choice, Compare, Comparison, IntExpr, Math, Search, TextExpr};
use super::{Kind, Misfit, Typed};

/// Memory for one compiled pattern and for its lazy automaton. Measured: the worst pattern that
/// fits takes 0.7 ms on its first text of 300 bytes, with 1 MiB it would be 14 ms.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// Operands a message describes one by one.
const FOUND_MAX: usize = 4;

/// The operands of the operator called `label`.
pub(super) struct Operands<'a> {
    pub(super) label: &'a str,
    pub(super) operands: Vec<Typed>,
}

impl Operands<'_> {
    pub(super) fn count(&self) -> usize {
        self.operands.len()
    }

    pub(super) fn first_kind(&self) -> Option<Kind> {
        self.operands.first().map(Typed::kind)
    }

    fn wants(&self, wanted: &str) -> Misfit {
        let found = self.operands.iter().take(FOUND_MAX).map(|o| o.kind().to_string());
        let mut found: Vec<String> = found.collect();
        if self.count() > FOUND_MAX {
            found.push("…".into());
        }
        let found = if found.is_empty() { "nothing".into() } else { found.join(", ") };
        Misfit(format!("`{}` wants {wanted}, found {found}", self.label))
    }

    /// Every operand through `take`, or a misfit about the first that is something else.
    fn all<E>(self, wanted: Kind, take: fn(Typed) -> Option<E>) -> Result<Vec<E>, Misfit> {
        let mut taken = Vec::new();
        for (index, operand) in self.operands.into_iter().enumerate() {
            let (nth, kind) = (index.saturating_add(1), operand.kind());
            let misfit = || format!("`{}` wants {wanted}, operand {nth} is {kind}", self.label);
            taken.push(take(operand).ok_or_else(|| Misfit(misfit()))?);
        }
        Ok(taken)
    }

    pub(super) fn bools(self) -> Result<Vec<BoolExpr>, Misfit> {
        self.all(Kind::Bool, |o| if let Typed::Bool(expr) = o { Some(expr) } else { None })
    }

    pub(super) fn ints(self) -> Result<Vec<IntExpr>, Misfit> {
        self.all(Kind::Int, |o| if let Typed::Int(expr) = o { Some(expr) } else { None })
    }

    pub(super) fn texts(self) -> Result<Vec<TextExpr>, Misfit> {
        self.all(Kind::Text, |o| if let Typed::Text(expr) = o { Some(expr) } else { None })
    }

    /// Exactly `N` operands of one type.
    pub(super) fn exactly<const N: usize, E>(
        self,
        take: fn(Self) -> Result<Vec<E>, Misfit>,
    ) -> Result<[E; N], Misfit> {
        let operands = if N == 1 { "operand" } else { "operands" };
        let misfit = self.wants(&format!("{N} {operands}"));
        take(self)?.try_into().map_err(|_| misfit)
    }

    /// Integers written as strings, everything else as it is.
    pub(super) fn written(mut self) -> Self {
        let written = |operand| match operand {
            Typed::Int(value) => Typed::Text(TextExpr::FromInt(Box::new(value))),
            Typed::Bool(_) | Typed::Text(_) | Typed::Ints(_) | Typed::Texts(_) => operand,
        };
        self.operands = self.operands.into_iter().map(written).collect();
        self
    }

    pub(super) fn logic(self, decisive: bool, absorbs_errors: bool) -> Result<Typed, Misfit> {
        if self.count() == 0 {
            return Err(self.wants("bool"));
        }
        let terms = self.bools()?;
        Ok(Typed::Bool(BoolExpr::Logic { decisive, absorbs_errors, terms }))
    }

    /// `condition, value, condition, value, …, otherwise`.
    pub(super) fn choice(mut self) -> Result<Typed, Misfit> {
        let shape = self.wants("pairs of condition and value, then a value");
        let (mut conditions, mut values) = (Vec::new(), Vec::new());
        let otherwise = self.operands.pop().ok_or_else(|| Misfit(shape.0.clone()))?;
        let mut operands = self.operands.into_iter();
        while let Some(condition) = operands.next() {
            conditions.push(condition);
            values.push(operands.next().ok_or_else(|| Misfit(shape.0.clone()))?);
        }
        if conditions.is_empty() {
            return Err(shape);
        }
        let kind = otherwise.kind();
        values.push(otherwise);
        let label = self.label;
        let conditions = Operands { label, operands: conditions }.bools()?;
        let values = Operands { label, operands: values };
        Ok(match kind {
            Kind::Bool => Typed::Bool(BoolExpr::If(arms(conditions, values.bools()?, shape)?)),
            Kind::Int => Typed::Int(IntExpr::If(arms(conditions, values.ints()?, shape)?)),
            Kind::Text => Typed::Text(TextExpr::If(arms(conditions, values.texts()?, shape)?)),
            Kind::Ints | Kind::Texts => return Err(values.wants("bool, int or string values")),
        })
    }

    pub(super) fn compare(self, by: Comparison, operands_max: usize) -> Result<Typed, Misfit> {
        let misfit = self.wants("operands of one type");
        if self.count() < 2 || self.count() > operands_max {
            let wanted = if operands_max == 2 { "2 operands" } else { "2 or 3 operands" };
            return Err(self.wants(wanted));
        }
        let is_equality = matches!(by, Comparison::Equal | Comparison::NotEqual);
        let compared = match self.first_kind() {
            Some(Kind::Int) => self.ints().ok().and_then(|o| pair(by, o)).map(BoolExpr::Ints),
            Some(Kind::Text) => self.texts().ok().and_then(|o| pair(by, o)).map(BoolExpr::Texts),
            Some(Kind::Bool) if is_equality => {
                self.bools().ok().and_then(|o| pair(by, o)).map(BoolExpr::Bools)
            }
            Some(Kind::Bool | Kind::Ints | Kind::Texts) | None => {
                return Err(self.wants(if is_equality {
                    "bool, int or string"
                } else {
                    "int or string"
                }));
            }
        };
        compared.map(Typed::Bool).ok_or(misfit)
    }

    pub(super) fn math(self, by: Math) -> Result<Typed, Misfit> {
        let one_is_enough = !matches!(by, Math::Subtract | Math::Divide | Math::Remainder);
        let fits = if one_is_enough { self.count() >= 1 } else { self.count() == 2 };
        if !fits {
            return Err(self.wants(if one_is_enough { "int" } else { "2 operands" }));
        }
        let misfit = self.wants("int");
        let mut operands = self.ints()?.into_iter();
        let first = Box::new(operands.next().ok_or(misfit)?);
        Ok(Typed::Int(IntExpr::Math { by, first, rest: operands.collect() }))
    }

    pub(super) fn join(self) -> Result<Typed, Misfit> {
        if self.count() == 0 {
            return Err(self.wants("string"));
        }
        Ok(Typed::Text(TextExpr::Concat(self.texts()?)))
    }

    pub(super) fn parse(self) -> Result<Typed, Misfit> {
        if self.count() == 1 && self.first_kind() == Some(Kind::Int) {
            let [same] = self.exactly(Operands::ints)?;
            return Ok(Typed::Int(same));
        }
        let [text] = self.exactly(Operands::texts)?;
        Ok(Typed::Int(IntExpr::Parse(Box::new(text))))
    }

    pub(super) fn within(self, substring: bool) -> Result<Typed, Misfit> {
        let misfit = self.wants(if substring {
            "a string or an int, then a list literal of the same or a string"
        } else {
            "a string or an int, then a list literal of the same"
        });
        let operands: [Typed; 2] =
            self.operands.try_into().map_err(|_| Misfit(misfit.0.clone()))?;
        Ok(Typed::Bool(match operands {
            [Typed::Int(value), Typed::Ints(mut list)] => {
                list.sort_unstable();
                BoolExpr::IntAmong(value, list.into())
            }
            [Typed::Int(value), Typed::Texts(list)] if list.is_empty() => {
                BoolExpr::IntAmong(value, Box::default())
            }
            [Typed::Text(text), Typed::Texts(mut list)] => {
                list.sort_unstable();
                BoolExpr::Search(Box::new((text, Search::Among(list.into()))))
            }
            [Typed::Text(part), Typed::Text(text)] if substring => {
                BoolExpr::Search(Box::new((text, Search::Contains(part))))
            }
            _ => return Err(misfit),
        }))
    }

    pub(super) fn search(self, search: fn(TextExpr) -> Search) -> Result<Typed, Misfit> {
        let [text, part] = self.exactly(Operands::texts)?;
        Ok(Typed::Bool(BoolExpr::Search(Box::new((text, search(part))))))
    }

    pub(super) fn matches(self) -> Result<Typed, Misfit> {
        let label = self.label;
        let refuse = |why: String| Misfit(format!("the pattern of `{label}` {why}"));
        let [text, pattern] = self.exactly(Operands::texts)?;
        let TextExpr::Const(pattern) = pattern else {
            return Err(refuse("has to be a string literal".into()));
        };
        if pattern.len() > PATTERN_MAX {
            return Err(refuse(format!("is longer than {PATTERN_MAX} bytes")));
        }
        let mut builder = RegexBuilder::new(&pattern);
        builder.size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
        let pattern = builder.build().map_err(|error| {
            let is_large = matches!(error, regex::Error::CompiledTooBig(_));
            let why = if is_large {
                "is too large once compiled, write [a-z0-9_] for \\w and repeat less"
            } else {
                "is not a regular expression"
            };
            refuse(why.into())
        })?;
        Ok(Typed::Bool(BoolExpr::Search(Box::new((text, Search::Matches(pattern))))))
    }
}

fn pair<E>(by: Comparison, operands: Vec<E>) -> Option<Box<Compare<E>>> {
    let mut operands = operands.into_iter();
    let (left, right) = (operands.next()?, operands.next()?);
    Some(Box::new(Compare { by, left, right, end: operands.next() }))
}

/// Joins conditions and values; the last value belongs to no condition.
fn arms<E>(
    conditions: Vec<BoolExpr>,
    mut values: Vec<E>,
    shape: Misfit,
) -> Result<Box<Choice<E>>, Misfit> {
    let otherwise = values.pop().ok_or(shape)?;
    Ok(Box::new(Choice { arms: conditions.into_iter().zip(values).collect(), otherwise }))
}
