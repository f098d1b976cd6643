//! What receivers get, on each engine, and that the official libraries accept it.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use super::receiver::{Got, Receiver};
use super::*;
use crate::harness::{ask, budget};

/// What an official library says of messages.
pub(crate) fn verdicts(library: &str, messages: &[serde_json::Value]) -> Vec<bool> {
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

pub(super) async fn test_event(admin: &mut Clients, id: &str) -> v1::WebhookDelivery {
    let request = v1::SendTestWebhookRequest { webhook_endpoint_id: id.to_owned() };
    let sent = admin.webhooks.send_test_webhook(request).await.unwrap().into_inner();
    sent.webhook_delivery.unwrap()
}

/// Waits until a delivery is not pending any more.
pub(super) async fn outcome(admin: &mut Clients, id: &str) -> v1::WebhookDelivery {
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

async fn decisions_reach_their_endpoint(engine: Engine) {
    let server = on(engine, Arc::new(SystemClock)).await;
    let (all, some) = (Receiver::start().await, Receiver::start().await);
    let mut admin = server.admin().await;
    endpoint(&mut admin, &all.url, &[]).await;
    endpoint(&mut admin, &some.url, &["transaction.settled", "transaction.rejected"]).await;
    let (agent_id, mandate_id) = admin.agent_with_mandate(budget(1_000, 500), vec![]).await;
    let approved = admin.spend(ask(&agent_id, 400)).await;
    let rejected = admin.spend(ask(&agent_id, 501)).await;
    let request = v1::SettleTransactionRequest {
        transaction_id: approved.transaction_id.clone(),
        amount: Some(300),
    };
    admin.transactions.settle_transaction(request).await.unwrap();
    let of = |got: &[Got], kind: &str| {
        let found = got.iter().map(Got::json).find(|event| event["type"] == kind);
        found.map(|event| event["data"].clone())
    };
    let kinds = [
        "mandate.activated",
        "transaction.approved",
        "transaction.rejected",
        "transaction.settled",
    ];
    let got = all.until(|got| kinds.iter().all(|kind| of(got, kind).is_some())).await;
    let data = of(&got, "transaction.approved").unwrap();
    assert_eq!(data["transactionId"], approved.transaction_id);
    assert_eq!((&data["mandateId"], &data["agentId"]), (&mandate_id.into(), &agent_id.into()));
    assert_eq!((&data["amount"], &data["currency"]), (&400.into(), &"USD".into()));
    assert_eq!((&data["budgetSpent"], &data["budgetTotal"]), (&400.into(), &1_000.into()));
    assert_eq!(data["decision"], "approved");
    let data = of(&got, "transaction.rejected").unwrap();
    assert_eq!(data["transactionId"], rejected.transaction_id);
    assert_eq!(data["rejectionReasons"][0], "budget_per_tx_exceeded", "{data}");
    let filtered = some.until(|got| got.len() >= 2).await;
    let mut kinds: Vec<_> = filtered.iter().map(|got| got.json()["type"].clone()).collect();
    kinds.sort_by_key(ToString::to_string);
    assert_eq!(kinds, ["transaction.rejected", "transaction.settled"]);
    for got in got.iter().chain(&filtered) {
        assert_eq!(got.id(), got.json()["id"]);
    }
    server.stop().await;
}

async fn a_range_is_sent_again_with_the_same_ids(engine: Engine) {
    let server = on(engine, Arc::new(SystemClock)).await;
    let receiver = Receiver::start().await;
    let mut admin = server.admin().await;
    let wanted = ["transaction.approved"];
    let (made, _) = endpoint(&mut admin, &receiver.url, &wanted).await;
    let (agent_id, _) = admin.agent_with_mandate(budget(100_000, 500), vec![]).await;
    for _ in 0..20 {
        admin.spend(ask(&agent_id, 10)).await;
    }
    let first = receiver.until(|got| got.len() >= 20).await;
    let request = v1::RedeliverWebhookRangeRequest {
        webhook_endpoint_id: made.id.clone(),
        since: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
        ..Default::default()
    };
    let again = admin.webhooks.redeliver_webhook_range(request.clone()).await.unwrap();
    let again = again.into_inner();
    assert_eq!((again.deliveries, again.next_page_token.as_str()), (20, ""));
    let got = receiver.until(|got| got.len() >= 40).await;
    let ids = |got: &[Got]| got.iter().map(|got| got.id().to_owned()).collect::<BTreeSet<_>>();
    assert_eq!((ids(&got).len(), ids(&got)), (20, ids(&first)));
    // Nothing happened before time began, nor after now.
    let empty = v1::RedeliverWebhookRangeRequest {
        until: Some(prost_types::Timestamp { seconds: 1_000, nanos: 0 }),
        ..request.clone()
    };
    let none = admin.webhooks.redeliver_webhook_range(empty).await.unwrap().into_inner();
    assert_eq!(none.deliveries, 0);
    let reversed = v1::RedeliverWebhookRangeRequest {
        since: Some(prost_types::Timestamp { seconds: 2_000, nanos: 0 }),
        until: Some(prost_types::Timestamp { seconds: 1_000, nanos: 0 }),
        ..request
    };
    let status = admin.webhooks.redeliver_webhook_range(reversed).await.unwrap_err();
    assert_eq!(faults(&status).0, ["until"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_of_a_neighbours_events() {
    let (server, neighbour_key) = Server::with_neighbour_and(loopback, Arc::new(SystemClock)).await;
    let (mine, theirs) = (Receiver::start().await, Receiver::start().await);
    let mut admin = server.admin().await;
    let mut neighbour = server.with_key(&neighbour_key).await;
    endpoint(&mut admin, &mine.url, &[]).await;
    endpoint(&mut neighbour, &theirs.url, &[]).await;
    let (agent_id, _) = neighbour.agent_with_mandate(budget(1_000, 500), vec![]).await;
    neighbour.spend(ask(&agent_id, 10)).await;
    theirs.until(|got| got.len() >= 2).await;
    assert!(mine.received().is_empty(), "{:?}", mine.received());
    server.stop().await;
}

mod on_each {
    macro_rules! on {
        ($($name:ident = $test:ident on $engine:ident;)+) => {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$test(super::Engine::$engine).await;
            })+
        };
    }

    on! {
        decisions_reach_their_endpoint_on_sqlite = decisions_reach_their_endpoint on Sqlite;
        decisions_reach_their_endpoint_on_postgres = decisions_reach_their_endpoint on Postgres;
        a_range_is_sent_again_on_sqlite = a_range_is_sent_again_with_the_same_ids on Sqlite;
        a_range_is_sent_again_on_postgres = a_range_is_sent_again_with_the_same_ids on Postgres;
        a_test_is_sent_once_on_sqlite = a_test_event_is_sent_once_and_its_outcome_is_told on Sqlite;
        a_test_is_sent_once_on_postgres =
            a_test_event_is_sent_once_and_its_outcome_is_told on Postgres;
    }
}
