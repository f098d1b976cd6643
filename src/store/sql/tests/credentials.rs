//! Credentials: their binding, lists, use and revocation.
//!
//! Not here: the secret behind a digest (`crypto`).

use super::*;
use crate::store::KeyUse;

fn revoke(number: u32, second: i64) -> Change {
    Change::RevokeKey(org_id(1), key_id(number), at(second))
}

#[tokio::test]
async fn a_credential_is_read_as_it_was_written_and_its_digest_only_from_its_column() {
    let fixture = Fixture::seeded().await;
    let written = ApiKey {
        expires_at: Some(at(9)),
        last_used_at: Some(at_micros(1)),
        revoked_at: Some(at_micros(2)),
        ..key(1, Role::Agent, Some(1))
    };
    fixture.commit([Change::CreateKey(written.clone())]).await.unwrap();
    assert_eq!(fixture.store.key(key_id(1)).await.unwrap(), Some(written));
    assert_eq!(fixture.store.key(key_id(2)).await.unwrap(), None);
    fixture.commit_conflicts([Change::CreateKey(key(1, Role::Reader, None))]).await;

    let document: String = sqlx::query_scalar("SELECT document FROM api_key")
        .fetch_one(fixture.store.writer())
        .await
        .unwrap();
    assert!(!document.contains("digest") && !document.contains("9,9"), "{document}");
}

#[tokio::test]
async fn a_credential_is_bound_only_to_an_agent_of_its_organization() {
    let fixture = Fixture::seeded().await;
    fixture.commit_conflicts([Change::CreateKey(key(1, Role::Agent, Some(2)))]).await;
    let foreign = ApiKey { org_id: org_id(2), ..key(1, Role::Agent, Some(1)) };
    fixture.commit_conflicts([Change::CreateKey(foreign)]).await;
    let nowhere = ApiKey { org_id: org_id(3), ..key(1, Role::Admin, None) };
    fixture.commit_conflicts([Change::CreateKey(nowhere)]).await;
}

#[tokio::test]
async fn credentials_are_listed_newest_first_page_by_page() {
    let fixture = Fixture::seeded().await;
    for number in 1..=5 {
        fixture.commit([Change::CreateKey(key(number, Role::Reader, None))]).await.unwrap();
    }
    let mut found = Vec::new();
    loop {
        let after = found.last().map(|key: &ApiKey| hex::encode(key.id.as_bytes()));
        let more = fixture.store.keys(org_id(1), page(after, 2)).await.unwrap();
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    let wanted: Vec<_> = (1..=5).rev().map(|number| key(number, Role::Reader, None)).collect();
    assert_eq!(found, wanted);
    assert!(fixture.store.keys(org_id(2), all()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_credential_is_revoked_once_and_by_its_organization() {
    let fixture = Fixture::seeded().await;
    fixture.commit([Change::CreateKey(key(1, Role::Reader, None))]).await.unwrap();
    fixture.commit_conflicts([Change::RevokeKey(org_id(2), key_id(1), at(5))]).await;
    fixture.commit([revoke(1, 5)]).await.unwrap();
    let revoked = fixture.store.key(key_id(1)).await.unwrap().unwrap();
    assert_eq!(revoked.revoked_at, Some(at_micros(5)));
    fixture.commit_conflicts([revoke(1, 6)]).await;
    fixture.commit_conflicts([revoke(2, 6)]).await;
}

#[tokio::test]
async fn the_last_working_admin_key_stays() {
    let fixture = Fixture::seeded().await;
    let expired = ApiKey { expires_at: Some(at(1)), ..key(2, Role::Admin, None) };
    let foreign = ApiKey { org_id: org_id(2), ..key(3, Role::Admin, None) };
    fixture
        .commit([
            Change::CreateKey(key(1, Role::Admin, None)),
            Change::CreateKey(expired),
            Change::CreateKey(key(4, Role::Reader, None)),
        ])
        .await
        .unwrap();
    fixture.commit([Change::CreateKey(foreign)]).await.unwrap();
    fixture.commit_conflicts([revoke(1, 5)]).await;
    fixture.commit([revoke(2, 5)]).await.unwrap(); // it works no more anyway
    fixture.commit([revoke(4, 5)]).await.unwrap();

    let second = ApiKey { expires_at: Some(at(100)), ..key(5, Role::Admin, None) };
    fixture.commit([Change::CreateKey(second)]).await.unwrap();
    fixture.commit_conflicts([revoke(1, 100)]).await; // by then the second has expired
    fixture.commit([revoke(1, 5)]).await.unwrap();
    fixture.commit_conflicts([revoke(5, 6)]).await;
    assert_eq!(fixture.store.key(key_id(5)).await.unwrap().unwrap().revoked_at, None);
}

#[tokio::test]
async fn of_two_revocations_at_once_one_admin_key_stays() {
    let fixture = Fixture::seeded().await;
    for round in 0..20 {
        let (first, second) = (100 + 2 * round, 101 + 2 * round);
        fixture
            .commit([
                Change::CreateKey(key(first, Role::Admin, None)),
                Change::CreateKey(key(second, Role::Admin, None)),
            ])
            .await
            .unwrap();
        let (one, other) =
            tokio::join!(fixture.commit([revoke(first, 5)]), fixture.commit([revoke(second, 5)]));
        assert_ne!(one.is_ok(), other.is_ok(), "round {round}");
        // Out of the way of the next round, past the guard.
        let kept = if one.is_ok() { second } else { first };
        sqlx::query("UPDATE api_key SET revoked_at = 0 WHERE id = $1")
            .bind(key_id(kept).as_bytes().as_slice())
            .execute(fixture.store.writer())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn both_admin_keys_are_not_revoked_by_one_commit() {
    let fixture = Fixture::seeded().await;
    fixture
        .commit([
            Change::CreateKey(key(1, Role::Admin, None)),
            Change::CreateKey(key(2, Role::Admin, None)),
        ])
        .await
        .unwrap();
    fixture.commit_conflicts([revoke(1, 5), revoke(2, 5)]).await;
    assert_eq!(fixture.store.key(key_id(1)).await.unwrap().unwrap().revoked_at, None);
    // A replacement in the same commit is enough.
    let fresh = Change::CreateKey(key(3, Role::Admin, None));
    fixture.commit([fresh, revoke(1, 5), revoke(2, 5)]).await.unwrap();
}

#[tokio::test]
async fn all_credentials_of_an_agent_are_revoked_together() {
    let fixture = Fixture::seeded().await;
    fixture
        .commit([
            Change::CreateAgent(agent(1, 2)),
            Change::CreateKey(key(1, Role::Agent, Some(1))),
            Change::CreateKey(key(2, Role::Reader, Some(1))),
            Change::CreateKey(key(3, Role::Agent, Some(2))),
            Change::CreateKey(key(4, Role::Agent, None)),
            revoke(2, 1),
        ])
        .await
        .unwrap();
    let foreign = Change::RevokeKeysOf(org_id(2), agent_id(1), at(4));
    fixture.commit([foreign]).await.unwrap();
    fixture.commit([Change::RevokeKeysOf(org_id(1), agent_id(1), at(5))]).await.unwrap();
    let mut found = Vec::new();
    for number in 1..=4 {
        found.push(fixture.store.key(key_id(number)).await.unwrap().unwrap().revoked_at);
    }
    assert_eq!(found, [Some(at_micros(5)), Some(at_micros(1)), None, None]);
    fixture.commit([Change::RevokeKeysOf(org_id(1), agent_id(9), at(5))]).await.unwrap();
}

#[tokio::test]
async fn the_last_use_of_a_credential_only_moves_forward() {
    let fixture = Fixture::seeded().await;
    fixture.commit([Change::CreateKey(key(1, Role::Reader, None))]).await.unwrap();
    let store = &fixture.store;
    store.touch_keys(Vec::new()).await.unwrap();
    for (second, wanted) in [(5, 5), (3, 5), (8, 8)] {
        let used = |key, second| KeyUse { id: key_id(key), at: at(second), in_url_at: None };
        store.touch_keys(vec![used(1, second), used(9, 99)]).await.unwrap();
        let found = store.key(key_id(1)).await.unwrap().unwrap();
        assert_eq!(found.last_used_at, Some(at_micros(wanted)));
        assert_eq!(found.url_used_at, None);
    }
}

#[tokio::test]
async fn the_last_use_in_a_url_is_kept_beside_it() {
    let fixture = Fixture::seeded().await;
    fixture.commit([Change::CreateKey(key(1, Role::Agent, None))]).await.unwrap();
    for (second, in_url, wanted) in
        [(5, Some(4), 4), (6, None, 4), (7, Some(3), 4), (8, Some(8), 8)]
    {
        let used = KeyUse { id: key_id(1), at: at(second), in_url_at: in_url.map(at) };
        fixture.store.touch_keys(vec![used]).await.unwrap();
        let found = fixture.store.key(key_id(1)).await.unwrap().unwrap();
        assert_eq!(found.last_used_at, Some(at_micros(second)));
        assert_eq!(found.url_used_at, Some(at_micros(wanted)));
        let listed = fixture.store.keys(org_id(1), page(None, 9)).await.unwrap();
        assert!(listed.iter().any(|key| key.url_used_at == found.url_used_at));
    }
}
