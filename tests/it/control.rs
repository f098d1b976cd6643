//! Once a stop has returned, nothing that starts later is approved; once it is undone, nothing is
//! refused any more. Under load, by the order of real time.
//!
//! Sixteen spenders call without a pause while an administrator stops and starts. Each call is kept
//! with the instants around it; a call that lies wholly between the return of one control and the
//! beginning of the next has only one right outcome. `QUETRA_CASES` scales how often it stops. Not
//! here: what each control is (`mandates`, `agents`, `organization`).

use std::sync::{Arc, Mutex};

use quetra::proto::v1::{self, Decision, RejectionReason as Why};
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Code;

use crate::dice::setting;
use crate::harness::{Clients, Engine, FAST, STRICT, Server, ask, budget, on_all};

const SPENDERS: usize = 16;
/// Calls that lie wholly within each phase, at least.
const WITHIN: usize = 8;

/// How often it is stopped and started.
fn toggles() -> usize {
    usize::try_from(setting("QUETRA_CASES", 100_000) / 8_000).unwrap().clamp(8, 1_000)
}

/// What a call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Approved,
    Rejected(Why),
    Unauthenticated,
    /// Too much changed during the call; it says to repeat.
    Aborted,
}

/// One call of a spender.
#[derive(Clone, Copy, Debug)]
struct Call {
    began: Instant,
    ended: Instant,
    outcome: Outcome,
}

/// A time in which things stood still.
#[derive(Clone, Copy, Debug)]
struct Phase {
    /// When the control that began it had returned.
    from: Instant,
    /// When the next control was called.
    until: Instant,
    allowed: bool,
}

/// The spenders, and what they have done.
struct Load {
    calls: Arc<Mutex<Vec<Call>>>,
    /// A permit for each call that has ended.
    ended: Arc<Semaphore>,
    /// The key to use now.
    key: watch::Sender<Clients>,
    stop: watch::Sender<bool>,
    spenders: JoinSet<()>,
}

fn outcome(answer: Result<tonic::Response<v1::EvaluateResponse>, tonic::Status>) -> Outcome {
    match answer {
        Ok(answer) => {
            let answer = answer.into_inner();
            if answer.decision() == Decision::Approved {
                Outcome::Approved
            } else {
                Outcome::Rejected(answer.reasons[0].reason())
            }
        }
        Err(status) if status.code() == Code::Unauthenticated => Outcome::Unauthenticated,
        Err(status) if status.code() == Code::Aborted => Outcome::Aborted,
        Err(status) => panic!("a spender got {status:?}"),
    }
}

impl Load {
    fn start(client: Clients, agent_id: &str) -> Self {
        let (key, stop) = (watch::Sender::new(client), watch::Sender::new(false));
        let calls = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(Semaphore::new(0));
        let mut spenders = JoinSet::new();
        for _ in 0..SPENDERS {
            let (key, stop) = (key.subscribe(), stop.subscribe());
            let (calls, done) = (Arc::clone(&calls), Arc::clone(&ended));
            let agent_id = agent_id.to_owned();
            spenders.spawn(async move {
                while !*stop.borrow() {
                    // In this order: a call that is counted as begun after a change must not go
                    // by a key from before it.
                    let began = Instant::now();
                    let mut client = key.borrow().clone();
                    let answer = client.evaluate.evaluate(ask(&agent_id, 1)).await;
                    let ended = Instant::now();
                    let call = Call { began, ended, outcome: outcome(answer) };
                    calls.lock().unwrap().push(call);
                    done.add_permits(1);
                }
            });
        }
        Self { calls, ended, key, stop, spenders }
    }

    /// Lets some calls begin and end; more than there are spenders, so that some of them have begun
    /// behind this point.
    async fn breathe(&self) {
        let begun = self.ended.available_permits();
        self.ended.acquire_many(u32::try_from(begun).unwrap()).await.unwrap().forget();
        let enough = u32::try_from(SPENDERS + WITHIN).unwrap();
        self.ended.acquire_many(enough).await.unwrap().forget();
    }

    async fn stop(mut self) -> Vec<Call> {
        self.stop.send_replace(true);
        while let Some(ended) = self.spenders.join_next().await {
            ended.unwrap();
        }
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

/// Every call that lies within a phase had the outcome of that phase.
fn check(calls: &[Call], phases: &[Phase], stopped: &[Outcome]) {
    let (mut within, mut wrong) = ([0_usize, 0], Vec::new());
    for phase in phases {
        let inside =
            calls.iter().filter(|call| phase.from <= call.began && call.ended <= phase.until);
        for call in inside {
            let right = match phase.allowed {
                true => call.outcome == Outcome::Approved,
                false => stopped.contains(&call.outcome),
            };
            within[usize::from(phase.allowed)] += 1;
            if !right {
                wrong.push((phase, call));
            }
        }
    }
    assert!(wrong.is_empty(), "{} calls went wrong, the first: {:?}", wrong.len(), wrong[0]);
    let least = toggles() * WITHIN;
    assert!(within.iter().all(|count| *count >= least), "too few calls to tell: {within:?}");
}

/// Stops and starts, and notes when.
async fn toggle<F>(load: &Load, mut control: impl FnMut(usize, bool) -> F) -> Vec<Phase>
where
    F: Future<Output = ()>,
{
    let mut phases = Vec::new();
    let mut from = Instant::now();
    for round in 0..toggles() {
        for allowed in [false, true] {
            load.breathe().await;
            phases.push(Phase { from, until: Instant::now(), allowed: !allowed });
            control(round, allowed).await;
            from = Instant::now();
        }
    }
    load.breathe().await;
    phases.push(Phase { from, until: Instant::now(), allowed: true });
    phases
}

/// A server, its admin, and an agent with more money than it can spend here.
async fn start(engine: Engine) -> (Server, Clients, String, String) {
    let server = Server::on(engine).await;
    let mut admin = server.admin().await;
    let (agent, mandate) = admin.agent_with_mandate(budget(90_000_000, 100), vec![]).await;
    (server, admin, agent, mandate)
}

async fn nothing_is_approved_after_a_pause_and_nothing_refused_after_the_resumption(
    engine: Engine,
) {
    let (server, admin, agent, mandate) = start(engine).await;
    let load = Load::start(admin.clone(), &agent);
    let phases = toggle(&load, |_, allowed| {
        let (mut admin, mandate_id) = (admin.clone(), mandate.clone());
        async move {
            if allowed {
                let request = v1::ResumeMandateRequest { mandate_id };
                admin.mandates.resume_mandate(request).await.unwrap();
            } else {
                let request = v1::PauseMandateRequest { mandate_id };
                admin.mandates.pause_mandate(request).await.unwrap();
            }
        }
    });
    let phases = phases.await;
    check(&load.stop().await, &phases, &[Outcome::Rejected(Why::MandatePaused)]);
    server.stop().await;
}

async fn nothing_is_approved_after_a_revocation_and_nothing_refused_under_the_next_mandate(
    engine: Engine,
) {
    let (server, admin, agent, mandate) = start(engine).await;
    let mut drafts = vec![mandate];
    for _ in 0..toggles() {
        let mut admin = admin.clone();
        drafts.push(admin.mandate(&agent, budget(90_000_000, 100), vec![]).await);
    }
    let load = Load::start(admin.clone(), &agent);
    let phases = toggle(&load, |round, allowed| {
        let mandate_id = drafts[round + usize::from(allowed)].clone();
        let mut admin = admin.clone();
        async move {
            if allowed {
                let request = v1::ActivateMandateRequest { mandate_id };
                admin.mandates.activate_mandate(request).await.unwrap();
            } else {
                let request = v1::RevokeMandateRequest { mandate_id, ..Default::default() };
                admin.mandates.revoke_mandate(request).await.unwrap();
            }
        }
    });
    let phases = phases.await;
    check(&load.stop().await, &phases, &[Outcome::Rejected(Why::MandateRevoked)]);
    server.stop().await;
}

async fn nothing_is_approved_after_a_suspension_and_nothing_refused_after_the_resumption(
    engine: Engine,
) {
    let (server, admin, agent, _) = start(engine).await;
    let load = Load::start(admin.clone(), &agent);
    let phases = toggle(&load, |_, allowed| {
        let (mut admin, agent_id) = (admin.clone(), agent.clone());
        async move {
            if allowed {
                let request = v1::ResumeAgentRequest { agent_id };
                admin.agents.resume_agent(request).await.unwrap();
            } else {
                let request = v1::SuspendAgentRequest { agent_id };
                admin.agents.suspend_agent(request).await.unwrap();
            }
        }
    });
    let phases = phases.await;
    check(&load.stop().await, &phases, &[Outcome::Rejected(Why::AgentNotActive)]);
    server.stop().await;
}

async fn nothing_is_approved_after_a_freeze_and_nothing_refused_after_the_thaw(engine: Engine) {
    let (server, admin, agent, _) = start(engine).await;
    let load = Load::start(admin.clone(), &agent);
    let phases = toggle(&load, |_, allowed| {
        let mut admin = admin.clone();
        async move {
            let client = &mut admin.organization;
            if allowed {
                let request = v1::UnfreezeOrganizationRequest {};
                client.unfreeze_organization(request).await.unwrap();
            } else {
                let request = v1::FreezeOrganizationRequest {};
                client.freeze_organization(request).await.unwrap();
            }
        }
    });
    let phases = phases.await;
    check(&load.stop().await, &phases, &[Outcome::Rejected(Why::OrganizationFrozen)]);
    server.stop().await;
}

async fn nothing_is_served_after_a_key_is_revoked_and_nothing_refused_with_the_next_one(
    engine: Engine,
) {
    let (server, mut admin, agent, _) = start(engine).await;
    let mut keys = Vec::new();
    for n in 0..=toggles() {
        let request = v1::CreateApiKeyRequest {
            name: format!("key {n}"),
            role: v1::Role::Agent.into(),
            agent_id: agent.clone(),
            ..Default::default()
        };
        let made = admin.organization.create_api_key(request).await.unwrap().into_inner();
        keys.push((made.api_key.unwrap().id, made.key));
    }
    let load = Load::start(server.with_key(&keys[0].1).await, &agent);
    let server_of_keys = &server;
    let phases = toggle(&load, |round, allowed| {
        let (id, next) = keys[round + usize::from(allowed)].clone();
        let (mut admin, key) = (admin.clone(), load.key.clone());
        async move {
            if allowed {
                // Not earlier: a connection that nothing comes on is closed after ten seconds, and
                // a call that meets that moment breaks off.
                drop(key.send_replace(server_of_keys.with_key(&next).await));
            } else {
                let request = v1::RevokeApiKeyRequest { api_key_id: id };
                admin.organization.revoke_api_key(request).await.unwrap();
            }
        }
    });
    let phases = phases.await;
    check(&load.stop().await, &phases, &[Outcome::Unauthenticated]);
    server.stop().await;
}

on_all! {
    nothing_is_approved_after_a_pause_and_nothing_refused_after_the_resumption;
    nothing_is_approved_after_a_revocation_and_nothing_refused_under_the_next_mandate;
    nothing_is_approved_after_a_suspension_and_nothing_refused_after_the_resumption;
    nothing_is_approved_after_a_freeze_and_nothing_refused_after_the_thaw;
    nothing_is_served_after_a_key_is_revoked_and_nothing_refused_with_the_next_one;
}

#[tokio::test]
async fn a_late_approval_and_a_false_refusal_are_both_noticed() {
    let start = Instant::now();
    let at = |ms: u64| start + std::time::Duration::from_millis(ms);
    let phase = |from: u64, allowed: bool| Phase { from: at(from), until: at(from + 10), allowed };
    let call = |began: u64, outcome| Call { began: at(began), ended: at(began + 1), outcome };
    let stopped = Outcome::Rejected(Why::MandatePaused);
    let mut calls = vec![call(0, Outcome::Approved); toggles() * SPENDERS];
    calls.extend(vec![call(20, stopped); toggles() * SPENDERS]);
    let phases = [phase(0, true), phase(20, false)];
    check(&calls, &phases, &[stopped]);
    for wrong in [call(25, Outcome::Approved), call(5, stopped), call(5, Outcome::Aborted)] {
        let calls = [&calls[..], &[wrong]].concat();
        let checked = std::panic::catch_unwind(|| check(&calls, &phases, &[stopped]));
        assert!(checked.is_err(), "{wrong:?}");
    }
    // What overlaps a control may go either way.
    for outcome in [Outcome::Approved, stopped] {
        for (began, ended) in [(at(9), at(11)), (at(12), at(18)), (at(19), at(21))] {
            let overlapping = Call { began, ended, outcome };
            check(&[&calls[..], &[overlapping]].concat(), &phases, &[stopped]);
        }
    }
}
