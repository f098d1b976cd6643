//! What a Redis must be set to, for the level that is promised on it.
//!
//! Checked on every new connection, so that a Redis that comes back with other settings is not
//! believed. Not here: this server's own settings (`config`).

use std::collections::HashMap;

use redis::FromRedisValue;
use redis::aio::MultiplexedConnection;

use super::link::LinkError;
use crate::ledger::Durability;

/// The oldest version: streams number their entries densely from 7.0 on.
const OLDEST: u32 = 7;

/// Why a Redis is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error("this Redis is version {0}; use 7.0 or newer")]
    TooOld(String),
    #[error("this Redis is a read-only replica; name the master in redis_url")]
    Replica,
    #[error("this Redis is a cluster, which this version does not speak to; name a single one")]
    Cluster,
    #[error("Redis runs with {setting} = {value}, and {level} needs {wanted}; change it there")]
    Setting { setting: &'static str, value: String, level: &'static str, wanted: &'static str },
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

/// Asks a Redis who it is, and whether the level can be kept on it.
///
/// # Errors
/// When it does not answer, or cannot be used.
pub(super) async fn check(
    connection: &mut MultiplexedConnection,
    level: Durability,
) -> Result<Identity, LinkError> {
    let info: String = redis::cmd("INFO").query_async(connection).await?;
    fit(&fields(&info))?;
    let mut identity = identity(&info)?;
    // Who asks for replicas has some, also while none of them is connected.
    identity.has_replicas |= setting(connection, "min-replicas-to-write").await? != "0";
    for (setting, wanted) in wanted(level) {
        let value = self::setting(connection, setting).await?;
        if !wanted.split(" or ").any(|wanted| wanted == value) {
            let level = level.word();
            return Err(Unfit::Setting { setting, value, level, wanted }.into());
        }
    }
    Ok(identity)
}

async fn setting(connection: &mut MultiplexedConnection, name: &str) -> Result<String, LinkError> {
    let ask = redis::cmd("CONFIG").arg("GET").arg(name).to_owned();
    let said: redis::Value = ask.query_async(connection).await?;
    let said = HashMap::<String, String>::from_redis_value(said)
        .map_err(|_| LinkError::Answer("no setting"))?;
    Ok(said.get(name).cloned().unwrap_or_default())
}

/// The settings of a level, and what they must be.
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

fn fit(info: &HashMap<&str, &str>) -> Result<(), Unfit> {
    let field = |name| info.get(name).copied().unwrap_or_default();
    let version = field("redis_version");
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < OLDEST) {
        return Err(Unfit::TooOld(version.chars().take(32).collect()));
    }
    if field("cluster_enabled") == "1" {
        return Err(Unfit::Cluster);
    }
    Ok(())
}

fn fields(info: &str) -> HashMap<&str, &str> {
    info.lines().filter_map(|line| line.trim().split_once(':')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(info: &str) -> Option<Unfit> {
        fit(&fields(info)).err()
    }

    #[test]
    fn a_redis_that_cannot_be_spent_from_is_refused() {
        let fine = "redis_version:7.0.15\r\ncluster_enabled:0\r\nrole:master\r\n";
        assert_eq!(refused(fine), None);
        let old = fine.replace("7.0.15", "6.2.14");
        assert_eq!(refused(&old), Some(Unfit::TooOld("6.2.14".to_owned())));
        assert_eq!(
            refused(&fine.replace("cluster_enabled:0", "cluster_enabled:1")),
            Some(Unfit::Cluster)
        );
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
