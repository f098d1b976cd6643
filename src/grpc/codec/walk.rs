//! Walks the wire bytes of one request along its schema and collects everything that is wrong.
//!
//! One pass, no allocation unless something is wrong or a list must be free of repetitions. What
//! passes is exactly what prost then decodes: a field that occurs twice, where decoders would
//! silently keep the last or merge both, is refused.

use std::collections::HashSet;

use super::wire::{Malformed, Reader, Wire};
use crate::grpc::schema::{
    FieldSchema, Kind, MessageId, MessageSchema, REPEATED_MAX, Rules, Schema, Shape, Value,
};
use crate::grpc::status::{Violations, excerpt};

/// Messages may be nested this deep.
const DEPTH_MAX: u8 = 64;

/// What is wrong with the bytes of a request, field by field.
pub(super) fn check(
    schema: &Schema,
    request: MessageId,
    bytes: &[u8],
) -> Result<Violations, Malformed> {
    let mut walk = Walk { schema, found: Violations::default() };
    let root = Path { parent: None, step: Step::Root };
    match walk.message(request, bytes, &root, DEPTH_MAX) {
        Ok(()) | Err(Stop::Enough) => Ok(walk.found),
        Err(Stop::Malformed(why)) => Err(why),
    }
}

/// Why a walk ends before the bytes do.
enum Stop {
    Malformed(Malformed),
    /// As many violations as one error lists.
    Enough,
}

impl From<Malformed> for Stop {
    fn from(why: Malformed) -> Self {
        Self::Malformed(why)
    }
}

struct Walk<'s> {
    schema: &'s Schema,
    found: Violations,
}

/// What was seen of one message.
#[derive(Default)]
struct Seen<'a> {
    fields: u64,
    counts: [u64; REPEATED_MAX],
    /// The values of lists that must be free of repetitions.
    values: Vec<(usize, HashSet<Value<'a>>)>,
}

impl<'a> Seen<'a> {
    /// Counts one more value of a list and says its position.
    fn count(&mut self, slot: usize) -> u64 {
        let Some(count) = self.counts.get_mut(slot) else {
            return 0;
        };
        let position = *count;
        *count = count.saturating_add(1);
        position
    }

    fn counted(&self, slot: usize) -> u64 {
        self.counts.get(slot).copied().unwrap_or(0)
    }

    /// Remembers a value of a list; false if the list has it already.
    fn is_new(&mut self, slot: usize, value: Value<'a>) -> bool {
        if let Some((_, values)) = self.values.iter_mut().find(|(known, _)| *known == slot) {
            return values.insert(value);
        }
        self.values.push((slot, HashSet::from([value])));
        true
    }
}

impl<'s> Walk<'s> {
    fn message(
        &mut self,
        id: MessageId,
        bytes: &[u8],
        at: &Path<'_>,
        depth: u8,
    ) -> Result<(), Stop> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(Stop::Malformed("messages are nested deeper than 64 levels"));
        };
        let Some(message) = self.schema.message(id) else {
            return Ok(());
        };
        let mut seen = Seen::default();
        let mut reader = Reader(bytes);
        while !reader.is_empty() {
            let (number, wire) = reader.key()?;
            match message.field(number) {
                Some(field) => {
                    let mut read = Read { reader: &mut reader, seen: &mut seen, at, depth };
                    self.field(field, wire, &mut read)?;
                }
                None => {
                    reader.skip(wire)?;
                    self.found.has_unknown = true;
                    let path = at.child(Step::Unknown(number));
                    self.violation(&path, "is a field this server does not know".to_owned())?;
                }
            }
        }
        self.finish(message, &seen, at)
    }

    fn field<'a>(
        &mut self,
        field: &FieldSchema,
        wire: Wire,
        read: &mut Read<'_, 'a>,
    ) -> Result<(), Stop> {
        match &field.shape {
            Shape::Implicit | Shape::Explicit => {
                if read.seen.fields & field.excludes != 0 {
                    return Err(Stop::Malformed("a field occurs twice"));
                }
                read.seen.fields |= field.bit;
                let value = read.reader.value(field.kind, wire)?;
                let path = read.at.child(Step::Field(&field.name));
                if field.required && matches!(field.shape, Shape::Implicit) && value.is_default() {
                    return self.violation(&path, "is required".to_owned());
                }
                self.value(field, value, &path, read.depth)
            }
            Shape::Repeated(many) => {
                read.seen.fields |= field.bit;
                if wire == Wire::Length && field.kind.wire() != Wire::Length {
                    let mut packed = Reader(read.reader.length_delimited()?);
                    while !packed.is_empty() {
                        let value = packed.value(field.kind, field.kind.wire())?;
                        self.item(field, (many.slot, many.unique), value, read)?;
                    }
                    return Ok(());
                }
                let value = read.reader.value(field.kind, wire)?;
                self.item(field, (many.slot, many.unique), value, read)
            }
            Shape::Map(many) => {
                read.seen.fields |= field.bit;
                read.seen.count(many.slot);
                let value = read.reader.value(field.kind, wire)?;
                let entry = if let Value::Bytes(entry) = value { entry } else { &[] };
                let path = read.at.child(Step::Entry(&field.name, entry));
                self.value(field, value, &path, read.depth)
            }
        }
    }

    fn item<'a>(
        &mut self,
        field: &FieldSchema,
        (slot, is_unique): (usize, bool),
        value: Value<'a>,
        read: &mut Read<'_, 'a>,
    ) -> Result<(), Stop> {
        let position = read.seen.count(slot);
        let path = read.at.child(Step::Item(&field.name, position));
        if is_unique && !read.seen.is_new(slot, value) {
            self.violation(&path, "repeats an earlier value of the list".to_owned())?;
        }
        self.value(field, value, &path, read.depth)
    }

    fn value(
        &mut self,
        field: &FieldSchema,
        value: Value<'_>,
        path: &Path<'_>,
        depth: u8,
    ) -> Result<(), Stop> {
        if let (Kind::Message(id), Value::Bytes(bytes)) = (field.kind, value) {
            return self.message(id, bytes, path, depth);
        }
        if matches!(field.rules, Rules::None) {
            return Ok(());
        }
        match field.rules.violation(value) {
            Some(why) => self.violation(path, why),
            None => Ok(()),
        }
    }

    /// What can be said only when the whole message was read: what is absent, and how many.
    fn finish(
        &mut self,
        message: &MessageSchema,
        seen: &Seen<'_>,
        at: &Path<'_>,
    ) -> Result<(), Stop> {
        if message.wrong_if_absent & !seen.fields != 0 {
            for field in &message.fields {
                if field.bit & seen.fields == 0
                    && let Some(why) = field.absence()
                {
                    self.violation(&at.child(Step::Field(&field.name)), why)?;
                }
            }
        }
        for field in &message.fields {
            let (Shape::Repeated(many) | Shape::Map(many)) = &field.shape else {
                continue;
            };
            if field.bit & seen.fields == 0 {
                continue;
            }
            let count = seen.counted(many.slot);
            let absent = (field.required && count == 0).then(|| "is required".to_owned());
            let why = absent.or_else(|| many.too_few(count)).or_else(|| many.too_many(count));
            if let Some(why) = why {
                self.violation(&at.child(Step::Field(&field.name)), why)?;
            }
        }
        for oneof in &message.required_oneofs {
            if oneof.members & seen.fields == 0 {
                let why = format!("is required: give one of {}", oneof.names.join(", "));
                self.violation(&at.child(Step::Field(&oneof.name)), why)?;
            }
        }
        Ok(())
    }

    fn violation(&mut self, path: &Path<'_>, why: String) -> Result<(), Stop> {
        let why = if path.is_key() { format!("has a key that {why}") } else { why };
        self.found.add(path.to_string(), why);
        if self.found.is_full() { Err(Stop::Enough) } else { Ok(()) }
    }
}

/// Where in a message the walk is.
struct Read<'r, 'a> {
    reader: &'r mut Reader<'a>,
    seen: &'r mut Seen<'a>,
    at: &'r Path<'r>,
    depth: u8,
}

/// The way from the request to a field, written out only when something is wrong there.
#[derive(Clone, Copy)]
struct Path<'p> {
    parent: Option<&'p Path<'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Root,
    Field(&'p str),
    Item(&'p str, u64),
    /// An entry of a map, by the field's name and the entry's bytes, which hold the key.
    Entry(&'p str, &'p [u8]),
    Unknown(u32),
}

impl<'p> Path<'p> {
    fn child(&'p self, step: Step<'p>) -> Path<'p> {
        Path { parent: Some(self), step }
    }

    fn is_in_entry(&self) -> bool {
        self.parent.is_some_and(|parent| matches!(parent.step, Step::Entry(..)))
    }

    fn is_key(&self) -> bool {
        self.is_in_entry() && matches!(self.step, Step::Field("key"))
    }
}

impl std::fmt::Display for Path<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(parent) = self.parent else {
            return Ok(());
        };
        parent.fmt(formatter)?;
        let is_shown = !self.is_in_entry() || matches!(self.step, Step::Unknown(_));
        if parent.parent.is_some() && is_shown {
            formatter.write_str(".")?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(_) if self.is_in_entry() => Ok(()),
            Step::Field(name) => formatter.write_str(name),
            Step::Item(name, position) => write!(formatter, "{name}[{position}]"),
            Step::Entry(name, entry) => write!(formatter, "{name}[\"{}\"]", entry_key(entry)),
            Step::Unknown(number) => write!(formatter, "{number}"),
        }
    }
}

/// The key of a map entry, as far as it can be shown.
fn entry_key(entry: &[u8]) -> String {
    let mut reader = Reader(entry);
    while let Ok((number, wire)) = reader.key() {
        if number == 1 && wire == Wire::Length {
            let bytes = reader.length_delimited().unwrap_or_default();
            return excerpt(&String::from_utf8_lossy(bytes));
        }
        if reader.skip(wire).is_err() {
            break;
        }
    }
    String::new()
}
