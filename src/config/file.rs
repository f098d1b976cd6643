//! Reads the TOML file: flat, every key known, every value of its type.
//!
//! Not here: what the values must satisfy (`validate`). An unknown key is refused, because a
//! misspelt restriction would silently be no restriction.

use std::path::Path;

use super::nearest::nearest;
use super::origin::Origin;
use super::setting::{Key, Kind, Layer, Value};
use super::shown;

/// Far above any honest configuration; a mistaken path to a database must not be read whole.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What the file says. Problems are added to the list; the layer then lacks those settings.
pub(super) fn read(path: &Path, problems: &mut Vec<String>) -> Layer {
    let mut layer = Layer::new();
    let table = match table(path) {
        Ok(table) => table,
        Err(problem) => {
            problems.push(problem);
            return layer;
        }
    };
    for (name, raw) in table {
        let Some(key) = Key::ALL.into_iter().find(|key| key.name() == name) else {
            problems.push(unknown(path, &name));
            continue;
        };
        match value(key.kind(), raw) {
            Ok(value) => layer.set(key, value, Origin::File(path.to_owned())),
            Err(expected) => {
                problems.push(format!("{}: `{}` must be {expected}", path.display(), key.name()))
            }
        }
    }
    layer
}

fn table(path: &Path) -> Result<toml::Table, String> {
    let shown_path = path.display();
    let size = std::fs::metadata(path)
        .map_err(|error| format!("the configuration file {shown_path} cannot be read: {error}"))?
        .len();
    if size > FILE_BYTES_MAX {
        return Err(format!("{shown_path} is too large for a configuration file"));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("the configuration file {shown_path} cannot be read: {error}"))?;
    text.parse().map_err(|error: toml::de::Error| {
        let line = error
            .span()
            .and_then(|span| text.get(..span.start))
            .map_or(1, |before| before.matches('\n').count().saturating_add(1));
        // The parser's own rendering quotes the line, which may hold a secret.
        format!("{shown_path} is not TOML: line {line}: {}", error.message())
    })
}

fn unknown(path: &Path, name: &str) -> String {
    let known = Key::ALL.map(|key| key.name().to_owned());
    let advice = nearest(name, known, 4).map_or_else(
        || "see `quetra config` for the known ones".to_owned(),
        |near| format!("did you mean `{near}`"),
    );
    format!("{}: `{}` is not a setting; {advice}", path.display(), shown(name))
}

fn value(kind: Kind, raw: toml::Value) -> Result<Value, &'static str> {
    let expected = match kind {
        Kind::Text => "text in quotes",
        Kind::Number => "a whole number of zero or more",
        Kind::Switch => "true or false",
        Kind::List => "a list of texts",
    };
    let value = match (kind, raw) {
        (Kind::Text, toml::Value::String(text)) => Some(Value::Text(text)),
        (Kind::Number, toml::Value::Integer(number)) => {
            u64::try_from(number).ok().map(Value::Number)
        }
        (Kind::Switch, toml::Value::Boolean(switch)) => Some(Value::Switch(switch)),
        (Kind::List, toml::Value::Array(items)) => items
            .into_iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect::<Option<Vec<String>>>()
            .map(Value::List),
        (Kind::Text | Kind::Number | Kind::Switch | Kind::List, _) => None,
    };
    value.ok_or(expected)
}
