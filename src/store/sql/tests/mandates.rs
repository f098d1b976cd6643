//! Mandates: their versions, the one that is active, drafts, lists and snapshots.
//!
//! Not here: whether a policy makes sense (`domain::mandate`).

use super::MandateStatus::{Active, Draft, Paused, Revoked};
use super::*;
use crate::domain::durability::Durability;

/// The hexadecimal form of an id, which is a list's sort key.
fn sort_key(mandate: &Mandate) -> String {
    hex::encode(mandate.id.as_bytes())
}

#[tokio::test]
async fn every_version_of_a_mandate_can_be_read() {
    let fixture = Fixture::seeded().await;
    let first = mandate(1, 1, Draft);
    let second = next(&first, Active);
    let third = Mandate { name: "renamed".to_owned(), ..next(&second, Paused) };
    fixture.commit([Change::CreateMandate(first.clone())]).await.unwrap();
    fixture.commit([Change::ReplaceMandate(second.clone(), 1)]).await.unwrap();
    fixture.commit([Change::ReplaceMandate(third.clone(), 2)]).await.unwrap();

    let Fixture { store, _folder } = fixture;
    let (org, id) = (org_id(1), mandate_id(1));
    assert_eq!(store.mandate(org, id).await.unwrap().as_ref(), Some(&third));
    for version in [&first, &second, &third] {
        let found = store.mandate_version(org, id, version.version).await.unwrap();
        assert_eq!(found.as_ref(), Some(version));
        assert_eq!(store.mandate_version(org_id(2), id, version.version).await.unwrap(), None);
    }
    assert_eq!(store.mandate_version(org, id, 4).await.unwrap(), None);
    assert_eq!(store.mandate(org_id(2), id).await.unwrap(), None);

    let versions = async |after: Option<&str>, limit| {
        let page = page(after.map(str::to_owned), limit);
        store.mandate_versions(org, id, page).await.unwrap()
    };
    assert_eq!(versions(None, 9).await, [third.clone(), second.clone(), first.clone()]);
    assert_eq!(versions(None, 2).await, [third, second]);
    assert_eq!(versions(Some("2"), 2).await, [first]);
    assert!(versions(Some("1"), 2).await.is_empty());
    assert!(store.mandate_versions(org_id(2), id, all()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_mandate_changes_only_from_the_version_that_was_read() {
    let fixture = Fixture::seeded().await;
    fixture.commit([Change::CreateAgent(agent(1, 2))]).await.unwrap();
    let first = mandate(1, 1, Draft);
    let second = next(&first, Active);
    fixture.commit([Change::CreateMandate(first.clone())]).await.unwrap();
    fixture.commit_conflicts([Change::CreateMandate(first.clone())]).await;
    fixture.commit([Change::ReplaceMandate(second.clone(), 1)]).await.unwrap();

    fixture.commit_conflicts([Change::ReplaceMandate(second.clone(), 1)]).await; // stale
    fixture.commit_conflicts([Change::ReplaceMandate(second.clone(), 2)]).await; // does not grow
    let third = next(&second, Paused);
    for foreign in [
        Mandate { org_id: org_id(2), ..third.clone() },
        Mandate { agent_id: agent_id(2), ..third.clone() },
        Mandate { id: mandate_id(2), ..third.clone() },
    ] {
        fixture.commit_conflicts([Change::ReplaceMandate(foreign, 2)]).await;
    }
    let versions = fixture.store.mandate_versions(org_id(1), mandate_id(1), all()).await.unwrap();
    assert_eq!(versions, [second, first]);
}

#[tokio::test]
async fn the_durabilities_that_mandates_in_force_ask_for_are_found() {
    let fixture = Fixture::seeded().await;
    fixture.commit([Change::CreateAgent(agent(1, 2))]).await.unwrap();
    fixture.commit([Change::CreateAgent(agent(1, 3))]).await.unwrap();
    let asking = |number, of, status, level| {
        let mut mandate = mandate(of, number, status);
        mandate.policy.durability = level;
        mandate
    };
    let found = async || {
        let mut found = fixture.store.durabilities().await.unwrap();
        found.sort();
        found
    };
    let first = asking(1, 1, Draft, Some(Durability::Strict));
    fixture.commit([Change::CreateMandate(first.clone())]).await.unwrap();
    assert_eq!(found().await, []);
    let active = next(&first, Active);
    let others = [
        Change::ReplaceMandate(active.clone(), 1),
        Change::CreateMandate(asking(2, 2, Active, Some(Durability::Strict))),
        Change::CreateMandate(asking(3, 3, Active, None)),
        Change::CreateMandate(asking(4, 3, Paused, Some(Durability::Fast))),
    ];
    fixture.commit(others).await.unwrap();
    assert_eq!(found().await, [Durability::Fast, Durability::Strict]);
    let mut changed = next(&active, Active);
    changed.policy.durability = Some(Durability::Durable);
    fixture.commit([Change::ReplaceMandate(changed.clone(), 2)]).await.unwrap();
    assert_eq!(found().await, Durability::ALL);
    fixture.commit([Change::ReplaceMandate(next(&changed, Revoked), 3)]).await.unwrap();
    assert_eq!(found().await, [Durability::Fast, Durability::Strict]);
}

#[tokio::test]
async fn a_mandate_belongs_to_an_agent_of_its_organization() {
    let fixture = Fixture::seeded().await;
    let nobody = mandate(9, 1, Draft);
    fixture.commit_conflicts([Change::CreateMandate(nobody)]).await;
    let foreign = Mandate { org_id: org_id(2), ..mandate(1, 1, Draft) };
    fixture.commit_conflicts([Change::CreateMandate(foreign)]).await;
}

#[tokio::test]
async fn a_second_active_mandate_of_an_agent_is_a_conflict() {
    let fixture = Fixture::seeded().await;
    fixture.commit([Change::CreateAgent(agent(1, 2))]).await.unwrap();
    let first = mandate(1, 1, Active);
    let second = mandate(1, 2, Draft);
    fixture
        .commit([Change::CreateMandate(first.clone()), Change::CreateMandate(second.clone())])
        .await
        .unwrap();
    fixture.commit_conflicts([Change::CreateMandate(mandate(1, 3, Active))]).await;
    fixture.commit_conflicts([Change::ReplaceMandate(next(&second, Active), 1)]).await;
    assert_eq!(fixture.store.mandate(org_id(1), second.id).await.unwrap(), Some(second.clone()));

    fixture.commit([Change::CreateMandate(mandate(2, 4, Active))]).await.unwrap();
    fixture
        .commit([
            Change::ReplaceMandate(next(&first, Revoked), 1),
            Change::ReplaceMandate(next(&second, Active), 1),
        ])
        .await
        .unwrap();
}

#[tokio::test]
async fn only_a_draft_of_the_version_that_was_read_is_deleted() {
    let fixture = Fixture::seeded().await;
    let first = mandate(1, 1, Draft);
    let second = next(&first, Draft);
    let active = mandate(1, 2, Active);
    fixture
        .commit([
            Change::CreateMandate(first.clone()),
            Change::ReplaceMandate(second.clone(), 1),
            Change::CreateMandate(active.clone()),
        ])
        .await
        .unwrap();
    for change in [
        Change::DeleteDraft(org_id(1), first.id, 1),
        Change::DeleteDraft(org_id(2), first.id, 2),
        Change::DeleteDraft(org_id(1), active.id, 1),
        Change::DeleteDraft(org_id(1), mandate_id(3), 1),
    ] {
        fixture.commit_conflicts([change]).await;
    }
    fixture.commit([Change::DeleteDraft(org_id(1), first.id, 2)]).await.unwrap();
    let versions = fixture.store.mandate_versions(org_id(1), first.id, all()).await.unwrap();
    assert!(versions.is_empty());
    assert_eq!(fixture.store.mandate(org_id(1), active.id).await.unwrap(), Some(active));
}

#[tokio::test]
async fn mandates_are_listed_newest_first_page_by_page() {
    let fixture = Fixture::seeded().await;
    fixture.commit([Change::CreateAgent(agent(1, 2))]).await.unwrap();
    let mut wanted = Vec::new();
    for number in 1..=9 {
        let status = if number % 3 == 0 { Paused } else { Draft };
        let mandate = mandate(1 + number % 2, number, status);
        fixture.commit([Change::CreateMandate(mandate.clone())]).await.unwrap();
        wanted.insert(0, mandate);
    }
    let store = &fixture.store;
    for agent in [None, Some(agent_id(1)), Some(agent_id(3))] {
        for status in [None, Some(Paused), Some(Active)] {
            let filter = MandateFilter { agent, status };
            let mut found = Vec::new();
            loop {
                let after = found.last().map(sort_key);
                let more = store.mandates(org_id(1), filter, page(after, 2)).await.unwrap();
                if more.is_empty() {
                    break;
                }
                found.extend(more);
            }
            let mut wanted = wanted.clone();
            wanted.retain(|mandate| agent.is_none_or(|agent| mandate.agent_id == agent));
            wanted.retain(|mandate| status.is_none_or(|status| mandate.status == status));
            assert_eq!(found, wanted, "{filter:?}");
            assert!(store.mandates(org_id(2), filter, all()).await.unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn a_sort_key_that_is_none_is_a_conflict() {
    let Fixture { store, _folder } = Fixture::seeded().await;
    for after in ["", "x", "mdt_00", "00ff", "-"] {
        let page = || page(Some(after.to_owned()), 2);
        let filter = MandateFilter::default();
        for error in [
            store.mandates(org_id(1), filter, page()).await.unwrap_err(),
            store.keys(org_id(1), page()).await.unwrap_err(),
        ] {
            assert_eq!(error.kind, StoreErrorKind::Conflict, "{after}");
        }
    }
    let versions = store.mandate_versions(org_id(1), mandate_id(1), page(Some("x".into()), 2));
    assert_eq!(versions.await.unwrap_err().kind, StoreErrorKind::Conflict);
}

#[tokio::test]
async fn a_snapshot_has_the_named_mandate_or_else_the_current_one() {
    let fixture = Fixture::seeded().await;
    fixture
        .commit([
            Change::CreateAgent(agent(1, 2)),
            Change::CreateMandate(mandate(1, 1, Active)),
            Change::CreateMandate(mandate(1, 2, Draft)),
            Change::CreateMandate(mandate(2, 3, Active)),
        ])
        .await
        .unwrap();
    let found = async |named| {
        let snapshot = fixture.store.snapshot(org_id(1), agent_id(1), named).await.unwrap();
        let snapshot = snapshot.unwrap();
        assert_eq!((snapshot.org.id, snapshot.agent.id), (org_id(1), agent_id(1)));
        snapshot.mandate.map(|mandate| mandate.id)
    };
    assert_eq!(found(None).await, None); // none is current yet
    let owner = Agent { current_mandate: Some(mandate_id(1)), version: 2, ..agent(1, 1) };
    fixture.commit([Change::ReplaceAgent(owner, 1)]).await.unwrap();
    assert_eq!(found(None).await, Some(mandate_id(1)));
    assert_eq!(found(Some(mandate_id(2))).await, Some(mandate_id(2)));
    assert_eq!(found(Some(mandate_id(3))).await, None); // another agent's
    assert_eq!(found(Some(mandate_id(4))).await, None);
    let unknown = fixture.store.snapshot(org_id(1), agent_id(9), None).await.unwrap();
    assert!(unknown.is_none());
}
