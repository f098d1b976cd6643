//! A Redis whose machine loses power: what it had written and not synced is gone. At `durable` no
//! answer is, and at `fast` no money.
//!
//! It runs with `crash/power.c` preloaded, as a process that is only killed loses nothing. Not
//! here: power failures of the embedded server (`crash`).

use std::time::Duration;

use quetra::config::DurabilityLevel;
use quetra::proto::v1::Decision;
use tokio::time::sleep;

use super::{all_are_there, count, insist, server, spend_what_can_be, spent, under_load};
use crate::crash::power::{fail_redis as fail, noted};
use crate::dice::{Dice, setting};
use crate::harness::{FAST, ask, budget};

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
    spend_what_can_be(&mut admin, &agent, 100 - sum).await;
    server.stop().await;
}
