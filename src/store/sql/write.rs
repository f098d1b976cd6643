//! The only writer of the catalogue: all changes of a commit in one transaction, or none.
//!
//! Each change compares before it writes, inside its statement; what does not match is a conflict
//! and undoes the whole commit. Not here: which changes belong together (`engine`).

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::query::Query;

use super::super::dialect::TRY_WRITING;
use super::super::{Driver, Store, failed};
use super::statement::{
    CREATE_AGENT, CREATE_KEY, CREATE_MANDATE, CREATE_ORG, CREATE_RECEIPT, CREATE_SIGNING_KEY,
    DELETE_DRAFT, DELETE_DRAFT_VERSIONS, DELETE_SOME_DELIVERIES, FORGET_COUNTERS,
    FORGET_COUNTERS_OF_ORG, FORGET_RECEIPTS, KEEP_MANDATE_VERSION, READ_ORG, REPLACE_AGENT,
    REPLACE_MANDATE, REPLACE_ORG, REVOKE_KEY, REVOKE_KEYS_OF, TOUCH_KEY,
};
use super::{DriverConnection, acts, from_document, to_document, webhooks};
use crate::domain::agent::Agent;
use crate::domain::durability::Durability;
use crate::domain::id::{AgentId, KeyId, MandateId, OrgId, WebhookEndpointId};
use crate::domain::mandate::Mandate;
use crate::domain::organization::Organization;
use crate::store::sql::spends::subject_text;
use crate::store::{
    ApiKey, Author, CatalogueWriter, Change, KeyUse, Receipt, SigningKeyRow, StoreError,
};

#[async_trait]
impl CatalogueWriter for Store {
    async fn commit(
        &self,
        changes: Vec<Change>,
        receipt: Option<Receipt>,
        author: Author,
    ) -> Result<(), StoreError> {
        const COMMIT: &str = "commit changes of the catalogue";
        let mut transaction = self.begin_for(&orgs_of(&changes, receipt.as_ref()), COMMIT).await?;
        if let Some(receipt) = &receipt {
            create_receipt(&mut transaction, receipt).await?;
        }
        for change in &changes {
            let before = acts::before(&mut transaction, change).await?;
            apply(&mut transaction, change).await?;
            let act = acts::act_of(change, before.as_deref(), author)?;
            acts::record(&mut transaction, &act).await?;
        }
        self.finish(transaction, COMMIT).await
    }

    async fn touch_keys(&self, used: Vec<KeyUse>) -> Result<(), StoreError> {
        const TOUCH: &str = "note the use of API keys";
        if used.is_empty() {
            return Ok(());
        }
        let mut transaction = self.begin_for(&[], TOUCH).await?;
        for used in &used {
            let query = sqlx::query(TOUCH_KEY)
                .bind(used.id.as_bytes().as_slice())
                .bind(used.at.as_microsecond())
                .bind(micros(used.in_url_at));
            run(query, &mut transaction, TOUCH).await?;
        }
        self.finish(transaction, TOUCH).await
    }

    async fn try_writing(&self, org: OrgId) -> Result<(), StoreError> {
        const TRY: &str = "try to write";
        let mut transaction = self.begin_for(&[org], TRY).await?;
        for &sql in TRY_WRITING {
            let query = sqlx::query(sql).bind(org.as_bytes().as_slice());
            run_compared(query, &mut transaction, TRY).await?;
        }
        self.finish(transaction, TRY).await
    }

    async fn forget_receipts(&self, org: OrgId, before: Timestamp) -> Result<u64, StoreError> {
        const FORGET: &str = "forget receipts";
        let mut transaction = self.begin_beside(org, FORGET).await?;
        let query = sqlx::query(FORGET_RECEIPTS)
            .bind(org.as_bytes().as_slice())
            .bind(before.as_microsecond())
            .bind(FORGOTTEN_MAX);
        let forgotten = run(query, &mut transaction, FORGET).await?;
        self.finish(transaction, FORGET).await?;
        Ok(forgotten)
    }

    async fn clear_deliveries(
        &self,
        org: OrgId,
        endpoint: WebhookEndpointId,
    ) -> Result<u64, StoreError> {
        const CLEAR: &str = "clear the log of a webhook endpoint";
        let mut transaction = self.begin_beside(org, CLEAR).await?;
        let query = sqlx::query(DELETE_SOME_DELIVERIES)
            .bind(endpoint.as_bytes().as_slice())
            .bind(org.as_bytes().as_slice())
            .bind(FORGOTTEN_MAX);
        let cleared = run(query, &mut transaction, CLEAR).await?;
        self.finish(transaction, CLEAR).await?;
        Ok(cleared)
    }
}

/// Rows that one call forgets: decisions wait for the turn to write meanwhile.
pub(super) const FORGOTTEN_MAX: i64 = 500;

pub(super) fn micros(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_microsecond)
}

pub(super) type Arguments = <Driver as sqlx::Database>::Arguments;
type Statement<'a> = Query<'a, Driver, Arguments>;

/// Whose rows are about to change, each once and in order, so that two commits cannot wait for each
/// other.
fn orgs_of(changes: &[Change], receipt: Option<&Receipt>) -> Vec<OrgId> {
    let org = |change: &Change| match change {
        Change::CreateOrg(org, _) | Change::ReplaceOrg(org, _) => org.id,
        Change::CreateAgent(agent) | Change::ReplaceAgent(agent, _) => agent.org_id,
        Change::CreateMandate(mandate) | Change::ReplaceMandate(mandate, _) => mandate.org_id,
        Change::CreateKey(key) => key.org_id,
        Change::DeleteDraft(org, _, _)
        | Change::RevokeKey(org, _, _)
        | Change::RevokeKeysOf(org, _, _) => *org,
        Change::Webhook(change) => change.org(),
    };
    let orgs = changes.iter().map(org).chain(receipt.map(|receipt| receipt.org_id));
    orgs.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

/// Runs a statement and returns how many rows it wrote.
pub(super) async fn run(
    query: Statement<'_>,
    connection: &mut DriverConnection,
    operation: &'static str,
) -> Result<u64, StoreError> {
    let written = query.execute(connection).await.map_err(failed(operation))?;
    Ok(written.rows_affected())
}

/// Runs a statement that writes a row, unless what it compares has changed.
pub(super) async fn run_compared(
    query: Statement<'_>,
    connection: &mut DriverConnection,
    operation: &'static str,
) -> Result<(), StoreError> {
    match run(query, connection, operation).await? {
        0 => Err(StoreError::conflict(operation)),
        _ => Ok(()),
    }
}

async fn apply(connection: &mut DriverConnection, change: &Change) -> Result<(), StoreError> {
    match change {
        Change::CreateOrg(org, key) => create_org(connection, org, key).await,
        Change::ReplaceOrg(org, version) => replace_org(connection, org, *version).await,
        Change::CreateAgent(agent) => create_agent(connection, agent).await,
        Change::ReplaceAgent(agent, version) => replace_agent(connection, agent, *version).await,
        Change::CreateMandate(mandate) => create_mandate(connection, mandate).await,
        Change::ReplaceMandate(mandate, version) => {
            replace_mandate(connection, mandate, *version).await
        }
        Change::DeleteDraft(org, id, version) => {
            delete_draft(connection, *org, *id, *version).await
        }
        Change::CreateKey(key) => create_key(connection, key).await,
        Change::RevokeKey(org, id, at) => revoke_key(connection, *org, *id, *at).await,
        Change::RevokeKeysOf(org, agent, at) => revoke_keys_of(connection, *org, *agent, *at).await,
        Change::Webhook(change) => webhooks::apply(connection, change).await,
    }
}

async fn create_receipt(
    connection: &mut DriverConnection,
    receipt: &Receipt,
) -> Result<(), StoreError> {
    const WRITE: &str = "write a receipt";
    let query = sqlx::query(CREATE_RECEIPT)
        .bind(receipt.org_id.as_bytes().as_slice())
        .bind(&receipt.key)
        .bind(receipt.request_hash.as_slice())
        .bind(&receipt.reply)
        .bind(receipt.created_at.as_microsecond());
    run_compared(query, connection, WRITE).await
}

async fn create_org(
    connection: &mut DriverConnection,
    org: &Organization,
    key: &SigningKeyRow,
) -> Result<(), StoreError> {
    const CREATE: &str = "create an organization";
    let query = sqlx::query(CREATE_ORG)
        .bind(org.id.as_bytes().as_slice())
        .bind(&org.slug)
        .bind(org.frozen)
        .bind(org.version)
        .bind(to_document(org, CREATE)?);
    run_compared(query, connection, CREATE).await?;
    let query = sqlx::query(CREATE_SIGNING_KEY)
        .bind(org.id.as_bytes().as_slice())
        .bind(&key.key_id)
        .bind(key.public_key.as_slice())
        .bind(&key.sealed)
        .bind(org.created_at.as_microsecond());
    run_compared(query, connection, CREATE).await
}

async fn replace_org(
    connection: &mut DriverConnection,
    org: &Organization,
    expected: i64,
) -> Result<(), StoreError> {
    const REPLACE: &str = "change an organization";
    let query = sqlx::query(REPLACE_ORG)
        .bind(org.id.as_bytes().as_slice())
        .bind(&org.slug)
        .bind(org.frozen)
        .bind(org.version)
        .bind(to_document(org, REPLACE)?)
        .bind(expected);
    let before: Option<String> = sqlx::query_scalar(READ_ORG)
        .bind(org.id.as_bytes().as_slice())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed(REPLACE))?;
    run_compared(query, connection, REPLACE).await?;
    let before: Option<Organization> =
        before.map(|document| from_document(&document, REPLACE)).transpose()?;
    if before.is_some_and(|before| before.timezone != org.timezone) {
        let forget = sqlx::query(FORGET_COUNTERS_OF_ORG).bind(org.id.as_bytes().as_slice());
        run(forget, connection, REPLACE).await?;
    }
    Ok(())
}

async fn create_agent(connection: &mut DriverConnection, agent: &Agent) -> Result<(), StoreError> {
    const CREATE: &str = "register an agent";
    let query = bind_agent(CREATE_AGENT, agent, CREATE)?;
    run_compared(query, connection, CREATE).await
}

async fn replace_agent(
    connection: &mut DriverConnection,
    agent: &Agent,
    expected: i64,
) -> Result<(), StoreError> {
    const REPLACE: &str = "change an agent";
    let query = bind_agent(REPLACE_AGENT, agent, REPLACE)?.bind(expected);
    run_compared(query, connection, REPLACE).await
}

/// Binds the seven columns, in the order of the table.
fn bind_agent<'a>(
    sql: &'static str,
    agent: &'a Agent,
    operation: &'static str,
) -> Result<Statement<'a>, StoreError> {
    Ok(sqlx::query(sql)
        .bind(agent.id.as_bytes().as_slice())
        .bind(agent.org_id.as_bytes().as_slice())
        .bind(&agent.name)
        .bind(agent.status.word())
        .bind(agent.current_mandate.as_ref().map(|id| id.as_bytes().as_slice()))
        .bind(agent.version)
        .bind(to_document(agent, operation)?))
}

async fn create_mandate(
    connection: &mut DriverConnection,
    mandate: &Mandate,
) -> Result<(), StoreError> {
    const CREATE: &str = "create a mandate";
    let query = bind_mandate(CREATE_MANDATE, mandate, CREATE)?;
    run_compared(query, connection, CREATE).await
}

async fn replace_mandate(
    connection: &mut DriverConnection,
    mandate: &Mandate,
    expected: i64,
) -> Result<(), StoreError> {
    const REPLACE: &str = "change a mandate";
    let keep = sqlx::query(KEEP_MANDATE_VERSION)
        .bind(mandate.id.as_bytes().as_slice())
        .bind(mandate.org_id.as_bytes().as_slice())
        .bind(expected);
    run_compared(keep, connection, REPLACE).await?;
    let query = bind_mandate(REPLACE_MANDATE, mandate, REPLACE)?.bind(expected);
    run_compared(query, connection, REPLACE).await?;
    // A counter that the new version does not charge would miss what is spent from now on.
    let counted = mandate.policy.counted();
    let counted = counted.iter().map(|counted| subject_text(&counted.subject, counted.period));
    let forget = sqlx::query(FORGET_COUNTERS)
        .bind(mandate.id.as_bytes().as_slice())
        .bind(to_document(&counted.collect::<Vec<_>>(), REPLACE)?);
    run(forget, connection, REPLACE).await.map(drop)
}

/// Binds what is written of a mandate, in the order of the statements.
fn bind_mandate<'a>(
    sql: &'static str,
    mandate: &'a Mandate,
    operation: &'static str,
) -> Result<Statement<'a>, StoreError> {
    Ok(sqlx::query(sql)
        .bind(mandate.id.as_bytes().as_slice())
        .bind(mandate.org_id.as_bytes().as_slice())
        .bind(mandate.agent_id.as_bytes().as_slice())
        .bind(mandate.status.word())
        .bind(mandate.version)
        .bind(to_document(mandate, operation)?)
        .bind(mandate.policy.durability.map(Durability::word)))
}

async fn delete_draft(
    connection: &mut DriverConnection,
    org: OrgId,
    id: MandateId,
    expected: i64,
) -> Result<(), StoreError> {
    const DELETE: &str = "delete a draft";
    let query = sqlx::query(DELETE_DRAFT)
        .bind(id.as_bytes().as_slice())
        .bind(org.as_bytes().as_slice())
        .bind(expected);
    run_compared(query, connection, DELETE).await?;
    let versions = sqlx::query(DELETE_DRAFT_VERSIONS)
        .bind(id.as_bytes().as_slice())
        .bind(org.as_bytes().as_slice());
    run(versions, connection, DELETE).await.map(drop)
}

async fn create_key(connection: &mut DriverConnection, key: &ApiKey) -> Result<(), StoreError> {
    const CREATE: &str = "create an API key";
    let query = sqlx::query(CREATE_KEY)
        .bind(key.id.as_bytes().as_slice())
        .bind(key.org_id.as_bytes().as_slice())
        .bind(key.agent_id.as_ref().map(|id| id.as_bytes().as_slice()))
        .bind(key.role.word())
        .bind(key.digest.as_slice())
        .bind(micros(key.expires_at))
        .bind(micros(key.last_used_at))
        .bind(micros(key.revoked_at))
        .bind(to_document(key, CREATE)?);
    run_compared(query, connection, CREATE).await
}

async fn revoke_key(
    connection: &mut DriverConnection,
    org: OrgId,
    id: KeyId,
    at: Timestamp,
) -> Result<(), StoreError> {
    const REVOKE: &str = "revoke an API key";
    let query = sqlx::query(REVOKE_KEY)
        .bind(id.as_bytes().as_slice())
        .bind(org.as_bytes().as_slice())
        .bind(at.as_microsecond());
    run_compared(query, connection, REVOKE).await
}

async fn revoke_keys_of(
    connection: &mut DriverConnection,
    org: OrgId,
    agent: AgentId,
    at: Timestamp,
) -> Result<(), StoreError> {
    const REVOKE: &str = "revoke an agent's API keys";
    let query = sqlx::query(REVOKE_KEYS_OF)
        .bind(org.as_bytes().as_slice())
        .bind(agent.as_bytes().as_slice())
        .bind(at.as_microsecond());
    // An agent may have none.
    run(query, connection, REVOKE).await.map(drop)
}
