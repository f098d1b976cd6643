//! Random commands for the ledgers: new decisions, repeated and reused keys, settlements and the
//! like, from how things stand or stood, for the present time or one nearby.
//!
//! Claims are made by `domain::evaluate::screen`, as the engine makes them. Not here: what
//! people say to what is held (`acts`), and what the ledgers answer (`sides`).

use jiff::{SignedDuration, Timestamp};
use quetra::domain::actor::Actor;
use quetra::domain::durability::AskedDurability;
use quetra::domain::evaluate::{Case, screen};
use quetra::domain::id::{AgentId, OrgId, TransactionId};
use quetra::domain::ledger::{Act, Claim, Decide, MandateStanding, Resolve, Standing};
use quetra::domain::mandate::CompiledMandate;
use quetra::domain::money::Currency;
use quetra::domain::period::parse_zone;
use quetra::domain::spend::{Observed, Protocol, Spend};
use quetra::domain::transaction::Evidence;
use quetra::domain::vendor::Vendor;

use super::catalogue::{CATEGORIES, Catalogue, Scene, VENDORS};
use crate::dice::Dice;

/// What a ledger can be asked.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    Decide(Box<Decide>),
    Resolve(Resolve),
}

/// Makes commands, and remembers what it made to repeat it.
#[derive(Default)]
pub(crate) struct Commands {
    pub(super) made: Vec<Decide>,
    /// Which of them an act was about last: the next one is often about the same.
    pub(super) last: Option<usize>,
}

impl Commands {
    pub(crate) fn any(
        &mut self,
        dice: &mut Dice,
        catalogue: &mut Catalogue,
        now: Timestamp,
    ) -> Command {
        match dice.below(100) {
            0..64 => self.fresh(dice, catalogue, now),
            64..72 => self.repeated(dice, catalogue, now),
            _ => self.resolve(dice, catalogue),
        }
    }

    /// A claim on how things stand, for looking only.
    pub(crate) fn claim(
        &mut self,
        dice: &mut Dice,
        catalogue: &mut Catalogue,
        now: Timestamp,
    ) -> Option<(OrgId, Claim)> {
        let scene = catalogue.any_scene(dice);
        let spend = spend(dice, scene.agent.id);
        let claim = decide(&scene, spend, TransactionId::from_bytes([0; 16]), now).claim;
        claim.map(|claim| (scene.org.id, claim))
    }

    fn fresh(&mut self, dice: &mut Dice, catalogue: &mut Catalogue, now: Timestamp) -> Command {
        let scene = catalogue.any_scene(dice);
        let mut id = [7; 16];
        id[..8].copy_from_slice(&u64::try_from(self.made.len()).unwrap().to_be_bytes());
        // The rules were tested a moment ago, or by a clock that was set back since.
        let screened_at = match dice.below(20) {
            0 => now - SignedDuration::from_mins(dice.between(0, 200)),
            1 => now + SignedDuration::from_mins(dice.between(0, 200)),
            _ => now,
        };
        let spend = spend(dice, scene.agent.id);
        let command = decide(&scene, spend, TransactionId::from_bytes(id), screened_at);
        self.made.push(command.clone());
        Command::Decide(Box::new(command))
    }

    /// The same key again: for the same request as things stand now, or for another request.
    fn repeated(&mut self, dice: &mut Dice, catalogue: &mut Catalogue, now: Timestamp) -> Command {
        if self.made.is_empty() {
            return self.fresh(dice, catalogue, now);
        }
        let mut command = dice.pick(&self.made).clone();
        if dice.chance(50) {
            let scene = catalogue.any_scene(dice);
            // An id is made of the organization: another one never asks for it.
            if scene.org.id == command.org_id {
                command = decide(&scene, command.spend, command.id, now);
            }
        }
        if dice.chance(30) {
            command.request_hash[0] ^= 1;
        }
        Command::Decide(Box::new(command))
    }

    fn resolve(&self, dice: &mut Dice, catalogue: &Catalogue) -> Command {
        let (id, amount, org_id, agent_id) = match self.made.len() {
            0 => {
                let agent = &catalogue.agents[0];
                (TransactionId::from_bytes([9; 16]), 10, agent.org_id, agent.id)
            }
            made => {
                // Mostly a recent one: it is still open.
                let reach = if dice.chance(70) { made.min(8) } else { made };
                let back = dice.below(reach) + 1;
                let decide = &self.made[made - back];
                (decide.id, decide.spend.amount, decide.org_id, decide.spend.agent_id)
            }
        };
        let part = if dice.chance(30) { amount } else { dice.between(0, amount + 2) };
        let act = match dice.below(9) {
            0..3 => Act::Settle(part),
            3..6 => Act::Void,
            6..8 => Act::Refund(Some(part)),
            _ => Act::Refund(None),
        };
        let other_org = catalogue.orgs.iter().map(|org| org.id).find(|org| *org != org_id);
        Command::Resolve(Resolve {
            org_id: if dice.chance(5) { other_org.unwrap() } else { org_id },
            agent: match dice.below(20) {
                0 => Some(AgentId::from_bytes([8; 16])),
                1..8 => Some(agent_id),
                _ => None,
            },
            id,
            act,
            actor: Actor::System,
            ground: None,
        })
    }
}

fn spend(dice: &mut Dice, agent_id: AgentId) -> Spend {
    let raw = *dice.pick(&VENDORS);
    let amount = match dice.below(40) {
        0 => 0,
        1 => 1_000_000_000_000,
        _ => dice.between(1, 40),
    };
    let mut metadata = std::collections::BTreeMap::new();
    if dice.chance(5) {
        metadata.insert("ticket".to_owned(), "4711 \"\\ \u{1f4b8}".to_owned());
    }
    Spend {
        agent_id,
        amount,
        currency: Currency::parse(if dice.chance(3) { "EUR" } else { "USD" }).unwrap(),
        vendor: Vendor::parse(raw).unwrap(),
        vendor_raw: if dice.chance(20) { raw.to_uppercase() } else { raw.to_owned() },
        category: dice.chance(70).then(|| (*dice.pick(&CATEGORIES)).to_owned()),
        description: dice.chance(10).then(|| "a description".to_owned()),
        protocol: dice.chance(20).then_some(Protocol::X402),
        metadata,
    }
}

pub(super) fn standing(scene: &Scene) -> Standing {
    Standing {
        org_version: scene.org.version,
        frozen: scene.org.frozen,
        agent: scene.agent.status,
        mandate: scene.mandate.as_ref().map(|mandate| MandateStanding {
            id: mandate.id,
            version: mandate.version,
            status: mandate.status,
        }),
    }
}

/// The command that the engine would make of this.
fn decide(scene: &Scene, spend: Spend, id: TransactionId, screened_at: Timestamp) -> Decide {
    let standing = standing(scene);
    let spend = Spend { agent_id: scene.agent.id, ..spend };
    let observed = Observed::default();
    let compiled = scene.mandate.as_ref().map(|mandate| CompiledMandate::try_new(mandate).unwrap());
    let screened = screen(&Case {
        standing: &standing,
        mandate: compiled.as_ref(),
        spend: &spend,
        observed: &observed,
        zone: &parse_zone(&scene.org.timezone).unwrap(),
        now: screened_at,
    });
    Decide {
        id,
        org_id: scene.org.id,
        idempotency_key: format!("key-{id}"),
        request_hash: [3; 16],
        evidence: Evidence {
            standing,
            named: scene.named,
            observed,
            zone: scene.org.timezone.clone(),
            screened_at,
            levels: Vec::new(),
            windows: Vec::new(),
        },
        claim: screened.unwrap().claim,
        durability: AskedDurability::default(),
        took_micros: spend.amount % 1_000,
        spend,
    }
}
