//! Three servers as processes on one store, under load, while everything fails that can: each run
//! ends in the checker.
//!
//! The short form makes every kind of fault once, in an order that `QUETRA_SEED` says, and is in
//! the normal run. `QUETRA_CHAOS` is how many more the long form makes at random, and
//! `QUETRA_CALLS` how many answers come between two; see docs/CHECKER.md. Not here: single faults
//! at chosen points (`crash`, `faults`).

mod clock;
mod fault;
mod scene;
mod waits;

use std::ops::Range;
use std::time::Duration;

use quetra::proto::v1::Durability;

use self::fault::Fault;
use self::scene::{Home, Scene};
use crate::checker::escrow::Answers;
use crate::checker::history::Call;
use crate::crash::assert_rich;
use crate::dice::{Dice, setting};

/// Answers that clients must get between two faults.
const CALLS: u64 = 40;

/// These kinds of faults, each once, and in the long form as many of all as are asked for.
fn plan(once: Range<usize>, all: usize, dice: &mut Dice) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut kinds = once.collect::<Vec<_>>();
    while !kinds.is_empty() {
        let kind = kinds.swap_remove(dice.below(kinds.len()));
        faults.push(Fault::new(kind, 1_500, dice));
    }
    for _ in 0..setting("QUETRA_CHAOS", 0) {
        // Now and then longer than Postgres bears with a server that does nothing.
        let longest = if dice.chance(15) { 8_000 } else { 2_000 };
        faults.push(Fault::new(dice.below(all), longest, dice));
    }
    faults
}

async fn three_servers_on(home: Home, once: Range<usize>, all: usize) {
    let seed = setting("QUETRA_SEED", 11);
    println!("QUETRA_SEED={seed} makes the same faults again");
    let calls = usize::try_from(setting("QUETRA_CALLS", CALLS)).unwrap();
    let mut dice = Dice::new(seed);
    let faults = plan(once, all, &mut dice);
    let history = play(home, &faults, calls).await;
    assert_rich(&history);
}

/// Makes one fault after the other, and judges what came of it.
async fn play(home: Home, faults: &[Fault], calls: usize) -> Vec<Call> {
    let mut scene = Scene::new(home, 1).await;
    for (number, fault) in faults.iter().enumerate() {
        scene.work(calls).await;
        println!("fault {number}: {fault:?}");
        scene.make(*fault, calls.min(40) / 4).await;
    }
    scene.work(calls).await;
    scene.judge().await
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_keep_every_invariant_whatever_fails() {
    three_servers_on(Home::postgres(), 0..Fault::KINDS, Fault::KINDS).await;
}

/// Each fault of a Redis once at one level, and in the long form every fault at each.
async fn three_servers_on_redis(level: &'static str, answers: Answers) {
    three_servers_on_any_redis(Home::redis(level, answers), answers).await;
}

async fn three_servers_on_any_redis(home: Home, answers: Answers) {
    let (once, all) = match answers {
        Answers::Recorded => (Fault::KINDS..Fault::KINDS_WITH_LOSS, Fault::KINDS_WITH_LOSS),
        Answers::Ahead => (Fault::KINDS..Fault::KINDS_WITH_REDIS - 1, Fault::KINDS_WITH_REDIS),
        Answers::MayBeLost => {
            (Fault::KINDS_WITH_REDIS - 3..Fault::KINDS_WITH_LOSS, Fault::KINDS_WITH_LOSS)
        }
    };
    three_servers_on(home, once, all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_on_a_redis_keep_every_invariant_at_strict() {
    three_servers_on_redis("strict", Answers::Recorded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_on_a_redis_keep_what_is_promised_at_durable() {
    three_servers_on_redis("durable", Answers::Ahead).await;
}

/// What was answered may be lost with the disk; what was leased must not be spent twice for that,
/// whatever the levels of mandates beside each other.
#[tokio::test(flavor = "multi_thread")]
async fn three_servers_on_a_redis_that_forgets_overspend_nothing_at_mixed_levels() {
    let levels = &[Durability::Unspecified, Durability::Strict, Durability::Fast];
    let home = Home::redis("durable", Answers::MayBeLost).asked_for(levels);
    three_servers_on_any_redis(home, Answers::MayBeLost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_on_a_redis_keep_what_is_promised_at_fast() {
    three_servers_on_redis("fast", Answers::MayBeLost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_on_a_redis_cluster_whose_slots_move_keep_what_is_promised_at_durable() {
    let seed = setting("QUETRA_SEED", 11);
    println!("QUETRA_SEED={seed} makes the same faults again");
    let calls = usize::try_from(setting("QUETRA_CALLS", CALLS)).unwrap();
    let faults = Fault::in_cluster(setting("QUETRA_CHAOS", 0), &mut Dice::new(seed));
    let history = play(Home::redis_cluster("durable", Answers::Ahead), &faults, calls).await;
    assert!(history.len() >= calls * faults.len(), "{} calls", history.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_on_one_server_hold_for_decisions_on_all_others() {
    // Many who stop and start things, and nothing that fails.
    let scene = Scene::new(Home::postgres(), 4).await;
    let mut rounds = setting("QUETRA_CHAOS", 0) + 6;
    while rounds > 0 {
        scene.work(100).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        rounds -= 1;
    }
    let history = scene.judge().await;
    let stops = scene::stops(&history);
    assert!(stops.iter().all(|stops| *stops >= 2), "too few stops to tell: {stops:?}");
}
