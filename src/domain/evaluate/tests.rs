//! What a decision is made of, by example: order, sentences, claims, and what follows from doubt.
//!
//! Laws over random cases are in `tests/laws` and `tests/monotony`; whole decisions with their
//! inputs in `tests/vectors`. Not here: counters (`ledger`), single rules (`rule`).

use super::*;
use crate::domain::mandate::Policy;
use crate::domain::rule::{CustomEngine, RuleSpec};
use crate::domain::samples::{Situation, at, mandate, policy, spend};

mod laws;
mod monotony;

fn situation(policy: Policy, spend: Spend) -> Situation {
    Situation {
        frozen: false,
        agent: AgentStatus::Active,
        mandate: Some(mandate(1, policy)),
        spend,
        observed: Observed::default(),
        zone: "Europe/Berlin".to_owned(),
        now: at("2026-03-10T12:00:00Z"),
        levels: vec![Level::default()],
        windows: vec![WindowLevel::default()],
    }
}

fn cap(vendor: &str, amount: i64) -> RuleSpec {
    RuleSpec::VendorCap { vendor: vendor.to_owned(), amount, period: Period::Daily }
}

fn concluded(situation: &Situation, level: Level) -> Decision {
    let screened = situation.screen().unwrap();
    let charges = screened.claim.as_ref().map_or(0, |claim| claim.charges.len());
    let windows = screened.claim.as_ref().map_or(0, |claim| claim.windows.len());
    let (levels, windows) = (vec![level; charges], vec![WindowLevel::default(); windows]);
    would_decide(&screened, &situation.spend, &levels, &windows)
}

#[test]
fn built_in_rules_come_first_and_the_others_in_the_order_of_the_mandate() {
    let rules = vec![
        RuleSpec::SpendRate { max_amount: 500, window_minutes: 60 },
        cap("openai.com", 300),
        RuleSpec::MaxAmount { amount: 200 },
        RuleSpec::RateLimit { max_transactions: 3, window_minutes: 1 },
        cap("gmail", 300),
    ];
    let case = situation(policy(1_000, Period::Monthly, rules), spend(100, "openai.com", None));
    let decision = concluded(&case, Level::default());
    let order = decision.rule_results.iter().map(|result| result.rule_type).collect::<Vec<_>>();
    let built_in = ["currency_mismatch", "budget_per_tx", "budget_total"];
    let own = ["spend_rate", "vendor_cap", "max_amount", "rate_limit", "vendor_cap"];
    assert_eq!(order, [&built_in[..], &own[..]].concat());
    assert_eq!(decision.verdict, Verdict::Approved);
}

#[test]
fn everything_that_stands_in_the_way_is_a_reason_from_the_outside_in() {
    let mut case = situation(
        policy(50, Period::None, vec![cap("openai.com", 10)]),
        spend(60, "openai.com", None),
    );
    case.frozen = true;
    case.agent = AgentStatus::Suspended;
    case.mandate.as_mut().unwrap().status = MandateStatus::Paused;
    let decision = concluded(&case, Level::default());
    let reasons = decision.reasons.iter().map(|reason| (reason.source, reason.reason));
    assert_eq!(
        reasons.collect::<Vec<_>>(),
        [
            ("organization", RejectionReason::OrganizationFrozen),
            ("agent", RejectionReason::AgentNotActive),
            ("mandate", RejectionReason::MandatePaused),
            ("budget_per_tx", RejectionReason::BudgetPerTxExceeded),
            ("budget_total", RejectionReason::BudgetExhausted),
            ("vendor_cap", RejectionReason::VendorCapExceeded),
        ]
    );
}

#[test]
fn a_mandate_is_judged_by_its_status_and_then_by_its_validity() {
    use MandateStatus::{Active, Draft, Expired, Paused, Revoked};
    let (before, inside, after) =
        (at("2025-12-31T23:59:59.999999Z"), at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"));
    let table: [(MandateStatus, Timestamp, &[RejectionReason]); 15] = [
        (Active, before, &[RejectionReason::MandateNotYetValid]),
        (Active, inside, &[]),
        (Active, after, &[RejectionReason::MandateExpired]),
        (Paused, before, &[RejectionReason::MandatePaused, RejectionReason::MandateNotYetValid]),
        (Paused, inside, &[RejectionReason::MandatePaused]),
        (Paused, after, &[RejectionReason::MandateExpired]),
        (Draft, before, &[RejectionReason::NoActiveMandate, RejectionReason::MandateNotYetValid]),
        (Draft, inside, &[RejectionReason::NoActiveMandate]),
        (Draft, after, &[RejectionReason::NoActiveMandate]),
        (Revoked, before, &[RejectionReason::MandateRevoked, RejectionReason::MandateNotYetValid]),
        (Revoked, inside, &[RejectionReason::MandateRevoked]),
        (Revoked, after, &[RejectionReason::MandateRevoked]),
        (Expired, before, &[RejectionReason::MandateExpired, RejectionReason::MandateNotYetValid]),
        (Expired, inside, &[RejectionReason::MandateExpired]),
        (Expired, after, &[RejectionReason::MandateExpired]),
    ];
    for (status, now, expected) in table {
        let mut case = situation(policy(100, Period::None, Vec::new()), spend(1, "gmail", None));
        let mandate = case.mandate.as_mut().unwrap();
        mandate.status = status;
        mandate.policy.valid_from = inside;
        mandate.policy.valid_until = Some(after);
        case.now = now;
        let decision = concluded(&case, Level::default());
        let reasons = decision.reasons.iter().map(|reason| reason.reason).collect::<Vec<_>>();
        assert_eq!(reasons, expected, "{status:?} at {now}");
        assert!(decision.rule_results.iter().all(RuleResult::passed));
    }
}

#[test]
fn without_a_mandate_there_is_nothing_to_test_and_nothing_to_spend() {
    let mut case = situation(policy(100, Period::None, Vec::new()), spend(0, "gmail", None));
    case.mandate = None;
    let screened = case.screen().unwrap();
    assert_eq!(screened.claim, None);
    let decision = concluded(&case, Level::default());
    assert_eq!(decision.verdict, Verdict::Rejected);
    assert_eq!(decision.rule_results, []);
    assert_eq!(decision.budget, None);
    assert_eq!(decision.reasons.len(), 1);
    assert_eq!(decision.reasons[0].reason, RejectionReason::NoActiveMandate);
    assert!(decision.explanation.starts_with("Rejected: 0.00 USD at gmail: the agent has no"));
}

#[test]
fn two_caps_on_one_vendor_and_period_share_a_counter_and_keep_their_own_limits() {
    let rules = vec![cap("openai.com", 100), cap("OpenAI.com.", 50)];
    let case = situation(policy(1_000, Period::None, rules), spend(60, "api.openai.com", None));
    let claim = case.screen().unwrap().claim.unwrap();
    assert_eq!(claim.charges.len(), 2, "the budget, and one counter of the vendor");
    assert_eq!(claim.charges[1].limit, 50, "the ledger holds to the lower limit");
    let mut reversed = case.clone();
    reversed.mandate.as_mut().unwrap().policy.rules.reverse();
    assert_eq!(reversed.screen().unwrap().claim.unwrap().charges, claim.charges);
    let decision = concluded(&case, Level { spent: 20, held: 10 });
    let caps = &decision.rule_results[3..];
    assert_eq!(caps.iter().map(RuleResult::passed).collect::<Vec<_>>(), [true, false]);
    let numbers = |result: &RuleResult| (result.limit, result.actual, result.remaining);
    assert_eq!(numbers(&caps[0]), (Some(100), Some(90), Some(70)));
    assert_eq!(numbers(&caps[1]), (Some(50), Some(90), Some(20)));
    assert_eq!(decision.reasons.len(), 1);
    assert_eq!(decision.verdict, Verdict::Rejected);
}

#[test]
fn caps_of_other_periods_and_of_subdomains_have_counters_of_their_own() {
    let weekly = RuleSpec::VendorCap {
        vendor: "openai.com".to_owned(),
        amount: 300,
        period: Period::Weekly,
    };
    let rules = vec![cap("openai.com", 100), weekly, cap("api.openai.com", 50), cap("gmail", 1)];
    let policy = policy(1_000, Period::Daily, rules);
    let case = situation(policy.clone(), spend(10, "v1.api.openai.com", None));
    assert_eq!(case.screen().unwrap().claim.unwrap().charges.len(), 4);
    let case = situation(policy, spend(10, "openai.com", None));
    assert_eq!(case.screen().unwrap().claim.unwrap().charges.len(), 3);
}

#[test]
fn a_claim_is_good_until_the_first_instant_that_could_change_it() {
    let good_until = |reset, rules: Vec<RuleSpec>, from: &str, until: Option<&str>| {
        let mut policy = policy(100, reset, rules);
        policy.valid_from = at(from);
        policy.valid_until = until.map(at);
        let claim = situation(policy, spend(1, "openai.com", None)).screen().unwrap().claim;
        claim.unwrap().good_until
    };
    let (past, soon, later) =
        ("2020-01-01T00:00:00Z", "2026-03-10T12:00:00.000001Z", "2026-04-01T00:00:00Z");
    let midnight = Some(at("2026-03-11T00:00:00+01:00"));
    assert_eq!(good_until(Period::None, Vec::new(), past, None), None);
    assert_eq!(good_until(Period::Daily, Vec::new(), past, None), midnight);
    assert_eq!(good_until(Period::None, vec![cap("openai.com", 9)], past, None), midnight);
    assert_eq!(good_until(Period::None, vec![cap("gmail", 9)], past, None), None);
    assert_eq!(good_until(Period::Daily, Vec::new(), past, Some(soon)), Some(at(soon)));
    assert_eq!(good_until(Period::Daily, Vec::new(), soon, Some(later)), Some(at(soon)));
    // A custom rule can ask for the minute, and the clock shows 12:00 and 13:00 somewhere.
    let custom = RuleSpec::Custom {
        engine: CustomEngine::Cel,
        expression: "minute < 30".to_owned(),
        description: String::new(),
    };
    let minute = Some(at("2026-03-10T12:01:00Z"));
    assert_eq!(good_until(Period::Daily, vec![custom], past, None), minute);
    // An end that has passed already makes nothing better by passing.
    assert_eq!(good_until(Period::None, Vec::new(), past, Some("2021-01-01T00:00:00Z")), None);
}

#[test]
fn the_budget_after_a_decision_counts_what_was_charged_or_held() {
    let approval = RuleSpec::Approval {
        threshold: 50,
        approver_roles: Vec::new(),
        approvals_required: 1,
        timeout_minutes: 60,
    };
    let case = |amount| {
        situation(policy(100, Period::Daily, vec![approval.clone()]), spend(amount, "gmail", None))
    };
    let after = |amount, verdict| {
        let (case, level) = (case(amount), Level { spent: 20, held: 5 });
        let ruling = Ruling { verdict, levels: &[level], windows: &[] };
        conclude(&case.screen().unwrap(), &case.spend, &ruling).budget.unwrap()
    };
    let numbers = |budget: BudgetStatus| (budget.spent, budget.held, budget.remaining());
    assert_eq!(numbers(after(50, Verdict::Approved)), (70, 5, 25));
    assert_eq!(numbers(after(51, Verdict::PendingApproval)), (20, 56, 24));
    assert_eq!(numbers(after(51, Verdict::Rejected)), (20, 5, 75));
    assert_eq!(after(1, Verdict::Approved).resets_at, Some(at("2026-03-11T00:00:00+01:00")));
    let hold = |amount| case(amount).screen().unwrap().claim.unwrap().hold;
    assert_eq!((hold(50), hold(51)), (false, true));
}

#[test]
fn only_time_that_can_help_is_promised() {
    let rules = || {
        vec![
            cap("gmail", 80),
            RuleSpec::SpendRate { max_amount: 70, window_minutes: 60 },
            RuleSpec::RateLimit { max_transactions: 1, window_minutes: 60 },
        ]
    };
    let case = |amount| situation(policy(90, Period::Daily, rules()), spend(amount, "gmail", None));
    let resets = |amount| {
        let case = case(amount);
        let oldest = Some(case.now);
        let windows = [WindowLevel { count: 1, sum: 70, oldest }; 2];
        let levels = [Level { spent: 70, held: 20 }; 2];
        let decision = would_decide(&case.screen().unwrap(), &case.spend, &levels, &windows);
        let tested = decision.rule_results.iter().skip(2);
        assert!(tested.clone().all(|result| result.failure.is_some() && result.retryable));
        tested.map(|result| result.resets_at).collect::<Vec<_>>()
    };
    let midnight = Some(at("2026-03-11T00:00:00+01:00"));
    let in_an_hour = Some(at("2026-03-10T13:00:00Z"));
    assert_eq!(resets(70), [midnight, midnight, in_an_hour, in_an_hour]);
    // More than there ever is: waiting does not help, asking for less does.
    assert_eq!(resets(91), [None, None, None, in_an_hour]);
}

#[test]
fn a_decision_reads_as_a_sentence_a_person_can_act_on() {
    let rules = vec![cap("openai.com", 500), RuleSpec::MaxAmount { amount: 2_000 }];
    let case = |amount| {
        situation(policy(10_000, Period::Monthly, rules.clone()), spend(amount, "OpenAI.com", None))
    };
    let told = |amount| concluded(&case(amount), Level::default()).explanation;
    assert_eq!(
        told(400),
        "Approved: 4.00 USD at openai.com. 100.00 USD of 100.00 USD remains until \
         2026-03-31T22:00:00Z."
    );
    assert_eq!(
        told(2_500),
        "Rejected: 25.00 USD at openai.com: 25.00 USD is more than the 5.00 USD that remains of \
         5.00 USD until 2026-03-10T23:00:00Z; 25.00 USD is above 20.00 USD for one transaction, \
         ask for less. 100.00 USD of 100.00 USD remains until 2026-03-31T22:00:00Z."
    );
}

#[test]
fn every_amount_is_told_in_the_currency_it_is_in() {
    let rules = vec![
        cap("openai.com", 500),
        RuleSpec::MaxAmount { amount: 2_000 },
        RuleSpec::SpendRate { max_amount: 700, window_minutes: 60 },
        RuleSpec::Approval {
            threshold: 50,
            approver_roles: Vec::new(),
            approvals_required: 1,
            timeout_minutes: 60,
        },
    ];
    let case = |amount| {
        let yen = crate::domain::money::Currency::parse("JPY").unwrap();
        let spend = Spend { currency: yen, ..spend(amount, "openai.com", None) };
        let case = situation(policy(10_000, Period::None, rules.clone()), spend);
        let decision = concluded(&case, Level { spent: 100, held: 0 });
        let details = decision.rule_results.into_iter().skip(1).map(|result| result.detail);
        details.collect::<Vec<_>>()
    };
    let midnight = "until 2026-03-10T23:00:00Z";
    assert_eq!(
        case(100),
        [
            "100 JPY is within 100.00 USD for one transaction",
            "99.00 USD of 100.00 USD would remain",
            &format!("4.00 USD of 5.00 USD would remain {midnight}"),
            "100 JPY is within 20.00 USD for one transaction",
            "0.00 USD of 7.00 USD used in the last 60 minutes",
            "above 0.50 USD: a person has to approve",
        ]
    );
    assert_eq!(
        case(20_000),
        [
            "20000 JPY is above 100.00 USD for one transaction, ask for less",
            "20000 JPY is more than the 99.00 USD that remains of 100.00 USD",
            &format!("20000 JPY is more than the 4.00 USD that remains of 5.00 USD {midnight}"),
            "20000 JPY is above 20.00 USD for one transaction, ask for less",
            "0.00 USD of 7.00 USD used in the last 60 minutes",
            "above 0.50 USD: a person has to approve",
        ]
    );
}

#[test]
fn a_ruling_that_lacks_what_was_claimed_never_passes() {
    let rules =
        vec![cap("gmail", 80), RuleSpec::RateLimit { max_transactions: 1, window_minutes: 1 }];
    let case = situation(policy(90, Period::Daily, rules), spend(1, "gmail", None));
    let screened = case.screen().unwrap();
    let decision = would_decide(&screened, &case.spend, &[], &[]);
    assert_eq!(decision.verdict, Verdict::Rejected);
    let failed = decision.rule_results.iter().filter(|result| !result.passed());
    let failed = failed.map(|result| result.rule_type).collect::<Vec<_>>();
    assert_eq!(failed, ["budget_total", "vendor_cap", "rate_limit"]);
}
