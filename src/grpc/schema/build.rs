//! Builds the schema from a descriptor set.
//!
//! Only messages that a request can contain are looked at. Whatever a descriptor or a
//! `buf.validate` option holds that is not understood here is a [`SchemaError`]: a rule must not
//! be written in a proto and then not be enforced.

use std::collections::HashMap;

use super::options::FieldOptions;
use super::{
    FIELDS_MAX, FieldSchema, Kind, ManyRules, MessageId, MessageSchema, NumberRules, OneofSchema,
    REPEATED_MAX, Rules, Schema, Shape, Value,
};
use prost_reflect::{
    DescriptorPool, ExtensionDescriptor, FieldDescriptor, Kind as ProtoKind, MessageDescriptor,
    OneofDescriptor, Value as Setting,
};

/// Seconds that a `google.protobuf.Timestamp` can hold: years 1 to 9999.
const TIMESTAMP_SECONDS: (i64, i64) = (-62_135_596_800, 253_402_300_799);
/// Seconds that a `google.protobuf.Duration` can hold: 10,000 years either way.
const DURATION_SECONDS: i64 = 315_576_000_000;
const NANOS_MAX: i64 = 999_999_999;

/// The protos cannot be turned into a schema: a rule is not understood or cannot be right.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {why}")]
pub(crate) struct SchemaError {
    place: String,
    why: String,
}

pub(super) fn broken(place: &str, why: impl Into<String>) -> SchemaError {
    SchemaError { place: place.to_owned(), why: why.into() }
}

/// The `buf.validate` extensions.
struct Options {
    field: ExtensionDescriptor,
    oneof: ExtensionDescriptor,
    message: ExtensionDescriptor,
}

struct Builder {
    options: Options,
    messages: Vec<Option<MessageSchema>>,
    known: HashMap<String, MessageId>,
}

impl Schema {
    /// Builds the schema of every message named `…Request` in the descriptor set.
    ///
    /// # Errors
    /// The bytes are not a descriptor set, or it has a rule that is not understood.
    pub(crate) fn build(descriptors: &[u8]) -> Result<Self, SchemaError> {
        let pool = DescriptorPool::decode(descriptors)
            .map_err(|error| broken("descriptors", error.to_string()))?;
        let extension = |name: &str| {
            pool.get_extension_by_name(name).ok_or_else(|| broken(name, "is not declared"))
        };
        let mut builder = Builder {
            options: Options {
                field: extension("buf.validate.field")?,
                oneof: extension("buf.validate.oneof")?,
                message: extension("buf.validate.message")?,
            },
            messages: Vec::new(),
            known: HashMap::new(),
        };
        let mut requests = HashMap::new();
        for message in pool.all_messages() {
            if !message.name().ends_with("Request") || is_foreign(message.package_name()) {
                continue;
            }
            let id = builder.message(&message)?;
            let package = message.package_name().to_owned();
            if requests.insert(message.name().to_owned(), (package, id)).is_some() {
                return Err(broken(message.full_name(), "another package has this name too"));
            }
        }
        let messages = builder.messages.into_iter().flatten().collect();
        Ok(Self { messages, requests })
    }
}

fn is_foreign(package: &str) -> bool {
    package.starts_with("google.") || package.starts_with("buf.")
}

impl Builder {
    fn message(&mut self, message: &MessageDescriptor) -> Result<MessageId, SchemaError> {
        if let Some(id) = self.known.get(message.full_name()) {
            return Ok(*id);
        }
        // Known before its fields are, so that a recursive message finds itself.
        let id = MessageId(self.messages.len());
        self.known.insert(message.full_name().to_owned(), id);
        self.messages.push(None);

        if message.options().has_extension(&self.options.message) {
            return Err(broken(message.full_name(), "message rules are not supported"));
        }
        let mut descriptors: Vec<FieldDescriptor> = message.fields().collect();
        descriptors.sort_by_key(FieldDescriptor::number);
        if descriptors.len() > FIELDS_MAX {
            return Err(broken(message.full_name(), "has too many fields"));
        }
        let mut fields = Vec::with_capacity(descriptors.len());
        let mut slots = 0..REPEATED_MAX;
        for descriptor in &descriptors {
            let excludes = match descriptor.containing_oneof() {
                Some(oneof) => members(&oneof, &descriptors),
                None => bit(descriptor, &descriptors),
            };
            let mut field = self.field(descriptor, &mut slots)?;
            field.bit = bit(descriptor, &descriptors);
            field.excludes = excludes;
            fields.push(field);
        }
        let built = MessageSchema {
            wrong_if_absent: fields
                .iter()
                .filter(|f| f.absence().is_some())
                .fold(0, |a, f| a | f.bit),
            required_oneofs: self.oneofs(message, &descriptors)?,
            fields,
        };
        if let Some(place) = self.messages.get_mut(id.0) {
            *place = Some(built);
        }
        Ok(id)
    }

    fn field(
        &mut self,
        descriptor: &FieldDescriptor,
        slots: &mut impl Iterator<Item = usize>,
    ) -> Result<FieldSchema, SchemaError> {
        let place = descriptor.full_name();
        let kind = self.kind(descriptor)?;
        let options = descriptor.options();
        let rules = options
            .has_extension(&self.options.field)
            .then(|| options.get_extension(&self.options.field).into_owned());
        let parsed = match rules.as_ref().and_then(Setting::as_message) {
            Some(rules) => FieldOptions::read(place, descriptor, rules)?,
            None => FieldOptions::default(),
        };
        let mut many = parsed.many;
        if descriptor.is_list() || descriptor.is_map() {
            many.slot = slots.next().ok_or_else(|| broken(place, "is one list too many"))?;
        }
        let shape = if descriptor.is_map() {
            Shape::Map(many)
        } else if descriptor.is_list() {
            Shape::Repeated(many)
        } else if descriptor.supports_presence() {
            Shape::Explicit
        } else {
            Shape::Implicit
        };
        if let Kind::Message(entry) = kind
            && descriptor.is_map()
        {
            self.entry_rules(entry, parsed.keys, parsed.values);
        }
        Ok(FieldSchema {
            number: descriptor.number(),
            name: descriptor.name().to_owned(),
            bit: 0,
            excludes: 0,
            kind,
            shape,
            required: parsed.required,
            rules: parsed.value.or_else(|| built_in(place)).unwrap_or(Rules::None),
        })
    }

    /// Puts the rules on a map's keys and values where the walk finds them: on its entry's fields.
    fn entry_rules(&mut self, entry: MessageId, keys: Option<Rules>, values: Option<Rules>) {
        let Some(Some(entry)) = self.messages.get_mut(entry.0) else {
            return;
        };
        for (field, rules) in entry.fields.iter_mut().zip([keys, values]) {
            field.rules = rules.unwrap_or(Rules::None);
        }
        let wrong = entry.fields.iter().filter(|field| field.absence().is_some());
        entry.wrong_if_absent = wrong.fold(0, |bits, field| bits | field.bit);
    }

    fn kind(&mut self, descriptor: &FieldDescriptor) -> Result<Kind, SchemaError> {
        Ok(match descriptor.kind() {
            ProtoKind::Bool => Kind::Bool,
            ProtoKind::Int32 => Kind::Int32,
            ProtoKind::Int64 => Kind::Int64,
            ProtoKind::Sint32 => Kind::Sint32,
            ProtoKind::Sint64 => Kind::Sint64,
            ProtoKind::Uint32 => Kind::Uint32,
            ProtoKind::Uint64 => Kind::Uint64,
            ProtoKind::Enum(_) => Kind::Enum,
            ProtoKind::Fixed32 | ProtoKind::Sfixed32 | ProtoKind::Float => Kind::Fixed32,
            ProtoKind::Fixed64 | ProtoKind::Sfixed64 | ProtoKind::Double => Kind::Fixed64,
            ProtoKind::String => Kind::String,
            ProtoKind::Bytes => Kind::Bytes,
            ProtoKind::Message(message) => Kind::Message(self.message(&message)?),
        })
    }

    fn oneofs(
        &self,
        message: &MessageDescriptor,
        fields: &[FieldDescriptor],
    ) -> Result<Vec<OneofSchema>, SchemaError> {
        let mut required = Vec::new();
        for oneof in message.oneofs() {
            let options = oneof.options();
            if !options.has_extension(&self.options.oneof) {
                continue;
            }
            let rules = options.get_extension(&self.options.oneof);
            let Some(rules) = rules.as_message() else {
                continue;
            };
            for (option, value) in rules.fields() {
                if option.name() != "required" {
                    return Err(unsupported(oneof.full_name(), option.name()));
                }
                if value.as_bool() == Some(true) {
                    required.push(OneofSchema {
                        name: oneof.name().to_owned(),
                        members: members(&oneof, fields),
                        names: oneof.fields().map(|field| field.name().to_owned()).collect(),
                    });
                }
            }
        }
        Ok(required)
    }
}

impl FieldSchema {
    /// What is wrong if the field is absent, as a sentence without its subject.
    pub(crate) fn absence(&self) -> Option<String> {
        if self.required {
            return Some("is required".to_owned());
        }
        match &self.shape {
            Shape::Explicit => None,
            Shape::Repeated(many) | Shape::Map(many) => many.too_few(0),
            Shape::Implicit => self.rules.violation(self.kind.default_value()),
        }
    }
}

impl ManyRules {
    /// The sentence for too few values, or `None`.
    pub(crate) fn too_few(&self, count: u64) -> Option<String> {
        let least = self.least.filter(|least| count < *least)?;
        let noun = if least == 1 { "value" } else { "values" };
        Some(format!("must have at least {least} {noun}, has {count}"))
    }

    /// The sentence for too many values, or `None`.
    pub(crate) fn too_many(&self, count: u64) -> Option<String> {
        let most = self.most.filter(|most| count > *most)?;
        Some(format!("must have at most {most} values, has {count}"))
    }
}

impl Kind {
    fn default_value(self) -> Value<'static> {
        match self {
            Self::String => Value::Text(""),
            Self::Bytes | Self::Message(_) => Value::Bytes(&[]),
            Self::Bool
            | Self::Int32
            | Self::Int64
            | Self::Sint32
            | Self::Sint64
            | Self::Uint32
            | Self::Uint64
            | Self::Enum
            | Self::Fixed32
            | Self::Fixed64 => Value::Number(0),
        }
    }
}

fn bit(field: &FieldDescriptor, fields: &[FieldDescriptor]) -> u64 {
    let position = fields.iter().position(|other| other.number() == field.number());
    let position = position.and_then(|position| u32::try_from(position).ok());
    position.and_then(|position| 1_u64.checked_shl(position)).unwrap_or(0)
}

fn members(oneof: &OneofDescriptor, fields: &[FieldDescriptor]) -> u64 {
    oneof.fields().fold(0, |bits, field| bits | bit(&field, fields))
}

/// The limits of Google's own types, which carry no options.
fn built_in(field: &str) -> Option<Rules> {
    let (least, most) = match field {
        "google.protobuf.Timestamp.seconds" => TIMESTAMP_SECONDS,
        "google.protobuf.Timestamp.nanos" => (0, NANOS_MAX),
        "google.protobuf.Duration.seconds" => (DURATION_SECONDS.saturating_neg(), DURATION_SECONDS),
        "google.protobuf.Duration.nanos" => (NANOS_MAX.saturating_neg(), NANOS_MAX),
        _ => return None,
    };
    Some(Rules::Number(NumberRules { least: Some(least), most: Some(most) }))
}

pub(super) fn unsupported(place: &str, rule: &str) -> SchemaError {
    broken(place, format!("the rule `{rule}` is not supported: teach grpc/schema or drop it"))
}
