//! Commits as a whole (atomic, compared, with their receipt), and organizations.
//!
//! Not here: what each other kind of change compares (the modules beside this one).

use super::*;

fn receipt(key: &str) -> Receipt {
    Receipt {
        org_id: org_id(1),
        key: key.to_owned(),
        request_hash: [5; 16],
        reply: "{\"id\":1}".to_owned(),
        created_at: at_micros(3),
    }
}

#[tokio::test]
async fn an_organization_is_read_as_it_was_written() {
    let Fixture { store, _folder } = Fixture::seeded().await;
    assert_eq!(store.org(org_id(1)).await.unwrap(), Some(org(1)));
    assert_eq!(store.org(org_id(3)).await.unwrap(), None);
    assert_eq!(store.orgs().await.unwrap(), [org(1), org(2)]);
    assert_eq!(store.signing_keys(org_id(1)).await.unwrap(), [signing_key("first")]);
    assert!(store.signing_keys(org_id(3)).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_newest_signing_key_comes_first() {
    let Fixture { store, _folder } = Fixture::seeded().await;
    for (key, created_at) in [("older", 1), ("newest", i64::MAX)] {
        sqlx::query("INSERT INTO signing_key VALUES ($1, $2, $4, $4, $3)")
            .bind(org_id(1).as_bytes().as_slice())
            .bind(key)
            .bind(created_at)
            .bind([0_u8; 32].as_slice())
            .execute(store.writer())
            .await
            .unwrap();
    }
    let keys = store.signing_keys(org_id(1)).await.unwrap();
    let ids: Vec<_> = keys.iter().map(|key| key.key_id.as_str()).collect();
    assert_eq!(ids, ["newest", "first", "older"]);
}

#[tokio::test]
async fn an_organization_is_made_once_and_its_slug_is_its_own() {
    let fixture = Fixture::seeded().await;
    fixture.commit_conflicts([Change::CreateOrg(org(1), signing_key("x"))]).await;
    let same_slug = Organization { slug: org(1).slug, ..org(3) };
    fixture.commit_conflicts([Change::CreateOrg(same_slug, signing_key("x"))]).await;
}

#[tokio::test]
async fn an_organization_changes_only_from_the_version_that_was_read() {
    let fixture = Fixture::seeded().await;
    let frozen = Organization { frozen: true, version: 2, ..org(1) };
    fixture.commit([Change::ReplaceOrg(frozen.clone(), 1)]).await.unwrap();
    assert_eq!(fixture.store.org(org_id(1)).await.unwrap(), Some(frozen.clone()));

    fixture.commit_conflicts([Change::ReplaceOrg(frozen.clone(), 1)]).await; // stale
    fixture.commit_conflicts([Change::ReplaceOrg(frozen.clone(), 2)]).await; // does not grow
    fixture.commit_conflicts([Change::ReplaceOrg(Organization { version: 2, ..org(3) }, 1)]).await;
    let frozen_column: bool = sqlx::query_scalar("SELECT frozen FROM organization WHERE id = $1")
        .bind(org_id(1).as_bytes().as_slice())
        .fetch_one(fixture.store.writer())
        .await
        .unwrap();
    assert!(frozen_column);
}

#[tokio::test]
async fn a_commit_whose_last_change_conflicts_leaves_nothing() {
    let Fixture { store, _folder } = Fixture::seeded().await;
    let changes = vec![
        Change::CreateAgent(agent(1, 3)),
        Change::ReplaceOrg(Organization { version: 2, frozen: true, ..org(1) }, 1),
        Change::CreateAgent(agent(1, 2)),
        Change::CreateMandate(mandate(2, 1, MandateStatus::Draft)),
        Change::ReplaceMandate(Mandate { version: 2, ..mandate(2, 1, MandateStatus::Active) }, 1),
        Change::CreateKey(key(1, Role::Admin, None)),
        Change::ReplaceAgent(Agent { version: 8, ..agent(1, 1) }, 7),
    ];
    let error = store.commit(changes, Some(receipt("once")), SOMEBODY).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Conflict);
    assert_eq!(error.operation, "change an agent");

    assert_eq!(store.orgs().await.unwrap(), [org(1), org(2)]);
    assert_eq!(store.agents(org_id(1), None, all()).await.unwrap(), [agent(1, 1)]);
    assert_eq!(store.mandate(org_id(1), mandate_id(1)).await.unwrap(), None);
    assert!(store.mandate_versions(org_id(1), mandate_id(1), all()).await.unwrap().is_empty());
    assert_eq!(store.key(key_id(1)).await.unwrap(), None);
    assert_eq!(store.receipt(org_id(1), "once").await.unwrap(), None);
}

#[tokio::test]
async fn changes_of_one_commit_see_each_other_in_order() {
    let fixture = Fixture::new().await;
    let draft = mandate(1, 1, MandateStatus::Draft);
    let active = next(&draft, MandateStatus::Active);
    let owner = Agent { current_mandate: Some(mandate_id(1)), version: 2, ..agent(1, 1) };
    fixture
        .commit([
            Change::CreateOrg(org(1), signing_key("first")),
            Change::CreateAgent(agent(1, 1)),
            Change::CreateMandate(draft),
            Change::ReplaceMandate(active.clone(), 1),
            Change::ReplaceAgent(owner.clone(), 1),
            Change::CreateKey(key(1, Role::Agent, Some(1))),
        ])
        .await
        .unwrap();
    let snapshot = fixture.store.snapshot(org_id(1), agent_id(1), None).await.unwrap().unwrap();
    assert_eq!((snapshot.agent, snapshot.mandate), (owner, Some(active)));
}

#[tokio::test]
async fn a_receipt_is_written_once_and_with_its_effect() {
    let Fixture { store, _folder } = Fixture::seeded().await;
    let change = |number| vec![Change::CreateAgent(agent(1, number))];
    store.commit(change(2), Some(receipt("once")), SOMEBODY).await.unwrap();
    assert_eq!(store.receipt(org_id(1), "once").await.unwrap(), Some(receipt("once")));
    assert_eq!(store.receipt(org_id(2), "once").await.unwrap(), None);
    assert_eq!(store.receipt(org_id(1), "twice").await.unwrap(), None);

    let error = store.commit(change(3), Some(receipt("once")), SOMEBODY).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Conflict);
    assert_eq!(store.agent(org_id(1), agent_id(3)).await.unwrap(), None);

    let other = Receipt { org_id: org_id(2), ..receipt("once") };
    store.commit(Vec::new(), Some(other.clone()), SOMEBODY).await.unwrap();

    assert_eq!(store.forget_receipts(org_id(1), at_micros(3)).await.unwrap(), 0, "it is not older");
    assert_eq!(store.forget_receipts(org_id(1), at_micros(4)).await.unwrap(), 1);
    assert_eq!(store.receipt(org_id(1), "once").await.unwrap(), None);
    assert_eq!(store.receipt(org_id(2), "once").await.unwrap(), Some(other));
}

#[tokio::test]
async fn trying_to_write_leaves_nothing_behind() {
    let Fixture { store, _folder } = Fixture::seeded().await;
    for _ in 0..2 {
        store.try_writing(org_id(1)).await.unwrap();
        assert_eq!(store.receipt(org_id(1), "").await.unwrap(), None);
    }
}

#[tokio::test]
async fn of_two_commits_from_one_version_one_wins() {
    let Fixture { store, _folder } = Fixture::seeded().await;
    let change = |name: &str| {
        let org = Organization { version: 2, name: name.to_owned(), ..org(1) };
        store.commit(vec![Change::ReplaceOrg(org, 1)], None, SOMEBODY)
    };
    let (first, second) = tokio::join!(change("first"), change("second"));
    let winner = if first.is_ok() { "first" } else { "second" };
    assert_ne!(first.is_ok(), second.is_ok());
    assert_eq!(store.org(org_id(1)).await.unwrap().unwrap().name, winner);
}

#[tokio::test]
async fn a_commit_that_is_given_up_is_there_wholly_or_not_at_all() {
    let Fixture { store, _folder } = Fixture::seeded().await;
    for round in 1..=100_u32 {
        let pair = [round * 2, round * 2 + 1];
        let changes = pair.map(|number| Change::CreateAgent(agent(1, number))).into();
        let time = std::time::Duration::from_micros(u64::from(round) * 10);
        let _ = tokio::time::timeout(time, store.commit(changes, None, SOMEBODY)).await;
        // The writer is free again. A server elsewhere may still be at the commit it was given.
        store.commit(Vec::new(), None, SOMEBODY).await.unwrap();
        let agents = store.agents(org_id(1), None, all()).await.unwrap();
        let is_there = |number: &u32| agents.iter().any(|agent| agent.id == agent_id(*number));
        assert_ne!(pair.iter().filter(|number| is_there(number)).count(), 1, "{round}");
    }
    let agents = store.agents(org_id(1), None, all()).await.unwrap().len();
    assert_eq!(agents % 2, 1, "{agents}");
}

#[tokio::test]
async fn what_was_committed_is_there_after_opening_again() {
    let fixture = Fixture::seeded().await;
    let Fixture { store, _folder } = fixture;
    drop(store); // as when the process ends without closing
    let store = fixture::again(&_folder).await;
    assert!(store.migrate().await.unwrap().is_empty());
    assert_eq!(store.orgs().await.unwrap(), [org(1), org(2)]);
    assert_eq!(store.agent(org_id(1), agent_id(1)).await.unwrap(), Some(agent(1, 1)));
}

#[tokio::test]
async fn a_document_that_cannot_be_understood_is_corrupt() {
    let Fixture { store, _folder } = Fixture::seeded().await;
    let damage = sqlx::query("UPDATE organization SET document = '{}'");
    damage.execute(store.writer()).await.unwrap();
    for error in [
        store.org(org_id(1)).await.unwrap_err(),
        store.orgs().await.unwrap_err(),
        store.snapshot(org_id(1), agent_id(1), None).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, StoreErrorKind::Corrupt);
    }
}
