//! A field of a partial update: left alone, cleared, or given.
//!
//! Not here: which fields may be cleared; a field that may not be reads null as an error.

use serde::de::{Deserialize, Deserializer};

/// A field that a partial update may leave out, set to null (clear it) or give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Patch<T> {
    /// Not mentioned.
    #[default]
    Keep,
    /// Null.
    Clear,
    /// A new value.
    Set(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Option::deserialize(deserializer)?;
        Ok(value.map_or(Self::Clear, Self::Set))
    }
}

impl<T> Patch<T> {
    /// Adds `path` to the mask if the field is mentioned, and gives its new value, if any.
    pub(super) fn masked(self, path: &str, mask: &mut prost_types::FieldMask) -> Option<T> {
        match self {
            Self::Keep => None,
            Self::Clear => {
                mask.paths.push(path.to_owned());
                None
            }
            Self::Set(value) => {
                mask.paths.push(path.to_owned());
                Some(value)
            }
        }
    }
}

/// Reads a field that may be left out, but may not be null.
pub(super) fn given<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// Adds `path` to the mask if the field is given.
pub(super) fn masked<T>(
    value: Option<T>,
    path: &str,
    mask: &mut prost_types::FieldMask,
) -> Option<T> {
    if value.is_some() {
        mask.paths.push(path.to_owned());
    }
    value
}
