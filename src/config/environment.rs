//! The process's environment, read once: the only place of the crate that does.
//!
//! Not here: what the variables mean for a server (`setting`) or for a client (`cli`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::nearest::nearest;
use super::origin::Origin;
use super::setting::{Key, Layer, PREFIX};

/// Variables of the product that are no server settings; see the commands that read them.
const OTHER_VARIABLES: [&str; 4] =
    ["QUETRA_CONFIG", "QUETRA_API_KEY", "QUETRA_AGENT_ID", "QUETRA_GATEWAY_URL"];

/// The variables of the product, read once.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, OsString>,
}

impl Environment {
    /// Reads the process's environment: every variable whose name begins with `QUETRA_`.
    #[must_use]
    pub fn capture() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, value)| name.starts_with(PREFIX) && !value.is_empty())
            .collect();
        Self { variables }
    }

    /// An environment for tests and for embedding.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let variables =
            pairs.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        Self { variables }
    }

    /// The value of a variable; an empty one counts as absent, as does one that is not UTF-8.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name)?.to_str().filter(|value| !value.is_empty())
    }

    pub(super) fn layer(&self, problems: &mut Vec<String>) -> Layer {
        let mut layer = Layer::new();
        layer.file = self.get("QUETRA_CONFIG").map(PathBuf::from);
        for (name, raw) in &self.variables {
            if OTHER_VARIABLES.contains(&name.as_str()) || raw.is_empty() {
                continue;
            }
            let Some(key) = Key::ALL.into_iter().find(|key| key.variable() == *name) else {
                // Only a likely slip is refused: orchestrators add variables of their own, named
                // after the service, such as QUETRA_SERVICE_HOST.
                if let Some(near) = nearest(name, Key::ALL.map(Key::variable), 2) {
                    problems.push(format!("`{name}` is not a setting; did you mean `{near}`"));
                }
                continue;
            };
            match raw.to_str().map(|text| key.parse(text)) {
                Some(Ok(value)) => layer.set(key, value, Origin::Environment(name.clone())),
                Some(Err(why)) => problems.push(format!("`{name}`: {why}")),
                None => problems.push(format!("`{name}` is not UTF-8 text")),
            }
        }
        layer
    }
}
