//! Turns one JSON value into a scalar, an enum or one of Google's own types.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use prost_reflect::{DynamicMessage, EnumDescriptor, Kind, MapKey, MessageDescriptor, Value};
use serde_json::Number;

use super::tree::Json;

/// What is wrong with a value, as a sentence without its subject.
type Wrong = String;

const WHOLE: &str = "must be a whole number, as a JSON number or in quotes";
const TEXT: &str = "must be a string";
const TRUTH: &str = "must be true or false";
const BASE64: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// Google's types have a JSON form of their own.
pub(super) fn is_special(descriptor: &MessageDescriptor) -> bool {
    descriptor.package_name() == "google.protobuf"
}

/// The value of anything but an ordinary message.
pub(super) fn leaf(kind: &Kind, json: Json) -> Result<Value, Wrong> {
    match kind {
        Kind::Message(descriptor) => special(descriptor, json),
        Kind::Enum(choices) => choice(choices, &json),
        Kind::String => json.into_text().map(Value::String).ok_or_else(|| TEXT.to_owned()),
        Kind::Bool => json.as_bool().map(Value::Bool).ok_or_else(|| TRUTH.to_owned()),
        Kind::Bytes => bytes(&json).map(Value::Bytes).ok_or_else(|| "must be base64".to_owned()),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => whole(&json).map(Value::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => whole(&json).map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 => whole(&json).map(Value::U32),
        Kind::Uint64 | Kind::Fixed64 => whole(&json).map(Value::U64),
        Kind::Float | Kind::Double => Err("is of a type that has no JSON form here".to_owned()),
    }
}

/// A key of a map, which JSON always writes as a string.
pub(super) fn map_key(kind: &Kind, key: String) -> Option<MapKey> {
    let quoted = || Json::Text(key.clone());
    match kind {
        Kind::String => Some(MapKey::String(key)),
        Kind::Bool => key.parse().ok().map(MapKey::Bool),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => whole(&quoted()).ok().map(MapKey::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => whole(&quoted()).ok().map(MapKey::I64),
        Kind::Uint32 | Kind::Fixed32 => whole(&quoted()).ok().map(MapKey::U32),
        Kind::Uint64 | Kind::Fixed64 => whole(&quoted()).ok().map(MapKey::U64),
        Kind::Float | Kind::Double | Kind::Bytes | Kind::Message(_) | Kind::Enum(_) => None,
    }
}

fn whole<T: TryFrom<i128>>(json: &Json) -> Result<T, Wrong> {
    let number = match json {
        Json::Number(number) => whole_number(number),
        Json::Text(text) if !text.starts_with('+') => text.parse().ok(),
        Json::Null | Json::Bool(_) | Json::Text(_) | Json::List(_) | Json::Object(_) => None,
    };
    let number = number.ok_or_else(|| WHOLE.to_owned())?;
    T::try_from(number).map_err(|_| "is out of the range of its type".to_owned())
}

/// A number without a fraction, also when it is written as 15.0 or 1.5e3.
fn whole_number(number: &Number) -> Option<i128> {
    if let Some(whole) = number.as_i128() {
        return Some(whole);
    }
    let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
    format!("{float:.0}").parse().ok()
}

fn choice(choices: &EnumDescriptor, json: &Json) -> Result<Value, Wrong> {
    let number = match json {
        Json::Text(name) => choices.get_value_by_name(name).map(|choice| choice.number()),
        Json::Number(number) => whole_number(number).and_then(|number| number.try_into().ok()),
        Json::Null | Json::Bool(_) | Json::List(_) | Json::Object(_) => None,
    };
    number.map(Value::EnumNumber).ok_or_else(|| {
        let names: Vec<String> = choices.values().map(|choice| choice.name().to_owned()).collect();
        format!("must be one of {}", names.join(", "))
    })
}

fn bytes(json: &Json) -> Option<Bytes> {
    let Json::Text(text) = json else { return None };
    let alphabet = match text.contains(['-', '_']) {
        true => &alphabet::URL_SAFE,
        false => &alphabet::STANDARD,
    };
    GeneralPurpose::new(alphabet, BASE64).decode(text).ok().map(Bytes::from)
}

fn special(descriptor: &MessageDescriptor, json: Json) -> Result<Value, Wrong> {
    let message = DynamicMessage::deserialize(descriptor.clone(), json.into_value());
    message.map(Value::Message).map_err(|_| {
        match descriptor.name() {
            "Timestamp" => "must be a time such as \"2026-01-31T12:00:00Z\"",
            "Duration" => "must be seconds such as \"1.5s\"",
            "FieldMask" => "must be a string of field names, separated by commas",
            "Struct" => "must be an object",
            _ => "has the wrong type",
        }
        .to_owned()
    })
}
