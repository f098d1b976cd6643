//! The ledger by example: what is charged, what goes stale, what comes back and how often.
//!
//! Random sequences against a recount of the whole history are in `tests/laws`. Not here: homes of
//! the ledger, which agree with this one (`ledger`).

use jiff::SignedDuration;

use super::*;
use crate::domain::actor::Actor;
use crate::domain::evaluate::{Case, screen};
use crate::domain::mandate::{CompiledMandate, Policy};
use crate::domain::period::parse_zone;
use crate::domain::rule::RuleSpec;
use crate::domain::samples::{agent, at, mandate, mandate_id, org, policy, spend};
use crate::domain::spend::Observed;

mod laws;
mod world;

const MICRO: SignedDuration = SignedDuration::from_micros(1);
const MINUTE: SignedDuration = SignedDuration::from_secs(60);

fn noon() -> Timestamp {
    at("2026-03-10T12:00:00Z")
}

fn book() -> Book {
    let mut book = Book::default();
    book.orgs.insert(org(), (1, false));
    book.agents.insert(agent(1), (AgentStatus::Active, Some(mandate_id(1))));
    book.mandates.insert(mandate_id(1), (2, MandateStatus::Active));
    book
}

fn command(policy: &Policy, key: u8, spend: Spend, now: Timestamp) -> Decide {
    let compiled = CompiledMandate::try_new(&mandate(1, policy.clone())).unwrap();
    let standing = Standing {
        org_version: 1,
        frozen: false,
        agent: AgentStatus::Active,
        mandate: Some(MandateStanding {
            id: mandate_id(1),
            version: 2,
            status: MandateStatus::Active,
        }),
    };
    let observed = Observed::default();
    let screened = screen(&Case {
        standing: &standing,
        mandate: Some(&compiled),
        spend: &spend,
        observed: &observed,
        zone: &parse_zone("UTC").unwrap(),
        now,
    });
    let evidence = Evidence {
        standing,
        named: false,
        observed,
        zone: "UTC".to_owned(),
        screened_at: now,
        levels: Vec::new(),
        windows: Vec::new(),
    };
    let (id, hash) = (TransactionId::from_bytes([key; 16]), [key; 16]);
    Decide {
        id,
        org_id: org(),
        spend,
        idempotency_key: format!("key-{key}"),
        request_hash: hash,
        evidence,
        claim: screened.unwrap().claim,
        durability: AskedDurability::default(),
        took_micros: 1,
    }
}

fn decided(book: &mut Book, policy: &Policy, key: u8, amount: i64, now: Timestamp) -> Verdict {
    match book.decide(&command(policy, key, spend(amount, "gmail", None), now), now) {
        Decided::Ruled(record) => record.verdict,
        other => panic!("{other:?}"),
    }
}

fn budget(book: &Book, policy: &Policy, now: Timestamp) -> (i64, i64) {
    let claim = command(policy, 0, spend(0, "gmail", None), now).claim.unwrap();
    let level = book.peek(&claim, now).0[0];
    (level.spent, level.held)
}

fn resolve(book: &mut Book, key: u8, act: Act) -> Result<bool, ResolveError> {
    let id = TransactionId::from_bytes([key; 16]);
    let (org_id, actor) = (org(), Actor::System);
    let command = Resolve { org_id, agent: None, id, act, actor, ground: None };
    book.resolve(&command, noon()).map(|resolved| resolved.changed)
}

fn approval(threshold: i64) -> RuleSpec {
    RuleSpec::Approval {
        threshold,
        approver_roles: Vec::new(),
        approvals_required: 1,
        timeout_minutes: 60,
    }
}

#[test]
fn a_budget_can_be_spent_to_its_last_cent_and_no_further() {
    let (mut book, policy) = (book(), policy(100, Period::Daily, Vec::new()));
    assert_eq!(decided(&mut book, &policy, 1, 60, noon()), Verdict::Approved);
    assert_eq!(decided(&mut book, &policy, 2, 41, noon()), Verdict::Rejected);
    assert_eq!(decided(&mut book, &policy, 3, 40, noon()), Verdict::Approved);
    assert_eq!(decided(&mut book, &policy, 4, 1, noon()), Verdict::Rejected);
    assert_eq!(decided(&mut book, &policy, 5, 0, noon()), Verdict::Approved);
    assert_eq!(budget(&book, &policy, noon()), (100, 0));
    let tomorrow = noon() + SignedDuration::from_hours(24);
    assert_eq!(decided(&mut book, &policy, 6, 100, tomorrow), Verdict::Approved);
    assert_eq!(budget(&book, &policy, noon()), (100, 0));
}

#[test]
fn what_a_person_must_approve_is_held_and_counts() {
    let (mut book, policy) = (book(), policy(100, Period::None, vec![approval(30)]));
    assert_eq!(decided(&mut book, &policy, 1, 31, noon()), Verdict::PendingApproval);
    assert_eq!(decided(&mut book, &policy, 2, 30, noon()), Verdict::Approved);
    assert_eq!(budget(&book, &policy, noon()), (30, 31));
    assert_eq!(decided(&mut book, &policy, 3, 40, noon()), Verdict::Rejected);
    assert_eq!(resolve(&mut book, 1, Act::Void), Ok(true));
    assert_eq!(budget(&book, &policy, noon()), (30, 0));
    assert_eq!(decided(&mut book, &policy, 4, 70, noon()), Verdict::PendingApproval);
}

#[test]
fn money_comes_back_once_and_never_more_than_was_charged() {
    let (mut book, policy) = (book(), policy(1_000, Period::None, Vec::new()));
    for key in 1..=4 {
        decided(&mut book, &policy, key, 100, noon());
    }
    let exceeds = |available| Err(ResolveError::Exceeds { available });
    assert_eq!(resolve(&mut book, 1, Act::Settle(101)), exceeds(100));
    assert_eq!(resolve(&mut book, 1, Act::Settle(70)), Ok(true));
    assert_eq!(resolve(&mut book, 1, Act::Settle(70)), Ok(false));
    assert_eq!(budget(&book, &policy, noon()), (370, 0));
    assert_eq!(resolve(&mut book, 1, Act::Refund(Some(71))), exceeds(70));
    assert_eq!(resolve(&mut book, 1, Act::Refund(Some(20))), Ok(true));
    assert_eq!(resolve(&mut book, 1, Act::Refund(Some(20))), Ok(false));
    assert_eq!(budget(&book, &policy, noon()), (350, 0));

    assert_eq!(resolve(&mut book, 2, Act::Void), Ok(true));
    assert_eq!(resolve(&mut book, 2, Act::Void), Ok(false));
    assert_eq!(resolve(&mut book, 3, Act::Settle(0)), Ok(true));
    assert_eq!(resolve(&mut book, 4, Act::Settle(100)), Ok(true));
    assert_eq!(resolve(&mut book, 4, Act::Refund(None)), Ok(true));
    assert_eq!(resolve(&mut book, 4, Act::Refund(None)), Ok(false));
    assert_eq!(resolve(&mut book, 4, Act::Refund(Some(100))), Ok(false));
    assert_eq!(budget(&book, &policy, noon()), (50, 0));
}

#[test]
fn an_act_that_does_not_fit_the_state_does_nothing() {
    use TransactionState::{Approved, PendingApproval, Refunded, Rejected, Settled, Voided};
    let (mut book, policy) = (book(), policy(1_000, Period::None, vec![approval(100)]));
    for (key, amount) in [(1, 50), (2, 150), (3, 5_000), (4, 50), (5, 50), (6, 50)] {
        decided(&mut book, &policy, key, amount, noon());
    }
    resolve(&mut book, 4, Act::Void).unwrap();
    resolve(&mut book, 5, Act::Settle(50)).unwrap();
    resolve(&mut book, 6, Act::Settle(50)).unwrap();
    resolve(&mut book, 6, Act::Refund(Some(10))).unwrap();
    let before = budget(&book, &policy, noon());
    for (key, from, acts) in [
        (1, Approved, &[Act::Refund(None)][..]),
        (2, PendingApproval, &[Act::Settle(1), Act::Refund(None)]),
        (3, Rejected, &[Act::Settle(1), Act::Void, Act::Refund(None)]),
        (4, Voided, &[Act::Settle(1), Act::Refund(None)]),
        (5, Settled, &[Act::Settle(49), Act::Void]),
        (6, Refunded, &[Act::Settle(50), Act::Void, Act::Refund(None), Act::Refund(Some(11))]),
    ] {
        for act in acts {
            let error = resolve(&mut book, key, act.clone()).unwrap_err();
            let wrong =
                matches!(error, ResolveError::WrongState { from: state, .. } if state == from);
            assert!(wrong, "{from:?} {act:?}: {error:?}");
        }
    }
    assert_eq!(budget(&book, &policy, noon()), before);
}

#[test]
fn a_foreign_transaction_looks_like_none() {
    let (mut book, policy) = (book(), policy(100, Period::None, Vec::new()));
    decided(&mut book, &policy, 1, 50, noon());
    let id = TransactionId::from_bytes([1; 16]);
    let (org_id, act, actor) = (org(), Act::Void, Actor::System);
    let ours = Resolve { org_id, agent: Some(agent(1)), id, act, actor, ground: None };
    for foreign in [
        Resolve { org_id: OrgId::from_bytes([9; 16]), ..ours.clone() },
        Resolve { agent: Some(agent(2)), ..ours.clone() },
        Resolve { id: TransactionId::from_bytes([9; 16]), ..ours.clone() },
    ] {
        assert_eq!(book.resolve(&foreign, noon()), Err(ResolveError::NotFound));
    }
    assert_eq!(budget(&book, &policy, noon()), (50, 0));
    assert!(book.resolve(&ours, noon()).unwrap().changed);
}

#[test]
fn a_decision_is_only_made_on_what_still_stands() {
    let policy = policy(100, Period::None, Vec::new());
    type Change = fn(&mut Book);
    let changes: [(&str, Change); 9] = [
        ("a newer organization", |book| {
            book.orgs.insert(org(), (2, false));
        }),
        ("a frozen one", |book| {
            book.orgs.insert(org(), (1, true));
        }),
        ("none", |book| book.orgs.clear()),
        ("a suspended agent", |book| {
            book.agents.insert(agent(1), (AgentStatus::Suspended, Some(mandate_id(1))));
        }),
        ("an agent with another mandate", |book| {
            book.mandates.insert(mandate_id(2), (2, MandateStatus::Active));
            book.agents.insert(agent(1), (AgentStatus::Active, Some(mandate_id(2))));
        }),
        ("no agent", |book| book.agents.clear()),
        ("a newer mandate", |book| {
            book.mandates.insert(mandate_id(1), (3, MandateStatus::Active));
        }),
        ("a paused one", |book| {
            book.mandates.insert(mandate_id(1), (2, MandateStatus::Paused));
        }),
        ("no mandate", |book| book.mandates.clear()),
    ];
    for (what, change) in changes {
        let mut book = book();
        change(&mut book);
        let command = command(&policy, 1, spend(1, "gmail", None), noon());
        assert_eq!(book.decide(&command, noon()), Decided::Stale, "{what}");
        assert!(book.transactions.is_empty() && book.tallies.is_empty(), "{what}");
    }
}

#[test]
fn a_claim_is_ruled_on_before_its_end_and_never_at_it() {
    let mut policy = policy(100, Period::Daily, Vec::new());
    let midnight = at("2026-03-11T00:00:00Z");
    let asked = command(&policy, 1, spend(1, "gmail", None), noon());
    assert!(matches!(book().decide(&asked, midnight - MICRO), Decided::Ruled(_)));
    assert_eq!(book().decide(&asked, midnight), Decided::Stale);
    policy.valid_until = Some(noon() + MICRO);
    policy.valid_from = noon() - MINUTE;
    let asked = command(&policy, 1, spend(1, "gmail", None), noon());
    assert!(matches!(book().decide(&asked, noon()), Decided::Ruled(_)));
    assert_eq!(book().decide(&asked, noon() + MICRO), Decided::Stale);
}

#[test]
fn hours_that_end_while_a_spend_is_queued_let_nothing_through() {
    let hours = |end: &str| RuleSpec::TimeWindow {
        days: vec![0, 1, 2, 3, 4, 5, 6],
        start: "09:00".to_owned(),
        end: end.to_owned(),
        timezone: "UTC".to_owned(),
    };
    // The narrower of two is what counts.
    let policy = policy(100, Period::Daily, vec![hours("18:00"), hours("17:00")]);
    let screened_at = at("2026-03-10T16:59:59Z");
    let asked = command(&policy, 1, spend(1, "gmail", None), screened_at);
    let end = at("2026-03-10T17:00:00Z");
    assert_eq!(asked.claim.as_ref().unwrap().good_until, Some(end));
    assert!(matches!(book().decide(&asked, end - MICRO), Decided::Ruled(_)));
    assert_eq!(book().decide(&asked, end), Decided::Stale);
    // Tested again, it is outside of them.
    assert_eq!(decided(&mut book(), &policy, 1, 1, end), Verdict::Rejected);
}

#[test]
fn a_key_decides_once_whatever_has_happened_since() {
    let (mut book, policy) = (book(), policy(100, Period::Daily, Vec::new()));
    let asked = command(&policy, 1, spend(60, "gmail", None), noon());
    let Decided::Ruled(first) = book.decide(&asked, noon()) else { panic!("not ruled") };
    // A stale command, another day, and a charge that was given back: still the same record.
    book.orgs.insert(org(), (2, true));
    let later = noon() + SignedDuration::from_hours(48);
    assert_eq!(book.decide(&asked, later), Decided::Replayed(first.clone()));
    let other = Decide { request_hash: [9; 16], ..asked.clone() };
    assert_eq!(book.decide(&other, later), Decided::KeyReused);
    resolve(&mut book, 1, Act::Void).unwrap();
    let Decided::Replayed(voided) = book.decide(&asked, later) else { panic!("not replayed") };
    assert_eq!((voided.verdict, voided.state), (first.verdict, TransactionState::Voided));
    assert_eq!(voided.evidence, first.evidence);
    assert_eq!(book.transactions.len(), 1);
}

#[test]
fn a_sliding_window_is_open_at_its_start() {
    let limit = RuleSpec::RateLimit { max_transactions: 1, window_minutes: 1 };
    let rate = RuleSpec::SpendRate { max_amount: 10, window_minutes: 1 };
    for rule in [limit, rate] {
        let (mut book, policy) = (book(), policy(100, Period::None, vec![rule.clone()]));
        assert_eq!(decided(&mut book, &policy, 1, 10, noon()), Verdict::Approved, "{rule:?}");
        for (key, after, verdict) in [
            (2, SignedDuration::ZERO, Verdict::Rejected),
            (3, MICRO, Verdict::Rejected),
            (4, MINUTE - MICRO, Verdict::Rejected),
            (5, MINUTE, Verdict::Approved),
            (6, MINUTE + MICRO, Verdict::Rejected),
        ] {
            let verdict_then = decided(&mut book, &policy, key, 10, noon() + after);
            assert_eq!(verdict_then, verdict, "{rule:?} after {after:?}");
        }
    }
}

#[test]
fn giving_money_back_never_restores_a_rate() {
    let rules = vec![
        RuleSpec::RateLimit { max_transactions: 2, window_minutes: 60 },
        RuleSpec::SpendRate { max_amount: 100, window_minutes: 60 },
    ];
    let (mut book, policy) = (book(), policy(1_000, Period::None, rules));
    decided(&mut book, &policy, 1, 60, noon());
    resolve(&mut book, 1, Act::Void).unwrap();
    assert_eq!(budget(&book, &policy, noon()), (0, 0));
    assert_eq!(decided(&mut book, &policy, 2, 41, noon()), Verdict::Rejected);
    assert_eq!(decided(&mut book, &policy, 3, 40, noon()), Verdict::Approved);
    assert_eq!(decided(&mut book, &policy, 4, 0, noon()), Verdict::Rejected);
}

#[test]
fn a_rejection_counts_nowhere() {
    let rules = vec![RuleSpec::RateLimit { max_transactions: 1, window_minutes: 60 }];
    let (mut book, policy) = (book(), policy(100, Period::None, rules));
    for key in 1..=5 {
        assert_eq!(decided(&mut book, &policy, key, 101, noon()), Verdict::Rejected);
    }
    assert_eq!(budget(&book, &policy, noon()), (0, 0));
    assert_eq!(decided(&mut book, &policy, 6, 100, noon()), Verdict::Approved);
}

#[test]
fn differences_of_tallies_are_exact_where_their_sums_wrap() {
    let rate = RuleSpec::SpendRate { max_amount: 100, window_minutes: 1 };
    let (mut book, policy) = (book(), policy(1_000, Period::None, vec![rate]));
    let before = Tally { count: i64::MAX, sum: i64::MAX - 5 };
    book.tallies.insert(mandate_id(1), before);
    for (key, amount, verdict) in
        [(1, 60, Verdict::Approved), (2, 41, Verdict::Rejected), (3, 40, Verdict::Approved)]
    {
        assert_eq!(decided(&mut book, &policy, key, amount, noon()), verdict);
    }
    let after = book.tallies[&mandate_id(1)];
    assert_eq!(after.count.wrapping_sub(before.count), 2);
    assert_eq!(after.sum.wrapping_sub(before.sum), 100);
}

#[test]
fn a_claim_without_a_mandate_is_recorded_as_a_rejection() {
    let mut book = book();
    book.agents.insert(agent(1), (AgentStatus::Active, None));
    let mut asked = command(&policy(9, Period::None, vec![]), 1, spend(1, "gmail", None), noon());
    asked.evidence.standing.mandate = None;
    asked.claim = None;
    let Decided::Ruled(record) = book.decide(&asked, noon()) else { panic!("not ruled") };
    assert_eq!((record.verdict, record.state), (Verdict::Rejected, TransactionState::Rejected));
    assert_eq!((record.mandate(), record.load()), (None, Level::default()));
    assert!(resolve(&mut book, 1, Act::Void).is_err());
}
