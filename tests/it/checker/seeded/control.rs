//! Faults of control: stops that come late or are lost, stops that nobody made, mandates without
//! authority, and one organization in another's rooms.
//!
//! Not here: how a fault is judged (`seeded`).

use super::super::Invariant::{Authority, FailClosed, Revocation, Tenancy};
use super::super::history::{Outcome, Request, Switch};
use super::{Run, Seed, is_approved};

/// Leaves no other call that could have stopped or started it.
fn forget_switches(run: &mut Run, of: &str) {
    run.history.retain(|call| match &call.request {
        Request::Switch { id, .. } => id != of,
        Request::Evaluate { .. }
        | Request::Settle { .. }
        | Request::Void { .. }
        | Request::Refund { .. }
        | Request::Approve { .. }
        | Request::Deny { .. }
        | Request::Expire { .. }
        | Request::Change { .. } => true,
    });
}

/// Stops something just before an approval.
fn stop_before(run: &mut Run, what: Switch) -> Option<()> {
    let index = run.find(is_approved)?;
    let entry = run.books.entries[index].clone();
    // It is stopped in the end, so that nothing is lost but the time in between.
    let id = match what {
        Switch::Organization => {
            run.books.orgs.insert(entry.org.clone(), true);
            entry.org
        }
        Switch::Agent => {
            run.books.agents.get_mut(&entry.agent)?.status = "suspended".to_owned();
            entry.agent
        }
        Switch::Credential => return None,
    };
    forget_switches(run, &id);
    run.before(index, Request::Switch { what, id, on: false }, Outcome::Resolved)
}

/// A newer version of its mandate stood before a decision like this was asked for.
fn newer_before(run: &mut Run, approved: bool, status: &str) -> Option<()> {
    let index = run.find(|entry| {
        entry.mandate.is_some() && entry.is_rejected() != approved && is_approved(entry) == approved
    })?;
    let entry = &run.books.entries[index];
    let mandate = entry.mandate.clone()?;
    let version = entry.evidence.mandate? + 1;
    let terms = run.books.terms.get_mut(&(mandate.clone(), version))?;
    status.clone_into(&mut terms.status);
    run.before(index, Request::Change { mandate }, Outcome::Changed { version })
}

/// Somebody's last call that was decided came by a key that was revoked so long before.
fn revoke_before(run: &mut Run, ms: u64) -> Option<()> {
    let index = run.find(|_| true)?;
    let org = run.books.entries[index].org.clone();
    let id = "abc".repeat(3);
    for call in run.calls(index) {
        call.ms = (call.ms.0 + 10_000, call.ms.1 + 10_000);
        if let Request::Evaluate { by, .. } = &mut call.request {
            by.clone_from(&id);
        }
    }
    let first = run.calls(index).map(|call| call.ms.0).min()?;
    run.books.keys.insert(id.clone(), (org, true));
    let request = Request::Switch { what: Switch::Credential, id, on: false };
    run.before(index, request, Outcome::Resolved)?;
    run.history.last_mut()?.ms = (first - ms, first - ms);
    Some(())
}

/// Another organization than this.
fn other(run: &Run, org: &str) -> Option<String> {
    run.books.orgs.keys().find(|other| *other != org).cloned()
}

pub(super) const SEEDS: &[Seed] = &[
    ("an approval after a freeze has returned", Revocation, 3, |run| {
        stop_before(run, Switch::Organization)
    }),
    ("an approval after a suspension has returned", Revocation, 3, |run| {
        stop_before(run, Switch::Agent)
    }),
    ("an approval after a revocation has returned", Revocation, 3, |run| {
        newer_before(run, true, "revoked")
    }),
    ("an approval after a pause has returned", Revocation, 3, |run| {
        newer_before(run, true, "paused")
    }),
    ("a key that is served more than a second after its end", Revocation, 3, |run| {
        revoke_before(run, 1_002)
    }),
    ("a revocation of a key that is lost", Revocation, 1, |run| {
        let id = run.books.keys.keys().next()?.clone();
        let request = Request::Switch { what: Switch::Credential, id, on: false };
        run.after(request, Outcome::Resolved);
        Some(())
    }),
    ("a freeze that is lost", Revocation, 1, |run| {
        let id = run.books.orgs.iter().find(|(_, frozen)| !**frozen)?.0.clone();
        forget_switches(run, &id);
        let request = Request::Switch { what: Switch::Organization, id, on: false };
        run.after(request, Outcome::Resolved);
        Some(())
    }),
    ("an end of a suspension that is lost", Revocation, 1, |run| {
        let is_stopped = |agent: &super::super::books::Agent| agent.status != "active";
        let id = run.books.agents.iter().find(|(_, agent)| is_stopped(agent))?.0.clone();
        forget_switches(run, &id);
        run.after(Request::Switch { what: Switch::Agent, id, on: true }, Outcome::Resolved);
        Some(())
    }),
    ("a refusal for a freeze that nobody asked for", FailClosed, 2, |run| {
        let index = run.find(|entry| entry.is_rejected())?;
        let org = run.books.entries[index].org.clone();
        forget_switches(run, &org);
        run.books.entries[index].evidence.frozen = true;
        Some(())
    }),
    ("a refusal of a key that nobody has revoked", FailClosed, 1, |run| {
        let call = run.history.iter().find(|call| call.outcome.decided().is_some())?;
        let mut call = call.clone();
        call.outcome = Outcome::Failed("Unauthenticated".to_owned());
        run.history.push(call);
        Some(())
    }),
    ("a refusal by a version that stands no more", Authority, 3, |run| {
        newer_before(run, false, "active")
    }),
    ("a version that is lost after it was answered", Authority, 1, |run| {
        let (mandate, _) = run.books.terms.keys().next()?.clone();
        let outcome = Outcome::Changed { version: 9_999 };
        run.after(Request::Change { mandate }, outcome);
        Some(())
    }),
    ("a decision by a version that nobody knows", Authority, 1, |run| {
        let index = run.find(|entry| entry.mandate.is_some())?;
        let entry = &run.books.entries[index];
        let key = (entry.mandate.clone()?, entry.evidence.mandate?);
        run.books.terms.remove(&key);
        Some(())
    }),
    ("a version that is missing between two", Authority, 0, |run| {
        let (mandate, version) = run.books.terms.keys().find(|(_, version)| *version == 2)?;
        let next = (mandate.clone(), version + 1);
        let gone = (mandate.clone(), *version);
        run.books.terms.contains_key(&next).then(|| run.books.terms.remove(&gone))?;
        Some(())
    }),
    ("a decision by another agent's mandate", Authority, 1, |run| {
        let index = run.find(|entry| entry.mandate.is_some())?;
        let entry = &run.books.entries[index];
        let key = (entry.mandate.clone()?, entry.evidence.mandate?);
        run.books.terms.get_mut(&key)?.agent = "0".repeat(32);
        Some(())
    }),
    ("a decision that saw another status than the version has", Authority, 1, |run| {
        let entry = run.entry(|entry| entry.evidence.mandate.is_some())?;
        let is_active = entry.evidence.status == "active";
        entry.evidence.status = if is_active { "paused" } else { "active" }.to_owned();
        Some(())
    }),
    ("two active mandates of one agent", Authority, 0, |run| {
        let mut last = std::collections::BTreeMap::new();
        for ((mandate, version), terms) in &run.books.terms {
            last.insert(mandate.clone(), (*version, terms.agent.clone()));
        }
        let (_, (_, agent)) = last.iter().next()?;
        let both = last.iter().filter(|(_, (_, of))| of == agent);
        let both = both.map(|(mandate, (version, _))| (mandate.clone(), *version));
        let both = both.collect::<Vec<_>>();
        for key in &both {
            run.books.terms.get_mut(key)?.status = "active".to_owned();
        }
        (both.len() == 2).then_some(())
    }),
    ("an agent whose mandate is for another agent", Authority, 0, |run| {
        let (mandate, _) = run.books.terms.keys().next()?.clone();
        let agent = &run.books.terms.values().next()?.agent.clone();
        let (_, other) = run.books.agents.iter_mut().find(|(id, _)| *id != agent)?;
        other.mandate = Some(mandate);
        Some(())
    }),
    ("a decision about another organization's agent", Tenancy, 1, |run| {
        let index = run.find(|_| true)?;
        let entry = run.books.entries[index].clone();
        run.books.agents.get_mut(&entry.agent)?.org = other(run, &entry.org)?;
        Some(())
    }),
    ("a decision by another organization's mandate", Tenancy, 1, |run| {
        let index = run.find(|entry| entry.mandate.is_some())?;
        let entry = run.books.entries[index].clone();
        let org = other(run, &entry.org)?;
        run.books.terms.get_mut(&(entry.mandate?, entry.evidence.mandate?))?.org = org;
        Some(())
    }),
    ("an answer to another organization's key", Tenancy, 2, |run| {
        let index = run.find(|_| true)?;
        let org = other(run, &run.books.entries[index].org.clone())?;
        let key = run.books.keys.iter().find(|(_, (of, _))| *of == org)?.0.clone();
        for call in run.calls(index) {
            if let Request::Evaluate { by, .. } = &mut call.request {
                by.clone_from(&key);
            }
        }
        Some(())
    }),
];

#[test]
fn a_key_may_be_served_within_a_second_of_its_end() {
    let mut story = super::run(3, super::OPERATIONS);
    revoke_before(&mut story, 900).unwrap();
    super::super::acquit(&super::violations(&story.history, &story.books));
}

/// A story in which nobody else has stopped an agent, and its last call that was approved.
fn with_an_agent_that_nobody_stops() -> (Run, String) {
    let mut story = super::run(3, super::OPERATIONS);
    let index = story.find(is_approved).unwrap();
    let agent = story.books.entries[index].agent.clone();
    let has_seen_no_stop = story
        .books
        .entries
        .iter()
        .all(|entry| entry.agent != agent || entry.evidence.agent == "active");
    assert!(has_seen_no_stop, "take another story");
    forget_switches(&mut story, &agent);
    story.books.agents.get_mut(&agent).unwrap().status = "active".to_owned();
    (story, agent)
}

#[test]
fn what_overlaps_a_stop_may_go_either_way() {
    for overlap in [0, 2] {
        let (mut story, id) = with_an_agent_that_nobody_stops();
        stop_before(&mut story, Switch::Agent).unwrap();
        let stop = story.history.last_mut().unwrap();
        // It returns after the call has begun; and it is undone in the end.
        stop.completed += overlap;
        story.after(
            Request::Switch { what: Switch::Agent, id: id.clone(), on: true },
            Outcome::Resolved,
        );
        story.books.agents.get_mut(&id).unwrap().status = "active".to_owned();
        let found = super::violations(&story.history, &story.books);
        assert_eq!(found.is_empty(), overlap > 0, "{}", super::report(&found));
    }
}
