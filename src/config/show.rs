//! The effective configuration as TOML, with the origin of every value and no secret in it.
//!
//! The output is itself a valid configuration file, except for the masked password.
//! Not here: deciding whether it may start (`validate`).

use std::fmt::Write as _;

use super::setting::{Key, Settings, Value};

impl Settings {
    /// Every setting with its origin; unset ones as comments.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        for key in Key::ALL {
            let name = key.name();
            let line = match self.get(key) {
                Some((value, origin)) => {
                    format!("{name} = {} # {origin}", toml_value(&masked(key, value)))
                }
                None => format!("# {name} = (not set): {}", key.help()),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{line}");
        }
        out
    }
}

fn masked(key: Key, value: &Value) -> Value {
    match (key, value) {
        (Key::DatabaseUrl | Key::RedisUrl, Value::Text(url)) => Value::Text(without_password(url)),
        _ => value.clone(),
    }
}

/// Keeps what helps to recognise a URL. Whatever stands before an `@` may be a password, and so
/// may parameters.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return "***".to_owned();
    };
    if scheme == "sqlite" {
        return url.to_owned();
    }
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}"),
        None => format!("{scheme}://{rest}"),
    }
}

fn toml_value(value: &Value) -> toml::Value {
    match value {
        Value::Text(text) => toml::Value::String(text.clone()),
        Value::Number(number) => toml::Value::Integer(i64::try_from(*number).unwrap_or(i64::MAX)),
        Value::Switch(switch) => toml::Value::Boolean(*switch),
        Value::List(items) => {
            toml::Value::Array(items.iter().cloned().map(toml::Value::String).collect())
        }
    }
}
