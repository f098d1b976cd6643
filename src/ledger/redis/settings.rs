//! What a Redis must be set to, for the level that is promised on it.
//!
//! Checked on every new connection, so that a Redis that comes back with other settings is not
//! believed. Not here: this server's own settings (`config`).

use std::collections::HashMap;

use redis::FromRedisValue;
use redis::aio::MultiplexedConnection;

use super::link::LinkError;
use crate::ledger::{Durability, NotKept};

/// The oldest version: streams number their entries densely from 7.0 on.
const OLDEST: u32 = 7;

/// How many replicas must be there for a write.
const REPLICAS: &str = "min-replicas-to-write";

/// Why a Redis is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error("this Redis is version {0}; use 7.0 or newer")]
    TooOld(String),
    #[error("this Redis is a read-only replica; name the master in redis_url")]
    Replica,
    #[error("this Redis was a single one, and is a node of a cluster now; start the server again")]
    Cluster,
    #[error("this Redis was a node of a cluster, and is a single one now; start the server again")]
    NoCluster,
    #[error("several addresses are named, and {0} is no node of a Redis cluster; name it alone")]
    Several(String),
    #[error(
        "the cluster's node {0} would be reached across the network in the clear; add \
         ?network=private to redis_url where the network in between is private"
    )]
    InTheClear(String),
    #[error(transparent)]
    Setting(#[from] NotKept),
}

/// Who a Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// The replication id of the process: a promotion gives it another one.
    pub(super) id: String,
    /// Whether another process may take its place with what it has: then what only this one has on
    /// its disk may be lost, and it may be demoted and promoted again without losing connections.
    pub(super) has_replicas: bool,
}

/// Reads who a Redis is out of what `INFO` says of its replication.
///
/// # Errors
/// When it says something else, or is a replica.
pub(super) fn identity(info: &str) -> Result<Identity, LinkError> {
    let info = fields(info);
    let field = |name| info.get(name).copied().unwrap_or_default();
    if field("role") != "master" {
        return Err(Unfit::Replica.into());
    }
    let id = field("master_replid");
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(LinkError::Answer("no master_replid"));
    }
    // A backlog is kept for replicas that have lost their connection; an hour, as Redis comes.
    let is_zero = |name| matches!(field(name), "0" | "");
    let has_replicas = !(is_zero("connected_slaves") && is_zero("repl_backlog_active"));
    Ok(Identity { id: id.to_owned(), has_replicas })
}

/// Asks a Redis who it is, and which levels cannot be kept on it; the default one must be.
///
/// # Errors
/// When it does not answer, or cannot be used.
pub(super) async fn check(
    connection: &mut MultiplexedConnection,
    default: Durability,
    is_in_cluster: bool,
) -> Result<(Identity, Vec<NotKept>), LinkError> {
    let info: String = redis::cmd("INFO").query_async(connection).await?;
    fit(&fields(&info), is_in_cluster)?;
    let mut identity = identity(&info)?;
    let set = settings(question().query_async(connection).await?)?;
    // Who asks for replicas has some, also while none of them is connected.
    identity.has_replicas |= set.get(REPLICAS).is_none_or(|count| count != "0");
    let unkept = unkept(&set);
    if let Some(found) = unkept.iter().find(|one| one.level == default) {
        return Err(Unfit::Setting(found.clone()).into());
    }
    Ok((identity, unkept))
}

/// Asks for every setting that is looked at.
pub(super) fn question() -> redis::Cmd {
    let settings = wanted(Durability::Durable).iter().map(|(setting, _)| *setting);
    let settings = settings.chain([REPLICAS]).collect::<Vec<_>>();
    redis::cmd("CONFIG").arg("GET").arg(settings).to_owned()
}

/// Settings by their names.
pub(super) type Settings = HashMap<String, String>;

/// Reads the answer.
pub(super) fn settings(said: redis::Value) -> Result<Settings, LinkError> {
    HashMap::from_redis_value(said).map_err(|_| LinkError::Answer("no settings"))
}

/// What is in the way of levels.
pub(super) fn unkept(set: &Settings) -> Vec<NotKept> {
    Durability::ALL.into_iter().filter_map(|level| in_the_way(level, set)).collect()
}

/// What is in the way of a level.
fn in_the_way(level: Durability, set: &Settings) -> Option<NotKept> {
    wanted(level).iter().find_map(|(setting, needed)| {
        let value = set.get(*setting).cloned().unwrap_or_default();
        let is_kept = needed.split(" or ").any(|needed| needed == value);
        (!is_kept).then_some(NotKept { level, setting, value, needed })
    })
}

/// The settings of a level, and what they must be; `durable` needs all that any level needs.
const fn wanted(level: Durability) -> &'static [(&'static str, &'static str)] {
    match level {
        // What Redis forgets was never answered.
        Durability::Strict => &[("maxmemory-policy", "noeviction")],
        Durability::Fast => &[
            ("maxmemory-policy", "noeviction"),
            ("appendonly", "yes"),
            ("appendfsync", "always or everysec"),
        ],
        // A rewrite of the log would suspend the flushes.
        Durability::Durable => &[
            ("maxmemory-policy", "noeviction"),
            ("appendonly", "yes"),
            ("appendfsync", "always"),
            ("no-appendfsync-on-rewrite", "no"),
        ],
    }
}

/// Whether a Redis is a node of a cluster, by what `INFO` says.
pub(super) fn is_clustered(info: &str) -> bool {
    fields(info).get("cluster_enabled") == Some(&"1")
}

fn fit(info: &HashMap<&str, &str>, is_in_cluster: bool) -> Result<(), Unfit> {
    let field = |name| info.get(name).copied().unwrap_or_default();
    let version = field("redis_version");
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < OLDEST) {
        return Err(Unfit::TooOld(version.chars().take(32).collect()));
    }
    match (field("cluster_enabled") == "1", is_in_cluster) {
        (true, false) => Err(Unfit::Cluster),
        (false, true) => Err(Unfit::NoCluster),
        (true, true) | (false, false) => Ok(()),
    }
}

fn fields(info: &str) -> HashMap<&str, &str> {
    info.lines().filter_map(|line| line.trim().split_once(':')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(info: &str) -> Option<Unfit> {
        fit(&fields(info), false).err()
    }

    #[test]
    fn what_is_in_the_way_of_a_level_is_named() {
        let set = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let always = [
            ("maxmemory-policy", "noeviction"),
            ("appendonly", "yes"),
            ("appendfsync", "always"),
            ("no-appendfsync-on-rewrite", "no"),
        ];
        for level in Durability::ALL {
            assert_eq!(in_the_way(level, &set(&always)), None);
            // Whatever a level needs is asked for.
            for (setting, _) in wanted(level) {
                assert!(wanted(Durability::Durable).iter().any(|(asked, _)| asked == setting));
            }
        }
        let mut lazy = always;
        lazy[2].1 = "everysec";
        assert_eq!(in_the_way(Durability::Fast, &set(&lazy)), None);
        let found = in_the_way(Durability::Durable, &set(&lazy)).unwrap().to_string();
        let said =
            "Redis runs with appendfsync = everysec, and durable needs always; change it there";
        assert_eq!(found, said);
        let evicting = set(&[("maxmemory-policy", "allkeys-lru")]);
        assert_eq!(in_the_way(Durability::Strict, &evicting).unwrap().setting, "maxmemory-policy");
        assert_eq!(in_the_way(Durability::Strict, &set(&always[..1])), None);
        assert_eq!(in_the_way(Durability::Fast, &set(&always[..1])).unwrap().setting, "appendonly");
    }

    #[test]
    fn a_redis_that_cannot_be_spent_from_is_refused() {
        let fine = "redis_version:7.0.15\r\ncluster_enabled:0\r\nrole:master\r\n";
        assert_eq!(refused(fine), None);
        let old = fine.replace("7.0.15", "6.2.14");
        assert_eq!(refused(&old), Some(Unfit::TooOld("6.2.14".to_owned())));
        let node = fine.replace("cluster_enabled:0", "cluster_enabled:1");
        assert_eq!(refused(&node), Some(Unfit::Cluster));
        assert_eq!(fit(&fields(&node), true), Ok(()));
        assert_eq!(fit(&fields(fine), true), Err(Unfit::NoCluster));
        assert!(is_clustered(&node) && !is_clustered(fine));
        assert_eq!(refused(""), Some(Unfit::TooOld(String::new())));
    }

    #[test]
    fn a_redis_is_known_by_its_replication_id_and_may_have_replicas() {
        let alone = "role:master\r\nconnected_slaves:0\r\nmaster_replid:5a\r\n";
        let is = |has_replicas| Identity { id: "5a".to_owned(), has_replicas };
        assert_eq!(identity(alone).unwrap(), is(false));
        let backlog = format!("{alone}repl_backlog_active:");
        assert_eq!(identity(&format!("{backlog}0\r\n")).unwrap(), is(false));
        assert_eq!(identity(&format!("{backlog}1\r\n")).unwrap(), is(true));
        assert_eq!(identity(&alone.replace("slaves:0", "slaves:1")).unwrap(), is(true));
        let replica = alone.replace("master\r", "slave\r");
        assert!(matches!(identity(&replica), Err(LinkError::Unfit(Unfit::Replica))));
        // It becomes part of a script.
        for id in ["", "5a'", "\""] {
            let odd = alone.replace("5a", id);
            assert!(matches!(identity(&odd), Err(LinkError::Answer(_))), "{id}");
        }
    }
}
