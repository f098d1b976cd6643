//! Which names and origins are served: what keeps a web page from reaching a server it was not
//! meant to reach, by a name it made up (DNS rebinding) or in the name of its visitor.
//!
//! MCP 2026-07-28 (transports, security) demands the check of `Origin`. Not here: credentials.

use axum::extract::Request;
use http::header::{self, HeaderMap};
use http::uri::Authority;

use super::HttpSettings;
use super::challenge::Refusal;

/// Names of the machine itself; nobody else's name server can answer for them.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The check.
#[derive(Debug)]
pub(super) struct Guard {
    hosts: Vec<String>,
    origins: Vec<String>,
    scheme: &'static str,
}

impl Guard {
    pub(super) fn new(settings: HttpSettings) -> Self {
        let lower = |text: String| text.to_ascii_lowercase();
        Self {
            hosts: settings.allowed_hosts.into_iter().map(lower).collect(),
            origins: settings.allowed_origins.into_iter().map(lower).collect(),
            scheme: if settings.behind_tls_proxy { "https" } else { "http" },
        }
    }

    /// The address that the client used, `scheme://host:port`, if it is one of ours.
    pub(super) fn admit(&self, request: &Request) -> Result<String, Refusal> {
        let host = host(request).ok_or_else(Refusal::unknown_host)?;
        if !self.knows(&host) {
            return Err(Refusal::unknown_host());
        }
        let own = format!("{}://{host}", self.scheme);
        match origin(request.headers())? {
            Some(origin) if !self.trusts(&origin, &host) => Err(Refusal::unknown_origin()),
            Some(_) | None => Ok(own),
        }
    }

    fn knows(&self, host: &Authority) -> bool {
        let name = host.host().to_ascii_lowercase();
        let whole = host.as_str().to_ascii_lowercase();
        LOOPBACK.contains(&name.as_str())
            || self.hosts.iter().any(|known| *known == name || *known == whole)
    }

    /// A page of the server's own, or one that the operator named.
    fn trusts(&self, origin: &str, host: &Authority) -> bool {
        let origin = origin.to_ascii_lowercase();
        let host = host.as_str().to_ascii_lowercase();
        let after = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        after == Some(&host) || self.origins.contains(&origin)
    }
}

/// What the client calls this server: `:authority` of HTTP/2, else the one `Host`.
fn host(request: &Request) -> Option<Authority> {
    if let Some(authority) = request.uri().authority() {
        return plain(authority.clone());
    }
    let mut values = request.headers().get_all(header::HOST).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() { None } else { plain(value.parse().ok()?) }
}

/// Nothing but a name and a port.
fn plain(authority: Authority) -> Option<Authority> {
    (!authority.as_str().contains('@')).then_some(authority)
}

/// The one origin of a request that comes from a page.
fn origin(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut values = headers.get_all(header::ORIGIN).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match (value.to_str(), values.next()) {
        (Ok(origin), None) => Ok(Some(origin.to_owned())),
        (Ok(_) | Err(_), _) => Err(Refusal::unknown_origin()),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn admits(hosts: &[&str], host: &str, origin: Option<&str>) -> bool {
        let guard = Guard::new(HttpSettings {
            allowed_hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            allowed_origins: vec!["https://console.example.com".to_owned()],
            behind_tls_proxy: false,
        });
        let mut request = Request::builder().uri("/mcp").header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        guard.admit(&request.body(Body::empty()).unwrap()).is_ok()
    }

    #[test]
    fn only_names_of_this_server_are_served() {
        for host in ["localhost", "LOCALHOST:7070", "127.0.0.1:7070", "[::1]:7070"] {
            assert!(admits(&[], host, None), "{host}");
        }
        for host in ["evil.example.com", "localhost.evil.com", "127.0.0.1.evil.com", "a@localhost"]
        {
            assert!(!admits(&[], host, None), "{host}");
        }
        let named = ["mcp.example.com", "other.example.com:8443"];
        assert!(admits(&named, "mcp.example.com", None));
        assert!(admits(&named, "MCP.example.com:443", None));
        assert!(admits(&named, "other.example.com:8443", None));
        assert!(!admits(&named, "other.example.com", None));
        assert!(!admits(&named, "x.mcp.example.com", None));
    }

    #[test]
    fn only_pages_of_this_server_and_named_ones_may_call() {
        let local = "localhost:7070";
        assert!(admits(&[], local, Some("http://localhost:7070")));
        assert!(admits(&[], local, Some("https://console.example.com")));
        for origin in [
            "null",
            "",
            "http://localhost:7071",
            "http://127.0.0.1:7070",
            "https://evil.example.com",
            "https://console.example.com.evil.com",
            "https://console.example.com:8443",
        ] {
            assert!(!admits(&[], local, Some(origin)), "{origin}");
        }
    }
}
