//! Countries from a MaxMind database that the operator supplies, and the system's name look-up.
//!
//! Without a database every country is unknown, and a geo rule fails. Not here: any database, and
//! trust: a host that resolves to several countries has none.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use maxminddb::{Reader, geoip2};
use moka::sync::Cache;

use super::Countries;

/// How long a decision waits for a name look-up before the country counts as unknown.
const LOOKUP_TIME: Duration = Duration::from_millis(500);

/// How long what was found is kept; what was not found is looked up again.
const KEPT_TIME: Duration = Duration::from_mins(5);

/// Hosts that are kept.
const KEPT: u64 = 10_000;

/// The database cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the file {path} is not a MaxMind country or city database: {source}; check geo_database")]
pub struct MaxMindError {
    path: String,
    source: maxminddb::MaxMindDbError,
}

/// Countries by a database file, read into memory once.
pub struct MaxMindCountries {
    reader: Option<Reader<Vec<u8>>>,
    hosts: Cache<String, String>,
}

impl std::fmt::Debug for MaxMindCountries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MaxMindCountries").field("has_database", &self.reader.is_some()).finish()
    }
}

impl MaxMindCountries {
    /// Reads the database; without a path nothing is known.
    ///
    /// # Errors
    /// When the file is not a database.
    pub fn open(path: Option<&Path>) -> Result<Self, MaxMindError> {
        let reader = path.map(Reader::open_readfile).transpose().map_err(|source| {
            let path = path.map_or_else(String::new, |path| path.display().to_string());
            MaxMindError { path, source }
        })?;
        Ok(Self {
            reader,
            hosts: Cache::builder().max_capacity(KEPT).time_to_live(KEPT_TIME).build(),
        })
    }
}

#[async_trait]
impl Countries for MaxMindCountries {
    fn of_address(&self, address: IpAddr) -> Option<String> {
        let found = self.reader.as_ref()?.lookup(address.to_canonical()).ok()?;
        let record = found.decode::<geoip2::Country<'_>>().ok()??;
        record.country.iso_code.map(str::to_owned)
    }

    async fn of_host(&self, host: &str) -> Option<String> {
        self.reader.as_ref()?;
        if let Some(country) = self.hosts.get(host) {
            return Some(country);
        }
        let lookup = tokio::net::lookup_host((host, 443));
        let addresses = tokio::time::timeout(LOOKUP_TIME, lookup).await.ok()?.ok()?;
        let countries: HashSet<Option<String>> =
            addresses.map(|address| self.of_address(address.ip())).collect();
        let mut countries = countries.into_iter();
        let country = countries.next().flatten()?;
        if countries.next().is_some() {
            return None;
        }
        self.hosts.insert(host.to_owned(), country.clone());
        Some(country)
    }
}
