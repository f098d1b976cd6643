//! The one place that writes: tables for people, canonical JSON for scripts, errors beside them.
//!
//! Every text passes the escaping of `terminal`, because much of it was written by agents.
//! Not here: what to show (the commands) and amounts (`money`).

use std::io::{self, Write};
use std::sync::OnceLock;

use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, ContentArrangement, Table};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use super::args::Format;
use super::error::CliError;
use crate::proto::DESCRIPTORS;
use crate::terminal::{escape_json, escape_text};

/// Where answers and errors go.
pub(super) struct Output {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    pub(super) format: Format,
    /// What a person types to run this program again.
    pub(super) program: String,
}

impl Output {
    pub(super) fn new(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Self {
        Self { out, err, format: Format::Table, program: "quetra".to_owned() }
    }

    /// One line for people. Line ends inside it are escaped.
    pub(super) fn line(&mut self, text: &str) -> Result<(), CliError> {
        Ok(writeln!(self.out, "{}", escape_text(text))?)
    }

    /// Text of our own, as it is.
    pub(super) fn raw(&mut self, text: &str) -> Result<(), CliError> {
        self.out.write_all(text.as_bytes())?;
        Ok(self.out.flush()?)
    }

    /// Bytes of an export, as they are: what is verified may not be escaped.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        Ok(self.out.write_all(bytes)?)
    }

    /// One line of an error. A failure to write it has nowhere to go.
    pub(super) fn error_line(&mut self, text: &str) {
        let _ = writeln!(self.err, "{}", escape_text(text));
    }

    /// Shows what the argument parser says, which is the help, the version or a usage error.
    pub(super) fn usage(&mut self, error: &clap::Error) -> u8 {
        let text = error.render();
        let target = if error.use_stderr() { &mut self.err } else { &mut self.out };
        let _ = write!(target, "{text}");
        u8::try_from(error.exit_code()).unwrap_or(2)
    }

    /// A table for people; nothing but a sentence if it is empty.
    pub(super) fn table<const N: usize>(
        &mut self,
        columns: [&str; N],
        rows: Vec<[String; N]>,
    ) -> Result<(), CliError> {
        if rows.is_empty() {
            return self.line("none");
        }
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(columns);
        for row in rows {
            table.add_row(row.map(|cell| escape_text(&cell).into_owned()));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        // The first column is an id that people copy: never broken.
        if let Some(first) = table.column_mut(0) {
            first.set_constraint(ColumnConstraint::ContentWidth);
        }
        Ok(writeln!(self.out, "{}", table.trim_fmt())?)
    }

    /// Says that a list goes on.
    pub(super) fn more(&mut self, next_page_token: &str) -> Result<(), CliError> {
        if next_page_token.is_empty() {
            return Ok(());
        }
        self.line("there are more: give a larger --limit, or --all")
    }

    /// Names and values, one pair a line.
    pub(super) fn pairs(&mut self, pairs: &[(&str, String)]) -> Result<(), CliError> {
        let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
            self.line(&format!("{name:width$}  {value}"))?;
        }
        Ok(())
    }

    /// A message of the API as canonical JSON, default values included so that scripts find them.
    pub(super) fn message<M: prost::Message + prost::Name>(
        &mut self,
        message: &M,
    ) -> Result<(), CliError> {
        let text = json(message).map_err(CliError::Other)?;
        Ok(writeln!(self.out, "{}", escape_json(&text))?)
    }
}

/// The canonical JSON of a message, indented.
pub(super) fn json<M: prost::Message + prost::Name>(message: &M) -> anyhow::Result<String> {
    static POOL: OnceLock<Option<DescriptorPool>> = OnceLock::new();
    let pool = POOL.get_or_init(|| DescriptorPool::decode(DESCRIPTORS).ok());
    let descriptor = pool
        .as_ref()
        .and_then(|pool| pool.get_message_by_name(&M::full_name()))
        .ok_or_else(|| anyhow::anyhow!("{} is not described in this program", M::full_name()))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::pretty(&mut out);
    let options = SerializeOptions::new().skip_default_fields(false);
    dynamic.serialize_with_options(&mut serializer, &options)?;
    Ok(String::from_utf8(out)?)
}

/// A time of the API for people, to the second; `-` if it is absent.
pub(super) fn time(time: Option<&prost_types::Timestamp>) -> String {
    time.and_then(|time| jiff::Timestamp::new(time.seconds, time.nanos).ok())
        .map_or_else(|| "-".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// Text, or `-` for none.
pub(super) fn dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
