//! The person at the client: whether they can be asked, and what they said.
//!
//! MCP 2026-07-28 (elicitation; multi round-trip requests, SEP-2322): a call is answered with a
//! question, the client asks, and makes the call again with what was said. Nothing is kept between
//! the two, and what comes back has no authority: it can only keep a purchase from being asked for.
//! Not here: questions of the revisions before, which would hold a call open until somebody reads
//! them and need a session to bring the answer back.

use std::collections::BTreeMap;

use rmcp::RoleServer;
use rmcp::model::{
    CallToolResponse, ClientCapabilities, ElicitRequest, ElicitRequestParams, ElicitResult,
    ElicitationAction, ElicitationSchema, InputRequest, InputRequiredResult, InputResponses,
    ProtocolVersion,
};
use rmcp::service::RequestContext;

/// What the one question is called on the way to the client and back.
const CONSENT: &str = "consent";

/// The person at the client, as one call finds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Person {
    /// The client cannot ask.
    Unreachable,
    /// The client can ask, and has not been told to.
    Reachable,
    /// Was asked, and said no.
    Refused,
    /// Was asked, and said yes or went away; then it goes on as if nobody could be asked.
    Heard,
}

/// A question to be answered with yes or no.
#[derive(Debug)]
pub(super) struct Question(pub(super) String);

impl Person {
    pub(super) fn of(
        context: &RequestContext<RoleServer>,
        responses: Option<&InputResponses>,
    ) -> Self {
        let spoken = context.protocol_version();
        if spoken.is_none_or(|spoken| spoken < ProtocolVersion::V_2026_07_28)
            || !context.client_capabilities().is_some_and(|can| shows_forms(&can))
        {
            return Self::Unreachable;
        }
        let said = responses.and_then(|responses| responses.get(CONSENT));
        let said = said.and_then(|said| serde_json::from_value::<ElicitResult>(said.clone()).ok());
        match said.map(|said| said.action) {
            Some(ElicitationAction::Decline) => Self::Refused,
            // The SDK's list may grow; only the one word stops anything.
            Some(_) => Self::Heard,
            None => Self::Reachable,
        }
    }
}

/// A client that names neither mode has that of forms.
fn shows_forms(can: &ClientCapabilities) -> bool {
    can.elicitation.as_ref().is_some_and(|can| can.form.is_some() || can.url.is_none())
}

impl From<Question> for CallToolResponse {
    fn from(Question(message): Question) -> Self {
        let params = ElicitRequestParams::FormElicitationParams {
            meta: None,
            message,
            requested_schema: ElicitationSchema::new(BTreeMap::new()),
        };
        let question = InputRequest::Elicitation(ElicitRequest::new(params));
        let questions = BTreeMap::from([(CONSENT.to_owned(), question)]);
        InputRequiredResult::from_input_requests(questions).into()
    }
}
