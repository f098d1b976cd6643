//! A Redis whose machine loses power: what it had written and not synced is gone. At `durable` no
//! answer is, and at `fast` no money.
//!
//! It runs with `crash/power.c` preloaded, as a process that is only killed loses nothing. Not
//! here: power failures of the embedded server (`crash`).

use std::time::Duration;

use quetra::config::DurabilityLevel;
use quetra::proto::v1::Decision;
use tokio::time::sleep;

use super::{all_are_there, call, count, insist, server, spent, under_load};
use crate::crash::power;
use crate::dice::{Dice, setting};
use crate::harness::redis::Redis;
use crate::harness::{FAST, ask, budget};

/// A new one that runs with what notes what is not synced.
fn noted(fsync: &str) -> Redis {
    let mut redis = Redis::start(fsync);
    redis.kill();
    redis.preload(power::build);
    redis.again();
    redis
}

/// Its machine loses power; how many writes were not synced.
fn fail(redis: &mut Redis, dice: &mut Dice) -> usize {
    redis.kill();
    let unsynced = redis.logs().iter().map(|log| power::fail_file(log, dice)).sum();
    redis.again();
    unsynced
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_failure_takes_no_answer_at_durable() {
    let mut dice = Dice::new(setting("QUETRA_SEED", 5));
    let mut redis = noted("always");
    let server = server(&redis, DurabilityLevel::Durable).await;
    let mut admin = server.admin().await;
    // Enough although each failure strands a slice, a quarter of what is left.
    let (agent, _) = admin.agent_with_mandate(budget(20_000, 1), vec![]).await;
    let (approved, rejected) = under_load(&[admin.clone()], &agent, 15, async {
        for _ in 0..3 {
            sleep(Duration::from_millis(200)).await;
            fail(&mut redis, &mut dice);
        }
    })
    .await;
    assert_eq!(rejected, 0, "nothing is falsely rejected");
    all_are_there(&mut admin, &approved).await;
    assert_eq!(spent(&mut admin, &agent).await, count(&approved));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_failure_takes_records_at_fast_and_never_money() {
    let mut dice = Dice::new(setting("QUETRA_SEED", 5));
    let mut redis = noted("everysec");
    let server = server(&redis, FAST).await;
    let mut admin = server.admin().await;
    let (agent, _) = admin.agent_with_mandate(budget(100, 1), vec![]).await;
    let (mut sum, mut unsynced) = (0, 0);
    for _ in 0..3 {
        for _ in 0..10 {
            let answer = insist(&mut admin, &ask(&agent, 1)).await;
            assert_eq!(answer.decision(), Decision::Approved, "{}", answer.explanation);
            sum += 1;
        }
        unsynced += fail(&mut redis, &mut dice);
    }
    assert!(unsynced > 0, "everything was synced, so nothing was tested");
    let mut in_vain = 0;
    while in_vain < 5 {
        match call(&mut admin, &ask(&agent, 1)).await {
            Some(answer) if answer.decision() == Decision::Approved => sum += 1,
            Some(_) | None => in_vain += 1,
        }
        assert!(sum <= 100, "overspent");
    }
    server.stop().await;
}
