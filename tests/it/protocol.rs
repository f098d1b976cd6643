//! The protocol of the Redis ledger, proved by looking at every state it can reach within bounds.
//!
//! Redis is not trusted with money: Postgres leases slices of each budget to it. What that takes is
//! in docs/PROTOCOL.md; here each of its rules is a line of a model, and each has a wrong variant
//! without it that must be caught, with a shortest list of steps. `QUETRA_PROTOCOL_BOUNDS=2` looks
//! within wide bounds, at most at `QUETRA_PROTOCOL_STATES` states of each case (20,000,000); build
//! with `--release` for that. Not here: any code of a ledger, sliding windows, revocation.

mod cases;
mod failure;
mod model;
mod postgres;
mod promise;
mod rebuild;
mod redis;
mod search;
mod setup;
mod slices;
mod step;
mod view;
mod world;
mod wrong;

use self::cases::CASES;
use self::model::{EVERYTHING, Protocol, Reach};
use self::rebuild::Rebuild;
use self::search::explore;
use self::setup::{Level, Setup};
use self::slices::{Flaw as SliceFlaw, Slices};
use self::world::{REJECTED, World};
use self::wrong::wrong;
use crate::dice::setting;

fn wide() -> bool {
    setting("QUETRA_PROTOCOL_BOUNDS", 1) > 1
}

fn most() -> usize {
    usize::try_from(setting("QUETRA_PROTOCOL_STATES", 20_000_000)).unwrap()
}

/// The case of a name within the bounds of this run.
fn case(name: &str) -> Setup {
    let (_, usual, wide_bounds) = CASES.iter().find(|(of, _, _)| *of == name).unwrap();
    if wide() { *wide_bounds } else { *usual }
}

/// Looks at every state of a case, and says how many there were.
fn nothing_breaks(name: &str) {
    let report = explore(&Protocol { setup: case(name), watched: EVERYTHING.to_vec() }, most());
    let cut = if report.cut_short { ", cut short" } else { "" };
    println!("{name}: {} states, up to {} steps{cut}", report.states, report.depth);
    assert!(report.broken.is_none(), "{name}: {}", report.story());
    assert!(wide() || !report.cut_short, "{name}: the usual bounds are searched completely");
}

#[test]
fn the_first_model_has_the_states_it_is_known_to_have() {
    let slices = |flaw, grants| Slices { limit: 2, epochs: 2, grants, flaw };
    let mut known = vec![
        (slices(None, 3), 86_152, None),
        (slices(Some(SliceFlaw::RestartKeepsEpoch), 3), 895, Some(7)),
        (slices(Some(SliceFlaw::TakeoverKeepsSlice), 3), 7_864, Some(9)),
        (slices(Some(SliceFlaw::TakeoverReclaimsLeases), 3), 35_302, Some(11)),
        (slices(Some(SliceFlaw::ReleaseAfterLoss), 5), 63_971, Some(12)),
        (slices(Some(SliceFlaw::ReleaseBeforeDrain), 5), 59_868, Some(12)),
    ];
    if wide() {
        known.push((slices(None, 5), 170_647, None));
        known.push((Slices { limit: 3, ..slices(None, 4) }, 1_106_928, None));
    }
    for (model, states, steps) in known {
        let report = explore(&model, most());
        let story = report.story();
        let found = (report.states, report.broken.map(|(_, way)| way.len()));
        assert_eq!(found, (states, steps), "{model:?}: {story}");
    }
}

#[test]
fn the_second_model_has_the_states_it_is_known_to_have() {
    let rebuild = |fenced, strict| Rebuild { limit: 2, epochs: 2, spends: 4, fenced, strict };
    let known = [
        (rebuild(true, true), 93_723, None),
        (rebuild(false, true), 7_528, Some(8)),
        (rebuild(true, false), 302, Some(5)),
    ];
    for (model, states, steps) in known {
        let report = explore(&model, most());
        let story = report.story();
        let found = (report.states, report.broken.map(|(_, way)| way.len()));
        assert_eq!(found, (states, steps), "{model:?}: {story}");
    }
}

#[test]
fn no_loss_of_redis_and_no_second_master_overspends() {
    nothing_breaks("loss");
    nothing_breaks("loss twice");
    nothing_breaks("split");
    nothing_breaks("wiped");
}

#[test]
fn nothing_answered_at_durable_is_lost_in_a_failover() {
    nothing_breaks("failover");
    nothing_breaks("durable");
    nothing_breaks("rules");
    nothing_breaks("mixed");
}

#[test]
fn nothing_answered_at_durable_is_lost_in_a_restart() {
    nothing_breaks("restart");
    nothing_breaks("expiry");
    nothing_breaks("twins");
}

#[test]
fn nothing_answered_at_durable_is_lost_when_a_cluster_moves_its_shard() {
    nothing_breaks("moved");
    nothing_breaks("moved split");
}

#[test]
fn nothing_answered_at_strict_is_lost_with_redis() {
    nothing_breaks("strict");
}

#[test]
fn a_level_that_changes_neither_overspends_nor_loses_what_the_stronger_one_answered() {
    nothing_breaks("changed");
}

#[test]
fn nothing_answered_at_fast_is_lost_when_only_processes_die() {
    nothing_breaks("fast");
    nothing_breaks("torn");
}

#[test]
fn periods_and_budgets_do_not_pay_for_each_other() {
    nothing_breaks("periods");
    nothing_breaks("budgets");
}

#[test]
fn every_wrong_variant_is_caught_in_the_fewest_steps() {
    let mut wrongly = Vec::new();
    for (flaw, setup, breaks, steps) in wrong() {
        let setup = Setup { flaw: Some(flaw), ..setup };
        let report = explore(&Protocol { setup, watched: vec![breaks] }, most());
        println!("{flaw:?}, caught among {} states: {}", report.states, report.story());
        let found = report.broken.map(|(_, way)| way.len());
        if found != Some(steps) {
            wrongly.push(format!("{flaw:?}: {found:?} instead of {steps}"));
        }
    }
    assert!(wrongly.is_empty(), "{wrongly:#?}");
}

#[test]
fn each_wrong_variant_is_right_without_its_flaw() {
    let mut bounds: Vec<Setup> = Vec::new();
    for (flaw, setup, _, _) in wrong() {
        let known = CASES.iter().map(|(_, usual, _)| usual).chain(&bounds);
        if known.into_iter().any(|known| format!("{known:?}") == format!("{setup:?}")) {
            continue;
        }
        let report = explore(&Protocol { setup, watched: EVERYTHING.to_vec() }, most());
        println!("the bounds of {flaw:?}: {} states", report.states);
        assert!(report.broken.is_none(), "the bounds of {flaw:?}: {}", report.story());
        bounds.push(setup);
    }
}

#[test]
fn the_document_names_every_wrong_variant_and_its_steps() {
    let text = crate::tidy::read("docs/PROTOCOL.md");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for (flaw, _, _, steps) in wrong() {
        assert!(text.contains(&format!("`{flaw:?}`, {steps}")), "{flaw:?}, {steps}");
    }
}

#[test]
fn what_the_rules_are_about_does_happen() {
    type Goal = fn(&World) -> bool;
    let goals: [(&str, &str, Goal); 8] = [
        ("failover", "a rejection is answered", |world| {
            world.answered.iter().any(|answered| answered & REJECTED != 0)
        }),
        ("failover", "an old lease is released and its money spent again", |world| {
            world.epoch == 1
                && world.leased[0][0] == 0
                && world.grants()[..].len() == 2
                && world.grants[0].epoch == 0
                && world.settled[0] == 1
        }),
        ("failover", "two masters have approved the same key, and it is recorded once", |world| {
            let approved = |index: usize| {
                world.nodes()[index].entries().any(|(_, _, entry)| entry.approval().is_some())
            };
            world.alive == 2 && approved(0) && approved(1) && world.rows[0] == 1
        }),
        ("restart", "an approval is answered before Postgres has it", |world| {
            world.answered[0] == 1 && world.rows[0] == 0
        }),
        ("restart", "what an epoch had is released after a crash and spent again", |world| {
            world.crashes == 1
                && world.heard & 1 == 1
                && world.granted == 2
                && world.settled[0] == 1
        }),
        ("changed", "a lease is weakened by one of nothing, and spent from at once", |world| {
            let levels = world.grants().iter().map(|grant| (grant.amount, grant.level));
            let weakened = [(1, Level::Strict), (0, Level::Fast)];
            levels.eq(weakened) && world.answered[1] == 1 && world.rows[1] == 0
        }),
        ("periods", "half of a spend is refunded", |world| {
            world.rows[0] == 1 && world.returned[0] == 1 && world.settled[0] == 1
        }),
        ("budgets", "a spend is charged to two budgets", |world| world.rows[0] == 3),
    ];
    for (name, what, goal) in goals {
        let protocol = Protocol { setup: case(name), watched: Vec::new() };
        let report = explore(&Reach { protocol, goal }, most());
        assert!(report.broken.is_some(), "{name}: never that {what}");
    }
}
