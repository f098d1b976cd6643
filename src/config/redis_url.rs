//! The Redis that decisions are made in: its URL, and what is promised on it.
//!
//! Not here: what that Redis itself must be set to, which is asked of it (`ledger::redis`).

use std::net::IpAddr;

use redis::{ConnectionAddr, IntoConnectionInfo};

use super::setting::Key;
use super::validate::Check;
use super::{DatabaseUrl, DurabilityLevel, Purpose, RedisConfig, Secret, shown};

impl Check<'_> {
    /// Where decisions are made, if it is not the database.
    pub(super) fn redis(&mut self, database: &DatabaseUrl) -> Option<RedisConfig> {
        if self.purpose == Purpose::Dev {
            return None;
        }
        let level = match self.settings.text(Key::Durability) {
            Some("fast") => DurabilityLevel::Fast,
            None | Some("durable") => DurabilityLevel::Durable,
            Some("strict") => DurabilityLevel::Strict,
            Some(other) => {
                let sentence = format!("`{}` is neither fast, durable nor strict", shown(other));
                self.problem(Key::Durability, &sentence);
                DurabilityLevel::Strict
            }
        };
        let url = self.settings.text(Key::RedisUrl)?.to_owned();
        if let Err(sentence) = checked(&url) {
            self.problem(Key::RedisUrl, sentence);
        }
        if !matches!(database, DatabaseUrl::Postgres(_)) {
            self.problem(
                Key::RedisUrl,
                "Redis spends what Postgres leases to it; set `database_url` to a postgres:// \
                 database, or remove this setting",
            );
        }
        Some(RedisConfig { url: Secret::new(url), level })
    }
}

/// Says early what is wrong with a URL, without quoting it: it may hold a password. Of a cluster
/// several nodes may be named, with commas in between.
fn checked(urls: &str) -> Result<(), &'static str> {
    const SCHEME: &str = "redis://";
    let is_private = urls.ends_with("?network=private");
    let between = format!(",{SCHEME}");
    let mut urls = urls.split(&between);
    checked_one(urls.next().unwrap_or_default(), is_private)?;
    urls.try_for_each(|url| checked_one(&format!("{SCHEME}{url}"), is_private))
}

fn checked_one(url: &str, is_private: bool) -> Result<(), &'static str> {
    if url.starts_with("rediss://") {
        return Err("this version speaks no TLS to Redis; let a proxy on this machine speak it, \
                    and name that as redis://127.0.0.1:…");
    }
    let wrong = "it is no Redis URL; write redis://user:password@127.0.0.1:6379/0";
    if !url.starts_with("redis://") {
        return Err(wrong);
    }
    let info = url.into_connection_info().map_err(|_| wrong)?;
    let ConnectionAddr::Tcp(host, _) = info.addr() else { return Err(wrong) };
    let is_local = host == "localhost"
        || host.parse().is_ok_and(|host: IpAddr| host.to_canonical().is_loopback());
    if is_local || is_private {
        return Ok(());
    }
    Err("decisions would cross the network in the clear: this version speaks no TLS to Redis; \
         let a proxy on this machine speak it, or add ?network=private where the network in \
         between is private")
}
