//! A Redis Cluster: shards are on several nodes, move from one to another and back, and a replica
//! takes the place of its master; budgets hold, and what was answered is there.
//!
//! Each test has a cluster of its own. Not here: that decisions in a cluster are those of the
//! reference (`model`).

use std::time::{Duration, Instant};

use quetra::config::{DurabilityLevel, RedisConfig, Secret};
use quetra::proto::v1::{self, Decision};
use sqlx::postgres::PgPool;
use tokio::time::sleep;

use super::operators::url;
use super::{
    Approved, CALLERS, all_are_there, call, count, insist, refusal, server_at, spend_what_can_be,
    spent, under_load,
};
use crate::harness::postgres::as_owner;
use crate::harness::redis::Redis;
use crate::harness::redis_cluster::RedisCluster;
use crate::harness::{Clients, FAST, STRICT, Server, ask, budget};
use crate::process::quetra;

/// How long it may take until a shard is spent from again where it is now.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who a shard is spent from.
const AUTHORITY: &str = "SELECT shard, epoch, replication_id FROM shard_authority
    WHERE begun ORDER BY epoch DESC LIMIT 1";

/// A server on a cluster, its admin, an agent that may spend this much, and where its shard is.
struct Place {
    server: Server,
    admin: Clients,
    agent: String,
    pool: PgPool,
    shard: i16,
    home: usize,
}

impl Place {
    async fn on(cluster: &RedisCluster, level: DurabilityLevel, limit: i64) -> Self {
        let server = server_at(&cluster.url(), level).await;
        let mut admin = server.admin().await;
        let (agent, _) = admin.agent_with_mandate(budget(limit, 1), vec![]).await;
        let answer = insist(&mut admin, &ask(&agent, 1)).await;
        assert_eq!(answer.decision(), Decision::Approved, "{}", answer.explanation);
        let pool = PgPool::connect(&as_owner(url(&server))).await.unwrap();
        let (shard, epoch, id) = authority(&pool).await.unwrap();
        let home = cluster.home(shard);
        assert_eq!((epoch, id), (1, identity(&cluster.nodes[home])));
        Self { server, admin, agent, pool, shard, home }
    }

    /// Waits until this epoch has begun on a node.
    async fn until(&self, epoch: i64, node: &Redis) {
        let (since, wanted) = (Instant::now(), Some((self.shard, epoch, identity(node))));
        loop {
            let found = authority(&self.pool).await;
            if found == wanted {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "{found:?} does not become {wanted:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Spends what is left, one unit at a time, until a rejection; what that was.
    async fn spend_the_rest(&mut self) -> i64 {
        let mut sum = 0;
        while insist(&mut self.admin, &ask(&self.agent, 1)).await.decision() == Decision::Approved {
            sum += 1;
        }
        sum
    }

    async fn stop(self) {
        self.pool.close().await;
        self.server.stop().await;
    }
}

/// None while an epoch is about to begin.
async fn authority(pool: &PgPool) -> Option<(i16, i64, String)> {
    sqlx::query_as(AUTHORITY).fetch_optional(pool).await.unwrap()
}

/// The replication id of a process.
fn identity(node: &Redis) -> String {
    let info = node.info("replication");
    let (_, id) = info.split_once("master_replid:").unwrap();
    id[..40].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_there_and_back_under_load_loses_no_answer() {
    for level in [FAST, STRICT] {
        let cluster = RedisCluster::start("everysec");
        let mut place = Place::on(&cluster, level, 10_000).await;
        let (slot, there) = (cluster.slot(place.shard), (place.home + 1) % 3);
        let way = (place.home, there);
        let clients = [place.admin.clone()];
        let agent = place.agent.clone();
        let (approved, rejected) = under_load(&clients, &agent, 40, async {
            sleep(Duration::from_millis(100)).await;
            // Half of it is there for a while.
            cluster.begin_to_move(slot, way);
            sleep(Duration::from_millis(100)).await;
            cluster.move_keys(slot, way, 2);
            sleep(Duration::from_millis(100)).await;
            while cluster.move_keys(slot, way, 100) > 0 {}
            sleep(Duration::from_millis(100)).await;
            cluster.end_move(slot, way);
            place.until(2, &cluster.nodes[there]).await;
            sleep(Duration::from_millis(100)).await;
            // Its first home was superseded, and has what its successor had.
            cluster.move_slot(slot, (there, place.home));
            place.until(3, &cluster.nodes[place.home]).await;
        })
        .await;
        assert_eq!((approved.len(), rejected), (CALLERS * 40, 0), "nothing is falsely rejected");
        all_are_there(&mut place.admin, &approved).await;
        assert_eq!(spent(&mut place.admin, &place.agent).await, 1 + count(&approved));
        place.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_again_and_again_never_lets_a_budget_be_overspent() {
    let cluster = RedisCluster::start("everysec");
    let mut place = Place::on(&cluster, STRICT, 300).await;
    let (slot, there) = (cluster.slot(place.shard), (place.home + 1) % 3);
    let clients = [place.admin.clone()];
    let (approved, _) = under_load(&clients, &place.agent, 12, async {
        let mut way = (place.home, there);
        for _ in 0..4 {
            sleep(Duration::from_millis(120)).await;
            cluster.move_slot(slot, way);
            way = (way.1, way.0);
        }
    })
    .await;
    all_are_there(&mut place.admin, &approved).await;
    // What was leased to epochs that are over came back: all of it can be spent, and no more.
    let rest = place.spend_the_rest().await;
    assert_eq!(1 + count(&approved) + rest, 300);
    place.stop().await;
}

fn is_master(node: &Redis) -> bool {
    node.info("replication").contains("role:master")
}

async fn until_promoted(replica: &Redis) {
    let since = Instant::now();
    while !is_master(replica) {
        assert!(since.elapsed() < PATIENCE, "no replica takes its place");
        sleep(Duration::from_millis(50)).await;
    }
}

/// What a node loses when it is killed has a successor in its replica.
async fn a_failover(level: DurabilityLevel) {
    let fsync = if level == DurabilityLevel::Durable { "always" } else { "everysec" };
    let mut cluster = RedisCluster::with_replicas(fsync);
    let mut place = Place::on(&cluster, level, 10_000).await;
    let (home, replica) = (place.home, place.home + 3);
    let (clients, agent) = ([place.admin.clone()], place.agent.clone());
    let (approved, rejected) = under_load(&clients, &agent, 40, async {
        sleep(Duration::from_millis(100)).await;
        cluster.nodes[home].kill();
        until_promoted(&cluster.nodes[replica]).await;
        place.until(2, &cluster.nodes[replica]).await;
    })
    .await;
    assert_eq!((approved.len(), rejected), (CALLERS * 40, 0), "nothing is falsely rejected");
    let answer = insist(&mut place.admin, &ask(&place.agent, 1)).await;
    assert_eq!(answer.decision(), Decision::Approved, "{}", answer.explanation);
    if level != FAST {
        all_are_there(&mut place.admin, &approved).await;
        assert_eq!(spent(&mut place.admin, &place.agent).await, 2 + count(&approved));
    }
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_killed_loses_no_answer_at_strict() {
    a_failover(STRICT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_killed_loses_no_answer_at_durable() {
    a_failover(DurabilityLevel::Durable).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_killed_lets_no_budget_be_overspent_at_fast() {
    let mut cluster = RedisCluster::with_replicas("everysec");
    let mut place = Place::on(&cluster, FAST, 100).await;
    let (home, replica) = (place.home, place.home + 3);
    let mut sum = 1;
    for _ in 0..20 {
        let answer = insist(&mut place.admin, &ask(&place.agent, 1)).await;
        assert_eq!(answer.decision(), Decision::Approved, "{}", answer.explanation);
        sum += 1;
    }
    // Its replica may not have the last of these.
    cluster.nodes[home].kill();
    until_promoted(&cluster.nodes[replica]).await;
    place.until(2, &cluster.nodes[replica]).await;
    let rest = spend_what_can_be(&mut place.admin, &place.agent, 100 - sum).await;
    assert!(rest > 0, "nothing was left but what the old epoch had");
    place.stop().await;
}

/// For how long a node is cut off from the others: they agree that it failed, and who comes next.
const APART: Duration = Duration::from_secs(6);

/// The master of the shard is cut off from the other nodes, not from the server; whether a replica
/// takes its place meanwhile.
async fn a_cut(hears: bool, is_heard: bool) -> bool {
    let cluster = RedisCluster::with_a_bus("always").await;
    let mut place = Place::on(&cluster, DurabilityLevel::Durable, 10_000).await;
    let (home, replica) = (place.home, place.home + 3);
    let (clients, agent) = ([place.admin.clone()], place.agent.clone());
    let (mut is_replaced, mut beside, mut witness) = (false, Approved::new(), clients[0].clone());
    let (mut approved, rejected) = under_load(&clients, &agent, 60, async {
        sleep(Duration::from_millis(100)).await;
        cluster.cut_off(home, hears, is_heard);
        let since = Instant::now();
        while since.elapsed() < APART && !is_replaced {
            sleep(Duration::from_millis(50)).await;
            is_replaced = is_master(&cluster.nodes[replica]);
        }
        // The old one goes on as it believes, for a moment; the load may be over by now.
        let since = Instant::now();
        while since.elapsed() < Duration::from_millis(300) || beside.is_empty() {
            let request = ask(&agent, 1);
            let answer = insist(&mut witness, &request).await;
            assert_eq!(answer.decision(), Decision::Approved, "{}", answer.explanation);
            beside.insert(request.idempotency_key.clone(), (request, answer));
        }
        cluster.cut_off(home, true, true);
    })
    .await;
    assert_eq!((approved.len(), rejected), (CALLERS * 60, 0), "nothing is falsely rejected");
    approved.extend(beside);
    if is_replaced {
        place.until(2, &cluster.nodes[replica]).await;
    }
    all_are_there(&mut place.admin, &approved).await;
    assert_eq!(spent(&mut place.admin, &place.agent).await, 1 + count(&approved));
    place.stop().await;
    is_replaced
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_the_others_do_not_hear_is_replaced_and_no_answer_is_lost() {
    assert!(Box::pin(a_cut(true, false)).await, "no replica took its place");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_does_not_hear_the_others_loses_no_answer() {
    // Whether they hear it in time not to replace it depends on how they connect again.
    let is_replaced = Box::pin(a_cut(false, true)).await;
    println!("replaced: {is_replaced}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_cut_off_serves_beside_its_successor_and_no_answer_is_lost() {
    assert!(Box::pin(a_cut(false, false)).await, "no replica took its place");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_away_holds_up_nothing_of_the_others() {
    let cluster = RedisCluster::start("everysec");
    let mut place = Place::on(&cluster, FAST, 10_000).await;
    let other = &cluster.nodes[(place.home + 1) % 3];
    other.signal("STOP");
    let since = Instant::now();
    let mut slowest = Duration::ZERO;
    while since.elapsed() < Duration::from_millis(2_500) {
        let began = Instant::now();
        let answer = call(&mut place.admin, &ask(&place.agent, 1)).await.unwrap();
        assert_eq!(answer.durability(), v1::Durability::Fast, "it was not made in Redis");
        slowest = slowest.max(began.elapsed());
        sleep(Duration::from_millis(20)).await;
    }
    other.signal("CONT");
    assert!(slowest < Duration::from_millis(900), "one took {slowest:?}");
    let epoch = authority(&place.pool).await.map(|(_, epoch, _)| epoch);
    assert_eq!(epoch, Some(1), "the shard was taken over for nothing");
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_cannot_be_spent_from_is_refused_with_what_to_change() {
    let cluster = RedisCluster::start("everysec");
    let place = Place::on(&cluster, FAST, 100).await;
    let at = |url: String| Some(RedisConfig { url: Secret::new(url), level: FAST });
    let first = format!("redis://{}", cluster.nodes[0].address());
    let database = place.server.database();
    // Any node names all others.
    let mut status = quetra(&["ledger", "status", "--log", "off", "--durability", "fast"]);
    status.args(["--database-url", url(&place.server), "--redis-url", &first]);
    let said = tokio::task::spawn_blocking(move || status.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("recorded"), "{said}");

    cluster.nodes[2].ask("CONFIG SET maxmemory-policy allkeys-lru");
    let said = refusal(database, at(first.clone())).await;
    assert!(said.contains("maxmemory-policy = allkeys-lru"), "{said}");
    cluster.nodes[2].ask("CONFIG SET maxmemory-policy noeviction");
    let slot = cluster.slot((place.shard + 1) % 64);
    for node in &cluster.nodes {
        node.ask(&format!("CLUSTER DELSLOTS {slot}"));
    }
    let said = refusal(database, at(first)).await;
    assert!(said.contains(&format!("no node of the redis cluster has slot {slot}")), "{said}");
    let single = Redis::start("everysec");
    let two = format!("redis://{0},redis://{0}", single.address());
    let said = refusal(database, at(two)).await;
    assert!(said.contains("is no node of a Redis cluster; name it alone"), "{said}");
    place.stop().await;
}
