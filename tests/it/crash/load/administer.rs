//! Administrators at work while others spend: they pause and resume, move limits, freeze, suspend,
//! revoke a mandate and put another in force, and revoke keys that are in use.
//!
//! Every step is repeated until it is known to be done, on whichever server answers. Not here: what
//! spenders do (`load`).

use quetra::proto::v1;
use tonic::{Response, Status};

use super::{AMOUNT_MAX, Client, Outcome, PAUSE, Request, Target, bare, connect};
use crate::checker::history::Switch;
use crate::harness::{Clients, budget};

/// What an administrator does to a mandate.
#[derive(Clone, Copy)]
enum Step {
    Pause,
    Resume,
    Revoke,
    Activate,
    Total(i64),
}

async fn take(calls: &mut Clients, mandate_id: String, step: Step) -> Result<Outcome, Status> {
    let calls = &mut calls.mandates;
    let mandate = match step {
        Step::Pause => {
            let request = v1::PauseMandateRequest { mandate_id };
            calls.pause_mandate(request).await?.into_inner().mandate
        }
        Step::Resume => {
            let request = v1::ResumeMandateRequest { mandate_id };
            calls.resume_mandate(request).await?.into_inner().mandate
        }
        Step::Revoke => {
            let request = v1::RevokeMandateRequest { mandate_id, ..Default::default() };
            calls.revoke_mandate(request).await?.into_inner().mandate
        }
        Step::Activate => {
            let request = v1::ActivateMandateRequest { mandate_id };
            calls.activate_mandate(request).await?.into_inner().mandate
        }
        Step::Total(total) => {
            let total = Some(total);
            let request = v1::UpdateBudgetRequest { mandate_id, total, ..Default::default() };
            calls.update_budget(request).await?.into_inner().mandate
        }
    };
    Ok(Outcome::Changed { version: mandate.unwrap().version })
}

fn done<T>(answer: Result<Response<T>, Status>) -> Result<Outcome, Status> {
    answer.map(|_| Outcome::Resolved)
}

/// Turns an organization or an agent on or off, or a credential off.
async fn turn(
    calls: &mut Clients,
    (what, id): (Switch, String),
    on: bool,
) -> Result<Outcome, Status> {
    match (what, on) {
        (Switch::Organization, true) => {
            let request = v1::UnfreezeOrganizationRequest {};
            done(calls.organization.unfreeze_organization(request).await)
        }
        (Switch::Organization, false) => {
            let request = v1::FreezeOrganizationRequest {};
            done(calls.organization.freeze_organization(request).await)
        }
        (Switch::Agent, true) => {
            done(calls.agents.resume_agent(v1::ResumeAgentRequest { agent_id: id }).await)
        }
        (Switch::Agent, false) => {
            done(calls.agents.suspend_agent(v1::SuspendAgentRequest { agent_id: id }).await)
        }
        (Switch::Credential, _) => {
            let request = v1::RevokeApiKeyRequest { api_key_id: id };
            done(calls.organization.revoke_api_key(request).await)
        }
    }
}

impl Client {
    /// Changes mandates until it is stopped, and leaves them active.
    pub(crate) async fn administer(mut self) {
        let mut targets = self.shared.agents.clone();
        while self.shared.is_running() {
            let which = self.dice.below(targets.len());
            match self.dice.below(8) {
                0 | 1 => {
                    self.change(&targets[which], Step::Pause).await;
                    self.change(&targets[which], Step::Resume).await;
                }
                2 => self.replace(&mut targets[which]).await,
                _ => self.move_limit(&targets[which]).await,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Freezes, suspends and revokes keys until it is stopped, and leaves everything on.
    pub(crate) async fn control(mut self) {
        while self.shared.is_running() {
            let agent = self.dice.pick(&self.shared.agents).agent_id.clone();
            match self.dice.below(4) {
                0 => self.turn(Switch::Organization, self.shared.org.clone(), false).await,
                1 | 2 => self.turn(Switch::Agent, agent.clone(), false).await,
                _ => self.use_up_a_key(&agent).await,
            }
            self.turn(Switch::Organization, self.shared.org.clone(), true).await;
            self.turn(Switch::Agent, agent, true).await;
            tokio::time::sleep(PAUSE * 5).await;
        }
    }

    async fn move_limit(&mut self, target: &Target) {
        let mandate_id = target.mandate_id.clone();
        let request = v1::GetBudgetRequest { mandate_id, ..Default::default() };
        let Ok(answer) = self.calls.budget.get_budget(request).await else {
            self.reconnect().await;
            return;
        };
        let spent = answer.into_inner().budget.unwrap().spent;
        let total = (spent + self.dice.between(-100, 200)).max(AMOUNT_MAX);
        self.change(target, Step::Total(total)).await;
    }

    /// Revokes a mandate, and puts a new one in force.
    async fn replace(&mut self, target: &mut Target) {
        self.change(target, Step::Revoke).await;
        loop {
            let request = v1::CreateMandateRequest {
                agent_id: target.agent_id.clone(),
                name: "another mandate".to_owned(),
                budget: Some(budget(500, AMOUNT_MAX)),
                ..Default::default()
            };
            // One of which nobody heard stays a draft.
            match self.calls.mandates.create_mandate(request).await {
                Ok(created) => {
                    target.mandate_id = created.into_inner().mandate.unwrap().id;
                    break;
                }
                Err(_) => self.reconnect().await,
            }
        }
        // Not while its agent is suspended.
        while let Outcome::Failed(_) = self.change(target, Step::Activate).await {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// How a step ended that is known to have ended.
    async fn change(&mut self, target: &Target, step: Step) -> Outcome {
        loop {
            let about = Request::Change { mandate: bare(&target.mandate_id) };
            let call = take(&mut self.calls, target.mandate_id.clone(), step);
            let outcome = self.shared.note(about, call).await;
            if outcome != Outcome::Unknown {
                return outcome;
            }
            self.reconnect().await;
        }
    }

    async fn turn(&mut self, what: Switch, id: String, on: bool) {
        loop {
            let about = Request::Switch { what, id: bare(&id), on };
            let call = turn(&mut self.calls, (what, id.clone()), on);
            if self.shared.note(about, call).await != Outcome::Unknown {
                return;
            }
            self.reconnect().await;
        }
    }

    /// Makes a key, spends with it, revokes it, and goes on trying for a while.
    async fn use_up_a_key(&mut self, agent_id: &str) {
        let request = v1::CreateApiKeyRequest {
            name: format!("key {} of {}", self.asked.len(), self.name),
            role: v1::Role::Agent.into(),
            agent_id: agent_id.to_owned(),
            ..Default::default()
        };
        let Ok(made) = self.calls.organization.create_api_key(request).await else {
            self.reconnect().await;
            return;
        };
        let made = made.into_inner();
        let id = made.api_key.unwrap().id;
        let mine = (self.key.clone(), self.by.clone());
        for is_revoked in [false, true] {
            if is_revoked {
                self.turn(Switch::Credential, id.clone(), false).await;
            }
            (self.key, self.by) = (made.key.clone(), bare(&id));
            self.reconnect().await;
            for _ in 0..3 {
                let request = self.request();
                let request = v1::EvaluateRequest { agent_id: agent_id.to_owned(), ..request };
                self.asked.push(request.clone());
                self.decide(request).await;
                tokio::time::sleep(PAUSE).await;
            }
            (self.key, self.by) = mine.clone();
            self.calls = connect(&self.urls.borrow().clone()[0], &self.key);
        }
    }
}
