//! Why a command failed, and how that is told: what happened, where, and what to do next.
//!
//! Not here: rejected spends, which are answers (`spend`).

use std::io;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::output::Output;
use super::places::Places;
use crate::config::ConfigError;
use crate::proto::v1::ErrorReason;

/// Why a command did not do what it was asked to do.
#[derive(Debug)]
pub(super) enum CliError {
    /// The arguments do not fit together.
    Usage(String),
    /// A sentence of our own that says what to do.
    Refused(String),
    /// The configuration may not start.
    Config(ConfigError),
    /// The server refused; fields can be found in a file, if the request came from one.
    Server {
        /// What the server said.
        status: Box<Status>,
        /// Where its fields stand in the file.
        places: Option<Places>,
    },
    /// The answer could not be written.
    Output(io::Error),
    /// Anything else, with its causes.
    Other(anyhow::Error),
}

impl From<Status> for CliError {
    fn from(status: Status) -> Self {
        Self::Server { status: Box::new(status), places: None }
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<anyhow::Error> for CliError {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl CliError {
    /// Tells where the fields of the request stand in the file it came from.
    pub(super) fn placed(self, found: &Places) -> Self {
        match self {
            Self::Server { status, places: _ } => {
                Self::Server { status, places: Some(found.clone()) }
            }
            Self::Usage(_)
            | Self::Refused(_)
            | Self::Config(_)
            | Self::Output(_)
            | Self::Other(_) => self,
        }
    }

    /// Writes it to standard error and returns the exit code.
    pub(super) fn report(self, output: &mut Output) -> u8 {
        match self {
            Self::Usage(why) => {
                output.error_line(&format!("error: {why}"));
                return 2;
            }
            Self::Refused(why) => sentences(&why, output),
            Self::Config(error) => sentences(&error.to_string(), output),
            Self::Server { status, places } => server(&status, places.as_ref(), output),
            // `quetra … | head` is no failure.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return 0,
            Self::Output(error) => output.error_line(&format!("error: cannot write: {error}")),
            Self::Other(error) => output.error_line(&format!("error: {}", causes(&error))),
        }
        1
    }
}

/// An error with its causes, each said once: some say what is behind them themselves.
fn causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn sentences(text: &str, output: &mut Output) {
    let mut prefix = "error: ";
    for line in text.lines() {
        output.error_line(&format!("{prefix}{line}"));
        prefix = "";
    }
}

fn server(status: &Status, places: Option<&Places>, output: &mut Output) {
    let details = status.get_error_details();
    let word = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    let code = canonical(status.code());
    let reason = if word.is_empty() { String::new() } else { format!(" ({word})") };
    output.error_line(&format!("error: {code}{reason}: {}", status.message()));
    for violation in details.bad_request().map_or(&[][..], |bad| &bad.field_violations) {
        let place = places.and_then(|places| places.of(&violation.field));
        let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
        output.error_line(&format!("  {place}{}: {}", violation.field, violation.description));
    }
    if let Some(wait) = details.retry_info().and_then(|retry| retry.retry_delay) {
        output.error_line(&format!("  wait at least {} ms", wait.as_millis().max(1)));
    }
    if let Some(advice) = advice(&word, status.code()) {
        output.error_line(&format!("next: {advice}"));
    }
}

fn advice(word: &str, code: Code) -> Option<&'static str> {
    let name = format!("ERROR_REASON_{word}");
    match ErrorReason::from_str_name(&name) {
        Some(reason) => next_step(reason),
        None if code == Code::Unavailable => {
            Some("check that the server runs (`quetra health`), then try again")
        }
        None if code == Code::DeadlineExceeded || code == Code::Cancelled => {
            Some("the outcome may exist: look before you repeat, or give a larger --timeout-ms")
        }
        None => None,
    }
}

/// What a person at a terminal does next. Exhaustive, so that a new reason is thought about here.
fn next_step(reason: ErrorReason) -> Option<&'static str> {
    use ErrorReason as R;
    match reason {
        R::Unspecified => None,
        R::InvalidFields => Some("correct the fields above and run the command again"),
        R::UnknownFields | R::MalformedRequest | R::UnknownMethod | R::CompressionNotSupported => {
            Some("this program and the server are of different versions: update the older one")
        }
        R::CredentialInvalid => Some(
            "set QUETRA_API_KEY to a key that is neither revoked nor expired, or run beside the \
             .quetra directory of `quetra dev`",
        ),
        R::RoleNotAllowed => Some("use a key of another role: `quetra keys list` shows roles"),
        R::NotFound => Some("check the id with the matching `list` command"),
        R::IdempotencyKeyReused => Some("use a new --idempotency-key for a new request"),
        R::ActiveMandateExists => {
            Some("pause or revoke the agent's active mandate first: `quetra mandates list`")
        }
        R::NameTaken => Some("choose another name"),
        R::MandateWrongStatus => Some("see where it stands with `quetra mandates get`"),
        R::AgentWrongStatus => Some("see where it stands with `quetra agents get`"),
        R::TransactionWrongState | R::AmountExceedsTransaction => {
            Some("see where it stands with `quetra transactions get`")
        }
        R::VersionConflict => Some("someone else changed it: read it again, then decide"),
        R::ConcurrentChange | R::Overloaded | R::RequestRateExceeded | R::StoreUnavailable => {
            Some("wait a moment, then run the same command again")
        }
        R::MessageTooLarge => Some("make the request smaller"),
        R::DeadlineExceeded => {
            Some("the outcome may exist: look before you repeat, or give a larger --timeout-ms")
        }
        R::Internal => Some("report it with the request id"),
        R::RecordCorrupt => Some("stop the server and restore from a backup"),
        R::LastAdminKey => {
            Some("create another admin key first: `quetra keys create --role admin`")
        }
        R::OpenHolds => Some("void the agent's pending transactions first"),
        R::OrganizationFrozen => Some("an administrator must unfreeze the organization first"),
        R::WebhookLimitReached => Some("delete an endpoint first: `quetra webhooks list`"),
        R::WebhookEndpointDisabled => {
            Some("enable it first: `quetra webhooks update ID --enabled true`")
        }
        R::NotAnApprover | R::OwnRequest => {
            Some("see who may answer with `quetra approvals show`, and use such a key")
        }
        R::RequestMismatch => Some("read it again with `quetra approvals show`, then decide"),
        R::StandingLimit => Some("change what stands against it, or deny or void it"),
        R::DurabilityNotKept => Some("change that setting of Redis, or ask for another durability"),
        R::PageTokenInvalid => Some("start the list again"),
    }
}

/// The canonical name of a code, as the documentation of the API writes it.
fn canonical(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::causes;

    #[test]
    fn a_cause_that_was_said_already_is_not_said_again() {
        let error = anyhow!("no space left").context("the log cannot be written");
        assert_eq!(causes(&error), "the log cannot be written: no space left");
        let error = anyhow!("no space left").context("cannot write: no space left");
        assert_eq!(causes(&error.context("open")), "open: cannot write: no space left");
    }
}
