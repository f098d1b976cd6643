//! The id of a request: taken from the caller if it is sane, else made here, sent back with every
//! answer and written beside every error in the log.
//!
//! Not secret and not unique across time: it joins one report to one log line.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries it, in requests and in answers.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Bytes of the longest id that is accepted from a caller.
const BYTES_MAX: usize = 64;

/// Makes sure that the request has exactly one id and returns it.
pub(super) fn settle(headers: &mut HeaderMap) -> HeaderValue {
    if let Some(given) = headers.get(REQUEST_ID)
        && is_sane(given)
    {
        let mut given = given.clone();
        given.set_sensitive(true);
        return given;
    }
    let id = fresh();
    headers.insert(REQUEST_ID, id.clone());
    id
}

fn is_sane(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let is_sane = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    !bytes.is_empty() && bytes.len() <= BYTES_MAX && bytes.iter().all(is_sane)
}

fn fresh() -> HeaderValue {
    static START: OnceLock<u64> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let start = START.get_or_init(|| RandomState::new().hash_one("request id"));
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let id = scrambled(start.wrapping_add(count));
    let mut value = HeaderValue::try_from(format!("{id:016x}"))
        .unwrap_or_else(|_| HeaderValue::from_static("0"));
    // Keeps a value that never comes back out of HTTP/2's table of recent headers.
    value.set_sensitive(true);
    value
}

/// A bijection of 64-bit numbers (the finalizer of `SplitMix64`), so that ids do not look alike.
fn scrambled(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_id_is_kept_and_any_other_replaced() {
        for (given, is_kept) in [
            ("abc-123", true),
            ("", false),
            ("a b", false),
            ("é", false),
            (&*"x".repeat(65), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(given.as_bytes()).unwrap());
            let id = settle(&mut headers);
            assert_eq!(id.as_bytes() == given.as_bytes(), is_kept, "{given:?}");
            assert_eq!(headers.get(REQUEST_ID), Some(&id));
        }
    }

    #[test]
    fn fresh_ids_differ() {
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| fresh()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 16));
    }
}
