//! A Redis Cluster of a test's own, whose nodes can be killed or cut off from each other, and whose
//! slots can be moved as an operator moves them.
//!
//! Not here: a single node (`redis`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::redis::{Redis, free_port, settings};
use crate::proxy::{Exchange, Passage, Way};

/// How long nodes may take to know of each other.
const START_TIME: Duration = Duration::from_secs(20);

const SLOTS: usize = 16_384;
const MASTERS: usize = 3;

/// A node that does not answer for so long has failed, in milliseconds.
const NODE_TIMEOUT: &str = "1000";

static SHARED: LazyLock<RedisCluster> = LazyLock::new(|| RedisCluster::start("everysec"));

/// The URL of a cluster that others use before and after.
pub(crate) fn fresh_redis_cluster() -> String {
    for node in &SHARED.nodes {
        node.ask("FLUSHALL");
    }
    SHARED.url()
}

/// Masters, and behind them the replica of each, if there are any.
pub(crate) struct RedisCluster {
    pub(crate) nodes: Vec<Redis>,
    /// What is in front of the bus of each, if something is.
    buses: Vec<Exchange>,
}

/// Where a node's own connections come from, where nodes are told apart.
fn source(node: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 10 + u8::try_from(node).unwrap()))
}

/// A node that knows no other one, whose bus has this port, and more settings.
fn node(fsync: &str, port: u16, more: &[String]) -> Redis {
    let mut settings = settings(fsync);
    let port = port.to_string();
    let cluster = ["--cluster-enabled", "yes", "--cluster-node-timeout", NODE_TIMEOUT];
    // Nodes serve what they have while others are away.
    let cluster = cluster.into_iter().chain(["--cluster-require-full-coverage", "no"]);
    settings.extend(cluster.chain(["--cluster-port", &port]).map(str::to_owned));
    settings.extend_from_slice(more);
    Redis::start_with(&settings)
}

fn text(said: redis::Value) -> String {
    redis::from_redis_value(said).unwrap()
}

/// Which slots a master begins with.
fn slots_of(master: usize) -> Range<usize> {
    SLOTS * master / MASTERS..SLOTS * (master + 1) / MASTERS
}

impl RedisCluster {
    /// Three masters.
    pub(crate) fn start(fsync: &str) -> Self {
        Self::of(fsync, MASTERS)
    }

    /// The same, each with a replica.
    pub(crate) fn with_replicas(fsync: &str) -> Self {
        Self::replicated(Self::of(fsync, MASTERS * 2))
    }

    /// The same, with proxies between the nodes: what they say of each other can be cut, each way
    /// for itself. Clients, and replicas that get their data, reach them as before.
    pub(crate) async fn with_a_bus(fsync: &str) -> Self {
        let (mut nodes, mut buses) = (Vec::new(), Vec::new());
        for number in 0..MASTERS * 2 {
            let port = free_port();
            let bus = Exchange::to(SocketAddr::from(([127, 0, 0, 1], port))).await;
            let (from, said) = (source(number).to_string(), bus.address().port().to_string());
            let more = ["--bind-source-addr", &from, "--cluster-announce-ip", "127.0.0.1"];
            let more = more.into_iter().chain(["--cluster-announce-bus-port", &said]);
            // Of all loopback addresses only one counts as local.
            let more = more.chain(["--protected-mode", "no"]);
            nodes.push(node(fsync, port, &more.map(str::to_owned).collect::<Vec<_>>()));
            buses.push(bus);
        }
        // The proxies work meanwhile.
        tokio::task::block_in_place(|| Self::replicated(Self::meet(Self { nodes, buses })))
    }

    fn replicated(cluster: Self) -> Self {
        for master in 0..MASTERS {
            let follow = format!("CLUSTER REPLICATE {}", cluster.id(master));
            cluster.nodes[master + MASTERS].ask(&follow);
        }
        cluster.wait("all replicas follow", |cluster| {
            let is_linked =
                |node: &Redis| node.info("replication").contains("master_link_status:up");
            cluster.nodes[MASTERS..].iter().all(is_linked)
                && cluster.nodes.iter().all(|node| {
                    let said = text(node.ask("CLUSTER NODES"));
                    said.split([' ', ',']).filter(|word| *word == "slave").count() == MASTERS
                })
        });
        cluster
    }

    fn of(fsync: &str, count: usize) -> Self {
        let nodes = (0..count).map(|_| node(fsync, free_port(), &[])).collect();
        Self::meet(Self { nodes, buses: Vec::new() })
    }

    fn meet(cluster: Self) -> Self {
        let count = cluster.nodes.len();
        for (number, node) in cluster.nodes.iter().enumerate() {
            node.ask(&format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1));
            if number < MASTERS {
                let slots = slots_of(number);
                let last = slots.end - 1;
                node.ask(&format!("CLUSTER ADDSLOTSRANGE {} {last}", slots.start));
            }
        }
        let first = &cluster.nodes[0];
        for node in &cluster.nodes[1..] {
            let port = node.address().port();
            // It knows none but itself: `id :port@bus …`.
            let said = text(node.ask("CLUSTER NODES"));
            let bus = said.split(['@', ' ', ',']).nth(2).unwrap();
            first.ask(&format!("CLUSTER MEET 127.0.0.1 {port} {bus}"));
        }
        cluster.wait("all nodes know of each other", |cluster| {
            let known = format!("cluster_known_nodes:{count}\r");
            cluster.nodes.iter().all(|node| {
                let said = text(node.ask("CLUSTER INFO"));
                said.contains("cluster_state:ok") && said.contains(&known)
            })
        });
        cluster
    }

    /// Whether a node hears the others, and whether they hear it.
    pub(crate) fn cut_off(&self, node: usize, hears: bool, is_heard: bool) {
        let passage = |is_open| if is_open { Passage::Open } else { Passage::Cut };
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            // Each has a connection to the other.
            self.buses[node].set(source(other), Way::Up, passage(hears));
            self.buses[node].set(source(other), Way::Down, passage(is_heard));
            self.buses[other].set(source(node), Way::Up, passage(is_heard));
            self.buses[other].set(source(node), Way::Down, passage(hears));
        }
    }

    fn wait(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let since = Instant::now();
        while !is_so(self) {
            assert!(since.elapsed() < START_TIME, "it takes too long until {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Every master, as a server may be told of them.
    pub(crate) fn url(&self) -> String {
        let nodes = self.nodes.iter().take(MASTERS);
        nodes.map(|node| format!("redis://{}", node.address())).collect::<Vec<_>>().join(",")
    }

    fn id(&self, node: usize) -> String {
        text(self.nodes[node].ask("CLUSTER MYID"))
    }

    /// The slot of a shard.
    pub(crate) fn slot(&self, shard: i16) -> usize {
        let slot = self.nodes[0].ask(&format!("CLUSTER KEYSLOT {{s{shard:02}}}"));
        redis::from_redis_value(slot).unwrap()
    }

    /// The master that a shard began on.
    pub(crate) fn home(&self, shard: i16) -> usize {
        let slot = self.slot(shard);
        (0..MASTERS).find(|master| slots_of(*master).contains(&slot)).unwrap()
    }

    /// Begins to move a slot: from now on neither of the two decides in it.
    pub(crate) fn begin_to_move(&self, slot: usize, (from, to): (usize, usize)) {
        let (giver, taker) = (self.id(from), self.id(to));
        self.nodes[to].ask(&format!("CLUSTER SETSLOT {slot} IMPORTING {giver}"));
        self.nodes[from].ask(&format!("CLUSTER SETSLOT {slot} MIGRATING {taker}"));
    }

    /// Moves so many keys of a slot; how many that were.
    pub(crate) fn move_keys(&self, slot: usize, (from, to): (usize, usize), most: usize) -> usize {
        let keys = self.nodes[from].ask(&format!("CLUSTER GETKEYSINSLOT {slot} {most}"));
        let keys: Vec<String> = redis::from_redis_value(keys).unwrap();
        if !keys.is_empty() {
            let (port, names) = (self.nodes[to].address().port(), keys.join(" "));
            self.nodes[from].ask(&format!("MIGRATE 127.0.0.1 {port}  0 5000 KEYS {names}"));
        }
        keys.len()
    }

    /// Says that the slot has moved, to all masters.
    pub(crate) fn end_move(&self, slot: usize, (from, to): (usize, usize)) {
        let taker = self.id(to);
        let others = (0..MASTERS).filter(|node| *node != to && *node != from);
        for node in [to, from].into_iter().chain(others) {
            self.nodes[node].ask(&format!("CLUSTER SETSLOT {slot} NODE {taker}"));
        }
    }

    /// Moves a slot with all its keys.
    pub(crate) fn move_slot(&self, slot: usize, way: (usize, usize)) {
        self.begin_to_move(slot, way);
        while self.move_keys(slot, way, 100) > 0 {}
        self.end_move(slot, way);
    }
}
