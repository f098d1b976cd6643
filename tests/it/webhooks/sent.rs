//! What receivers get, on each engine, and that the official libraries accept it.

use std::io::Write;
use std::process::{Command, Stdio};

use super::receiver::{Got, Receiver};
use super::*;

/// What an official library says of messages.
fn verdicts(library: &str, messages: &[serde_json::Value]) -> Vec<bool> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/webhooks/verify");
    let mut child = Command::new(script)
        .arg(library)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text = serde_json::to_vec(messages).unwrap();
    child.stdin.take().unwrap().write_all(&text).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "tests/webhooks/verify {library} failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn test_event(admin: &mut Clients, id: &str) -> v1::WebhookDelivery {
    let request = v1::SendTestWebhookRequest { webhook_endpoint_id: id.to_owned() };
    let sent = admin.webhooks.send_test_webhook(request).await.unwrap().into_inner();
    sent.webhook_delivery.unwrap()
}

/// Waits until a delivery is not pending any more.
async fn outcome(admin: &mut Clients, id: &str) -> v1::WebhookDelivery {
    let waiting = async {
        loop {
            let webhook_delivery_id = id.to_owned();
            let request = v1::GetWebhookDeliveryRequest { webhook_delivery_id };
            let found = admin.webhooks.get_webhook_delivery(request).await.unwrap();
            let found = found.into_inner().webhook_delivery.unwrap();
            if found.state() != v1::WebhookDeliveryState::Pending {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(super::receiver::PATIENCE, waiting).await.expect("still pending")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_libraries_accept_what_is_sent_and_nothing_that_was_changed() {
    let (server, receiver) =
        (on(Engine::Sqlite, Arc::new(SystemClock)).await, Receiver::start().await);
    let mut admin = server.admin().await;
    let (made, old) = endpoint(&mut admin, &receiver.url, &[]).await;
    test_event(&mut admin, &made.id).await;
    receiver.until(|got| got.len() == 1).await;
    let request = v1::RotateWebhookSecretRequest {
        webhook_endpoint_id: made.id.clone(),
        ..Default::default()
    };
    let new = admin.webhooks.rotate_webhook_secret(request).await.unwrap().into_inner().secret;
    test_event(&mut admin, &made.id).await;
    let got = receiver.until(|got| got.len() == 2).await;
    let changed = |change: &dyn Fn(&mut Got)| {
        let mut changed = got[1].clone();
        change(&mut changed);
        changed.to_verify(&new)
    };
    let header = |name: &'static str, value: &'static str| {
        move |got: &mut Got| drop(got.headers.insert(name.to_owned(), value.to_owned()))
    };
    let cases = [
        (got[0].to_verify(&old), true),
        (got[0].to_verify(&new), false),
        // While it is rotated both are good.
        (got[1].to_verify(&old), true),
        (got[1].to_verify(&new), true),
        (changed(&|got| got.body.push(' ')), false),
        (changed(&header("webhook-id", "evt_00000000000000000000000000000000")), false),
        (changed(&header("webhook-timestamp", "1614265330")), false),
        (changed(&header("webhook-signature", "v1,AAAA")), false),
    ];
    let (messages, expected): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    for library in ["npm", "pypi"] {
        assert_eq!(verdicts(library, &messages), expected, "{library}");
    }
    server.stop().await;
}

async fn a_test_event_is_sent_once_and_its_outcome_is_told(engine: Engine) {
    let server = on(engine, Arc::new(SystemClock)).await;
    let receiver = Receiver::start().await;
    let mut admin = server.admin().await;
    let (made, _) = endpoint(&mut admin, &receiver.url, &["mandate.revoked"]).await;
    let sent = test_event(&mut admin, &made.id).await;
    let done = outcome(&mut admin, &sent.id).await;
    assert_eq!(done.state(), v1::WebhookDeliveryState::Delivered);
    assert_eq!((done.attempts_made, done.attempts[0].status), (1, 204));
    let got = receiver.received();
    assert_eq!((got.len(), got[0].id()), (1, done.event_id.as_str()));
    assert_eq!(got[0].json()["type"], "webhook.test");
    // Nobody is there: told at once, and not tried again.
    let (nobody, _) = endpoint(&mut admin, "http://127.0.0.1:1025/", &[]).await;
    let sent = test_event(&mut admin, &nobody.id).await;
    let done = outcome(&mut admin, &sent.id).await;
    assert_eq!(done.state(), v1::WebhookDeliveryState::Failed);
    assert_eq!((done.attempts_made, done.attempts[0].error.as_str()), (1, "connection_failed"));
    assert!(done.next_attempt_at.is_none());
    // Again, by hand.
    let request = v1::RedeliverWebhookRequest { webhook_delivery_id: sent.id.clone() };
    admin.webhooks.redeliver_webhook(request).await.unwrap();
    let done = outcome(&mut admin, &sent.id).await;
    assert_eq!(done.attempts_made, 2);
    let list = v1::ListWebhookDeliveriesRequest {
        webhook_endpoint_id: nobody.id.clone(),
        event_type: "webhook.test".to_owned(),
        ..Default::default()
    };
    let listed = admin.webhooks.list_webhook_deliveries(list).await.unwrap().into_inner();
    assert_eq!(listed.webhook_deliveries, [done]);
    server.stop().await;
}

mod on_sqlite {
    #[tokio::test(flavor = "multi_thread")]
    async fn a_test_event_is_sent_once_and_its_outcome_is_told() {
        super::a_test_event_is_sent_once_and_its_outcome_is_told(super::Engine::Sqlite).await;
    }
}

mod on_postgres {
    #[tokio::test(flavor = "multi_thread")]
    async fn a_test_event_is_sent_once_and_its_outcome_is_told() {
        super::a_test_event_is_sent_once_and_its_outcome_is_told(super::Engine::Postgres).await;
    }
}
