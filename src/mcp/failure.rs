//! Why a tool call got no answer, in words that a model can act on.
//!
//! A rejected spend is an answer and never comes here. A failure becomes a result with `isError`
//! and text only: clients check structured content of failures against the schema of answers.
//! Not here: JSON-RPC errors, which only malformed calls get.

use rmcp::model::{CallToolResult, ContentBlock};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::text::{SENTENCE_MAX, clean};

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// Arguments that cannot be understood, a sentence for each.
    Arguments(Vec<String>),
    /// What was asked for is not there, in one sentence.
    NotFound(&'static str),
    /// The person at the client does not want it asked for.
    Declined,
    /// The server could not answer.
    Server(Status),
    /// The same for a purchase, which may have been decided all the same: whoever repeats it under
    /// this intent key learns of that decision.
    Purchase(Status, String),
}

const DECLINED: &str = "DECLINED: people would have to approve this purchase, and the person at \
    this client chose not to ask them; this call recorded and held nothing; ask for it again only \
    if the user wants that";

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Server(status)
    }
}

impl Failure {
    /// The result; `consequence` says what the caller must take it for.
    pub(super) fn into_result(self, consequence: &str) -> CallToolResult {
        let what = match self {
            Self::Arguments(faults) => format!("INVALID_ARGUMENTS: {}", faults.join("; ")),
            Self::NotFound(what) => format!("NOT_FOUND: {what}"),
            Self::Declined => DECLINED.to_owned(),
            Self::Server(status) => sentence(&status),
            Self::Purchase(status, key) if may_have_happened(status.code()) => {
                format!("{}; the intentKey of this call is {key}", sentence(&status))
            }
            Self::Purchase(status, _) => sentence(&status),
        };
        CallToolResult::error(vec![ContentBlock::text(format!("{consequence} {what}"))])
    }
}

/// The reason word, what is wrong, and what to do about it.
fn sentence(status: &Status) -> String {
    let reason = status.get_details_error_info().map(|info| info.reason);
    let wrong = status.get_details_bad_request().map_or_else(Vec::new, |bad| bad.field_violations);
    let what = if wrong.is_empty() {
        clean(status.message(), SENTENCE_MAX)
    } else {
        let faults = wrong.iter().map(|fault| {
            format!("`{}` {}", argument(&fault.field), clean(&fault.description, SENTENCE_MAX))
        });
        faults.collect::<Vec<_>>().join("; ")
    };
    let wait = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let wait = wait.map_or_else(String::new, |wait| format!("; wait {} ms", wait.as_millis()));
    match reason {
        Some(reason) => format!("{reason}: {what}{wait}{}", next(status.code(), &reason)),
        // Only what lies between here and the server answers without a reason.
        None => "GATEWAY_UNREACHABLE: the Quetra server does not answer; try again in a moment, \
                 with the same intentKey for a purchase, and tell the user if it stays so"
            .to_owned(),
    }
}

/// Whether a call that failed so may have had its effect.
fn may_have_happened(code: Code) -> bool {
    match code {
        Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable => true,
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

fn next(code: Code, reason: &str) -> &'static str {
    match (code, reason) {
        (_, "IDEMPOTENCY_KEY_REUSED") => {
            "; this intentKey named another purchase: choose a new one for a new purchase"
        }
        (Code::Unauthenticated, _) => {
            "; the API key of this connection was revoked or has expired: the user must set a new \
             one"
        }
        (Code::Unavailable | Code::Aborted | Code::DeadlineExceeded, _) => {
            "; try again with the same arguments and the same intentKey"
        }
        _ => "",
    }
}

/// What a field of the contract is called here.
fn argument(field: &str) -> String {
    if field == "idempotency_key" {
        return "intentKey".to_owned();
    }
    let mut name = String::with_capacity(field.len());
    let mut upper = false;
    for letter in field.chars() {
        if letter == '_' {
            upper = true;
        } else {
            name.push(if upper { letter.to_ascii_uppercase() } else { letter });
            upper = false;
        }
    }
    name
}
