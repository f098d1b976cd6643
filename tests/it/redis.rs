//! Redis that dies, forgets, is emptied or put back: budgets hold, and what was answered is there,
//! as far as the level promises it.
//!
//! Each test has a Redis of its own. Not here: the same behaviour as on the other engines (`race`,
//! `control`, `replicas`, `model`), and every state of the protocol (`protocol`).

use std::collections::BTreeMap;
use std::sync::Arc;

use quetra::app::{Choices, serve_with};
use quetra::clock::SystemClock;
use quetra::config::{DatabaseUrl, DurabilityLevel, RedisConfig, Secret, ServerConfig};
use quetra::proto::v1::{self, Decision};
use sqlx::postgres::PgPool;
use tokio::task::JoinSet;
use tonic::Code;

use crate::harness::postgres::as_owner;
use crate::harness::redis::Redis;
use crate::harness::{Clients, FAST, Folder, STRICT, Server, ask, budget, config, shared_database};

mod cluster;
mod ended;
mod late;
mod levels;
mod operators;
mod outbox;
mod power;
mod promoted;
mod proofs;
mod rebase;
mod steady;
mod turns;
mod windows;

/// Callers at once.
const CALLERS: usize = 16;

/// A server on a Redis of its own.
async fn server(redis: &Redis, level: DurabilityLevel) -> Server {
    server_at(&redis.url(), level).await
}

/// The same, by a way of one's own.
async fn server_at(url: &str, level: DurabilityLevel) -> Server {
    let database = shared_database().await;
    let url = Secret::new(url.to_owned());
    let change = move |config: &mut ServerConfig| {
        config.database = database;
        config.redis = Some(RedisConfig { url, level });
    };
    Server::with(change, Arc::new(SystemClock)).await
}

/// Spends one unit at a time until nothing is had in several calls; what that was, which may not be
/// more than this.
async fn spend_what_can_be(client: &mut Clients, agent: &str, most: i64) -> i64 {
    let (mut sum, mut in_vain) = (0, 0);
    while in_vain < 5 {
        match call(client, &ask(agent, 1)).await {
            Some(answer) if answer.decision() == Decision::Approved => sum += 1,
            Some(_) | None => in_vain += 1,
        }
        assert!(sum <= most, "overspent");
    }
    sum
}

/// What came of a call; a failure that may be repeated is `None`.
async fn call(client: &mut Clients, request: &v1::EvaluateRequest) -> Option<v1::EvaluateResponse> {
    match client.evaluate.evaluate(request.clone()).await {
        Ok(answer) => Some(answer.into_inner()),
        Err(status) => {
            let again = [Code::Unavailable, Code::DeadlineExceeded, Code::Aborted];
            assert!(again.contains(&status.code()), "{status:?}");
            None
        }
    }
}

/// Repeats a call until it is answered.
async fn insist(client: &mut Clients, request: &v1::EvaluateRequest) -> v1::EvaluateResponse {
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        if let Some(answer) = call(client, request).await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < until, "it is never answered");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// The keys that were approved, with what was answered.
type Approved = BTreeMap<String, (v1::EvaluateRequest, v1::EvaluateResponse)>;

/// Spends one unit at a time from many callers, until each has had so many answers; meanwhile
/// something happens. Everything that was answered.
async fn under_load(
    clients: &[Clients],
    agent: &str,
    answers: usize,
    happens: impl Future<Output = ()>,
) -> (Approved, usize) {
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let mut client = clients[caller % clients.len()].clone();
        let agent = agent.to_owned();
        callers.spawn(async move {
            let mut answered = Vec::new();
            for _ in 0..answers {
                let request = ask(&agent, 1);
                let answer = insist(&mut client, &request).await;
                answered.push((request, answer));
            }
            answered
        });
    }
    happens.await;
    let (mut approved, mut rejected) = (Approved::new(), 0);
    for (request, answer) in callers.join_all().await.into_iter().flatten() {
        match answer.decision() {
            Decision::Approved => {
                approved.insert(request.idempotency_key.clone(), (request, answer));
            }
            Decision::Rejected => rejected += 1,
            Decision::Unspecified | Decision::PendingApproval => panic!("{answer:?}"),
        }
    }
    (approved, rejected)
}

/// Asks again with every key: the same transaction, approved, and nothing new.
async fn all_are_there(client: &mut Clients, approved: &Approved) {
    for (request, answer) in approved.values() {
        let again = insist(client, request).await;
        assert_eq!(again.decision(), Decision::Approved, "{}", again.explanation);
        assert_eq!(again.transaction_id, answer.transaction_id);
        assert!(again.replayed, "it was decided again: {request:?}");
    }
}

async fn spent(client: &mut Clients, agent_id: &str) -> i64 {
    let request = v1::GetBudgetRequest { agent_id: agent_id.to_owned(), ..Default::default() };
    client.budget.get_budget(request).await.unwrap().into_inner().budget.unwrap().spent
}

fn count(approved: &Approved) -> i64 {
    i64::try_from(approved.len()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_postgres_approves_what_is_not_leased_and_rejects_nothing() {
    let mut redis = Redis::start("everysec");
    let server = server(&redis, STRICT).await;
    let mut admin = server.admin().await;
    let (agent, _) = admin.agent_with_mandate(budget(100, 10), vec![]).await;
    let first = insist(&mut admin, &ask(&agent, 10)).await;
    assert_eq!(first.decision(), Decision::Approved);
    redis.kill();
    let mut sum = 10;
    // The rest of the slice is lost to it for now: it ends before the budget does.
    while let Some(answer) = call(&mut admin, &ask(&agent, 1)).await {
        assert_eq!(answer.decision(), Decision::Approved, "{}", answer.explanation);
        sum += 1;
        assert!(sum <= 100, "overspent");
    }
    assert!(sum > 10 && sum < 100, "{sum} of 100 without what is leased");
    assert_eq!(spent(&mut admin, &agent).await, sum);
    // Too much is not rejected either: who knows what the outbox has.
    let mut much = ask(&agent, 10);
    much.amount = Some(200);
    assert!(
        call(&mut admin, &much)
            .await
            .is_none_or(|answer| { answer.decision() != Decision::Approved })
    );
    redis.again();
    // What was leased to the epoch that is over is free again, as nothing of it was answered.
    while sum < 100 {
        let answer = insist(&mut admin, &ask(&agent, 1)).await;
        assert_eq!(answer.decision(), Decision::Approved, "at {sum}: {}", answer.explanation);
        sum += 1;
    }
    let answer = insist(&mut admin, &ask(&agent, 1)).await;
    assert_eq!(answer.decision(), Decision::Rejected);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_killed_under_load_loses_no_answer_at_any_level() {
    for level in [FAST, STRICT] {
        let mut redis = Redis::start("everysec");
        let server = server(&redis, level).await;
        let mut admin = server.admin().await;
        // Enough although each death may strand a slice, up to a quarter of what is left.
        let (agent, _) = admin.agent_with_mandate(budget(10_000, 1), vec![]).await;
        let clients = [admin.clone()];
        let (approved, rejected) = under_load(&clients, &agent, 40, async {
            for _ in 0..3 {
                tokio::time::sleep(std::time::Duration::from_millis(150)).await;
                // A process that is killed loses nothing that the kernel has.
                redis.kill();
                redis.again();
            }
        })
        .await;
        assert_eq!((approved.len(), rejected), (CALLERS * 40, 0), "nothing is falsely rejected");
        all_are_there(&mut admin, &approved).await;
        assert_eq!(spent(&mut admin, &agent).await, count(&approved));
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_forgets_at_fast_again_and_again_strands_little_of_a_budget() {
    let redis = Redis::start("everysec");
    let server = server(&redis, FAST).await;
    let mut admin = server.admin().await;
    let (agent, _) = admin.agent_with_mandate(budget(64_000, 64_000), vec![]).await;
    for _ in 0..6 {
        let answer = insist(&mut admin, &ask(&agent, 1)).await;
        assert_eq!(answer.decision(), Decision::Approved, "{}", answer.explanation);
        redis.ask("FLUSHALL");
    }
    // Nobody knows what was spent of those leases, and they are a tenth of it together.
    let answer = insist(&mut admin, &ask(&agent, 57_600)).await;
    assert_eq!(answer.decision(), Decision::Approved, "{}", answer.explanation);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_on_a_redis_that_is_flushed_again_and_again_lose_no_strict_answer() {
    let redis = Redis::start("everysec");
    let one = server(&redis, STRICT).await;
    let other = one.replica(Arc::new(SystemClock)).await;
    let mut admin = one.admin().await;
    let clients = [admin.clone(), other.admin().await];
    let (agent, _) = admin.agent_with_mandate(budget(300, 1), vec![]).await;
    let (approved, _) = under_load(&clients, &agent, 30, async {
        for _ in 0..8 {
            tokio::time::sleep(std::time::Duration::from_millis(60)).await;
            redis.ask("FLUSHALL");
        }
    })
    .await;
    assert!(approved.len() <= 300, "overspent: {}", approved.len());
    all_are_there(&mut admin, &approved).await;
    assert_eq!(spent(&mut admin, &agent).await, count(&approved));
    // Everything that was leased came back: the rest can be spent to the last unit.
    for _ in approved.len()..300 {
        let answer = insist(&mut admin, &ask(&agent, 1)).await;
        assert_eq!(answer.decision(), Decision::Approved, "{}", answer.explanation);
    }
    let answer = insist(&mut admin, &ask(&agent, 1)).await;
    assert_eq!(answer.decision(), Decision::Rejected);
    other.stop().await;
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_comes_back_empty_never_lets_a_budget_be_overspent() {
    for level in [FAST, STRICT] {
        let mut redis = Redis::start("everysec");
        let server = server(&redis, level).await;
        let mut admin = server.admin().await;
        let (agent, _) = admin.agent_with_mandate(budget(200, 1), vec![]).await;
        let mut approved = Approved::new();
        for _ in 0..3 {
            for _ in 0..20 {
                let request = ask(&agent, 1);
                let answer = insist(&mut admin, &request).await;
                assert_eq!(answer.decision(), Decision::Approved, "{}", answer.explanation);
                approved.insert(request.idempotency_key.clone(), (request, answer));
            }
            redis.kill();
            redis.empty();
            redis.again();
        }
        if level == STRICT {
            all_are_there(&mut admin, &approved).await;
        }
        let answered = count(&approved);
        let mut sum = answered;
        // What is spent now and what was answered before stay within the budget together.
        while let Some(answer) = call(&mut admin, &ask(&agent, 1)).await {
            if answer.decision() == Decision::Rejected {
                break;
            }
            sum += 1;
            assert!(sum <= 200, "overspent at {level:?}: {answered} were answered before");
        }
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_dump_that_is_put_back_is_worth_nothing() {
    let mut redis = Redis::start("always");
    let server = server(&redis, STRICT).await;
    let mut admin = server.admin().await;
    let (agent, mandate) = admin.agent_with_mandate(budget(100, 1), vec![]).await;
    for _ in 0..5 {
        insist(&mut admin, &ask(&agent, 1)).await;
    }
    redis.kill();
    let dump = tempfile::tempdir().unwrap();
    redis.copy_to(dump.path());
    redis.again();
    let mut approved = Approved::new();
    for _ in 0..30 {
        let request = ask(&agent, 1);
        let answer = insist(&mut admin, &request).await;
        approved.insert(request.idempotency_key.clone(), (request, answer));
    }
    let pause = v1::PauseMandateRequest { mandate_id: mandate.clone() };
    admin.mandates.pause_mandate(pause).await.unwrap();
    redis.kill();
    redis.put_back(dump.path());
    redis.again();
    // The dump has the mandate in force; it is not believed.
    let answer = insist(&mut admin, &ask(&agent, 1)).await;
    assert_eq!(answer.decision(), Decision::Rejected, "{}", answer.explanation);
    let resume = v1::ResumeMandateRequest { mandate_id: mandate };
    admin.mandates.resume_mandate(resume).await.unwrap();
    all_are_there(&mut admin, &approved).await;
    for _ in 35..100 {
        let answer = insist(&mut admin, &ask(&agent, 1)).await;
        assert_eq!(answer.decision(), Decision::Approved, "{}", answer.explanation);
    }
    let answer = insist(&mut admin, &ask(&agent, 1)).await;
    assert_eq!(answer.decision(), Decision::Rejected);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lower_limit_holds_for_what_was_leased_under_the_higher_one() {
    let redis = Redis::start("everysec");
    let server = server(&redis, FAST).await;
    let mut admin = server.admin().await;
    let (agent, mandate) = admin.agent_with_mandate(budget(1_000, 1), vec![]).await;
    for _ in 0..10 {
        insist(&mut admin, &ask(&agent, 1)).await;
    }
    let update = v1::UpdateMandateRequest {
        mandate_id: mandate,
        budget: Some(budget(15, 1)),
        update_mask: Some(prost_types::FieldMask { paths: vec!["budget".to_owned()] }),
        ..Default::default()
    };
    admin.mandates.update_mandate(update).await.unwrap();
    let mut sum = 10;
    loop {
        let answer = insist(&mut admin, &ask(&agent, 1)).await;
        if answer.decision() == Decision::Rejected {
            break;
        }
        sum += 1;
        assert!(sum <= 15, "overspent");
    }
    assert_eq!(sum, 15);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_given_up_at_any_moment_are_decided_once() {
    let redis = Redis::start("everysec");
    let server = server(&redis, FAST).await;
    let mut admin = server.admin().await;
    let (agent, _) = admin.agent_with_mandate(budget(100_000, 1), vec![]).await;
    let mut requests = Vec::new();
    for number in 0..200_u64 {
        let request = ask(&agent, 1);
        let patience = std::time::Duration::from_micros(number * 20);
        let mut client = admin.clone();
        drop(tokio::time::timeout(patience, client.evaluate.evaluate(request.clone())).await);
        requests.push(request);
    }
    for request in &requests {
        assert_eq!(insist(&mut admin, request).await.decision(), Decision::Approved);
    }
    assert_eq!(spent(&mut admin, &agent).await, 200);
    server.stop().await;
}

/// Ends every connection of the server under test.
const CUT: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'quetra'";

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_two_stores_approved_for_two_requests_has_two_records() {
    let mut redis = Redis::start("everysec");
    let server = server(&redis, FAST).await;
    let mut admin = server.admin().await;
    let (agent, _) = admin.agent_with_mandate(budget(1_000, 10), vec![]).await;
    insist(&mut admin, &ask(&agent, 1)).await;
    assert_eq!(spent(&mut admin, &agent).await, 1);
    let DatabaseUrl::Postgres(url) = server.database() else { panic!("not in Postgres") };
    let pool = PgPool::connect(&as_owner(url.expose())).await.unwrap();
    // Nothing is recorded while somebody else has the organization's turn.
    let mut turn = pool.begin().await.unwrap();
    sqlx::query("SELECT seq FROM ledger_head FOR UPDATE").execute(&mut *turn).await.unwrap();
    let in_redis = ask(&agent, 2);
    let first = insist(&mut admin, &in_redis).await;
    assert_eq!(first.decision(), Decision::Approved);
    redis.kill();
    sqlx::query(CUT).execute(&pool).await.unwrap();
    turn.rollback().await.unwrap();
    let in_postgres = v1::EvaluateRequest { amount: Some(5), ..in_redis.clone() };
    let second = insist(&mut admin, &in_postgres).await;
    assert_eq!(second.decision(), Decision::Approved, "{}", second.explanation);
    assert!(!second.replayed && second.transaction_id != first.transaction_id);
    assert_eq!(spent(&mut admin, &agent).await, 6, "the first was recorded in spite of all");
    redis.again();
    // Both were told, both are kept, and both can be asked for again.
    let again = insist(&mut admin, &in_redis).await;
    assert_eq!((again.transaction_id, again.replayed), (first.transaction_id, true));
    let again = insist(&mut admin, &in_postgres).await;
    assert_eq!((again.transaction_id, again.replayed), (second.transaction_id, true));
    assert_eq!(spent(&mut admin, &agent).await, 8);
    let other = v1::EvaluateRequest { amount: Some(7), ..in_redis };
    let status = admin.evaluate.evaluate(other).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists, "{status:?}");
    pool.close().await;
    server.stop().await;
}

/// Why a server does not start.
async fn refusal(database: &DatabaseUrl, redis: Option<RedisConfig>) -> String {
    let folder = Folder::new();
    let config = ServerConfig { database: database.clone(), redis, ..config(&folder) };
    let never = std::future::pending();
    let started = serve_with(config, Choices::default(), never, |_| {}).await;
    format!("{:#}", started.unwrap_err())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_keep_its_promise_does_not_start_and_names_the_setting() {
    let redis = Redis::start("everysec");
    let server = server(&redis, FAST).await;
    let at = |level| Some(RedisConfig { url: Secret::new(redis.url()), level });
    let mut admin = server.admin().await;
    let (agent, _) = admin.agent_with_mandate(budget(10, 1), vec![]).await;
    insist(&mut admin, &ask(&agent, 1)).await;
    let database = server.database();
    let said = refusal(database, at(DurabilityLevel::Durable)).await;
    assert!(said.contains("appendfsync = everysec, and durable needs always"), "{said}");
    // What is in the outbox must not be decided a second time.
    let said = refusal(database, None).await;
    assert!(said.contains("set redis_url"), "{said}");
    redis.ask("CONFIG SET maxmemory-policy allkeys-lru");
    let said = refusal(database, at(STRICT)).await;
    assert!(said.contains("maxmemory-policy = allkeys-lru"), "{said}");
    redis.ask("CONFIG SET maxmemory-policy noeviction");
    redis.ask("CONFIG SET appendfsync always");
    let other = shared_database().await;
    let durable = Server::with(
        |config| {
            config.database = other;
            config.redis = at(DurabilityLevel::Durable);
            config.redis.as_mut().unwrap().url = Secret::new(redis.url().replace("/0", "/1"));
        },
        Arc::new(SystemClock),
    );
    let durable = durable.await;
    let mut admin = durable.admin().await;
    let (agent, _) = admin.agent_with_mandate(budget(10, 1), vec![]).await;
    let answer = insist(&mut admin, &ask(&agent, 1)).await;
    assert_eq!(answer.durability(), v1::Durability::Durable);
    durable.stop().await;
    server.stop().await;
}
