//! Runs a vector with the pure core alone: screen, the ledger's specification, conclude.
//!
//! The published form of a rule becomes the core's own by a conversion of its own, so that the
//! server's is checked against a second one. Not here: the server.

use jiff::Timestamp;
use quetra::domain::actor::Actor;
use quetra::domain::agent::AgentStatus;
use quetra::domain::decision::Decision;
use quetra::domain::durability::AskedDurability;
use quetra::domain::evaluate::{Case, Ruling, conclude, screen, would_decide};
use quetra::domain::hold::Holds;
use quetra::domain::id::{AgentId, MandateId, OrgId, TransactionId};
use quetra::domain::ledger::{Act, Book, Decide, Decided, MandateStanding, Resolve, Standing};
use quetra::domain::mandate::{Budget, CompiledMandate, Mandate, MandateStatus, Policy};
use quetra::domain::money::Currency;
use quetra::domain::period::{Period, parse_zone};
use quetra::domain::rule::{CustomEngine, GeoSubject, RuleSpec};
use quetra::domain::spend::{Observed, Protocol, Spend};
use quetra::domain::transaction::Evidence;
use quetra::domain::vendor::Vendor;
use quetra::forms::SpendForm;
use quetra::proto::v1::{self, rule::Kind};
use serde_json::Value;

use super::vector::{
    AgentWord, Answer, BudgetAnswer, MandateWord, ReasonAnswer, RuleAnswer, Then, Vector,
};

const ORG: OrgId = OrgId::from_bytes([1; 16]);
const AGENT: AgentId = AgentId::from_bytes([2; 16]);
const MANDATE: MandateId = MandateId::from_bytes([3; 16]);

/// Everything a decision looks at, in memory.
struct Core<'a> {
    vector: &'a Vector,
    book: Book,
    frozen: bool,
    agent: AgentStatus,
    mandate: Option<Mandate>,
    asked: u8,
}

pub(super) fn run(vector: &Vector, wrong: &mut Vec<String>) {
    let mut core = Core::new(vector);
    for past in &vector.history {
        let (decision, id) = core.decide(&past.spend, past.at, false);
        if decision.verdict.word() != past.decision {
            wrong.push(format!("{}: {} in its history", vector.name, decision.explanation));
        }
        for then in &past.then {
            let act = match *then {
                Then::Settle { amount } => Act::Settle(amount),
                Then::Void {} => Act::Void,
                Then::Refund { amount } => Act::Refund(amount),
            };
            let command =
                Resolve { org_id: ORG, agent: None, id, act, actor: Actor::System, ground: None };
            assert!(core.book.resolve(&command, past.at).unwrap().changed, "{}", vector.name);
        }
    }
    core.change();
    let (decision, _) = core.decide(&vector.spend, vector.at, vector.named);
    vector.expect.compare(&format!("{} (core)", vector.name), &answer(decision), wrong);
}

impl<'a> Core<'a> {
    fn new(vector: &'a Vector) -> Self {
        let form = vector.mandate_form().filter(|_| vector.in_force() || vector.named);
        let mandate = form.map(|form| {
            let created = form.into_create(String::new());
            let time = |at: Option<prost_types::Timestamp>| {
                at.map(|at| Timestamp::new(at.seconds, at.nanos).unwrap())
            };
            let mut budget = created.budget.unwrap();
            if budget.currency.is_empty() {
                budget.currency = "USD".to_owned();
            }
            let policy = Policy {
                budget: Budget {
                    total: budget.total,
                    per_transaction: budget.per_transaction,
                    currency: Currency::parse(&budget.currency).unwrap(),
                    reset: period(budget.reset),
                    holds: Holds {
                        minutes: budget.hold_minutes.map(i64::from),
                        tolerance: budget.settle_tolerance,
                        tolerance_bps: budget.settle_tolerance_bps.map(i64::from),
                    },
                },
                rules: created.rules.into_iter().map(rule).collect(),
                valid_from: time(created.valid_from).unwrap_or_else(|| vector.starts_at()),
                valid_until: time(created.valid_until),
                durability: None,
            };
            mandate(policy, vector.starts_at())
        });
        let (book, agent) = (Book::default(), AgentStatus::Active);
        Self { vector, book, frozen: false, agent, mandate, asked: 0 }
    }

    /// What happens between the history and the spend.
    fn change(&mut self) {
        if let (Some(mandate), Some(patch)) = (&mut self.mandate, self.vector.budget_patch()) {
            let budget = &mut mandate.policy.budget;
            budget.total = patch.total.unwrap_or(budget.total);
            budget.per_transaction = patch.per_transaction.unwrap_or(budget.per_transaction);
        }
        self.frozen = self.vector.organization.frozen;
        self.agent = match self.vector.agent_status {
            AgentWord::Active => AgentStatus::Active,
            AgentWord::Suspended => AgentStatus::Suspended,
            AgentWord::Decommissioned => AgentStatus::Decommissioned,
        };
        if let Some(mandate) = &mut self.mandate {
            mandate.version += 1;
            mandate.status = match self.vector.mandate_status {
                MandateWord::Draft => MandateStatus::Draft,
                MandateWord::Active if self.agent != AgentStatus::Decommissioned => {
                    MandateStatus::Active
                }
                MandateWord::Paused => MandateStatus::Paused,
                MandateWord::Active | MandateWord::Revoked => MandateStatus::Revoked,
            };
        }
    }

    fn standing(&self) -> Standing {
        let mandate = self.mandate.as_ref().map(|mandate| MandateStanding {
            id: MANDATE,
            version: mandate.version,
            status: mandate.status,
        });
        Standing { org_version: 1, frozen: self.frozen, agent: self.agent, mandate }
    }

    fn decide(&mut self, body: &Value, now: Timestamp, named: bool) -> (Decision, TransactionId) {
        let currency = self.mandate.as_ref().map(|mandate| mandate.policy.budget.currency);
        let spend = spend(body, currency);
        let standing = self.standing();
        self.book.orgs.insert(ORG, (standing.org_version, standing.frozen));
        self.book.agents.insert(AGENT, (standing.agent, self.mandate.as_ref().map(|m| m.id)));
        if let Some(mandate) = &standing.mandate {
            self.book.mandates.insert(mandate.id, (mandate.version, mandate.status));
        }
        let compiled =
            self.mandate.as_ref().map(|mandate| CompiledMandate::try_new(mandate).unwrap());
        let zone = &self.vector.organization.timezone;
        let observed = Observed {
            vendor_country: self.vector.observed.vendor_country.clone(),
            caller_country: self.vector.observed.caller_country.clone(),
        };
        let screened = screen(&Case {
            standing: &standing,
            mandate: compiled.as_ref(),
            spend: &spend,
            observed: &observed,
            zone: &parse_zone(zone).unwrap(),
            now,
        });
        let screened = screened.unwrap();
        self.asked += 1;
        let id = TransactionId::from_bytes([self.asked; 16]);
        let evidence = Evidence {
            standing,
            named,
            observed,
            zone: zone.clone(),
            screened_at: now,
            levels: Vec::new(),
            windows: Vec::new(),
        };
        let command = Decide {
            id,
            org_id: ORG,
            spend: spend.clone(),
            idempotency_key: format!("key-{}", self.asked),
            request_hash: [self.asked; 16],
            evidence,
            claim: screened.claim.clone(),
            durability: AskedDurability::default(),
            took_micros: 0,
        };
        let Decided::Ruled(record) = self.book.decide(&command, now) else {
            panic!("{}: not ruled on", self.vector.name);
        };
        let (levels, windows) = (&record.evidence.levels, &record.evidence.windows);
        let ruling = Ruling { verdict: record.verdict, levels, windows };
        let decision = conclude(&screened, &spend, &ruling);
        let foretold = would_decide(&screened, &spend, levels, windows);
        assert_eq!(foretold.verdict, decision.verdict, "{}", self.vector.name);
        assert_eq!(foretold.reasons, decision.reasons, "{}", self.vector.name);
        (decision, id)
    }
}

impl Vector {
    /// Whether the agent has a mandate that was activated.
    pub(super) fn in_force(&self) -> bool {
        self.mandate.is_some() && self.mandate_status != MandateWord::Draft
    }
}

fn mandate(policy: Policy, created_at: Timestamp) -> Mandate {
    Mandate {
        id: MANDATE,
        org_id: ORG,
        agent_id: AGENT,
        name: String::new(),
        description: String::new(),
        version: 2,
        status: MandateStatus::Active,
        policy,
        policy_hash: String::new(),
        signature: String::new(),
        signing_key_id: String::new(),
        created_at,
        updated_at: created_at,
        revocation_reason: String::new(),
    }
}

fn spend(body: &Value, currency: Option<Currency>) -> Spend {
    let form: SpendForm = serde_json::from_value(body.clone()).unwrap();
    let request = form.into_evaluate();
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let named = given(request.currency.clone()).map(|code| Currency::parse(&code).unwrap());
    Spend {
        agent_id: AGENT,
        amount: request.amount.unwrap(),
        currency: named.or(currency).unwrap_or_else(|| Currency::parse("USD").unwrap()),
        vendor: Vendor::parse(&request.vendor).unwrap(),
        protocol: protocol(request.protocol()),
        vendor_raw: request.vendor,
        category: given(request.category),
        description: given(request.description),
        metadata: request.metadata,
    }
}

fn protocol(protocol: v1::Protocol) -> Option<Protocol> {
    let name = protocol.as_str_name().trim_start_matches("PROTOCOL_").to_lowercase();
    Protocol::ALL.into_iter().find(|protocol| protocol.word() == name)
}

fn period(number: i32) -> Period {
    match v1::Period::try_from(number).unwrap() {
        v1::Period::Unspecified | v1::Period::None => Period::None,
        v1::Period::Daily => Period::Daily,
        v1::Period::Weekly => Period::Weekly,
        v1::Period::Monthly => Period::Monthly,
    }
}

fn rule(rule: v1::Rule) -> RuleSpec {
    match rule.kind.unwrap() {
        Kind::Category(rule) => RuleSpec::Category { allowed: rule.allowed },
        Kind::VendorAllowlist(rule) => RuleSpec::VendorAllowlist { vendors: rule.vendors },
        Kind::VendorBlocklist(rule) => RuleSpec::VendorBlocklist { vendors: rule.vendors },
        Kind::VendorCap(v1::VendorCapRule { vendor, amount, period: number }) => {
            RuleSpec::VendorCap { vendor, amount, period: period(number) }
        }
        Kind::CategoryCap(v1::CategoryCapRule { category, amount, period: number }) => {
            RuleSpec::CategoryCap { category, amount, period: period(number) }
        }
        Kind::MaxAmount(rule) => RuleSpec::MaxAmount { amount: rule.amount },
        Kind::RateLimit(v1::RateLimitRule { max_transactions, window_minutes }) => {
            RuleSpec::RateLimit { max_transactions, window_minutes: window_minutes.into() }
        }
        Kind::SpendRate(v1::SpendRateRule { max_amount, window_minutes }) => {
            RuleSpec::SpendRate { max_amount, window_minutes: window_minutes.into() }
        }
        Kind::TimeWindow(v1::TimeWindowRule { days, start, end, timezone }) => {
            let days = days.into_iter().map(|day| u8::try_from(day).unwrap()).collect();
            RuleSpec::TimeWindow { days, start, end, timezone }
        }
        Kind::Geo(rule) => RuleSpec::Geo {
            subject: match rule.subject() {
                v1::GeoSubject::Unspecified | v1::GeoSubject::Vendor => GeoSubject::Vendor,
                v1::GeoSubject::Caller => GeoSubject::Caller,
            },
            allowed: rule.allowed_countries,
            blocked: rule.blocked_countries,
        },
        Kind::ProtocolRestrict(rule) => {
            RuleSpec::ProtocolRestrict { allowed: rule.allowed().filter_map(protocol).collect() }
        }
        Kind::Approval(rule) => RuleSpec::Approval {
            threshold: rule.threshold,
            approver_roles: rule.approver_roles,
            approvals_required: rule.approvals_required.max(1).into(),
            timeout_minutes: rule.timeout_minutes.into(),
        },
        Kind::Custom(rule) => RuleSpec::Custom {
            engine: match rule.engine() {
                v1::CustomEngine::Cel => CustomEngine::Cel,
                v1::CustomEngine::Unspecified | v1::CustomEngine::Jsonlogic => {
                    CustomEngine::Jsonlogic
                }
            },
            expression: rule.expression,
            description: rule.description,
        },
    }
}

fn answer(decision: Decision) -> Answer {
    let word = |reason| serde_json::to_value(reason).unwrap().as_str().unwrap().to_owned();
    let results = decision.rule_results.into_iter().map(|result| RuleAnswer {
        rule_type: result.rule_type.to_owned(),
        passed: result.passed(),
        reason: result.failure.map(word),
        limit: result.limit,
        actual: result.actual,
        remaining: result.remaining,
        resets_at: result.resets_at,
        retryable: result.retryable,
    });
    let reasons =
        decision.reasons.iter().map(|reason| ReasonAnswer { reason: word(reason.reason) });
    Answer {
        decision: decision.verdict.word().to_owned(),
        evaluations: results.collect(),
        reasons: reasons.collect(),
        remaining_budget: decision.budget.map(|budget| budget.remaining()),
        budget: decision.budget.map(|budget| BudgetAnswer {
            resets_at: budget.resets_at,
            over_committed: budget.over_committed(),
        }),
    }
}
