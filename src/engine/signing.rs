//! The organizations' signing keys: opened once, kept in memory, used to sign mandates.
//!
//! Not here: the cryptography (`crypto`) and what exactly is signed (`domain::mandate`).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use moka::sync::Cache;

use super::{Engine, EngineError, EngineResult};
use crate::crypto::{CryptoError, MasterKey, SigningKey, hex_digest};
use crate::domain::id::OrgId;
use crate::domain::mandate::Mandate;
use crate::store::SigningKeyRow;

/// Organizations whose key is kept open.
const KEPT: u64 = 1_024;

/// A public key that verifies an organization's signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// Names the key in signatures.
    pub key_id: String,
    /// 32 bytes, base64url: `x` of a JWK.
    pub public_key: String,
}

#[derive(Debug)]
pub(super) struct Signing {
    master: MasterKey,
    open: Cache<OrgId, Arc<(String, SigningKey)>>,
}

fn context(org: OrgId, key_id: &str) -> String {
    format!("signing key {org} {key_id}")
}

impl Signing {
    pub(super) fn new(master: MasterKey) -> Self {
        Self { master, open: Cache::new(KEPT) }
    }

    /// A new key of an organization, sealed for the store.
    pub(super) fn generate(&self, org: OrgId) -> Result<SigningKeyRow, CryptoError> {
        let key = SigningKey::generate()?;
        let public_key = key.public_key()?;
        // The first half of the public key's digest: a name that cannot drift from the key.
        let name = hex_digest(&URL_SAFE_NO_PAD.encode(public_key));
        let key_id = name.chars().take(16).collect::<String>();
        let sealed = self.master.seal(&context(org, &key_id), key.seed())?;
        Ok(SigningKeyRow { key_id, public_key, sealed })
    }

    fn unseal(&self, org: OrgId, row: &SigningKeyRow) -> Result<SigningKey, CryptoError> {
        let seed = self.master.unseal(&context(org, &row.key_id), &row.sealed)?;
        SigningKey::from_seed(seed.try_into().map_err(|_| CryptoError::Key)?)
    }
}

impl Engine {
    pub(super) async fn signing_key(&self, org: OrgId) -> EngineResult<Arc<(String, SigningKey)>> {
        if let Some(open) = self.signing.open.get(&org) {
            return Ok(open);
        }
        let rows = self.catalogue.signing_keys(org).await?;
        let row = rows.first().ok_or(EngineError::Corrupt("an organization without a key"))?;
        let open = Arc::new((row.key_id.clone(), self.signing.unseal(org, row)?));
        self.signing.open.insert(org, Arc::clone(&open));
        Ok(open)
    }

    /// The keys that verify an organization's signatures, the one that signs now first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn public_keys(&self, org: OrgId) -> EngineResult<Vec<PublicKey>> {
        let rows = self.catalogue.signing_keys(org).await?;
        let public = |row: SigningKeyRow| PublicKey {
            key_id: row.key_id,
            public_key: URL_SAFE_NO_PAD.encode(row.public_key),
        };
        Ok(rows.into_iter().map(public).collect())
    }

    /// Signs a mandate's policy: the signature covers whose it is, its limits, rules and validity.
    pub(super) async fn sign(&self, mandate: &mut Mandate) -> EngineResult<()> {
        let key = self.signing_key(mandate.org_id).await?;
        mandate.policy_hash = hex_digest(&mandate.canonical_policy());
        mandate.signature = key.1.sign(mandate.policy_hash.as_bytes());
        mandate.signing_key_id.clone_from(&key.0);
        Ok(())
    }

    /// Whether the master key opens what is stored; asked once at start.
    ///
    /// # Errors
    /// When it does not: everything sealed with it would be lost to this server.
    pub async fn check_master_key(&self) -> EngineResult<()> {
        for org in self.catalogue.orgs().await? {
            self.signing_key(org.id).await?;
        }
        Ok(())
    }
}
