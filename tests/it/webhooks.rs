//! Webhooks through a real server: endpoints, secrets, bad input, tests, and what is sent.
//!
//! `webhooks/sent.rs` has what receivers get, and the official libraries that verify it;
//! `webhooks/crash.rs` what they get of a server that is killed, `webhooks/takeover.rs` what of
//! another one then, `webhooks/tls.rs` certificates. Not here: schedules, fairness and
//! misbehaviour of receivers, which the unit tests of `webhook` have.

mod crash;
pub(crate) mod receiver;
pub(crate) mod sent;
mod takeover;
mod tls;

use std::sync::Arc;

use quetra::clock::{Clock, SystemClock};
use quetra::config::{EgressConfig, ServerConfig};
use quetra::proto::v1;
use tonic::{Code, Status};

use crate::harness::witness::Refused;
use crate::harness::{Clients, Engine, Server};
use crate::process::quetra;

/// Receivers of tests are on loopback, without TLS.
pub(crate) fn loopback(config: &mut ServerConfig) {
    let allowed = vec!["127.0.0.0/8".parse().unwrap()];
    config.egress = EgressConfig { allows_http: true, allowed, authorities: Vec::new() };
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_makes_and_moves_an_endpoint_on_the_server_it_speaks_to() {
    let server = on(Engine::Sqlite, Arc::new(SystemClock)).await;
    // Nobody has to be at an endpoint's address for it to be made, and nobody there gets the key.
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let url = format!("http://{}/hooks", elsewhere.local_addr().unwrap());
    let webhooks = |arguments: &[&str]| {
        let mut command = quetra(&["webhooks"]);
        command.args(arguments).args(["--output", "json"]);
        command
            .env("QUETRA_GATEWAY_URL", server.url())
            .env("QUETRA_API_KEY", &server.first.admin_key);
        let ran = command.output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        serde_json::from_slice::<serde_json::Value>(&ran.stdout).unwrap()
    };
    let made = webhooks(&["create", &url, "--disabled"]);
    assert_eq!(made["webhookEndpoint"]["url"], url, "{made}");
    let id = made["webhookEndpoint"]["id"].as_str().unwrap();
    let moved = format!("{url}/moved");
    let changed = webhooks(&["update", id, "--endpoint-url", &moved]);
    assert_eq!(changed["webhookEndpoint"]["url"], moved, "{changed}");
    assert_eq!(elsewhere.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    server.stop().await;
}

async fn on(engine: Engine, clock: Arc<dyn Clock>) -> Server {
    Server::on_with(engine, loopback, clock).await
}

/// A new endpoint and its secret.
pub(crate) async fn endpoint(
    admin: &mut Clients,
    url: &str,
    events: &[&str],
) -> (v1::WebhookEndpoint, String) {
    let request = v1::CreateWebhookEndpointRequest {
        url: url.to_owned(),
        events: events.iter().map(|word| (*word).to_owned()).collect(),
        ..Default::default()
    };
    let made = admin.webhooks.create_webhook_endpoint(request).await.unwrap().into_inner();
    (made.webhook_endpoint.unwrap(), made.secret)
}

fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

fn told(status: &Status, code: Code, reason: &str) {
    assert_eq!((status.code(), Refused::of(status).reason.as_str()), (code, reason), "{status:?}");
}

/// The fields that an error complains about, and what it says of the first.
fn faults(status: &Status) -> (Vec<String>, String) {
    use tonic_types::StatusExt;
    let details = status.get_error_details();
    let found = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    let first = found.first().map(|fault| fault.description.clone()).unwrap_or_default();
    (found.into_iter().map(|fault| fault.field).collect(), first)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_made_read_listed_changed_and_removed() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let (made, secret) =
        endpoint(&mut admin, "https://example.com/hooks", &["transaction.settled"]).await;
    assert!(made.id.starts_with("whe_") && made.enabled && !made.is_default, "{made:?}");
    assert!(secret.starts_with("whsec_") && secret.len() > 40);
    let get = v1::GetWebhookEndpointRequest { webhook_endpoint_id: made.id.clone() };
    let read = admin.webhooks.get_webhook_endpoint(get.clone()).await.unwrap().into_inner();
    assert_eq!(read.webhook_endpoint.as_ref(), Some(&made));
    let (second, _) = endpoint(&mut admin, "https://example.org/", &[]).await;
    let list = v1::ListWebhookEndpointsRequest::default();
    let listed = admin.webhooks.list_webhook_endpoints(list).await.unwrap().into_inner();
    let ids: Vec<_> = listed.webhook_endpoints.iter().map(|found| &found.id).collect();
    assert_eq!(ids, [&second.id, &made.id]);

    let request = v1::UpdateWebhookEndpointRequest {
        webhook_endpoint_id: made.id.clone(),
        update_mask: mask(&["url", "events", "enabled", "description"]),
        url: "https://example.net/other".to_owned(),
        description: "books".to_owned(),
        events: vec!["mandate.revoked".to_owned(), "mandate.revoked".to_owned()],
        enabled: false,
        idempotency_key: "change-it-once".to_owned(),
    };
    let mut changes = Vec::new();
    for _ in 0..2 {
        let changed = admin.webhooks.update_webhook_endpoint(request.clone()).await.unwrap();
        changes.push(changed.into_inner().webhook_endpoint.unwrap());
    }
    assert_eq!(changes[0], changes[1]);
    assert_eq!((changes[0].url.as_str(), changes[0].enabled), ("https://example.net/other", false));
    assert_eq!(changes[0].events, ["mandate.revoked"]);
    let test = v1::SendTestWebhookRequest { webhook_endpoint_id: made.id.clone() };
    let status = admin.webhooks.send_test_webhook(test).await.unwrap_err();
    told(&status, Code::FailedPrecondition, "WEBHOOK_ENDPOINT_DISABLED");

    let delete = v1::DeleteWebhookEndpointRequest { webhook_endpoint_id: made.id.clone() };
    admin.webhooks.delete_webhook_endpoint(delete.clone()).await.unwrap();
    let status = admin.webhooks.delete_webhook_endpoint(delete).await.unwrap_err();
    told(&status, Code::NotFound, "NOT_FOUND");
    let status = admin.webhooks.get_webhook_endpoint(get).await.unwrap_err();
    told(&status, Code::NotFound, "NOT_FOUND");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_urls_secrets_and_events_are_refused_at_save_with_the_reason() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let long = format!("https://example.com/{}", "a".repeat(2_048));
    let urls = [
        ("http://example.com/", "must begin with https://"),
        ("ftp://example.com/", "must begin with https://"),
        ("https://127.0.0.1/", "must not name an address that is loopback"),
        ("https://10.0.0.1/hooks", "must not name an address that is private"),
        ("https://169.254.169.254/latest", "must not name an address that is link-local"),
        ("https://[::1]/", "must not name an address that is loopback"),
        ("https://[fd00:ec2::254]/", "must not name an address that is private"),
        ("https://2130706433/", "must have its host written plainly"),
        ("https://0x7f.1/", "must have its host written plainly"),
        ("https://localhost/", "must not name a host inside"),
        ("https://metadata.google.internal/", "must not name a host inside"),
        ("https://redis/", "must have a full host name"),
        ("https://user:pass@example.com/", "must not have a user"),
        ("https://example.com:25/", "must not name a port"),
        ("https://example.com:6379/", "must not name a port"),
        ("not a url", "must be a URL"),
        (long.as_str(), "must be at most 2048 bytes"),
    ];
    let (kept, _) = endpoint(&mut admin, "https://example.com/", &[]).await;
    for (url, why) in urls {
        let request =
            v1::CreateWebhookEndpointRequest { url: url.to_owned(), ..Default::default() };
        let status = admin.webhooks.create_webhook_endpoint(request).await.unwrap_err();
        told(&status, Code::InvalidArgument, "INVALID_FIELDS");
        let (fields, said) = faults(&status);
        assert_eq!(fields, ["url"], "{url}");
        assert!(said.starts_with(why), "{url}: {said}");
        let request = v1::UpdateWebhookEndpointRequest {
            webhook_endpoint_id: kept.id.clone(),
            update_mask: mask(&["url"]),
            url: url.to_owned(),
            ..Default::default()
        };
        let status = admin.webhooks.update_webhook_endpoint(request).await.unwrap_err();
        assert_eq!(faults(&status).0, ["url"], "{url}");
        let request = v1::UpdateOrganizationRequest {
            update_mask: mask(&["webhook_url"]),
            webhook_url: url.to_owned(),
            ..Default::default()
        };
        let status = admin.organization.update_organization(request).await.unwrap_err();
        assert_eq!(faults(&status).0, ["webhook_url"], "{url}");
    }
    for secret in ["whsec_", "whsec_AAAA", "hunter2hunter2hunter2hunter2hunter2", "whsec_!"] {
        let request = v1::CreateWebhookEndpointRequest {
            url: "https://example.com/".to_owned(),
            events: vec!["transaction.approved".to_owned(), "transaction.aproved".to_owned()],
            secret: secret.to_owned(),
            ..Default::default()
        };
        let status = admin.webhooks.create_webhook_endpoint(request).await.unwrap_err();
        assert_eq!(faults(&status).0, ["events[1]", "secret"], "{secret}");
        assert!(secret.len() < 10 || !format!("{status:?}").contains(secret), "{status:?}");
        let request = v1::RotateWebhookSecretRequest {
            webhook_endpoint_id: kept.id.clone(),
            secret: secret.to_owned(),
            overlap: Some(prost_types::Duration { seconds: 8 * 86_400, nanos: 0 }),
            ..Default::default()
        };
        let status = admin.webhooks.rotate_webhook_secret(request).await.unwrap_err();
        assert_eq!(faults(&status).0, ["secret", "overlap"], "{secret}");
    }
    let list = v1::ListWebhookEndpointsRequest::default();
    let listed = admin.webhooks.list_webhook_endpoints(list).await.unwrap().into_inner();
    assert_eq!(listed.webhook_endpoints, [kept]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_shown_once_and_is_sealed_where_it_is_kept() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let request = v1::CreateWebhookEndpointRequest {
        url: "https://example.com/".to_owned(),
        idempotency_key: "make-it-once".to_owned(),
        ..Default::default()
    };
    let made = admin.webhooks.create_webhook_endpoint(request.clone()).await.unwrap().into_inner();
    let again = admin.webhooks.create_webhook_endpoint(request).await.unwrap().into_inner();
    assert_eq!(made.webhook_endpoint, again.webhook_endpoint);
    assert_eq!(again.secret, "");
    let id = made.webhook_endpoint.unwrap().id;
    let request = v1::RotateWebhookSecretRequest {
        webhook_endpoint_id: id.clone(),
        idempotency_key: "rotate-it-once".to_owned(),
        ..Default::default()
    };
    let rotated = admin.webhooks.rotate_webhook_secret(request.clone()).await.unwrap();
    let rotated = rotated.into_inner();
    assert_ne!(rotated.secret, made.secret);
    let until = rotated.webhook_endpoint.unwrap().previous_secret_until.unwrap();
    let hours = (until.seconds - SystemClock.now().as_second()) / 3_600;
    assert!((23..=24).contains(&hours), "{hours}");
    let again = admin.webhooks.rotate_webhook_secret(request).await.unwrap().into_inner();
    assert_eq!(again.secret, "");
    // A change that changes nothing is answered, again too, and is no act.
    let request = v1::UpdateWebhookEndpointRequest {
        webhook_endpoint_id: id.clone(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["enabled".to_owned()] }),
        enabled: true,
        idempotency_key: "change-nothing".to_owned(),
        ..Default::default()
    };
    for _ in 0..2 {
        let same = admin.webhooks.update_webhook_endpoint(request.clone()).await.unwrap();
        let same = same.into_inner().webhook_endpoint.unwrap();
        assert_eq!(same.updated_at, again.webhook_endpoint.as_ref().unwrap().updated_at);
    }
    let kind = "webhook".to_owned();
    let recorded = loop {
        let request = v1::ListEventsRequest { kind: kind.clone(), ..Default::default() };
        let found = admin.audit.list_events(request).await.unwrap().into_inner().entries;
        if found.len() >= 2 {
            break found;
        }
    };
    let kinds: Vec<_> = recorded.iter().map(|entry| entry.kind.as_str()).collect();
    assert_eq!(kinds, ["webhook.created", "webhook.secret_rotated"]);

    let secrets = [made.secret, rotated.secret];
    let list = v1::ListWebhookEndpointsRequest::default();
    let listed = admin.webhooks.list_webhook_endpoints(list).await.unwrap().into_inner();
    let (listed, folder) = (format!("{listed:?}"), server.folder.path().to_owned());
    let kept = server.stop_and(async || std::fs::read(folder.join("quetra.db")).unwrap()).await;
    for secret in &secrets {
        use base64::Engine as _;
        let encoded = &secret["whsec_".len()..];
        let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap();
        assert!(!listed.contains(encoded), "{listed}");
        for needle in [encoded.as_bytes(), &bytes, hex::encode(&bytes).as_bytes()] {
            let is_there = kept.windows(needle.len()).any(|window| window == needle);
            assert!(!is_there, "a secret is in the database in the clear");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_has_a_bounded_number_of_endpoints() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    for _ in 0..32 {
        endpoint(&mut admin, "https://example.com/", &[]).await;
    }
    let request = v1::CreateWebhookEndpointRequest {
        url: "https://example.com/".to_owned(),
        ..Default::default()
    };
    let status = admin.webhooks.create_webhook_endpoint(request).await.unwrap_err();
    told(&status, Code::FailedPrecondition, "WEBHOOK_LIMIT_REACHED");
    let request = v1::UpdateOrganizationRequest {
        update_mask: mask(&["webhook_url"]),
        webhook_url: "https://example.com/".to_owned(),
        ..Default::default()
    };
    let status = admin.organization.update_organization(request).await.unwrap_err();
    told(&status, Code::FailedPrecondition, "WEBHOOK_LIMIT_REACHED");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_published_paths_manage_the_organizations_own_endpoint() {
    let server = Server::start().await;
    let http = reqwest::Client::new();
    let call = async |method: reqwest::Method, path: &str, body: serde_json::Value| {
        let url = format!("{}/api/v1{path}", server.url());
        let request = http.request(method, url).bearer_auth(&server.first.admin_key);
        let answer = request.json(&body).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json::<serde_json::Value>().await.unwrap_or_default())
    };
    let (patch, post) = (reqwest::Method::PATCH, reqwest::Method::POST);
    let rotate = "/organization/webhook-secret/rotate";
    let none = serde_json::json!({});
    // Who may not rotate it is not told whether there is one.
    let url = format!("{}/api/v1{rotate}", server.url());
    let agents = http.post(url).bearer_auth(&server.first.agent_key).json(&none).send().await;
    assert_eq!(agents.unwrap().status(), 403);
    let (status, said) = call(post.clone(), rotate, none.clone()).await;
    assert_eq!((status, said["reason"].as_str()), (404, Some("NOT_FOUND")), "{said}");
    let body = serde_json::json!({"webhookUrl": "https://example.com/hooks"});
    let (status, org) = call(patch.clone(), "/organization", body.clone()).await;
    assert_eq!((status, org["webhookUrl"].as_str()), (200, Some("https://example.com/hooks")));
    let id = org["webhookEndpointId"].as_str().unwrap().to_owned();
    let (status, same) = call(patch.clone(), "/organization", body).await;
    assert_eq!((status, same["webhookEndpointId"].as_str()), (200, Some(id.as_str())));
    let (status, rotated) = call(post, rotate, none).await;
    assert_eq!((status, rotated["id"].as_str()), (200, Some(id.as_str())));
    assert!(rotated["secret"].as_str().unwrap().starts_with("whsec_"), "{rotated}");
    assert_eq!(rotated["isDefault"], true);
    let body = serde_json::json!({"webhookUrl": "https://example.org/moved"});
    let (_, moved) = call(patch.clone(), "/organization", body).await;
    assert_eq!(moved["webhookEndpointId"].as_str(), Some(id.as_str()));
    let body = serde_json::json!({"webhookUrl": null});
    let (status, org) = call(patch, "/organization", body).await;
    assert_eq!((status, &org["webhookUrl"]), (200, &serde_json::Value::Null));
    let (status, _) =
        call(reqwest::Method::GET, &format!("/webhooks/{id}"), serde_json::json!({})).await;
    assert_eq!(status, 404);
    server.stop().await;
}
