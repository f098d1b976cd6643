//! Arguments that several commands share, and the parsers of their values.
//!
//! Not here: server settings (`setting_flags`) and what only one command takes.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::forms::{Time, Vocabulary, Word};

/// What `--help` says; not doc comments, because rustdoc would want markup in them.
pub(super) const URL_HELP: &str =
    "Address of the server [default: http://127.0.0.1:7070] [env: QUETRA_GATEWAY_URL]";
const KEY_HELP: &str = "API key; a key given here shows up in the process list of this machine, \
                        so prefer the environment [env: QUETRA_API_KEY]";
/// The same for the agent.
pub(super) const AGENT_HELP: &str =
    "Id or name of the agent; an agent-bound key needs none [env: QUETRA_AGENT_ID]";

/// How to reach a server, and how to show what it says.
#[derive(Debug, Args)]
pub(super) struct ClientArgs {
    #[arg(long, global = true, value_name = "URL", help = URL_HELP, help_heading = "Server")]
    pub(super) url: Option<String>,
    #[arg(long, global = true, value_name = "KEY", help = KEY_HELP, help_heading = "Server")]
    pub(super) api_key: Option<String>,
    /// Written by `quetra dev`; used when neither address nor key is given
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = ".quetra/credentials.toml",
        help_heading = "Server"
    )]
    pub(super) credentials: PathBuf,
    /// Longest time of one call, in milliseconds
    #[arg(
        long,
        global = true,
        value_name = "MS",
        default_value_t = 10_000,
        value_parser = clap::value_parser!(u64).range(1..=600_000),
        help_heading = "Server"
    )]
    pub(super) timeout_ms: u64,
    /// Tables for people, or the JSON of the API for scripts
    #[arg(long, short, global = true, value_enum, default_value_t)]
    pub(super) output: Format,
}

/// The shape of answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Table,
    /// For scripts.
    Json,
}

/// How much of a list.
#[derive(Debug, Args)]
pub(super) struct PageArgs {
    /// Show at most this many
    #[arg(long, value_name = "N", default_value = "50")]
    pub(super) limit: NonZeroUsize,
    /// Show all
    #[arg(long, conflicts_with = "limit")]
    pub(super) all: bool,
}

impl PageArgs {
    pub(super) fn count(&self) -> usize {
        if self.all { usize::MAX } else { self.limit.get() }
    }
}

/// Reads one of the words of the API.
pub(super) fn word<T: Vocabulary>(text: &str) -> Result<Word<T>, String> {
    Word::parse(text).ok_or_else(|| format!("expected one of {}", Word::<T>::list()))
}

/// Reads a point in time.
pub(super) fn time(text: &str) -> Result<Time, String> {
    text.parse()
        .map_err(|_| "expected a time with an offset, such as 2027-01-31T09:00:00Z".to_owned())
}

/// Reads a label.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("expected NAME=VALUE".to_owned()),
    }
}
