//! Laws of every decision: total, independent of order, true reasons, the same again from records.
//!
//! Not here: which way a verdict may move when a mandate or a request changes (`monotony`).

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;
use crate::domain::samples::{NEIGHBOURS, caps, config, neighbours, policies, rules, situations};

const RULES_MAX: usize = 6;

fn cases() -> impl Strategy<Value = Situation> {
    situations(policies(rules(), RULES_MAX))
}

/// The same mandate with its rules in another order.
fn reordered(situation: &Situation, order: &[usize]) -> Situation {
    let mut other = situation.clone();
    if let Some(mandate) = &mut other.mandate {
        let rules = &mandate.policy.rules;
        mandate.policy.rules = order.iter().map(|index| rules[*index].clone()).collect();
    }
    other
}

fn wild_level() -> impl Strategy<Value = Level> {
    let number = || prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX), 0..200_i64];
    (number(), number()).prop_map(|(spent, held)| Level { spent, held })
}

fn wild_window() -> impl Strategy<Value = WindowLevel> {
    let oldest = prop::option::of(crate::domain::samples::instants());
    (any::<i64>(), any::<i64>(), oldest).prop_map(|(count, sum, oldest)| WindowLevel {
        count,
        sum,
        oldest,
    })
}

#[test]
fn the_random_cases_are_of_every_kind() {
    let mut runner = TestRunner::deterministic();
    let mut verdicts = HashMap::new();
    for _ in 0..500 {
        let case = cases().new_tree(&mut runner).unwrap().current();
        *verdicts.entry(case.decide().map(|decision| decision.verdict)).or_insert(0) += 1;
    }
    let kinds = [Verdict::Approved, Verdict::PendingApproval, Verdict::Rejected].map(Some);
    for kind in kinds.into_iter().chain([None]) {
        assert!(verdicts.get(&kind).is_some_and(|count| *count >= 5), "{kind:?} of {verdicts:?}");
    }
    assert!(verdicts[&Some(Verdict::Approved)] >= 50, "{verdicts:?}");
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_decision_follows_from_its_results_and_from_nothing_else(case in cases()) {
        let Some(decision) = case.decide() else { return Ok(()) };
        let failed = decision.rule_results.iter().filter_map(|result| {
            let reason = result.failure?;
            Some(Reason { reason, source: result.rule_type, detail: result.detail.clone() })
        });
        let failed = failed.collect::<Vec<_>>();
        let outside = decision.reasons.len() - failed.len();
        prop_assert_eq!(&decision.reasons[outside..], &failed[..]);
        let from = ["organization", "agent", "mandate"];
        prop_assert!(decision.reasons[..outside].iter().all(|r| from.contains(&r.source)));
        prop_assert_eq!(decision.verdict == Verdict::Rejected, !decision.reasons.is_empty());

        let rules = case.mandate.as_ref().map(|mandate| mandate.policy.rules.len());
        prop_assert_eq!(decision.rule_results.len(), rules.map_or(0, |rules| rules + 3));
        prop_assert_eq!(decision.budget.is_some(), rules.is_some());
        prop_assert!(!decision.explanation.contains('\n'));
        for detail in decision.reasons.iter().map(|reason| &reason.detail) {
            prop_assert!(decision.explanation.contains(detail.as_str()));
        }
    }

    #[test]
    fn no_state_of_a_ledger_makes_a_conclusion_panic_or_a_doubt_pass(
        case in cases(),
        levels in prop::collection::vec(wild_level(), 0..10),
        windows in prop::collection::vec(wild_window(), 0..10),
        verdict in proptest::sample::select(vec![
            Verdict::Approved, Verdict::Rejected, Verdict::PendingApproval,
        ]),
    ) {
        let Ok(screened) = case.screen() else { return Ok(()) };
        let ruling =
            Ruling { verdict, levels: &levels, windows: &windows };
        let concluded = conclude(&screened, &case.spend, &ruling);
        prop_assert_eq!(concluded.verdict, verdict);
        prop_assert!(concluded.budget.is_none_or(|budget| budget.remaining() >= 0));

        let would = would_decide(&screened, &case.spend, &levels, &windows);
        let claim = screened.claim.as_ref();
        let complete = claim.is_some_and(|claim| {
            claim.charges.len() <= levels.len() && claim.windows.len() <= windows.len()
        });
        prop_assert!(complete || would.verdict == Verdict::Rejected);
        prop_assert_eq!(would.rule_results, concluded.rule_results);
    }

    #[test]
    fn a_claim_is_admissible_exactly_when_nothing_but_the_ledger_can_refuse(case in cases()) {
        let Ok(screened) = case.screen() else { return Ok(()) };
        let Some(claim) = &screened.claim else { return Ok(()) };
        let fresh = vec![Level::default(); claim.charges.len()];
        let calm = vec![WindowLevel::default(); claim.windows.len()];
        let decision = would_decide(&screened, &case.spend, &fresh, &calm);
        // Fresh counters refuse only what is larger than their limit.
        let stateful =
            ["budget_total", "vendor_cap", "category_cap", "rate_limit", "spend_rate"];
        let refused = decision.reasons.iter().any(|reason| !stateful.contains(&reason.source));
        prop_assert_eq!(claim.admissible, !refused);
        prop_assert!(claim.good_until.is_none_or(|end| case.now < end));
        let mut keys = claim.charges.iter().map(|charge| &charge.key).collect::<Vec<_>>();
        prop_assert_eq!(&keys[0].subject, &Subject::Budget);
        keys.sort();
        keys.dedup();
        prop_assert_eq!(keys.len(), claim.charges.len(), "no counter is charged twice");
    }

    #[test]
    fn a_claim_says_the_same_at_every_instant_until_it_ends(
        case in cases(),
        place in 0..=1_000_i64,
    ) {
        let Ok(screened) = case.screen() else { return Ok(()) };
        let Some(claim) = screened.claim.filter(|claim| claim.admissible) else { return Ok(()) };
        let far = case.now.max(at("2099-01-01T00:00:00Z"));
        let end = claim.good_until.unwrap_or(far);
        let end = end.saturating_sub(SignedDuration::from_nanos(1)).unwrap().max(case.now);
        let span = end.duration_since(case.now).as_micros() / 1_000 * i128::from(place);
        let span = SignedDuration::from_micros(i64::try_from(span).unwrap());
        for later in [end, case.now.checked_add(span).unwrap()] {
            let later = Situation { now: later, ..case.clone() };
            let Ok(Screened { claim: Some(again), .. }) = later.screen() else {
                return Err(TestCaseError::fail("there is none later"));
            };
            prop_assert_eq!(&again.charges, &claim.charges);
            prop_assert_eq!(&again.windows, &claim.windows);
            prop_assert_eq!((again.admissible, again.hold), (claim.admissible, claim.hold));
        }
    }
}

proptest! {
    #![proptest_config(neighbours())]

    #[test]
    fn the_order_of_the_rules_changes_nothing_but_the_order_of_the_results(
        case in cases(),
        keys: [[u8; RULES_MAX]; NEIGHBOURS],
    ) {
        let Some(decision) = case.decide() else { return Ok(()) };
        let rules = case.mandate.as_ref().map_or(0, |mandate| mandate.policy.rules.len());
        for keys in keys {
            let mut order = (0..rules).collect::<Vec<_>>();
            order.sort_by_key(|index| keys[*index]);
            let other = reordered(&case, &order).decide().unwrap();
            prop_assert_eq!(other.verdict, decision.verdict);
            prop_assert_eq!(other.budget, decision.budget);
            if case.mandate.is_none() {
                continue;
            }
            prop_assert_eq!(&other.rule_results[..3], &decision.rule_results[..3]);
            for (place, index) in order.iter().enumerate() {
                prop_assert_eq!(&other.rule_results[place + 3], &decision.rule_results[index + 3]);
            }
        }
    }

    // Of its eight rules at most, four on the average.
    #[test]
    fn a_rule_is_judged_as_if_it_were_alone(
        case in situations(policies(prop_oneof![rules(), caps()], 8)),
    ) {
        let Some(decision) = case.decide() else { return Ok(()) };
        let rules = case.mandate.as_ref().map_or(0, |mandate| mandate.policy.rules.len());
        for index in 0..rules {
            let alone = reordered(&case, &[index]).decide().unwrap();
            prop_assert_eq!(alone.rule_results.len(), 4);
            prop_assert_eq!(&alone.rule_results[3], &decision.rule_results[index + 3]);
        }
    }
}
