//! `MandatesService`: a mandate's life, its changes, and what its signature covers.
//!
//! `mandates/life.rs` has the steps and time, `change.rs` updates, `limits.rs` live budgets,
//! `signature.rs` hash, signature and token. Not here: how the rules decide (`domain`), and
//! promises under concurrency (`control`).

mod change;
mod life;
mod limits;
mod lists;
mod signature;

use std::sync::Arc;

use jiff::Timestamp;
use quetra::clock::ManualClock;
use quetra::proto::v1::{self, Decision, MandateStatus, RejectionReason};
use tonic::{Response, Status};

use crate::harness::{Clients, Server, ask};

/// Noon on a Monday.
const NOON: &str = "2026-05-04T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn message(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}

/// A server whose clock the test moves, and its admin.
async fn start() -> (Server, Clients, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(at(NOON)));
    let server = Server::with(|_| {}, Arc::<ManualClock>::clone(&clock)).await;
    let admin = server.admin().await;
    (server, admin, clock)
}

/// One step through a mandate's life.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Activate,
    Pause,
    Resume,
    Revoke,
}

/// Short names for the calls of these tests.
impl Clients {
    async fn step(&mut self, id: &str, step: Step) -> Result<v1::Mandate, Status> {
        let mandate_id = id.to_owned();
        let client = &mut self.mandates;
        let mandate = match step {
            Step::Activate => {
                let request = v1::ActivateMandateRequest { mandate_id };
                client.activate_mandate(request).await?.into_inner().mandate
            }
            Step::Pause => {
                let request = v1::PauseMandateRequest { mandate_id };
                client.pause_mandate(request).await?.into_inner().mandate
            }
            Step::Resume => {
                let request = v1::ResumeMandateRequest { mandate_id };
                client.resume_mandate(request).await?.into_inner().mandate
            }
            Step::Revoke => {
                let request =
                    v1::RevokeMandateRequest { mandate_id, reason: "no longer needed".to_owned() };
                client.revoke_mandate(request).await?.into_inner().mandate
            }
        };
        Ok(mandate.unwrap())
    }

    async fn get(&mut self, id: &str) -> v1::Mandate {
        self.version(id, 0).await.unwrap()
    }

    async fn version(&mut self, id: &str, version: i64) -> Result<v1::Mandate, Status> {
        let request = v1::GetMandateRequest { mandate_id: id.to_owned(), version };
        Ok(self.mandates.get_mandate(request).await?.into_inner().mandate.unwrap())
    }

    async fn update(
        &mut self,
        id: &str,
        paths: &[&str],
        change: impl FnOnce(&mut v1::UpdateMandateRequest),
    ) -> Result<Response<v1::UpdateMandateResponse>, Status> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let mut request = v1::UpdateMandateRequest {
            mandate_id: id.to_owned(),
            update_mask: Some(prost_types::FieldMask { paths }),
            ..Default::default()
        };
        change(&mut request);
        self.mandates.update_mandate(request).await
    }

    async fn limit(&mut self, id: &str, total: i64) -> Result<v1::Mandate, Status> {
        let request = v1::UpdateBudgetRequest {
            mandate_id: id.to_owned(),
            total: Some(total),
            ..Default::default()
        };
        Ok(self.mandates.update_budget(request).await?.into_inner().mandate.unwrap())
    }

    /// The reasons of a rejection; none if it was approved.
    async fn judge(&mut self, agent_id: &str, amount: i64) -> Vec<RejectionReason> {
        let answer = self.spend(ask(agent_id, amount)).await;
        let reasons = answer.reasons.iter().map(v1::Reason::reason).collect::<Vec<_>>();
        assert_eq!(answer.decision() == Decision::Approved, reasons.is_empty(), "{answer:?}");
        reasons
    }

    async fn agent_named(&mut self, name: &str) -> String {
        let request = v1::RegisterAgentRequest { name: name.to_owned(), ..Default::default() };
        let agent = self.agents.register_agent(request).await.unwrap().into_inner();
        agent.agent.unwrap().id
    }
}

/// The mandate of an update's answer.
fn updated(answer: Result<Response<v1::UpdateMandateResponse>, Status>) -> v1::Mandate {
    answer.unwrap().into_inner().mandate.unwrap()
}

/// What can be said of a mandate without its budget.
fn stand(mandate: &v1::Mandate) -> (MandateStatus, i64) {
    (mandate.status(), mandate.version)
}
