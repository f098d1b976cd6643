//! Which Redis each shard is on: the one there is, or a node of a cluster, which may give it to
//! another at any time.
//!
//! A wrong answer here costs time and no money: a node that does not have a shard says so, and who
//! may spend in it is known by epochs (`shards`). Not here: how nodes say what they have
//! (`cluster`), and the connection to one of them (`link`).

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use redis::{Client, ConnectionInfo, IntoConnectionInfo};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::cluster::Cluster;
use super::keys::SHARDS;
use super::link::{Link, LinkError, Live, connected};
use super::settings::{Unfit, is_clustered};
use crate::ledger::Durability;

mod cluster;

/// How often a cluster in which every shard is within reach is asked who has which.
const TICK: Duration = Duration::from_secs(1);

/// How often it is asked while something is missing, at least, and after a node said that a shard
/// is not there, at most.
const QUICK: Duration = Duration::from_millis(100);

/// What is known of where shards are.
struct Map {
    /// Of each shard; none where no node of the cluster has it.
    shards: Vec<Option<Arc<Link>>>,
    /// Each once.
    links: Vec<Arc<Link>>,
}

/// Where shards are.
pub(super) struct Nodes {
    /// All of them on this one.
    one: Option<Arc<Link>>,
    /// Or as this cluster says.
    cluster: Option<Cluster>,
    map: watch::Sender<Arc<Map>>,
}

impl Nodes {
    /// Finds out what a URL leads to: one Redis, or a cluster, of which it may name several nodes.
    pub(super) async fn open(url: &str, level: Durability) -> Result<Self, LinkError> {
        let (mut last, seeds) = (LinkError::Lost, seeds(url)?);
        for seed in &seeds {
            match Self::ask(seed, (url, &seeds), level).await {
                Ok(nodes) => return Ok(nodes),
                Err(error @ LinkError::Unfit(_)) => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ask(
        seed: &ConnectionInfo,
        (url, seeds): (&str, &[ConnectionInfo]),
        level: Durability,
    ) -> Result<Self, LinkError> {
        let client = Client::open(seed.clone())?;
        let mut connection = connected(&client).await?;
        let info: String = redis::cmd("INFO").arg("cluster").query_async(&mut connection).await?;
        if !is_clustered(&info) {
            if seeds.len() > 1 {
                return Err(Unfit::Several(seed.addr().to_string()).into());
            }
            let one = Link::new(client, level, None);
            let shards = (0..SHARDS).map(|_| Some(Arc::clone(&one))).collect();
            let links = vec![Arc::clone(&one)];
            let map = watch::Sender::new(Arc::new(Map { shards, links }));
            return Ok(Self { one: Some(one), cluster: None, map });
        }
        let cluster = Cluster::new(&mut connection, (url, seeds), level).await?;
        let map = Map { shards: vec![None; usize::from(SHARDS)], links: Vec::new() };
        let nodes =
            Self { one: None, cluster: Some(cluster), map: watch::Sender::new(Arc::new(map)) };
        nodes.look_again().await?;
        Ok(nodes)
    }

    /// Finds out whether a server may begin: every shard has its place, and none of them is on a
    /// Redis that cannot be used. A cluster may be without some nodes for a while.
    pub(super) async fn check(&self) -> Result<(), LinkError> {
        for shard in 0..i16::from(SHARDS) {
            self.link(shard)?;
        }
        let links = self.links();
        let found = join_all(links.iter().map(|link| link.live())).await;
        let is_lost = found.iter().all(Result::is_err);
        let refuses = |error: &LinkError| is_lost || matches!(error, LinkError::Unfit(_));
        let mut errors = found.into_iter().filter_map(Result::err);
        errors.find(refuses).map_or(Ok(()), Err)
    }

    /// The connection to where a shard is.
    pub(super) async fn live(&self, shard: i16) -> Result<Arc<Live>, LinkError> {
        match &self.one {
            Some(one) => one.live().await,
            None => self.link(shard)?.live().await,
        }
    }

    /// The connections to where each shard is; each node is asked once.
    pub(super) async fn lives(&self) -> Vec<Result<Arc<Live>, LinkError>> {
        let links = self.links();
        let found = join_all(links.iter().map(|link| link.live())).await;
        let live_at = |link: Arc<Link>| {
            let mut pairs = links.iter().zip(&found);
            let found = pairs.find(|(one, _)| Arc::ptr_eq(one, &link));
            found.map_or(Err(LinkError::Lost), |(_, live)| live.clone())
        };
        (0..i16::from(SHARDS)).map(|shard| self.link(shard).and_then(live_at)).collect()
    }

    /// The link to where a shard is.
    pub(super) fn link(&self, shard: i16) -> Result<Arc<Link>, LinkError> {
        if let Some(one) = &self.one {
            return Ok(Arc::clone(one));
        }
        let place = usize::try_from(shard).ok();
        let found = place.and_then(|place| self.map.borrow().shards.get(place).cloned().flatten());
        found.ok_or_else(|| {
            let slot = self.cluster.as_ref().and_then(|cluster| cluster.slot(shard));
            LinkError::Unplaced(slot.unwrap_or_default())
        })
    }

    /// Whether a shard is there.
    pub(super) fn is_on(&self, shard: i16, link: &Arc<Link>) -> bool {
        self.link(shard).is_ok_and(|found| Arc::ptr_eq(&found, link))
    }

    /// The links to wherever shards are.
    pub(super) fn links(&self) -> Vec<Arc<Link>> {
        self.map.borrow().links.clone()
    }

    /// Whether shards may move.
    pub(super) const fn is_cluster(&self) -> bool {
        self.cluster.is_some()
    }

    /// Whether there is a connection to where each shard is.
    pub(super) fn is_whole(&self) -> bool {
        let map = self.map.borrow();
        map.shards.iter().all(Option::is_some)
            && map.links.iter().all(|link| link.present().is_some())
    }

    /// Works beside each link for as long as it has shards, until it is stopped and all of that
    /// has come to its end.
    pub(super) async fn beside_each<F: Future<Output = ()>>(
        &self,
        stop: &CancellationToken,
        work: impl Fn(Arc<Link>) -> F,
    ) {
        let (mut map, mut running) = (self.map.subscribe(), FuturesUnordered::new());
        let mut begun: Vec<Arc<Link>> = Vec::new();
        while !stop.is_cancelled() {
            let links = map.borrow_and_update().links.clone();
            for link in &links {
                if !begun.iter().any(|one| Arc::ptr_eq(one, link)) {
                    running.push(work(Arc::clone(link)));
                }
            }
            begun = links;
            tokio::select! {
                // It lasts as long as this does.
                _ = map.changed() => {}
                Some(()) = running.next() => {}
                () = stop.cancelled() => {}
            }
        }
        while running.next().await.is_some() {}
    }

    /// Follows shards from node to node, for as long as this is awaited.
    pub(super) async fn follow(&self) {
        let Some(cluster) = &self.cluster else { return };
        loop {
            let pause = if self.is_whole() { TICK } else { QUICK };
            // Whichever comes first.
            drop(timeout(pause, cluster.moved.notified()).await);
            if let Err(error) = self.look_again().await {
                tracing::debug!(%error, "it is not known now which node has which shard");
            }
            sleep(QUICK).await;
        }
    }

    /// Asks the cluster who has which shard.
    async fn look_again(&self) -> Result<(), LinkError> {
        let Some(cluster) = &self.cluster else { return Ok(()) };
        let places = cluster.places(&self.links()).await?;
        let (mut links, mut refused) = (self.links(), Ok(()));
        for node in places.iter().flatten() {
            if !links.iter().any(|link| link.node.as_ref() == Some(node)) {
                match cluster.link(node) {
                    Ok(link) => links.push(link),
                    Err(error) => refused = Err(error),
                }
            }
        }
        let find = |node: &String| links.iter().find(|link| link.node.as_ref() == Some(node));
        let shards = places.iter().map(|node| node.as_ref().and_then(find).cloned());
        let shards = shards.collect::<Vec<_>>();
        let is_used =
            |link: &Arc<Link>| shards.iter().flatten().any(|used| Arc::ptr_eq(used, link));
        let (links, gone): (Vec<_>, Vec<_>) = links.into_iter().partition(is_used);
        let before = self.map.send_replace(Arc::new(Map { shards, links }));
        for link in gone {
            link.gone.cancel();
        }
        let is_same = |(a, b): (&Option<Arc<Link>>, &Option<Arc<Link>>)| {
            a.as_ref().map(Arc::as_ptr) == b.as_ref().map(Arc::as_ptr)
        };
        let now = self.map.borrow();
        let moved = before.shards.iter().zip(&now.shards).filter(|pair| !is_same(*pair)).count();
        if moved > 0 {
            let nodes = now.links.len();
            tracing::info!(moved, nodes, "shards are on other nodes of the redis cluster now");
        }
        refused
    }
}

/// The addresses of a URL: one, or several nodes of a cluster with commas in between.
fn seeds(url: &str) -> Result<Vec<ConnectionInfo>, LinkError> {
    const SCHEME: &str = "redis://";
    let between = format!(",{SCHEME}");
    let mut seeds = url.split(&between);
    let first = seeds.next().unwrap_or_default().into_connection_info()?;
    let others = seeds.map(|seed| Ok(format!("{SCHEME}{seed}").into_connection_info()?));
    std::iter::once(Ok(first)).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_nodes_are_named_with_commas_in_between() {
        let named = |url| {
            let seeds = seeds(url).unwrap();
            seeds.iter().map(|seed| seed.addr().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(named("redis://:a,b@10.0.0.1:7000/0"), ["10.0.0.1:7000"]);
        let two = "redis://:a@10.0.0.1:7000,redis://:a@10.0.0.2:7001/?network=private";
        assert_eq!(named(two), ["10.0.0.1:7000", "10.0.0.2:7001"]);
        assert!(seeds("redis://10.0.0.1:7000,10.0.0.2:7001").is_err());
    }
}
