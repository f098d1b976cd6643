//! Mandates as YAML files: reading them with the place of every mistake, and writing them.
//!
//! A file has the published forms of `forms`; JSON is YAML, so those files work too.
//! Not here: what the server checks (bounds, time zones, expressions); its complaints are mapped
//! back to lines by `places`.

use std::borrow::Cow;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::de::DeserializeOwned;
use serde_saphyr::{Error, Localizer, Location, UserMessageFormatter};

use super::error::CliError;
use super::places::Places;
use crate::forms::{MandateForm, MandatePatch};
use crate::terminal::{escape_json, escape_text};

/// Far above 50 rules with the longest vendor lists that fit a request.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Which file.
#[derive(Debug, Args)]
pub(super) struct FileArg {
    /// The YAML file; - reads standard input
    #[arg(long, short, value_name = "FILE")]
    pub(super) file: PathBuf,
}

/// A file that was read, with the places of its fields.
#[derive(Debug)]
pub(super) struct Loaded<T> {
    pub(super) form: T,
    pub(super) places: Places,
}

/// What an update file holds.
#[derive(Debug)]
pub(super) enum Change {
    /// A whole mandate, as `get --yaml` prints it: everything in it is set.
    Whole(Box<MandateForm>),
    /// Only the fields it mentions change.
    Patch(Box<MandatePatch>),
}

/// Reads a whole mandate.
pub(super) fn read(path: &Path) -> Result<Loaded<MandateForm>, CliError> {
    let (name, text) = text(path)?;
    let form = parse(&name, &text)?;
    Ok(Loaded { form, places: Places::new(&name, &text) })
}

/// Reads a whole mandate or a part of one; a whole one names its agent.
pub(super) fn read_change(path: &Path) -> Result<Loaded<Change>, CliError> {
    let (name, text) = text(path)?;
    let places = Places::new(&name, &text);
    let form = if places.has("agentId") || places.has("agent") {
        Change::Whole(Box::new(parse(&name, &text)?))
    } else {
        Change::Patch(Box::new(parse(&name, &text)?))
    };
    Ok(Loaded { form, places })
}

/// The file that would make the mandate again.
pub(super) fn write(form: &MandateForm) -> anyhow::Result<String> {
    let yaml = serde_saphyr::to_string(form)?;
    if yaml.lines().all(|line| escape_text(line) == line) {
        return Ok(yaml);
    }
    // Something in it would act on a terminal. JSON is YAML too and can spell that out.
    Ok(format!("{}\n", escape_json(&serde_json::to_string_pretty(form)?)))
}

fn text(path: &Path) -> Result<(String, String), CliError> {
    let name = path.display().to_string();
    let unreadable =
        |error: std::io::Error| CliError::Refused(format!("{name} cannot be read: {error}"));
    let mut text = String::new();
    let limit = FILE_BYTES_MAX.saturating_add(1);
    if path == Path::new("-") {
        std::io::stdin().take(limit).read_to_string(&mut text).map_err(unreadable)?;
    } else {
        let file = std::fs::File::open(path).map_err(unreadable)?;
        file.take(limit).read_to_string(&mut text).map_err(unreadable)?;
    }
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(CliError::Refused(format!("{name} is larger than 8 MiB")));
    }
    Ok((name, text))
}

fn parse<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, CliError> {
    let is_nothing = |line: &str| line.is_empty() || line.starts_with('#') || line == "---";
    if text.lines().all(|line| is_nothing(line.trim())) {
        let why = "holds no mandate; `quetra mandates get ID --yaml` prints one to begin with";
        return Err(CliError::Refused(format!("{name} {why}")));
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        let place = error.location().map_or_else(
            || name.to_owned(),
            |location| format!("{name}:{}:{}", location.line(), location.column()),
        );
        CliError::Refused(format!("{place}: {}", sentence(error)))
    })
}

/// What is wrong and what was expected, on one line.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the parser's own sentences do for everything that is no slip in a mandate"
)]
fn sentence(error: &Error) -> String {
    match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            format!("`{}` is not a field here; expected {}", cut(field), expected.join(", "))
        }
        Error::SerdeMissingField { field, .. } => format!("`{field}` is missing"),
        Error::SerdeInvalidType { unexpected, expected, .. }
        | Error::SerdeInvalidValue { unexpected, expected, .. } => {
            format!("found {}, expected {expected}", cut(unexpected))
        }
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("`{}` is given twice", cut(key))
        }
        other => {
            let formatter = UserMessageFormatter.with_localizer(&Placeless);
            let text = other.render_with_formatter(&formatter);
            text.lines().next().unwrap_or_default().to_owned()
        }
    }
}

/// Words of the parser's without the place, which stands in front of them already.
struct Placeless;

impl Localizer for Placeless {
    fn attach_location<'a>(&self, base: Cow<'a, str>, _: Location) -> Cow<'a, str> {
        base
    }
}

fn cut(text: &str) -> String {
    text.chars().take(48).collect()
}
