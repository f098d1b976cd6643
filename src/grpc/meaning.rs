//! The faults of a refused request that lie in what its fields mean: ids, vendors, rules, times.
//!
//! Handlers check meaning after the codec has checked form, so a good request is read once. A
//! refused one is read here once more, so that its error lists everything. Not here: the checks
//! themselves (`convert`), and what only the store knows.

use prost::Message;

use super::convert::{agent, approval, mandate, organization, spend, transaction};
use crate::engine::{EngineError, EngineResult, FieldViolation};
use crate::proto::v1;

/// What the fields of an encoded request of the named type cannot mean.
pub(super) fn faults(name: &str, bytes: &[u8]) -> Vec<FieldViolation> {
    match name {
        "EvaluateRequest" => read(bytes, |request| spend::check(&request)),
        "CanSpendRequest" => read(bytes, |request| spend::check(&spend::evaluate_request(request))),
        "CreateMandateRequest" => read(bytes, mandate::check_draft),
        "UpdateMandateRequest" => read(bytes, mandate::check_patch),
        "RegisterAgentRequest" => read(bytes, agent::profile),
        "UpdateAgentRequest" => read(bytes, agent::patch),
        "UpdateOrganizationRequest" => read(bytes, organization::patch),
        "CreateApiKeyRequest" => read(bytes, organization::new_key),
        "ListTransactionsRequest" => read(bytes, transaction::list),
        "ListApprovalsRequest" => read(bytes, approval::list),
        "ApproveTransactionRequest" => read(bytes, |request| approval::yes(&request)),
        "DenyTransactionRequest" => read(bytes, |request| approval::no(&request)),
        "LookupDecisionRequest" => {
            read(bytes, |request: v1::LookupDecisionRequest| spend::check_agent(&request.agent_id))
        }
        _ => Vec::new(),
    }
}

fn read<M, T>(bytes: &[u8], convert: impl FnOnce(M) -> EngineResult<T>) -> Vec<FieldViolation>
where
    M: Message + Default,
{
    match M::decode(bytes).map(convert) {
        Ok(Err(EngineError::Invalid(violations))) => violations,
        Ok(Ok(_) | Err(_)) | Err(_) => Vec::new(),
    }
}
