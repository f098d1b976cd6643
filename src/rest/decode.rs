//! Reads a form from a tree and reports every fault of it, not only the first.
//!
//! serde stops at the first fault. So each fault is noted, its place in the tree becomes a hole
//! (or, for an unknown field, is taken out), and the tree is read again. Not here: bounds of
//! values, which the contract's own validation checks.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};

use super::failure::{Failure, Violation};
use super::tree::{Node, Step, path_text, shown};

/// Faults that are reported at once.
const VIOLATIONS_MAX: usize = 20;

/// How often the tree is read at most.
const READINGS_MAX: usize = 64;

/// The form in the tree, or all its faults: its own, and those that `others` finds in what is left
/// of it once its own are taken out.
pub(super) fn decode<T: DeserializeOwned>(
    mut tree: Node,
    others: impl FnOnce(T) -> Vec<Violation>,
) -> Result<T, Failure> {
    let mut violations = Vec::new();
    let mut has_unknown = false;
    for _ in 0..READINGS_MAX {
        let mut fault = match T::deserialize(&tree) {
            Ok(form) if violations.is_empty() => return Ok(form),
            Ok(form) => {
                add_others(&mut violations, others(form));
                break;
            }
            Err(fault) => fault,
        };
        fault.path.reverse();
        let (news, repaired) = fault.repair(&mut tree);
        if news {
            has_unknown = has_unknown || matches!(fault.kind, FaultKind::Unknown(_));
            violations.push(fault.into_violation());
        }
        if !repaired || violations.len() >= VIOLATIONS_MAX {
            break;
        }
    }
    Err(if has_unknown { Failure::unknown_fields(violations) } else { Failure::fields(violations) })
}

/// Adds what does not follow from a hole, which stands for a fault already reported.
fn add_others(violations: &mut Vec<Violation>, others: Vec<Violation>) {
    let known: Vec<String> = violations.iter().map(|own| unit(&own.field).to_owned()).collect();
    let is_own = |other: &Violation| {
        // That nothing is left of a body follows from what was taken out of it.
        other.field == "body"
            || known.iter().any(|own| is_within(&other.field, own) || is_within(own, &other.field))
    };
    let room = VIOLATIONS_MAX.saturating_sub(violations.len());
    violations.extend(others.into_iter().filter(|other| !is_own(other)).take(room));
}

/// What a fault spoils: its field, or all of the rule it lies in, which has no meaning without it.
fn unit(field: &str) -> &str {
    let end = field.find(']').filter(|_| field.starts_with("rules["));
    end.and_then(|end| field.get(..=end)).unwrap_or(field)
}

/// Whether the path `inner` is `outer`, or leads to a part of it.
fn is_within(inner: &str, outer: &str) -> bool {
    let rest = inner.strip_prefix(outer);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// A fault and where it lies; the path is built from its end while the error travels up.
#[derive(Debug)]
pub(super) struct Fault {
    path: Vec<Step>,
    kind: FaultKind,
    message: String,
}

#[derive(Debug)]
enum FaultKind {
    /// The object at the path has a field too many.
    Unknown(String),
    /// The object at the path has a field too few.
    Missing(&'static str),
    /// The value at the path is wrong.
    Wrong,
}

impl Fault {
    fn wrong(message: String) -> Self {
        Self { path: Vec::new(), kind: FaultKind::Wrong, message }
    }

    fn below(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }

    /// Changes the tree so that this fault does not come again. Says whether it is news, or only
    /// followed from a hole, which stands for a fault already reported; and whether anything could
    /// be changed, which is not so for a fault of the whole body.
    fn repair(&self, tree: &mut Node) -> (bool, bool) {
        let mut news = true;
        if let Some(Node::Object(fields)) = tree.at(&self.path) {
            let changed = match &self.kind {
                FaultKind::Unknown(name) => fields.remove(name).is_some(),
                FaultKind::Missing(name) => {
                    news = fields.insert((*name).to_owned(), Node::Hole).is_none();
                    news
                }
                FaultKind::Wrong => false,
            };
            if changed {
                return (true, true);
            }
        }
        let mut path = self.path.as_slice();
        while let Some((_, above)) = path.split_last() {
            match tree.at(path) {
                Some(Node::Hole) | None => news = false,
                Some(node) => {
                    *node = Node::Hole;
                    return (news, true);
                }
            }
            path = above;
        }
        (news, false)
    }

    fn into_violation(self) -> Violation {
        let mut path = self.path;
        match self.kind {
            FaultKind::Unknown(name) => path.push(Step::Key(name)),
            FaultKind::Missing(name) => path.push(Step::Key(name.to_owned())),
            FaultKind::Wrong => {}
        }
        Violation::new(path_text(&path), self.message)
    }
}

impl Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: Display>(message: T) -> Self {
        Self::wrong(message.to_string())
    }

    fn invalid_type(given: Unexpected<'_>, wanted: &dyn de::Expected) -> Self {
        Self::invalid_value(given, wanted)
    }

    // Never echoes what was given: it may be long, or a secret in the wrong place.
    fn invalid_value(_given: Unexpected<'_>, wanted: &dyn de::Expected) -> Self {
        let wanted = match wanted.to_string().as_str() {
            "a sequence" => "a list".to_owned(),
            "a map" => "an object".to_owned(),
            wanted if wanted.starts_with("struct ") => "an object".to_owned(),
            wanted => wanted.to_owned(),
        };
        Self::wrong(format!("must be {wanted}"))
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Self {
        // The reader of rules knows every field of every rule; that list would help nobody.
        let message = if known.len() > 12 {
            "is not a known field".to_owned()
        } else if known.is_empty() {
            "is not a known field here; there are none".to_owned()
        } else {
            format!("is not a known field here; known are {}", known.join(", "))
        };
        Self { path: Vec::new(), kind: FaultKind::Unknown(name.to_owned()), message }
    }

    fn missing_field(name: &'static str) -> Self {
        Self { path: Vec::new(), kind: FaultKind::Missing(name), message: "is required".to_owned() }
    }

    fn duplicate_field(name: &'static str) -> Self {
        Self::wrong(format!("`{}` is given twice under two names", shown(name)))
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self {
            Node::Null => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Signed(value) => visitor.visit_i64(*value),
            Node::Unsigned(value) => visitor.visit_u64(*value),
            Node::Float(value) => visitor.visit_f64(*value),
            Node::Text(value) => visitor.visit_borrowed_str(value),
            Node::List(items) => visitor.visit_seq(Items { items, next: 0 }),
            Node::Object(fields) => visitor.visit_map(Fields::new(fields)),
            // Who asks for anything wants a number, in our forms.
            Node::Hole => visitor.visit_i64(0),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if matches!(self, Node::Null | Node::Hole) {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if *self == Node::Hole {
            return visitor.visit_borrowed_str("");
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if *self == Node::Hole {
            return visitor.visit_bool(false);
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if *self == Node::Hole {
            let items = &[];
            return visitor.visit_seq(Items { items, next: 0 });
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if *self == Node::Hole {
            return visitor.visit_map(Holes { names: [].iter() });
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if *self == Node::Hole {
            let names = names.iter();
            return visitor.visit_map(Holes { names });
        }
        // serde would also read a struct from a list; people mean an object.
        if matches!(self, Node::List(_)) {
            return Err(Fault::wrong("must be an object".to_owned()));
        }
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        newtype_struct tuple tuple_struct enum identifier ignored_any
    }
}

struct Items<'de> {
    items: &'de [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        loop {
            let index = self.next;
            let Some(item) = self.items.get(index) else {
                return Ok(None);
            };
            self.next = index.saturating_add(1);
            if *item != Node::Hole {
                let value = seed.deserialize(item);
                return value.map(Some).map_err(|fault| fault.below(Step::Index(index)));
            }
        }
    }
}

struct Fields<'de> {
    /// Holes come last, so that what they lead to hides no other fault.
    fields: std::vec::IntoIter<(&'de String, &'de Node)>,
    value: Option<(&'de String, &'de Node)>,
}

impl<'de> Fields<'de> {
    fn new(fields: &'de BTreeMap<String, Node>) -> Self {
        let mut fields: Vec<_> = fields.iter().collect();
        fields.sort_by_key(|(_, value)| **value == Node::Hole);
        Self { fields: fields.into_iter(), value: None }
    }
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        self.value = self.fields.next();
        let Some((key, _)) = self.value else {
            return Ok(None);
        };
        let key: StrDeserializer<'_, Fault> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some((key, value)) = self.value.take() else {
            return Err(de::Error::custom("a value was read before its key"));
        };
        seed.deserialize(value).map_err(|fault| fault.below(Step::Key(key.clone())))
    }
}

/// An object that has every field, each a hole.
struct Holes {
    names: std::slice::Iter<'static, &'static str>,
}

impl<'de> MapAccess<'de> for Holes {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some(name) = self.names.next() else {
            return Ok(None);
        };
        let name: StrDeserializer<'_, Fault> = (*name).into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        seed.deserialize(&Node::Hole)
    }
}

#[cfg(test)]
mod tests;
