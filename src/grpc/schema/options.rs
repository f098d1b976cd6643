//! Reads the `buf.validate` options of one field into rules.
//!
//! Whatever an option holds that is not read here is an error, so that no rule is silently not
//! enforced. Not here: where the field stands, and what is done with the rules.

use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind as ProtoKind, Value as Setting,
};
use regex::Regex;

use super::build::{SchemaError, broken, unsupported};
use super::{ChoiceRules, ManyRules, NumberRules, Rules, TextRules};

/// The `buf.validate.field` option of one field.
#[derive(Default)]
pub(super) struct FieldOptions {
    pub(super) required: bool,
    pub(super) value: Option<Rules>,
    pub(super) many: ManyRules,
    pub(super) keys: Option<Rules>,
    pub(super) values: Option<Rules>,
}

impl FieldOptions {
    pub(super) fn read(
        place: &str,
        field: &FieldDescriptor,
        rules: &DynamicMessage,
    ) -> Result<Self, SchemaError> {
        let mut read = Self::default();
        let kind = field.kind();
        no_extensions(place, rules)?;
        for (rule, value) in rules.fields() {
            let inner = value.as_message();
            match (rule.name(), inner) {
                ("required", _) => read.required = value.as_bool().unwrap_or(false),
                ("repeated", Some(inner)) if field.is_list() => {
                    read.repeated(place, &kind, inner)?
                }
                ("map", Some(inner)) if field.is_map() => read.map(place, &kind, inner)?,
                (_, Some(inner)) if !field.is_list() && !field.is_map() => {
                    read.value = Some(value_rules(place, &kind, rule.name(), inner)?);
                }
                (name, _) => return Err(unsupported(place, name)),
            }
        }
        Ok(read)
    }

    fn repeated(
        &mut self,
        place: &str,
        kind: &ProtoKind,
        rules: &DynamicMessage,
    ) -> Result<(), SchemaError> {
        no_extensions(place, rules)?;
        for (rule, value) in rules.fields() {
            match rule.name() {
                "min_items" => self.many.least = value.as_u64(),
                "max_items" => self.many.most = value.as_u64(),
                "unique" => self.many.unique = value.as_bool().unwrap_or(false),
                "items" => self.value = only_value_rules(place, kind, value)?,
                name => return Err(unsupported(place, name)),
            }
        }
        if self.many.unique && matches!(kind, ProtoKind::Message(_)) {
            return Err(unsupported(place, "unique messages"));
        }
        Ok(())
    }

    fn map(
        &mut self,
        place: &str,
        kind: &ProtoKind,
        rules: &DynamicMessage,
    ) -> Result<(), SchemaError> {
        no_extensions(place, rules)?;
        let entry = kind.as_message().ok_or_else(|| broken(place, "is not a map"))?;
        for (rule, value) in rules.fields() {
            match rule.name() {
                "min_pairs" => self.many.least = value.as_u64(),
                "max_pairs" => self.many.most = value.as_u64(),
                "keys" => {
                    let kind = entry.map_entry_key_field().kind();
                    self.keys = only_value_rules(place, &kind, value)?;
                }
                "values" => {
                    let kind = entry.map_entry_value_field().kind();
                    self.values = only_value_rules(place, &kind, value)?;
                }
                name => return Err(unsupported(place, name)),
            }
        }
        Ok(())
    }
}

fn no_extensions(place: &str, rules: &DynamicMessage) -> Result<(), SchemaError> {
    match rules.extensions().next() {
        Some((extension, _)) => Err(unsupported(place, extension.full_name())),
        None => Ok(()),
    }
}

/// Rules inside `items`, `keys` or `values`: one kind of value rules and nothing else.
fn only_value_rules(
    place: &str,
    kind: &ProtoKind,
    rules: &Setting,
) -> Result<Option<Rules>, SchemaError> {
    let rules = rules.as_message().ok_or_else(|| broken(place, "has a rule that is no message"))?;
    no_extensions(place, rules)?;
    let mut read = None;
    for (rule, value) in rules.fields() {
        let inner = value.as_message().ok_or_else(|| unsupported(place, rule.name()))?;
        read = Some(value_rules(place, kind, rule.name(), inner)?);
    }
    Ok(read)
}

fn value_rules(
    place: &str,
    kind: &ProtoKind,
    name: &str,
    rules: &DynamicMessage,
) -> Result<Rules, SchemaError> {
    no_extensions(place, rules)?;
    match (name, kind) {
        ("string", ProtoKind::String) => text_rules(place, rules).map(Rules::Text),
        ("int64", ProtoKind::Int64) | ("int32", ProtoKind::Int32) => {
            number_rules(place, rules).map(Rules::Number)
        }
        ("enum", ProtoKind::Enum(choices)) => {
            choice_rules(place, choices, rules).map(Rules::Choice)
        }
        (name, _) => Err(unsupported(place, name)),
    }
}

fn text_rules(place: &str, rules: &DynamicMessage) -> Result<TextRules, SchemaError> {
    let mut read = TextRules::default();
    for (rule, value) in rules.fields() {
        let size = || {
            let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
            size.ok_or_else(|| broken(place, "has a size that is no number"))
        };
        match rule.name() {
            "min_len" => read.length_min = Some(size()?),
            "max_len" => read.length_max = Some(size()?),
            "min_bytes" => read.bytes_min = Some(size()?),
            "max_bytes" => read.bytes_max = Some(size()?),
            "pattern" => {
                let pattern = Regex::new(value.as_str().unwrap_or_default());
                read.pattern = Some(pattern.map_err(|error| broken(place, error.to_string()))?);
            }
            name => return Err(unsupported(place, name)),
        }
    }
    Ok(read)
}

fn number_rules(place: &str, rules: &DynamicMessage) -> Result<NumberRules, SchemaError> {
    let mut read = NumberRules::default();
    for (rule, value) in rules.fields() {
        let bound = value.as_i64().or_else(|| value.as_i32().map(i64::from));
        let bound = bound.ok_or_else(|| broken(place, "has a bound that is no number"))?;
        match rule.name() {
            "gt" => read.least = bound.checked_add(1),
            "gte" => read.least = Some(bound),
            "lt" => read.most = bound.checked_sub(1),
            "lte" => read.most = Some(bound),
            name => return Err(unsupported(place, name)),
        }
    }
    // buf.validate reads a reversed range as "outside of it", which is not supported.
    if let (Some(least), Some(most)) = (read.least, read.most)
        && least > most
    {
        return Err(unsupported(place, "exclusive range"));
    }
    Ok(read)
}

fn choice_rules(
    place: &str,
    choices: &EnumDescriptor,
    rules: &DynamicMessage,
) -> Result<ChoiceRules, SchemaError> {
    let mut read = ChoiceRules::default();
    for (rule, value) in rules.fields() {
        match rule.name() {
            "defined_only" if value.as_bool() == Some(true) => read.allowed = Some(names(choices)),
            "defined_only" => {}
            "not_in" => {
                let values = value.as_list().unwrap_or_default();
                read.forbidden = values.iter().filter_map(Setting::as_i32).collect();
            }
            name => return Err(unsupported(place, name)),
        }
    }
    Ok(read)
}

fn names(choices: &EnumDescriptor) -> Vec<(i32, String)> {
    choices.values().map(|choice| (choice.number(), choice.name().to_owned())).collect()
}
