//! Three servers with a proxy on every side of each, their clients, and what is done to them.
//!
//! A home says on what the servers keep their ledger. Not here: which faults are made (`fault`),
//! and what clients do (`crash/load`).

use std::fs;
use std::net::SocketAddr;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use quetra::proto::v1;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::clock::{self, Shifted};
use super::fault::{Fault, RedisFault, Wire};
use super::waits::{Made, Told};
use crate::checker;
use crate::checker::books::Books;
use crate::checker::escrow::{Answers, Escrow};
use crate::checker::history::{Call, Outcome, Request, Switch};
use crate::crash::load::{Client, Shared};
use crate::crash::power;
use crate::dice::{Dice, setting};
use crate::faults::cluster::{Cluster, Site};
use crate::harness::redis::Redis;
use crate::harness::redis_cluster::RedisCluster;
use crate::process::Process;
use crate::proxy::{Passage, Proxy, Way};

pub(super) const SERVERS: usize = 3;
/// Clients that spend, if `QUETRA_CLIENTS` says nothing.
const CLIENTS: u64 = 12;
const PATIENCE: Duration = Duration::from_secs(120);
/// How long Redis is away when it is killed.
const A_WHILE: Duration = Duration::from_millis(400);

/// What servers keep their ledger on, beside Postgres.
#[derive(Default)]
pub(super) struct Home {
    redis: Option<RedisHome>,
    cluster: Option<ClusterHome>,
    /// What mandates ask for, in turn.
    levels: &'static [v1::Durability],
}

/// A Redis Cluster that money is leased to.
struct ClusterHome {
    nodes: RedisCluster,
    /// Which node has the slot that is spent from, since it was moved.
    at: Mutex<Option<usize>>,
    level: &'static str,
    answers: Answers,
}

/// A Redis that money is leased to.
struct RedisHome {
    redis: Mutex<Redis>,
    level: &'static str,
    answers: Answers,
}

impl Home {
    /// Postgres alone: every answer waits for its commit.
    pub(super) fn postgres() -> Self {
        Self::default()
    }

    /// A Redis beside it, as it has to be for a level.
    pub(super) fn redis(level: &'static str, answers: Answers) -> Self {
        let fsync = if level == "durable" { "always" } else { "everysec" };
        let redis = Mutex::new(power::noted(fsync));
        Self { redis: Some(RedisHome { redis, level, answers }), ..Self::default() }
    }

    /// A Redis Cluster beside it.
    pub(super) fn redis_cluster(level: &'static str, answers: Answers) -> Self {
        let fsync = if level == "durable" { "always" } else { "everysec" };
        let (nodes, at) = (RedisCluster::start(fsync), Mutex::new(None));
        Self { cluster: Some(ClusterHome { nodes, at, level, answers }), ..Self::default() }
    }

    /// The same with mandates that ask for these levels.
    pub(super) const fn asked_for(mut self, levels: &'static [v1::Durability]) -> Self {
        self.levels = levels;
        self
    }

    /// When an answer counts.
    fn answers(&self) -> Answers {
        let of_cluster = self.cluster.as_ref().map(|home| home.answers);
        self.redis.as_ref().map(|home| home.answers).or(of_cluster).unwrap_or_default()
    }

    fn its_redis(&self) -> MutexGuard<'_, Redis> {
        self.redis.as_ref().unwrap().redis.lock().unwrap()
    }

    /// A way to the Redis, and what a server is told of it.
    async fn way(&self) -> (Option<Proxy>, Vec<String>) {
        if let Some(home) = &self.cluster {
            let url = home.nodes.url();
            let told = ["--redis-url", &url, "--durability", home.level].map(str::to_owned);
            return (None, told.to_vec());
        }
        let Some(home) = &self.redis else { return (None, Vec::new()) };
        let real = home.redis.lock().unwrap().address();
        let way = Proxy::to(real).await;
        let url = format!("redis://{}/0", way.address());
        let told = ["--redis-url", &url, "--durability", home.level].map(str::to_owned);
        (Some(way), told.to_vec())
    }

    /// What the Redis has in the end.
    async fn escrow(&self, database: &str) -> Option<Escrow> {
        let real = if let Some(home) = &self.cluster {
            // There is one organization, so there is one shard.
            let at = home.at.lock().unwrap().unwrap();
            home.nodes.nodes[at].address()
        } else {
            self.redis.as_ref()?.redis.lock().unwrap().address()
        };
        let escrow = Escrow::read(database, real).await;
        Some(Escrow { answers: self.answers(), ..escrow })
    }

    /// Moves a shard to the next node, with pauses in between.
    async fn move_shard(&self, shard: i16, time: Duration) {
        let home = self.cluster.as_ref().unwrap();
        let (nodes, slot) = (&home.nodes, home.nodes.slot(shard));
        let from = home.at.lock().unwrap().unwrap_or_else(|| nodes.home(shard));
        let way = (from, (from + 1) % nodes.nodes.len());
        nodes.begin_to_move(slot, way);
        tokio::time::sleep(time / 3).await;
        nodes.move_keys(slot, way, 3);
        tokio::time::sleep(time / 3).await;
        while nodes.move_keys(slot, way, 100) > 0 {}
        tokio::time::sleep(time / 3).await;
        nodes.end_move(slot, way);
        *home.at.lock().unwrap() = Some(way.1);
    }
}

/// A server and its wires.
struct Replica {
    log: String,
    database: String,
    /// More of what it is told.
    arguments: Vec<String>,
    process: Arc<Mutex<Process>>,
    front: Proxy,
    back: Proxy,
    redis: Option<Proxy>,
    clock: Shifted,
}

impl Replica {
    fn wire(&self, wire: Wire) -> &Proxy {
        match wire {
            Wire::Front => &self.front,
            Wire::Back => &self.back,
            Wire::Redis => self.redis.as_ref().unwrap(),
        }
    }

    /// From now on its Redis is this one.
    fn lead_to(&self, redis: &Redis) {
        let wire = self.wire(Wire::Redis);
        wire.point_to(redis.address());
        wire.end_all();
    }
}

pub(super) struct Scene {
    cluster: Cluster,
    site: Site,
    home: Home,
    replicas: Vec<Replica>,
    shared: Arc<Shared>,
    spenders: JoinSet<Client>,
    administrators: JoinSet<()>,
    made: Vec<Made>,
}

/// Where a URL points: host and port.
fn address(url: &str) -> SocketAddr {
    let rest = url.split_once("://").unwrap().1;
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    host.split('/').next().unwrap().parse().unwrap()
}

/// How many stops of organizations, agents, credentials and mandates were answered.
pub(super) fn stops(history: &[Call]) -> [usize; 4] {
    let mut stops = [0; 4];
    for call in history.iter().filter(|call| !matches!(call.outcome, Outcome::Failed(_))) {
        match &call.request {
            Request::Switch { what, on: false, .. } => match what {
                Switch::Organization => stops[0] += 1,
                Switch::Agent => stops[1] += 1,
                Switch::Credential => stops[2] += 1,
            },
            Request::Change { .. } => stops[3] += 1,
            Request::Switch { .. }
            | Request::Evaluate { .. }
            | Request::Settle { .. }
            | Request::Void { .. }
            | Request::Refund { .. }
            | Request::Approve { .. }
            | Request::Deny { .. }
            | Request::Expire { .. } => {}
        }
    }
    stops
}

impl Scene {
    /// With so many who stop and start things.
    pub(super) async fn new(home: Home, controllers: u64) -> Self {
        let cluster = Cluster::new().await;
        let site = Site::new(&cluster.url);
        let library = clock::build(site.folder.path());
        let mut replicas = Vec::new();
        for number in 0..SERVERS {
            let back = Proxy::to(address(&cluster.url)).await;
            let (real, log) = (address(&cluster.url), format!("server-{number}.log"));
            let database = cluster.url.replace(&real.to_string(), &back.address().to_string());
            let (redis, arguments) = home.way().await;
            let clock = Shifted::new(site.folder.path(), &log, &library);
            let process = site.serve_in(&log, &database, &arguments, &clock.environment());
            let front = Proxy::to(address(&process.url)).await;
            let process = Arc::new(Mutex::new(process));
            replicas.push(Replica { log, database, arguments, process, front, back, redis, clock });
        }
        let urls = replicas.iter().map(|replica| format!("http://{}", replica.front.address()));
        let (_, urls) = watch::channel(urls.collect());
        let shared = Shared::new(urls, &site.key, home.levels).await;
        if home.answers() != Answers::Recorded {
            shared.give_up();
        }
        let (mut spenders, mut administrators) = (JoinSet::new(), JoinSet::new());
        let clients = setting("QUETRA_CLIENTS", CLIENTS);
        for name in 0..clients {
            spenders.spawn(Client::new(&shared, name).spend());
        }
        administrators.spawn(Client::new(&shared, clients).administer());
        for name in 1..=controllers {
            administrators.spawn(Client::new(&shared, clients + name).control());
        }
        let made = Vec::new();
        Self { cluster, site, home, replicas, shared, spenders, administrators, made }
    }

    /// Lets the clients get this many answers more.
    pub(super) async fn work(&self, calls: usize) {
        let (wanted, until) = (self.shared.answered() + calls, Instant::now() + PATIENCE);
        while self.shared.answered() < wanted {
            let errors = self.replicas.iter().map(|one| one.process.lock().unwrap().errors());
            let made = self.shared.answered();
            let is_late = Instant::now() >= until;
            assert!(!is_late, "{made} of {wanted}: {}", errors.collect::<Vec<_>>().join("\n"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a server has ended, by whatever hand.
    async fn end(&self, which: usize) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            let ended = self.replicas[which].process.lock().unwrap().ended();
            if let Some(status) = ended {
                return status;
            }
            assert!(Instant::now() < until, "the server does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn restart(&self, which: usize) {
        let replica = &self.replicas[which];
        let Replica { log, database, arguments, clock, .. } = replica;
        let started = self.site.serve_in(log, database, arguments, &clock.environment());
        replica.front.point_to(address(&started.url));
        *replica.process.lock().unwrap() = started;
    }

    /// Waits for the end of a killed server, lets the others work alone, and starts it again.
    async fn recover(&self, which: usize, meanwhile: usize) {
        assert_eq!(self.end(which).await.code(), None, "it ended by itself");
        self.work(meanwhile).await;
        self.restart(which);
    }

    fn signal(&self, which: usize, name: &str) {
        self.replicas[which].process.lock().unwrap().signal(name);
    }

    /// Makes a fault, and heals it; the servers that are left answer so many calls meanwhile.
    pub(super) async fn make(&mut self, fault: Fault, meanwhile: usize) {
        let begun = self.shared.ms();
        self.hurt(fault, meanwhile).await;
        self.made.push(Made { fault, ms: (begun, self.shared.ms()) });
    }

    async fn hurt(&self, fault: Fault, meanwhile: usize) {
        match fault {
            Fault::Kill(which) => {
                self.replicas[which].process.lock().unwrap().kill();
                self.recover(which, meanwhile).await;
            }
            Fault::KillOnDecision(which) => {
                self.shared.kill_on_decision(&self.replicas[which].process);
                self.recover(which, meanwhile).await;
            }
            Fault::KillBehind(which, wire, pieces) => {
                let wire = self.replicas[which].wire(wire);
                wire.cut_behind(pieces, A_WHILE * 4).await;
                self.replicas[which].process.lock().unwrap().kill();
                self.end(which).await;
                wire.set(Way::Down, Passage::Open);
                self.recover(which, meanwhile).await;
            }
            Fault::KillAll => {
                for replica in &self.replicas {
                    replica.process.lock().unwrap().kill();
                }
                for which in 0..SERVERS {
                    self.recover(which, 0).await;
                }
            }
            Fault::Freeze(which, time) => {
                self.signal(which, "STOP");
                tokio::time::sleep(time).await;
                self.signal(which, "CONT");
            }
            Fault::FreezePostgres(time) => {
                self.cluster.signal("STOP");
                tokio::time::sleep(time).await;
                self.cluster.signal("CONT");
            }
            Fault::StopPostgres(time) => {
                self.cluster.stop();
                tokio::time::sleep(time).await;
                self.cluster.start(&[]);
            }
            Fault::Cut(which, wire, way, time) => {
                let wire = self.replicas[which].wire(wire);
                wire.set(way, Passage::Cut);
                tokio::time::sleep(time).await;
                wire.set(way, Passage::Open);
            }
            Fault::Slow(which, wire, way, time) => {
                let wire = self.replicas[which].wire(wire);
                wire.set(way, Passage::Slow(Duration::from_millis(40)));
                tokio::time::sleep(time).await;
                wire.set(way, Passage::Open);
            }
            Fault::End(which, wire) => self.replicas[which].wire(wire).end_all(),
            Fault::Clock(which, ahead_ms) => self.replicas[which].clock.set(ahead_ms),
            Fault::Redis(fault) => self.hurt_redis(fault, meanwhile).await,
        }
    }

    async fn hurt_redis(&self, fault: RedisFault, meanwhile: usize) {
        match fault {
            RedisFault::Freeze(time) => {
                self.home.its_redis().signal("STOP");
                tokio::time::sleep(time).await;
                self.home.its_redis().signal("CONT");
            }
            RedisFault::Promote(first, time) => {
                let attach = || Redis::replica_of(&self.home.its_redis());
                let new = tokio::task::block_in_place(attach);
                // Servers find out that there is a replica.
                tokio::time::sleep(A_WHILE * 2).await;
                new.promote();
                self.replicas[first].lead_to(&new);
                tokio::time::sleep(time).await;
                for replica in &self.replicas {
                    replica.lead_to(&new);
                }
                *self.home.its_redis() = new;
            }
            RedisFault::Power(seed) => {
                let unsynced = power::fail_redis(&mut self.home.its_redis(), &mut Dice::new(seed));
                println!("{unsynced} writes were not synced");
            }
            RedisFault::Flush => drop(self.home.its_redis().ask("FLUSHALL")),
            RedisFault::Empty => {
                self.home.its_redis().kill();
                self.home.its_redis().empty();
                // Whatever can be had of Postgres alone.
                tokio::time::sleep(A_WHILE).await;
                self.home.its_redis().again();
            }
            RedisFault::Old => {
                let dump = tempfile::tempdir().unwrap();
                self.home.its_redis().kill();
                self.home.its_redis().copy_to(dump.path());
                self.home.its_redis().again();
                self.work(meanwhile).await;
                self.home.its_redis().kill();
                self.home.its_redis().put_back(dump.path());
                self.home.its_redis().again();
            }
            RedisFault::MoveSlot(time) => {
                let shard = "SELECT shard::text FROM shard_authority LIMIT 1";
                let shard = self.cluster.ask(shard).await.parse().unwrap();
                self.home.move_shard(shard, time).await;
            }
            RedisFault::Kill => {
                self.home.its_redis().kill();
                tokio::time::sleep(A_WHILE).await;
                self.home.its_redis().again();
            }
        }
    }

    /// Ends the load, asks some questions again, ends the servers and judges.
    pub(super) async fn judge(mut self) -> Vec<Call> {
        self.shared.stop();
        while self.administrators.join_next().await.transpose().unwrap().is_some() {}
        for client in std::mem::take(&mut self.spenders).join_all().await {
            client.repeat(5).await;
        }
        for which in 0..SERVERS {
            self.signal(which, "TERM");
            let status = self.end(which).await;
            let errors = self.replicas[which].process.lock().unwrap().errors();
            assert_eq!(status.code(), Some(0), "{errors}");
        }
        let mut books = Books::of_server(&self.site.database).await;
        books.escrow = self.home.escrow(&self.site.database).await;
        let password = self.cluster.url.split([':', '@']).nth(2).unwrap();
        books.secrets = vec![self.site.key.clone(), password.to_owned()];
        for replica in &self.replicas {
            let text = fs::read_to_string(self.site.log(&replica.log)).unwrap();
            books.texts.push((replica.log.clone(), text));
        }
        books.note_beside();
        let history = self.shared.history();
        println!("{}{} rows", Told::new(&history, &self.made), books.entries.len());
        println!("{} decided in Redis too", books.beside.len());
        for (why, count) in self.shared.unknown() {
            println!("{count} times: {why}");
        }
        checker::acquit(&checker::violations(&history, &books));
        history
    }
}
