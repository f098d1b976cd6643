//! A decision that waits for a person: what was asked, who decides, how to learn the outcome.
//!
//! The approvers are read from the mandate, as a courtesy: if that fails the answer says less and
//! stays true. Not here: approving, which no agent can do.

use serde_json::{Value, json};

use crate::forms::money_text;
use crate::mcp::Gateway;
use crate::mcp::caller::Caller;
use crate::mcp::schema;
use crate::mcp::text::{DESCRIPTION_MAX, NAME_MAX, clean};
use crate::mcp::tools::{name, present};
use crate::proto::v1;

/// What is known of a spend that waits.
pub(super) struct Waiting<'a> {
    asked: &'a v1::EvaluateRequest,
    transaction_id: &'a str,
    approval: Approval,
}

/// What the mandate says of approvals; nothing, if that could not be read.
pub(super) struct Approval(Option<v1::ApprovalRule>);

pub(super) fn output() -> Value {
    let asked = json!({
        "amount": schema::minor("Minor units"),
        "currency": schema::text("ISO 4217 code, or USDC"),
        "vendor": schema::text("Who would be paid"),
        "category": schema::text("What kind of thing it is"),
        "description": schema::text("What it is for"),
    });
    let roles = json!({
        "type": "array",
        "items": {"type": "string"},
        "description": "Who may decide; empty means whoever manages the mandate",
    });
    let properties = json!({
        "asked": schema::object(asked, &["amount", "currency", "vendor"]),
        "decidedBy": roles,
        "timeoutMinutes": schema::minor("How long the mandate gives them"),
        "howToLearn": schema::text("How to learn the outcome"),
    });
    let mut schema = schema::object(properties, &["asked", "decidedBy", "howToLearn"]);
    let description = "Only if `decision` is pending_approval: the money is held, not spent";
    schema.insert("description".to_owned(), description.into());
    Value::Object(schema)
}

/// What became of a decision that waited, for a call that repeats the question.
pub(super) fn outcome(state: v1::TransactionState) -> String {
    let said = match state {
        v1::TransactionState::Approved => {
            "A person approved it: buy exactly this, at this vendor, and keep the transactionId."
        }
        v1::TransactionState::Denied => "A person denied it: do not spend.",
        v1::TransactionState::Timeout => "Nobody decided in time: do not spend.",
        v1::TransactionState::Withdrawn => "It was withdrawn: do not spend.",
        v1::TransactionState::Settled
        | v1::TransactionState::Refunded
        | v1::TransactionState::Voided
        | v1::TransactionState::Expired => {
            "A person approved it, and it was closed since: do not spend on it again."
        }
        v1::TransactionState::Rejected
        | v1::TransactionState::PendingApproval
        | v1::TransactionState::Unspecified => "Do not spend yet.",
    };
    said.to_owned()
}

/// What an approval means that is over.
pub(super) fn closed(state: v1::TransactionState) -> String {
    let is_paid = matches!(state, v1::TransactionState::Settled | v1::TransactionState::Refunded);
    let said = if is_paid {
        "It was approved, bought and settled: do not buy it again."
    } else {
        "It was approved, and its money was given back since: do not spend on it. If it was not \
         bought, ask again with a new intentKey."
    };
    said.to_owned()
}

impl Approval {
    /// Reads this mandate in this version.
    pub(super) async fn read(
        gateway: &Gateway,
        caller: &Caller,
        (mandate_id, version): (String, i64),
    ) -> Self {
        let request = caller.request(v1::GetMandateRequest { mandate_id, version });
        let mandate = gateway.mandates().get_mandate(request).await;
        let mandate = mandate.ok().and_then(|found| found.into_inner().mandate).unwrap_or_default();
        Self(mandate.rules.into_iter().find_map(|rule| match rule.kind {
            Some(v1::rule::Kind::Approval(approval)) => Some(approval),
            Some(_) | None => None,
        }))
    }

    fn roles(&self) -> Vec<String> {
        let roles = self.0.iter().flat_map(|approval| &approval.approver_roles);
        roles.map(|role| clean(role, NAME_MAX)).collect()
    }

    /// Who decides, for a sentence.
    pub(super) fn who(&self) -> String {
        match self.roles().as_slice() {
            [] => "whoever manages the mandate".to_owned(),
            roles => roles.join(" or "),
        }
    }
}

impl<'a> Waiting<'a> {
    pub(super) async fn read(
        gateway: &Gateway,
        caller: &Caller,
        asked: &'a v1::EvaluateRequest,
        made: &'a v1::EvaluateResponse,
    ) -> Self {
        let mandate = (made.mandate_id.clone(), made.mandate_version);
        let approval = Approval::read(gateway, caller, mandate).await;
        Self { asked, transaction_id: &made.transaction_id, approval }
    }

    pub(super) fn data(&self) -> Value {
        let description = clean(&self.asked.description, DESCRIPTION_MAX);
        let asked = present(json!({
            "amount": self.asked.amount,
            "currency": self.asked.currency,
            "vendor": clean(&self.asked.vendor, NAME_MAX),
            "category": name(&self.asked.category),
            "description": Some(description).filter(|text| !text.is_empty()),
        }));
        let learn = format!(
            "call quetra_transactions with transactionId {} and waitSeconds 30, again and again \
             while `state` is pending_approval; or repeat this call with the same intentKey",
            self.transaction_id
        );
        present(json!({
            "asked": asked,
            "decidedBy": self.approval.roles(),
            "timeoutMinutes": self.approval.0.as_ref().map(|approval| approval.timeout_minutes),
            "howToLearn": learn,
        }))
    }

    pub(super) fn text(&self) -> String {
        let amount = money_text(self.asked.amount.unwrap_or_default(), &self.asked.currency);
        let who = self.approval.who();
        format!(
            " Do not spend yet: {amount} is held until {who} decides. Ask quetra_transactions for \
             this transactionId, with waitSeconds, to learn the outcome."
        )
    }
}
