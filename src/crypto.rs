//! Keys and digests: the master key and what is derived from it, signatures, random bits.
//!
//! Secrets have no `Display` and a `Debug` that shows nothing. Not here: who holds which key
//! (`engine::access`) and what is signed (`domain::mandate`).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

mod webhook_secret;

pub use webhook_secret::{WebhookSecret, WebhookSecretError};

type HmacSha256 = Hmac<Sha256>;

/// What can go wrong here; never says with which bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// The system gives no random bits.
    #[error("the system's random generator failed")]
    Random,
    /// A sealed value does not open: wrong master key, or it was changed.
    #[error("a sealed value does not open; is it the right master key?")]
    Unsealing,
    /// A signature is not of this text, or not of this key.
    #[error("a signature is not of this text and this key")]
    Signature,
    /// A key has the wrong form.
    #[error("a key is malformed")]
    Key,
}

/// The server's root secret, 32 bytes. Everything else is derived from it by purpose.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MasterKey([u8; 32]);

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

impl MasterKey {
    /// Wraps 32 secret bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A key for one purpose; knowing it says nothing about the others (HMAC-SHA-256 as a PRF).
    #[must_use]
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        keyed_digest(&self.0, purpose.as_bytes())
    }

    /// Encrypts and authenticates (AES-256-GCM, random nonce in front). The context must be given
    /// again to open it, so that a sealed value cannot be moved to another row.
    ///
    /// # Errors
    /// When there are no random bits.
    pub fn seal(&self, context: &str, secret: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let nonce = random::<12>()?;
        let mut sealed = nonce.to_vec();
        let mut body = secret.to_vec();
        self.sealing_key()?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context.as_bytes()),
                &mut body,
            )
            .map_err(|_| CryptoError::Key)?;
        sealed.append(&mut body);
        Ok(sealed)
    }

    /// Opens what [`Self::seal`] made in the same context.
    ///
    /// # Errors
    /// When the key or the context is another one, or a byte was changed.
    pub fn unseal(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let (nonce, body) = sealed.split_first_chunk::<12>().ok_or(CryptoError::Unsealing)?;
        let mut body = body.to_vec();
        let opened = self
            .sealing_key()?
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(context.as_bytes()),
                &mut body,
            )
            .map_err(|_| CryptoError::Unsealing)?;
        Ok(opened.to_vec())
    }

    fn sealing_key(&self) -> Result<LessSafeKey, CryptoError> {
        let key = self.derive("seal v1");
        UnboundKey::new(&AES_256_GCM, &key).map(LessSafeKey::new).map_err(|_| CryptoError::Key)
    }
}

/// An Ed25519 key pair that signs mandates.
#[derive(Debug)]
pub struct SigningKey {
    pair: Ed25519KeyPair,
    seed: Seed,
}

#[derive(Zeroize, ZeroizeOnDrop)]
struct Seed([u8; 32]);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(…)")
    }
}

impl SigningKey {
    /// A new random key.
    ///
    /// # Errors
    /// When there are no random bits.
    pub fn generate() -> Result<Self, CryptoError> {
        Self::from_seed(random()?)
    }

    /// The key of a seed.
    ///
    /// # Errors
    /// When the seed is malformed.
    pub fn from_seed(seed: [u8; 32]) -> Result<Self, CryptoError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| CryptoError::Key)?;
        Ok(Self { pair, seed: Seed(seed) })
    }

    /// The 32 bytes to seal and store.
    #[must_use]
    pub const fn seed(&self) -> &[u8; 32] {
        &self.seed.0
    }

    /// The public half.
    ///
    /// # Errors
    /// Never for an Ed25519 key; the library's type does not say so.
    pub fn public_key(&self) -> Result<[u8; 32], CryptoError> {
        self.pair.public_key().as_ref().try_into().map_err(|_| CryptoError::Key)
    }

    /// The signature, base64url without padding.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(self.pair.sign(message))
    }

    /// A JWS in compact form (RFC 7515; `EdDSA` of RFC 8037) of JSON claims.
    ///
    /// # Errors
    /// When the claims are no JSON object or the key is refused.
    pub fn token(&self, key_id: &str, claims: &serde_json::Value) -> Result<String, CryptoError> {
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA);
        header.kid = Some(key_id.to_owned());
        let pkcs8 = self.pair.to_pkcs8v1().map_err(|_| CryptoError::Key)?;
        let key = jsonwebtoken::EncodingKey::from_ed_der(pkcs8.as_ref());
        jsonwebtoken::encode(&header, claims, &key).map_err(|_| CryptoError::Key)
    }
}

/// Whether a signature (base64url without padding) is of a message and of an Ed25519 key.
///
/// # Errors
/// When it is not.
pub fn verify_signature(
    public_key: &[u8; 32],
    message: &[u8],
    signature: &str,
) -> Result<(), CryptoError> {
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| CryptoError::Signature)?;
    let key = UnparsedPublicKey::new(&ED25519, public_key);
    key.verify(message, &signature).map_err(|_| CryptoError::Signature)
}

/// Random bytes from the system.
///
/// # Errors
/// When the system has none.
pub fn random<const N: usize>() -> Result<[u8; N], CryptoError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| CryptoError::Random)?;
    Ok(bytes)
}

/// 128 bits that sort by time (UUID version 7), for ids of things that are created.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the source of ids")]
pub fn time_ordered_id() -> [u8; 16] {
    uuid::Uuid::now_v7().into_bytes()
}

/// 128 random bits (UUID version 4), for ids that should tell nothing.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the source of ids")]
pub fn random_id() -> [u8; 16] {
    uuid::Uuid::new_v4().into_bytes()
}

/// HMAC-SHA-256.
#[must_use]
pub fn keyed_digest(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    keyed_digest_of(key, &[message])
}

/// HMAC-SHA-256 with a key of up to 64 bytes, of parts as if they were one.
fn keyed_digest_of(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut block = [0; 64];
    for (padded, byte) in block.iter_mut().zip(key) {
        *padded = *byte; // RFC 2104: a shorter key is padded with zeros to the block size
    }
    let mut mac = HmacSha256::new(&block.into());
    block.zeroize();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// SHA-256 of parts, each with its length in front so that no two lists of parts are alike.
#[must_use]
pub fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
        hash.update(length.to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The first 128 bits of [`digest`].
#[must_use]
pub fn short_digest(parts: &[&[u8]]) -> [u8; 16] {
    let full = digest(parts);
    full.first_chunk().copied().unwrap_or_default()
}

/// SHA-256 of a text, in hexadecimal.
#[must_use]
pub fn hex_digest(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// Compares in constant time.
#[must_use]
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    subtle::ConstantTimeEq::ct_eq(a, b).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_value_opens_only_in_its_context_and_unchanged() {
        let master = MasterKey::new([1; 32]);
        let sealed = master.seal("org/a", b"secret").unwrap();
        assert_eq!(master.unseal("org/a", &sealed).unwrap(), b"secret");
        assert_eq!(master.unseal("org/b", &sealed), Err(CryptoError::Unsealing));
        assert_eq!(MasterKey::new([2; 32]).unseal("org/a", &sealed), Err(CryptoError::Unsealing));
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert_eq!(master.unseal("org/a", &changed), Err(CryptoError::Unsealing), "{index}");
        }
    }

    #[test]
    fn the_keyed_digest_is_the_hmac_of_rfc_4231() {
        // Test case 1 has a 20-byte key, which zero padding makes the same as a 32-byte one.
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let expected = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7";
        assert_eq!(hex::encode(keyed_digest(&key, b"Hi There")), expected);
    }

    #[test]
    fn a_token_verifies_with_the_public_key_alone() {
        let key = SigningKey::from_seed([3; 32]).unwrap();
        let claims = serde_json::json!({"sub": "agent", "exp": 4_000_000_000_u64});
        let token = key.token("k1", &claims).unwrap();
        let x = URL_SAFE_NO_PAD.encode(key.public_key().unwrap());
        let public = jsonwebtoken::DecodingKey::from_ed_components(&x).unwrap();
        let rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::EdDSA);
        let read = jsonwebtoken::decode::<serde_json::Value>(&token, &public, &rules).unwrap();
        assert_eq!(read.claims, claims);
        assert_eq!(read.header.kid.as_deref(), Some("k1"));
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let master = format!("{:?}", MasterKey::new([7; 32]));
        assert!(!master.contains('7'), "{master}");
        let key = format!("{:?}", SigningKey::from_seed([7; 32]).unwrap());
        assert!(!key.contains("7, 7"), "{key}");
    }
}
