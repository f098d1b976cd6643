//! The secret that a receiver of webhooks verifies by, as Standard Webhooks writes it.
//!
//! Not here: what is signed and in which headers (`webhook::sign`).

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{CryptoError, keyed_digest_of, random};

const PREFIX: &str = "whsec_";
const BYTES_MIN: usize = 24;
/// Also the block of the digest: a longer key would be shortened by it.
const BYTES_MAX: usize = 64;

/// A text that is no such secret; never says which text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be `{PREFIX}` and base64 of {BYTES_MIN} to {BYTES_MAX} random bytes")]
pub struct WebhookSecretError;

/// `whsec_…`: 24 to 64 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

impl WebhookSecret {
    /// A new one.
    ///
    /// # Errors
    /// When there are no random bits.
    pub fn generate() -> Result<Self, CryptoError> {
        Ok(Self(Zeroizing::new(random::<32>()?.to_vec())))
    }

    /// Of bytes that were stored.
    ///
    /// # Errors
    /// When they are too few or too many.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, WebhookSecretError> {
        let bytes = Zeroizing::new(bytes);
        // One that is a single byte over and over is a slip of somebody's script.
        let is_random = bytes.iter().any(|byte| Some(byte) != bytes.first());
        let fits = (BYTES_MIN..=BYTES_MAX).contains(&bytes.len());
        if fits && is_random { Ok(Self(bytes)) } else { Err(WebhookSecretError) }
    }

    /// The bytes to seal and store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text that its receiver is given; never log it.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", STANDARD.encode(&*self.0)))
    }

    /// HMAC-SHA-256 of parts as if they were one.
    #[must_use]
    pub fn sign(&self, parts: &[&[u8]]) -> [u8; 32] {
        keyed_digest_of(&self.0, parts)
    }
}

impl FromStr for WebhookSecret {
    type Err = WebhookSecretError;

    fn from_str(text: &str) -> Result<Self, WebhookSecretError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(WebhookSecretError)?;
        Self::from_bytes(STANDARD.decode(encoded).map_err(|_| WebhookSecretError)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: usize) -> String {
        let bytes: Vec<u8> = (0..bytes).map(|index| u8::try_from(index % 251).unwrap()).collect();
        format!("whsec_{}", STANDARD.encode(bytes))
    }

    #[test]
    fn a_secret_survives_its_text() {
        let secret = WebhookSecret::generate().unwrap();
        let text = secret.reveal();
        assert_eq!(text.parse(), Ok(secret.clone()));
        assert_eq!(WebhookSecret::from_bytes(secret.as_bytes().to_vec()), Ok(secret.clone()));
        assert_eq!(format!("{secret:?}"), "WebhookSecret(…)");
        for bytes in [24, 32, 64] {
            assert!(of(bytes).parse::<WebhookSecret>().is_ok(), "{bytes}");
        }
    }

    #[test]
    fn malformed_secrets_are_refused() {
        let zeros = format!("whsec_{}", STANDARD.encode([0; 32]));
        let unpadded = of(32).trim_end_matches('=').to_owned();
        let spaced = format!("{} ", of(32));
        let url_safe = format!("whsec_{}", "_-".repeat(22));
        for text in [
            "",
            "whsec_",
            "whsec_AAAA",
            "secret",
            of(32).trim_start_matches("whsec_"),
            &of(32).to_uppercase(),
            &of(0),
            &of(1),
            &of(23),
            &of(65),
            &of(4_096),
            &zeros,
            &unpadded,
            &spaced,
            &url_safe,
            "whsec_!!!!",
            "whsec_ünïcödé",
        ] {
            assert_eq!(text.parse::<WebhookSecret>(), Err(WebhookSecretError), "{text}");
        }
        let said = WebhookSecretError.to_string();
        assert_eq!(said, "must be `whsec_` and base64 of 24 to 64 random bytes");
    }
}
