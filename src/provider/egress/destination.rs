//! URLs that may be called: https to a host that is written plainly, on a port that is none of
//! another service's.
//!
//! A URL is judged here before anything is resolved or connected, when it is saved and again when
//! it is used. Not here: which addresses are special (`address`), resolving names (`connect`).

use std::net::IpAddr;

use ipnet::IpNet;
use url::{Host, Url};

use super::address::special;

/// Bytes of the longest URL.
const URL_BYTES_MAX: usize = 2_048;

/// Bytes of the longest URL for a place of the operator, where credentials may be part of it.
const OPERATOR_URL_BYTES_MAX: usize = 8_192;

/// Networks that are nobody else's, where an operator may have places of its own.
const PRIVATE: [&str; 6] =
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "fc00::/7", "::1/128"];

/// From here on a port is anybody's; below it, it belongs to a service that speaks no HTTP.
const PORT_FREE: u16 = 1_024;

/// Ports above that which belong to databases, caches, brokers and consoles.
const PORTS_TAKEN: [u16; 20] = [
    1_433, 1_521, 2_049, 2_375, 2_379, 3_306, 3_389, 5_432, 5_672, 5_900, 5_984, 6_379, 6_443,
    8_500, 9_042, 9_092, 9_200, 10_250, 11_211, 27_017,
];

/// Suffixes of names that lead inside, whoever resolves them.
const INSIDE: [&str; 6] =
    ["localhost", "local", "localdomain", "internal", "intranet", "home.arpa"];

/// Why a URL is not called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlRefusal {
    /// Nothing that can be called.
    #[error("must be a URL such as https://example.com/hooks")]
    Malformed,
    /// Longer than anyone needs.
    #[error("must be at most {URL_BYTES_MAX} bytes long")]
    TooLong,
    /// Not the scheme.
    #[error("must begin with https://")]
    Scheme,
    /// Http, where nobody allowed it.
    #[error(
        "must begin with https://; http is refused unless the server allows it \
             (egress_allow_http)"
    )]
    Http,
    /// A user or a password, which would end up in logs.
    #[error("must not have a user or a password in it")]
    UserInfo,
    /// What only a browser looks at.
    #[error("must not have a fragment (#)")]
    Fragment,
    /// An address in decimal, octal, hexadecimal, in a short or in a mapped form, and the like.
    #[error("must have its host written plainly: a name, or an address in its usual form")]
    OddHost,
    /// A name that leads inside.
    #[error("must not name a host inside (`.{0}`); the server allows that only with egress_allow")]
    InsideName(&'static str),
    /// A name that is none of the internet's.
    #[error("must have a full host name; a short one is allowed only with egress_allow")]
    ShortName,
    /// An address that is not anybody's.
    #[error("must not name an address that is {0}; the server allows a range with egress_allow")]
    Address(&'static str),
    /// The port of something else.
    #[error("must not name a port of another service; use 443, or one from {PORT_FREE} up")]
    Port,
}

/// What may be called, beside https to the internet.
#[derive(Clone, Debug)]
pub struct EgressRules {
    allows_http: bool,
    allowed: Vec<IpNet>,
    url_bytes_max: usize,
}

impl Default for EgressRules {
    fn default() -> Self {
        Self::new(false, Vec::new())
    }
}

/// A URL that may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    uri: http::Uri,
}

impl Destination {
    /// The URL in its canonical form.
    #[must_use]
    pub const fn uri(&self) -> &http::Uri {
        &self.uri
    }
}

impl EgressRules {
    /// Http too, if it is allowed; and these ranges, however special they are.
    #[must_use]
    pub const fn new(allows_http: bool, allowed: Vec<IpNet>) -> Self {
        Self { allows_http, allowed, url_bytes_max: URL_BYTES_MAX }
    }

    /// The same for what the operator names, never a customer: private networks are allowed too,
    /// and URLs may be as long as a signature makes them.
    #[must_use]
    pub fn of_operator(allows_http: bool, mut allowed: Vec<IpNet>) -> Self {
        allowed.extend(PRIVATE.iter().filter_map(|range| range.parse::<IpNet>().ok()));
        Self { allows_http, allowed, url_bytes_max: OPERATOR_URL_BYTES_MAX }
    }

    /// Judges a URL without asking anybody.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn destination(&self, text: &str) -> Result<Destination, UrlRefusal> {
        if text.len() > self.url_bytes_max {
            return Err(UrlRefusal::TooLong);
        }
        // What a parser would silently drop or turn into something else.
        if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(UrlRefusal::Malformed);
        }
        let url = Url::parse(text).map_err(|error| {
            let is_address = matches!(
                error,
                url::ParseError::InvalidIpv4Address | url::ParseError::InvalidIpv6Address
            );
            if is_address { UrlRefusal::OddHost } else { UrlRefusal::Malformed }
        })?;
        match url.scheme() {
            "https" => {}
            "http" if self.allows_http => {}
            "http" => return Err(UrlRefusal::Http),
            _ => return Err(UrlRefusal::Scheme),
        }
        let authority = authority(text).filter(|written| !written.is_empty());
        let authority = authority.ok_or(UrlRefusal::Malformed)?;
        if authority.contains('@') || !url.username().is_empty() || url.password().is_some() {
            return Err(UrlRefusal::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(UrlRefusal::Fragment);
        }
        self.host(&url, authority)?;
        match url.port_or_known_default() {
            Some(443) => {}
            Some(80) if url.scheme() == "http" => {}
            Some(port) if port >= PORT_FREE && !PORTS_TAKEN.contains(&port) => {}
            Some(_) | None => return Err(UrlRefusal::Port),
        }
        let uri = url.as_str().parse().map_err(|_| UrlRefusal::Malformed)?;
        Ok(Destination { uri })
    }

    fn host(&self, url: &Url, authority: &str) -> Result<(), UrlRefusal> {
        let written = host_of(authority);
        match url.host().ok_or(UrlRefusal::Malformed)? {
            Host::Ipv4(address) => {
                // The parser understands decimal, octal, hexadecimal and short forms, as resolvers
                // do; whoever writes an address so wants it not to be recognised.
                if written != address.to_string() {
                    return Err(UrlRefusal::OddHost);
                }
                self.address(address.into()).map_err(UrlRefusal::Address)
            }
            Host::Ipv6(address) => {
                let is_plain = written.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
                let is_plain = is_plain.is_some_and(|text| {
                    text.parse() == Ok(address) && !text.contains('.') && !text.contains('%')
                });
                if !is_plain || address.to_ipv4_mapped().is_some() {
                    return Err(UrlRefusal::OddHost);
                }
                self.address(address.into()).map_err(UrlRefusal::Address)
            }
            Host::Domain(name) => self.name(name),
        }
    }

    fn name(&self, name: &str) -> Result<(), UrlRefusal> {
        let bare = name.strip_suffix('.').unwrap_or(name);
        let labels = || bare.split('.');
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        if bare.len() > 253 || !labels().all(is_label) {
            return Err(UrlRefusal::OddHost);
        }
        if labels().next_back().is_some_and(is_numeric) {
            return Err(UrlRefusal::OddHost);
        }
        if self.allowed.is_empty() {
            let inside = INSIDE.into_iter().find(|suffix| {
                let rest = bare.strip_suffix(suffix);
                rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            });
            if let Some(suffix) = inside {
                return Err(UrlRefusal::InsideName(suffix));
            }
            if !bare.contains('.') {
                return Err(UrlRefusal::ShortName);
            }
        }
        Ok(())
    }

    /// Whether an address may be connected to.
    ///
    /// # Errors
    /// What is special about it.
    pub fn address(&self, address: IpAddr) -> Result<(), &'static str> {
        // Only in the family it is written in: a mapped address is never what it seems.
        if self.allowed.iter().any(|range| range.contains(&address)) {
            return Ok(());
        }
        special(address).map_or(Ok(()), Err)
    }
}

/// The part between the slashes and the path, as it was written.
fn authority(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("://")?;
    rest.split(['/', '?', '#']).next()
}

/// The host of an authority, without the port.
fn host_of(authority: &str) -> &str {
    match authority.rfind([':', ']']) {
        Some(at) => match authority.split_at(at) {
            (host, port) if port.starts_with(':') => host,
            _ => authority,
        },
        None => authority,
    }
}

/// Whether a resolver might take a label for a number.
fn is_numeric(label: &str) -> bool {
    let lower = label.to_ascii_lowercase();
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    digits(&lower)
        || lower.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
}
