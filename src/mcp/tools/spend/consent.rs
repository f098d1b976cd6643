//! Whether a spend that people would have to approve shall be put to them: asked of the person at
//! the client before anything is decided, recorded or held.
//!
//! It is a courtesy of clients that can ask. No answer approves anything: who may decide is a
//! matter of the mandate, and of credentials that no agent has. Not here: how a client is asked
//! (`person`).

use tonic::Code;

use super::pending::Approval;
use crate::forms::money_text;
use crate::mcp::Gateway;
use crate::mcp::caller::Caller;
use crate::mcp::person::Question;
use crate::mcp::text::{DESCRIPTION_MAX, NAME_MAX, clean};
use crate::proto::v1;

/// The question, if the spend would wait for people now and was not decided before.
pub(super) async fn question(
    gateway: &Gateway,
    caller: &Caller,
    spend: &v1::EvaluateRequest,
    intent_key: &str,
) -> Option<Question> {
    let foreseen = v1::CanSpendRequest::from(spend.clone());
    let foreseen = gateway.evaluate().can_spend(caller.request(foreseen)).await;
    // Whatever is wrong is told by the decision itself.
    let foreseen = foreseen.ok()?.into_inner();
    if foreseen.decision() != v1::Decision::PendingApproval {
        return None;
    }
    if !intent_key.is_empty() {
        let request = caller.request(v1::LookupDecisionRequest {
            agent_id: spend.agent_id.clone(),
            idempotency_key: intent_key.to_owned(),
        });
        let found = gateway.evaluate().lookup_decision(request).await;
        // What was put to people once is not asked about again; in doubt it was.
        if !found.is_err_and(|status| status.code() == Code::NotFound) {
            return None;
        }
    }
    let mandate = (foreseen.mandate_id, foreseen.mandate_version);
    let approval = Approval::read(gateway, caller, mandate).await;
    Some(Question(sentence(spend, &approval)))
}

fn sentence(spend: &v1::EvaluateRequest, approval: &Approval) -> String {
    let amount = money_text(spend.amount.unwrap_or_default(), &spend.currency);
    let vendor = clean(&spend.vendor, NAME_MAX);
    let purpose = clean(&spend.description, DESCRIPTION_MAX);
    let purpose = if purpose.is_empty() { purpose } else { format!(", for “{purpose}”") };
    let who = approval.who();
    format!(
        "An agent wants to spend {amount} at “{vendor}”{purpose}. The mandate lets {who} decide \
         about that. If you accept, they are asked and the amount is held until they have decided; \
         if you decline, nothing is asked for. Accepting approves nothing."
    )
}
