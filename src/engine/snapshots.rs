//! What a decision needs of the catalogue, kept compiled in memory.
//!
//! It may be old: the ledger compares how things stand with what was kept, inside the decision, and
//! says so. Nothing kept here can approve anything. Not here: any decision, kept or not.

use std::sync::Arc;

use jiff::tz::TimeZone;
use moka::sync::Cache;

use super::{Engine, EngineError, EngineResult};
use crate::domain::id::{AgentId, MandateId, OrgId};
use crate::domain::ledger::{MandateStanding, Standing};
use crate::domain::mandate::CompiledMandate;
use crate::domain::period::parse_zone;
use crate::domain::rule::CompiledRule;
use crate::store::Snapshot;

/// Agents whose mandate is kept compiled; about 4 KiB each.
const KEPT: u64 = 10_000;

/// What is kept of one agent.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) standing: Standing,
    pub(super) mandate: Option<CompiledMandate>,
    pub(super) zone_name: String,
    pub(super) zone: TimeZone,
    pub(super) asks_countries: bool,
}

#[derive(Debug)]
pub(super) struct Snapshots {
    kept: Cache<(OrgId, AgentId, Option<MandateId>), Arc<Frame>>,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self { kept: Cache::new(KEPT) }
    }
}

impl Frame {
    fn try_new(snapshot: Snapshot) -> EngineResult<Self> {
        let mandate = snapshot.mandate.map(CompiledMandate::try_new).transpose();
        let mandate = mandate.map_err(|_| EngineError::Corrupt("a mandate"))?;
        let standing = Standing {
            org_version: snapshot.org.version,
            frozen: snapshot.org.frozen,
            agent: snapshot.agent.status,
            mandate: mandate.as_ref().map(|compiled| MandateStanding {
                id: compiled.mandate.id,
                version: compiled.mandate.version,
                status: compiled.mandate.status,
            }),
        };
        let zone = parse_zone(&snapshot.org.timezone)?;
        let geo = |rule: &CompiledRule| matches!(rule, CompiledRule::Geo { .. });
        let asks_countries = mandate.as_ref().is_some_and(|m| m.rules.iter().any(geo));
        Ok(Self { standing, mandate, zone_name: snapshot.org.timezone, zone, asks_countries })
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
        let frame = Arc::new(Frame::try_new(snapshot)?);
        self.snapshots.kept.insert((org, agent, named), Arc::clone(&frame));
        Ok(frame)
    }
}
