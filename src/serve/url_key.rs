//! A key in the path of a URL, taken out before anything can log or forward it.
//!
//! `/{key}/mcp` exists for clients that can only paste an address. It becomes `/mcp` with the key
//! where every other key is, and a mark that it came this way. A key anywhere else in an address is
//! a mistake: what is left of such an address is not served. Not here: whether the key is good.

use axum::body::Body;
use http::header::{self, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Uri};

use crate::proto::KEY_IN_URL;

/// How keys begin, by role; long enough that no word of a query is taken for one.
const KEYS: [&str; 3] = ["sk_admin_", "sk_agent_", "sk_reader_"];

/// Where MCP is served.
const MCP: &str = "/mcp";

/// What an address becomes that has a key where none belongs.
const NOWHERE: &str = "/a-key-was-in-this-address";

/// Moves a key from the path to the headers, and blanks out one that is anywhere else.
pub(super) fn take(request: &mut Request<Body>) {
    let uri = request.uri();
    let (path, query) = (uri.path(), uri.query().unwrap_or_default());
    if let Some(key) = path.strip_prefix('/').and_then(|path| path.strip_suffix(MCP))
        && !key.is_empty()
        && !key.contains('/')
    {
        let value = HeaderValue::try_from(format!("Bearer {key}"));
        let query = if query.is_empty() { "" } else { "?" };
        let target = PathAndQuery::try_from(format!("/mcp{query}"));
        if let (Ok(mut value), Ok(target)) = (value, target) {
            value.set_sensitive(true);
            retarget(request, target);
            let headers = request.headers_mut();
            // A second credential beside it makes two, which is as good as none.
            headers.append(header::AUTHORIZATION, value);
            headers.insert(HeaderName::from_static(KEY_IN_URL), HeaderValue::from_static("true"));
        }
    } else if has_key(path) || (has_key(query) && path != MCP) {
        retarget(request, PathAndQuery::from_static(NOWHERE));
    } else if has_key(query) {
        // Refused there for having any query.
        retarget(request, PathAndQuery::from_static("/mcp?"));
    }
}

fn has_key(text: &str) -> bool {
    KEYS.iter().any(|key| text.contains(key))
}

fn retarget(request: &mut Request<Body>, target: PathAndQuery) {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.path_and_query = Some(target);
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(uri: &str) -> (String, Option<String>) {
        let mut request = Request::builder().uri(uri).body(Body::empty()).unwrap();
        take(&mut request);
        let key = request.headers().get("authorization");
        assert!(key.is_none_or(HeaderValue::is_sensitive));
        assert_eq!(key.is_some(), request.headers().contains_key(KEY_IN_URL));
        (request.uri().to_string(), key.map(|key| key.to_str().unwrap().to_owned()))
    }

    #[test]
    fn a_key_in_the_path_becomes_a_header() {
        let bearer = Some("Bearer sk_agent_1".to_owned());
        assert_eq!(taken("/sk_agent_1/mcp"), ("/mcp".to_owned(), bearer.clone()));
        let http2 = "http://localhost:7070/sk_agent_1/mcp";
        assert_eq!(taken(http2), ("http://localhost:7070/mcp".to_owned(), bearer.clone()));
        assert_eq!(taken("/sk_agent_1/mcp?x=sk_2"), ("/mcp?".to_owned(), bearer));
        assert_eq!(taken("/mcp?key=sk_agent_1"), ("/mcp?".to_owned(), None));
        assert_eq!(taken("/word/mcp").1, Some("Bearer word".to_owned()));
    }

    #[test]
    fn a_key_anywhere_else_is_blanked_out() {
        for uri in [
            "/sk_agent_1",
            "/sk_agent_1/",
            "/sk_agent_1/mcp/",
            "/mcp/sk_agent_1",
            "/a/sk_agent_1/mcp",
            "/api/v1/agents?key=sk_admin_1",
            "/sk_reader_1?x",
            "/.well-known/oauth-protected-resource/sk_agent_1/mcp",
        ] {
            assert_eq!(taken(uri), (NOWHERE.to_owned(), None), "{uri}");
        }
    }

    #[test]
    fn other_addresses_stay_as_they_are() {
        let word = "/api/v1/transactions?vendor=desk_lamp";
        for uri in ["/mcp", "/", "/mcp?x=1", "/api/v1/agents?limit=1", "//mcp", word] {
            assert_eq!(taken(uri), (uri.to_owned(), None), "{uri}");
        }
    }
}
