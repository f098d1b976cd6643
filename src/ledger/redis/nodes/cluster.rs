//! What the nodes of a cluster say of who has which shard, and whom to believe.
//!
//! What a node says of itself counts more than what others say of it; and of two that claim a slot
//! the one with the later configuration epoch has it, as they themselves will agree. Not here: what
//! becomes of a shard that has moved (`shards`).

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use futures::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{Client, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue};
use tokio::sync::Notify;

use super::super::keys::{Keys, SHARDS};
use super::super::link::{Link, LinkError, connected};
use super::super::settings::Unfit;
use crate::ledger::Durability;

/// What a master is said to have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    /// Where it is: host and port.
    address: String,
    /// The later one counts.
    epoch: u64,
    slots: Vec<RangeInclusive<u16>>,
    /// Whether it says so itself.
    is_own: bool,
}

/// A cluster.
pub(super) struct Cluster {
    seeds: Vec<ConnectionInfo>,
    level: Durability,
    /// Of each shard.
    slots: Vec<u16>,
    /// Somebody was told that a shard is elsewhere.
    pub(super) moved: Arc<Notify>,
    is_private: bool,
}

impl Cluster {
    /// A cluster of which a node was found; that one says which slots the shards are in.
    pub(super) async fn new(
        connection: &mut MultiplexedConnection,
        (url, seeds): (&str, &[ConnectionInfo]),
        level: Durability,
    ) -> Result<Self, LinkError> {
        let mut ask = redis::pipe();
        for shard in 0..i16::from(SHARDS) {
            ask.cmd("CLUSTER").arg("KEYSLOT").arg(Keys(shard).authority());
        }
        let slots = ask.query_async(connection).await?;
        let (seeds, moved) = (seeds.to_vec(), Arc::new(Notify::new()));
        let is_private = url.ends_with("?network=private");
        Ok(Self { seeds, level, slots, moved, is_private })
    }

    /// The slot of a shard.
    pub(super) fn slot(&self, shard: i16) -> Option<u16> {
        self.slots.get(usize::try_from(shard).ok()?).copied()
    }

    /// A link to a node. Decisions cross no network in the clear, unless it was said to be private.
    pub(super) fn link(&self, node: &str) -> Result<Arc<Link>, LinkError> {
        let (host, port) = address(node).ok_or(LinkError::Answer("no address of a node"))?;
        let is_local = host.parse().is_ok_and(|host: IpAddr| host.to_canonical().is_loopback());
        if !is_local && !self.is_private {
            return Err(Unfit::InTheClear(node.to_owned()).into());
        }
        let seed = self.seeds.first().ok_or(LinkError::Answer("no seed"))?;
        let info = seed.clone().set_addr(ConnectionAddr::Tcp(host.to_owned(), port));
        let node = (node.to_owned(), Arc::clone(&self.moved));
        Ok(Link::new(Client::open(info)?, self.level, Some(node)))
    }

    /// Where each shard is, as the nodes say that can be asked.
    pub(super) async fn places(
        &self,
        links: &[Arc<Link>],
    ) -> Result<Vec<Option<String>>, LinkError> {
        let ask = redis::cmd("CLUSTER").arg("NODES").to_owned();
        let said = join_all(links.iter().map(|link| ask_link(link, &ask))).await;
        let mut said = said.into_iter().flatten().collect::<Vec<_>>();
        if said.is_empty() {
            said.push(self.ask_seeds(&ask).await?);
        }
        let claims = believed(said.iter().map(|(asked, text)| claims(asked, text)));
        let find = |slot: &u16| {
            let has = |claim: &&Claim| claim.slots.iter().any(|slots| slots.contains(slot));
            let latest = claims.iter().filter(has).max_by_key(|claim| claim.epoch);
            latest.map(|claim| claim.address.clone())
        };
        Ok(self.slots.iter().map(find).collect())
    }

    /// What the first of the named nodes says that answers.
    async fn ask_seeds(&self, ask: &Cmd) -> Result<(String, String), LinkError> {
        let mut last = LinkError::Lost;
        for seed in &self.seeds {
            let asked = async {
                let mut connection = connected(&Client::open(seed.clone())?).await?;
                let said: String = ask.query_async(&mut connection).await?;
                Ok((seed.addr().to_string(), said))
            };
            match asked.await {
                Ok(said) => return Ok(said),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// What a node says that there is a connection to.
async fn ask_link(link: &Arc<Link>, ask: &Cmd) -> Option<(String, String)> {
    let live = link.present()?;
    let said = live.ask(ask).await.ok()?;
    Some((link.node.clone()?, String::from_redis_value(said).ok()?))
}

/// The claims that count, out of what each node says: what one that was asked says of itself, and
/// of every other one the latest that anybody says.
fn believed(said: impl Iterator<Item = HashMap<String, Claim>>) -> Vec<Claim> {
    let mut believed = HashMap::<String, Claim>::new();
    for (id, claim) in said.flatten() {
        let is_better = |known: &Claim| (claim.is_own, claim.epoch) > (known.is_own, known.epoch);
        if believed.get(&id).is_none_or(is_better) {
            believed.insert(id, claim);
        }
    }
    believed.into_values().collect()
}

/// What a node says of masters, by their ids. Whoever does not know its own address was `asked`
/// there.
fn claims(asked: &str, said: &str) -> HashMap<String, Claim> {
    said.lines().filter_map(|line| claim(asked, line)).collect()
}

fn claim(asked: &str, line: &str) -> Option<(String, Claim)> {
    let mut words = line.split(' ');
    let (id, at, flags) = (words.next()?, words.next()?, words.next()?);
    let is = |wanted| flags.split(',').any(|flag| flag == wanted);
    if !is("master") || is("noaddr") || is("handshake") {
        return None;
    }
    // Behind the address come the port of the cluster itself and a name.
    let (at, _) = at.split_once('@')?;
    let is_nameless = at.rsplit_once(':').is_some_and(|(host, _)| host.is_empty());
    let address = if is_nameless { asked } else { at }.to_owned();
    let epoch = words.nth(3)?.parse().ok()?;
    // What is in brackets is on its way.
    let slots = words.skip(1).filter_map(slots).collect();
    Some((id.to_owned(), Claim { address, epoch, slots, is_own: is("myself") }))
}

fn slots(word: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

fn address(node: &str) -> Option<(&str, u16)> {
    let (host, port) = node.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Redis 7.0 says it: a node of itself, one that failed, its successor, and a replica.
    const SAID: &str = "\
        aa 127.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-5460 [93->-bb]\n\
        bb 127.0.0.1:7001@17001,b.internal master,fail - 0 16 2 disconnected 5461-5470 5472\n\
        cc ::1:7002@17002 master - 0 16 7 connected 5461 10923-16383\n\
        dd 127.0.0.1:7003@17003 slave aa 0 16 1 connected\n\
        ee :0@0 master,noaddr - 0 16 3 disconnected 10922\n";

    fn places(said: &[(&str, &str)], slot: u16) -> Option<String> {
        let claims = believed(said.iter().map(|(asked, text)| claims(asked, text)));
        let has = |claim: &&Claim| claim.slots.iter().any(|slots| slots.contains(&slot));
        let latest = claims.iter().filter(has).max_by_key(|claim| claim.epoch);
        latest.map(|claim| claim.address.clone())
    }

    #[test]
    fn the_later_of_two_claims_counts() {
        let at = |slot| places(&[("127.0.0.1:7000", SAID)], slot);
        assert_eq!(at(93).as_deref(), Some("127.0.0.1:7000"));
        assert_eq!(at(5461).as_deref(), Some("::1:7002"), "it has a later epoch");
        assert_eq!(at(5472).as_deref(), Some("127.0.0.1:7001"), "nobody else has it");
        assert_eq!(at(10922), None, "nobody knows where it is");
        assert_eq!(at(10923).as_deref(), Some("::1:7002"));
        assert_eq!(address("::1:7002"), Some(("::1", 7002)));
    }

    #[test]
    fn what_a_node_says_of_itself_counts_more_than_what_others_say_of_it() {
        // It has given slot 93 away, and the others have not heard of that.
        let own = "bb 127.0.0.1:7001@17001 myself,master - 0 0 9 connected 5461-5472 93\n\
                   aa 127.0.0.1:7000@17000 master - 0 0 11 connected 0-92 94-5460\n";
        let giver = SAID.replace("- 0 0 1 connected 0-5460 [93->-bb]", "- 0 0 11 connected 0-92");
        let third = "cc ::1:7002@17002 myself,master - 0 0 7 connected 10923-16383\n\
                     aa 127.0.0.1:7000@17000 master - 0 0 12 connected 0-5460\n";
        let said = [("", own), ("", giver.as_str()), ("", third)];
        assert_eq!(places(&said, 93).as_deref(), Some("127.0.0.1:7001"));
        assert_eq!(places(&said, 92).as_deref(), Some("127.0.0.1:7000"));
        // Who does not know its own address is where it was asked.
        let nameless = "aa :7000@17000 myself,master - 0 0 1 connected 0-5460\n";
        assert_eq!(places(&[("10.0.0.1:7000", nameless)], 1).as_deref(), Some("10.0.0.1:7000"));
    }
}
