//! Random sequences of asks, acts and changes: the ledger always agrees with a recount.
//!
//! Not here: the recount itself and what is compared (`world`).

use proptest::prelude::*;
use proptest::sample::select;

use super::world::{Step, World};
use super::*;
use crate::domain::samples::{caps, histories, limited, policies, spends, zones};

/// Policies of rules that count, so that something is approved.
fn counting() -> impl Strategy<Value = Policy> {
    policies(prop_oneof![3 => limited(), 1 => caps()], 6)
}

fn pauses() -> impl Strategy<Value = SignedDuration> {
    let micros = |micros| SignedDuration::from_micros(micros);
    prop_oneof![
        4 => Just(SignedDuration::ZERO),
        4 => select(vec![micros(1), MINUTE - MICRO, MINUTE, MINUTE + MICRO]),
        2 => (0..3_600_000_000_i64).prop_map(micros),
        1 => (0..40_i64).prop_map(|days| SignedDuration::from_hours(24 * days)),
    ]
}

fn acts() -> impl Strategy<Value = Act> {
    let amount = || prop_oneof![0..=120_i64, Just(250_i64)];
    prop_oneof![
        3 => amount().prop_map(Act::Settle),
        2 => Just(Act::Void),
        2 => prop::option::of(amount()).prop_map(Act::Refund),
    ]
}

fn asks() -> impl Strategy<Value = Step> {
    let delay = prop_oneof![9 => Just(SignedDuration::ZERO), 1 => pauses()];
    (1..=2_u8, spends(), 0..50_u8, delay, prop::bool::weighted(0.05)).prop_map(
        |(agent, spend, key, delay, overtaken)| Step::Ask { agent, spend, key, delay, overtaken },
    )
}

/// Steps that leave the mandates as they are.
fn steps() -> impl Strategy<Value = Step> {
    let status = select(vec![MandateStatus::Active, MandateStatus::Active, MandateStatus::Paused]);
    prop_oneof![
        12 => asks(),
        6 => (0..50_usize, acts()).prop_map(|(which, act)| Step::Act { which, act }),
        4 => pauses().prop_map(Step::Wait),
        1 => prop::bool::weighted(0.2).prop_map(Step::Freeze),
        1 => (1..=2_u8, status).prop_map(|(number, status)| Step::Status(number, status)),
    ]
}

fn starts() -> impl Strategy<Value = Timestamp> {
    select(vec![
        "2026-03-10T12:00:00Z",
        "2024-02-29T22:59:00Z",
        "2025-12-31T23:59:00Z",
        "2026-03-28T22:00:00Z",
        "2026-10-31T03:59:59.999999Z",
    ])
    .prop_map(at)
}

proptest! {
    #![proptest_config(histories())]

    #[test]
    fn a_history_is_ruled_on_as_a_recount_of_it_would(
        policies in (counting(), counting()), zone in zones(), start in starts(),
        steps in prop::collection::vec(steps(), 1..60),
    ) {
        let mut world = World::new(policies.into(), zone, start);
        for step in steps {
            world.take(step);
        }
    }

    #[test]
    fn changed_mandates_and_zones_count_what_was_spent_before_the_change(
        policies in (counting(), counting()), zone in zones(), start in starts(),
        steps in prop::collection::vec(prop_oneof![
            6 => steps(),
            1 => (1..=2_u8, counting()).prop_map(|(number, policy)| Step::Change(number, policy)),
            1 => zones().prop_map(Step::Move),
        ], 1..60),
    ) {
        let mut world = World::new(policies.into(), zone, start);
        for step in steps {
            world.take(step);
        }
    }
}
