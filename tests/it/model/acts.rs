//! Random acts on what was decided: people approve and deny, agents settle, withdraw and give back,
//! and time ends what is due.
//!
//! The ground of what grants money is made by `domain::evaluate::reconsider`, as the engine makes
//! it. Not here: decisions (`commands`).

use jiff::Timestamp;
use quetra::domain::actor::{Actor, Role};
use quetra::domain::evaluate::{Case, reconsider};
use quetra::domain::hold::Person;
use quetra::domain::id::{AgentId, KeyId, TransactionId};
use quetra::domain::ledger::{Act, Decide, Ground, Resolve};
use quetra::domain::mandate::CompiledMandate;
use quetra::domain::money::Minor;
use quetra::domain::period::parse_zone;

use super::catalogue::Catalogue;
use super::commands::{Commands, standing};
use crate::dice::Dice;

/// People with a credential; the last one's role approves only where a mandate names it.
const PEOPLE: u8 = 5;

/// One of a few, so that the same person often comes again.
pub(super) fn person(dice: &mut Dice) -> Person {
    let number = u8::try_from(dice.below(usize::from(PEOPLE))).unwrap();
    let role = if number == PEOPLE - 1 { Role::Reader } else { Role::Admin };
    Person { key: KeyId::from_bytes([number + 1; 16]), role: role.word() }
}

impl Commands {
    /// Lets somebody who may approve the command be the one who asked for it.
    pub(super) fn ask_as_person(dice: &mut Dice, decide: &mut Decide) {
        let terms = decide.claim.as_mut().and_then(|claim| claim.terms.approval.as_mut());
        if let Some(terms) = terms.filter(|_| dice.chance(70)) {
            terms.asked_by = Some(person(dice).key);
        }
    }

    /// An act for this time; a settlement is above what was approved by this at most.
    pub(super) fn act(
        &mut self,
        dice: &mut Dice,
        catalogue: &Catalogue,
        (now, above): (Timestamp, Minor),
    ) -> Resolve {
        let Some(decide) = self.chosen(dice) else {
            let (agent, id) = (&catalogue.agents[0], TransactionId::from_bytes([9; 16]));
            let (act, actor) = (Act::Settle(10), Actor::System);
            return Resolve { org_id: agent.org_id, agent: None, id, act, actor, ground: None };
        };
        let (act, actor) = any_act(dice, decide.spend.amount, above);
        let other_org = catalogue.orgs.iter().map(|org| org.id).find(|id| *id != decide.org_id);
        Resolve {
            org_id: if dice.chance(4) { other_org.unwrap() } else { decide.org_id },
            agent: match dice.below(20) {
                0 => Some(AgentId::from_bytes([8; 16])),
                1..8 => Some(decide.spend.agent_id),
                _ => None,
            },
            id: decide.id,
            ground: ground(dice, catalogue, &decide, (&act, now)).map(Box::new),
            act,
            actor,
        }
    }

    /// Mostly a recent one, which is still open, or the one before: it takes several approvals.
    fn chosen(&mut self, dice: &mut Dice) -> Option<Decide> {
        let made = self.made.len();
        let again = self.last.filter(|_| dice.chance(40));
        let index = again.or_else(|| {
            let reach = if dice.chance(70) { made.min(8) } else { made };
            (made > 0).then(|| made - 1 - dice.below(reach))
        })?;
        self.last = Some(index);
        self.made.get(index).cloned()
    }
}

fn any_act(dice: &mut Dice, amount: Minor, above: Minor) -> (Act, Actor) {
    let part = if dice.chance(30) { amount } else { dice.between(0, amount + 2) };
    let by = |person: Person| {
        let role = if person.role == Role::Admin.word() { Role::Admin } else { Role::Reader };
        Actor::Key(person.key, role)
    };
    match dice.below(24) {
        0..3 => (Act::Settle(part.min(amount + above.min(1))), Actor::System),
        3 | 4 => (Act::Settle(amount + dice.between(0, above)), Actor::System),
        5..8 => (Act::Void, Actor::System),
        8 | 9 => (Act::Refund(Some(part)), Actor::System),
        10 => (Act::Refund(None), Actor::System),
        11..19 => {
            let person = person(dice);
            (Act::Approve(person, "as agreed".to_owned()), by(person))
        }
        19 | 20 => {
            let person = person(dice);
            (Act::Deny(person, String::new()), by(person))
        }
        _ => (Act::Expire, Actor::System),
    }
}

/// What the engine would test a grant against; sometimes it has none yet, or one that is outdated.
fn ground(
    dice: &mut Dice,
    catalogue: &Catalogue,
    decide: &Decide,
    (act, now): (&Act, Timestamp),
) -> Option<Ground> {
    let is_grant = match act {
        Act::Approve(..) => true,
        Act::Settle(_) => false,
        Act::Void | Act::Refund(_) | Act::Deny(..) | Act::Expire => return None,
    };
    if dice.chance(10) {
        return None;
    }
    let mandate = decide.claim.as_ref()?.mandate;
    let scene = catalogue.scene_of(decide.spend.agent_id, mandate);
    let mut standing = standing(&scene);
    let compiled = CompiledMandate::try_new(scene.mandate.as_ref()?).unwrap();
    let case = Case {
        standing: &standing,
        mandate: Some(&compiled),
        spend: &decide.spend,
        observed: &decide.evidence.observed,
        zone: &parse_zone(&decide.evidence.zone).unwrap(),
        now: decide.evidence.screened_at,
    };
    let (claim, reasons) = reconsider(&case, now).unwrap();
    if is_grant && !reasons.is_empty() {
        return None;
    }
    let good_until = compiled.valid_until.filter(|_| is_grant);
    if dice.chance(5) {
        standing.org_version += 1;
    }
    let (org_id, agent) = (decide.org_id, decide.spend.agent_id);
    Some(Ground { org_id, agent, standing, claim: claim?, good_until })
}
