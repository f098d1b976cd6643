//! A JSON body as a tree, and where in it a fault lies.
//!
//! Stricter than `serde_json::Value`: a key given twice is an error, because two readers could
//! pick different ones. Depth is bounded by the parser (128). Not here: what the body means
//! (`decode`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::failure::Failure;

/// Characters of a path and of a name that are ever echoed.
const PATH_CHARACTERS_MAX: usize = 128;
const NAME_CHARACTERS_MAX: usize = 32;

/// How the parser begins to say that it goes no deeper; it has no other sign of it.
const TOO_DEEP: &str = "recursion limit exceeded";

/// One value of a body.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    /// Anything written with a fraction or an exponent, or beyond 64 bits.
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Object(BTreeMap<String, Node>),
    /// A value that was wrong and has been reported: reads as the emptiest value of any type, so
    /// that the rest of the body can be checked too.
    Hole,
}

impl Node {
    /// The value at the end of the path.
    pub(super) fn at(&mut self, path: &[Step]) -> Option<&mut Self> {
        let mut node = self;
        for step in path {
            node = match (step, node) {
                (Step::Key(key), Self::Object(fields)) => fields.get_mut(key)?,
                (Step::Index(index), Self::List(items)) => items.get_mut(*index)?,
                _ => return None,
            };
        }
        Some(node)
    }
}

/// One step from an object or a list into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// A path as messages write it: `rules[2].startHour`; `body` for the whole.
pub(super) fn path_text(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(&shown(key));
            }
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    if text.is_empty() {
        return "body".to_owned();
    }
    clipped(&text, PATH_CHARACTERS_MAX)
}

/// A name of the caller's, safe to echo.
pub(super) fn shown(name: &str) -> String {
    let start: String = name.chars().take(NAME_CHARACTERS_MAX.saturating_add(1)).collect();
    clipped(&start.escape_debug().to_string(), NAME_CHARACTERS_MAX)
}

fn clipped(text: &str, characters_max: usize) -> String {
    let mut clipped: String = text.chars().take(characters_max).collect();
    if clipped.len() < text.len() {
        clipped.push('…');
    }
    clipped
}

/// Reads a whole body. A fault names the field it lies in.
pub(super) fn parse(body: &[u8]) -> Result<Node, Failure> {
    let trail = Trail::default();
    let mut reader = serde_json::Deserializer::from_slice(body);
    let tree = NodeSeed { trail: &trail }.deserialize(&mut reader);
    let tree = tree.and_then(|tree| reader.end().map(|()| tree));
    tree.map_err(|error| {
        let (mut path, said) = (trail.0.into_inner(), error.to_string());
        let what = if error.is_data() {
            "is given twice".to_owned()
        } else if said.starts_with(TOO_DEEP) {
            // Whose field it is is told; the way down to the fault would be noise.
            path.truncate(1);
            "is nested too deeply".to_owned()
        } else {
            format!("is not valid JSON: {said}")
        };
        Failure::malformed(path_text(&path), what)
    })
}

/// The path of what is being read; after a failure it still points at the fault.
#[derive(Default)]
struct Trail(RefCell<Vec<Step>>);

impl Trail {
    fn enter(&self, step: Step) {
        self.0.borrow_mut().push(step);
    }

    fn leave(&self) {
        self.0.borrow_mut().pop();
    }
}

#[derive(Clone, Copy)]
struct NodeSeed<'a> {
    trail: &'a Trail,
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Signed(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Unsigned(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        loop {
            self.trail.enter(Step::Index(list.len()));
            let item = items.next_element_seed(self)?;
            self.trail.leave();
            match item {
                Some(item) => list.push(item),
                None => return Ok(Node::List(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
        let mut object = BTreeMap::new();
        while let Some(key) = fields.next_key::<String>()? {
            self.trail.enter(Step::Key(key.clone()));
            if object.contains_key(&key) {
                return Err(de::Error::custom("given twice"));
            }
            let value = fields.next_value_seed(self)?;
            self.trail.leave();
            object.insert(key, value);
        }
        Ok(Node::Object(object))
    }
}
