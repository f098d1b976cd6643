//! Builds the errors that callers see: a canonical code, one sentence, and typed details.
//!
//! Every error carries `google.rpc.ErrorInfo` with a word of `ErrorReason`, so that clients
//! dispatch on the word and never on the text. Not here: decisions (a rejected spend is an answer,
//! not an error) and the choice of the reason, which belongs to whoever refuses.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{BadRequest, ErrorInfo, FieldViolation, RetryInfo, StatusExt};

use super::convert::decision::rejection;
use crate::engine::{EngineError, GrantRefusal, NotKept};
use crate::engine::{Role, StoreErrorKind};
use crate::proto::v1::{ErrorReason, RejectionReason};

/// The `domain` of every `google.rpc.ErrorInfo` this server sends.
pub const ERROR_DOMAIN: &str = "quetra";

/// At most this many field violations are listed in one error; more would not be read.
pub const VIOLATIONS_MAX: usize = 20;

/// This many violations are also named in the error's sentence, for people.
const NAMED_MAX: usize = 3;

/// The word that stands in `google.rpc.ErrorInfo.reason`, such as `NOT_FOUND`: the enum's name
/// without its prefix.
#[must_use]
pub fn reason_word(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

/// The word of a rejection in an error's metadata: the enum's name without its prefix.
fn rejection_word(reason: RejectionReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("REJECTION_REASON_").unwrap_or(name)
}

/// Begins an error. The message is one sentence, lower case, that says what to do next; it never
/// holds a secret or more of the input than a name.
pub(crate) fn refusal(code: Code, reason: ErrorReason, message: impl Into<String>) -> Refusal {
    Refusal {
        code,
        reason,
        message: message.into(),
        metadata: HashMap::new(),
        violations: Vec::new(),
        retry_after: None,
    }
}

/// An error in the making: what [`refusal`] begins and [`Refusal::status`] ends.
#[derive(Debug, Clone)]
#[must_use = "a refusal does nothing until it is turned into a status"]
pub(crate) struct Refusal {
    code: Code,
    reason: ErrorReason,
    message: String,
    metadata: HashMap<String, String>,
    violations: Vec<FieldViolation>,
    retry_after: Option<Duration>,
}

impl Refusal {
    /// Adds an entry to the metadata of `ErrorInfo`; the keys of each reason are documented in
    /// `error_reason.proto`.
    pub(crate) fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.metadata.insert(key.to_owned(), value.into());
        self
    }

    /// Adds a field violation: the path of the field and what is wrong with it. Those beyond
    /// [`VIOLATIONS_MAX`] are dropped.
    pub(crate) fn field(mut self, path: impl Into<String>, why: impl Into<String>) -> Self {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(FieldViolation::new(path, why));
        }
        self
    }

    /// Adds `google.rpc.RetryInfo`: when the same call may be tried again.
    pub(crate) fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// The finished error.
    pub(crate) fn status(self) -> Status {
        // ErrorInfo comes first: it is what both programs and people look at.
        let word = reason_word(self.reason);
        let mut details = vec![ErrorInfo::new(word, ERROR_DOMAIN, self.metadata).into()];
        if !self.violations.is_empty() {
            details.push(BadRequest::new(self.violations).into());
        }
        if self.retry_after.is_some() {
            details.push(RetryInfo::new(self.retry_after).into());
        }
        Status::with_error_details_vec(self.code, self.message, details)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        refusal.status()
    }
}

/// Everything that is wrong with the fields of one request.
#[derive(Debug, Default, Clone)]
pub(crate) struct Violations {
    /// Path of the field, and what is wrong with it as a sentence without its subject.
    found: Vec<(String, String)>,
    /// Some are fields that the server does not know.
    pub(crate) has_unknown: bool,
}

impl Violations {
    /// Adds a violation; those beyond [`VIOLATIONS_MAX`] are dropped.
    pub(crate) fn add(&mut self, path: String, why: String) {
        if !self.is_full() {
            self.found.push((path, why));
        }
    }

    /// Adds those of another check, for fields that have none yet, neither themselves nor in what
    /// they are part of or consist of: one fault is told once.
    pub(crate) fn add_others(&mut self, others: Self) {
        self.has_unknown |= others.has_unknown;
        for (path, why) in others.found {
            let is_known =
                |(known, _): &(String, String)| is_within(known, &path) || is_within(&path, known);
            if !self.found.iter().any(is_known) {
                self.add(path, why);
            }
        }
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Whether no more would be reported.
    pub(crate) fn is_full(&self) -> bool {
        self.found.len() >= VIOLATIONS_MAX
    }

    /// The error that lists them all; its sentence names the first.
    pub(crate) fn status(self) -> Status {
        self.refusal().status()
    }

    fn refusal(self) -> Refusal {
        let named = self.found.iter().take(NAMED_MAX).map(|(path, why)| format!("{path} {why}"));
        let mut sentence = named.collect::<Vec<_>>().join("; ");
        let unnamed = self.found.len().saturating_sub(NAMED_MAX);
        if unnamed > 0 {
            sentence.push_str(&format!("; and {unnamed} more"));
        }
        let reason = match self.has_unknown {
            true => ErrorReason::UnknownFields,
            false => ErrorReason::InvalidFields,
        };
        let refused = refusal(Code::InvalidArgument, reason, sentence);
        let listed = self.found.into_iter();
        listed.fold(refused, |refused, (path, why)| refused.field(path, why))
    }
}

/// Whether the path `inner` is `outer`, or leads to a part of it.
fn is_within(inner: &str, outer: &str) -> bool {
    let rest = inner.strip_prefix(outer);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// How long a caller should wait before it repeats a call that found the server busy.
const BUSY_DELAY: Duration = Duration::from_millis(200);

/// The one road from an error of the engine to an error on the wire. What only an operator can act
/// on is logged here, once, and its cause is not sent.
#[must_use]
pub fn status_of(error: EngineError) -> Status {
    use ErrorReason as R;
    let message = error.to_string();
    match error {
        EngineError::MandateStatus(step) => {
            refusal(Code::FailedPrecondition, R::MandateWrongStatus, message)
                .with("status", step.from.word())
                .with("wanted", step.wanted)
        }
        EngineError::AgentStatus(step) => {
            refusal(Code::FailedPrecondition, R::AgentWrongStatus, message)
                .with("status", step.from.word())
                .with("wanted", step.wanted)
        }
        EngineError::TransactionState { from, wanted } => {
            refusal(Code::FailedPrecondition, R::TransactionWrongState, message)
                .with("state", from.word())
                .with("wanted", wanted)
        }
        EngineError::AmountExceeds { available } => {
            refusal(Code::FailedPrecondition, R::AmountExceedsTransaction, message)
                .with("available", available.to_string())
        }
        EngineError::NotGranted(why) => grant_refusal(why, message),
        EngineError::NotKept(why) => unkept_refusal(&why),
        EngineError::LastAdminKey => {
            let message = format!("{message}; create another one first");
            refusal(Code::FailedPrecondition, R::LastAdminKey, message)
        }
        EngineError::OpenHolds => {
            let message = format!("{message}; void that transaction first");
            refusal(Code::FailedPrecondition, R::OpenHolds, message)
        }
        EngineError::OrganizationFrozen => {
            let message = format!("{message}; unfreeze it first");
            refusal(Code::FailedPrecondition, R::OrganizationFrozen, message)
        }
        EngineError::KeyReused => {
            let message = format!("{message}; use a new key for a new request");
            refusal(Code::AlreadyExists, R::IdempotencyKeyReused, message)
        }
        EngineError::ActiveMandateExists(id) => {
            let message = format!("{message}; pause or revoke that one first");
            refusal(Code::AlreadyExists, R::ActiveMandateExists, message)
                .with("mandate_id", id.to_string())
        }
        EngineError::NameTaken => refusal(Code::AlreadyExists, R::NameTaken, message),
        EngineError::VersionConflict(version) => {
            let message = format!("{message}; read it again, then decide");
            refusal(Code::Aborted, R::VersionConflict, message).with("version", version.to_string())
        }
        EngineError::ConcurrentChange => {
            let message = format!("{message}; repeat it with the same idempotency key");
            refusal(Code::Aborted, R::ConcurrentChange, message)
        }
        error @ (EngineError::Invalid(_)
        | EngineError::Unauthenticated
        | EngineError::RoleNotAllowed(_)
        | EngineError::RequestRateExceeded { .. }
        | EngineError::NotFound(_)
        | EngineError::TooManyEndpoints
        | EngineError::EndpointDisabled
        | EngineError::PageToken
        | EngineError::Overloaded
        | EngineError::Stopping
        | EngineError::Store(_)
        | EngineError::Crypto(_)
        | EngineError::Corrupt(_)) => general_refusal(error),
    }
    .status()
}

/// What asking for more than Redis can keep meets.
fn unkept_refusal(why: &NotKept) -> Refusal {
    refusal(Code::FailedPrecondition, ErrorReason::DurabilityNotKept, why.to_string())
        .with("durability", why.level.word())
        .with("setting", why.setting)
        .with("needed", why.needed)
}

/// What a person's answer, or a settlement above the approved amount, can meet.
fn grant_refusal(why: GrantRefusal, message: String) -> Refusal {
    use ErrorReason as R;
    match why {
        GrantRefusal::NotApprover => {
            let message = format!("{message}; ask one of them");
            refusal(Code::PermissionDenied, R::NotAnApprover, message)
        }
        GrantRefusal::OwnRequest => {
            let message = format!("{message}; ask another approver, or void it");
            refusal(Code::PermissionDenied, R::OwnRequest, message)
        }
        GrantRefusal::RequestMismatch => {
            let message = format!("{message}; read it again, then decide");
            refusal(Code::FailedPrecondition, R::RequestMismatch, message)
        }
        GrantRefusal::StandingLimit(reason) => {
            refusal(Code::FailedPrecondition, R::StandingLimit, message)
                .with("reason", rejection_word(rejection(reason.reason)))
        }
    }
}

/// Errors that have nothing to do with the state of an object.
fn general_refusal(error: EngineError) -> Refusal {
    use ErrorReason as R;
    let message = error.to_string();
    match error {
        EngineError::Invalid(violations) => {
            let mut found = Violations::default();
            for violation in violations {
                found.add(violation.field, violation.why);
            }
            found.refusal()
        }
        EngineError::Unauthenticated => {
            let message = "send a valid key as `authorization: Bearer sk_…`";
            refusal(Code::Unauthenticated, R::CredentialInvalid, message)
        }
        EngineError::RoleNotAllowed(role) => {
            let role = match role {
                Role::Admin => "admin",
                Role::Agent => "agent",
                Role::Reader => "reader",
            };
            let message = format!("a key with the {role} role may not call this");
            refusal(Code::PermissionDenied, R::RoleNotAllowed, message).with("role", role)
        }
        EngineError::RequestRateExceeded { retry_after_ms } => {
            let message = format!("{message}; wait, then call again");
            refusal(Code::ResourceExhausted, R::RequestRateExceeded, message)
                .retry_after(Duration::from_millis(retry_after_ms))
        }
        EngineError::NotFound(kind) => {
            refusal(Code::NotFound, R::NotFound, message).with("kind", kind)
        }
        EngineError::TooManyEndpoints => {
            let message = format!("{message}; delete one that is not needed first");
            refusal(Code::FailedPrecondition, R::WebhookLimitReached, message)
        }
        EngineError::EndpointDisabled => {
            let message = format!("{message}; enable it first");
            refusal(Code::FailedPrecondition, R::WebhookEndpointDisabled, message)
        }
        EngineError::PageToken => {
            let message = format!("{message}; start again without one");
            refusal(Code::InvalidArgument, R::PageTokenInvalid, message)
        }
        EngineError::Overloaded | EngineError::Stopping => {
            let message = format!("{message}; wait, then repeat with the same idempotency key");
            refusal(Code::ResourceExhausted, R::Overloaded, message).retry_after(BUSY_DELAY)
        }
        EngineError::Store(error) => store_refusal(&error),
        // The states of objects are mapped before; here they would be a bug of ours.
        error @ (EngineError::KeyReused
        | EngineError::ActiveMandateExists(_)
        | EngineError::NameTaken
        | EngineError::MandateStatus(_)
        | EngineError::AgentStatus(_)
        | EngineError::TransactionState { .. }
        | EngineError::AmountExceeds { .. }
        | EngineError::NotGranted(_)
        | EngineError::NotKept(_)
        | EngineError::VersionConflict(_)
        | EngineError::ConcurrentChange
        | EngineError::LastAdminKey
        | EngineError::OpenHolds
        | EngineError::OrganizationFrozen
        | EngineError::Crypto(_)
        | EngineError::Corrupt(_)) => {
            tracing::error!(error = %chain(&error), "an engine invariant is broken");
            let message = "something is wrong inside the server; nothing was approved";
            refusal(Code::Internal, R::Internal, message)
        }
    }
}

fn store_refusal(error: &crate::engine::StoreError) -> Refusal {
    use ErrorReason as R;
    let repeat = "nothing was approved; repeat it with the same idempotency key";
    match error.kind {
        StoreErrorKind::Unavailable => {
            tracing::error!(error = %chain(error), "the store is unavailable");
            let message = format!("the database is not available; {repeat}");
            refusal(Code::Unavailable, R::StoreUnavailable, message).retry_after(BUSY_DELAY)
        }
        StoreErrorKind::Timeout => {
            tracing::error!(error = %chain(error), "the store did not answer in time");
            let message = "the database did not answer in time; repeat it with the same key";
            refusal(Code::Unavailable, R::StoreUnavailable, message).retry_after(BUSY_DELAY)
        }
        StoreErrorKind::Conflict => {
            tracing::debug!(error = %chain(error), "a change lost a race");
            let message = "things changed during the call; repeat it";
            refusal(Code::Aborted, R::ConcurrentChange, message)
        }
        StoreErrorKind::Corrupt => {
            tracing::error!(error = %chain(error), "a stored record cannot be read");
            let message = "a stored record cannot be read; nothing was approved";
            refusal(Code::DataLoss, R::RecordCorrupt, message)
        }
    }
}

/// An error with all its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The first characters of a name that came from outside, escaped, fit for an error message.
pub(crate) fn excerpt(input: &str) -> String {
    const LENGTH_MAX: usize = 32;
    let mut characters = input.chars().flat_map(char::escape_debug);
    let mut escaped: String = characters.by_ref().take(LENGTH_MAX).collect();
    if characters.next().is_some() {
        escaped.push('…');
    }
    escaped
}

#[cfg(test)]
mod tests;
