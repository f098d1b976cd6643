//! Events, and what streams are about.

use super::decision::{rejection, verdict};
use super::{Violations, timestamp};
use crate::domain::event::Event;
use crate::engine::EngineResult;
use crate::engine::watch::{About, Told};
use crate::proto::v1;

pub(in crate::grpc) fn event(event: Event) -> v1::Event {
    let Event { seq, id, kind, at, data, .. } = event;
    v1::Event {
        id,
        sequence: seq,
        r#type: kind.word().to_owned(),
        at: Some(timestamp(at)),
        mandate_id: data.mandate.map(|id| id.to_string()).unwrap_or_default(),
        agent_id: data.agent.map(|id| id.to_string()).unwrap_or_default(),
        transaction_id: data.transaction.map(|id| id.to_string()).unwrap_or_default(),
        amount: data.amount,
        currency: data.currency.map(|currency| currency.code().to_owned()).unwrap_or_default(),
        budget_spent: data.budget_spent,
        budget_total: data.budget_total,
        decision: data.decision.map_or(v1::Decision::Unspecified, verdict).into(),
        rejection_reasons: data
            .rejection_reasons
            .into_iter()
            .map(|reason| rejection(reason).into())
            .collect(),
    }
}

pub(in crate::grpc) fn told(told: Told<Event>) -> v1::WatchTransactionsResponse {
    v1::WatchTransactionsResponse { event: told.news.map(event), resume_token: told.token }
}

pub(in crate::grpc) fn about(request: &v1::WatchTransactionsRequest) -> EngineResult<About> {
    let mut wrong = Violations::default();
    let about = About {
        agent: wrong.parse_optional("agent_id", &request.agent_id),
        mandate: wrong.parse_optional("mandate_id", &request.mandate_id),
        transaction: wrong.parse_optional("transaction_id", &request.transaction_id),
    };
    wrong.finish(Some(about))
}
