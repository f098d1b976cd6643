//! Stops, by the order of real time: what starts after one has returned is not approved, and what
//! starts after its end has returned is not refused for it.
//!
//! A call that overlaps a stop may go either way. Not here: which version is right in itself
//! (`mandates`).

use std::collections::{BTreeMap, HashMap};

use super::books::{Books, Entry};
use super::history::{Call, Outcome, Request, Switch};
use super::{Cases, Findings, Invariant};

/// How long a revoked key may still be believed by a server that did not revoke it.
const KEY_MS: u64 = 1_000;

pub(super) fn check(history: &[Call], cases: &Cases<'_>, books: &Books, found: &mut Findings) {
    versions(history, cases, books, found);
    switches(history, cases, books, found);
    credentials(history, cases, books, found);
}

/// What was first asked after a change had returned was judged by that version or a later one.
fn versions(history: &[Call], cases: &Cases<'_>, books: &Books, found: &mut Findings) {
    let mut changes = HashMap::<&str, Vec<(&Call, i64)>>::new();
    for call in history {
        if let (Request::Change { mandate }, Outcome::Changed { version }) =
            (&call.request, &call.outcome)
        {
            changes.entry(mandate).or_default().push((call, *version));
            if !books.terms.contains_key(&(mandate.clone(), *version)) {
                let what = format!("version {version} of {mandate} was answered and is lost");
                found.add(Invariant::Authority, what, &[call], &[]);
            }
        }
    }
    for changes in changes.values_mut() {
        changes.sort_by_key(|(call, _)| call.completed);
    }
    for case in cases.values() {
        let (Some(row), Some((first, _))) = (case.rows.first(), case.span()) else { continue };
        let Some(changes) = row.mandate.as_deref().and_then(|id| changes.get(id)) else {
            continue;
        };
        let seen = changes.partition_point(|(call, _)| call.completed < first.invoked);
        let latest = changes[..seen].iter().max_by_key(|(_, version)| version);
        let judged = row.evidence.mandate.unwrap_or_default();
        if let Some((change, least)) = latest.filter(|(_, least)| judged < *least) {
            let key = (row.mandate.clone().unwrap_or_default(), *least);
            let is_active = books.terms.get(&key).is_some_and(|terms| terms.status == "active");
            let invariant = match !row.is_rejected() && !is_active {
                true => Invariant::Revocation,
                false => Invariant::Authority,
            };
            let what = format!("{}: judged by version {judged} after {least} stood", row.id);
            found.add(invariant, what, &[change, first], &[*row]);
        }
    }
}

/// What a decision may have seen of a switch, of which these are the writes.
struct Register<'a>(Vec<(&'a Call, bool)>);

impl<'a> Register<'a> {
    /// The call that makes it impossible that a decision in this span saw this value.
    fn forbids(&self, value: bool, start: u64, end: u64) -> Option<Option<&'a Call>> {
        let done = |call: &Call| match call.outcome == Outcome::Resolved {
            true => call.completed,
            false => u64::MAX,
        };
        let overwritten = |since: u64| {
            self.0
                .iter()
                .filter(|(_, on)| *on != value)
                .find(|(call, _)| call.invoked > since && done(call) < start)
        };
        // Before the first of them, everything is on.
        if value && overwritten(0).is_none() {
            return None;
        }
        for (call, on) in &self.0 {
            if *on == value && call.invoked < end && overwritten(done(call)).is_none() {
                return None;
            }
        }
        let last = self.0.iter().filter(|(call, on)| *on != value && done(call) < start);
        Some(last.max_by_key(|(call, _)| call.completed).map(|(call, _)| *call))
    }
}

fn switches(history: &[Call], cases: &Cases<'_>, books: &Books, found: &mut Findings) {
    let mut registers = BTreeMap::<(Switch, &str), Register<'_>>::new();
    for call in history {
        if let Request::Switch { what, id, on } = &call.request
            && !matches!(call.outcome, Outcome::Failed(_))
        {
            let register = registers.entry((*what, id)).or_insert_with(|| Register(Vec::new()));
            register.0.push((call, *on));
        }
    }
    for (what, register) in &registers {
        final_state(*what, register, books, found);
    }
    let nothing = Register(Vec::new());
    for case in cases.values() {
        let (Some(row), Some((first, end))) = (case.rows.first(), case.span()) else { continue };
        let seen = [
            (Switch::Organization, &row.org, !row.evidence.frozen),
            (Switch::Agent, &row.agent, row.evidence.agent == "active"),
        ];
        for (what, id, value) in seen {
            let register = registers.get(&(what, id.as_str())).unwrap_or(&nothing);
            let Some(last) = register.forbids(value, first.invoked, end) else { continue };
            let calls = last.into_iter().chain([first]).collect::<Vec<_>>();
            complain(what, value, &calls, row, found);
        }
    }
}

/// What a switch stands at in the end is what was last answered.
fn final_state(
    (what, id): (Switch, &str),
    register: &Register<'_>,
    books: &Books,
    found: &mut Findings,
) {
    let value = match what {
        Switch::Organization => books.orgs.get(id).map(|frozen| !frozen),
        Switch::Agent => books.agents.get(id).map(|agent| agent.status == "active"),
        Switch::Credential => books.keys.get(id).map(|(_, revoked)| !revoked),
    };
    let last = value.and_then(|value| register.forbids(value, u64::MAX, u64::MAX));
    if let Some(last) = last {
        let what = format!("the last answer about {what:?} {id} is lost");
        found.add(Invariant::Revocation, what, &last.into_iter().collect::<Vec<_>>(), &[]);
    }
}

fn complain(what: Switch, value: bool, calls: &[&Call], row: &Entry, found: &mut Findings) {
    let (invariant, said) = match (value, row.is_rejected()) {
        (true, false) => (Invariant::Revocation, "approved after a stop of its"),
        (true, true) => (Invariant::Authority, "judged without the stop of its"),
        (false, _) => (Invariant::FailClosed, "refused for a stop that was not, of its"),
    };
    let what = format!("{}: {said} {}", row.id, format!("{what:?}").to_lowercase());
    found.add(invariant, what, calls, &[row]);
}

/// A key that was revoked ends, one that was not goes on, and none speaks for another's agents.
fn credentials(history: &[Call], cases: &Cases<'_>, books: &Books, found: &mut Findings) {
    let mut revoked = HashMap::<&str, Vec<&Call>>::new();
    for call in history {
        if let Request::Switch { what: Switch::Credential, id, on: false } = &call.request {
            revoked.entry(id).or_default().push(call);
        }
    }
    for case in cases.values() {
        for call in &case.calls {
            let Request::Evaluate { by, .. } = &call.request else { continue };
            let calls = revoked.get(by.as_str()).map_or(&[][..], Vec::as_slice);
            let late = calls
                .iter()
                .find(|stop| stop.outcome == Outcome::Resolved && call.ms.0 > stop.ms.1 + KEY_MS);
            if let (Some(stop), Some(_)) = (late, call.outcome.decided()) {
                let what = format!("a key that was revoked was served {KEY_MS} ms after that");
                found.add(Invariant::Revocation, what, &[stop, call], &case.rows[..]);
            }
            let is_refused = match &call.outcome {
                Outcome::Failed(error) => error.contains("Unauthenticated"),
                Outcome::Decided(_)
                | Outcome::Resolved
                | Outcome::Changed { .. }
                | Outcome::Unknown => false,
            };
            if is_refused && !calls.iter().any(|stop| stop.invoked < call.completed) {
                let what = "a key was refused that nobody had revoked".to_owned();
                found.add(Invariant::FailClosed, what, &[call], &[]);
            }
            let owner = books.keys.get(by).map(|(org, _)| org);
            if let (Some(row), Some(_), Some(owner)) =
                (case.rows.first(), call.outcome.decided(), owner)
                && *owner != row.org
            {
                let what = format!("{}: decided for a key of another organization", row.id);
                found.add(Invariant::Tenancy, what, &[call], &[*row]);
            }
        }
    }
}
