//! A spend to decide: from `EvaluateRequest` and `CanSpendRequest`.

use std::net::IpAddr;

use super::{Violations, defined};
use crate::domain::id::{AgentId, MandateId};
use crate::domain::money::Currency;
use crate::domain::spend::{Protocol, Spend, category_fault};
use crate::domain::vendor::Vendor;
use crate::engine::access::Principal;
use crate::engine::evaluate::EvaluateAsk;
use crate::engine::{EngineError, EngineResult};
use crate::proto::v1;

/// What the texts of a request say, as far as they say something.
struct Meaning {
    agent: Option<AgentId>,
    mandate: Option<MandateId>,
    currency: Option<Currency>,
    vendor: Option<Vendor>,
}

fn meaning(request: &v1::EvaluateRequest, wrong: &mut Violations) -> Meaning {
    let agent = wrong.parse_optional("agent_id", &request.agent_id);
    let mandate = wrong.parse_optional("mandate_id", &request.mandate_id);
    let currency = wrong.currency("currency", &request.currency);
    let vendor = Vendor::parse(&request.vendor).map_err(|error| wrong.refuse("vendor", error)).ok();
    for (field, text) in [("category", &request.category), ("description", &request.description)] {
        wrong.visible(field, text);
    }
    if let Some(why) = category_fault(&request.category) {
        wrong.refuse("category", why);
    }
    Meaning { agent, mandate, currency, vendor }
}

/// Whether the fields of a request mean something, whoever sends it.
pub(in crate::grpc) fn check(request: &v1::EvaluateRequest) -> EngineResult<()> {
    let mut wrong = Violations::default();
    meaning(request, &mut wrong);
    wrong.finish(Some(()))
}

/// Whether the agent of a request can be one.
pub(in crate::grpc) fn check_agent(agent_id: &str) -> EngineResult<()> {
    let mut wrong = Violations::default();
    wrong.parse_optional::<AgentId>("agent_id", agent_id);
    wrong.finish(Some(()))
}

/// Reads a request; the agent may be left out if the credential is bound to one.
pub(in crate::grpc) fn ask(
    request: v1::EvaluateRequest,
    caller: &Principal,
    address: Option<IpAddr>,
) -> EngineResult<EvaluateAsk> {
    let mut wrong = Violations::default();
    let Meaning { agent: named, mandate, currency, vendor } = meaning(&request, &mut wrong);
    let agent = match caller.agent(named) {
        Err(EngineError::Invalid(_)) if !request.agent_id.is_empty() => None,
        Err(EngineError::Invalid(violations)) => {
            for violation in violations {
                wrong.refuse(&violation.field, violation.why);
            }
            None
        }
        agent => Some(agent?),
    };
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let spend = (|| {
        Some(Spend {
            agent_id: agent?,
            amount: request.amount?,
            currency: currency?,
            vendor: vendor?,
            vendor_raw: request.vendor,
            category: given(request.category),
            description: given(request.description),
            protocol: protocol(defined(request.protocol, v1::Protocol::Unspecified)),
            metadata: request.metadata,
        })
    })();
    let idempotency_key = request.idempotency_key;
    let hold_seconds = request.hold_seconds.map(i64::from);
    wrong.finish(spend.map(|spend| EvaluateAsk {
        spend,
        mandate,
        hold_seconds,
        idempotency_key,
        caller: address,
    }))
}

/// The same question without the write.
pub(in crate::grpc) fn evaluate_request(request: v1::CanSpendRequest) -> v1::EvaluateRequest {
    v1::EvaluateRequest {
        agent_id: request.agent_id,
        amount: request.amount,
        currency: request.currency,
        vendor: request.vendor,
        category: request.category,
        description: request.description,
        protocol: request.protocol,
        idempotency_key: String::new(),
        metadata: request.metadata,
        mandate_id: request.mandate_id,
        hold_seconds: None,
    }
}

pub(super) const fn protocol(protocol: v1::Protocol) -> Option<Protocol> {
    match protocol {
        v1::Protocol::Unspecified => None,
        v1::Protocol::Direct => Some(Protocol::Direct),
        v1::Protocol::X402 => Some(Protocol::X402),
        v1::Protocol::Acp => Some(Protocol::Acp),
        v1::Protocol::StripeCc => Some(Protocol::StripeCc),
        v1::Protocol::Ap2 => Some(Protocol::Ap2),
        v1::Protocol::Connector => Some(Protocol::Connector),
    }
}

pub(super) const fn protocol_message(protocol: Option<Protocol>) -> v1::Protocol {
    match protocol {
        None => v1::Protocol::Unspecified,
        Some(Protocol::Direct) => v1::Protocol::Direct,
        Some(Protocol::X402) => v1::Protocol::X402,
        Some(Protocol::Acp) => v1::Protocol::Acp,
        Some(Protocol::StripeCc) => v1::Protocol::StripeCc,
        Some(Protocol::Ap2) => v1::Protocol::Ap2,
        Some(Protocol::Connector) => v1::Protocol::Connector,
    }
}
