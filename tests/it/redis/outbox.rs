//! An outbox that cannot be recorded: an operator sees why, keeps what is there, and goes on behind
//! it. What was given up counts as spent.
//!
//! Not here: that such a shard stops, and no other (`operators`).

use std::time::Duration;

use quetra::proto::v1::Decision;
use serde_json::Value;

use super::ended::first_epoch;
use super::levels::owner;
use super::operators::{until, url};
use super::{call, insist, server, spent};
use crate::harness::redis::Redis;
use crate::harness::{FAST, Server, ask, budget};
use crate::process::quetra;

/// How long something that happens by itself may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What `quetra outbox …` prints, and whether it succeeds.
async fn outbox(server: &Server, redis: &Redis, command: &[&str]) -> (bool, String) {
    let mut outbox = quetra(&[&["outbox"], command, &["--log", "off"]].concat());
    outbox.args(["--database-url", url(server), "--redis-url", &redis.url()]);
    outbox.args(["--durability", "fast"]);
    let output = tokio::task::spawn_blocking(move || outbox.output().unwrap()).await.unwrap();
    let said = if output.status.success() { &output.stdout } else { &output.stderr };
    (output.status.success(), String::from_utf8_lossy(said).into_owned())
}

/// What is not recorded.
async fn waiting(server: &Server, redis: &Redis) -> Vec<Value> {
    let (done, said) = outbox(server, redis, &["show", "--output", "json"]).await;
    assert!(done, "{said}");
    let said: Value = serde_json::from_str(&said).unwrap();
    said["waiting"].as_array().unwrap().clone()
}

/// Goes on behind a place, and waits until everything behind it is recorded.
async fn resume(server: &Server, redis: &Redis, shard: &str, behind: &str) {
    let resume = ["resume", "--shard", shard, "--behind", behind];
    let (done, said) = outbox(server, redis, &resume).await;
    assert!(done && said.contains("Nothing was done"), "{said}");
    let (done, said) =
        outbox(server, redis, &[&resume[..], &["--dangerous-give-up"]].concat()).await;
    assert!(done, "{said}");
    let begun = tokio::time::Instant::now();
    while !waiting(server, redis).await.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "it is not recorded behind {behind}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_goes_on_behind_an_entry_that_cannot_be_understood() {
    let redis = Redis::start("everysec");
    let server = server(&redis, FAST).await;
    let mut admin = server.admin().await;
    let (agent, mandate) = admin.agent_with_mandate(budget(100, 1), vec![]).await;
    insist(&mut admin, &ask(&agent, 1)).await;
    let status = until(&server, &redis, |status| status["shards"][0]["outbox"] == "recorded").await;
    let shard = status["shards"][0]["shard"].to_string();
    let number = shard.parse::<u8>().unwrap();
    redis.ask(&format!("XADD v1:{{s{number:02}}}:out 1-* x nonsense"));
    let answer = insist(&mut admin, &ask(&agent, 1)).await;
    assert_eq!(answer.decision(), Decision::Approved, "{}", answer.explanation);

    let found = waiting(&server, &redis).await;
    let [poison, decision] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((&poison["says"], &poison["missingUpTo"]), (&"unknown".into(), &Value::Null));
    assert_eq!((&decision["says"], &decision["mandateId"]), (&"decision".into(), &mandate.into()));
    assert_eq!(decision["transactionId"], answer.transaction_id);
    let (done, exported) = outbox(&server, &redis, &["export", "--shard", &shard]).await;
    assert!(done, "{exported}");
    let exported = exported.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert_eq!(exported.collect::<Vec<_>>(), found);
    // Only what is there and not recorded can be given up.
    for wrong in ["1-1", "1-9999", "9-0", "nowhere"] {
        let place = ["resume", "--shard", &shard, "--behind", wrong, "--dangerous-give-up"];
        let (done, said) = outbox(&server, &redis, &place).await;
        assert!(!done && said.contains("within the outbox"), "{wrong}: {said}");
    }

    resume(&server, &redis, &shard, poison["place"].as_str().unwrap()).await;
    assert_eq!(spent(&mut admin, &agent).await, 2);
    insist(&mut admin, &ask(&agent, 1)).await;
    assert_eq!(spent(&mut admin, &agent).await, 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_goes_on_behind_a_hole_and_what_is_missing_counts_as_spent() {
    let redis = Redis::start("everysec");
    let server = server(&redis, FAST).await;
    let mut admin = server.admin().await;
    let (agent, _) = admin.agent_with_mandate(budget(10, 1), vec![]).await;
    insist(&mut admin, &ask(&agent, 1)).await;
    let status = until(&server, &redis, |status| status["shards"][0]["outbox"] == "recorded").await;
    let shard = status["shards"][0]["shard"].to_string();
    let out = format!("v1:{{s{:02}}}:out", shard.parse::<u8>().unwrap());
    // Nothing is recorded behind it, so that the next decision can be taken out.
    redis.ask(&format!("XADD {out} 1-* x nonsense"));
    insist(&mut admin, &ask(&agent, 1)).await;
    insist(&mut admin, &ask(&agent, 1)).await;
    let found = waiting(&server, &redis).await;
    let lost = found[1]["place"].as_str().unwrap().to_owned();
    redis.ask(&format!("XDEL {out} {} {lost}", found[0]["place"].as_str().unwrap()));

    let found = waiting(&server, &redis).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["missingUpTo"], lost.as_str());
    resume(&server, &redis, &shard, &lost).await;
    // Nothing that the epoch has leased is ever freed by itself.
    let pool = owner(&server).await;
    assert_eq!(first_epoch(&pool).await.1, Some(false));
    pool.close().await;
    // Three were answered; the one that is lost is not in the record, and cannot be spent again.
    assert_eq!(spent(&mut admin, &agent).await, 2);
    for _ in 0..7 {
        let answer = insist(&mut admin, &ask(&agent, 1)).await;
        assert_eq!(answer.decision(), Decision::Approved, "{}", answer.explanation);
    }
    // Nothing proves that it is spent, so it is not refused either.
    assert!(call(&mut admin, &ask(&agent, 1)).await.is_none(), "it is refused, or approved");
    server.end().await;
}
