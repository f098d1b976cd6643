//! The scripts, one verb each, and the words they answer with.
//!
//! Not here: the scripts themselves (`scripts/*.lua`), whose headers say what goes in and out.

use redis::Value;

use super::link::LinkError;
use crate::ledger::sql::postgres::escrow::Place;

/// A script.
#[derive(Clone, Copy, Debug)]
pub(super) enum Script {
    Decide,
    Install,
    Recall,
    Begin,
    Set,
    Windows,
}

/// All of them, in the order of their places.
pub(super) const SCRIPTS: [Script; 6] =
    [Script::Decide, Script::Install, Script::Recall, Script::Begin, Script::Set, Script::Windows];

impl Script {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Decide => include_str!("scripts/decide.lua"),
            Self::Install => include_str!("scripts/install.lua"),
            Self::Recall => include_str!("scripts/recall.lua"),
            Self::Begin => include_str!("scripts/begin.lua"),
            Self::Set => include_str!("scripts/set.lua"),
            Self::Windows => include_str!("scripts/windows.lua"),
        }
    }

    pub(super) const fn place(self) -> usize {
        match self {
            Self::Decide => 0,
            Self::Install => 1,
            Self::Recall => 2,
            Self::Begin => 3,
            Self::Set => 4,
            Self::Windows => 5,
        }
    }
}

/// The answer of a script.
#[derive(Debug)]
pub(super) struct Answer(pub(super) Vec<Value>);

impl Answer {
    pub(super) fn word(&self) -> &str {
        self.bytes(0).and_then(|word| std::str::from_utf8(word).ok()).unwrap_or_default()
    }

    pub(super) fn bytes(&self, place: usize) -> Option<&[u8]> {
        if let Value::BulkString(bytes) = self.0.get(place)? { Some(bytes) } else { None }
    }

    pub(super) fn number(&self, place: usize) -> Result<i64, LinkError> {
        let Some(Value::Int(number)) = self.0.get(place) else {
            return Err(LinkError::Answer("no number"));
        };
        Ok(*number)
    }

    pub(super) fn place(&self, place: usize) -> Result<Place, LinkError> {
        self.bytes(place).and_then(parse_place).ok_or(LinkError::Answer("no place"))
    }
}

/// Reads a stream's id: `epoch-number`.
pub(super) fn parse_place(text: &[u8]) -> Option<Place> {
    let (epoch, seq) = std::str::from_utf8(text).ok()?.split_once('-')?;
    Some(Place { epoch: epoch.parse().ok()?, seq: seq.parse().ok()? })
}
