//! Which way a verdict may move: less allowed, or more asked, never turns a rejection into a yes.
//!
//! Not here: windows of another length or calendar, which are other rules and not tighter ones.

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;
use crate::domain::mandate::Policy;
use crate::domain::money::AMOUNT_MAX;
use crate::domain::rule::CustomEngine;
use crate::domain::samples::{
    NEIGHBOURS, VENDORS, neighbours, policies, repaired, rules, situations,
};

/// From the freest to the strictest.
fn strictness(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Approved => 0,
        Verdict::PendingApproval => 1,
        Verdict::Rejected => 2,
    }
}

/// Removes an entry; a list that would be empty keeps one that nobody asks for.
fn shrink(list: &mut Vec<String>, at: &Index, nobody: &str) {
    list.remove(at.index(list.len()));
    if list.is_empty() {
        list.push(nobody.to_owned());
    }
}

/// Less, but still a valid limit.
fn lower(limit: &mut i64, at: &Index) {
    *limit = 1 + i64::try_from(at.index(usize::try_from(*limit).unwrap())).unwrap();
}

/// Makes one rule stricter.
fn tighten(rule: &mut RuleSpec, at: &Index) {
    match rule {
        RuleSpec::Category { allowed } => shrink(allowed, at, "nobody's"),
        RuleSpec::VendorAllowlist { vendors } => shrink(vendors, at, "nobody.example"),
        RuleSpec::VendorBlocklist { vendors } => vendors.push(at.get(&VENDORS).to_string()),
        RuleSpec::VendorCap { amount, .. } | RuleSpec::CategoryCap { amount, .. } => {
            lower(amount, at);
        }
        RuleSpec::MaxAmount { amount } => *amount = (*amount - 1).max(0),
        RuleSpec::RateLimit { max_transactions, .. } => lower(max_transactions, at),
        RuleSpec::SpendRate { max_amount, .. } => lower(max_amount, at),
        RuleSpec::TimeWindow { days, .. } => {
            if days.len() > 1 {
                days.remove(at.index(days.len()));
            }
        }
        RuleSpec::Geo { allowed, blocked, .. } => {
            if allowed.is_empty() {
                blocked.push("DE".to_owned());
            } else {
                shrink(allowed, at, "AQ");
            }
        }
        RuleSpec::ProtocolRestrict { allowed } => {
            if allowed.len() > 1 {
                allowed.remove(at.index(allowed.len()));
            }
        }
        RuleSpec::Approval { threshold, .. } => *threshold = (*threshold - 50).max(0),
        RuleSpec::Custom { engine, expression, .. } => {
            *engine = CustomEngine::Jsonlogic;
            *expression = r#"{"==":[1,2]}"#.to_owned();
        }
    }
}

fn day(date: &str) -> Timestamp {
    at(&format!("{date}T00:00:00Z"))
}

/// Makes a policy stricter in one place: a limit, its validity, or a rule.
fn tightened(mut policy: Policy, what: &Index, at: &Index) -> Policy {
    let rules = policy.rules.len();
    match what.index(rules + 4) {
        0 => lower(&mut policy.budget.total, at),
        1 => lower(&mut policy.budget.per_transaction, at),
        2 => policy.valid_from = policy.valid_from.max(day("2025-03-01")),
        3 => {
            policy.valid_from = policy.valid_from.max(day("2024-01-01"));
            let end = day("2025-09-01");
            policy.valid_until = Some(policy.valid_until.map_or(end, |until| until.min(end)));
        }
        rule => tighten(&mut policy.rules[rule - 4], at),
    }
    repaired(policy)
}

fn with_policy(case: &Situation, policy: Policy) -> Situation {
    let mut other = case.clone();
    if let Some(mandate) = &mut other.mandate {
        mandate.policy = policy;
    }
    other
}

/// What is stricter in one place, where that leaves a policy of as many rules.
fn stricter<'a>(
    policy: &'a Policy,
    places: &'a [(Index, Index)],
) -> impl Iterator<Item = Policy> + 'a {
    let stricter = places.iter().map(|(what, at)| tightened(policy.clone(), what, at));
    stricter.filter(|tight| {
        tight.rules.len() == policy.rules.len()
            && tight.valid_until.is_none_or(|end| end > tight.valid_from)
    })
}

/// With one more rule. A vendor that was blocked and is now allowed too is one more and one less.
fn longer(policy: &Policy, rules: Vec<RuleSpec>) -> impl Iterator<Item = Policy> {
    let longer = rules.into_iter().map(|rule| {
        let mut policy = policy.clone();
        policy.rules.push(rule);
        repaired(policy)
    });
    longer.filter(|longer| longer.rules.starts_with(&policy.rules))
}

fn cases() -> impl Strategy<Value = Situation> {
    situations(policies(rules(), 6)).prop_filter("a mandate", |case| case.mandate.is_some())
}

/// What becomes of a case that is decided, and of others that must not be allowed more.
fn never_allows_more(
    case: &Situation,
    others: impl IntoIterator<Item = Situation>,
) -> Result<(), TestCaseError> {
    let Some(before) = case.decide() else { return Ok(()) };
    for other in others {
        let Some(after) = other.decide() else { continue };
        prop_assert!(
            strictness(before.verdict) <= strictness(after.verdict),
            "{:?} became {:?} by {:?}",
            before.verdict,
            after.verdict,
            other
        );
        for (before, after) in before.rule_results.iter().zip(&after.rule_results) {
            prop_assert!(before.passed() || !after.passed(), "{before:?} became {after:?}");
        }
    }
    Ok(())
}

#[test]
fn most_neighbours_are_compared() {
    let mut runner = TestRunner::deterministic();
    let places = prop::collection::vec(any::<(Index, Index)>(), NEIGHBOURS);
    let strategy = (cases(), places, prop::collection::vec(rules(), NEIGHBOURS));
    let (mut tight, mut long) = (0, 0);
    for _ in 0..100 {
        let (case, places, rules) = strategy.new_tree(&mut runner).unwrap().current();
        let policy = &case.mandate.as_ref().unwrap().policy;
        tight += stricter(policy, &places).count();
        long += longer(policy, rules).count();
    }
    assert!(tight.min(long) > 100 * NEIGHBOURS * 3 / 4, "{tight} {long}");
}

proptest! {
    #![proptest_config(neighbours())]

    #[test]
    fn a_stricter_mandate_never_allows_more(
        case in cases(),
        places: [(Index, Index); NEIGHBOURS],
    ) {
        let stricter = stricter(&case.mandate.as_ref().unwrap().policy, &places);
        never_allows_more(&case, stricter.map(|policy| with_policy(&case, policy)))?;
    }

    #[test]
    fn one_more_rule_never_allows_more(
        case in cases(),
        rules in prop::collection::vec(rules(), NEIGHBOURS),
    ) {
        let longer = longer(&case.mandate.as_ref().unwrap().policy, rules);
        never_allows_more(&case, longer.map(|policy| with_policy(&case, policy)))?;
    }

    #[test]
    fn more_money_is_never_easier_to_get(
        case in cases(),
        more in prop::array::uniform::<_, NEIGHBOURS>(1..=400_i64),
    ) {
        let larger = more.into_iter().map(|more| {
            let mut larger = case.clone();
            larger.spend.amount = (case.spend.amount + more).min(AMOUNT_MAX);
            larger
        });
        never_allows_more(&case, larger)?;
    }

    #[test]
    fn what_is_gone_already_never_makes_room(
        case in cases(),
        more in prop::array::uniform::<_, NEIGHBOURS>(1..=200_i64),
    ) {
        let later = more.into_iter().map(|more| {
            let mut later = case.clone();
            for level in &mut later.levels {
                level.spent += more;
            }
            for window in &mut later.windows {
                window.count += more;
                window.sum += more;
            }
            later
        });
        never_allows_more(&case, later)?;
    }
}
