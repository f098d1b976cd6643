//! Levels of durability for each mandate, with a floor: an answer waits as long as its own level
//! says, beside others that do not, and what a crash may have lost is counted by the weakest level
//! that was answered.
//!
//! Not here: how levels are asked for and recorded (`durability`).

use quetra::config::{RedisConfig, Secret};
use quetra::domain::id::MandateId;
use quetra::proto::v1::{self, Decision, Durability};
use sqlx::postgres::{PgPool, Postgres};
use sqlx::{Row, Transaction};
use tokio::task::JoinHandle;
use tonic::Code;

use super::operators::url;
use super::{CUT, insist, refusal, server, spent};
use crate::harness::postgres::as_owner;
use crate::harness::redis::{Asker, Redis};
use crate::harness::{Clients, FAST, STRICT, Server, ask, budget, refused, unique};

/// How long an answer must not come that waits for Postgres.
const WAIT: std::time::Duration = std::time::Duration::from_millis(400);

/// After this a server that runs has looked at the settings of its Redis again.
const LOOKED: std::time::Duration = std::time::Duration::from_millis(1_500);

/// A new agent whose mandate asks for a level; the ids of both.
async fn asking(admin: &mut Clients, durability: Durability) -> (String, String) {
    admin.agent_asking(durability, budget(400, 10), Vec::new()).await
}

/// The same, not in force.
async fn drafted(admin: &mut Clients, durability: Durability) -> (String, String) {
    let name = format!("asking {}", unique());
    let request = v1::RegisterAgentRequest { name, ..Default::default() };
    let agent = admin.agents.register_agent(request).await.unwrap().into_inner().agent.unwrap();
    let request = v1::CreateMandateRequest {
        agent_id: agent.id.clone(),
        name: "asks".to_owned(),
        budget: Some(budget(400, 10)),
        durability: durability.into(),
        ..Default::default()
    };
    let made = admin.mandates.create_mandate(request).await.unwrap().into_inner();
    (agent.id, made.mandate.unwrap().id)
}

fn to_level(mandate: &str, durability: Durability) -> v1::UpdateMandateRequest {
    v1::UpdateMandateRequest {
        mandate_id: mandate.to_owned(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["durability".to_owned()] }),
        durability: durability.into(),
        ..Default::default()
    }
}

async fn set_level(admin: &mut Clients, mandate: &str, durability: Durability) {
    admin.mandates.update_mandate(to_level(mandate, durability)).await.unwrap();
}

fn to_floor(floor: Durability) -> v1::UpdateOrganizationRequest {
    v1::UpdateOrganizationRequest {
        update_mask: Some(prost_types::FieldMask { paths: vec!["durability_floor".to_owned()] }),
        durability_floor: floor.into(),
        ..Default::default()
    }
}

/// Spends once, which is approved; the level of the answer.
async fn level(client: &mut Clients, agent: &str) -> Durability {
    let answer = insist(client, &ask(agent, 10)).await;
    assert_eq!(answer.decision(), Decision::Approved, "{}", answer.explanation);
    answer.durability()
}

/// The same beside whoever asks.
fn spending(client: &Clients, agent: &str) -> JoinHandle<Durability> {
    let (mut client, agent) = (client.clone(), agent.to_owned());
    tokio::spawn(async move { level(&mut client, &agent).await })
}

pub(super) async fn owner(server: &Server) -> PgPool {
    PgPool::connect(&as_owner(url(server))).await.unwrap()
}

/// Has every organization's turn: nothing is leased or recorded until it is given back.
pub(super) async fn hold(pool: &PgPool) -> Transaction<'static, Postgres> {
    let mut turn = pool.begin().await.unwrap();
    sqlx::query("SELECT seq FROM ledger_head FOR UPDATE").execute(&mut *turn).await.unwrap();
    turn
}

/// That a spend is answered only after Postgres has it.
async fn waits_for_postgres(pool: &PgPool, client: &Clients, agent: &str) -> Durability {
    let turn = hold(pool).await;
    let waiting = spending(client, agent);
    tokio::time::sleep(WAIT).await;
    assert!(!waiting.is_finished(), "it was answered without Postgres: {:?}", waiting.await);
    turn.rollback().await.unwrap();
    waiting.await.unwrap()
}

/// Of each decision that is not recorded: whether the projector is told that its answer waits.
fn awaited(redis: &Redis) -> Vec<bool> {
    let mut asker = Asker::new(&redis.url());
    let mut ask = |words: &[&str]| asker.ask(redis::cmd(words[0]).arg(&words[1..]));
    let outboxes: Vec<String> = redis::from_redis_value(ask(&["KEYS", "v1:*:out"])).unwrap();
    let entries = outboxes.iter().flat_map(|outbox| {
        let entries = ask(&["XRANGE", outbox, "-", "+"]);
        redis::from_redis_value::<Vec<(String, Vec<Vec<u8>>)>>(entries).unwrap()
    });
    entries.map(|(_, fields)| fields.get(4).is_some_and(|name| name == b"w")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_mandate_waits_for_postgres_beside_a_fast_one_that_does_not() {
    let redis = Redis::start("everysec");
    let server = server(&redis, FAST).await;
    let mut admin = server.admin().await;
    let (fast, _) = asking(&mut admin, Durability::Unspecified).await;
    let (strict, _) = asking(&mut admin, Durability::Strict).await;
    assert_eq!(level(&mut admin, &fast).await, Durability::Fast);
    assert_eq!(level(&mut admin, &strict).await, Durability::Strict);
    let pool = owner(&server).await;
    let turn = hold(&pool).await;
    let waiting = spending(&admin, &strict);
    for _ in 0..5 {
        assert_eq!(level(&mut admin, &fast).await, Durability::Fast);
    }
    tokio::time::sleep(WAIT).await;
    assert_eq!(level(&mut admin, &fast).await, Durability::Fast);
    assert!(!waiting.is_finished(), "it was answered without Postgres");
    let awaited = awaited(&redis);
    assert_eq!(awaited.len(), 7, "{awaited:?}");
    assert_eq!(awaited.iter().filter(|is_awaited| **is_awaited).count(), 1, "{awaited:?}");
    turn.rollback().await.unwrap();
    assert_eq!(waiting.await.unwrap(), Durability::Strict);
    assert_eq!(spent(&mut admin, &strict).await, 20);
    pool.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_that_is_raised_is_met_by_the_very_next_decision_of_every_server() {
    let redis = Redis::start("everysec");
    let server = server(&redis, FAST).await;
    let other = server.replica(std::sync::Arc::new(quetra::clock::SystemClock)).await;
    let (mut admin, mut elsewhere) = (server.admin().await, other.admin().await);
    let (agent, mandate) = asking(&mut admin, Durability::Unspecified).await;
    for client in [&mut admin, &mut elsewhere] {
        assert_eq!(level(client, &agent).await, Durability::Fast);
    }
    let pool = owner(&server).await;
    admin.organization.update_organization(to_floor(Durability::Strict)).await.unwrap();
    assert_eq!(waits_for_postgres(&pool, &elsewhere, &agent).await, Durability::Strict);
    // Without the floor, and for whoever asks for it, it is as before.
    admin.organization.update_organization(to_floor(Durability::Unspecified)).await.unwrap();
    for client in [&mut admin, &mut elsewhere] {
        assert_eq!(level(client, &agent).await, Durability::Fast);
    }
    set_level(&mut admin, &mandate, Durability::Strict).await;
    assert_eq!(waits_for_postgres(&pool, &elsewhere, &agent).await, Durability::Strict);
    pool.close().await;
    other.end().await;
    server.stop().await;
}

/// What the first epoch has of a mandate: the weakest level, and how much.
async fn lease(pool: &PgPool, mandate: &str) -> (String, i64) {
    let id: MandateId = mandate.parse().unwrap();
    let sql = "SELECT level, leased FROM lease WHERE mandate_id = $1 AND epoch = 1";
    let row = sqlx::query(sql).bind(id.as_bytes().as_slice()).fetch_one(pool).await.unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_frees_nothing_of_what_was_ever_answered_at_a_weaker_level() {
    let mut redis = Redis::start("everysec");
    let server = server(&redis, STRICT).await;
    let mut admin = server.admin().await;
    let pool = owner(&server).await;
    let (strict, its) = asking(&mut admin, Durability::Unspecified).await;
    let (lowered, lowers) = asking(&mut admin, Durability::Strict).await;
    let (raised, raises) = asking(&mut admin, Durability::Fast).await;
    for agent in [&strict, &lowered, &raised] {
        level(&mut admin, agent).await;
    }
    let levels = async || {
        let mut levels = Vec::new();
        for mandate in [&its, &lowers, &raises] {
            levels.push(lease(&pool, mandate).await.0);
        }
        levels
    };
    assert_eq!(levels().await, ["strict", "strict", "fast"]);
    set_level(&mut admin, &lowers, Durability::Fast).await;
    set_level(&mut admin, &raises, Durability::Strict).await;
    assert_eq!(level(&mut admin, &lowered).await, Durability::Fast);
    assert_eq!(level(&mut admin, &raised).await, Durability::Strict);
    // Weaker before the first answer at the weaker level; never stronger again.
    assert_eq!(levels().await, ["strict", "fast", "fast"]);
    let recorded = spent(&mut admin, &lowered).await;

    let turn = hold(&pool).await;
    for _ in 0..4 {
        assert_eq!(level(&mut admin, &lowered).await, Durability::Fast);
    }
    redis.kill();
    redis.empty();
    sqlx::query(CUT).execute(&pool).await.unwrap();
    turn.rollback().await.unwrap();
    redis.again();
    // What is known is free again, once the new epoch has begun.
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while lease(&pool, &its).await != ("strict".to_owned(), 0) {
        assert_eq!(level(&mut admin, &strict).await, Durability::Strict);
        assert!(tokio::time::Instant::now() < until, "what is known is never freed");
    }
    assert_eq!(spent(&mut admin, &lowered).await, recorded, "what was answered is still there");
    let (_, left) = lease(&pool, &lowers).await;
    assert!(left >= 40, "{left} of at least 40 that were answered count as spent");
    assert!(lease(&pool, &raises).await.1 > 0, "it was spent from at `fast` once");
    pool.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_that_redis_cannot_keep_is_refused_with_the_setting_to_change() {
    let redis = Redis::start("everysec");
    let server = server(&redis, FAST).await;
    let mut admin = server.admin().await;
    let (agent, draft) = drafted(&mut admin, Durability::Durable).await;
    let (other, active) = asking(&mut admin, Durability::Fast).await;
    let activate = v1::ActivateMandateRequest { mandate_id: draft.clone() };
    let status = admin.mandates.activate_mandate(activate.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    assert!(status.message().contains("appendfsync = everysec, and durable needs always"));
    let reason = "DURABILITY_NOT_KEPT";
    refused(admin.mandates.activate_mandate(activate.clone()).await, reason);
    let change = to_level(&active, Durability::Durable);
    refused(admin.mandates.update_mandate(change).await, reason);
    let floor = admin.organization.update_organization(to_floor(Durability::Durable)).await;
    refused(floor, reason);
    assert_eq!(level(&mut admin, &other).await, Durability::Fast);

    redis.ask("CONFIG SET appendfsync always");
    admin.mandates.activate_mandate(activate).await.unwrap();
    admin.organization.update_organization(to_floor(Durability::Durable)).await.unwrap();
    for agent in [&agent, &other] {
        assert_eq!(level(&mut admin, agent).await, Durability::Durable);
    }

    redis.ask("CONFIG SET appendfsync everysec");
    let config = RedisConfig { url: Secret::new(redis.url()), level: FAST };
    let said = refusal(server.database(), Some(config)).await;
    assert!(said.contains("asks for a durability"), "{said}");
    assert!(said.contains("appendfsync = everysec, and durable needs always"), "{said}");
    // Whoever runs already keeps the promise by another way, as soon as it has looked.
    tokio::time::sleep(LOOKED).await;
    assert_eq!(level(&mut admin, &agent).await, Durability::Durable);
    let pool = owner(&server).await;
    assert_eq!(waits_for_postgres(&pool, &admin, &agent).await, Durability::Durable);
    pool.close().await;
    server.stop().await;
}
