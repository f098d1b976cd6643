//! `AgentsService`: registering, describing, stopping and ending agents.
//!
//! `agents/ending.rs` has decommissioning. Not here: what an agent's mandate lets it spend
//! (`mandates`), and stopping it under load (`control`).

mod ending;

use std::collections::BTreeMap;

use quetra::proto::v1::{self, AgentStatus, Framework, RejectionReason};
use tonic::{Code, Response, Status};

use crate::harness::{Clients, Server, ask, budget, refused};

async fn start() -> (Server, Clients) {
    let server = Server::start().await;
    let admin = server.admin().await;
    (server, admin)
}

fn named(name: &str) -> v1::RegisterAgentRequest {
    v1::RegisterAgentRequest { name: name.to_owned(), ..Default::default() }
}

/// Short names for the calls of these tests.
impl Clients {
    async fn register(&mut self, name: &str) -> v1::Agent {
        let made = self.agents.register_agent(named(name)).await.unwrap().into_inner();
        made.agent.unwrap()
    }

    async fn look_up(&mut self, agent_id: &str) -> v1::Agent {
        let request = v1::GetAgentRequest { agent_id: agent_id.to_owned(), include_mandate: false };
        self.agents.get_agent(request).await.unwrap().into_inner().agent.unwrap()
    }

    async fn change_agent(
        &mut self,
        agent_id: &str,
        paths: &[&str],
        change: impl FnOnce(&mut v1::UpdateAgentRequest),
    ) -> Result<Response<v1::UpdateAgentResponse>, Status> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let mut request = v1::UpdateAgentRequest {
            agent_id: agent_id.to_owned(),
            update_mask: Some(prost_types::FieldMask { paths }),
            ..Default::default()
        };
        change(&mut request);
        self.agents.update_agent(request).await
    }

    async fn suspend(&mut self, agent_id: &str) -> Result<v1::Agent, Status> {
        let request = v1::SuspendAgentRequest { agent_id: agent_id.to_owned() };
        Ok(self.agents.suspend_agent(request).await?.into_inner().agent.unwrap())
    }

    async fn resume(&mut self, agent_id: &str) -> Result<v1::Agent, Status> {
        let request = v1::ResumeAgentRequest { agent_id: agent_id.to_owned() };
        Ok(self.agents.resume_agent(request).await?.into_inner().agent.unwrap())
    }

    /// Why a spend of 10 is rejected; none if it is approved.
    async fn why_not(&mut self, agent_id: &str) -> Option<RejectionReason> {
        let answer = self.spend(ask(agent_id, 10)).await;
        assert!(answer.reasons.len() <= 1, "{answer:?}");
        answer.reasons.first().map(v1::Reason::reason)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_what_it_was_registered_as() {
    let (server, mut admin) = start().await;
    let request = v1::RegisterAgentRequest {
        name: "Buyer <b>1</b>".to_owned(),
        description: "buys things\nand more".to_owned(),
        framework: Framework::Langchain.into(),
        execution_mode: "supervised".to_owned(),
        tags: vec!["one".to_owned(), "two".to_owned()],
        metadata: BTreeMap::from([("__proto__".to_owned(), "opaque".to_owned())]),
        idempotency_key: String::new(),
    };
    let made = admin.agents.register_agent(request.clone()).await.unwrap().into_inner();
    let made = made.agent.unwrap();
    assert_eq!(made.name, request.name);
    assert_eq!(made.description, request.description);
    assert_eq!(made.framework(), Framework::Langchain);
    assert_eq!(made.execution_mode, request.execution_mode);
    assert_eq!((&made.tags, &made.metadata), (&request.tags, &request.metadata));
    assert_eq!((made.status(), &made.mandate), (AgentStatus::Active, &None));
    assert_eq!(admin.look_up(&made.id).await, made);
    // It can spend nothing yet.
    assert_eq!(admin.why_not(&made.id).await, Some(RejectionReason::NoActiveMandate));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_unique_in_the_organization() {
    let (server, mut admin) = start().await;
    let first = admin.register("Buyer").await;
    let taken = refused(admin.agents.register_agent(named("Buyer")).await, "NAME_TAKEN");
    assert_eq!(taken.code, Code::AlreadyExists);
    let second = admin.register("buyer").await;
    let rename = |request: &mut v1::UpdateAgentRequest| request.name = "Buyer".to_owned();
    refused(admin.change_agent(&second.id, &["name"], rename).await, "NAME_TAKEN");
    assert_eq!(admin.look_up(&second.id).await, second);
    // Its own name is no conflict.
    admin.change_agent(&first.id, &["name"], rename).await.unwrap();
    // Of many at once one gets it.
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut admin = admin.clone();
        calls.spawn(async move { admin.agents.register_agent(named("contested")).await });
    }
    let answers = calls.join_all().await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 7));
    for answer in lost {
        refused(answer, "NAME_TAKEN");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_must_be_visible() {
    let (server, mut admin) = start().await;
    let agent = admin.register("plain").await;
    let long = "n".repeat(129);
    for name in ["", "   ", "a\u{202E}b", "a\u{200B}b", "a\nb", "a\0b", "\u{FEFF}", &long] {
        let answer = admin.agents.register_agent(named(name)).await;
        assert_eq!(refused(answer, "INVALID_FIELDS").fields, ["name"], "{name:?}");
        let rename = |request: &mut v1::UpdateAgentRequest| name.clone_into(&mut request.name);
        let answer = admin.change_agent(&agent.id, &["name"], rename).await;
        assert_eq!(refused(answer, "INVALID_FIELDS").fields, ["name"], "{name:?}");
    }
    assert_eq!(admin.look_up(&agent.id).await, agent);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_changes_what_its_mask_names_and_nothing_else() {
    let (server, mut admin) = start().await;
    let before = admin.register("before").await;
    let all = |request: &mut v1::UpdateAgentRequest| {
        request.name = "after".to_owned();
        request.description = "described".to_owned();
        request.framework = Framework::Crewai.into();
        request.execution_mode = "autonomous".to_owned();
        request.tags = vec!["tag".to_owned()];
        request.metadata = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
    };
    let mut expected = before.clone();
    for path in ["description", "framework", "execution_mode", "tags", "metadata", "name"] {
        let after = admin.change_agent(&before.id, &[path], all).await.unwrap().into_inner();
        let after = after.agent.unwrap();
        match path {
            "description" => expected.description = "described".to_owned(),
            "framework" => expected.set_framework(Framework::Crewai),
            "execution_mode" => expected.execution_mode = "autonomous".to_owned(),
            "tags" => expected.tags = vec!["tag".to_owned()],
            "metadata" => {
                expected.metadata = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
            }
            _ => expected.name = "after".to_owned(),
        }
        expected.updated_at = after.updated_at;
        assert_eq!(after, expected, "{path}");
        assert_eq!(admin.look_up(&before.id).await, expected, "{path}");
    }
    let paths = ["description", "framework", "execution_mode", "tags", "metadata"];
    let cleared = admin.change_agent(&before.id, &paths, |_| {}).await.unwrap().into_inner();
    let cleared = cleared.agent.unwrap();
    let updated_at = cleared.updated_at;
    assert_eq!(cleared, v1::Agent { name: "after".to_owned(), updated_at, ..before });
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mask_that_is_empty_or_names_what_cannot_change_is_refused() {
    let (server, mut admin) = start().await;
    let agent = admin.register("masked").await;
    let masks: [&[&str]; 6] =
        [&[], &["id"], &["status"], &["name", "created_at"], &["mandate"], &["*"]];
    for mask in masks {
        let rename = |request: &mut v1::UpdateAgentRequest| request.name = "new".to_owned();
        let answer = admin.change_agent(&agent.id, mask, rename).await;
        assert_eq!(refused(answer, "INVALID_FIELDS").fields, ["update_mask"], "{mask:?}");
    }
    let request =
        v1::UpdateAgentRequest { agent_id: agent.id.clone(), ..v1::UpdateAgentRequest::default() };
    let answer = admin.agents.update_agent(request).await;
    assert_eq!(refused(answer, "INVALID_FIELDS").fields, ["update_mask"]);
    assert_eq!(admin.look_up(&agent.id).await, agent);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_call_registers_or_changes_once() {
    let (server, mut admin) = start().await;
    let request = v1::RegisterAgentRequest {
        idempotency_key: "register-once".to_owned(),
        ..named("repeated")
    };
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (mut admin, request) = (admin.clone(), request.clone());
        calls.spawn(async move { admin.agents.register_agent(request).await });
    }
    let made = calls.join_all().await;
    let made = made.into_iter().map(|made| made.unwrap().into_inner().agent.unwrap());
    let made = made.collect::<Vec<_>>();
    assert!(made.iter().all(|one| *one == made[0]), "{made:?}");
    let other = v1::RegisterAgentRequest { description: "new".to_owned(), ..request.clone() };
    refused(admin.agents.register_agent(other).await, "IDEMPOTENCY_KEY_REUSED");

    let describe = |request: &mut v1::UpdateAgentRequest| {
        request.description = "described".to_owned();
        request.idempotency_key = "describe-once".to_owned();
    };
    let first = admin.change_agent(&made[0].id, &["description"], describe).await.unwrap();
    let again = admin.change_agent(&made[0].id, &["description"], describe).await.unwrap();
    assert_eq!(first.into_inner(), again.into_inner());
    let other = |request: &mut v1::UpdateAgentRequest| {
        describe(request);
        request.execution_mode = "another".to_owned();
    };
    let other = admin.change_agent(&made[0].id, &["description", "execution_mode"], other).await;
    refused(other, "IDEMPOTENCY_KEY_REUSED");
    // The first answer is given again, whatever happened since.
    admin.suspend(&made[0].id).await.unwrap();
    let again = admin.agents.register_agent(request).await.unwrap().into_inner();
    assert_eq!(again.agent.unwrap(), made[0]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_agent_spends_nothing_until_it_is_resumed() {
    let (server, mut admin) = start().await;
    let (agent, mandate) = admin.agent_with_mandate(budget(1_000, 100), vec![]).await;
    let spent = admin.spend(ask(&agent, 10)).await;
    for _ in 0..2 {
        assert_eq!(admin.suspend(&agent).await.unwrap().status(), AgentStatus::Suspended);
    }
    let suspended = admin.look_up(&agent).await;
    assert_eq!(admin.why_not(&agent).await, Some(RejectionReason::AgentNotActive));
    // Its key still reads, and settles what was bought before.
    let settle =
        v1::SettleTransactionRequest { transaction_id: spent.transaction_id, amount: Some(5) };
    admin.transactions.settle_transaction(settle).await.unwrap();
    // It can be described, and its mandate is as it was.
    let describe = |request: &mut v1::UpdateAgentRequest| request.description = "d".to_owned();
    admin.change_agent(&agent, &["description"], describe).await.unwrap();
    let request = v1::GetMandateRequest { mandate_id: mandate, version: 0 };
    let mandate = admin.mandates.get_mandate(request).await.unwrap().into_inner();
    assert_eq!(mandate.mandate.unwrap().status(), v1::MandateStatus::Active);
    for _ in 0..2 {
        assert_eq!(admin.resume(&agent).await.unwrap().status(), AgentStatus::Active);
    }
    assert_eq!(admin.why_not(&agent).await, None);
    assert_eq!(suspended.status(), AgentStatus::Suspended);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_listed_by_name_page_by_page() {
    let (server, mut admin) = start().await;
    let mut names = vec!["research-assistant".to_owned()];
    for n in [7, 3, 9, 1, 5, 2, 8] {
        names.push(admin.register(&format!("agent {n}")).await.name);
    }
    // As long as a name can be: its page token must still be one.
    for start in ["寿", "𝔸", "é"] {
        names.push(admin.register(&start.repeat(128)).await.name);
    }
    names.sort();
    for page_size in [1, 2, 5, 200] {
        let mut listed = Vec::new();
        let mut page_token = String::new();
        loop {
            let page = Some(v1::PageRequest { page_size, page_token });
            let request = v1::ListAgentsRequest { page, ..Default::default() };
            let page = admin.agents.list_agents(request).await.unwrap().into_inner();
            listed.extend(page.agents.into_iter().map(|agent| agent.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(listed, names, "{page_size}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_can_be_of_one_status_and_with_the_mandates_in_force() {
    let (server, mut admin) = start().await;
    let (with, mandate) = admin.agent_with_mandate(budget(1_000, 100), vec![]).await;
    let without = admin.register("without").await.id;
    let suspended = admin.register("suspended").await.id;
    admin.suspend(&suspended).await.unwrap();
    let list = |status: AgentStatus| v1::ListAgentsRequest {
        status: status.into(),
        include_mandate: true,
        page: None,
    };
    let listed = admin.agents.list_agents(list(AgentStatus::Suspended)).await.unwrap();
    let listed = listed.into_inner().agents;
    assert_eq!(listed.iter().map(|agent| &agent.id).collect::<Vec<_>>(), [&suspended]);
    let listed = admin.agents.list_agents(list(AgentStatus::Unspecified)).await.unwrap();
    let listed = listed.into_inner().agents;
    let in_force = |id: &str| {
        let agent = listed.iter().find(|agent| agent.id == id).unwrap();
        agent.mandate.as_ref().map(|mandate| mandate.id.clone())
    };
    assert_eq!(listed.len(), 4);
    assert_eq!((in_force(&with), in_force(&without)), (Some(mandate.clone()), None));
    let request = v1::PauseMandateRequest { mandate_id: mandate };
    admin.mandates.pause_mandate(request).await.unwrap();
    let request = v1::GetAgentRequest { agent_id: with, include_mandate: true };
    let agent = admin.agents.get_agent(request).await.unwrap().into_inner().agent.unwrap();
    assert_eq!(agent.mandate, None, "a paused mandate is not in force");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_page_token_is_refused_whoever_gives_it() {
    let (server, mut admin) = start().await;
    for n in 0..3 {
        admin.register(&format!("agent {n}")).await;
    }
    let page = |page_token: &str| v1::ListAgentsRequest {
        page: Some(v1::PageRequest { page_size: 1, page_token: page_token.to_owned() }),
        ..Default::default()
    };
    let listed = admin.agents.list_agents(page("")).await.unwrap().into_inner();
    let good = listed.next_page_token;
    let mut agent = server.agent().await;
    for client in [&mut admin, &mut agent] {
        for token in ["x", "AAAA", "////", &good[1..], &format!("{good}A")] {
            refused(client.agents.list_agents(page(token)).await, "PAGE_TOKEN_INVALID");
        }
    }
    let mut other = page(&good);
    other.status = AgentStatus::Active.into();
    refused(admin.agents.list_agents(other).await, "PAGE_TOKEN_INVALID");
    let negative = v1::PageRequest { page_size: -1, page_token: String::new() };
    let request = v1::ListAgentsRequest { page: Some(negative), ..Default::default() };
    let answer = refused(admin.agents.list_agents(request).await, "INVALID_FIELDS");
    assert_eq!(answer.fields, ["page.page_size"]);
    server.stop().await;
}
