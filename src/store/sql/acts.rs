//! What a commit of the catalogue records of itself: an act for each change, with the object as it
//! was and as it is.
//!
//! Not here: acts about money, which the ledger's lanes record.

use sqlx::Row;

use super::super::failed;
use super::statement::{READ_AGENT, READ_KEY, READ_MANDATE, READ_ORG, RECORD_ACT};
use super::{DriverConnection, from_document, to_document};
use crate::domain::act::{ActKind, ActRecord};
use crate::domain::id::OrgId;
use crate::store::{Author, Change, StoreError, StoreErrorKind};

const RECORD: &str = "record an act";

/// The document of what a change is about, before it, if there is one.
pub(super) async fn before(
    connection: &mut DriverConnection,
    change: &Change,
) -> Result<Option<String>, StoreError> {
    let (statement, org, id) = match change {
        Change::ReplaceOrg(org, _) => (READ_ORG, None, org.id.as_bytes()),
        Change::ReplaceAgent(agent, _) => (READ_AGENT, Some(agent.org_id), agent.id.as_bytes()),
        Change::ReplaceMandate(mandate, _) => {
            (READ_MANDATE, Some(mandate.org_id), mandate.id.as_bytes())
        }
        Change::DeleteDraft(org, id, _) => (READ_MANDATE, Some(*org), id.as_bytes()),
        Change::RevokeKey(_, id, _) => (READ_KEY, None, id.as_bytes()),
        Change::CreateOrg(..)
        | Change::CreateAgent(_)
        | Change::CreateMandate(_)
        | Change::CreateKey(_)
        | Change::RevokeKeysOf(..) => return Ok(None),
    };
    let org = org.as_ref().map(OrgId::as_bytes);
    let mut query = sqlx::query(statement);
    for id in org.into_iter().chain([id]) {
        query = query.bind(id.as_slice());
    }
    let row = query.fetch_optional(connection).await.map_err(failed(RECORD))?;
    row.map(|row| row.try_get(0).map_err(failed(RECORD))).transpose()
}

/// What is recorded of a change.
pub(super) fn act_of(
    change: &Change,
    before: Option<&str>,
    author: Author,
) -> Result<ActRecord, StoreError> {
    let missing = || StoreError::new(StoreErrorKind::Corrupt, RECORD, "a change of nothing");
    let was = before.ok_or_else(missing);
    let after = |document: Result<String, StoreError>| document.map(Some);
    let (org_id, subject, kind, after) = match change {
        Change::CreateOrg(org, _) => {
            let after = after(to_document(org, RECORD))?;
            (org.id, *org.id.as_bytes(), ActKind::OrganizationCreated, after)
        }
        Change::ReplaceOrg(org, _) => {
            let kind = ActKind::of_organization(&from_document(was?, RECORD)?, org);
            (org.id, *org.id.as_bytes(), kind, after(to_document(org, RECORD))?)
        }
        Change::CreateAgent(agent) => {
            let after = after(to_document(agent, RECORD))?;
            (agent.org_id, *agent.id.as_bytes(), ActKind::AgentRegistered, after)
        }
        Change::ReplaceAgent(agent, _) => {
            let kind = ActKind::of_agent(&from_document(was?, RECORD)?, agent);
            (agent.org_id, *agent.id.as_bytes(), kind, after(to_document(agent, RECORD))?)
        }
        Change::CreateMandate(mandate) => {
            let after = after(to_document(mandate, RECORD))?;
            (mandate.org_id, *mandate.id.as_bytes(), ActKind::MandateCreated, after)
        }
        Change::ReplaceMandate(mandate, _) => {
            let kind = ActKind::of_mandate(&from_document(was?, RECORD)?, mandate);
            (mandate.org_id, *mandate.id.as_bytes(), kind, after(to_document(mandate, RECORD))?)
        }
        Change::DeleteDraft(org, id, _) => (*org, *id.as_bytes(), ActKind::MandateDeleted, None),
        Change::CreateKey(key) => {
            let after = after(to_document(key, RECORD))?;
            (key.org_id, *key.id.as_bytes(), ActKind::KeyCreated, after)
        }
        Change::RevokeKey(org, id, _) => (*org, *id.as_bytes(), ActKind::KeyRevoked, None),
        Change::RevokeKeysOf(org, agent, _) => {
            (*org, *agent.as_bytes(), ActKind::AgentKeysRevoked, None)
        }
    };
    let document = both(before, after.as_deref());
    Ok(ActRecord { org_id, kind, subject, actor: author.actor, at: author.at, document })
}

/// Two documents in one; each is JSON already.
fn both(before: Option<&str>, after: Option<&str>) -> String {
    let part = |name: &str, document: &str| format!("\"{name}\":{document}");
    let before = before.map(|document| part("before", document));
    let after = after.map(|document| part("after", document));
    format!("{{{}}}", before.into_iter().chain(after).collect::<Vec<_>>().join(","))
}

/// Writes one.
pub(super) async fn record(
    connection: &mut DriverConnection,
    act: &ActRecord,
) -> Result<(), StoreError> {
    sqlx::query(RECORD_ACT)
        .bind(act.org_id.as_bytes().as_slice())
        .bind(act.at.as_microsecond())
        .bind(act.kind.word())
        .bind(act.subject.as_slice())
        .bind(act.actor.key().map(|key| key.as_bytes().as_slice()))
        .bind(act.actor.word())
        .bind(&act.document)
        .execute(connection)
        .await
        .map(drop)
        .map_err(failed(RECORD))
}
