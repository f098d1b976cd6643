//! Evaluate, `CanSpend` and `LookupDecision`: screen, let the ledger rule, conclude.
//!
//! The rules are tested on what is kept in memory; the ledger decides only if everything still
//! stands as it did then, else the rules are tested again. Not here: the rules (`domain`), the
//! atomic effect (`ledger`).

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tracing::Level;

use super::access::Principal;
use super::snapshots::Frame;
use super::{ATTEMPTS, Engine, EngineError, EngineResult};
use crate::crypto::short_digest;
use crate::domain::decision::Decision;
use crate::domain::durability::Durability;
use crate::domain::evaluate::{Case, Ruling, Screened, conclude, screen, would_decide};
use crate::domain::id::{AgentId, MandateId, OrgId, TransactionId};
use crate::domain::ledger::{Claim, Decide, Decided};
use crate::domain::period::parse_zone;
use crate::domain::spend::{Observed, Protocol, Spend};
use crate::domain::transaction::{Evidence, TransactionRecord};
use crate::domain::vendor::VendorKind;
use crate::store::{StoreError, StoreErrorKind};

/// A spend to decide, and everything around it.
#[derive(Clone, Debug)]
pub struct EvaluateAsk {
    /// What is asked.
    pub spend: Spend,
    /// The mandate it must be decided under, if one is named.
    pub mandate: Option<MandateId>,
    /// How long an approval is held at most, if that is said.
    pub hold_seconds: Option<i64>,
    /// Chosen by the caller.
    pub idempotency_key: String,
    /// Where the call comes from.
    pub caller: Option<IpAddr>,
}

/// A decision with its record.
#[derive(Clone, Debug)]
pub struct Decisive {
    /// The record.
    pub record: Arc<TransactionRecord>,
    /// The decision, every rule's result included.
    pub decision: Decision,
    /// Made by an earlier call with the same key.
    pub replayed: bool,
}

/// What `CanSpend` answers.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The decision Evaluate would make now.
    pub decision: Decision,
    /// The mandate that would judge, and its version.
    pub mandate: Option<(MandateId, i64)>,
}

/// The record of a key: derived, so that a lost and repeated request names the same one.
fn transaction_id(org: OrgId, agent: AgentId, key: &str) -> TransactionId {
    let parts: [&[u8]; 4] = [b"transaction v1", org.as_bytes(), agent.as_bytes(), key.as_bytes()];
    TransactionId::from_bytes(short_digest(&parts))
}

/// Two requests are the same when every field the caller can set is.
fn request_hash(ask: &EvaluateAsk) -> [u8; 16] {
    let spend = &ask.spend;
    let amount = spend.amount.to_be_bytes();
    let optional = |text: Option<&str>| match text {
        None => vec![0],
        Some(text) => [&[1], text.as_bytes()].concat(),
    };
    let category = optional(spend.category.as_deref());
    let description = optional(spend.description.as_deref());
    let protocol = optional(spend.protocol.map(Protocol::word));
    let mandate = ask.mandate.map(|id| *id.as_bytes()).unwrap_or_default();
    let mut parts: Vec<&[u8]> = vec![
        b"evaluate v1",
        &amount,
        spend.currency.code().as_bytes(),
        spend.vendor_raw.as_bytes(),
        &category,
        &description,
        &protocol,
        &mandate,
    ];
    for (key, value) in &spend.metadata {
        parts.push(key.as_bytes());
        parts.push(value.as_bytes());
    }
    // Absent it leaves no trace: requests from before it existed are the same ones.
    let hold = ask.hold_seconds.map(i64::to_be_bytes);
    if let Some(hold) = &hold {
        parts.push(b"hold");
        parts.push(hold);
    }
    short_digest(&parts)
}

impl Engine {
    /// Decides a spend, charges the budget and records the decision; with what the answer survives.
    ///
    /// # Errors
    /// When nothing could be decided; nothing is approved then, except that a timeout may hide a
    /// decision, which the same key finds.
    pub async fn evaluate(
        &self,
        caller: &Principal,
        ask: EvaluateAsk,
    ) -> EngineResult<(Decisive, Durability)> {
        let org = caller.org_id;
        let agent = ask.spend.agent_id;
        let request_hash = request_hash(&ask);
        let id = transaction_id(org, agent, &ask.idempotency_key);
        let covers_request = self.ledger.has_two_stores();
        let id = if covers_request { id.with_request(&request_hash) } else { id };
        let started_at = self.clock.now();
        let mut frame = self.frame(org, agent, ask.mandate).await?;
        for _ in 0..ATTEMPTS {
            let observed = self.observe(&frame, &ask).await;
            let screened_at = self.clock.now();
            let screened = screen(&Case {
                standing: &frame.standing,
                mandate: frame.mandate.as_ref(),
                spend: &ask.spend,
                observed: &observed,
                zone: &frame.zone,
                now: screened_at,
            })?;
            let took = screened_at.duration_since(started_at).as_micros();
            let command = Decide {
                id,
                org_id: org,
                spend: ask.spend.clone(),
                idempotency_key: ask.idempotency_key.clone(),
                request_hash,
                evidence: Evidence {
                    standing: frame.standing.clone(),
                    named: ask.mandate.is_some(),
                    observed,
                    zone: frame.zone_name.clone(),
                    screened_at,
                    levels: Vec::new(),
                    windows: Vec::new(),
                },
                claim: screened.claim.clone().map(|claim| agreed(claim, caller, &ask)),
                durability: frame.durability(),
                took_micros: i64::try_from(took).unwrap_or(i64::MAX),
            };
            let durability = self.ledger.durability(command.durability);
            let deciding = self.load.enter();
            let decided = self.ledger.decide(command).await;
            drop(deciding);
            self.writes.note_decided(&decided);
            match decided? {
                Decided::Ruled(record) => {
                    let concluded = concluded(&screened, record);
                    self.log(&concluded, started_at);
                    return Ok((concluded, durability));
                }
                Decided::Replayed(record) => {
                    let decision = self.decision_of(&record).await?;
                    return Ok((Decisive { record, decision, replayed: true }, durability));
                }
                Decided::KeyReused => return Err(EngineError::KeyReused),
                Decided::Stale => frame = self.fresh_frame(org, agent, ask.mandate).await?,
                // A ledger whose answers can only be approvals now asks for patience.
                Decided::Undecided => return Err(undecided().into()),
            }
        }
        Err(EngineError::ConcurrentChange)
    }

    /// Says what was decided about whom, and why; never what was asked for.
    fn log(&self, decided: &Decisive, started_at: Timestamp) {
        if !tracing::enabled!(Level::DEBUG) {
            return;
        }
        let Decisive { record, decision, .. } = decided;
        let (mandate, version) = record.mandate().unzip();
        let reasons: Vec<_> = decision.reasons.iter().map(|reason| reason.reason).collect();
        tracing::debug!(
            transaction = %record.id,
            agent = %record.spend.agent_id,
            mandate = mandate.map(tracing::field::display),
            version,
            decision = record.verdict.word(),
            ?reasons,
            micros = self.clock.now().duration_since(started_at).as_micros(),
            "decided"
        );
    }

    /// Says what Evaluate would decide now. No effect.
    ///
    /// # Errors
    /// When agent or mandate is unknown or a store fails.
    pub async fn can_spend(&self, caller: &Principal, ask: &EvaluateAsk) -> EngineResult<Preview> {
        let frame = self.fresh_frame(caller.org_id, ask.spend.agent_id, ask.mandate).await?;
        let observed = self.observe(&frame, ask).await;
        let now = self.clock.now();
        let screened = screen(&Case {
            standing: &frame.standing,
            mandate: frame.mandate.as_ref(),
            spend: &ask.spend,
            observed: &observed,
            zone: &frame.zone,
            now,
        })?;
        let (levels, windows) = match &screened.claim {
            Some(claim) => self.ledger.peek(caller.org_id, claim, now).await?,
            None => (Vec::new(), Vec::new()),
        };
        let decision = would_decide(&screened, &ask.spend, &levels, &windows);
        let mandate = frame.standing.mandate.as_ref().map(|mandate| (mandate.id, mandate.version));
        Ok(Preview { decision, mandate })
    }

    /// Finds the decision that a key was used for.
    ///
    /// # Errors
    /// When there is none.
    pub async fn lookup_decision(
        &self,
        caller: &Principal,
        agent: AgentId,
        key: &str,
    ) -> EngineResult<Decisive> {
        let id = transaction_id(caller.org_id, agent, key);
        let record = self.catalogue.transaction_of_key(caller.org_id, id, (agent, key)).await?;
        self.seen(caller, record).await
    }

    /// The decision of a record, computed again from what was recorded.
    pub(super) async fn decision_of(&self, record: &TransactionRecord) -> EngineResult<Decision> {
        let evidence = &record.evidence;
        let mandate = match record.mandate() {
            None => None,
            Some((id, version)) => Some(self.compiled_version(record.org_id, id, version).await?),
        };
        let zone: TimeZone = parse_zone(&evidence.zone)?;
        let screened = screen(&Case {
            standing: &evidence.standing,
            mandate: mandate.as_deref(),
            spend: &record.spend,
            observed: &evidence.observed,
            zone: &zone,
            now: evidence.screened_at,
        })?;
        Ok(conclude(&screened, &record.spend, &ruling(record)))
    }

    async fn observe(&self, frame: &Frame, ask: &EvaluateAsk) -> Observed {
        if !frame.asks_countries {
            return Observed::default();
        }
        let vendor = &ask.spend.vendor;
        let vendor_country = match vendor.kind() {
            VendorKind::Host => self.countries.of_host(vendor.canonical()).await,
            VendorKind::Name => None,
        };
        let caller_country = ask.caller.and_then(|address| self.countries.of_address(address));
        Observed { vendor_country, caller_country }
    }
}

/// A claim with what the request and its caller add to the mandate's terms.
fn agreed(mut claim: Claim, caller: &Principal, ask: &EvaluateAsk) -> Claim {
    let terms = &mut claim.terms;
    terms.hold_seconds = terms.hold_seconds.into_iter().chain(ask.hold_seconds).min();
    if let Some(approval) = &mut terms.approval {
        approval.asked_by = Some(caller.key_id);
    }
    claim
}

fn undecided() -> StoreError {
    let why = "it cannot be approved, and nothing else can be said now";
    StoreError::new(StoreErrorKind::Unavailable, "decide", why)
}

fn ruling(record: &TransactionRecord) -> Ruling<'_> {
    Ruling {
        verdict: record.verdict,
        levels: &record.evidence.levels,
        windows: &record.evidence.windows,
    }
}

fn concluded(screened: &Screened, record: Arc<TransactionRecord>) -> Decisive {
    metrics::counter!("quetra_decisions_total", "decision" => record.verdict.word()).increment(1);
    let decision = conclude(screened, &record.spend, &ruling(&record));
    Decisive { record, decision, replayed: false }
}
