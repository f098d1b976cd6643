//! What every test of the catalogue starts from, and tests of the statements themselves.
//!
//! Organization 1 owns everything, organization 2 nothing: it is there to be refused. Not here: the
//! tests of each kind of change (the modules below), and of opening a database (each home's own).

use jiff::Timestamp;
use sqlx::{Executor, SqlSafeStr};

use super::super::{Store, dialect, fixture};
use super::statement::ALL;
use crate::domain::actor::Actor;
use crate::domain::agent::{Agent, AgentStatus};
use crate::domain::hold::Holds;
use crate::domain::id::{AgentId, KeyId, MandateId, OrgId};
use crate::domain::mandate::{Budget, Mandate, MandateStatus, Policy};
use crate::domain::money::Currency;
use crate::domain::organization::Organization;
use crate::domain::period::Period;
use crate::domain::rule::RuleSpec;
use crate::store::{
    AgentStore, ApiKey, Author, CatalogueWriter, Change, KeyStore, MandateFilter, MandateStore,
    OrgStore, Page, Receipt, Role, SigningKeyRow, StoreError, StoreErrorKind,
};

mod agents;
mod credentials;
mod mandates;
mod organizations;
mod webhooks;

/// A migrated store of its own.
struct Fixture {
    store: Store,
    _folder: fixture::Kept,
}

impl Fixture {
    async fn new() -> Self {
        let (store, _folder) = fixture::open().await;
        Self { store, _folder }
    }

    /// With organizations 1 and 2, and agent 1 of organization 1.
    async fn seeded() -> Self {
        let fixture = Self::new().await;
        let first = Change::CreateOrg(org(1), signing_key("first"));
        fixture.commit([first, Change::CreateAgent(agent(1, 1))]).await.unwrap();
        fixture.commit([Change::CreateOrg(org(2), signing_key("second"))]).await.unwrap();
        fixture
    }

    async fn commit<const N: usize>(&self, changes: [Change; N]) -> Result<(), StoreError> {
        self.store.commit(changes.into(), None, SOMEBODY).await
    }

    async fn commit_conflicts<const N: usize>(&self, changes: [Change; N]) {
        let error = self.commit(changes).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Conflict, "{error:?}");
    }
}

/// Who changes things here.
const SOMEBODY: Author = Author { actor: Actor::System, at: Timestamp::UNIX_EPOCH };

fn bytes(number: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes[15] = 7;
    bytes
}

fn org_id(number: u32) -> OrgId {
    OrgId::from_bytes(bytes(number))
}

fn agent_id(number: u32) -> AgentId {
    AgentId::from_bytes(bytes(number))
}

fn mandate_id(number: u32) -> MandateId {
    MandateId::from_bytes(bytes(number))
}

fn key_id(number: u32) -> KeyId {
    KeyId::from_bytes(bytes(number))
}

fn at(second: i64) -> Timestamp {
    Timestamp::new(1_800_000_000_i64.checked_add(second).unwrap(), 123_456_789).unwrap()
}

/// To the microsecond, as columns keep it.
fn at_micros(second: i64) -> Timestamp {
    Timestamp::from_microsecond(at(second).as_microsecond()).unwrap()
}

fn org(number: u32) -> Organization {
    Organization {
        id: org_id(number),
        name: format!("Organization {number}"),
        slug: format!("organization-{number}"),
        default_currency: Currency::parse("USD").unwrap(),
        timezone: "Europe/Zurich".to_owned(),
        frozen: false,
        durability_floor: None,
        version: 1,
        created_at: at(0),
        updated_at: at(0),
    }
}

fn signing_key(id: &str) -> SigningKeyRow {
    SigningKeyRow { key_id: id.to_owned(), public_key: [3; 32], sealed: vec![1, 2, 3] }
}

fn agent(org: u32, number: u32) -> Agent {
    Agent {
        id: agent_id(number),
        org_id: org_id(org),
        name: format!("agent {number:05}"),
        description: "buys \"things\"\n".to_owned(),
        framework: None,
        execution_mode: String::new(),
        tags: vec!["a".to_owned()],
        metadata: [("k".to_owned(), "v".to_owned())].into(),
        status: AgentStatus::Active,
        current_mandate: None,
        version: 1,
        created_at: at(0),
        updated_at: at(0),
    }
}

/// A mandate of an agent of organization 1.
fn mandate(agent: u32, number: u32, status: MandateStatus) -> Mandate {
    Mandate {
        id: mandate_id(number),
        org_id: org_id(1),
        agent_id: agent_id(agent),
        name: format!("mandate {number}"),
        description: String::new(),
        version: 1,
        status,
        policy: Policy {
            budget: Budget {
                total: 100_000,
                per_transaction: 5_000,
                currency: Currency::parse("EUR").unwrap(),
                reset: Period::Monthly,
                holds: Holds::default(),
            },
            rules: vec![
                RuleSpec::MaxAmount { amount: 700 },
                RuleSpec::Category { allowed: vec!["books".to_owned()] },
            ],
            valid_from: at(0),
            valid_until: Some(at(1000)),
            durability: None,
        },
        policy_hash: "00".repeat(32),
        signature: String::new(),
        signing_key_id: "first".to_owned(),
        created_at: at(0),
        updated_at: at(0),
        revocation_reason: String::new(),
    }
}

/// The version after this one.
fn next(mandate: &Mandate, status: MandateStatus) -> Mandate {
    let version = mandate.version.checked_add(1).unwrap();
    Mandate { version, status, ..mandate.clone() }
}

/// A credential of organization 1.
fn key(number: u32, role: Role, agent: Option<u32>) -> ApiKey {
    ApiKey {
        id: key_id(number),
        org_id: org_id(1),
        name: format!("key {number}"),
        prefix: "qk_".to_owned(),
        digest: [9; 32],
        role,
        agent_id: agent.map(agent_id),
        expires_at: None,
        last_used_at: None,
        url_used_at: None,
        created_at: at(0),
        revoked_at: None,
    }
}

fn page(after: Option<String>, limit: u32) -> Page {
    Page { after, limit }
}

fn all() -> Page {
    page(None, 1000)
}

#[tokio::test]
async fn every_statement_can_be_prepared() {
    let fixture = Fixture::new().await;
    let mut connection = fixture.store.reader().acquire().await.unwrap();
    assert!(ALL.len() > 30);
    for (name, sql) in ALL {
        let prepared = connection.prepare(sql.into_sql_str()).await;
        prepared.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// Thousands of mandates are written at once and read; how long it takes is for whoever watches.
#[tokio::test]
async fn thousands_of_mandates_have_their_snapshots() {
    let fixture = Fixture::seeded().await;
    let numbers = 2..2 + fixture::THOUSANDS;
    let mut changes = Vec::new();
    for number in numbers.clone() {
        changes.push(Change::CreateAgent(Agent {
            current_mandate: Some(mandate_id(number)),
            ..agent(1, number)
        }));
        changes.push(Change::CreateMandate(mandate(number, number, MandateStatus::Active)));
    }
    fixture.store.commit(changes, None, SOMEBODY).await.unwrap();
    for number in numbers {
        let snapshot = fixture.store.snapshot(org_id(1), agent_id(number), None).await.unwrap();
        assert_eq!(snapshot.unwrap().mandate.unwrap().id, mandate_id(number));
    }
}
