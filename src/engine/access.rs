//! Who is calling: keys, their form and their check; and which agents they may act for.
//!
//! A key's text carries its id, its secret and a checksum; only a keyed digest of the secret is
//! stored. What is known of a key may be kept in memory only as long as no key has been revoked
//! since it was read. Not here: which role may call which RPC (declared in the contract).

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use governor::clock::Clock as _;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;
use moka::sync::Cache;
use tokio::time::Instant;

use super::{Engine, EngineError, EngineResult};
use crate::crypto::{MasterKey, digest, equal, keyed_digest, random, time_ordered_id};
use crate::domain::actor::Actor;
use crate::domain::id::{AgentId, KeyId, OrgId};
use crate::store::{ApiKey, KeyUse, Role};

/// Keys that are kept in memory.
const KEPT: u64 = 10_000;

/// Bytes of a secret, and of the checksum behind it.
const SECRET_LENGTH: usize = 32;
const CHECK_LENGTH: usize = 4;

/// Who is calling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The organization it belongs to.
    pub org_id: OrgId,
    /// Its credential.
    pub key_id: KeyId,
    /// What it may do.
    pub role: Role,
    /// The only agent it may act for.
    pub agent_id: Option<AgentId>,
}

impl Principal {
    /// The agent that a request is about.
    ///
    /// # Errors
    /// When none is named and the credential is not bound to one, or another than its own is
    /// named, which looks like an unknown one.
    pub fn agent(&self, named: Option<AgentId>) -> EngineResult<AgentId> {
        match (self.agent_id, named) {
            (Some(own), None) => Ok(own),
            (Some(own), Some(named)) if own == named => Ok(own),
            (Some(_), Some(_)) => Err(EngineError::NotFound("agent")),
            (None, Some(named)) => Ok(named),
            (None, None) => Err(EngineError::invalid(
                "agent_id",
                "is required, as this key is not bound to one agent",
            )),
        }
    }

    /// As whom its acts are recorded.
    #[must_use]
    pub const fn actor(&self) -> Actor {
        Actor::Key(self.key_id, self.role)
    }

    /// Whether things of an agent may be seen at all.
    #[must_use]
    pub fn sees(&self, agent: AgentId) -> bool {
        self.agent_id.is_none_or(|own| own == agent)
    }
}

/// A key as it is shown, this once.
pub struct KeyText(String);

impl KeyText {
    /// The text to show.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for KeyText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyText(…)")
    }
}

/// What a key's text says.
struct Parsed {
    id: KeyId,
    secret: [u8; SECRET_LENGTH],
}

/// A credential as it was read.
#[derive(Clone)]
struct Known {
    key: Arc<ApiKey>,
    /// Under which count of revocations, and when; both from before it was read.
    revocations: u64,
    since: Instant,
    /// Whether somebody is reading it again, before it is too old for the others.
    reading: Arc<AtomicBool>,
}

/// Checks credentials.
pub(super) struct Access {
    pepper: [u8; 32],
    /// Counts revocations; what was read under an earlier count is read again.
    revocations: AtomicU64,
    known: Cache<KeyId, Known>,
    /// What was read longer ago is read again: others revoke too, where the store is shared, and
    /// here a revocation may be stored after its caller has gone.
    age_max: Duration,
    used: Mutex<HashMap<KeyId, KeyUse>>,
    rate: Option<DefaultKeyedRateLimiter<KeyId>>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

const fn role_word(role: Role) -> &'static str {
    match role {
        Role::Admin => "admin",
        Role::Agent => "agent",
        Role::Reader => "reader",
    }
}

fn check_of(id: &[u8], secret: &[u8]) -> [u8; CHECK_LENGTH] {
    digest(&[b"key check", id, secret]).first_chunk().copied().unwrap_or_default()
}

/// `sk_<role>_<id, 32 hex digits>_<secret and checksum, base64url>`. The checksum lets scanners
/// and this server tell a garbled key without asking the store.
fn format_key(role: Role, id: KeyId, secret: &[u8; SECRET_LENGTH]) -> String {
    let mut tail = secret.to_vec();
    tail.extend_from_slice(&check_of(id.as_bytes(), secret));
    let id = hex::encode(id.as_bytes());
    format!("sk_{}_{id}_{}", role_word(role), URL_SAFE_NO_PAD.encode(tail))
}

fn parse_key(text: &str) -> Option<Parsed> {
    let mut parts = text.splitn(4, '_');
    if parts.next() != Some("sk") || !matches!(parts.next(), Some("admin" | "agent" | "reader")) {
        return None;
    }
    let mut id = [0; 16];
    hex::decode_to_slice(parts.next()?, &mut id).ok()?;
    let tail = URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
    let (secret, check) = tail.split_first_chunk::<SECRET_LENGTH>()?;
    let good = equal(check, &check_of(&id, secret));
    good.then(|| Parsed { id: KeyId::from_bytes(id), secret: *secret })
}

impl Access {
    pub(super) fn new(master: &MasterKey, requests_per_second: u32, age_max: Duration) -> Self {
        let quota = NonZeroU32::new(requests_per_second).map(Quota::per_second);
        Self {
            pepper: master.derive("api keys v1"),
            revocations: AtomicU64::new(0),
            known: Cache::new(KEPT),
            age_max,
            used: Mutex::new(HashMap::new()),
            rate: quota.map(RateLimiter::keyed),
        }
    }

    /// A new key: its text, and its record without name and limits.
    pub(super) fn generate(&self, role: Role) -> EngineResult<(KeyText, KeyId, [u8; 32])> {
        let id = KeyId::from_bytes(time_ordered_id());
        let secret = random::<SECRET_LENGTH>()?;
        let digest = keyed_digest(&self.pepper, &secret);
        Ok((KeyText(format_key(role, id, &secret)), id, digest))
    }

    /// Whether what is known may be believed by this caller. One of them reads it again when it is
    /// half as old as it may be, so that the others do not all wait when it is too old.
    fn is_good(&self, known: &Known, now: Instant) -> bool {
        let half = self.age_max.checked_div(2).unwrap_or_default();
        let is_old = now.duration_since(known.since) >= half;
        let reads_again = is_old && !known.reading.swap(true, Ordering::Relaxed);
        self.is_young(known, now) && !reads_again
    }

    fn is_young(&self, known: &Known, now: Instant) -> bool {
        now.duration_since(known.since) < self.age_max
    }

    /// Must be called after a revocation is stored and before it is answered.
    pub(super) fn forget(&self) {
        self.revocations.fetch_add(1, Ordering::SeqCst);
    }

    fn within_rate(&self, key: KeyId) -> EngineResult<()> {
        let Some(rate) = &self.rate else {
            return Ok(());
        };
        rate.check_key(&key).map_err(|not_until| {
            let wait = not_until.wait_time_from(governor::clock::DefaultClock::default().now());
            let retry_after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
            EngineError::RequestRateExceeded { retry_after_ms }
        })
    }

    fn note_use(&self, key: &ApiKey, now: Timestamp, in_url: bool) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = KeyUse { id: key.id, at: now, in_url_at: None };
        let noted = used.entry(key.id).or_insert(fresh);
        noted.at = now;
        if in_url {
            noted.in_url_at = Some(now);
        }
    }

    fn take_used(&self) -> Vec<KeyUse> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *used).into_values().collect()
    }
}

impl Engine {
    /// Finds out who is calling. Every failure looks the same from outside.
    ///
    /// # Errors
    /// When the key is garbled, unknown, revoked or expired, calls too fast, or the store fails.
    pub async fn authenticate(&self, key: &str) -> EngineResult<Principal> {
        self.authenticated(key, false).await
    }

    /// The same for a credential that came in a URL, which is noted. Only an agent's may: others
    /// could change what agents are allowed, and a URL is seen by many.
    ///
    /// # Errors
    /// As [`Engine::authenticate`], and when the key is of another role.
    pub async fn authenticate_in_url(&self, key: &str) -> EngineResult<Principal> {
        self.authenticated(key, true).await
    }

    async fn authenticated(&self, key: &str, in_url: bool) -> EngineResult<Principal> {
        let parsed = parse_key(key).ok_or(EngineError::Unauthenticated)?;
        let now = self.clock.now();
        let stored = self.known_key(parsed.id).await?;
        let presented = keyed_digest(&self.access.pepper, &parsed.secret);
        // An unknown id costs the same comparison, against a digest that nothing has.
        let expected = stored.as_ref().map_or([0; 32], |key| key.digest);
        let matches = equal(&presented, &expected);
        let key = stored.filter(|_| matches).ok_or(EngineError::Unauthenticated)?;
        let ended = key.revoked_at.is_some() || key.expires_at.is_some_and(|end| end <= now);
        if ended || (in_url && key.role != Role::Agent) {
            return Err(EngineError::Unauthenticated);
        }
        self.access.within_rate(key.id)?;
        self.access.note_use(&key, now, in_url);
        Ok(Principal { org_id: key.org_id, key_id: key.id, role: key.role, agent_id: key.agent_id })
    }

    /// Whether a caller that was let in may stay.
    pub(super) async fn still_good(&self, caller: &Principal) -> EngineResult<()> {
        let now = self.clock.now();
        let key = self.known_key(caller.key_id).await?;
        let is_good = key.is_some_and(|key| {
            key.revoked_at.is_none() && key.expires_at.is_none_or(|end| end > now)
        });
        if is_good { Ok(()) } else { Err(EngineError::Unauthenticated) }
    }

    async fn known_key(&self, id: KeyId) -> EngineResult<Option<Arc<ApiKey>>> {
        // Read before the key is: a revocation in between makes what is read here old at once.
        let count = self.access.revocations.load(Ordering::SeqCst);
        let since = Instant::now();
        let known = self.access.known.get(&id).filter(|known| known.revocations == count);
        if let Some(known) = &known
            && self.access.is_good(known, since)
        {
            return Ok(Some(Arc::clone(&known.key)));
        }
        let key = match (self.catalogue.key(id).await, known) {
            // It was asked early: what is known is good for as long as it would have been.
            (Err(_), Some(known)) if self.access.is_young(&known, Instant::now()) => {
                known.reading.store(false, Ordering::Relaxed);
                return Ok(Some(known.key));
            }
            (key, _) => key?,
        };
        let Some(key) = key else { return Ok(None) };
        let key = Arc::new(key);
        let reading = Arc::default();
        let known = Known { key: Arc::clone(&key), revocations: count, since, reading };
        self.access.known.insert(id, known);
        Ok(Some(key))
    }

    /// Writes down when keys were last used; called now and then, and before the server stops.
    ///
    /// # Errors
    /// When the store fails; the notes are lost then, which harms nothing.
    pub async fn flush_key_use(&self) -> EngineResult<()> {
        let used = self.access.take_used();
        if !used.is_empty() {
            self.catalogue.touch_keys(used).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text_and_no_character_of_it_may_change() {
        let id = KeyId::from_bytes([5; 16]);
        let text = format_key(Role::Agent, id, &[9; 32]);
        let parsed = parse_key(&text).unwrap();
        assert_eq!((parsed.id, parsed.secret), (id, [9; 32]));
        for index in 9..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[index] = if bytes[index] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(parse_key(&changed).is_none(), "{index}");
        }
    }

    #[test]
    fn other_texts_are_no_keys() {
        let long = "sk_agent_".repeat(1_000);
        for text in ["", "sk_", "sk_root_00_00", "' OR '1'='1", "sk_agent__", &long, "sk_ägent"] {
            assert!(parse_key(text).is_none(), "{text}");
        }
    }
}
