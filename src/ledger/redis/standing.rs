//! Telling Redis how things stand: before anybody is told that they stand so, and when it asks.
//!
//! A catalogue over another one: what a commit changed is in Redis before the commit returns, so a
//! stop that was answered is met by the very next decision of every server. Not here: who may
//! change what (`engine`), and how decisions compare it (`scripts/decide.lua`).

use std::sync::Arc;

use tokio::time::sleep;

use super::keys::{Keys, agent_stands, mandate_stands, org_stands, packed, shard_of};
use super::link::LinkError;
use super::scripts::Script;
use super::shards::{Epoch, KNOWN_TO_ALL, Shards, Trouble, unavailable};
use crate::domain::id::OrgId;
use crate::store::{Change, Stand};

/// How often telling is tried, when epochs change meanwhile.
const ATTEMPTS: usize = 4;

/// One thing to tell: its key, its version, how it stands.
pub(super) type News = (String, i64, String);

impl Shards {
    /// Tells a shard some news; older news than it has change nothing.
    pub(super) async fn tell(&self, shard: i16, news: &[News]) -> Result<(), Trouble> {
        let mut keys = vec![Keys(shard).authority()];
        keys.extend(news.iter().map(|(key, ..)| key.clone()));
        let stands = news.iter().map(|(_, version, stands)| {
            let mut value = packed(&[*version]);
            value.extend_from_slice(stands.as_bytes());
            value
        });
        let stands = stands.collect::<Vec<_>>();
        for _ in 0..ATTEMPTS {
            let live = self.nodes.live(shard).await?;
            let epoch = self.epoch(shard, &live).await?;
            let head = packed(&[epoch.number]);
            let mut arguments = vec![head.as_slice()];
            arguments.extend(stands.iter().map(Vec::as_slice));
            match live.run(Script::Set, &keys, &arguments).await?.word() {
                "SET" if self.is_met_by_all(shard, &epoch).await? => return Ok(()),
                "SET" | "EPOCH" => self.doubt(shard, &epoch)?,
                _ => return Err(LinkError::Answer("no word of set").into()),
            }
        }
        Err(unavailable("the shard is being taken over, try again"))
    }

    /// Whether what was told in an epoch is met by whoever decides from now on. A process that was
    /// superseded takes it as well; and where the epoch is new, some may still spend in the one
    /// before it, on another process, until they have found out.
    async fn is_met_by_all(&self, shard: i16, epoch: &Epoch) -> Result<bool, Trouble> {
        let found = self.escrow.authority(shard).await?;
        let is_present = found.is_some_and(|found| found.epoch == epoch.number);
        if is_present && epoch.number > 1 {
            sleep(KNOWN_TO_ALL.saturating_sub(epoch.since.elapsed())).await;
        }
        Ok(is_present)
    }

    /// Tells Redis everything that stands differently now.
    pub(super) async fn tell_all(&self, stands: &[Stand]) -> Result<(), Trouble> {
        for stand in stands {
            let (shard, news) = news(stand);
            self.tell(shard, &[news]).await?;
        }
        Ok(())
    }
}

fn news(stand: &Stand) -> (i16, News) {
    let keys = |org: OrgId| Keys(shard_of(org));
    match stand {
        Stand::Org(org) => {
            let stands = org_stands((org.version, org.frozen));
            (shard_of(org.id), (keys(org.id).org(org.id), org.version, stands))
        }
        Stand::Agent(agent) => {
            let stands = agent_stands(agent.status, Some(agent.current_mandate));
            let key = keys(agent.org_id).agent(agent.id);
            (shard_of(agent.org_id), (key, agent.version, stands))
        }
        Stand::Mandate(mandate) => {
            let stands = mandate_stands(mandate.version, mandate.status);
            let key = keys(mandate.org_id).mandate(mandate.id);
            (shard_of(mandate.org_id), (key, mandate.version, stands))
        }
    }
}

/// What stands differently after some changes. What is new is asked for when it is first needed.
pub(super) fn stands_of(changes: &[Change]) -> Vec<Stand> {
    let stand = |change: &Change| match change {
        Change::ReplaceOrg(org, _) => Some(Stand::Org(org.clone())),
        Change::ReplaceAgent(agent, _) => Some(Stand::Agent(agent.clone())),
        Change::ReplaceMandate(mandate, _) => Some(Stand::Mandate(mandate.clone())),
        Change::CreateOrg(..)
        | Change::CreateAgent(_)
        | Change::CreateMandate(_)
        | Change::DeleteDraft(..)
        | Change::CreateKey(_)
        | Change::RevokeKey(..)
        | Change::RevokeKeysOf(..)
        | Change::Webhook(_) => None,
    };
    changes.iter().filter_map(stand).collect()
}

/// What is shared by a ledger and the catalogue over it.
pub(super) type Shared = Arc<Shards>;
