//! Every RPC × every role, and every way not to have a good credential.
//!
//! What is expected comes from the contract alone: the roles an RPC declares. Not here: what a
//! caller of the right role may see (`ids`, `tenants`).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost_reflect::MethodDescriptor;
use quetra::clock::{Clock, ManualClock};
use quetra::crypto::{digest, random};
use quetra::proto::v1::{self, Role};
use tonic::{Code, Status};

use super::{clock, key};
use crate::contract::{declared, methods, pool};
use crate::harness::raw::Raw;
use crate::harness::witness::Refused;
use crate::harness::{Clients, Server};

/// The same in every part that a client can see.
fn same(left: &Status, right: &Status) -> bool {
    (left.code(), left.message(), left.details())
        == (right.code(), right.message(), right.details())
}

/// A good key of each role; agents' keys both bound to one agent and to none.
async fn keys(server: &Server, admin: &mut Clients) -> Vec<(&'static str, String)> {
    let bound = server.first.agent_key.clone();
    vec![
        ("ADMIN", key(admin, Role::Admin, "", None).await.1),
        ("AGENT", bound),
        ("AGENT", key(admin, Role::Agent, "", None).await.1),
        ("READER", key(admin, Role::Reader, "", None).await.1),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_serves_exactly_the_roles_it_declares() {
    let server = Server::with(|_| {}, clock()).await;
    let mut admin = server.admin().await;
    let raw = Raw::connect(&server.url()).await;
    let pool = pool();
    let methods = methods(&pool);
    assert!(methods.len() >= 30, "only {} RPCs found", methods.len());
    let mut refusals = 0;
    for (role, key) in keys(&server, &mut admin).await {
        for method in &methods {
            let name = method.full_name();
            let roles = declared(method, "roles");
            let roles = roles.unwrap_or_else(|| panic!("{name} has no access row"));
            let answer = raw.call_as(&key, method, Vec::new()).await;
            let refused = answer.as_ref().err().map(Refused::of);
            if roles.iter().any(|allowed| allowed == role) {
                let denied = refused.is_some_and(|refused| {
                    matches!(refused.code, Code::Unauthenticated | Code::PermissionDenied)
                });
                assert!(!denied, "{name} refused the role {role}: {answer:?}");
            } else {
                let refused = refused.unwrap_or_else(|| panic!("{name} served the role {role}"));
                assert_eq!(refused.code, Code::PermissionDenied, "{name} {role}");
                assert_eq!(refused.reason, "ROLE_NOT_ALLOWED", "{name} {role}");
                assert_eq!(refused.says("role"), role.to_lowercase(), "{name}");
                refusals += 1;
            }
        }
    }
    assert!(refusals >= 30, "only {refusals} refusals: the roles are not told apart");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_roles_hold_in_json() {
    let server = Server::with(|_| {}, clock()).await;
    let mut admin = server.admin().await;
    let http = reqwest::Client::new();
    let pool = pool();
    let reader = key(&mut admin, Role::Reader, "", None).await.1;
    for method in methods(&pool) {
        let name = method.full_name();
        let path = format!("{}/{}", method.parent_service().full_name(), method.name());
        let request = http.post(format!("{}/{path}", server.url()));
        if method.is_server_streaming() {
            streams_hold_roles_in_json(&method, request, &reader).await;
            continue;
        }
        let request = request.header("content-type", "application/json").body("{}");
        let nobody = request.try_clone().unwrap().send().await.unwrap();
        assert_eq!(nobody.status(), 401, "{name}");
        assert!(nobody.text().await.unwrap().contains("unauthenticated"), "{name}");
        let answer = request.bearer_auth(&reader).send().await.unwrap();
        let may = declared(&method, "roles").unwrap().contains(&"READER".to_owned());
        let status = answer.status();
        assert_eq!(status == 403, !may, "{name}: {status}");
        assert_ne!(status, 401, "{name}");
    }
    server.stop().await;
}

/// A stream's outcome is in its last envelope; one that may be read does not end.
async fn streams_hold_roles_in_json(
    method: &MethodDescriptor,
    request: reqwest::RequestBuilder,
    reader: &str,
) {
    let name = method.full_name();
    let request = request.header("content-type", "application/connect+json");
    let request = request.body(b"\0\0\0\0\x02{}".to_vec());
    let nobody = request.try_clone().unwrap().send().await.unwrap();
    assert!(nobody.text().await.unwrap().contains("unauthenticated"), "{name}");
    let answer = request.bearer_auth(reader).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{name}");
    if !declared(method, "roles").unwrap().contains(&"READER".to_owned()) {
        assert!(answer.text().await.unwrap().contains("permission_denied"), "{name}");
    }
}

/// A key that has all the right parts, and that nobody ever made.
fn invented() -> String {
    let (id, secret) = (random::<16>().unwrap(), random::<32>().unwrap());
    let check = digest(&[b"key check", &id, &secret]);
    let tail = URL_SAFE_NO_PAD.encode([&secret[..], &check[..4]].concat());
    format!("sk_admin_{}_{tail}", hex::encode(id))
}

/// The id of a good key with the secret of nobody.
fn with_other_secret(good: &str) -> String {
    let id = good.split('_').nth(2).unwrap();
    let invented = invented();
    let secret = URL_SAFE_NO_PAD.decode(invented.splitn(4, '_').nth(3).unwrap()).unwrap();
    let check = digest(&[b"key check", &hex::decode(id).unwrap(), &secret[..32]]);
    let tail = URL_SAFE_NO_PAD.encode([&secret[..32], &check[..4]].concat());
    format!("sk_admin_{id}_{tail}")
}

async fn expired(admin: &mut Clients, clock: &ManualClock) -> String {
    let now = clock.now();
    let soon = prost_types::Timestamp { seconds: now.as_second() + 60, nanos: 0 };
    let (_, text) = key(admin, Role::Admin, "", Some(soon)).await;
    clock.set(now + jiff::SignedDuration::from_secs(60));
    text
}

async fn revoked(server: &Server, admin: &mut Clients) -> String {
    let (api_key_id, text) = key(admin, Role::Admin, "", None).await;
    // It was good, and the server has seen it be good.
    let mut client = server.with_key(&text).await;
    client.organization.get_organization(v1::GetOrganizationRequest {}).await.unwrap();
    let request = v1::RevokeApiKeyRequest { api_key_id };
    admin.organization.revoke_api_key(request).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_good_credential_every_rpc_gives_the_same_answer() {
    let clock = clock();
    let server = Server::with(|_| {}, Arc::<ManualClock>::clone(&clock)).await;
    let mut admin = server.admin().await;
    let good = server.first.admin_key.clone();
    let (end, garbled) = (good.len() - 1, good.clone());
    let other = if good.ends_with('A') { 'B' } else { 'A' };
    let garbled = format!("{}{other}", &garbled[..end]);
    let revoked = revoked(&server, &mut admin).await;
    let expired = expired(&mut admin, &clock).await;
    let bearer = |key: &str| vec![format!("Bearer {key}")];
    let credentials = [
        ("no header", vec![]),
        ("an empty header", vec![String::new()]),
        ("no key", vec!["Bearer".to_owned()]),
        ("an empty key", bearer("")),
        ("a garbled key", bearer(&garbled)),
        ("a cut key", bearer(&good[..end])),
        ("a longer key", bearer(&format!("{good}A"))),
        ("a key with space around it", bearer(&format!(" {good}"))),
        ("a key in capitals", bearer(&good.to_uppercase())),
        ("another scheme", vec![format!("Basic {good}")]),
        ("no scheme", vec![good.clone()]),
        ("two headers", [bearer(&good), bearer(&good)].concat()),
        ("two keys in one", bearer(&format!("{good}, {good}"))),
        ("a huge key", bearer(&"sk_admin_".repeat(200))),
        ("a key nobody made", bearer(&invented())),
        ("another secret", bearer(&with_other_secret(&good))),
        ("a revoked key", bearer(&revoked)),
        ("an expired key", bearer(&expired)),
    ];
    let raw = Raw::connect(&server.url()).await;
    let pool = pool();
    let mut first = None;
    for method in methods(&pool) {
        for (what, headers) in &credentials {
            let headers = headers.iter().map(String::as_str).collect::<Vec<_>>();
            let answer = raw.call(&method, &headers, Vec::new()).await;
            let name = method.full_name();
            let status = answer.err().unwrap_or_else(|| panic!("{name} served {what}"));
            assert_eq!(status.code(), Code::Unauthenticated, "{name}, {what}");
            assert_eq!(Refused::of(&status).reason, "CREDENTIAL_INVALID", "{name}, {what}");
            let first = first.get_or_insert_with(|| status.clone());
            assert!(same(first, &status), "{name} tells {what} from others: {status:?}");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_that_a_key_shows_gives_it_nothing() {
    let server = Server::with(|_| {}, clock()).await;
    let bound = &server.first.agent_key;
    let posing = bound.replacen("sk_agent_", "sk_admin_", 1);
    assert_ne!(&posing, bound);
    let mut client = server.with_key(&posing).await;
    let request = v1::FreezeOrganizationRequest {};
    let status = client.organization.freeze_organization(request).await.unwrap_err();
    assert!(matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied));
    let organization = v1::GetOrganizationRequest {};
    let organization = server.admin().await.organization.get_organization(organization).await;
    assert!(!organization.unwrap().into_inner().organization.unwrap().frozen);
    server.stop().await;
}
