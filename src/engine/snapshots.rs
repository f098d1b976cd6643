//! What a decision needs of the catalogue, kept compiled in memory.
//!
//! It may be old: the ledger compares how things stand with what was kept, inside the decision, and
//! says so. Nothing kept here can approve anything. Not here: any decision, kept or not.

use std::sync::Arc;

use jiff::tz::TimeZone;
use moka::sync::Cache;
use sha2::{Digest, Sha256};

use super::{Engine, EngineError, EngineResult};
use crate::domain::durability::{AskedDurability, Durability};
use crate::domain::id::{AgentId, MandateId, OrgId};
use crate::domain::ledger::{MandateStanding, Standing};
use crate::domain::mandate::{CompiledMandate, Mandate};
use crate::domain::period::parse_zone;
use crate::domain::rule::CompiledRule;
use crate::store::Snapshot;

/// What one agent takes, in bytes, with its place in the cache, but without rules of its own.
const FRAME_BYTES: u32 = 700;
/// What compiled rules take for each byte of their text, and more where vendors are listed.
const RULE_BYTES: usize = 6;
/// Sets of rules that are shared by all mandates that have them: most come from few templates.
const SHARED: u64 = 1_000;
/// Versions that records are read by.
const VERSIONS: u64 = 1_000;

/// What is kept of one agent.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) standing: Standing,
    pub(super) mandate: Option<CompiledMandate>,
    pub(super) zone_name: String,
    pub(super) zone: TimeZone,
    pub(super) asks_countries: bool,
    floor: Option<Durability>,
    /// About as much memory as it takes, in bytes.
    bytes: u32,
}

impl Frame {
    /// What the organization and the mandate ask for, under the versions of the standing.
    pub(super) fn durability(&self) -> AskedDurability {
        let mandate = self.mandate.as_ref().and_then(|mandate| mandate.durability);
        AskedDurability { mandate, floor: self.floor }
    }
}

#[derive(Debug)]
pub(super) struct Snapshots {
    kept: Cache<(OrgId, AgentId, Option<MandateId>), Arc<Frame>>,
    /// By the digest of what they were compiled from.
    rules: Cache<[u8; 32], Arc<[CompiledRule]>>,
    /// Versions, present and past, which never change.
    versions: Cache<(OrgId, MandateId, i64), Arc<CompiledMandate>>,
}

impl Snapshots {
    /// Nothing yet, and never much more than this.
    pub(super) fn new(cache_mib: u32) -> Self {
        let bytes = u64::from(cache_mib).saturating_mul(1 << 20);
        let kept = Cache::builder().max_capacity(bytes);
        let kept = kept.weigher(|_, frame: &Arc<Frame>| frame.bytes);
        let (rules, versions) = (Cache::new(SHARED), Cache::new(VERSIONS));
        Self { kept: kept.build(), rules, versions }
    }

    /// A mandate, compiled, and the bytes that only it takes.
    fn compile(&self, mandate: &Mandate) -> EngineResult<(CompiledMandate, u32)> {
        let wrong = || EngineError::Corrupt("a mandate");
        let policy = &mandate.policy;
        let source = serde_json::to_vec(&(&policy.budget, &policy.rules)).map_err(|_| wrong())?;
        let digest = Sha256::digest(&source).into();
        if let Some(rules) = self.rules.get(&digest) {
            return Ok((CompiledMandate::with_rules(mandate, rules), 0));
        }
        let compiled = CompiledMandate::try_new(mandate).map_err(|_| wrong())?;
        self.rules.insert(digest, Arc::clone(&compiled.rules));
        let bytes = source.len().saturating_mul(RULE_BYTES);
        Ok((compiled, u32::try_from(bytes).unwrap_or(u32::MAX)))
    }

    fn frame(&self, snapshot: Snapshot) -> EngineResult<Frame> {
        let compiled = snapshot.mandate.as_ref().map(|stored| self.compile(stored)).transpose()?;
        let (mandate, own_bytes) = match compiled {
            Some((mandate, own_bytes)) => (Some(mandate), own_bytes),
            None => (None, 0),
        };
        let standing = Standing {
            org_version: snapshot.org.version,
            frozen: snapshot.org.frozen,
            agent: snapshot.agent.status,
            mandate: snapshot.mandate.as_ref().map(|stored| MandateStanding {
                id: stored.id,
                version: stored.version,
                status: stored.status,
            }),
        };
        let zone = parse_zone(&snapshot.org.timezone)?;
        let geo = |rule: &CompiledRule| matches!(rule, CompiledRule::Geo { .. });
        let asks_countries = mandate.as_ref().is_some_and(|m| m.rules.iter().any(geo));
        let bytes = FRAME_BYTES.saturating_add(own_bytes);
        Ok(Frame {
            standing,
            mandate,
            zone_name: snapshot.org.timezone,
            zone,
            asks_countries,
            floor: snapshot.org.durability_floor,
            bytes,
        })
    }
}

impl Engine {
    /// What is kept, or read now.
    pub(super) async fn frame(
        &self,
        org: OrgId,
        agent: AgentId,
        named: Option<MandateId>,
    ) -> EngineResult<Arc<Frame>> {
        match self.snapshots.kept.get(&(org, agent, named)) {
            Some(frame) => Ok(frame),
            None => self.fresh_frame(org, agent, named).await,
        }
    }

    /// A version of a mandate, compiled: what a record was decided by.
    pub(super) async fn compiled_version(
        &self,
        org: OrgId,
        id: MandateId,
        version: i64,
    ) -> EngineResult<Arc<CompiledMandate>> {
        let key = (org, id, version);
        if let Some(known) = self.snapshots.versions.get(&key) {
            return Ok(known);
        }
        let stored = self.catalogue.mandate_version(org, id, version).await?;
        let mandate = stored.ok_or(EngineError::Corrupt("a mandate's version"))?;
        let compiled = Arc::new(self.snapshots.compile(&mandate)?.0);
        self.snapshots.versions.insert(key, Arc::clone(&compiled));
        Ok(compiled)
    }

    /// Read now, whatever is kept.
    pub(super) async fn fresh_frame(
        &self,
        org: OrgId,
        agent: AgentId,
        named: Option<MandateId>,
    ) -> EngineResult<Arc<Frame>> {
        let snapshot = self.catalogue.snapshot(org, agent, named).await?;
        let snapshot = snapshot.ok_or(EngineError::NotFound("agent"))?;
        if named.is_some() && snapshot.mandate.is_none() {
            return Err(EngineError::NotFound("mandate"));
        }
        let frame = Arc::new(self.snapshots.frame(snapshot)?);
        self.snapshots.kept.insert((org, agent, named), Arc::clone(&frame));
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::mandate::Policy;
    use crate::domain::period::Period;
    use crate::domain::rule::RuleSpec;
    use crate::domain::samples::{mandate, policy};

    fn limited(total: i64, ceiling: i64) -> Policy {
        policy(total, Period::Daily, vec![RuleSpec::MaxAmount { amount: ceiling }])
    }

    #[test]
    fn mandates_alike_share_their_rules_and_others_do_not() {
        let snapshots = Snapshots::new(1);
        let compile = |number, policy| snapshots.compile(&mandate(number, policy)).unwrap();
        let (first, own_bytes) = compile(1, limited(100, 5));
        assert!(own_bytes > 0);
        let (second, own_bytes) = compile(2, limited(100, 5));
        assert_eq!(own_bytes, 0);
        assert!(Arc::ptr_eq(&first.rules, &second.rules));
        assert_ne!(first.id, second.id);
        for policy in [limited(100, 6), limited(99, 5)] {
            let (other, own_bytes) = compile(3, policy);
            assert!(own_bytes > 0 && !Arc::ptr_eq(&first.rules, &other.rules));
        }
    }

    #[test]
    fn a_stored_mandate_that_no_one_could_have_made_is_not_evaluated() {
        let snapshots = Snapshots::new(1);
        let wrong = mandate(1, limited(100, -1));
        assert!(matches!(snapshots.compile(&wrong), Err(EngineError::Corrupt(_))));
    }
}
