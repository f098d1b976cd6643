//! Others, and how we reach them: in which country a host or an address is, and the one road for
//! calls that leave this server.
//!
//! Not here: when they are asked (`engine`, `webhook`) and what follows from it (`domain`).

use std::net::IpAddr;

use async_trait::async_trait;

pub mod egress;
pub mod maxmind;

/// Finds countries; `None` means unknown, and an unknown country fails a geo rule.
#[async_trait]
pub trait Countries: Send + Sync {
    /// The ISO 3166-1 alpha-2 country of an address.
    fn of_address(&self, address: IpAddr) -> Option<String>;
    /// The country of a host, by the address its name resolves to. All addresses must agree.
    async fn of_host(&self, host: &str) -> Option<String>;
}
