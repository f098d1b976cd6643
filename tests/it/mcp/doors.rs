//! Who gets in: names and origins, credentials in headers and in URLs, roles, revocation.

use std::sync::Arc;

use quetra::clock::SystemClock;
use quetra::proto::v1;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Mcp, key};
use crate::harness::{Server, budget};

async fn status_and_reason(request: reqwest::RequestBuilder) -> (u16, String) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    (status, body["reason"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bearer_gets_a_challenge_that_says_where_to_read_on() {
    let server = Server::start().await;
    let mcp = Mcp::of_agent(&server);
    let message = mcp.message("tools/list", json!({}));
    let metadata = format!("{}/.well-known/oauth-protected-resource/mcp", server.url());
    let response = mcp.request_to("/mcp", &message).send().await.unwrap();
    assert_eq!(response.status(), 401);
    let challenge = response.headers()["www-authenticate"].to_str().unwrap();
    assert_eq!(challenge, format!("Bearer resource_metadata=\"{metadata}\""));
    let response = mcp.request_to("/mcp", &message).bearer_auth("sk_x").send().await.unwrap();
    assert_eq!(response.status(), 401);
    let challenge = response.headers()["www-authenticate"].to_str().unwrap();
    let expected = format!("Bearer error=\"invalid_token\", resource_metadata=\"{metadata}\"");
    assert_eq!(challenge, expected);
    // RFC 9728: the metadata names the resource that was asked for.
    for path in ["/mcp", ""] {
        let url = format!("{}/.well-known/oauth-protected-resource{path}", server.url());
        let found: Value = mcp.http.get(url).send().await.unwrap().json().await.unwrap();
        assert_eq!(found["resource"], format!("{}/mcp", server.url()));
        assert_eq!(found["bearer_methods_supported"], json!(["header"]));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_keys_of_agents_are_accepted() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let reader = key(&mut admin, v1::Role::Reader, "").await.1;
    for wrong in [&server.first.admin_key, &reader] {
        let mcp = Mcp::new(&server, wrong);
        let message = mcp.message("tools/list", json!({}));
        let refused = status_and_reason(mcp.request(&message)).await;
        assert_eq!(refused, (403, "ROLE_NOT_ALLOWED".to_owned()));
    }
    // In a URL every key that does not fit looks like an address that does not exist.
    let mcp = Mcp::of_agent(&server);
    let message = mcp.message("tools/list", json!({}));
    let mut bodies = Vec::new();
    for wrong in [&server.first.admin_key, &reader, "sk_agent_nobody", "nonsense"] {
        let response = mcp.request_to(&format!("/{wrong}/mcp"), &message).send().await.unwrap();
        assert_eq!(response.status(), 404);
        assert!(!response.headers().contains_key("www-authenticate"));
        bodies.push(response.text().await.unwrap());
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    let good = format!("/{}/mcp", server.first.agent_key);
    assert_eq!(mcp.request_to(&good, &message).send().await.unwrap().status(), 200);
    // Two credentials are as good as none.
    let both = mcp.request_to(&good, &message).bearer_auth(&server.first.agent_key);
    assert_eq!(both.send().await.unwrap().status(), 404);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_list_shows_which_keys_came_in_urls() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let (agent_id, _) = admin.agent_with_mandate(budget(1_000, 100), vec![]).await;
    let (in_header, header_key) = key(&mut admin, v1::Role::Agent, &agent_id).await;
    let (in_url, url_key) = key(&mut admin, v1::Role::Agent, &agent_id).await;
    let mcp = Mcp::new(&server, &header_key);
    mcp.tools().await;
    let message = mcp.message("tools/list", json!({}));
    let path = format!("/{url_key}/mcp");
    assert_eq!(mcp.request_to(&path, &message).send().await.unwrap().status(), 200);
    // A server that stops has written everything down.
    let kept = server.stop_and_keep().await;
    let server = Server::resume(kept, |_| {}, Arc::new(SystemClock)).await;
    let mut admin = server.admin().await;
    let request = v1::ListApiKeysRequest { page: None };
    let keys = admin.organization.list_api_keys(request).await.unwrap().into_inner().api_keys;
    let find = |id: &str| keys.iter().find(|key| key.id == id).unwrap().clone();
    let (header, url) = (find(&in_header), find(&in_url));
    assert!(header.last_used_at.is_some() && url.last_used_at.is_some());
    assert_eq!(header.url_used_at, None);
    assert_eq!(url.url_used_at, url.last_used_at);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_out_at_once() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let (id, text) = key(&mut admin, v1::Role::Agent, &server.agent_id()).await;
    let mcp = Mcp::new(&server, &text);
    mcp.tools().await;
    let request = v1::RevokeApiKeyRequest { api_key_id: id };
    admin.organization.revoke_api_key(request).await.unwrap();
    let message = mcp.message("tools/list", json!({}));
    let refused = status_and_reason(mcp.request(&message)).await;
    assert_eq!(refused, (401, "CREDENTIAL_INVALID".to_owned()));
    let in_url = mcp.request_to(&format!("/{text}/mcp"), &message);
    assert_eq!(status_and_reason(in_url).await, (404, "NOT_FOUND".to_owned()));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_own_names_and_named_pages_reach_it() {
    let page = "https://console.example.com";
    let server = Server::with(
        |config| {
            config.mcp_allowed_hosts = vec!["mcp.example.com".to_owned()];
            config.cors_allowed_origins = vec![page.to_owned()];
        },
        Arc::new(SystemClock),
    )
    .await;
    let mcp = Mcp::of_agent(&server);
    let message = mcp.message("tools/list", json!({}));
    let own = server.url();
    let table = [
        (None, None, 200),
        (Some("mcp.example.com"), None, 200),
        (Some("localhost"), None, 200),
        (Some("evil.example.com"), None, 403),
        (None, Some(own.as_str()), 200),
        (None, Some(page), 200),
        (None, Some("https://evil.example.com"), 403),
        (None, Some("null"), 403),
        (Some("mcp.example.com"), Some("https://mcp.example.com"), 200),
        (Some("mcp.example.com"), Some("https://evil.example.com"), 403),
    ];
    for (host, origin, expected) in table {
        let mut request = mcp.request(&message);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let status = request.send().await.unwrap().status();
        assert_eq!(status, expected, "{host:?} {origin:?}");
    }
    // The browser asks first, without a credential.
    for (origin, allowed) in [(page, true), ("https://evil.example.com", false)] {
        let asked = mcp.http.request(Method::OPTIONS, format!("{own}/mcp"));
        let asked = asked.header("origin", origin).header("access-control-request-method", "POST");
        let answer = asked.send().await.unwrap();
        let named = answer.headers().get("access-control-allow-origin");
        assert_eq!(named.is_some_and(|named| named == origin), allowed, "{answer:?}");
    }
    let metadata = format!("{own}/.well-known/oauth-protected-resource/mcp");
    let foreign = mcp.http.get(metadata).header("host", "evil.example.com");
    assert_eq!(foreign.send().await.unwrap().status(), 403);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_one_method_and_no_query() {
    let server = Server::start().await;
    let mcp = Mcp::of_agent(&server);
    for method in [Method::GET, Method::DELETE, Method::PUT] {
        let request = mcp.http.request(method, format!("{}/mcp", server.url()));
        let response = request.bearer_auth(&mcp.key).send().await.unwrap();
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()["allow"], "POST");
    }
    let message = mcp.message("tools/list", json!({}));
    let with_query = mcp.request_to("/mcp?session=1", &message).bearer_auth(&mcp.key);
    assert_eq!(with_query.send().await.unwrap().status(), 400);
    let in_query = mcp.request_to(&format!("/mcp?api_key={}", mcp.key), &message);
    assert_eq!(in_query.send().await.unwrap().status(), 400);
    server.stop().await;
}
