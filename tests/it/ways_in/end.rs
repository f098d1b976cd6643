//! The end of a server under load: every answer is recorded, and nobody is left waiting.
//!
//! Not here: an end without order, which the crash tests make.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quetra::clock::SystemClock;
use quetra::proto::v1::{self, Decision};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::checker::read::{check_file, open};
use crate::harness::{Clients, Folder, ask, config, link, run, unique};

/// Calls until the first error; the transactions that were answered.
async fn calls_until_error(
    mut client: Clients,
    agent_id: String,
    done: Arc<AtomicUsize>,
) -> Vec<String> {
    let mut answered = Vec::new();
    loop {
        match client.evaluate.evaluate(ask(&agent_id, 1)).await {
            Ok(answer) => answered.push(answer.into_inner().transaction_id),
            Err(_) => return answered,
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// The same by REST, where each client has connections of its own.
async fn rest_until_error(
    (url, key): (String, String),
    agent_id: String,
    done: Arc<AtomicUsize>,
) -> Vec<String> {
    let client = reqwest::Client::new();
    let mut answered = Vec::new();
    loop {
        let body = json!({
            "agentId": agent_id, "amount": 1, "currency": "USD", "vendor": "firecrawl.dev",
            "idempotencyKey": format!("end-{:08}", unique()),
        });
        let sent = client.post(&url).bearer_auth(&key).json(&body).send().await;
        let Ok(answer) = sent else { return answered };
        let (status, body) = (answer.status(), answer.json::<Value>().await);
        match body {
            Ok(body) if status == 200 => {
                answered.push(body["transactionId"].as_str().unwrap().to_owned());
            }
            _ => return answered,
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_with_calls_in_flight_loses_no_answer_and_leaves_no_caller_waiting() {
    const CALLERS: usize = 200;
    let folder = Folder::new();
    let (started, stop, task) = run(config(&folder), Arc::new(SystemClock)).await;
    let first = started.first_start.unwrap();
    let url = format!("http://{}", started.addr);
    let connected = async |url: &str| {
        let channel = Channel::from_shared(url.to_owned()).unwrap().connect().await.unwrap();
        Clients::new(link(channel, &first.admin_key))
    };
    let mut admin = connected(&url).await;
    let budget = crate::harness::budget(1_000_000_000, 10);
    let (agent_id, _) = admin.agent_with_mandate(budget, Vec::new()).await;
    let done = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (agent_id, done) = (agent_id.clone(), Arc::clone(&done));
        if caller % 4 == 0 {
            let place = (format!("{url}/api/v1/gateway/evaluate"), first.admin_key.clone());
            callers.spawn(rest_until_error(place, agent_id, done));
        } else {
            callers.spawn(calls_until_error(admin.clone(), agent_id, done));
        }
    }
    // All of them are at it, again and again.
    while done.load(Ordering::Relaxed) < 2 * CALLERS {
        assert!(!callers.is_empty());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(stop);
    let (answered, ended) = tokio::join!(
        tokio::time::timeout(Duration::from_secs(60), callers.join_all()),
        tokio::time::timeout(Duration::from_secs(60), task)
    );
    let answered: BTreeSet<String> =
        answered.expect("a caller waits").into_iter().flatten().collect();
    ended.expect("the server does not end").unwrap().unwrap();
    assert!(answered.len() >= 2 * CALLERS);

    check_file(&folder.database()).await;
    let pool = open(&folder.database()).await;
    let rows = sqlx::query_scalar::<_, String>("SELECT 'tx_' || lower(hex(id)) FROM spend");
    let recorded: BTreeSet<_> = rows.fetch_all(&pool).await.unwrap().into_iter().collect();
    pool.close().await;
    let lost: Vec<_> = answered.difference(&recorded).collect();
    assert!(lost.is_empty(), "{} answered decisions are not recorded: {lost:?}", lost.len());

    let (again, stop, task) = run(config(&folder), Arc::new(SystemClock)).await;
    assert!(again.first_start.is_none());
    let mut admin = connected(&format!("http://{}", again.addr)).await;
    let request = v1::GetBudgetRequest { agent_id: agent_id.clone(), ..Default::default() };
    let left = admin.budget.get_budget(request).await.unwrap().into_inner().budget.unwrap();
    assert_eq!(left.spent, i64::try_from(recorded.len()).unwrap());
    assert_eq!(admin.spend(ask(&agent_id, 1)).await.decision(), Decision::Approved);
    drop(stop);
    task.await.unwrap().unwrap();
    check_file(&folder.database()).await;
}
