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
    #[error("this Redis has replicas, which this version cannot wait for; remove them")]
    HasReplicas,
    #[error("this Redis is a cluster, which this version does not speak to; name a single one")]
    Cluster,
    #[error("Redis runs with {setting} = {value}, and {level} needs {wanted}; change it there")]
    Setting { setting: &'static str, value: String, level: &'static str, wanted: &'static str },
}

/// Asks a Redis who it is, and whether the level can be kept on it.
///
/// # Errors
/// When it does not answer, or cannot be used.
pub(super) async fn check(
    connection: &mut MultiplexedConnection,
    level: Durability,
) -> Result<String, LinkError> {
    let info: String = redis::cmd("INFO").query_async(connection).await?;
    let info = fields(&info);
    let field = |name| info.get(name).copied().unwrap_or_default();
    fit(&info)?;
    let identity = field("master_replid").to_owned();
    if identity.is_empty() {
        return Err(LinkError::Answer("no master_replid"));
    }
    for (setting, wanted) in wanted(level) {
        let ask = redis::cmd("CONFIG").arg("GET").arg(*setting).to_owned();
        let said: redis::Value = ask.query_async(connection).await?;
        let said = HashMap::<String, String>::from_redis_value(said)
            .map_err(|_| LinkError::Answer("no setting"))?;
        let value = said.get(*setting).cloned().unwrap_or_default();
        if !wanted.split(" or ").any(|wanted| wanted == value) {
            let level = level.word();
            return Err(Unfit::Setting { setting, value, level, wanted }.into());
        }
    }
    Ok(identity)
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
    if field("role") != "master" {
        return Err(Unfit::Replica);
    }
    if !matches!(field("connected_slaves"), "0" | "") {
        return Err(Unfit::HasReplicas);
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
        assert_eq!(refused(&fine.replace("master", "slave")), Some(Unfit::Replica));
        assert_eq!(refused(&format!("{fine}connected_slaves:1")), Some(Unfit::HasReplicas));
        assert_eq!(refused(""), Some(Unfit::TooOld(String::new())));
    }
}
