//! The random organizations, agents and mandates that the ledgers are asked about, as they change.
//!
//! Every version that ever stood is kept, so that a command can come from one that stands no more.
//! Not here: the commands (`commands`) and the ledgers (`sides`).

use jiff::{SignedDuration, Timestamp};
use quetra::domain::agent::{Agent, AgentStatus};
use quetra::domain::hold::Holds;
use quetra::domain::id::{AgentId, MandateId, OrgId};
use quetra::domain::mandate::{Budget, Mandate, MandateStatus, Policy};
use quetra::domain::money::Currency;
use quetra::domain::organization::Organization;
use quetra::domain::period::Period;
use quetra::domain::rule::RuleSpec;
use quetra::store::{Change, SigningKeyRow};

use crate::dice::Dice;

pub(crate) const VENDORS: [&str; 11] = [
    "openai.com",
    "api.openai.com",
    "eu.api.openai.com",
    "evil-openai.com",
    "vercel.app",
    "shop.vercel.app",
    "amazonaws.com",
    "books.s3.amazonaws.com",
    "eu.books.s3.amazonaws.com",
    "gmail",
    "Acme Travel",
];
pub(crate) const CATEGORIES: [&str; 4] = ["research", "re:search", "caf\u{e9}", "Research"];
const ZONES: [&str; 6] = [
    "UTC",
    "Europe/Zagreb",
    "America/New_York",
    "Pacific/Apia",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
];
const PERIODS: [Period; 4] = [Period::None, Period::Daily, Period::Weekly, Period::Monthly];

/// What a command can be about: an agent, and one of its mandates if it names one.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) org: Organization,
    pub(crate) agent: Agent,
    pub(crate) mandate: Option<Mandate>,
    pub(crate) named: bool,
}

/// Everything as it stands, with enough of how it stood.
pub(crate) struct Catalogue {
    pub(crate) orgs: Vec<Organization>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) mandates: Vec<Mandate>,
    past: Vec<Scene>,
    /// Whether new policies say how money is held.
    holds: bool,
}

fn id(kind: u8, number: usize) -> [u8; 16] {
    let mut bytes = [kind; 16];
    bytes[15] = u8::try_from(number).unwrap();
    bytes
}

impl Catalogue {
    /// Two organizations with two agents each; every agent has two mandates, one in force.
    pub(crate) fn new(dice: &mut Dice, now: Timestamp) -> Self {
        let (orgs, agents, mandates, past) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut catalogue = Self { orgs, agents, mandates, past, holds: false };
        for number in 0..2 {
            catalogue.orgs.push(organization(number, dice, now));
        }
        for number in 0..4 {
            let org_id = catalogue.orgs[number % 2].id;
            let mut agent = agent(number, org_id, now);
            for which in 0..2 {
                catalogue.mandates.push(mandate(number * 2 + which, &agent, dice, now));
            }
            let current = &mut catalogue.mandates[number * 2];
            current.status = MandateStatus::Active;
            agent.current_mandate = Some(current.id);
            catalogue.agents.push(agent);
        }
        catalogue
    }

    /// What makes a store have all of it; a commit is about one organization.
    pub(crate) fn creation(&self) -> Vec<Vec<Change>> {
        let key =
            SigningKeyRow { key_id: "k".to_owned(), public_key: [1; 32], sealed: vec![1, 2, 3] };
        let of = |org: &Organization| {
            let (id, made) = (org.id, Change::CreateOrg(org.clone(), key.clone()));
            let agents = self.agents.iter().filter(|agent| agent.org_id == id);
            let agents = agents.map(|agent| Change::CreateAgent(agent.clone()));
            let mandates = self.mandates.iter().filter(|mandate| mandate.org_id == id);
            let mandates = mandates.map(|mandate| Change::CreateMandate(mandate.clone()));
            std::iter::once(made).chain(agents).chain(mandates).collect()
        };
        self.orgs.iter().map(of).collect()
    }

    fn scene(&self, agent: usize, mandate: Option<usize>) -> Scene {
        let agent = self.agents[agent].clone();
        let org = self.orgs.iter().find(|org| org.id == agent.org_id).unwrap().clone();
        let wanted = match mandate {
            Some(index) => Some(self.mandates[index].id),
            None => agent.current_mandate,
        };
        let found = self.mandates.iter().find(|mandate| Some(mandate.id) == wanted);
        Scene { org, agent, mandate: found.cloned(), named: mandate.is_some() }
    }

    /// Lets every mandate hold money in its own way, before any store has it.
    pub(super) fn let_hold(&mut self, dice: &mut Dice) {
        for mandate in &mut self.mandates {
            let_hold(&mut mandate.policy, dice);
        }
        self.holds = true;
    }

    /// An agent with one of its mandates, as they stand.
    pub(super) fn scene_of(&self, agent: AgentId, mandate: MandateId) -> Scene {
        let agent = self.agents.iter().position(|known| known.id == agent).unwrap();
        self.scene(agent, self.mandates.iter().position(|known| known.id == mandate))
    }

    /// How things stand, or sometimes how they stood.
    pub(crate) fn any_scene(&mut self, dice: &mut Dice) -> Scene {
        if !self.past.is_empty() && dice.chance(8) {
            return dice.pick(&self.past).clone();
        }
        let agent = dice.below(self.agents.len());
        let named = dice.chance(15).then(|| agent * 2 + dice.below(2));
        self.scene(agent, named)
    }

    /// Changes something, and says what a store must write for it.
    pub(crate) fn change(&mut self, dice: &mut Dice, now: Timestamp) -> Vec<Change> {
        for agent in 0..self.agents.len() {
            if dice.chance(50) {
                let scene = self.scene(agent, None);
                self.past.push(scene);
            }
        }
        match dice.below(10) {
            0 => self.change_org(dice, |org, _| org.frozen = !org.frozen),
            1 => self.change_org(dice, |org, dice| org.timezone = (*dice.pick(&ZONES)).to_owned()),
            2 => self.change_agent(dice),
            3 | 4 => self.put_in_force(dice),
            5 => self.change_mandate(dice, |mandate, _| match mandate.status {
                MandateStatus::Active => mandate.status = MandateStatus::Paused,
                MandateStatus::Paused | MandateStatus::Draft => {}
                MandateStatus::Expired | MandateStatus::Revoked => {}
            }),
            6 => {
                let holds = self.holds;
                self.change_mandate(dice, |mandate, dice| {
                    mandate.policy = policy(dice, now);
                    if holds {
                        let_hold(&mut mandate.policy, dice);
                    }
                })
            }
            // What an administrator does most: one limit, or one cap off and on again.
            7 => self.change_mandate(dice, |mandate, dice| {
                mandate.policy.budget.total = dice.between(20, 600);
                mandate.policy.budget.per_transaction = 20;
                mandate.policy.rules.retain(|rule| !matches!(rule, RuleSpec::Approval { .. }));
            }),
            _ => self.change_mandate(dice, |mandate, dice| {
                let rules = &mut mandate.policy.rules;
                if !rules.is_empty() && dice.chance(50) {
                    let index = dice.below(rules.len());
                    rules.remove(index);
                } else {
                    rules.push(cap(dice));
                }
            }),
        }
    }

    fn change_org(
        &mut self,
        dice: &mut Dice,
        change: impl FnOnce(&mut Organization, &mut Dice),
    ) -> Vec<Change> {
        let index = dice.below(self.orgs.len());
        let org = &mut self.orgs[index];
        change(org, dice);
        org.version += 1;
        vec![Change::ReplaceOrg(org.clone(), org.version - 1)]
    }

    fn change_agent(&mut self, dice: &mut Dice) -> Vec<Change> {
        let index = dice.below(self.agents.len());
        let agent = &mut self.agents[index];
        agent.status = match agent.status {
            AgentStatus::Active => AgentStatus::Suspended,
            AgentStatus::Suspended | AgentStatus::Decommissioned => AgentStatus::Active,
        };
        agent.version += 1;
        vec![Change::ReplaceAgent(agent.clone(), agent.version - 1)]
    }

    /// Puts one of an agent's mandates in force and pauses the other, or leaves it without one.
    fn put_in_force(&mut self, dice: &mut Dice) -> Vec<Change> {
        let number = dice.below(self.agents.len());
        let (next, other) = (number * 2 + dice.below(2), number * 2);
        let other = if next == other { other + 1 } else { other };
        let mut changes = Vec::new();
        for (index, status) in [(other, MandateStatus::Paused), (next, MandateStatus::Active)] {
            let mandate = &mut self.mandates[index];
            mandate.status = status;
            mandate.version += 1;
            changes.push(Change::ReplaceMandate(mandate.clone(), mandate.version - 1));
        }
        let agent = &mut self.agents[number];
        agent.current_mandate = (!dice.chance(15)).then(|| self.mandates[next].id);
        agent.version += 1;
        changes.push(Change::ReplaceAgent(agent.clone(), agent.version - 1));
        changes
    }

    fn change_mandate(
        &mut self,
        dice: &mut Dice,
        change: impl FnOnce(&mut Mandate, &mut Dice),
    ) -> Vec<Change> {
        let index = dice.below(self.mandates.len());
        let mut mandate = self.mandates[index].clone();
        change(&mut mandate, dice);
        let version = mandate.version;
        mandate.version += 1;
        self.mandates[index] = mandate.clone();
        vec![Change::ReplaceMandate(mandate, version)]
    }
}

fn organization(number: usize, dice: &mut Dice, now: Timestamp) -> Organization {
    Organization {
        id: OrgId::from_bytes(id(1, number)),
        name: format!("organization {number}"),
        slug: format!("organization-{number}"),
        default_currency: Currency::parse("USD").unwrap(),
        timezone: (*dice.pick(&ZONES)).to_owned(),
        frozen: false,
        durability_floor: None,
        version: 1,
        created_at: now,
        updated_at: now,
    }
}

fn agent(number: usize, org_id: OrgId, now: Timestamp) -> Agent {
    Agent {
        id: AgentId::from_bytes(id(2, number)),
        org_id,
        name: format!("agent {number}"),
        description: String::new(),
        framework: None,
        execution_mode: String::new(),
        tags: Vec::new(),
        metadata: std::collections::BTreeMap::new(),
        status: AgentStatus::Active,
        current_mandate: None,
        version: 1,
        created_at: now,
        updated_at: now,
    }
}

fn mandate(number: usize, agent: &Agent, dice: &mut Dice, now: Timestamp) -> Mandate {
    Mandate {
        id: MandateId::from_bytes(id(3, number)),
        org_id: agent.org_id,
        agent_id: agent.id,
        name: format!("mandate {number}"),
        description: String::new(),
        version: 1,
        status: MandateStatus::Draft,
        policy: policy(dice, now),
        policy_hash: String::new(),
        signature: String::new(),
        signing_key_id: "k".to_owned(),
        created_at: now,
        updated_at: now,
        revocation_reason: String::new(),
    }
}

fn policy(dice: &mut Dice, now: Timestamp) -> Policy {
    let total = if dice.chance(10) { 90_000_000_000_000 } else { dice.between(20, 600) };
    let most = total.min(1_000_000_000_000);
    let per_transaction = if dice.chance(50) { most } else { dice.between(20, most) };
    let budget = Budget {
        total,
        per_transaction,
        currency: Currency::parse("USD").unwrap(),
        reset: *dice.pick(&PERIODS),
        holds: Holds::default(),
    };
    let mut rules = Vec::new();
    for _ in 0..dice.below(4) {
        rules.push(cap(dice));
    }
    if dice.chance(40) {
        let window_minutes = *dice.pick(&[1, 5, 60, 1_440, 44_640]);
        rules.push(RuleSpec::RateLimit { max_transactions: dice.between(1, 8), window_minutes });
    }
    if dice.chance(40) {
        let window_minutes = *dice.pick(&[1, 5, 60, 1_440, 44_640]);
        rules.push(RuleSpec::SpendRate { max_amount: dice.between(10, 200), window_minutes });
    }
    if dice.chance(30) {
        let (threshold, approver_roles) = (dice.between(0, 20), Vec::new());
        rules.push(RuleSpec::Approval {
            threshold,
            approver_roles,
            approvals_required: 1,
            timeout_minutes: 60,
        });
    }
    if dice.chance(10) {
        rules.push(RuleSpec::VendorBlocklist { vendors: vec![VENDORS[0].to_owned()] });
    }
    let near = |dice: &mut Dice| now + SignedDuration::from_mins(dice.between(-300, 300));
    let valid_from = if dice.chance(10) { near(dice) } else { Timestamp::UNIX_EPOCH };
    let lasts = SignedDuration::from_mins(dice.between(1, 3_000));
    let valid_until =
        (dice.chance(10) && valid_from > Timestamp::UNIX_EPOCH).then(|| valid_from + lasts);
    Policy { budget, rules, valid_from, valid_until, durability: None }
}

/// Gives what is held an end, settlements a tolerance, and approvals more than one person.
fn let_hold(policy: &mut Policy, dice: &mut Dice) {
    policy.budget.holds = Holds {
        minutes: dice.chance(40).then(|| dice.between(1, 3_000)),
        tolerance: dice.chance(50).then(|| dice.between(1, 10)),
        tolerance_bps: dice.chance(20).then(|| dice.between(1, 10_000)),
    };
    for rule in &mut policy.rules {
        if let RuleSpec::Approval { approver_roles, approvals_required, timeout_minutes, .. } = rule
        {
            if dice.chance(30) {
                *approver_roles = vec!["admin".to_owned(), "reader".to_owned()];
            }
            *approvals_required = if dice.chance(50) { 1 } else { dice.between(2, 3) };
            *timeout_minutes = dice.between(1, 2_000);
        }
    }
}

fn cap(dice: &mut Dice) -> RuleSpec {
    let (amount, period) = (dice.between(5, 150), *dice.pick(&PERIODS));
    if dice.chance(60) {
        RuleSpec::VendorCap { vendor: (*dice.pick(&VENDORS)).to_owned(), amount, period }
    } else {
        RuleSpec::CategoryCap { category: (*dice.pick(&CATEGORIES)).to_owned(), amount, period }
    }
}
