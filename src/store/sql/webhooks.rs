//! Webhooks in SQL: endpoints, how far they were told, and the log of deliveries.
//!
//! Rows that move with every delivery go in as one JSON array, so that a batch is two statements
//! whatever its size. Not here: the changes of endpoints themselves (`write`).

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::json;
use sqlx::Row;

use super::super::dialect::{DISOWN_ENDPOINTS, OWN_ENDPOINTS};
use super::super::{Store, failed};
use super::statement::{
    CREATE_CURSOR, CREATE_ENDPOINT, DELETE_CURSOR, DELETE_DELIVERIES, DELETE_ENDPOINT,
    DUE_DELIVERIES, FORGET_DELIVERIES, LIST_DELIVERIES, LIST_DELIVERIES_BY_ENDPOINT,
    LIST_ENDPOINTS, LOCK_CURSOR, OWNED_ENDPOINTS, READ_DEFAULT_ENDPOINT, READ_DELIVERY,
    READ_ENDPOINT, RECORD_DELIVERIES, REPLACE_ENDPOINT, RESTART_CURSOR, TELL_ENDPOINTS,
};
use super::write::{FORGOTTEN_MAX, micros, run, run_compared};
use super::{
    DriverConnection, DriverRow, before_id, from_bytes, from_document, from_documents, from_micros,
    to_document,
};
use crate::domain::id::{OrgId, WebhookDeliveryId, WebhookEndpointId};
use crate::domain::webhook::{ENDPOINTS_MAX, SealedSecrets, WebhookDelivery, WebhookEndpoint};
use crate::store::{
    DeliveryFilter, DeliveryStore, OwnedEndpoint, Page, StoreError, StoreErrorKind, Told,
    ToldEndpoint, WebhookChange, WebhookStore,
};

/// The place before every delivery of a list that begins with the newest.
const NEWEST: (i64, [u8; 17]) = (i64::MAX, super::AFTER_EVERY_ID);

#[async_trait]
impl WebhookStore for Store {
    async fn webhook_endpoint(
        &self,
        org: OrgId,
        id: WebhookEndpointId,
    ) -> Result<Option<WebhookEndpoint>, StoreError> {
        Ok(self.told_endpoint(org, id).await?.map(|told| told.endpoint))
    }

    async fn webhook_endpoints(
        &self,
        org: OrgId,
        page: Page,
    ) -> Result<Vec<WebhookEndpoint>, StoreError> {
        const LIST: &str = "list webhook endpoints";
        let rows = sqlx::query(LIST_ENDPOINTS)
            .bind(org.as_bytes().as_slice())
            .bind(before_id(&page, LIST)?)
            .bind(i64::from(page.limit))
            .fetch_all(&mut *self.reading(Some(org), LIST).await?)
            .await
            .map_err(failed(LIST))?;
        rows.iter().map(|row| Ok(told(row, LIST)?.endpoint)).collect()
    }

    async fn default_webhook_endpoint(
        &self,
        org: OrgId,
    ) -> Result<Option<WebhookEndpoint>, StoreError> {
        const READ: &str = "read the default webhook endpoint";
        let row = sqlx::query(READ_DEFAULT_ENDPOINT)
            .bind(org.as_bytes().as_slice())
            .fetch_optional(&mut *self.reading(Some(org), READ).await?)
            .await
            .map_err(failed(READ))?;
        row.map(|row| Ok(told(&row, READ)?.endpoint)).transpose()
    }

    async fn webhook_delivery(
        &self,
        org: OrgId,
        id: WebhookDeliveryId,
    ) -> Result<Option<WebhookDelivery>, StoreError> {
        const READ: &str = "read a webhook delivery";
        let document: Option<String> = sqlx::query_scalar(READ_DELIVERY)
            .bind(org.as_bytes().as_slice())
            .bind(id.as_bytes().as_slice())
            .fetch_optional(&mut *self.reading(Some(org), READ).await?)
            .await
            .map_err(failed(READ))?;
        document.map(|document| from_document(&document, READ)).transpose()
    }

    async fn webhook_deliveries(
        &self,
        org: OrgId,
        filter: DeliveryFilter,
        page: Page,
    ) -> Result<Vec<WebhookDelivery>, StoreError> {
        const LIST: &str = "list webhook deliveries";
        let (mut before, mut id) = place(&page, LIST)?;
        if let Some(until) = filter.until.map(Timestamp::as_microsecond)
            && until <= before
        {
            (before, id) = (until, Vec::new()); // nothing of that very time
        }
        let since = filter.since.map_or(i64::MIN, Timestamp::as_microsecond);
        let sql = match filter.endpoint {
            Some(_) => LIST_DELIVERIES_BY_ENDPOINT,
            None => LIST_DELIVERIES,
        };
        let whose = filter.endpoint.map_or(*org.as_bytes(), |endpoint| *endpoint.as_bytes());
        let documents: Vec<String> = sqlx::query_scalar(sql)
            .bind(org.as_bytes().as_slice())
            .bind(whose.as_slice())
            .bind(before)
            .bind(id)
            .bind(since)
            .bind(filter.state.map_or("", |state| state.word()))
            .bind(filter.event_type.unwrap_or_default())
            .bind(i64::from(page.limit))
            .fetch_all(&mut *self.reading(Some(org), LIST).await?)
            .await
            .map_err(failed(LIST))?;
        from_documents(&documents, LIST)
    }
}

#[async_trait]
impl DeliveryStore for Store {
    async fn own_endpoints(&self, server: [u8; 16]) -> Result<Vec<OwnedEndpoint>, StoreError> {
        const OWN: &str = "look for webhooks to deliver";
        if let Some(sql) = OWN_ENDPOINTS {
            let mut writing = self.begin_for(&[], OWN).await?;
            run(sqlx::query(sql).bind(server.as_slice()), &mut writing, OWN).await?;
            self.finish(writing, OWN).await?;
        }
        let rows = sqlx::query(OWNED_ENDPOINTS)
            .bind(server.as_slice())
            .fetch_all(&mut *self.reading(None, OWN).await?)
            .await
            .map_err(failed(OWN))?;
        let owned = |row: &DriverRow| {
            let due_at: Option<i64> = row.try_get(3).map_err(failed(OWN))?;
            Ok(OwnedEndpoint {
                org_id: OrgId::from_bytes(bytes(row, 0, OWN)?),
                id: WebhookEndpointId::from_bytes(bytes(row, 1, OWN)?),
                version: row.try_get(2).map_err(failed(OWN))?,
                due_at: due_at.map(|micros| from_micros(micros, OWN)).transpose()?,
            })
        };
        rows.iter().map(owned).collect()
    }

    async fn disown_endpoints(&self, server: [u8; 16]) -> Result<(), StoreError> {
        const DISOWN: &str = "let others deliver webhooks";
        let Some(sql) = DISOWN_ENDPOINTS else { return Ok(()) };
        let mut writing = self.begin_for(&[], DISOWN).await?;
        run(sqlx::query(sql).bind(server.as_slice()), &mut writing, DISOWN).await?;
        self.finish(writing, DISOWN).await
    }

    async fn told_endpoint(
        &self,
        org: OrgId,
        id: WebhookEndpointId,
    ) -> Result<Option<ToldEndpoint>, StoreError> {
        const READ: &str = "read a webhook endpoint";
        let row = sqlx::query(READ_ENDPOINT)
            .bind(org.as_bytes().as_slice())
            .bind(id.as_bytes().as_slice())
            .fetch_optional(&mut *self.reading(Some(org), READ).await?)
            .await
            .map_err(failed(READ))?;
        row.map(|row| told(&row, READ)).transpose()
    }

    async fn due_deliveries(
        &self,
        (org, endpoint): (OrgId, WebhookEndpointId),
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<WebhookDelivery>, StoreError> {
        const READ: &str = "read webhook deliveries that are due";
        let documents: Vec<String> = sqlx::query_scalar(DUE_DELIVERIES)
            .bind(org.as_bytes().as_slice())
            .bind(endpoint.as_bytes().as_slice())
            .bind(now.as_microsecond())
            .bind(i64::from(limit))
            .fetch_all(&mut *self.reading(Some(org), READ).await?)
            .await
            .map_err(failed(READ))?;
        from_documents(&documents, READ)
    }

    async fn record_deliveries(
        &self,
        org: OrgId,
        deliveries: &[WebhookDelivery],
        told: &[Told],
    ) -> Result<(), StoreError> {
        const RECORD: &str = "record webhook deliveries";
        let mut writing = self.begin_beside(org, RECORD).await?;
        // First: it locks the cursors, which is the turn of whoever writes deliveries to them.
        if !told.is_empty() {
            let rows = told.iter().map(|told| {
                json!({
                    "endpoint": hex::encode(told.endpoint.as_bytes()),
                    "after": told.after_seq,
                    "failing": told.failing_since.map(Timestamp::as_microsecond),
                })
            });
            let query = sqlx::query(TELL_ENDPOINTS)
                .bind(org.as_bytes().as_slice())
                .bind(to_document(&rows.collect::<Vec<_>>(), RECORD)?);
            run(query, &mut writing, RECORD).await?;
        }
        record(&mut writing, org, deliveries, RECORD).await?;
        self.finish(writing, RECORD).await
    }

    async fn forget_deliveries(
        &self,
        (org, endpoint): (OrgId, WebhookEndpointId),
        before: Timestamp,
        keep: u32,
    ) -> Result<u64, StoreError> {
        const FORGET: &str = "forget webhook deliveries";
        let mut writing = self.begin_beside(org, FORGET).await?;
        let query = sqlx::query(FORGET_DELIVERIES)
            .bind(org.as_bytes().as_slice())
            .bind(endpoint.as_bytes().as_slice())
            .bind(before.as_microsecond())
            .bind(i64::from(keep.saturating_sub(1)))
            .bind(FORGOTTEN_MAX);
        let forgotten = run(query, &mut writing, FORGET).await?;
        self.finish(writing, FORGET).await?;
        Ok(forgotten)
    }
}

/// When the attempt was made whose outcome a delivery tells; none where it only begins.
fn attempted(delivery: &WebhookDelivery) -> Option<Timestamp> {
    let last = delivery.attempts.last().filter(|_| delivery.made > 0);
    last.map(|attempt| attempt.at)
}

/// Writes how deliveries of an organization stand. What was sent again by hand after the attempt
/// whose outcome this is stays on its way.
async fn record(
    connection: &mut DriverConnection,
    org: OrgId,
    deliveries: &[WebhookDelivery],
    operation: &'static str,
) -> Result<(), StoreError> {
    if deliveries.is_empty() {
        return Ok(());
    }
    let row = |delivery: &WebhookDelivery| {
        Ok(json!({
            "id": hex::encode(delivery.id.as_bytes()),
            "endpoint": hex::encode(delivery.endpoint_id.as_bytes()),
            "state": delivery.state.word(),
            "type": delivery.event_type,
            "next": delivery.next_at.map(Timestamp::as_microsecond),
            "created": delivery.created_at.as_microsecond(),
            "attempted": attempted(delivery).map(Timestamp::as_microsecond),
            "document": to_document(delivery, operation)?,
        }))
    };
    let rows = deliveries.iter().map(row).collect::<Result<Vec<_>, StoreError>>()?;
    let query = sqlx::query(RECORD_DELIVERIES)
        .bind(org.as_bytes().as_slice())
        .bind(to_document(&rows, operation)?);
    run(query, connection, operation).await.map(drop)
}

/// Writes one change of what is told to whom.
pub(super) async fn apply(
    connection: &mut DriverConnection,
    change: &WebhookChange,
) -> Result<(), StoreError> {
    match change {
        WebhookChange::Create(endpoint, after) => create(connection, endpoint, *after).await,
        WebhookChange::Replace(endpoint, version, after) => {
            replace(connection, endpoint, (*version, *after)).await
        }
        WebhookChange::Delete(org, id) => delete(connection, *org, *id).await,
        WebhookChange::Send(org, deliveries) => send(connection, *org, deliveries).await,
    }
}

/// Puts deliveries on their way, again if they were before: their attempts are those that are
/// recorded, not those that were when somebody looked. What became of attempts is recorded in
/// transactions of its own, even of deliveries that are not there yet: the cursor's lock says which
/// of the two is the later one.
async fn send(
    connection: &mut DriverConnection,
    org: OrgId,
    deliveries: &[WebhookDelivery],
) -> Result<(), StoreError> {
    const SEND: &str = "put webhook deliveries on their way";
    let (mut sent, mut locked) = (Vec::with_capacity(deliveries.len()), Vec::new());
    for delivery in deliveries {
        if !locked.contains(&delivery.endpoint_id) {
            let turn = sqlx::query(LOCK_CURSOR)
                .bind(delivery.endpoint_id.as_bytes().as_slice())
                .bind(org.as_bytes().as_slice());
            run(turn, connection, SEND).await?;
            locked.push(delivery.endpoint_id);
        }
        let known: Option<String> = sqlx::query_scalar(READ_DELIVERY)
            .bind(org.as_bytes().as_slice())
            .bind(delivery.id.as_bytes().as_slice())
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed(SEND))?;
        sent.push(match known {
            None => delivery.clone(),
            Some(known) => WebhookDelivery {
                state: delivery.state,
                next_at: delivery.next_at,
                made: delivery.made,
                ..from_document(&known, SEND)?
            },
        });
    }
    record(connection, org, &sent, SEND).await
}

type Statement<'a> = sqlx::query::Query<'a, super::super::Driver, super::write::Arguments>;

/// Binds the nine columns, in the order of the table.
fn bind_endpoint<'a>(
    sql: &'static str,
    endpoint: &'a WebhookEndpoint,
    operation: &'static str,
) -> Result<Statement<'a>, StoreError> {
    let previous = endpoint.secrets.previous.as_ref();
    Ok(sqlx::query(sql)
        .bind(endpoint.id.as_bytes().as_slice())
        .bind(endpoint.org_id.as_bytes().as_slice())
        .bind(endpoint.is_default)
        .bind(endpoint.enabled)
        .bind(endpoint.version)
        .bind(&endpoint.secrets.current)
        .bind(previous.map(|(secret, _)| secret))
        .bind(micros(previous.map(|(_, until)| *until)))
        .bind(to_document(endpoint, operation)?))
}

async fn create(
    connection: &mut DriverConnection,
    endpoint: &WebhookEndpoint,
    after_seq: i64,
) -> Result<(), StoreError> {
    const CREATE: &str = "create a webhook endpoint";
    let query = bind_endpoint(CREATE_ENDPOINT, endpoint, CREATE)?.bind(i64::from(ENDPOINTS_MAX));
    run_compared(query, connection, CREATE).await?;
    let cursor = sqlx::query(CREATE_CURSOR)
        .bind(endpoint.id.as_bytes().as_slice())
        .bind(endpoint.org_id.as_bytes().as_slice())
        .bind(after_seq);
    run_compared(cursor, connection, CREATE).await
}

async fn replace(
    connection: &mut DriverConnection,
    endpoint: &WebhookEndpoint,
    (expected, after_seq): (i64, Option<i64>),
) -> Result<(), StoreError> {
    const REPLACE: &str = "change a webhook endpoint";
    let query = bind_endpoint(REPLACE_ENDPOINT, endpoint, REPLACE)?.bind(expected);
    run_compared(query, connection, REPLACE).await?;
    let Some(after_seq) = after_seq else { return Ok(()) };
    let restart = sqlx::query(RESTART_CURSOR)
        .bind(endpoint.id.as_bytes().as_slice())
        .bind(endpoint.org_id.as_bytes().as_slice())
        .bind(after_seq);
    run(restart, connection, REPLACE).await.map(drop)
}

async fn delete(
    connection: &mut DriverConnection,
    org: OrgId,
    id: WebhookEndpointId,
) -> Result<(), StoreError> {
    const DELETE: &str = "delete a webhook endpoint";
    let bound = |sql: &'static str| {
        sqlx::query(sql).bind(id.as_bytes().as_slice()).bind(org.as_bytes().as_slice())
    };
    run_compared(bound(DELETE_ENDPOINT), connection, DELETE).await?;
    run(bound(DELETE_CURSOR), connection, DELETE).await?;
    run(bound(DELETE_DELIVERIES), connection, DELETE).await.map(drop)
}

fn bytes(row: &DriverRow, column: usize, operation: &'static str) -> Result<[u8; 16], StoreError> {
    let bytes: &[u8] = row.try_get(column).map_err(failed(operation))?;
    from_bytes(bytes, operation)
}

fn told(row: &DriverRow, operation: &'static str) -> Result<ToldEndpoint, StoreError> {
    let time = |column: usize| {
        let micros: Option<i64> = row.try_get(column).map_err(failed(operation))?;
        micros.map(|micros| from_micros(micros, operation)).transpose()
    };
    let document: &str = row.try_get(0).map_err(failed(operation))?;
    let current: Vec<u8> = row.try_get(1).map_err(failed(operation))?;
    let previous: Option<Vec<u8>> = row.try_get(2).map_err(failed(operation))?;
    let endpoint = WebhookEndpoint {
        secrets: SealedSecrets { current, previous: previous.zip(time(3)?) },
        failing_since: time(5)?,
        ..from_document(document, operation)?
    };
    Ok(ToldEndpoint { endpoint, after_seq: row.try_get(4).map_err(failed(operation))? })
}

/// Where a list of deliveries goes on.
fn place(page: &Page, operation: &'static str) -> Result<(i64, Vec<u8>), StoreError> {
    let Some(after) = &page.after else {
        return Ok((NEWEST.0, NEWEST.1.to_vec()));
    };
    let read = after.split_once('.').and_then(|(micros, id)| {
        let id = hex::decode(id).ok().filter(|id| id.len() == 16)?;
        Some((micros.parse().ok()?, id))
    });
    let why = "the sort key is not the place of a delivery";
    read.ok_or_else(|| StoreError::new(StoreErrorKind::Conflict, operation, why))
}
