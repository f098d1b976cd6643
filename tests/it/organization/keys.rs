//! API keys: made, shown once, listed, used, expired and revoked.
//!
//! Not here: what each role may call (`access`), and that the secrets stay secret (`secrets`).

use std::sync::Arc;

use jiff::SignedDuration;
use quetra::clock::{Clock, ManualClock};
use quetra::proto::v1::{self, Role};
use tonic::{Code, Response, Status};

use super::{at, message, start};
use crate::harness::{Clients, Server, refused, unique};

fn wanted(role: Role) -> v1::CreateApiKeyRequest {
    v1::CreateApiKeyRequest {
        name: format!("key {}", unique()),
        role: role.into(),
        ..Default::default()
    }
}

impl Clients {
    async fn new_key(&mut self, role: Role) -> v1::CreateApiKeyResponse {
        self.organization.create_api_key(wanted(role)).await.unwrap().into_inner()
    }

    async fn all_keys(&mut self) -> Vec<v1::ApiKey> {
        let request = v1::ListApiKeysRequest::default();
        self.organization.list_api_keys(request).await.unwrap().into_inner().api_keys
    }

    async fn revoke(&mut self, id: &str) -> Result<Response<v1::RevokeApiKeyResponse>, Status> {
        let request = v1::RevokeApiKeyRequest { api_key_id: id.to_owned() };
        self.organization.revoke_api_key(request).await
    }

    async fn works(&mut self) -> bool {
        let request = v1::GetOrganizationRequest {};
        match self.organization.get_organization(request).await {
            Ok(_) => true,
            Err(status) => {
                assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
                false
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_shown_once() {
    let (server, mut admin, _) = start().await;
    let request = v1::CreateApiKeyRequest {
        idempotency_key: "make-a-key".to_owned(),
        agent_id: server.agent_id(),
        ..wanted(Role::Agent)
    };
    let first = admin.organization.create_api_key(request.clone()).await.unwrap().into_inner();
    let record = first.api_key.clone().unwrap();
    assert!(first.key.starts_with("sk_"), "{}", first.key.len());
    assert!(first.key.starts_with(&record.prefix));
    assert!(record.prefix.len() >= 8 && record.prefix.len() * 3 < first.key.len());
    assert_eq!((record.role(), &record.agent_id), (Role::Agent, &server.agent_id()));
    assert_eq!((record.expires_at, record.revoked_at, record.last_used_at), (None, None, None));
    let again = admin.organization.create_api_key(request.clone()).await.unwrap().into_inner();
    assert_eq!(again.api_key.unwrap(), record);
    assert_eq!(again.key, "");
    let other = v1::CreateApiKeyRequest { agent_id: String::new(), ..request };
    refused(admin.organization.create_api_key(other).await, "IDEMPOTENCY_KEY_REUSED");
    let listed = admin.all_keys().await;
    assert_eq!(listed.iter().filter(|key| key.name == record.name).count(), 1);
    assert!(server.with_key(&first.key).await.works().await);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_creation_repeated_at_once_one_shows_the_key() {
    let (server, mut admin, _) = start().await;
    let request =
        v1::CreateApiKeyRequest { idempotency_key: "make-once".to_owned(), ..wanted(Role::Reader) };
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (mut admin, request) = (admin.clone(), request.clone());
        calls.spawn(async move { admin.organization.create_api_key(request).await });
    }
    let made = calls.join_all().await;
    let made = made.into_iter().map(|made| made.unwrap().into_inner()).collect::<Vec<_>>();
    let shown = made.iter().filter(|made| !made.key.is_empty()).collect::<Vec<_>>();
    assert_eq!(shown.len(), 1);
    assert!(made.iter().all(|one| one.api_key == made[0].api_key));
    assert!(server.with_key(&shown[0].key).await.works().await);
    let name = &request.name;
    assert_eq!(admin.all_keys().await.iter().filter(|key| key.name == *name).count(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_contradicting_limits_is_not_made() {
    let (server, mut admin, clock) = start().await;
    let before = admin.all_keys().await.len();
    let agent_id = server.agent_id();
    for role in [Role::Admin, Role::Reader] {
        let request = v1::CreateApiKeyRequest { agent_id: agent_id.clone(), ..wanted(role) };
        let answer = admin.organization.create_api_key(request).await;
        assert_eq!(refused(answer, "INVALID_FIELDS").fields, ["agent_id"]);
    }
    let past = [clock.now(), clock.now() - SignedDuration::from_secs(1)];
    for expires_at in past {
        let expires_at = Some(message(expires_at));
        let request = v1::CreateApiKeyRequest { expires_at, ..wanted(Role::Admin) };
        let answer = admin.organization.create_api_key(request).await;
        assert_eq!(refused(answer, "INVALID_FIELDS").fields, ["expires_at"]);
    }
    let mut nothing = wanted(Role::Unspecified);
    nothing.name = " ".to_owned();
    refused(admin.organization.create_api_key(nothing).await, "INVALID_FIELDS");
    assert_eq!(admin.all_keys().await.len(), before);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_ends_when_it_expires() {
    let (server, mut admin, clock) = start().await;
    let end = at("2026-05-04T13:00:00Z");
    let request = v1::CreateApiKeyRequest { expires_at: Some(message(end)), ..wanted(Role::Admin) };
    let made = admin.organization.create_api_key(request).await.unwrap().into_inner();
    assert_eq!(made.api_key.unwrap().expires_at, Some(message(end)));
    let mut client = server.with_key(&made.key).await;
    clock.set(end - SignedDuration::from_micros(1));
    assert!(client.works().await);
    clock.set(end);
    assert!(!client.works().await);
    assert!(admin.works().await);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_stays_revoked() {
    let (server, mut admin, clock) = start().await;
    let made = admin.new_key(Role::Reader).await;
    let id = made.api_key.unwrap().id;
    let mut client = server.with_key(&made.key).await;
    assert!(client.works().await);
    let revoked = admin.revoke(&id).await.unwrap().into_inner().api_key.unwrap();
    assert_eq!(revoked.revoked_at, Some(message(clock.now())));
    assert!(!client.works().await);
    clock.set(at("2026-05-05T00:00:00Z"));
    let again = admin.revoke(&id).await.unwrap().into_inner().api_key.unwrap();
    assert_eq!(again.revoked_at, revoked.revoked_at);
    // Also for a server that starts anew.
    let kept = server.stop_and_keep().await;
    let server = Server::resume(kept, |_| {}, Arc::<ManualClock>::clone(&clock)).await;
    assert!(!server.with_key(&made.key).await.works().await);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_use_of_a_key_is_written_down() {
    let (server, mut admin, clock) = start().await;
    let made = admin.new_key(Role::Reader).await;
    let idle = admin.new_key(Role::Reader).await;
    let used_at = at("2026-05-04T12:34:56Z");
    clock.set(used_at);
    assert!(server.with_key(&made.key).await.works().await);
    clock.set(at("2026-05-04T18:00:00Z"));
    // A server that stops has written everything down.
    let kept = server.stop_and_keep().await;
    let server = Server::resume(kept, |_| {}, Arc::<ManualClock>::clone(&clock)).await;
    let listed = server.admin().await.all_keys().await;
    let last_use = |id: &str| listed.iter().find(|key| key.id == id).unwrap().last_used_at;
    let seen = last_use(&made.api_key.unwrap().id).unwrap();
    let late = used_at.as_second() - seen.seconds;
    assert!((0..60).contains(&late), "it is right to the minute, not {late} seconds");
    assert_eq!(last_use(&idle.api_key.unwrap().id), None);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_listed_newest_first_page_by_page() {
    let (server, mut admin, _) = start().await;
    let mut made = Vec::new();
    for _ in 0..7 {
        made.insert(0, admin.new_key(Role::Reader).await.api_key.unwrap().id);
    }
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = Some(v1::PageRequest { page_size: 2, page_token });
        let answer = admin.organization.list_api_keys(v1::ListApiKeysRequest { page }).await;
        let answer = answer.unwrap().into_inner();
        listed.extend(answer.api_keys.into_iter().map(|key| key.id));
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed.len(), 9, "with the two of the first start");
    assert_eq!(listed[..7], made);
    let page = Some(v1::PageRequest { page_size: 2, page_token: "forged".to_owned() });
    let answer = admin.organization.list_api_keys(v1::ListApiKeysRequest { page }).await;
    refused(answer, "PAGE_TOKEN_INVALID");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_admin_key_cannot_be_revoked() {
    let (server, mut admin, clock) = start().await;
    let first = admin.all_keys().await;
    let first = first.iter().find(|key| key.role() == Role::Admin).unwrap().id.clone();
    // Keys that manage nothing, or no more, do not count.
    admin.new_key(Role::Reader).await;
    admin.new_key(Role::Agent).await;
    let end = Some(message(at("2026-05-04T13:00:00Z")));
    let request = v1::CreateApiKeyRequest { expires_at: end, ..wanted(Role::Admin) };
    let brief = admin.organization.create_api_key(request).await.unwrap().into_inner();
    clock.set(at("2026-05-04T13:00:00Z"));
    let answer = refused(admin.revoke(&first).await, "LAST_ADMIN_KEY");
    assert_eq!(answer.code, Code::FailedPrecondition);
    assert!(admin.works().await);
    // One that has expired can go.
    admin.revoke(&brief.api_key.unwrap().id).await.unwrap();
    let second = admin.new_key(Role::Admin).await;
    let mut second_client = server.with_key(&second.key).await;
    admin.revoke(&first).await.unwrap();
    assert!(!admin.works().await);
    let second = second.api_key.unwrap().id;
    refused(second_client.revoke(&second).await, "LAST_ADMIN_KEY");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_admin_keys_that_revoke_each_other_one_survives() {
    let (server, mut admin, _) = start().await;
    let mut last = admin.all_keys().await;
    let mut last = last.remove(last.iter().position(|key| key.role() == Role::Admin).unwrap()).id;
    for round in 0..16 {
        let made = admin.new_key(Role::Admin).await;
        let mut other = server.with_key(&made.key).await;
        let others = made.api_key.unwrap().id;
        let (first, second) = match round % 2 {
            0 => tokio::join!(admin.revoke(&others), other.revoke(&last)),
            _ => tokio::join!(admin.revoke(&last), other.revoke(&others)),
        };
        let alive = [admin.works().await, other.works().await];
        assert_eq!(alive.iter().filter(|alive| **alive).count(), 1, "{first:?} {second:?}");
        if alive[1] {
            (admin, last) = (other, others);
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_but_an_admins_makes_or_revokes_keys() {
    let (server, mut admin, _) = start().await;
    let id = admin.new_key(Role::Reader).await.api_key.unwrap().id;
    let before = admin.all_keys().await.len();
    let agent = server.first.agent_key.clone();
    let wide = admin.new_key(Role::Agent).await.key;
    let reader = admin.new_key(Role::Reader).await.key;
    for key in [agent, wide, reader] {
        let mut client = server.with_key(&key).await;
        for role in [Role::Admin, Role::Agent, Role::Reader] {
            let answer = client.organization.create_api_key(wanted(role)).await;
            assert_eq!(refused(answer, "ROLE_NOT_ALLOWED").code, Code::PermissionDenied);
        }
        refused(client.revoke(&id).await, "ROLE_NOT_ALLOWED");
    }
    let after = admin.all_keys().await;
    assert_eq!(after.len(), before + 2);
    assert!(after.iter().all(|key| key.revoked_at.is_none()));
    server.stop().await;
}
