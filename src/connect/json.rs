//! Canonical proto3 JSON, read strictly: unknown fields, repeated keys and wrong types are
//! refused, all at once and each with the path of its field.
//!
//! Names are accepted as in JSON (`agentId`) and as in the proto (`agent_id`). Fields with default
//! values are left out of replies. Not here: the rules on values, which the codec checks for every
//! protocol; they are asked here too, only so that one error lists everything.

mod tree;
mod value;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, SerializeOptions, Value,
};
use tonic::Status;

use self::tree::Json;
use super::{decode, internal, malformed};
use crate::grpc::codec;
use crate::grpc::status::{Violations, excerpt};

/// The encoded message that the JSON describes.
pub(super) fn to_message(descriptor: &MessageDescriptor, body: &[u8]) -> Result<Bytes, Status> {
    if body.is_empty() {
        return Err(malformed("the body is empty; send {} for a message without fields"));
    }
    let tree: Json = serde_json::from_slice(body)
        .map_err(|error| malformed(&format!("the body is not JSON: {error}")))?;
    let Json::Object(members) = tree else {
        return Err(malformed("the body must be a JSON object"));
    };
    let mut reading = Reading::default();
    let message = reading.message(descriptor, members, "");
    if let Some(path) = reading.twice {
        // As on the wire: which of the two was meant, nobody can say.
        return Err(malformed(&format!("`{path}` is given twice")));
    }
    let bytes = Bytes::from(message.encode_to_vec());
    if reading.found.is_empty() {
        return Ok(bytes);
    }
    if let Ok(others) = codec::faults(descriptor.package_name(), descriptor.name(), &bytes) {
        reading.found.add_others(others);
    }
    Err(reading.found.status())
}

/// The JSON of an encoded message.
pub(super) fn from_bytes(descriptor: MessageDescriptor, bytes: &[u8]) -> Result<Bytes, Status> {
    let message = decode(descriptor, bytes)?;
    let mut written = serde_json::Serializer::new(Vec::with_capacity(bytes.len()));
    // Clients of other languages read both; people want to see what is false and zero.
    let options = SerializeOptions::new().skip_default_fields(false);
    match message.serialize_with_options(&mut written, &options) {
        Ok(()) => Ok(Bytes::from(written.into_inner())),
        Err(error) => {
            tracing::error!(%error, "a reply could not be written as JSON");
            Err(internal("the reply could not be written as JSON"))
        }
    }
}

#[derive(Default)]
struct Reading {
    found: Violations,
    /// The first field or key that is given twice.
    twice: Option<String>,
}

impl Reading {
    fn message(
        &mut self,
        descriptor: &MessageDescriptor,
        members: Vec<(String, Json)>,
        path: &str,
    ) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        let mut given = Vec::with_capacity(members.len());
        for (name, json) in members {
            let field = descriptor
                .get_field_by_json_name(&name)
                .or_else(|| descriptor.get_field_by_name(&name));
            let Some(field) = field else {
                self.found.has_unknown = true;
                let why = "is a field this server does not know".to_owned();
                self.found.add(join(path, &excerpt(&name)), why);
                continue;
            };
            let path = join(path, field.name());
            if given.contains(&field.number()) {
                self.twice.get_or_insert(path);
                continue;
            }
            given.push(field.number());
            let Some(value) = self.field(&field, json, &path) else {
                continue;
            };
            let other = field
                .containing_oneof()
                .and_then(|oneof| oneof.fields().find(|other| message.has_field(other)));
            match other {
                Some(other) => {
                    let why = format!("cannot be given together with {}", other.name());
                    self.found.add(path, why);
                }
                None => message.set_field(&field, value),
            }
        }
        message
    }

    /// The value of a field; `None` if it is null or wrong.
    fn field(&mut self, field: &FieldDescriptor, json: Json, path: &str) -> Option<Value> {
        if json == Json::Null {
            return None;
        }
        if field.is_map() {
            let Json::Object(members) = json else {
                return self.wrong(path, "must be an object");
            };
            return self.map(field, members, path);
        }
        if field.is_list() {
            let Json::List(items) = json else {
                return self.wrong(path, "must be a list");
            };
            let mut values = Vec::with_capacity(items.len());
            for (position, item) in items.into_iter().enumerate() {
                let value = self.value(&field.kind(), item, &format!("{path}[{position}]"));
                // A wrong item keeps its place, or faults of later ones would be misplaced.
                values.push(value.unwrap_or_else(|| Value::default_value(&field.kind())));
            }
            return Some(Value::List(values));
        }
        self.value(&field.kind(), json, path)
    }

    fn map(
        &mut self,
        field: &FieldDescriptor,
        members: Vec<(String, Json)>,
        path: &str,
    ) -> Option<Value> {
        let kind = field.kind();
        let entry = kind.as_message()?;
        let (key_kind, value_kind) =
            (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
        let mut entries = HashMap::<MapKey, Value>::with_capacity(members.len());
        for (name, json) in members {
            let path = format!("{path}[\"{}\"]", excerpt(&name));
            let Some(key) = value::map_key(&key_kind, name) else {
                self.found.add(path, "has a key of the wrong type".to_owned());
                continue;
            };
            match entries.entry(key) {
                Entry::Occupied(_) => drop(self.twice.get_or_insert(path)),
                Entry::Vacant(place) => {
                    if let Some(value) = self.value(&value_kind, json, &path) {
                        place.insert(value);
                    }
                }
            }
        }
        Some(Value::Map(entries))
    }

    fn value(&mut self, kind: &Kind, json: Json, path: &str) -> Option<Value> {
        match (kind, json) {
            (Kind::Message(descriptor), Json::Object(members))
                if !value::is_special(descriptor) =>
            {
                Some(Value::Message(self.message(descriptor, members, path)))
            }
            (Kind::Message(descriptor), _) if !value::is_special(descriptor) => {
                self.wrong(path, "must be an object")
            }
            (kind, json) => match value::leaf(kind, json) {
                Ok(value) => Some(value),
                Err(why) => self.wrong(path, why),
            },
        }
    }

    fn wrong(&mut self, path: &str, why: impl Into<String>) -> Option<Value> {
        self.found.add(path.to_owned(), why.into());
        None
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests;
