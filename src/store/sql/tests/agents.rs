//! Agents: their names, versions, lists and open holds.
//!
//! Not here: what an agent may spend (`mandates`), and its credentials.

use super::*;

#[tokio::test]
async fn an_agent_is_read_as_it_was_written_and_only_by_its_organization() {
    let Fixture { store, _folder } = Fixture::seeded().await;
    assert_eq!(store.agent(org_id(1), agent_id(1)).await.unwrap(), Some(agent(1, 1)));
    assert_eq!(store.agent(org_id(2), agent_id(1)).await.unwrap(), None);
    assert!(store.agents(org_id(2), None, all()).await.unwrap().is_empty());
    assert!(store.snapshot(org_id(2), agent_id(1), None).await.unwrap().is_none());
}

#[tokio::test]
async fn a_name_is_taken_only_within_an_organization() {
    let fixture = Fixture::seeded().await;
    let same_name = Agent { name: agent(1, 1).name, ..agent(1, 2) };
    fixture.commit_conflicts([Change::CreateAgent(same_name.clone())]).await;
    fixture.commit_conflicts([Change::CreateAgent(agent(1, 1))]).await;
    fixture.commit_conflicts([Change::CreateAgent(agent(3, 3))]).await; // no such organization
    let elsewhere = Agent { org_id: org_id(2), ..same_name };
    fixture.commit([Change::CreateAgent(elsewhere)]).await.unwrap();
}

#[tokio::test]
async fn an_agent_changes_only_from_the_version_that_was_read() {
    let fixture = Fixture::seeded().await;
    fixture.commit([Change::CreateAgent(agent(1, 2))]).await.unwrap();
    let changed = Agent {
        name: "renamed".to_owned(),
        status: AgentStatus::Suspended,
        version: 2,
        ..agent(1, 1)
    };
    fixture.commit([Change::ReplaceAgent(changed.clone(), 1)]).await.unwrap();
    assert_eq!(fixture.store.agent(org_id(1), agent_id(1)).await.unwrap(), Some(changed.clone()));

    fixture.commit_conflicts([Change::ReplaceAgent(changed.clone(), 1)]).await; // stale
    fixture.commit_conflicts([Change::ReplaceAgent(changed.clone(), 2)]).await; // does not grow
    let taken = Agent { name: agent(1, 2).name, version: 3, ..changed.clone() };
    fixture.commit_conflicts([Change::ReplaceAgent(taken, 2)]).await;
    let foreign = Agent { org_id: org_id(2), version: 3, ..changed.clone() };
    fixture.commit_conflicts([Change::ReplaceAgent(foreign, 2)]).await;
    assert_eq!(fixture.store.agent(org_id(1), agent_id(1)).await.unwrap(), Some(changed));
}

#[tokio::test]
async fn agents_are_listed_by_name_page_by_page() {
    let fixture = Fixture::seeded().await;
    let mut wanted = vec![agent(1, 1)];
    for number in 2..=7 {
        let status = match number % 2 {
            0 => AgentStatus::Suspended,
            _ => AgentStatus::Active,
        };
        let agent = Agent { status, ..agent(1, number) };
        fixture.commit([Change::CreateAgent(agent.clone())]).await.unwrap();
        wanted.push(agent);
    }
    fixture.commit([Change::CreateAgent(agent(2, 8))]).await.unwrap();

    for status in [None, Some(AgentStatus::Suspended), Some(AgentStatus::Decommissioned)] {
        let mut found = Vec::new();
        loop {
            let after = found.last().map(|agent: &Agent| agent.name.clone());
            let more = fixture.store.agents(org_id(1), status, page(after, 2)).await.unwrap();
            if more.is_empty() {
                break;
            }
            found.extend(more);
        }
        let mut wanted = wanted.clone();
        wanted.retain(|agent| status.is_none_or(|status| agent.status == status));
        assert_eq!(found, wanted, "{status:?}");
    }
}

#[tokio::test]
async fn open_holds_are_those_of_the_agent_that_still_wait() {
    let Fixture { store, _folder } = Fixture::seeded().await;
    assert!(!store.has_open_holds(org_id(1), agent_id(1)).await.unwrap());
    for (seq, agent, state) in [(1_u32, 1, "approved"), (2, 1, "pending_approval")] {
        sqlx::query(
            "INSERT INTO spend (seq, id, org_id, agent_id, decided_at, updated_at, verdict, state,
                amount, currency, vendor, idempotency_key, request_hash, approvals_before,
                sum_before, evidence)
             VALUES ($1, $5, $2, $3, 0, 0, $4, $4, 1, 'USD', 'a', 'k', $5, 0, 0, '{}')",
        )
        .bind(i64::from(seq))
        .bind(org_id(1).as_bytes().as_slice())
        .bind(agent_id(agent).as_bytes().as_slice())
        .bind(state)
        .bind(bytes(seq).as_slice())
        .execute(store.writer())
        .await
        .unwrap();
        let is_open = store.has_open_holds(org_id(1), agent_id(1)).await.unwrap();
        assert_eq!(is_open, state == "pending_approval");
    }
    assert!(!store.has_open_holds(org_id(2), agent_id(1)).await.unwrap());
    assert!(!store.has_open_holds(org_id(1), agent_id(2)).await.unwrap());
}
