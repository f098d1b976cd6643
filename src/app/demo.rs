//! What a development server makes on its first start: an organization, an agent with a mandate in
//! force, and two keys, so that the first call can be made at once.
//!
//! Not here: how it is shown (`cli`).

use crate::domain::agent::{AgentProfile, Framework};
use crate::domain::hold::Holds;
use crate::domain::mandate::{Budget, MandateStep};
use crate::domain::money::Currency;
use crate::domain::period::Period;
use crate::domain::rule::RuleSpec;
use crate::engine::mandates::MandateDraft;
use crate::engine::organization::NewKey;
use crate::engine::receipts::Idempotency;
use crate::engine::{Engine, EngineResult};
use crate::store::Role;

/// What was made.
#[derive(Clone, Debug)]
pub struct FirstStart {
    /// The organization's name.
    pub org_name: String,
    /// The agent's id.
    pub agent_id: String,
    /// The agent's name.
    pub agent_name: String,
    /// The mandate's id.
    pub mandate_id: String,
    /// A key that may do everything; it cannot be shown again.
    pub admin_key: String,
    /// A key of the agent; it cannot be shown again.
    pub agent_key: String,
}

/// Makes it, unless there is an organization already.
pub(super) async fn make(engine: &Engine) -> EngineResult<Option<FirstStart>> {
    if engine.has_organizations().await? {
        return Ok(None);
    }
    let once = Idempotency::default();
    let (org, admin_key) = engine.create_organization("Demo", "UTC").await?;
    let admin = engine.authenticate(admin_key.reveal()).await?;
    let profile = AgentProfile {
        name: "research-assistant".to_owned(),
        description: "Buys web data and model calls for research tasks".to_owned(),
        framework: Some(Framework::Custom),
        ..AgentProfile::default()
    };
    let agent = engine.register_agent(&admin, profile, &once).await?;
    let draft = MandateDraft {
        agent_id: agent.id,
        name: "Research budget".to_owned(),
        description: "100 dollars a month for research, at most 25 at once".to_owned(),
        budget: Budget {
            total: 10_000,
            per_transaction: 2_500,
            currency: Currency::Iso(iso_currency::Currency::USD),
            reset: Period::Monthly,
            holds: Holds::default(),
        },
        rules: rules(),
        valid_from: None,
        valid_until: None,
        durability: None,
    };
    let mandate = engine.create_mandate(&admin, draft, &once).await?;
    engine.step_mandate(&admin, mandate.id, MandateStep::Activate, "").await?;
    let wanted = NewKey {
        name: "research-assistant".to_owned(),
        role: Role::Agent,
        agent_id: Some(agent.id),
        expires_at: None,
    };
    let (_, agent_key) = engine.create_key(&admin, wanted, &once).await?;
    Ok(Some(FirstStart {
        org_name: org.name,
        agent_id: agent.id.to_string(),
        agent_name: agent.name,
        mandate_id: mandate.id.to_string(),
        admin_key: admin_key.reveal().to_owned(),
        agent_key: agent_key.map_or_else(String::new, |key| key.reveal().to_owned()),
    }))
}

fn rules() -> Vec<RuleSpec> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    vec![
        RuleSpec::Category { allowed: words(&["research", "generation"]) },
        RuleSpec::VendorAllowlist {
            vendors: words(&["firecrawl.dev", "api.openai.com", "api.anthropic.com", "arxiv.org"]),
        },
        RuleSpec::VendorCap {
            vendor: "firecrawl.dev".to_owned(),
            amount: 5_000,
            period: Period::Monthly,
        },
        RuleSpec::RateLimit { max_transactions: 50, window_minutes: 60 },
    ]
}
