//! The headers that a receiver verifies: those of Standard Webhooks, and `X-Quetra-Signature`.
//!
//! Every attempt has the same id and a time and signatures of its own. Not here: secrets
//! themselves (`crypto`), and how long an old one is used beside the new one (`domain::webhook`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

use crate::crypto::WebhookSecret;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const BODY_SIGNATURE: HeaderName = HeaderName::from_static("x-quetra-signature");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("quetra/", env!("CARGO_PKG_VERSION")));

/// The headers of one attempt; every secret signs, the newest first, and that one alone signs the
/// body for receivers which know one signature only.
#[must_use]
pub fn headers(id: &str, at: Timestamp, body: &[u8], secrets: &[WebhookSecret]) -> HeaderMap {
    let seconds = at.as_second().to_string();
    let sign = |secret: &WebhookSecret| {
        let signed = secret.sign(&[id.as_bytes(), b".", seconds.as_bytes(), b".", body]);
        format!("v1,{}", STANDARD.encode(signed))
    };
    let signatures = secrets.iter().map(sign).collect::<Vec<_>>().join(" ");
    let body_signature = secrets.first().map(|secret| hex::encode(secret.sign(&[body])));
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(USER_AGENT, AGENT);
    let texts = [
        (ID, Some(id.to_owned())),
        (TIMESTAMP, Some(seconds)),
        (SIGNATURE, Some(signatures)),
        (BODY_SIGNATURE, body_signature),
    ];
    for (name, text) in texts {
        // Digits, base64 and ids: all of it may stand in a header.
        if let Some(value) = text.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(name, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_dGhpcyBpcyBhIHNlY3JldCBvZiAyNCBieXRlcyE=";

    fn signed(secrets: &[&str]) -> HeaderMap {
        let secrets: Vec<WebhookSecret> =
            secrets.iter().map(|text| text.parse().unwrap()).collect();
        let at = Timestamp::from_second(1_614_265_330).unwrap();
        headers("msg_p5jXN8AQM9LWM0D4loKWxJek", at, br#"{"test": 2432232314}"#, &secrets)
    }

    #[test]
    fn the_signature_is_that_of_the_official_libraries() {
        let headers = signed(&[SECRET]);
        assert_eq!(headers["webhook-id"], "msg_p5jXN8AQM9LWM0D4loKWxJek");
        assert_eq!(headers["webhook-timestamp"], "1614265330");
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(headers["webhook-signature"], expected);
        assert_eq!(headers["content-type"], "application/json");
    }

    #[test]
    fn while_a_secret_is_rotated_both_sign_and_the_new_one_signs_the_body() {
        let both = signed(&[OTHER, SECRET]);
        let text = both["webhook-signature"].to_str().unwrap();
        let (new, old) = text.split_once(' ').unwrap();
        assert_eq!(old, signed(&[SECRET])["webhook-signature"]);
        assert_eq!(new, signed(&[OTHER])["webhook-signature"]);
        assert_eq!(both["x-quetra-signature"], signed(&[OTHER])["x-quetra-signature"]);
        assert_ne!(both["x-quetra-signature"], signed(&[SECRET])["x-quetra-signature"]);
        assert_eq!(both["x-quetra-signature"].len(), 64);
    }
}
