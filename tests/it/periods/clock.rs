//! Clocks that are set back: a window that is over never opens again.
//!
//! Not here: forward jumps, which are only time that passes.

use std::sync::Arc;

use tonic::Code;

use super::*;
use crate::checker::read::check_file;
use crate::harness::{Clients, Folder, config, link, run};

/// What a spend got, where it may also be that nothing could be decided.
async fn verdict(admin: &mut Clients, agent_id: &str, amount: i64) -> Result<Decision, Code> {
    let answer = admin.evaluate.evaluate(ask(agent_id, amount)).await;
    answer.map(|answer| answer.into_inner().decision()).map_err(|status| status.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_back_over_midnight_does_not_open_yesterday_again() {
    let midnight = at("2026-03-11T00:00:00Z");
    let (server, clock, mut admin) = start(midnight - SignedDuration::from_hours(2)).await;
    let (agent_id, _) = admin.agent_with_mandate(hundred(Daily), Vec::new()).await;
    let id = agent_id.as_str();
    assert_eq!(spend(&mut admin, id, 10).await, (true, 90, midnight));
    clock.set(midnight + MICRO);
    assert!(spend(&mut admin, id, 100).await.0);

    // Ninety of yesterday were never spent, and never will be.
    for back in [MICRO, SignedDuration::from_secs(2), SignedDuration::from_hours(1)] {
        clock.set(midnight - back);
        for amount in [90, 1] {
            let verdict = verdict(&mut admin, id, amount).await;
            assert_eq!(verdict, Err(Code::Aborted), "{back:?} before midnight");
        }
    }
    // Nor does a day before that, which has not begun for this mandate.
    clock.set(midnight - SignedDuration::from_hours(30));
    assert!(verdict(&mut admin, id, 1).await != Ok(Decision::Approved));

    clock.set(midnight + MICRO);
    assert_eq!(verdict(&mut admin, id, 1).await, Ok(Decision::Rejected));
    let day = SignedDuration::from_hours(24);
    assert_eq!(approved(&mut admin, id, [midnight - day, midnight]).await, 10);
    assert_eq!(approved(&mut admin, id, [midnight, midnight + day]).await, 100);
    clock.set(midnight + day);
    assert_eq!(verdict(&mut admin, id, 100).await, Ok(Decision::Approved));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_back_within_a_window_goes_on_from_where_the_record_ends() {
    let noon = at("2026-03-10T12:00:00Z");
    let (server, clock, mut admin) = start(noon - SignedDuration::from_hours(1)).await;
    let rate = v1::RateLimitRule { max_transactions: 2, window_minutes: 1 };
    let rule = v1::Rule { kind: Some(v1::rule::Kind::RateLimit(rate)) };
    let (agent_id, _) = admin.agent_with_mandate(hundred(Daily), vec![rule]).await;
    let id = agent_id.as_str();
    clock.set(noon);
    let first = admin.spend(ask(id, 10)).await;
    assert_eq!(time(first.decided_at), Some(noon));

    clock.set(noon - SignedDuration::from_mins(30));
    let second = admin.spend(ask(id, 10)).await;
    assert_eq!(second.decision(), Decision::Approved);
    assert_eq!(time(second.decided_at), Some(noon), "time never runs backwards in the record");
    assert_eq!(verdict(&mut admin, id, 10).await, Ok(Decision::Rejected), "both are in the window");
    // Half an hour passes for the clock before it does for the record.
    clock.set(noon - SignedDuration::from_mins(1));
    assert_eq!(verdict(&mut admin, id, 10).await, Ok(Decision::Rejected));
    clock.set(noon + SignedDuration::from_mins(1));
    assert_eq!(verdict(&mut admin, id, 10).await, Ok(Decision::Approved));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_with_a_clock_set_back_remembers_how_late_it_was() {
    let midnight = at("2026-03-11T00:00:00Z");
    let (folder, clock) = (Folder::new(), Arc::new(ManualClock::new(midnight - MOMENT)));
    let (started, stop, task) = run(config(&folder), clock.clone()).await;
    let key = started.first_start.unwrap().admin_key;
    let connect = |addr| {
        let channel = tonic::transport::Channel::from_shared(format!("http://{addr}"));
        let key = key.clone();
        async move { Clients::new(link(channel.unwrap().connect().await.unwrap(), &key)) }
    };
    let mut admin = connect(started.addr).await;
    let (agent_id, _) = admin.agent_with_mandate(hundred(Daily), Vec::new()).await;
    clock.set(midnight);
    assert_eq!(verdict(&mut admin, &agent_id, 100).await, Ok(Decision::Approved));
    drop((stop, admin));
    task.await.unwrap().unwrap();

    let clock = Arc::new(ManualClock::new(midnight - MICRO));
    let (started, stop, task) = run(config(&folder), clock.clone()).await;
    let mut admin = connect(started.addr).await;
    assert_eq!(verdict(&mut admin, &agent_id, 1).await, Err(Code::Aborted));
    clock.set(midnight + MICRO);
    assert_eq!(verdict(&mut admin, &agent_id, 1).await, Ok(Decision::Rejected));
    drop((stop, admin));
    task.await.unwrap().unwrap();
    check_file(&folder.database()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mandate_that_expired_does_not_come_back_with_an_earlier_clock() {
    let end = at("2026-03-10T12:00:00Z");
    let (server, clock, mut admin) = start(end - SignedDuration::from_hours(1)).await;
    let (agent_id, mandate_id) = admin.agent_with_mandate(hundred(Daily), Vec::new()).await;
    let request = v1::UpdateMandateRequest {
        mandate_id,
        update_mask: Some(FieldMask { paths: vec!["valid_until".to_owned()] }),
        valid_until: Some(prost_types::Timestamp { seconds: end.as_second(), nanos: 0 }),
        ..Default::default()
    };
    admin.mandates.update_mandate(request).await.unwrap();
    assert_eq!(verdict(&mut admin, &agent_id, 1).await, Ok(Decision::Approved));
    clock.set(end);
    assert_eq!(verdict(&mut admin, &agent_id, 1).await, Ok(Decision::Rejected));
    clock.set(end - MICRO);
    assert_eq!(verdict(&mut admin, &agent_id, 1).await, Err(Code::Aborted));
    server.stop().await;
}
