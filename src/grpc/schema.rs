//! What a request may look like: the fields of every request message and the rules on them.
//!
//! The table is read once from the descriptor set and its `buf.validate` options, so the proto
//! files are the only place where a rule is written. A rule this module does not understand is an
//! error, never ignored. Not here: reading wire bytes (`grpc/codec`), and rules that need more than
//! one field or the state of anything, which belong to the engine.

mod build;
mod check;
mod options;

use std::collections::HashMap;
use std::sync::OnceLock;

use regex::Regex;

pub(crate) use build::SchemaError;
pub(crate) use check::Value;

/// At most this many fields in one request message, so that one word can say which were seen.
const FIELDS_MAX: usize = 64;

/// At most this many repeated fields in one request message, counted without an allocation.
pub(crate) const REPEATED_MAX: usize = 8;

/// Every message that can occur in a request.
#[derive(Debug)]
pub(crate) struct Schema {
    messages: Vec<MessageSchema>,
    /// Position of each request message, by its name without the package.
    requests: HashMap<String, (String, MessageId)>,
}

/// Position of a message in the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MessageId(usize);

/// One message type.
#[derive(Debug)]
pub(crate) struct MessageSchema {
    /// In the order of their numbers.
    pub(crate) fields: Vec<FieldSchema>,
    /// Oneofs of which a member is required.
    pub(crate) required_oneofs: Vec<OneofSchema>,
    /// Fields that are wrong when they are absent, one bit each.
    pub(crate) wrong_if_absent: u64,
}

/// One field of a message.
#[derive(Debug)]
pub(crate) struct FieldSchema {
    pub(crate) number: u32,
    /// The proto name.
    pub(crate) name: String,
    /// One bit: the field's position in the message.
    pub(crate) bit: u64,
    /// The bits of every member of the same oneof, with its own; else only its own.
    pub(crate) excludes: u64,
    pub(crate) kind: Kind,
    pub(crate) shape: Shape,
    pub(crate) required: bool,
    /// What each value must satisfy; for a map, in the fields of its entry instead.
    pub(crate) rules: Rules,
}

/// How often a field can occur.
#[derive(Debug)]
pub(crate) enum Shape {
    /// Once; absent means the default value, which the rules apply to.
    Implicit,
    /// Once; absent means nothing is given, which only `required` applies to.
    Explicit,
    /// Any number of times.
    Repeated(ManyRules),
    /// A map; the field's kind is its entry message.
    Map(ManyRules),
}

/// Rules on how many values there are.
#[derive(Debug, Default)]
pub(crate) struct ManyRules {
    /// Which counter it uses, below [`REPEATED_MAX`].
    pub(crate) slot: usize,
    pub(crate) least: Option<u64>,
    pub(crate) most: Option<u64>,
    pub(crate) unique: bool,
}

/// What a field holds, which also says how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int32,
    Int64,
    Sint32,
    Sint64,
    Uint32,
    Uint64,
    Enum,
    Fixed32,
    Fixed64,
    String,
    Bytes,
    Message(MessageId),
}

/// Rules on one value.
#[derive(Debug)]
pub(crate) enum Rules {
    None,
    Text(TextRules),
    Number(NumberRules),
    Choice(ChoiceRules),
}

/// Rules on a string.
#[derive(Debug, Default)]
pub(crate) struct TextRules {
    /// In characters.
    pub(crate) length_min: Option<usize>,
    pub(crate) length_max: Option<usize>,
    pub(crate) bytes_min: Option<usize>,
    pub(crate) bytes_max: Option<usize>,
    pub(crate) pattern: Option<Regex>,
}

/// Rules on a signed integer; both bounds are inclusive.
#[derive(Debug, Default)]
pub(crate) struct NumberRules {
    pub(crate) least: Option<i64>,
    pub(crate) most: Option<i64>,
}

/// Rules on an enum.
#[derive(Debug, Default)]
pub(crate) struct ChoiceRules {
    /// Names and numbers of the values that are allowed; `None` allows every number.
    pub(crate) allowed: Option<Vec<(i32, String)>>,
    pub(crate) forbidden: Vec<i32>,
}

/// A oneof that must have a member.
#[derive(Debug)]
pub(crate) struct OneofSchema {
    pub(crate) name: String,
    /// The bits of its members.
    pub(crate) members: u64,
    /// Their names, for the error.
    pub(crate) names: Vec<String>,
}

impl Schema {
    /// The schema of this server's own protos, built at first use.
    ///
    /// # Errors
    /// A rule in the protos is not understood. A test of this module prevents that.
    pub(crate) fn shared() -> Result<&'static Self, &'static SchemaError> {
        static SHARED: OnceLock<Result<Schema, SchemaError>> = OnceLock::new();
        SHARED.get_or_init(|| Schema::build(crate::proto::DESCRIPTORS)).as_ref()
    }

    /// The request message with this name and package.
    pub(crate) fn request(&self, package: &str, name: &str) -> Option<MessageId> {
        let (known_package, id) = self.requests.get(name)?;
        (known_package == package).then_some(*id)
    }

    /// One message type.
    pub(crate) fn message(&self, id: MessageId) -> Option<&MessageSchema> {
        self.messages.get(id.0)
    }
}

impl MessageSchema {
    /// The field with this number.
    pub(crate) fn field(&self, number: u32) -> Option<&FieldSchema> {
        let position = self.fields.binary_search_by_key(&number, |field| field.number).ok()?;
        self.fields.get(position)
    }
}

#[cfg(test)]
pub(crate) mod tests;
