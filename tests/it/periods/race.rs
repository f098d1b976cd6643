//! Many callers while a window ends: each window gets exactly what it has, whoever comes first.
//!
//! Not here: races within one window (`evaluate`).

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;

use super::*;

/// Days that end under load.
const DAYS: usize = 6;
const CALLERS: usize = 8;
/// Calls a day: three times what its budget can take.
const CALLS: usize = 48;

#[tokio::test(flavor = "multi_thread")]
async fn callers_at_the_end_of_a_day_get_every_day_exactly_once() {
    let first = at("2026-03-10T00:00:00Z");
    let day = SignedDuration::from_hours(24);
    let (server, clock, mut admin) = start(first + SignedDuration::from_hours(12)).await;
    let (agent_id, _) = admin.agent_with_mandate(hundred(Daily), Vec::new()).await;
    let answered = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (mut client, agent_id) = (admin.clone(), agent_id.clone());
        let (answered, clock) = (Arc::clone(&answered), clock.clone());
        callers.spawn(async move {
            let mut approved = Vec::new();
            for _ in 0..DAYS * CALLS / CALLERS {
                // A call that a day's end overtakes too often is told so, and asks again.
                let request = ask(&agent_id, 7);
                let answer = loop {
                    match client.evaluate.evaluate(request.clone()).await {
                        Ok(answer) => break answer.into_inner(),
                        Err(status) => assert_eq!(status.code(), tonic::Code::Aborted),
                    }
                };
                if answer.decision() == Decision::Approved {
                    approved.push(time(answer.decided_at).unwrap());
                }
                let done = answered.fetch_add(1, Ordering::SeqCst) + 1;
                if done % CALLS == 0 {
                    let days = i32::try_from(done / CALLS).unwrap();
                    clock.set(first + day * days);
                }
            }
            approved
        });
    }
    let told: Vec<Timestamp> = callers.join_all().await.into_iter().flatten().collect();
    for number in 0..i32::try_from(DAYS).unwrap() {
        let (start, end) = (first + day * number, first + day * (number + 1));
        let here = told.iter().filter(|at| (start..end).contains(*at)).count();
        // Fourteen sevens fit into a hundred.
        assert_eq!(here, 14, "day {number} as the callers saw it");
        assert_eq!(approved(&mut admin, &agent_id, [start, end]).await, 98, "day {number}");
    }
    server.stop().await;
}
